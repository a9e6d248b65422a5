/* conformance: what the files of the conformance suite share.
 *
 * The suite drives the public API alone (include/procpool.h), and runs every case with every start method. Each case
 * runs in a process of its own, the *host*: a fork of the runner, with a session of its own and stdout and stderr going
 * to a file. So a case may change signals, limits, threads and fds as it likes, may hang or die, and cannot disturb the
 * next. When the case returns, the host must be as it was: no fd, no child, no thread and no signal handler more, and
 * nothing may have been printed; then the runner looks for processes that outlived the host.
 *
 * Invariants: a host begins with one thread and no pool; EXPECT works in the host, in its threads and in processes that
 * it forks, but not in workers (under `spawn` they share nothing with it): worker functions return codes or write to
 * the board.
 * Must not know: anything of the library but procpool.h. */
#ifndef CONFORMANCE_H
#define CONFORMANCE_H

#include <procpool.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdnoreturn.h>
#include <sys/types.h>
#include <time.h>

/* ---- start methods and cases ---- */

/* What sets start methods apart, as far as a caller can see. */
enum {
    COPIES_PARENT = 1,  /* a worker is a copy of the host, with its globals and loaded objects */
    STARTS_AFRESH = 2,  /* workers know nothing of the host's memory, so neither its size nor its threads matter */
    NEEDS_INIT = 4,     /* the program is started again: pool_init() has to be called */
    EXECS_WORKERS = 8,  /* every worker is a new image of its own, and becomes a fresh one in place */
    PRELOADS_ONCE = 16, /* a server runs the preload, the workers share what it did */
};

struct start_method {
    const char *name;
    unsigned traits;
};

/* The one under test. In workers: NULL where it is not inherited. */
extern const struct start_method *method;

/* What a case does that the end of the host must not complain about. */
enum {
    PRINTS = 1,     /* something is printed, on purpose and by workers */
    KEEPS_POOL = 2, /* the default pool is used, which lives as long as its host */
};

struct conformance_case {
    const char *name;
    void (*run)(void);
    unsigned needs; /* traits without which the case makes no sense */
    unsigned flags;
};

#define CASE(function)                                                                                                 \
    {                                                                                                                  \
        .name = #function, .run = function                                                                             \
    }
#define CASE_THAT(that, function)                                                                                      \
    {                                                                                                                  \
        .name = #function, .run = function, .flags = that                                                              \
    }
#define CASE_IF(traits, function)                                                                                      \
    {                                                                                                                  \
        .name = #function, .run = function, .needs = traits                                                            \
    }

/* One table for each theme, ended by an entry without a name. */
extern const struct conformance_case map_cases[], control_cases[], bytes_cases[], image_cases[], place_cases[],
    code_cases[], stage_cases[], death_cases[], outside_cases[], deadline_cases[], lifecycle_cases[], refusal_cases[],
    odd_cases[], heard_cases[], shutdown_cases[], leaving_cases[], thread_cases[], interrupt_cases[], progress_cases[],
    eventloop_cases[], stats_cases[], task_cases[], result_cases[], task_end_cases[], stream_cases[],
    stream_end_cases[], stream_call_cases[], broadcast_cases[], fds_cases[], take_cases[], spin_cases[], buffer_cases[],
    in_place_cases[], lend_cases[], transit_cases[], large_cases[], lost_cases[];

/* ---- expectations ---- */

noreturn void expectation_failed(const char *file, int line, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* End the case, which cannot be tried here. */
noreturn void skip_case(const char *reason);

#define EXPECT(condition)                                                                                              \
    do {                                                                                                               \
        if (!(condition))                                                                                              \
            expectation_failed(__FILE__, __LINE__, "not true: %s", #condition);                                        \
    } while (0)

#define EXPECT_INT(actual, expected) expect_int(__FILE__, __LINE__, #actual, (long long)(actual), (long long)(expected))
#define EXPECT_OK(call)              EXPECT_INT(call, 0)
#define EXPECT_TEXT(text, part)      expect_text(__FILE__, __LINE__, #text, text, part)

void expect_int(const char *file, int line, const char *what, long long actual, long long expected);
void expect_text(const char *file, int line, const char *what, const char *text, const char *part);

/* ---- the host's surroundings ---- */

enum { PATIENCE_MS = 30000 }; /* how long an event is waited for that must come */

/* A path in this case's own folder, which is removed after it. Also valid in workers that inherit the string. */
const char *case_path(const char *name, char path_out[static 256]);
enum { CASE_PATH_BYTES = 256 };

/* What this host and its workers have printed so far; at most size - 1 bytes. */
size_t read_output(char *text_out, size_t size);

/* The contents of a small file, as a string; -1: no such file. */
ssize_t read_file(const char *path, char *text_out, size_t size);
unsigned count_text(const char *text, const char *part);
void copy_file(const char *from, const char *to); /* which must not be there yet; for the owner alone, to execute */

unsigned open_fd_count(void);
unsigned thread_count(void);
void await_thread_count(unsigned count); /* no more than so many: one that was joined shows for a moment */
unsigned child_count(void);              /* children of this process that have not been reaped, zombies included */
long status_kib(pid_t pid, const char *field); /* a line of /proc/PID/status, such as "VmRSS:"; -1: none */
size_t heap_bytes_in_use(void);                /* 0: the C library does not tell */
bool is_sanitized(void);                       /* which costs memory, and threads */
uint64_t now_ms(void);
/* Used so far. */
uint64_t cpu_ms(clockid_t clock);

/* Sleep a little in a loop that waits for something; false: PATIENCE_MS have passed since *since_ms. */
bool have_patience(uint64_t since_ms);

/* ---- processes ---- */

/* Fork a process that runs `run` in a session of its own and ends with what it returns. */
pid_t start_process(int (*run)(void *arg), void *arg);

/* Wait for the end of a child: its wait status. */
int end_of_process(pid_t pid);

/* Run it, and expect it to return 0. */
void in_another_process(int (*run)(void *arg), void *arg);

/* Whether a process, a child or not, is neither gone nor a zombie; and to wait until it is one of them. */
bool is_running(pid_t pid);
bool has_vanished(pid_t pid);
char state_of(pid_t pid); /* the letter in /proc/PID/stat; '-': it has vanished */
/* When it sleeps, so not in the middle of something; returns when it is stopped. */
void stop_process(pid_t pid);

/* How much the largest pipe of all that this process has can hold, and whether one may hold 1 MiB. */
int largest_pipe(void);
bool pipes_can_be_enlarged(void);

/* The path of a program or plug-in that was built beside this one. */
const char *program_path(const char *name, char path_out[static 1024]);

/* ---- pools ---- */

struct pool_options method_options(unsigned workers);
struct pool *make_pool(unsigned workers);
struct pool *make_pool_with(const struct pool_options *options);

/* Run a task that gets a text and replies with one, by answer(). Its code; 0 with the text in answer_out. */
enum { ANSWER_BYTES = 16384 };
int ask(struct pool *pool, pool_task_fn *fn, const char *question, char answer_out[static ANSWER_BYTES]);
int answer(struct pool_call *call, const char *text);

/* The pid of a worker, by a map of one item. */
pid_t worker_pid(struct pool *pool);

/* ---- the board: memory that the host shares with workers of any start method ---- */

enum { BOARD_ITEMS = 1 << 17, BOARD_COUNTERS = 64 };

struct board {
    _Atomic uint64_t counters[BOARD_COUNTERS];
    _Atomic uint32_t runs[BOARD_ITEMS]; /* how often an item was begun */
    _Atomic int32_t pids[BOARD_ITEMS];  /* who began it last */
};

struct board *make_board(void);
struct board *open_board(const char *path);

/* Options whose initializer gives the board to every worker, as its state. */
struct pool_options board_options(unsigned workers);
int attach_board(const void *arg, size_t arg_size, void **state_out);

/* In an item: note that it runs here. Its number. */
uint64_t mark_item(struct board *board);

/* Wait until a counter has come that far, in host or worker; false: it did not. */
bool await_counter(struct board *board, unsigned counter, uint64_t value);

/* ---- what any worker can do ---- */

int add_one(const void *item, void *result, void *state); /* ints */
int do_nothing(struct pool_call *call);
int return_input(struct pool_call *call);

#endif

/* conformance: the runner of the conformance suite, and the host that each case runs in (see conformance.h).
 *
 *     conformance [-k PATTERN] [START METHOD...]        default: $POOL_BACKEND, else all of them
 *
 * Built from all tests/conformance*.c, linked with procpool and cmocka. Needs beside it, or in TEST_PLUGIN_DIR (a
 * definition), plugins/: see conformance_code.c; and the program forgets_init: see conformance_refusals.c.
 * CONFORMANCE_PATIENCE=N multiplies the time that a case may take (sanitizers, slow machines).
 *
 * The runner stays single-threaded and never makes a pool, so that every host starts from the same clean state. It is
 * a subreaper: whatever a host leaves behind becomes its child and is found. */
#include "conformance.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <malloc.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

/* A new start method is one line. */
static const struct start_method methods[] = {
    {"fork", COPIES_PARENT},
    {"spawn", STARTS_AFRESH | NEEDS_INIT | EXECS_WORKERS},
    {"forkserver", STARTS_AFRESH | NEEDS_INIT | PRELOADS_ONCE},
};

static const struct {
    unsigned trait;
    const char *reason;
} lacks[] = {
    {COPIES_PARENT, "its workers are no copies of the host"},
    {STARTS_AFRESH, "its workers are copies of the host"},
    {NEEDS_INIT, "it does without pool_init"},
    {EXECS_WORKERS, "its workers are not images of their own"},
    {PRELOADS_ONCE, "each worker runs the preload"},
};

static const struct conformance_case *const themes[] = {
    map_cases,      control_cases,    bytes_cases,       image_cases,     place_cases,     code_cases,
    stage_cases,    death_cases,      outside_cases,     deadline_cases,  lifecycle_cases, refusal_cases,
    odd_cases,      heard_cases,      shutdown_cases,    leaving_cases,   thread_cases,    interrupt_cases,
    progress_cases, eventloop_cases,  stats_cases,       task_cases,      result_cases,    task_end_cases,
    stream_cases,   stream_end_cases, stream_call_cases, broadcast_cases, fds_cases,       take_cases,
    spin_cases,     buffer_cases,     in_place_cases,    lend_cases,      transit_cases,   large_cases,
    lost_cases,
};

enum { CASE_DEADLINE_S = 120, VANISH_MS = 10000, REPORT_BYTES = 4096, MAX_CASES = 1024 };

struct run {
    const struct conformance_case *this_case;
    const struct start_method *method;
};

/* Shared with the host and what it forks. */
struct report {
    atomic_int failed, skipped;
    char text[REPORT_BYTES];
};

const struct start_method *method;
static struct report *report;
static char run_folder[CASE_PATH_BYTES / 2], case_folder[CASE_PATH_BYTES - 64];

#ifndef __has_feature
#define __has_feature(feature) 0
#endif
#if defined(__SANITIZE_THREAD__) || __has_feature(thread_sanitizer)
#define SANITIZES_THREADS true
#else
#define SANITIZES_THREADS false
#endif
#if defined(__SANITIZE_ADDRESS__) || __has_feature(address_sanitizer)
#define SANITIZED true
#else
#define SANITIZED SANITIZES_THREADS
#endif

/* Present under sanitizers that look for leaks. */
int __lsan_do_recoverable_leak_check(void) __attribute__((weak));

/* ---- expectations ---- */

void expectation_failed(const char *file, int line, const char *format, ...)
{
    char text[REPORT_BYTES - 1200];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (!atomic_exchange(&report->failed, 1)) /* the first one counts: others may follow from it */
        snprintf(report->text, sizeof report->text, "%s:%d: %s\n    pool_message: \"%.1000s\"", file, line, text,
                 pool_message());
    _exit(1);
}

void skip_case(const char *reason)
{
    snprintf(report->text, sizeof report->text, "%s", reason);
    report->skipped = 1;
    _exit(0);
}

void expect_int(const char *file, int line, const char *what, long long actual, long long expected)
{
    if (actual != expected)
        expectation_failed(file, line, "%s is %lld (%s), not %lld (%s)", what, actual, pool_strerror((int)actual),
                           expected, pool_strerror((int)expected));
}

void expect_text(const char *file, int line, const char *what, const char *text, const char *part)
{
    if (!strstr(text, part))
        expectation_failed(file, line, "no \"%s\" in %s: \"%.1000s\"", part, what, text);
}

/* ---- the host's surroundings ---- */

const char *case_path(const char *name, char path_out[static 256])
{
    snprintf(path_out, CASE_PATH_BYTES, "%s/%s", case_folder, name);
    return path_out;
}

ssize_t read_file(const char *path, char *text_out, size_t size)
{
    size_t end = 0;
    ssize_t got = 1;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    while (end < size - 1 && got > 0) {
        got = read(fd, text_out + end, size - 1 - end);
        end += got > 0 ? (size_t)got : 0;
    }
    close(fd);
    text_out[end] = '\0';
    return (ssize_t)end;
}

size_t read_output(char *text_out, size_t size)
{
    char path[CASE_PATH_BYTES];
    ssize_t got = read_file(case_path("output", path), text_out, size);
    EXPECT(got >= 0);
    return (size_t)got;
}

void copy_file(const char *from, const char *to)
{
    static char bytes[65536];
    ssize_t size;
    int in = open(from, O_RDONLY | O_CLOEXEC), out = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0700);
    if (in < 0 || out < 0)
        expectation_failed(__FILE__, __LINE__, "cannot copy %s to %s: %s", from, to, strerror(errno));
    while ((size = read(in, bytes, sizeof bytes)) > 0)
        EXPECT_INT(write(out, bytes, (size_t)size), size);
    close(in);
    close(out);
}

unsigned count_text(const char *text, const char *part)
{
    unsigned count = 0;
    for (const char *at = strstr(text, part); at; at = strstr(at + strlen(part), part))
        count++;
    return count;
}

static unsigned count_entries(const char *path)
{
    unsigned count = 0;
    DIR *folder = opendir(path);
    EXPECT(folder);
    for (struct dirent *entry = readdir(folder); entry; entry = readdir(folder))
        count += entry->d_name[0] != '.';
    closedir(folder);
    return count;
}

unsigned open_fd_count(void)
{
    return count_entries("/proc/self/fd") - 1; /* the folder itself */
}

unsigned thread_count(void)
{
    return count_entries("/proc/self/task");
}

void await_thread_count(unsigned count)
{
    for (uint64_t since_ms = now_ms(); thread_count() > count;)
        EXPECT(have_patience(since_ms));
}

unsigned child_count(void)
{
    char path[64], text[8192];
    unsigned count = 0;
    snprintf(path, sizeof path, "/proc/%d/task/%d/children", (int)getpid(), (int)getpid());
    EXPECT(read_file(path, text, sizeof text) >= 0);
    for (char *at = text; *at; at++)
        count += *at == ' ';
    return count;
}

long status_kib(pid_t pid, const char *field)
{
    char path[64], text[8192];
    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    if (read_file(path, text, sizeof text) < 0)
        return -1;
    char *line = strstr(text, field);
    return line ? strtol(line + strlen(field), NULL, 10) : -1;
}

size_t heap_bytes_in_use(void)
{
#ifdef __GLIBC__
    struct mallinfo2 info = mallinfo2();
    return info.uordblks + info.hblkhd;
#else
    return 0;
#endif
}

bool is_sanitized(void)
{
    return SANITIZED;
}

uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

uint64_t cpu_ms(clockid_t clock)
{
    struct timespec used;
    EXPECT_OK(clock_gettime(clock, &used));
    return (uint64_t)used.tv_sec * 1000 + (uint64_t)used.tv_nsec / 1000000;
}

bool have_patience(uint64_t since_ms)
{
    if (now_ms() > since_ms + PATIENCE_MS)
        return false;
    nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    return true;
}

/* ---- processes ---- */

pid_t start_process(int (*run)(void *arg), void *arg)
{
    pid_t pid = fork();
    EXPECT(pid >= 0);
    if (pid)
        return pid;
    setsid();
    _exit(run(arg));
}

static bool ends_within(pid_t pid, int timeout_ms)
{
    int fd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (fd < 0)
        return errno == ESRCH;
    uint64_t until_ms = now_ms() + (uint64_t)timeout_ms;
    int ready, left_ms = timeout_ms;
    do {
        ready = poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, left_ms);
        left_ms = now_ms() < until_ms ? (int)(until_ms - now_ms()) : 0;
    } while (ready < 0 && errno == EINTR);
    close(fd);
    return ready == 1;
}

bool is_running(pid_t pid)
{
    return !ends_within(pid, 0);
}

bool has_vanished(pid_t pid)
{
    return ends_within(pid, PATIENCE_MS);
}

int end_of_process(pid_t pid)
{
    int status = 0;
    bool ended = has_vanished(pid);
    if (!ended)
        kill(-pid, SIGKILL);
    EXPECT(ended);
    EXPECT_INT(waitpid(pid, &status, 0), pid);
    return status;
}

void in_another_process(int (*run)(void *arg), void *arg)
{
    EXPECT_INT(end_of_process(start_process(run, arg)), 0);
}

char state_of(pid_t pid)
{
    char path[64], text[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    if (read_file(path, text, sizeof text) <= 0)
        return '-';
    return *(strrchr(text, ')') + 2);
}

void stop_process(pid_t pid)
{
    for (uint64_t since_ms = now_ms(); state_of(pid) != 'S';)
        EXPECT(have_patience(since_ms));
    EXPECT_OK(kill(pid, SIGSTOP));
    for (uint64_t since_ms = now_ms(); state_of(pid) != 'T';)
        EXPECT(have_patience(since_ms));
}

/* ---- pipes ---- */

int largest_pipe(void)
{
    int largest = 0;
    for (int fd = 0; fd < 1024; fd++) {
        int size = fcntl(fd, F_GETPIPE_SZ);
        largest = size > largest ? size : largest;
    }
    return largest;
}

bool pipes_can_be_enlarged(void)
{
    int ends[2];
    EXPECT_OK(pipe(ends));
    bool can = fcntl(ends[1], F_SETPIPE_SZ, 1 << 20) >= 1 << 20;
    close(ends[0]);
    close(ends[1]);
    return can;
}

const char *program_path(const char *name, char path_out[static 1024])
{
    ssize_t size = readlink("/proc/self/exe", path_out, 1024 - 128);
    EXPECT(size > 0);
    path_out[size] = '\0';
    char *slash = strrchr(path_out, '/');
    snprintf(slash + 1, 128, "%s", name);
    return path_out;
}

/* ---- pools ---- */

struct pool_options method_options(unsigned workers)
{
    struct pool_options options = POOL_OPTIONS_INIT;
    options.backend = method->name;
    options.workers = workers;
    return options;
}

struct pool *make_pool_with(const struct pool_options *options)
{
    struct pool *pool = NULL;
    EXPECT_OK(pool_create(options, &pool));
    EXPECT(pool);
    return pool;
}

struct pool *make_pool(unsigned workers)
{
    struct pool_options options = method_options(workers);
    return make_pool_with(&options);
}

int answer(struct pool_call *call, const char *text)
{
    char *reply = pool_call_reply(call, strlen(text) + 1);
    if (reply)
        memcpy(reply, text, strlen(text) + 1);
    return reply ? 0 : -1;
}

int ask(struct pool *pool, pool_task_fn *fn, const char *question, char answer_out[static ANSWER_BYTES])
{
    struct pool_bytes item = {(void *)(uintptr_t)question, strlen(question) + 1}, reply = {NULL, 0};
    struct pool_map_options map = POOL_MAP_OPTIONS_INIT;
    int code = 0;
    map.code_out = &code;
    int rc = pool_map_bytes(pool, fn, &item, 1, &reply, &map);
    if (rc != POOL_ETASK)
        EXPECT_OK(rc);
    EXPECT(reply.size <= ANSWER_BYTES);
    answer_out[0] = '\0';
    if (reply.size)
        memcpy(answer_out, reply.data, reply.size);
    pool_bytes_clear(&reply);
    return code;
}

static int tell_pid(const void *item, void *result, void *state)
{
    (void)item, (void)state;
    *(pid_t *)result = getpid();
    return 0;
}

pid_t worker_pid(struct pool *pool)
{
    char item = 0;
    pid_t pid = 0;
    EXPECT_OK(pool_map(pool, tell_pid, &item, 1, &pid, sizeof pid, 1));
    EXPECT(pid > 0 && pid != getpid());
    return pid;
}

/* ---- the board ---- */

struct board *open_board(const char *path)
{
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return NULL;
    void *board = MAP_FAILED;
    if (!ftruncate(fd, sizeof(struct board)))
        board = mmap(NULL, sizeof(struct board), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    return board == MAP_FAILED ? NULL : board;
}

struct board *make_board(void)
{
    char path[CASE_PATH_BYTES];
    struct board *board = open_board(case_path("board", path));
    EXPECT(board);
    return board;
}

int attach_board(const void *arg, size_t arg_size, void **state_out)
{
    (void)arg_size;
    *state_out = open_board(arg);
    return *state_out ? 0 : pool_call_fail(NULL, errno, "no board at %s", (const char *)arg);
}

struct pool_options board_options(unsigned workers)
{
    static char path[CASE_PATH_BYTES];
    struct pool_options options = method_options(workers);
    options.initializer = attach_board;
    options.arg = case_path("board", path);
    options.arg_size = strlen(path) + 1;
    return options;
}

uint64_t mark_item(struct board *board)
{
    uint64_t item = pool_item_index();
    board->runs[item % BOARD_ITEMS]++;
    board->pids[item % BOARD_ITEMS] = getpid();
    return item;
}

bool await_counter(struct board *board, unsigned counter, uint64_t value)
{
    for (uint64_t since_ms = now_ms(); board->counters[counter] < value;)
        if (!have_patience(since_ms))
            return false;
    return true;
}

/* ---- what any worker can do ---- */

int add_one(const void *item, void *result, void *state)
{
    (void)state;
    *(int *)result = *(const int *)item + 1;
    return 0;
}

int do_nothing(struct pool_call *call)
{
    (void)call;
    return 0;
}

int return_input(struct pool_call *call)
{
    size_t size;
    const void *input = pool_call_input(call, &size);
    void *reply = pool_call_reply(call, size);
    if (reply && size)
        memcpy(reply, input, size);
    return !reply;
}

/* ---- the host ---- */

static void *tell_thread_id(void *id_out)
{
    *(pid_t *)id_out = (pid_t)syscall(SYS_gettid);
    return NULL;
}

/* The thread sanitizer adds a thread of its own to the first one that a process starts. It is no case's doing. */
static void start_sanitizers_thread(void)
{
    char path[64];
    pid_t id = 0;
    pthread_t thread;
    if (!SANITIZES_THREADS)
        return;
    EXPECT_OK(pthread_create(&thread, NULL, tell_thread_id, &id));
    EXPECT_OK(pthread_join(thread, NULL));
    snprintf(path, sizeof path, "/proc/self/task/%d", (int)id);
    for (uint64_t since_ms = now_ms(); !access(path, F_OK);) /* it may show for a moment */
        EXPECT(have_patience(since_ms));
}

struct surroundings {
    unsigned fds, threads;
    struct sigaction actions[65];
    sigset_t mask;
};

static void look_around(struct surroundings *seen_out)
{
    memset(seen_out, 0, sizeof *seen_out);
    seen_out->fds = open_fd_count();
    seen_out->threads = thread_count();
    for (int number = 1; number < 65; number++)
        sigaction(number, NULL, &seen_out->actions[number]);
    pthread_sigmask(SIG_SETMASK, NULL, &seen_out->mask);
}

static void expect_nothing_left(const struct surroundings *before, unsigned flags)
{
    struct surroundings after;
    look_around(&after);
    for (int number = 1; number < 65; number++)
        if (after.actions[number].sa_handler != before->actions[number].sa_handler)
            expectation_failed(__FILE__, __LINE__, "the handling of signal %d has changed", number);
    EXPECT(!memcmp(&after.mask, &before->mask, sizeof after.mask));
    await_thread_count(before->threads);
    if (flags & KEEPS_POOL)
        return;
    EXPECT_INT(after.fds, before->fds);
    EXPECT_INT(child_count(), 0);
    EXPECT_INT(waitpid(-1, NULL, WNOHANG), -1);
    if (__lsan_do_recoverable_leak_check)
        EXPECT(!__lsan_do_recoverable_leak_check());
}

static noreturn void be_host(const struct run *run)
{
    char path[CASE_PATH_BYTES];
    struct surroundings before;
    setsid();
    int output = open(case_path("output", path), O_RDWR | O_CREAT | O_APPEND, 0600);
    dup2(output, STDOUT_FILENO);
    dup2(output, STDERR_FILENO);
    close(output);
    setenv("POOL_BACKEND", run->method->name, 1);
    unsetenv("POOL_WORKERS");
    method = run->method;
    start_sanitizers_thread();
    look_around(&before);
    run->this_case->run();
    fflush(NULL);
    expect_nothing_left(&before, run->this_case->flags);
    _exit(0);
}

/* ---- the runner ---- */

static int remove_entry(const char *path, const struct stat *status, int type, struct FTW *walk)
{
    (void)status, (void)type, (void)walk;
    return remove(path);
}

static void remove_folder(const char *path)
{
    nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

/* Reap what the host left behind; false: something lives on. */
static bool nothing_outlives_host(void)
{
    pid_t pid = 0;
    for (uint64_t since_ms = now_ms(); now_ms() < since_ms + VANISH_MS;) {
        while ((pid = waitpid(-1, NULL, WNOHANG)) > 0)
            continue;
        if (pid < 0)
            return true;
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
    return false;
}

/* Kill what lives on, by pid, so that the next case is not disturbed. */
static void end_survivors(void)
{
    char path[64], text[8192];
    do {
        snprintf(path, sizeof path, "/proc/%d/task/%d/children", (int)getpid(), (int)getpid());
        if (read_file(path, text, sizeof text) <= 0)
            return;
        for (char *at = text; *at;) {
            pid_t pid = (pid_t)strtol(at, &at, 10);
            if (pid > 0)
                kill(pid, SIGKILL);
            at += *at == ' ';
        }
    } while (waitpid(-1, NULL, 0) > 0);
}

static void judge(const struct run *run, bool in_time, int status, bool clean)
{
    char output[2048];
    size_t printed = read_output(output, sizeof output);
    if (report->failed)
        fail_msg("%s%s%s", report->text, printed ? "\n    printed: " : "", output);
    if (!in_time)
        fail_msg("hangs%s%s", printed ? "; printed: " : "", output);
    if (status)
        fail_msg("the host ended with wait status %#x%s%s", (unsigned)status, printed ? "; printed: " : "", output);
    if (!clean)
        fail_msg("processes outlive the host");
    if (report->skipped) {
        print_message("             %s\n", report->text);
        skip();
    }
    if (printed && !(run->this_case->flags & PRINTS))
        fail_msg("printed: %s", output);
}

static void run_case(void **state)
{
    static int number;
    const struct run *run = *state;
    const char *patience = getenv("CONFORMANCE_PATIENCE");
    int status = -1, factor = patience ? atoi(patience) : 1;
    for (size_t i = 0; i < sizeof lacks / sizeof *lacks; i++)
        if (run->this_case->needs & lacks[i].trait & ~run->method->traits) {
            print_message("             %s\n", lacks[i].reason);
            skip();
        }
    snprintf(case_folder, sizeof case_folder, "%s/%d", run_folder, number++);
    assert_int_equal(mkdir(case_folder, 0700), 0);
    report->failed = report->skipped = 0;
    fflush(NULL);
    pid_t pid = fork();
    if (!pid)
        be_host(run);
    assert_true(pid > 0);
    bool in_time = ends_within(pid, CASE_DEADLINE_S * 1000 * factor);
    if (!in_time)
        kill(-pid, SIGKILL);
    waitpid(pid, &status, 0);
    bool clean = nothing_outlives_host();
    if (!clean)
        end_survivors();
    judge(run, in_time, status, clean);
    remove_folder(case_folder);
}

static int run_method(const struct start_method *start_method)
{
    static struct run runs[MAX_CASES];
    struct CMUnitTest tests[MAX_CASES];
    char group[64];
    size_t count = 0;
    for (size_t theme = 0; theme < sizeof themes / sizeof *themes; theme++)
        for (const struct conformance_case *each = themes[theme]; each->name; each++, count++) {
            if (count == MAX_CASES)
                abort();
            runs[count] = (struct run){each, start_method};
            tests[count] = (struct CMUnitTest){each->name, run_case, NULL, NULL, &runs[count]};
        }
    snprintf(group, sizeof group, "conformance of %s", start_method->name);
    print_message("%s\n", group);
    return _cmocka_run_group_tests(group, tests, count, NULL, NULL);
}

static bool is_chosen(const char *name, char **names)
{
    const char *only = getenv("POOL_BACKEND");
    if (!*names)
        return !only || !*only || !strcmp(only, name);
    for (; *names; names++)
        if (!strcmp(*names, name))
            return true;
    return false;
}

int main(int argc, char **argv)
{
    pool_init();
    const char *folder = getenv("TMPDIR");
    int failures = 0, chosen = 0;
    char **names = argv + 1;
    if (argc > 2 && !strcmp(argv[1], "-k")) {
        cmocka_set_test_filter(argv[2]);
        names += 2;
    }
    snprintf(run_folder, sizeof run_folder, "%.90s/conformance-XXXXXX", folder && *folder ? folder : "/tmp");
    report = mmap(NULL, sizeof *report, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (report == MAP_FAILED || !mkdtemp(run_folder) || prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)) {
        perror("conformance");
        return 2;
    }
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++)
        if (is_chosen(methods[i].name, names)) {
            failures += run_method(&methods[i]);
            chosen++;
        }
    remove_folder(run_folder);
    if (!chosen)
        fprintf(stderr, "conformance: no such start method\n");
    return failures || !chosen ? 1 : 0;
}

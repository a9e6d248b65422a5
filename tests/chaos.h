/* chaos: what the parts of the chaos program share. chaos.c runs rounds in hosts, chaos_deeds.c is what tasks do in
 * workers, chaos_model.c knows what must come of it, chaos_calls.c calls the API at random with tasks of chaos_tasks.c
 * and memory of chaos_memory.c, chaos_hand.c kills from outside.
 *
 * Every item, whether a task, an item of a map or of a stream, has an *order*: what it is to do, and a number by which
 * the workers note on the *board* (memory that all of them share with the host) who began it and how often. So the
 * host can tell, of anything that a pool reports, whether it may be so. */
#ifndef CHAOS_H
#define CHAOS_H

#include <procpool.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdnoreturn.h>
#include <sys/types.h>

/* ---- numbers at random ---- */

struct dice {
    uint64_t state;
};

uint64_t dice_next(struct dice *dice);
/* From 0 to below - 1. */
unsigned dice_below(struct dice *dice, unsigned below);
bool dice_one_in(struct dice *dice, unsigned count);

uint64_t mix(uint64_t number);
uint64_t now_ms(void);
void pause_us(unsigned us);

/* ---- deeds ---- */

enum deed {
    BEHAVES,           /* replies with a function of its order */
    BEHAVES_AT_A_COST, /* the same after some work */
    LEAVES_KEEPER,     /* the same, but a child that it forked keeps the pipes for as long as the round goes on */
    FAILS,             /* with a code */
    SEGFAULTS,
    ABORTS,
    EXITS, /* by exit(), with a code */
    QUITS, /* by _exit() */
    KILLS_ITSELF,
    BABBLES,  /* writes garbage into the reply pipe */
    OVERDOES, /* replies with more than it may */
    HANGS,    /* these three need a deadline or somebody who cancels them */
    HANGS_ON, /* also after SIGTERM */
    STOPS_ITSELF,
    DEED_COUNT
};

enum { MAX_ORDER_FDS = 4, PATIENT_MS = 120000, DEADLINE_MS = 15 };

struct order {
    uint64_t seed;
    uint32_t number; /* on the board */
    uint32_t deed;
    uint32_t size; /* of the filling of order and reply */
    uint32_t fd_count;
};

/* What a reply begins with; behind it comes filling, and behind an order too. */
struct reply {
    uint64_t sum;   /* of the order and its filling */
    uint64_t told;  /* the last broadcast that this worker has seen */
    uint64_t index; /* pool_item_index */
    int32_t pid;
    uint32_t worker_id;
};

bool deed_is_endless(enum deed deed);
bool deed_succeeds(enum deed deed);
/* How a worker ends that does it. false: it does not. */
bool deed_kills(enum deed deed, uint64_t seed, int *signal_out, int *exit_code_out);
int deed_code(uint64_t seed);
/* Whether its reply is made in memory that the worker lends. */
bool order_is_lent(const struct order *order);

uint64_t order_sum(const struct order *order);
void fill(void *bytes, size_t size, uint64_t seed);
bool is_filled(const void *bytes, size_t size, uint64_t seed);

/* The functions that workers run. A map's item is an order, and its result the order's sum. */
int do_order(struct pool_call *call);
int do_endless_order(struct pool_call *call); /* the same: what never ends has a function of its own */
int do_order_item(const void *item, void *result, void *state);
int hear_broadcast(struct pool_call *call);

/* ---- the board ---- */

enum { POOLS = 2, MAX_WORKERS = 4, ORDERS = 1 << 16 };

struct board {
    _Atomic uint64_t rounds; /* those that keep pipes end when it changes */
    _Atomic int64_t keepers;
    _Atomic uint32_t begun[ORDERS]; /* how often */
    _Atomic int32_t pids[ORDERS];   /* who did it last */
    struct seat {                   /* of a worker that has begun an order */
        _Atomic int32_t pid, parent;
        _Atomic uint64_t orders;
    } seats[POOLS][MAX_WORKERS];
};

extern struct board *board;

/* Initializer and finalizer; the argument is what board_address gives. */
struct board_address {
    int32_t host, fd;
    uint32_t pool;
};
struct board_address make_board(void);
int take_seat(const void *arg, size_t arg_size, void **state_out);
void leave_seat(void *state);

/* ---- what is known of a pool ---- */

struct arena {
    struct pool *pool;
    struct pool_options options;
    struct board_address address; /* options.arg */
    unsigned index;
    unsigned attempts;    /* that an item has */
    bool may_lose_server; /* its forkserver may be killed: the ends of its workers may then remain unknown */
    atomic_bool server_was_killed;
    uint64_t spared_until;     /* so many orders have begun: only then the next server is killed */
    atomic_int shut;           /* 0, or 1 + the mode of the hardest shutdown that has begun */
    _Atomic uint64_t accepted; /* tasks, and items of maps */
    _Atomic uint64_t streamed; /* items that were given to streams, some of them perhaps not submitted any more */
    _Atomic uint64_t kills;    /* of its workers, from outside */
    _Atomic uint64_t lost;     /* items of maps that such a worker took with it: one each at most */
    pthread_mutex_t broadcasting;
    _Atomic uint64_t told, telling; /* the last broadcast that succeeded, and that began */
    /* Held for reading by those that are handed tasks, until it is written down who was; for writing by those that free
     * a task which might be handed to somebody just now. */
    pthread_rwlock_t handing_out;
};

/* ---- the model ---- */

/* What must come of an order, and what may. */
struct expectation {
    const struct order *order;
    const struct arena *arena;
    bool at_most_once, has_deadline;
    bool may_be_canceled; /* somebody has tried */
    uint64_t told;        /* broadcasts that had succeeded when it was submitted */
    uint64_t index;       /* what pool_item_index says; UINT64_MAX: not known */
};

/* A round has gone wrong: say so and end the host. */
noreturn void chaos_failed(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* What this thread is about to do, for a host that hangs. */
void note_doing(const char *what);

uint32_t new_order_number(void);
bool orders_are_used_up(void);
void start_numbering(void);

void check_result(const struct expectation *expected, const struct pool_result *result);
/* The same of an item of a map, of which less is known. */
void check_item(const struct expectation *expected, int status, int code, uint64_t sum);

/* Who was killed from outside; noted before it happens. */
void note_killed(pid_t pid);
bool was_killed(pid_t pid);
void forget_killed(void);

enum count {
    COUNT_TASKS,
    COUNT_MAPS,
    COUNT_MAP_ITEMS,
    COUNT_STREAMS,
    COUNT_STREAM_ITEMS,
    COUNT_BROADCASTS,
    COUNT_CANCELS,
    COUNT_SUCCEEDED,
    COUNT_FAILED,
    COUNT_CRASHED,
    COUNT_TIMED_OUT,
    COUNT_CANCELED,
    COUNT_GARBAGE,
    COUNT_KILLED,
    COUNT_STOPPED,
    COUNT_SERVERS_KILLED,
    COUNT_SHUTDOWNS,
    COUNT_POOLS,
    COUNT_BUFFERS,
    COUNT_LENT,
    COUNT_COUNT
};
void count_up(enum count what, uint64_t by);
void count_status(int status);

/* ---- memory ---- */

struct memory {
    char *data, *base;
    struct pool *pool; /* whose buffer it is in; NULL: none */
};

/* Zero. A buffer may be given back when its pool is gone. */
struct memory take_memory(struct arena *arena, struct dice *dice, size_t size);
void give_memory(struct memory *memory);

/* ---- tasks ---- */

enum { RECORDS = 4096 };

struct record {
    struct pool_task *task; /* NULL: nobody has kept it, or not any more */
    struct arena *arena;
    struct order order;
    bool at_most_once, has_deadline;
    uint64_t told;
    struct memory input; /* in a buffer that is not given back before the round ends; data NULL: it was */
    /* Under the records' lock. */
    bool accepted, kept, claimed, handed_out, freed, ended;
    bool cancel_tried, cancel_worked;
    int status; /* once it is known */
    uint64_t claimed_at;
    unsigned users; /* threads that are in a call with its task */
};

void forget_records(void);
void submit_at_random(struct arena *arena, struct dice *dice, bool in_callback);
void wait_at_random(struct arena *arena, struct dice *dice);
void next_at_random(struct arena *arena, struct dice *dice);
void cancel_at_random(struct arena *arena, struct dice *dice);
void free_at_random(struct arena *arena, struct dice *dice);
void look_at_random(struct arena *arena, struct dice *dice);
/* Take at most what there is now; 0, or what pool_next gave at last. */
int take_next(struct arena *arena, int64_t timeout_ms);
/* What cannot end by itself. */
void cancel_endless(unsigned at_most);
/* A pool that has nothing more to hand out: every task of it has been, or is known otherwise. */
void expect_all_ended(const struct arena *arena);
/* Look at those that are left after their pool, and free them. */
void finish_records(void);

struct order make_order(struct dice *dice, bool may_be_endless, uint32_t most_bytes);

/* ---- the other calls ---- */

void map_at_random(struct arena *arena, struct dice *dice);
void map_bytes_at_random(struct arena *arena, struct dice *dice);
void stream_at_random(struct arena *arena, struct dice *dice);
void broadcast_at_random(struct arena *arena, struct dice *dice);
void look_at_numbers(struct arena *arena);
/* An event loop, for a while. */
void loop_for_a_while(struct arena *arena, struct dice *dice);

/* ---- the hand from outside ---- */

void strike_at_random(struct arena *arena, struct dice *dice);

#endif

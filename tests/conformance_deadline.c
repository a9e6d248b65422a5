/* conformance_deadline: items that run past their deadline, in whatever state their worker is. */
#include "conformance.h"
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum behaviour { QUICK, SPINS, SLEEPS, STOPS_ITSELF, IGNORES_SIGTERM, BLOCKS_ALL, BEHAVIOURS };

static int behave(const void *item, void *result, void *state)
{
    sigset_t all;
    if (state)
        mark_item(state);
    switch ((enum behaviour) * (const int *)item) {
    case SPINS:
        for (volatile int spin = 1; spin;)
            spin |= 1;
        break;
    case STOPS_ITSELF:
        raise(SIGSTOP);
        for (;;)
            pause();
    case IGNORES_SIGTERM:
        signal(SIGTERM, SIG_IGN);
        for (;;)
            pause();
    case BLOCKS_ALL:
        sigfillset(&all);
        sigprocmask(SIG_SETMASK, &all, NULL);
        for (;;)
            pause();
    case SLEEPS:
        for (;;)
            sleep(1000);
    case QUICK:
    case BEHAVIOURS:
        break;
    }
    *(uint64_t *)result = pool_item_index() + 1;
    return 0;
}

/* Every innocent succeeds, every other ends with POOL_ETIMEOUT. */
static void map_behaviours(struct pool *pool, const int *items, size_t count, size_t chunk_size, int64_t timeout_ms)
{
    struct pool_map_options map = POOL_MAP_OPTIONS_INIT;
    uint64_t *results = calloc(count, sizeof *results);
    int *status = calloc(count, sizeof *status), first = 0;
    map.timeout_ms = timeout_ms;
    map.chunk_size = chunk_size;
    map.status_out = status;
    int rc = pool_map_with(pool, behave, items, sizeof *items, results, sizeof *results, count, &map);
    for (size_t i = 0; i < count; i++) {
        if (status[i] != (items[i] ? POOL_ETIMEOUT : 0))
            expectation_failed(__FILE__, __LINE__, "item %zu that does %d has status %s", i, items[i],
                               pool_strerror(status[i]));
        EXPECT(items[i] || results[i] == i + 1);
        first = first ? first : status[i];
    }
    EXPECT_INT(rc, first);
    free(results);
    free(status);
}

static void item_past_its_deadline_fails_whatever_it_does(void)
{
    struct pool_options options = method_options(2);
    options.soft_kill_grace_ms = 50;
    struct pool *pool = make_pool_with(&options);
    for (int behaviour = SPINS; behaviour < BEHAVIOURS; behaviour++) {
        int items[30] = {0};
        items[7] = behaviour;
        map_behaviours(pool, items, 30, 0, 300);
        EXPECT_TEXT(pool_message(), "7");
    }
    pool_destroy(pool);
}

static void neighbours_of_a_late_item_are_unharmed(void)
{
    enum { COUNT = 3000 };
    static const size_t chunk_sizes[] = {0, 1, 1000};
    struct board *board = make_board();
    for (int round = 0; round < 3; round++) {
        memset(board, 0, sizeof *board);
        int items[COUNT] = {0};
        struct pool_options options = board_options(2);
        options.soft_kill_grace_ms = -1;
        options.max_attempts = 3; /* of no matter here: a late item is not tried again */
        struct pool *pool = make_pool_with(&options);
        items[0] = items[1500] = items[1501] = items[2999] = SLEEPS;
        map_behaviours(pool, items, COUNT, chunk_sizes[round], 250);
        EXPECT_INT(board->runs[0], 1);
        EXPECT_INT(board->runs[2999], 1);
        memset(items, 0, sizeof items);
        map_behaviours(pool, items, COUNT, 0, 0);
        pool_destroy(pool);
    }
}

static int sleep_for_a_while(const void *item, void *result, void *state)
{
    (void)result, (void)state;
    nanosleep(&(struct timespec){.tv_nsec = *(const long *)item * 1000000}, NULL);
    return 0;
}

/* All together take far longer than one may: a deadline counts from the start of the item, not of the map or the
 * chunk. */
static void deadline_counts_from_the_start_of_each_item(void)
{
    enum { COUNT = 60 };
    long items[COUNT];
    struct pool_map_options map = POOL_MAP_OPTIONS_INIT;
    struct pool *pool = make_pool(1);
    for (int i = 0; i < COUNT; i++)
        items[i] = 40;
    map.timeout_ms = 1500;
    EXPECT_OK(pool_map_with(pool, sleep_for_a_while, items, sizeof *items, NULL, 0, COUNT, &map));
    map.chunk_size = COUNT;
    EXPECT_OK(pool_map_with(pool, sleep_for_a_while, items, sizeof *items, NULL, 0, COUNT, &map));
    pool_destroy(pool);
}

static void deadline_of_one_map_does_not_hold_for_the_next(void)
{
    long items[2] = {1, 1};
    struct pool_map_options map = POOL_MAP_OPTIONS_INIT;
    struct pool *pool = make_pool(1);
    map.timeout_ms = 100;
    EXPECT_OK(pool_map_with(pool, sleep_for_a_while, items, sizeof *items, NULL, 0, 2, &map));
    items[0] = items[1] = 400;
    EXPECT_OK(pool_map(pool, sleep_for_a_while, items, sizeof *items, NULL, 0, 2));
    pool_destroy(pool);
}

static int behave_by_payload(struct pool_call *call)
{
    size_t size;
    uint64_t unused;
    return behave(pool_call_input(call, &size), &unused, NULL);
}

static void deadline_holds_for_payloads_too(void)
{
    enum { COUNT = 40 };
    int behaviours[COUNT] = {0}, status[COUNT];
    struct pool_bytes items[COUNT];
    struct pool_map_options map = POOL_MAP_OPTIONS_INIT;
    struct pool *pool = make_pool(2);
    behaviours[3] = SPINS, behaviours[30] = SLEEPS;
    for (int i = 0; i < COUNT; i++)
        items[i] = (struct pool_bytes){&behaviours[i], sizeof *behaviours};
    map.timeout_ms = 2000; /* which the others keep on a busy machine, too */
    map.status_out = status;
    EXPECT_INT(pool_map_bytes(pool, behave_by_payload, items, COUNT, NULL, &map), POOL_ETIMEOUT);
    for (int i = 0; i < COUNT; i++)
        EXPECT_INT(status[i], behaviours[i] ? POOL_ETIMEOUT : 0);
    pool_destroy(pool);
}

/* ---- stopped from outside ---- */

static void *stop_worker(void *arg)
{
    struct board *board = arg;
    if (await_counter(board, 1, 1))
        kill((pid_t)board->counters[2], SIGSTOP);
    return NULL;
}

static int wait_to_be_stopped(const void *item, void *result, void *state)
{
    struct board *board = state;
    (void)result;
    if (!*(const int *)item)
        return 0;
    board->counters[2] = (uint64_t)getpid();
    board->counters[1] = 1;
    for (;;)
        pause();
}

static void stopped_worker_is_killed_at_the_deadline(void)
{
    struct board *board = make_board();
    struct pool_options options = board_options(2);
    struct pool *pool = make_pool_with(&options);
    struct pool_map_options map = POOL_MAP_OPTIONS_INIT;
    pthread_t thread;
    int items[20] = {0}, status[20];
    items[5] = 1;
    map.timeout_ms = 700;
    map.status_out = status;
    EXPECT_OK(pthread_create(&thread, NULL, stop_worker, board));
    int rc = pool_map_with(pool, wait_to_be_stopped, items, sizeof *items, NULL, 0, 20, &map);
    EXPECT_OK(pthread_join(thread, NULL));
    EXPECT(board->counters[2]);
    for (int i = 0; i < 20; i++)
        EXPECT_INT(status[i], i == 5 ? POOL_ETIMEOUT : 0);
    EXPECT_INT(rc, POOL_ETIMEOUT);
    EXPECT(has_vanished((pid_t)board->counters[2]));
    EXPECT_OK(pool_destroy(pool));
}

/* ---- the grace between SIGTERM and SIGKILL ---- */

static struct board *board_of_handler;

static void note_termination(int number)
{
    (void)number;
    board_of_handler->counters[4]++;
    _exit(5);
}

static int clean_up_at_sigterm(const void *item, void *result, void *state)
{
    (void)item, (void)result;
    board_of_handler = state;
    signal(SIGTERM, note_termination);
    while (pause())
        continue;
    return 0;
}

static void late_item_may_clean_up_at_sigterm(void)
{
    char item = 0;
    struct board *board = make_board();
    struct pool_options options = board_options(1);
    struct pool_map_options map = POOL_MAP_OPTIONS_INIT;
    options.soft_kill_grace_ms = PATIENCE_MS;
    map.timeout_ms = 100;
    struct pool *pool = make_pool_with(&options);
    EXPECT_INT(pool_map_with(pool, clean_up_at_sigterm, &item, 1, NULL, 0, 1, &map), POOL_ETIMEOUT);
    EXPECT_INT(board->counters[4], 1);
    pool_destroy(pool);
    options.soft_kill_grace_ms = -1;
    pool = make_pool_with(&options);
    EXPECT_INT(pool_map_with(pool, clean_up_at_sigterm, &item, 1, NULL, 0, 1, &map), POOL_ETIMEOUT);
    EXPECT_INT(board->counters[4], 1); /* no SIGTERM without grace */
    pool_destroy(pool);
}

/* ---- deadlines and other ends ---- */

static int die_or_be_late(const void *item, void *result, void *state)
{
    (void)result, (void)state;
    if (*(const int *)item == 1)
        abort();
    while (*(const int *)item == 2)
        pause();
    return 0;
}

static void crashes_and_deadlines_are_told_apart(void)
{
    enum { COUNT = 120 };
    int items[COUNT], status[COUNT];
    struct pool_options options = method_options(2);
    struct pool_map_options map = POOL_MAP_OPTIONS_INIT;
    options.soft_kill_grace_ms = -1;
    map.timeout_ms = 200;
    map.status_out = status;
    struct pool *pool = make_pool_with(&options);
    for (int i = 0; i < COUNT; i++)
        items[i] = i % 20 == 4 ? 1 : i % 20 == 5 ? 2 : 0;
    EXPECT_INT(pool_map_with(pool, die_or_be_late, items, sizeof *items, NULL, 0, COUNT, &map), POOL_ECRASH);
    for (int i = 0; i < COUNT; i++)
        EXPECT_INT(status[i], items[i] == 1 ? POOL_ECRASH : items[i] == 2 ? POOL_ETIMEOUT : 0);
    pool_destroy(pool);
}

const struct conformance_case deadline_cases[] = {
    CASE(item_past_its_deadline_fails_whatever_it_does),
    CASE(neighbours_of_a_late_item_are_unharmed),
    CASE(deadline_counts_from_the_start_of_each_item),
    CASE(deadline_of_one_map_does_not_hold_for_the_next),
    CASE(deadline_holds_for_payloads_too),
    CASE(stopped_worker_is_killed_at_the_deadline),
    CASE(late_item_may_clean_up_at_sigterm),
    CASE(crashes_and_deadlines_are_told_apart),
    {0},
};

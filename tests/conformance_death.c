/* conformance_death: items that end their worker, one way or another. Only they fail, and the caller learns how. */
#include "conformance.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <unistd.h>

/* ---- ways to go ---- */

enum fate {
    LIVES,
    SEGFAULTS,
    ABORTS,
    EXITS,
    EXITS_SILENTLY,
    OVERFLOWS_STACK,
    IS_KILLED,
    CLOSES_FDS,
    WRITES_GARBAGE,
    DIVIDES_BY_0,
    EXITS_WITH_0,
    IS_TERMINATED,
    FATES
};

/* How the message has to name the death; NULL: not at all. */
static const struct {
    int status;
    const char *words[2];
} fates[FATES] = {
    [LIVES] = {0, {NULL}},
    [SEGFAULTS] = {POOL_ECRASH, {"SIGSEGV", "signal 11"}},
    [ABORTS] = {POOL_ECRASH, {"SIGABRT", "signal 6"}},
    [EXITS] = {POOL_ECRASH, {"3", "3"}},
    [EXITS_SILENTLY] = {POOL_ECRASH, {"42", "42"}},
    [OVERFLOWS_STACK] = {POOL_ECRASH, {"SIGSEGV", "signal 11"}},
    [IS_KILLED] = {POOL_ECRASH, {"SIGKILL", "signal 9"}},
    [CLOSES_FDS] = {POOL_ECRASH, {NULL}},
    [WRITES_GARBAGE] = {POOL_EPROTO, {NULL}},
    [DIVIDES_BY_0] = {POOL_ECRASH, {"SIGFPE", "signal 8"}},
    [EXITS_WITH_0] = {POOL_ECRASH, {"0", "0"}},
    [IS_TERMINATED] = {POOL_ECRASH, {"SIGTERM", "signal 15"}},
};

static int recurse(const volatile int *depth)
{
    volatile int frame[1024];
    frame[7] = frame[0] = *depth + 1;
    return frame[0] ? recurse(frame) + frame[7] : 0;
}

/* To every fd but stdio. Blocking ones may fill up: that must not keep the item from ending. */
static void write_garbage(void)
{
    unsigned char garbage[4096];
    for (size_t i = 0; i < sizeof garbage; i++)
        garbage[i] = (unsigned char)(i * 151 + 255);
    for (int fd = 3; fd < 64; fd++) {
        fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
        if (write(fd, garbage, sizeof garbage) < 0)
            continue;
    }
}

static void meet(enum fate fate)
{
    volatile int zero = 0;
    switch (fate) {
    case SEGFAULTS:
        *(volatile int *)(uintptr_t)zero = 1;
        break;
    case ABORTS:
        abort();
    case EXITS:
        exit(3);
    case EXITS_SILENTLY:
        _exit(42);
    case EXITS_WITH_0:
        exit(0);
    case OVERFLOWS_STACK:
        recurse((int[]){1});
        break;
    case IS_KILLED:
        raise(SIGKILL);
        break;
    case IS_TERMINATED:
        raise(SIGTERM);
        break;
    case DIVIDES_BY_0:
        raise(SIGFPE);
        break;
    case CLOSES_FDS:
        for (int fd = 0; fd < 64; fd++)
            close(fd);
        break;
    case WRITES_GARBAGE:
        write_garbage();
        break;
    case LIVES:
    case FATES:
        break;
    }
}

static int meet_fate(const void *item, void *result, void *state)
{
    if (state)
        mark_item(state);
    meet((enum fate) * (const int *)item);
    *(uint64_t *)result = pool_item_index() * 3;
    return 0;
}

static bool is_right_status(enum fate fate, int status)
{
    /* Without its fds a worker may end by itself or be caught at breaking the protocol. */
    if (fate == CLOSES_FDS)
        return status == POOL_ECRASH || status == POOL_EPROTO;
    return status == fates[fate].status;
}

static void map_fates(struct pool *pool, const int *items, size_t count, const struct pool_map_options *given)
{
    struct pool_map_options map = given ? *given : (struct pool_map_options)POOL_MAP_OPTIONS_INIT;
    uint64_t *results = calloc(count, sizeof *results);
    int *status = malloc(count * sizeof *status), first = 0;
    map.status_out = status;
    int rc = pool_map_with(pool, meet_fate, items, sizeof *items, results, sizeof *results, count, &map);
    for (size_t i = 0; i < count; i++) {
        if (!is_right_status((enum fate)items[i], status[i]))
            expectation_failed(__FILE__, __LINE__, "item %zu of fate %d has status %d (%s), chunk size %zu", i,
                               items[i], status[i], pool_strerror(status[i]), map.chunk_size);
        if (!items[i])
            EXPECT_INT(results[i], i * 3);
        first = first ? first : status[i];
    }
    EXPECT_INT(rc, first);
    free(results);
    free(status);
}

static void death_is_told_with_item_pid_and_cause(void)
{
    struct board *board = make_board();
    struct pool_options options = board_options(1);
    struct pool *pool = make_pool_with(&options);
    for (int fate = SEGFAULTS; fate < FATES; fate++) {
        int items[6] = {0};
        char number[32];
        items[4] = fate;
        map_fates(pool, items, 6, NULL);
        EXPECT_TEXT(pool_message(), "4");
        snprintf(number, sizeof number, "%d", board->pids[4]);
        EXPECT_TEXT(pool_message(), number);
        const char *const *words = fates[fate].words;
        if (words[0] && !strstr(pool_message(), words[0]) && !strstr(pool_message(), words[1]))
            expectation_failed(__FILE__, __LINE__, "the message of fate %d names neither %s nor %s", fate, words[0],
                               words[1]);
    }
    pool_destroy(pool);
}

static void map_with_culprits(unsigned workers, size_t chunk_size, enum fate fate, size_t count, size_t every)
{
    struct pool *pool = make_pool(workers);
    struct pool_map_options map = POOL_MAP_OPTIONS_INIT;
    int *items = calloc(count, sizeof *items);
    for (size_t i = every / 2; i < count; i += every)
        items[i] = (int)fate;
    map.chunk_size = chunk_size;
    map_fates(pool, items, count, &map);
    memset(items, 0, count * sizeof *items);
    map_fates(pool, items, count, NULL);
    free(items);
    pool_destroy(pool);
}

static void only_the_item_that_killed_fails(size_t chunk_size)
{
    for (int fate = SEGFAULTS; fate < FATES; fate++)
        map_with_culprits(2, chunk_size, (enum fate)fate, 1000, 400);
}

static void neighbours_of_a_death_are_unharmed_one_by_one(void)
{
    only_the_item_that_killed_fails(1);
}

static void neighbours_of_a_death_are_unharmed_in_chunks_of_100(void)
{
    only_the_item_that_killed_fails(100);
}

static void neighbours_of_a_death_are_unharmed_in_adaptive_chunks(void)
{
    only_the_item_that_killed_fails(0);
    map_with_culprits(2, 0, SEGFAULTS, 200000, 190000);
}

static void many_culprits_are_all_found(void)
{
    map_with_culprits(2, 0, IS_KILLED, 2000, 20);
    map_with_culprits(3, 100, EXITS_SILENTLY, 1000, 13);
    map_with_culprits(1, 50, ABORTS, 300, 9);
}

static void every_item_may_be_a_culprit(void)
{
    static const size_t chunk_sizes[] = {0, 1, 10};
    int items[60];
    for (int i = 0; i < 60; i++)
        items[i] = i % 2 ? IS_KILLED : EXITS_SILENTLY;
    for (int i = 0; i < 3; i++) {
        struct pool *pool = make_pool(2);
        struct pool_map_options map = POOL_MAP_OPTIONS_INIT;
        map.chunk_size = chunk_sizes[i];
        map_fates(pool, items, 60, &map);
        items[0] = items[1] = LIVES;
        map_fates(pool, items, 2, NULL);
        items[0] = EXITS_SILENTLY, items[1] = IS_KILLED;
        pool_destroy(pool);
    }
}

static void all_fates_in_one_map(void)
{
    enum { COUNT = 240 };
    int items[COUNT];
    struct pool *pool = make_pool(3);
    for (int i = 0; i < COUNT; i++)
        items[i] = i % 3 ? LIVES : i / 3 % FATES;
    map_fates(pool, items, COUNT, NULL);
    pool_destroy(pool);
}

/* ---- payloads ---- */

/* Dies after making, and half-filling, a reply; or lives, with a reply that is its input. */
static int meet_fate_by_payload(struct pool_call *call)
{
    size_t size;
    const int *input = pool_call_input(call, &size);
    char *reply = pool_call_reply(call, size);
    if (!reply)
        return 1;
    memcpy(reply, input, size / 2);
    meet((enum fate) * input);
    memcpy(reply, input, size);
    return 0;
}

static void neighbours_with_large_payloads_are_unharmed(void)
{
    enum { COUNT = 40, BYTES = 200000 };
    struct pool *pool = make_pool(2);
    struct pool_map_options map = POOL_MAP_OPTIONS_INIT;
    struct pool_bytes items[COUNT], replies[COUNT];
    int status[COUNT];
    map.status_out = status;
    for (int i = 0; i < COUNT; i++) {
        int fate = i % 5 ? LIVES : i / 5 % (FATES - 1) + 1;
        items[i] = (struct pool_bytes){malloc(BYTES), BYTES - (size_t)i};
        memset(items[i].data, i, BYTES);
        memcpy(items[i].data, &fate, sizeof fate);
    }
    EXPECT_INT(pool_map_bytes(pool, meet_fate_by_payload, items, COUNT, replies, &map), POOL_ECRASH);
    for (int i = 0; i < COUNT; i++) {
        enum fate fate = (enum fate) * (int *)items[i].data;
        EXPECT(is_right_status(fate, status[i]));
        EXPECT_INT(replies[i].size, fate ? 0 : items[i].size);
        EXPECT(fate || !memcmp(replies[i].data, items[i].data, items[i].size));
        pool_bytes_clear(&replies[i]);
        pool_bytes_clear(&items[i]);
    }
    pool_destroy(pool);
}

/* ---- how often an item runs ---- */

static void at_most_once_never_runs_an_item_again(void)
{
    enum { COUNT = 400 };
    static const size_t chunk_sizes[] = {0, 1, 100};
    for (int round = 0; round < 3; round++) {
        struct board *board = make_board();
        memset(board, 0, sizeof *board);
        struct pool_options options = board_options(2);
        options.max_attempts = 3;
        struct pool *pool = make_pool_with(&options);
        struct pool_map_options map = POOL_MAP_OPTIONS_INIT;
        int items[COUNT] = {0};
        for (int i = 10; i < COUNT; i += 50)
            items[i] = IS_KILLED;
        map.at_most_once = 1;
        map.chunk_size = chunk_sizes[round];
        map_fates(pool, items, COUNT, &map);
        for (int i = 0; i < COUNT; i++)
            EXPECT_INT(board->runs[i], 1);
        pool_destroy(pool);
    }
}

static void item_is_tried_as_often_as_max_attempts_says(void)
{
    for (unsigned attempts = 0; attempts < 5; attempts++) {
        struct board *board = make_board();
        memset(board, 0, sizeof *board);
        struct pool_options options = board_options(1);
        options.max_attempts = attempts;
        struct pool *pool = make_pool_with(&options);
        map_fates(pool, (int[]){IS_KILLED}, 1, NULL); /* alone, it is known at once to be the one */
        EXPECT_INT(board->runs[0], attempts ? attempts : 1);
        pool_destroy(pool);
    }
}

/* Kills its worker until it has begun as often as the item says. */
static int die_a_few_times(const void *item, void *result, void *state)
{
    struct board *board = state;
    uint64_t index = mark_item(board);
    if (board->runs[index] < *(const unsigned *)item)
        raise(SIGKILL);
    *(unsigned *)result = board->runs[index];
    return 0;
}

static void item_that_succeeds_at_last_has_succeeded(void)
{
    enum { COUNT = 50 };
    make_board();
    unsigned items[COUNT] = {0}, results[COUNT];
    struct pool_options options = board_options(2);
    options.max_attempts = 4;
    struct pool *pool = make_pool_with(&options);
    items[3] = 4, items[20] = 2, items[21] = 3;
    EXPECT_OK(pool_map(pool, die_a_few_times, items, sizeof *items, results, sizeof *results, COUNT));
    EXPECT(results[3] == 4 && results[20] >= 2 && results[21] >= 3);
    pool_destroy(pool);
}

/* ---- descendants ---- */

/* Leaves a process behind that holds all the worker's fds, then dies. Its pid goes to the board. */
static int leave_a_process_and_die(const void *item, void *result, void *state)
{
    struct board *board = state;
    (void)result;
    pid_t pid = fork();
    if (!pid) {
        for (;;)
            pause();
    }
    board->counters[1] = (uint64_t)pid;
    if (*(const int *)item)
        raise(SIGKILL);
    return 0;
}

static void process_that_holds_a_dead_workers_pipes_delays_nothing(void)
{
    struct board *board = make_board();
    struct pool_options options = board_options(1);
    struct pool *pool = make_pool_with(&options);
    for (int dies = 1; dies >= 0; dies--) {
        uint64_t begin_ms = now_ms();
        EXPECT_INT(pool_map(pool, leave_a_process_and_die, &dies, sizeof dies, NULL, 0, 1), dies ? POOL_ECRASH : 0);
        EXPECT_OK(pool_map(pool, meet_fate, (int[]){LIVES}, sizeof(int), (uint64_t[1]){0}, sizeof(uint64_t), 1));
        if (!dies)
            pool_destroy(pool);
        EXPECT(now_ms() - begin_ms < PATIENCE_MS / 2);
        kill((pid_t)board->counters[1], SIGKILL);
        EXPECT(has_vanished((pid_t)board->counters[1]));
    }
}

/* The worker is done for at the first byte it sends without being asked. */
static int write_garbage_and_wait(const void *item, void *result, void *state)
{
    (void)item, (void)result, (void)state;
    write_garbage();
    while (pause())
        continue;
    return 0;
}

static void worker_that_sends_garbage_is_killed_while_it_runs(void)
{
    char item = 0;
    struct pool *pool = make_pool(1);
    EXPECT_INT(pool_map(pool, write_garbage_and_wait, &item, 1, NULL, 0, 1), POOL_EPROTO);
    EXPECT_OK(pool_map(pool, meet_fate, (int[]){LIVES}, sizeof(int), (uint64_t[1]){0}, sizeof(uint64_t), 1));
    pool_destroy(pool);
}

/* ---- successors ---- */

/* Every worker locks the file, alone; who cannot leaves a mark. The argument is its path. */
static int lock_or_mark(const void *arg, size_t arg_size, void **state_out)
{
    char mark[CASE_PATH_BYTES + 8];
    int fd = open(arg, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    (void)arg_size;
    (void)state_out;
    snprintf(mark, sizeof mark, "%s.mark", (const char *)arg);
    if (fd >= 0 && !flock(fd, LOCK_EX | LOCK_NB))
        return 0;
    return open(mark, O_RDWR | O_CREAT | O_CLOEXEC, 0600) < 0;
}

enum { FIRST_PIPE_FD = 3, LAST_PIPE_FD = 6 };

/* Item 0 closes what it talks by, and lives on with the lock. */
static int close_pipes_or_answer(const void *item, void *result, void *state)
{
    (void)state;
    *(char *)result = 1;
    for (int fd = FIRST_PIPE_FD; fd <= LAST_PIPE_FD && !*(const char *)item; fd++)
        close(fd);
    while (!*(const char *)item)
        pause();
    return 0;
}

/* Of two items. */
static void expect_end_and_answer(struct pool *pool, int end, pool_map_fn *fn, const void *items, size_t item_size)
{
    int statuses[2] = {1, 1};
    uint64_t results[2];
    struct pool_map_options map = POOL_MAP_OPTIONS_INIT;
    map.status_out = statuses;
    pool_map_with(pool, fn, items, item_size, results, sizeof *results, 2, &map);
    EXPECT_INT(statuses[0], end);
    EXPECT_INT(statuses[1], 0);
}

/* The next worker may be started before it is known how the last one ended, but not while that has anything left. */
static void successor_finds_free_what_the_dead_one_had(void)
{
    enum { DEATHS = 40 };
    char path[CASE_PATH_BYTES], mark[CASE_PATH_BYTES + 8];
    struct pool_options options = method_options(1);
    case_path("lock", path);
    snprintf(mark, sizeof mark, "%s.mark", path);
    options.initializer = lock_or_mark;
    options.arg = path;
    options.arg_size = sizeof path;
    struct pool *pool = make_pool_with(&options);
    for (unsigned i = 0; i < DEATHS; i++)
        expect_end_and_answer(pool, POOL_ECRASH, meet_fate, (int[]){i % 2 ? IS_KILLED : EXITS, LIVES}, sizeof(int));
    expect_end_and_answer(pool, POOL_EPROTO, close_pipes_or_answer, "\0\1", 1);
    EXPECT(access(mark, F_OK) && errno == ENOENT);
    pool_destroy(pool);
}

/* Its successor is started before it is known how it ended, and so before all of its fds are closed. */
static void whoever_had_fds_enough_to_start_can_be_replaced(void)
{
    enum { MOST_FDS = 48 };
    struct pool_options options = method_options(1);
    struct rlimit limit, few;
    unsigned pools = 0;
    int lowest_free = dup(STDIN_FILENO);
    EXPECT(lowest_free > 0);
    close(lowest_free);
    EXPECT_OK(getrlimit(RLIMIT_NOFILE, &limit));
    for (int more = 8; more < MOST_FDS; more++) {
        struct pool *pool = NULL;
        few = (struct rlimit){(rlim_t)lowest_free + (rlim_t)more, limit.rlim_max};
        EXPECT_OK(setrlimit(RLIMIT_NOFILE, &few));
        if (pool_create(&options, &pool))
            continue;
        pools++;
        for (unsigned i = 0; i < 3; i++)
            expect_end_and_answer(pool, POOL_ECRASH, meet_fate, (int[]){IS_KILLED, LIVES}, sizeof(int));
        pool_destroy(pool);
    }
    EXPECT_OK(setrlimit(RLIMIT_NOFILE, &limit));
    EXPECT(pools > 0);
}

/* The lowest limit with which a pool of two workers can be made. */
static rlim_t lowest_limit(void)
{
    struct pool_options options = method_options(2);
    struct pool *pool = NULL;
    struct rlimit limit, few;
    EXPECT_OK(getrlimit(RLIMIT_NOFILE, &limit));
    few = limit;
    for (few.rlim_cur = 8; !pool && few.rlim_cur < 100; few.rlim_cur++)
        if (setrlimit(RLIMIT_NOFILE, &few) || pool_create(&options, &pool))
            pool = NULL;
    EXPECT(pool);
    EXPECT_OK(setrlimit(RLIMIT_NOFILE, &limit));
    pool_destroy(pool);
    return few.rlim_cur;
}

/* Nobody is given the numbers of closed standard streams, so they are no room. */
static void closed_standard_streams_are_no_room_for_workers(void)
{
    enum { KEPT = 200 };
    for (int fd = 0; fd < 3; fd++)
        EXPECT_INT(dup2(fd, KEPT + fd), KEPT + fd);
    rlim_t lowest = lowest_limit(), lowest_without;
    for (int fd = 0; fd < 3; fd++)
        close(fd);
    lowest_without = lowest_limit();
    for (int fd = 0; fd < 3; fd++) {
        dup2(KEPT + fd, fd);
        close(KEPT + fd);
    }
    EXPECT(lowest_without == lowest);
}

const struct conformance_case death_cases[] = {
    CASE(death_is_told_with_item_pid_and_cause),
    CASE(neighbours_of_a_death_are_unharmed_one_by_one),
    CASE(neighbours_of_a_death_are_unharmed_in_chunks_of_100),
    CASE(neighbours_of_a_death_are_unharmed_in_adaptive_chunks),
    CASE(many_culprits_are_all_found),
    CASE(every_item_may_be_a_culprit),
    CASE(all_fates_in_one_map),
    CASE(neighbours_with_large_payloads_are_unharmed),
    CASE(at_most_once_never_runs_an_item_again),
    CASE(item_is_tried_as_often_as_max_attempts_says),
    CASE(item_that_succeeds_at_last_has_succeeded),
    CASE(process_that_holds_a_dead_workers_pipes_delays_nothing),
    CASE(worker_that_sends_garbage_is_killed_while_it_runs),
    CASE(successor_finds_free_what_the_dead_one_had),
    CASE(whoever_had_fds_enough_to_start_can_be_replaced),
    CASE(closed_standard_streams_are_no_room_for_workers),
    {0},
};

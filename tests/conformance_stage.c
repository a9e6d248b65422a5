/* conformance_stage: the stages of a worker's life that the caller takes part in: preload, initializer, recycling,
 * finalizer. */
#include "conformance.h"
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* Counters of the board. */
enum { PRELOADS = 1, PRELOAD_PID, INITIALIZATIONS, FINALIZATIONS, WRONG, DONE };

static int preloaded;       /* how often, in this image or the one that it is a copy of */
static unsigned items_here; /* run in this image since its initializer */
static struct board *board_here;

static int preload(const void *arg, size_t arg_size)
{
    void *board;
    if (attach_board(arg, arg_size, &board))
        return -1;
    board_here = board;
    board_here->counters[PRELOADS]++;
    board_here->counters[PRELOAD_PID] = (uint64_t)getpid();
    preloaded++;
    return 0;
}

static int initialize(const void *arg, size_t arg_size, void **state_out)
{
    if (attach_board(arg, arg_size, state_out))
        return -1;
    board_here = *state_out;
    board_here->counters[INITIALIZATIONS]++;
    items_here = 0;
    return 0;
}

static int initialize_after_preload(const void *arg, size_t arg_size, void **state_out)
{
    int before = preloaded;
    int rc = initialize(arg, arg_size, state_out);
    board_here->counters[WRONG] += before != 1;
    return rc;
}

static void finalize(void *state)
{
    struct board *board = state;
    board->counters[WRONG] += board != board_here;
    board->counters[FINALIZATIONS]++;
}

static int count_here(const void *item, void *result, void *state)
{
    (void)item;
    struct board *board = state;
    mark_item(board);
    board->counters[WRONG] += board != board_here;
    *(unsigned *)result = ++items_here;
    return 0;
}

static struct pool_options staged_options(unsigned workers)
{
    struct pool_options options = board_options(workers);
    options.initializer = initialize;
    options.finalizer = finalize;
    return options;
}

/* ---- preload ---- */

static int crash_at_times(const void *item, void *result, void *state)
{
    struct board *board = state;
    mark_item(board);
    *(int *)result = preloaded;
    if (*(const int *)item)
        raise(SIGKILL);
    return 0;
}

static void preload_runs_once_before_each_initializer_or_once_in_the_server(void)
{
    enum { COUNT = 40 };
    struct board *board = make_board();
    struct pool_options options = staged_options(3);
    options.preload = preload;
    options.initializer = initialize_after_preload;
    options.max_tasks_per_worker = 4;
    struct pool *pool = make_pool_with(&options);
    int items[COUNT] = {0}, results[COUNT], status[COUNT];
    struct pool_map_options map = POOL_MAP_OPTIONS_INIT;
    map.status_out = status;
    items[5] = items[30] = 1;
    EXPECT_INT(pool_map_with(pool, crash_at_times, items, sizeof *items, results, sizeof *results, COUNT, &map),
               POOL_ECRASH);
    for (int i = 0; i < COUNT; i++) {
        EXPECT_INT(status[i], items[i] ? POOL_ECRASH : 0);
        if (!items[i])
            EXPECT_INT(results[i], 1);
    }
    pool_destroy(pool);
    EXPECT_INT(board->counters[WRONG], 0);
    EXPECT(board->counters[INITIALIZATIONS] > 5);
    if (method->traits & PRELOADS_ONCE)
        EXPECT_INT(board->counters[PRELOADS], 1);
    else
        EXPECT(board->counters[PRELOADS] >= board->counters[INITIALIZATIONS] &&
               board->counters[PRELOADS] <= board->counters[INITIALIZATIONS] + 3); /* killed in between, at the end */
    EXPECT_INT(preloaded, 0);
}

enum { SHARED_BYTES = 64 << 20 };
static unsigned char *shared_bytes;

static int preload_much(const void *arg, size_t arg_size)
{
    (void)arg, (void)arg_size;
    shared_bytes = mmap(NULL, SHARED_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (shared_bytes == MAP_FAILED)
        return -1;
    memset(shared_bytes, 7, SHARED_BYTES);
    return 0;
}

/* How much of its memory a worker has to itself, in KiB, after reading all that was preloaded. */
static int tell_private_memory(const void *item, void *result, void *state)
{
    char text[4096];
    unsigned long sum = 0;
    (void)item, (void)state;
    for (size_t i = 0; i < SHARED_BYTES; i += 4096)
        sum += shared_bytes[i];
    if (sum != SHARED_BYTES / 4096 * 7 || read_file("/proc/self/smaps_rollup", text, sizeof text) < 0)
        return 1;
    char *line = strstr(text, "Private_Dirty:");
    *(long *)result = line ? strtol(line + strlen("Private_Dirty:"), NULL, 10) : -1;
    return 0;
}

static void workers_share_what_was_preloaded(void)
{
    char items[2] = {0};
    long results[2];
    if (is_sanitized())
        skip_case("a sanitizer has private memory of its own for what is read");
    struct pool_options options = method_options(2);
    struct pool_map_options map = POOL_MAP_OPTIONS_INIT;
    map.chunk_size = 1;
    options.preload = preload_much;
    struct pool *pool = make_pool_with(&options);
    EXPECT_OK(pool_map_with(pool, tell_private_memory, items, 1, results, sizeof *results, 2, &map));
    for (int i = 0; i < 2; i++)
        EXPECT(results[i] >= 0 && results[i] < (SHARED_BYTES >> 10) / 4);
    pool_destroy(pool);
}

static void each_pool_has_a_server_of_its_own(void)
{
    struct board *board = make_board();
    struct pool_options options = staged_options(1);
    options.preload = preload;
    struct pool *one = make_pool_with(&options);
    pid_t first = (pid_t)board->counters[PRELOAD_PID];
    struct pool *two = make_pool_with(&options);
    EXPECT_INT(board->counters[PRELOADS], 2);
    EXPECT(first != (pid_t)board->counters[PRELOAD_PID]);
    pool_destroy(one);
    EXPECT(worker_pid(two) > 0);
    pool_destroy(two);
}

static int preload_text(const void *arg, size_t arg_size)
{
    (void)arg, (void)arg_size;
    printf("[preload]");
    return 0;
}

static int print_text(const void *item, void *result, void *state)
{
    (void)item, (void)result, (void)state;
    printf("[item]");
    return 0;
}

static void what_preload_prints_appears_once_for_each_time_it_ran(void)
{
    char items[6] = {0}, output[4096];
    struct pool_options options = method_options(2);
    options.preload = preload_text;
    options.max_tasks_per_worker = 1;
    options.workers = 1;
    struct pool *pool = make_pool_with(&options);
    EXPECT_OK(pool_map(pool, print_text, items, 1, NULL, 0, 6));
    pool_destroy(pool);
    read_output(output, sizeof output);
    EXPECT_INT(count_text(output, "[item]"), 6);
    if (method->traits & PRELOADS_ONCE)
        EXPECT_INT(count_text(output, "[preload]"), 1);
    else
        EXPECT(count_text(output, "[preload]") >= 6 && count_text(output, "[preload]") <= 7);
}

/* ---- initializer ---- */

static int check_state_and_arg(const void *arg, size_t arg_size, void **state_out)
{
    const unsigned char *bytes = arg;
    for (size_t i = 0; i < arg_size; i++)
        if (bytes[i] != (unsigned char)(i * 7 + i / 256))
            return pool_call_fail(NULL, 9, "byte %zu of %zu is wrong", i, arg_size);
    static size_t size;
    size = arg_size;
    *state_out = &size;
    return 0;
}

static int tell_size(const void *item, void *result, void *state)
{
    (void)item;
    *(size_t *)result = *(size_t *)state;
    return 0;
}

static void initializer_has_a_copy_of_the_argument_of_any_size(void)
{
    static const size_t sizes[] = {0, 1, 4095, 65536, 100001, 9 << 20};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        char items[5] = {0};
        size_t results[5];
        struct pool_options options = method_options(2);
        unsigned char *arg = malloc(sizes[i] + 1);
        for (size_t k = 0; k < sizes[i]; k++)
            arg[k] = (unsigned char)(k * 7 + k / 256);
        options.initializer = check_state_and_arg;
        options.arg = sizes[i] ? arg : NULL;
        options.arg_size = sizes[i];
        options.max_tasks_per_worker = 1;
        struct pool *pool = make_pool_with(&options);
        memset(arg, 0xff, sizes[i]); /* the pool has its own, for workers to come, too */
        free(arg);
        EXPECT_OK(pool_map(pool, tell_size, items, 1, results, sizeof *results, 5));
        for (int k = 0; k < 5; k++)
            EXPECT_INT(results[k], sizes[i]);
        pool_destroy(pool);
    }
}

static int is_null_state(const void *item, void *result, void *state)
{
    (void)item, (void)result;
    return state != NULL;
}

static void state_is_null_without_an_initializer(void)
{
    char item = 0;
    struct pool *pool = make_pool(1);
    EXPECT_OK(pool_map(pool, is_null_state, &item, 1, NULL, 0, 1));
    pool_destroy(pool);
}

/* ---- finalizer ---- */

/* Ends when as many items as it says are under way, each in a worker of its own. */
static int wait_for_the_others(const void *item, void *result, void *state)
{
    struct board *board = state;
    (void)result;
    board->counters[DONE]++;
    return !await_counter(board, DONE, *(const uint64_t *)item);
}

static void finalizer_runs_once_in_each_worker_that_ends_in_order(void)
{
    enum { COUNT = 200, WORKERS = 3 };
    struct board *board = make_board();
    char items[COUNT] = {0};
    uint64_t others[WORKERS] = {WORKERS, WORKERS, WORKERS};
    unsigned results[COUNT];
    struct pool_options options = staged_options(WORKERS);
    struct pool *pool = make_pool_with(&options);
    EXPECT_OK(pool_map(pool, wait_for_the_others, others, sizeof *others, NULL, 0, WORKERS)); /* all have started */
    EXPECT_OK(pool_map(pool, count_here, items, 1, results, sizeof *results, COUNT));
    EXPECT_INT(board->counters[FINALIZATIONS], 0);
    pool_destroy(pool);
    EXPECT_INT(board->counters[INITIALIZATIONS], WORKERS);
    EXPECT_INT(board->counters[FINALIZATIONS], WORKERS);
    options.max_tasks_per_worker = 10;
    pool = make_pool_with(&options);
    EXPECT_OK(pool_map(pool, count_here, items, 1, results, sizeof *results, COUNT));
    pool_destroy(pool);
    /* Those that were only starting at the end have not run an item and may have been killed. */
    EXPECT(board->counters[FINALIZATIONS] >= WORKERS + COUNT / 10);
    EXPECT(board->counters[FINALIZATIONS] <= board->counters[INITIALIZATIONS]);
    EXPECT(board->counters[INITIALIZATIONS] <= board->counters[FINALIZATIONS] + WORKERS);
    EXPECT_INT(board->counters[WRONG], 0);
}

static void finalizer_does_not_run_in_a_worker_that_crashed(void)
{
    struct board *board = make_board();
    int item = 1, result;
    struct pool_options options = staged_options(1);
    struct pool *pool = make_pool_with(&options);
    EXPECT_INT(pool_map(pool, crash_at_times, &item, sizeof item, &result, sizeof result, 1), POOL_ECRASH);
    item = 0;
    EXPECT_OK(pool_map(pool, crash_at_times, &item, sizeof item, &result, sizeof result, 1));
    EXPECT_INT(board->counters[FINALIZATIONS], 0);
    pool_destroy(pool);
    EXPECT_INT(board->counters[FINALIZATIONS], 1);
}

static void hang_in_finalizer(void *state)
{
    finalize(state);
    for (;;)
        pause();
}

static void finalizer_that_hangs_does_not_hang_destroy(void)
{
    struct board *board = make_board();
    struct pool_options options = staged_options(2);
    options.finalizer = hang_in_finalizer;
    options.start_timeout_ms = 700;
    options.soft_kill_grace_ms = -1;
    uint64_t begin_ms = now_ms();
    struct pool *pool = make_pool_with(&options);
    worker_pid(pool);
    EXPECT_OK(pool_destroy(pool));
    EXPECT(board->counters[FINALIZATIONS] >= 1);
    EXPECT(now_ms() - begin_ms < PATIENCE_MS / 2);
}

/* ---- recycling ---- */

static void worker_is_replaced_after_so_many_items(void)
{
    enum { COUNT = 230, LIMIT = 7 };
    static const size_t chunk_sizes[] = {0, 1, 100};
    for (int i = 0; i < 3; i++) {
        struct board *board = make_board();
        memset(board, 0, sizeof *board);
        char items[COUNT] = {0};
        unsigned results[COUNT], most = 0;
        struct pool_options options = staged_options(2);
        struct pool_map_options map = POOL_MAP_OPTIONS_INIT;
        map.chunk_size = chunk_sizes[i];
        options.max_tasks_per_worker = LIMIT;
        struct pool *pool = make_pool_with(&options);
        EXPECT_OK(pool_map_with(pool, count_here, items, 1, results, sizeof *results, COUNT, &map));
        pool_destroy(pool);
        for (int k = 0; k < COUNT; k++) {
            EXPECT_INT(board->runs[k], 1);
            most = results[k] > most ? results[k] : most;
        }
        EXPECT_INT(most, LIMIT);
        EXPECT(board->counters[INITIALIZATIONS] >= (COUNT + LIMIT - 1) / LIMIT);
        EXPECT(board->counters[INITIALIZATIONS] <= COUNT / 3); /* and not for each item */
        EXPECT_INT(board->counters[WRONG], 0);
    }
}

static int set_and_tell(const void *item, void *result, void *state)
{
    static int runs;
    (void)item, (void)state;
    ((int *)result)[0] = getpid();
    ((int *)result)[1] = runs++;
    return 0;
}

static void recycling_gives_a_fresh_image_in_the_same_process_or_a_new_process(void)
{
    enum { COUNT = 8 };
    char items[COUNT] = {0};
    int results[COUNT][2];
    struct pool_options options = method_options(1);
    options.max_tasks_per_worker = 1;
    struct pool *pool = make_pool_with(&options);
    EXPECT_OK(pool_map(pool, set_and_tell, items, 1, results, sizeof *results, COUNT));
    for (int i = 0; i < COUNT; i++) {
        EXPECT_INT(results[i][1], 0);
        if (i)
            EXPECT((results[i][0] == results[i - 1][0]) == !!(method->traits & EXECS_WORKERS));
    }
    pool_destroy(pool);
}

static int leak(const void *item, void *result, void *state)
{
    enum { BYTES = 24 << 20 };
    static int leaks;
    (void)item, (void)state;
    char *bytes = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(bytes, 1, BYTES);
    *(int *)result = ++leaks;
    return bytes == MAP_FAILED;
}

static void worker_that_has_grown_too_large_is_replaced(void)
{
    enum { COUNT = 30 };
    char items[COUNT] = {0};
    int results[COUNT], replaced = 0, most = 0;
    struct pool_options options = method_options(1);
    options.max_worker_bytes = 100 << 20;
    struct pool *pool = make_pool_with(&options);
    EXPECT_OK(pool_map(pool, leak, items, 1, results, sizeof *results, COUNT));
    for (int i = 0; i < COUNT; i++) {
        replaced += i && results[i] == 1;
        most = results[i] > most ? results[i] : most;
    }
    EXPECT(replaced >= 4 && most >= 2); /* at four or five times 24 MiB, not after each item */
    EXPECT(most <= 6);
    pool_destroy(pool);
}

/* Recycling while large payloads are on their way: nothing unread may be lost. */
static int echo(struct pool_call *call)
{
    size_t size;
    const void *input = pool_call_input(call, &size);
    void *reply = pool_call_reply(call, size);
    if (!reply)
        return 1;
    memcpy(reply, input, size);
    return 0;
}

static void recycling_loses_nothing_of_large_payloads(void)
{
    enum { COUNT = 60 };
    struct pool_bytes items[COUNT], replies[COUNT];
    struct pool_options options = method_options(2);
    options.max_tasks_per_worker = 2;
    struct pool *pool = make_pool_with(&options);
    for (size_t i = 0; i < COUNT; i++) {
        items[i] = (struct pool_bytes){malloc(300000 + i), i % 3 ? 300000 + i : i};
        memset(items[i].data, (int)i, 300000 + i);
    }
    EXPECT_OK(pool_map_bytes(pool, echo, items, COUNT, replies, NULL));
    for (size_t i = 0; i < COUNT; i++) {
        EXPECT_INT(replies[i].size, items[i].size);
        EXPECT(!items[i].size || !memcmp(replies[i].data, items[i].data, items[i].size));
        pool_bytes_clear(&replies[i]);
        pool_bytes_clear(&items[i]);
    }
    pool_destroy(pool);
}

const struct conformance_case stage_cases[] = {
    CASE(preload_runs_once_before_each_initializer_or_once_in_the_server),
    CASE_IF(PRELOADS_ONCE, workers_share_what_was_preloaded),
    CASE_IF(PRELOADS_ONCE, each_pool_has_a_server_of_its_own),
    CASE_THAT(PRINTS, what_preload_prints_appears_once_for_each_time_it_ran),
    CASE(initializer_has_a_copy_of_the_argument_of_any_size),
    CASE(state_is_null_without_an_initializer),
    CASE(finalizer_runs_once_in_each_worker_that_ends_in_order),
    CASE(finalizer_does_not_run_in_a_worker_that_crashed),
    CASE(finalizer_that_hangs_does_not_hang_destroy),
    CASE(worker_is_replaced_after_so_many_items),
    CASE(recycling_gives_a_fresh_image_in_the_same_process_or_a_new_process),
    CASE(worker_that_has_grown_too_large_is_replaced),
    CASE(recycling_loses_nothing_of_large_payloads),
    {0},
};

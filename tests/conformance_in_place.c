/* conformance_in_place: maps whose arrays lie in shared buffers: workers read and write them where the caller has them,
 * and what goes wrong with an item is told of that item alone, as with any other arrays. */
#include "conformance_deeds.h"
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum { COUNT = 5000, MANY = 4000000, DEADLY = 1000, SLOW = 10 };

/* ---- what workers do ---- */

static int add_one_or_die(const void *item, void *result, void *state)
{
    add_one(item, result, state);
    if (pool_item_index() == DEADLY) {
        memset(result, 0x55, 2); /* in the middle of it */
        raise(SIGKILL);
    }
    return 0;
}

static int add_one_or_fail(const void *item, void *result, void *state)
{
    add_one(item, result, state);
    return pool_item_index() % 7 == 3 ? 4 : 0;
}

static int add_one_or_hang(const void *item, void *result, void *state)
{
    while (pool_item_index() == SLOW)
        pause();
    return add_one(item, result, state);
}

static int die(struct pool_call *call)
{
    (void)call;
    return raise(SIGKILL);
}

/* ---- in the host ---- */

/* Items and results of a pool, in shared memory or in plain memory. */
struct arrays {
    struct pool *pool;
    size_t count;
    int *items, *results;
    bool items_shared, results_shared;
};

static int *make_ints(struct pool *pool, bool shared, size_t count)
{
    int *ints = shared ? pool_buffer_alloc(pool, count * sizeof *ints) : calloc(count, sizeof *ints);
    EXPECT(ints);
    return ints;
}

static struct arrays make_arrays(struct pool *pool, size_t count, bool items_shared, bool results_shared)
{
    struct arrays arrays = {
        .pool = pool, .count = count, .items_shared = items_shared, .results_shared = results_shared};
    arrays.items = make_ints(pool, items_shared, count);
    arrays.results = make_ints(pool, results_shared, count);
    for (size_t i = 0; i < count; i++)
        arrays.items[i] = (int)i * 3;
    return arrays;
}

static struct arrays make_shared_arrays(struct pool *pool, size_t count)
{
    return make_arrays(pool, count, true, true);
}

static void drop_ints(struct pool *pool, bool shared, int *ints)
{
    if (shared)
        EXPECT_OK(pool_buffer_free(pool, ints));
    else
        free(ints);
}

static void drop_arrays(const struct arrays *arrays)
{
    drop_ints(arrays->pool, arrays->items_shared, arrays->items);
    drop_ints(arrays->pool, arrays->results_shared, arrays->results);
}

static int map_with(const struct arrays *arrays, pool_map_fn *fn, const struct pool_map_options *options)
{
    return pool_map_with(arrays->pool, fn, arrays->items, sizeof *arrays->items, arrays->results,
                         sizeof *arrays->results, arrays->count, options);
}

static bool is_added(const struct arrays *arrays, size_t i)
{
    return arrays->results[i] == arrays->items[i] + 1;
}

static void expect_all_added(const struct arrays *arrays)
{
    for (size_t i = 0; i < arrays->count; i++)
        EXPECT(is_added(arrays, i));
}

static void expect_map(const struct arrays *arrays)
{
    EXPECT_OK(map_with(arrays, add_one, NULL));
    expect_all_added(arrays);
}

static uint64_t bytes_moved(struct pool *pool)
{
    struct pool_stats stats = POOL_STATS_INIT;
    EXPECT_OK(pool_stats(pool, &stats));
    return stats.bytes_out + stats.bytes_in;
}

/* ---- where arrays lie ---- */

static void maps_work_in_place_or_not_wherever_arrays_lie(void)
{
    struct pool *pool = make_pool(2);
    for (unsigned where = 0; where < 4; where++) {
        struct arrays arrays = make_arrays(pool, COUNT, where & 1, where & 2);
        uint64_t before = bytes_moved(pool), most = 0;
        expect_map(&arrays);
        most += arrays.items_shared ? 0 : COUNT * sizeof(int);
        most += arrays.results_shared ? 0 : COUNT * sizeof(int);
        EXPECT(bytes_moved(pool) - before >= most);
        if (where == 3)
            EXPECT(bytes_moved(pool) - before < COUNT * sizeof(int));
        drop_arrays(&arrays);
    }
    EXPECT_OK(pool_destroy(pool));
}

static void arrays_may_begin_anywhere_in_one_buffer(void)
{
    struct pool *pool = make_pool(2);
    char *data = pool_buffer_alloc(pool, 2 * COUNT * sizeof(int) + 16);
    struct arrays arrays = {.pool = pool, .count = COUNT, .items = (int *)(void *)(data + 4)};
    arrays.results = arrays.items + COUNT;
    for (int i = 0; i < COUNT; i++)
        arrays.items[i] = i * 3;
    expect_map(&arrays);
    EXPECT(!data[0] && !data[3] && !data[4 + 2 * COUNT * sizeof(int)]);
    arrays.items++;
    arrays.count--;
    expect_map(&arrays);
    EXPECT_OK(pool_buffer_free(pool, data));
    EXPECT_OK(pool_destroy(pool));
}

static void arrays_outlive_their_pool(void)
{
    struct pool *pool = make_pool(1);
    struct arrays arrays = make_shared_arrays(pool, COUNT);
    EXPECT_OK(map_with(&arrays, add_one, NULL));
    EXPECT_OK(pool_destroy(pool));
    expect_all_added(&arrays);
    drop_ints(pool, true, arrays.results);
    EXPECT_INT(pool_buffer_free(pool, arrays.results), -EINVAL);
    drop_ints(pool, true, arrays.items);
}

static void arrays_of_the_default_pool_are_found_by_null(void)
{
    struct arrays arrays = make_shared_arrays(NULL, COUNT);
    expect_map(&arrays);
    EXPECT_INT(pool_buffer_free(NULL, arrays.items + 1), -EINVAL);
    drop_arrays(&arrays);
}

/* ---- what goes wrong ---- */

static void crash_spoils_its_own_result_alone(void)
{
    struct pool *pool = make_pool(2);
    struct arrays arrays = make_shared_arrays(pool, COUNT);
    struct pool_map_options options = POOL_MAP_OPTIONS_INIT;
    static int status[COUNT];
    options.status_out = status;
    EXPECT_INT(map_with(&arrays, add_one_or_die, &options), POOL_ECRASH);
    for (size_t i = 0; i < COUNT; i++) {
        EXPECT_INT(status[i], i == DEADLY ? POOL_ECRASH : 0);
        EXPECT(i == DEADLY || is_added(&arrays, i));
    }
    expect_map(&arrays);
    drop_arrays(&arrays);
    EXPECT_OK(pool_destroy(pool));
}

static void failures_are_told_one_by_one(void)
{
    struct pool *pool = make_pool(2);
    struct arrays arrays = make_shared_arrays(pool, COUNT);
    struct pool_map_options options = POOL_MAP_OPTIONS_INIT;
    static int code[COUNT];
    options.code_out = code;
    EXPECT_INT(map_with(&arrays, add_one_or_fail, &options), POOL_ETASK);
    for (size_t i = 0; i < COUNT; i++)
        EXPECT_INT(code[i], i % 7 == 3 ? 4 : 0);
    expect_all_added(&arrays);
    drop_arrays(&arrays);
    EXPECT_OK(pool_destroy(pool));
}

static void map_that_stopped_writes_nothing_any_more(void)
{
    struct pool *pool = make_pool(2);
    struct arrays arrays = make_shared_arrays(pool, COUNT);
    struct pool_map_options options = POOL_MAP_OPTIONS_INIT;
    options.stop_on_error = 1;
    EXPECT_INT(map_with(&arrays, add_one_or_fail, &options), POOL_ETASK);
    memset(arrays.results, 0xee, COUNT * sizeof(int));
    for (unsigned i = 0; i < 8; i++) { /* whatever the workers had is behind them then */
        struct pool_task *task = submit(pool, do_nothing, 0);
        EXPECT_OK(end_of(task).status);
        pool_task_free(task);
    }
    for (size_t i = 0; i < COUNT; i++)
        EXPECT_INT(arrays.results[i], (int)0xeeeeeeee);
    drop_arrays(&arrays);
    EXPECT_OK(pool_destroy(pool));
}

static void deadline_fails_its_own_item_alone(void)
{
    struct pool *pool = make_pool(2);
    struct arrays arrays = make_shared_arrays(pool, COUNT);
    struct pool_map_options options = POOL_MAP_OPTIONS_INIT;
    static int status[COUNT];
    options.status_out = status;
    options.timeout_ms = 100;
    EXPECT_INT(map_with(&arrays, add_one_or_hang, &options), POOL_ETIMEOUT);
    for (size_t i = 0; i < COUNT; i++) {
        EXPECT_INT(status[i], i == SLOW ? POOL_ETIMEOUT : 0);
        EXPECT(i == SLOW || is_added(&arrays, i));
    }
    drop_arrays(&arrays);
    EXPECT_OK(pool_destroy(pool));
}

static int stop_at_once(void *arg, size_t done, size_t count)
{
    (void)arg;
    return done < count;
}

static void cancelled_map_is_left_alone_when_it_has_returned(void)
{
    struct pool *pool = make_pool(2);
    struct arrays arrays = make_shared_arrays(pool, MANY);
    struct pool_map_options options = POOL_MAP_OPTIONS_INIT;
    int *status = calloc(MANY, sizeof *status);
    options.status_out = status;
    options.progress = stop_at_once;
    int rc = map_with(&arrays, add_one, &options);
    EXPECT(!rc || rc == POOL_ECANCELED);
    for (size_t i = 0; i < MANY; i++)
        EXPECT_INT(arrays.results[i], status[i] ? 0 : arrays.items[i] + 1);
    free(status);
    drop_arrays(&arrays);
    EXPECT_OK(pool_destroy(pool));
}

/* ---- workers and fds that go ---- */

static void replacement_is_given_what_the_one_before_had(void)
{
    struct pool_options options = method_options(1);
    options.max_tasks_per_worker = 3;
    struct pool *pool = make_pool_with(&options);
    struct arrays arrays = make_shared_arrays(pool, COUNT), few = arrays;
    for (few.count = 2; few.items < arrays.items + 20; few.items++, few.results++)
        expect_map(&few);
    struct pool_task *task;
    EXPECT_OK(pool_submit(pool, die, arrays.items, 100, NULL, &task));
    EXPECT_INT(end_of(task).status, POOL_ECRASH);
    pool_task_free(task);
    expect_map(&arrays);
    drop_arrays(&arrays);
    EXPECT_OK(pool_destroy(pool));
}

/* None can be made for a worker. */
static void without_fds_the_bytes_travel(void)
{
    struct pool *pool = make_pool(1);
    struct arrays arrays = make_shared_arrays(pool, COUNT);
    struct rlimit limit, none;
    EXPECT_OK(getrlimit(RLIMIT_NOFILE, &limit));
    none = limit;
    none.rlim_cur = 3;
    EXPECT_OK(setrlimit(RLIMIT_NOFILE, &none));
    uint64_t before = bytes_moved(pool);
    int rc = map_with(&arrays, add_one, NULL);
    EXPECT(!pool_buffer_alloc(pool, 100));
    EXPECT_OK(setrlimit(RLIMIT_NOFILE, &limit));
    EXPECT_OK(rc);
    EXPECT(bytes_moved(pool) - before > 2 * COUNT * sizeof(int));
    expect_all_added(&arrays);
    drop_arrays(&arrays);
    EXPECT_OK(pool_destroy(pool));
}

const struct conformance_case in_place_cases[] = {
    CASE(maps_work_in_place_or_not_wherever_arrays_lie),
    CASE(arrays_may_begin_anywhere_in_one_buffer),
    CASE(arrays_outlive_their_pool),
    CASE_THAT(KEEPS_POOL, arrays_of_the_default_pool_are_found_by_null),
    CASE(crash_spoils_its_own_result_alone),
    CASE(failures_are_told_one_by_one),
    CASE(map_that_stopped_writes_nothing_any_more),
    CASE(deadline_fails_its_own_item_alone),
    CASE(cancelled_map_is_left_alone_when_it_has_returned),
    CASE(replacement_is_given_what_the_one_before_had),
    CASE(without_fds_the_bytes_travel),
    {0},
};

/* conformance_transit: large maps whose arrays lie anywhere: these travel by memory that a worker shares with the host,
 * where there is such memory, and nobody can tell but by looking for it. */
#include "conformance_deeds.h"
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum { COUNT = 1000000, ODD_ONE = 777777 };

/* ---- what workers do ---- */

static int add_one_or_die(const void *item, void *result, void *state)
{
    add_one(item, result, state);
    if (*(const int *)item == ODD_ONE)
        raise(SIGKILL);
    return 0;
}

static int add_one_or_fail(const void *item, void *result, void *state)
{
    add_one(item, result, state);
    return *(const int *)item % 1000 == 777 ? 4 : 0;
}

static int hang_at_one(const void *item, void *result, void *state)
{
    while (*(const int *)item == ODD_ONE)
        pause();
    return add_one(item, result, state);
}

/* A copy of the worker has the item. */
static int ask_a_copy_at_one(const void *item, void *result, void *state)
{
    int status;
    pid_t pid = *(const int *)item == ODD_ONE ? fork() : 0;
    if (*(const int *)item == ODD_ONE && !pid)
        _exit(*(const int *)item % 100);
    if (pid && (pid < 0 || waitpid(pid, &status, 0) != pid || WEXITSTATUS(status) != ODD_ONE % 100))
        return 1;
    return add_one(item, result, state);
}

/* Only in 64 bytes of its own. */
static int fill_half(const void *item, void *result, void *state)
{
    (void)state;
    memset(result, *(const unsigned char *)item, 32);
    return 0;
}

static int nothing(const void *item, void *result, void *state)
{
    (void)item;
    (void)state;
    (void)result;
    return 0;
}

static int tell_mappings(struct pool_call *call)
{
    static char text[1 << 20];
    if (read_file("/proc/self/maps", text, sizeof text) < 0)
        return 1;
    return reply_number(call, count_text(text, "pool-transit"));
}

static int use_all_fds(struct pool_call *call)
{
    struct rlimit limit = {.rlim_cur = 3, .rlim_max = 3};
    (void)call;
    return setrlimit(RLIMIT_NOFILE, &limit) ? 1 : 0;
}

/* ---- in the host ---- */

struct arrays {
    int *items, *results, *status;
};

static struct arrays make_arrays(void)
{
    struct arrays arrays = {malloc(COUNT * sizeof(int)), calloc(COUNT, sizeof(int)), calloc(COUNT, sizeof(int))};
    EXPECT(arrays.items && arrays.results && arrays.status);
    for (int i = 0; i < COUNT; i++)
        arrays.items[i] = i;
    return arrays;
}

static void drop_arrays(struct arrays *arrays)
{
    free(arrays->items);
    free(arrays->results);
    free(arrays->status);
}

static int map(struct pool *pool, pool_map_fn *fn, const struct arrays *arrays, const struct pool_map_options *given)
{
    struct pool_map_options options = POOL_MAP_OPTIONS_INIT;
    if (given)
        options = *given;
    options.status_out = arrays->status;
    memset(arrays->results, 0, COUNT * sizeof(int));
    return pool_map_with(pool, fn, arrays->items, sizeof(int), arrays->results, sizeof(int), COUNT, &options);
}

/* All results but that of ODD_ONE are there; its status is this. */
static void expect_all_but_one(const struct arrays *arrays, int status)
{
    for (int i = 0; i < COUNT; i++) {
        EXPECT_INT(arrays->status[i], i == ODD_ONE ? status : 0);
        EXPECT(arrays->status[i] || arrays->results[i] == i + 1);
    }
}

static uint64_t number_from(struct pool *pool, pool_task_fn *fn)
{
    struct pool_task *task;
    EXPECT_OK(pool_submit(pool, fn, NULL, 0, NULL, &task));
    EXPECT_OK(end_of(task).status);
    uint64_t number = reply_of(task);
    pool_task_free(task);
    return number;
}

static void large_map_travels_by_memory_of_its_worker(void)
{
    struct pool *pool = make_pool(1);
    struct arrays arrays = make_arrays();
    struct pool_map_options options = POOL_MAP_OPTIONS_INIT;
    unsigned fds = open_fd_count();
    options.chunk_size = COUNT / 16; /* which is large, however long an item takes here */
    EXPECT_INT(number_from(pool, tell_mappings), 0);
    EXPECT_OK(pool_map(pool, add_one, arrays.items, sizeof(int), arrays.results, sizeof(int), 1000));
    EXPECT_INT(number_from(pool, tell_mappings), 0);
    for (int i = 0; i < 3; i++) {
        EXPECT_OK(map(pool, add_one, &arrays, &options));
        expect_all_but_one(&arrays, 0);
        EXPECT_INT(number_from(pool, tell_mappings),
                   2); /* the items, which copies have, and the results, which they have not */
    }
    EXPECT_INT(open_fd_count(), fds);
    drop_arrays(&arrays);
    EXPECT_OK(pool_destroy(pool));
}

static void what_travels_counts_wherever_it_does(void)
{
    struct pool *pool = make_pool(2);
    struct pool_stats stats = POOL_STATS_INIT;
    struct arrays arrays = make_arrays();
    EXPECT_OK(map(pool, add_one, &arrays, NULL));
    EXPECT_OK(pool_stats(pool, &stats));
    EXPECT(stats.bytes_out >= COUNT * sizeof(int) && stats.bytes_out < 2 * COUNT * sizeof(int));
    EXPECT(stats.bytes_in >= COUNT * sizeof(int) && stats.bytes_in < 2 * COUNT * sizeof(int));
    drop_arrays(&arrays);
    EXPECT_OK(pool_destroy(pool));
}

static void worker_that_cannot_map_is_sent_the_bytes(void)
{
    struct pool *pool = make_pool(1);
    struct pool_task *task;
    struct arrays arrays = make_arrays();
    EXPECT_OK(pool_submit(pool, use_all_fds, NULL, 0, NULL, &task));
    EXPECT_OK(end_of(task).status);
    pool_task_free(task);
    EXPECT_OK(map(pool, add_one, &arrays, NULL));
    expect_all_but_one(&arrays, 0);
    drop_arrays(&arrays);
    EXPECT_OK(pool_destroy(pool));
}

static void host_without_fds_sends_the_bytes(void)
{
    struct pool *pool = make_pool(1);
    struct arrays arrays = make_arrays();
    struct rlimit limit, none;
    EXPECT_OK(getrlimit(RLIMIT_NOFILE, &limit));
    none = limit;
    none.rlim_cur = 3;
    EXPECT_OK(setrlimit(RLIMIT_NOFILE, &none));
    int rc = map(pool, add_one, &arrays, NULL);
    EXPECT_OK(setrlimit(RLIMIT_NOFILE, &limit));
    EXPECT_OK(rc);
    expect_all_but_one(&arrays, 0);
    EXPECT_INT(number_from(pool, tell_mappings), 0);
    drop_arrays(&arrays);
    EXPECT_OK(pool_destroy(pool));
}

static void one_of_a_million_fails_alone(void)
{
    struct pool *pool = make_pool(2);
    struct arrays arrays = make_arrays();
    struct pool_map_options options = POOL_MAP_OPTIONS_INIT;
    for (int i = 0; i < 2; i++) {
        EXPECT_INT(map(pool, add_one_or_die, &arrays, NULL), POOL_ECRASH);
        expect_all_but_one(&arrays, POOL_ECRASH);
    }
    options.timeout_ms = 1000;
    EXPECT_INT(map(pool, hang_at_one, &arrays, &options), POOL_ETIMEOUT);
    expect_all_but_one(&arrays, POOL_ETIMEOUT);
    EXPECT_OK(map(pool, ask_a_copy_at_one, &arrays, NULL));
    expect_all_but_one(&arrays, 0);
    drop_arrays(&arrays);
    EXPECT_OK(pool_destroy(pool));
}

static void one_in_a_thousand_fails_alone(void)
{
    struct pool *pool = make_pool(2);
    struct arrays arrays = make_arrays();
    struct pool_map_options options = POOL_MAP_OPTIONS_INIT;
    EXPECT_INT(map(pool, add_one_or_fail, &arrays, NULL), POOL_ETASK);
    for (int i = 0; i < COUNT; i++) {
        EXPECT_INT(arrays.status[i], i % 1000 == 777 ? POOL_ETASK : 0);
        EXPECT(arrays.status[i] || arrays.results[i] == i + 1);
    }
    options.stop_on_error = 1;
    EXPECT_INT(map(pool, add_one_or_fail, &arrays, &options), POOL_ETASK);
    for (int i = 0; i < COUNT; i++)
        EXPECT(arrays.status[i] ? arrays.status[i] == POOL_ECANCELED || i % 1000 == 777 : arrays.results[i] == i + 1);
    drop_arrays(&arrays);
    EXPECT_OK(pool_destroy(pool));
}

static void workers_that_are_worn_out_are_followed_by_others(void)
{
    struct pool_options options = method_options(2);
    options.max_tasks_per_worker = 150000;
    struct pool *pool = make_pool_with(&options);
    struct arrays arrays = make_arrays();
    for (int i = 0; i < 3; i++) {
        EXPECT_OK(map(pool, add_one, &arrays, NULL));
        expect_all_but_one(&arrays, 0);
    }
    drop_arrays(&arrays);
    EXPECT_OK(pool_destroy(pool));
}

/* The other one lies in a shared buffer, or there is none. */
static void one_array_may_travel_alone(void)
{
    struct pool *pool = make_pool(2);
    struct arrays arrays = make_arrays();
    int *shared = pool_buffer_alloc(pool, COUNT * sizeof(int));
    EXPECT(shared);
    EXPECT_OK(pool_map(pool, nothing, arrays.items, sizeof(int), NULL, 0, COUNT));
    for (int i = 0; i < 2; i++) {
        EXPECT_OK(pool_map(pool, add_one, arrays.items, sizeof(int), shared, sizeof(int), COUNT));
        EXPECT_OK(pool_map(pool, add_one, shared, sizeof(int), arrays.results, sizeof(int), COUNT));
        for (int k = 0; k < COUNT; k++)
            EXPECT(shared[k] == k + 1 && arrays.results[k] == k + 2);
        memset(shared, 0, COUNT * sizeof(int));
    }
    EXPECT_OK(pool_buffer_free(pool, shared));
    drop_arrays(&arrays);
    EXPECT_OK(pool_destroy(pool));
}

static void what_is_too_large_for_the_memory_has_large_pipes(void)
{
    enum { BYTES = 5 << 20, SIZE = 64 };
    struct pool *pool = make_pool(1);
    unsigned char *items = malloc(BYTES), *results = malloc(BYTES);
    struct pool_map_options options = POOL_MAP_OPTIONS_INIT;
    options.chunk_size = BYTES / SIZE;
    bool can = pipes_can_be_enlarged();
    EXPECT(items && results);
    for (size_t i = 0; i < BYTES; i++)
        items[i] = (unsigned char)(i / SIZE);
    EXPECT_OK(pool_map_with(pool, fill_half, items, SIZE, results, SIZE, BYTES / SIZE, &options));
    for (size_t i = 0; i < BYTES; i += SIZE)
        EXPECT(results[i] == items[i] && results[i + 31] == items[i]);
    EXPECT(!can || largest_pipe() >= 1 << 20);
    EXPECT_INT(number_from(pool, tell_mappings), 0);
    free(items);
    free(results);
    EXPECT_OK(pool_destroy(pool));
}

/* Large and small items and results, in chunks that fit and that do not. */
static void sizes_need_not_be_alike(void)
{
    enum { BYTES = 4 << 20 };
    static const size_t sizes[][2] = {{64, 64}, {4096, 64}, {1, 64}, {300000, 100}, {700000, 32}};
    struct pool *pool = make_pool(2);
    unsigned char *items = malloc(BYTES), *results = malloc((size_t)BYTES * 64);
    EXPECT(items && results);
    for (size_t i = 0; i < BYTES; i++)
        items[i] = (unsigned char)(i * 31 + i / 4096);
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
        size_t item_size = sizes[k][0], result_size = sizes[k][1], count = BYTES / item_size;
        EXPECT_OK(pool_map(pool, fill_half, items, item_size, results, result_size, count));
        for (size_t i = 0; i < count; i++)
            EXPECT(results[i * result_size] == items[i * item_size] &&
                   results[i * result_size + 31] == items[i * item_size]);
    }
    free(items);
    free(results);
    EXPECT_OK(pool_destroy(pool));
}

const struct conformance_case transit_cases[] = {
    CASE(large_map_travels_by_memory_of_its_worker),
    CASE(what_travels_counts_wherever_it_does),
    CASE(worker_that_cannot_map_is_sent_the_bytes),
    CASE(host_without_fds_sends_the_bytes),
    CASE(one_of_a_million_fails_alone),
    CASE(one_in_a_thousand_fails_alone),
    CASE(workers_that_are_worn_out_are_followed_by_others),
    CASE(one_array_may_travel_alone),
    CASE(what_is_too_large_for_the_memory_has_large_pipes),
    CASE(sizes_need_not_be_alike),
    {0},
};

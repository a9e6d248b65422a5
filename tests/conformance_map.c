/* conformance_map: maps over items of fixed size: what comes back for what goes in. */
#include "conformance.h"
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* ---- every byte of an item, and its index, decide every byte of the result ---- */

struct shape {
    size_t item_size, result_size, count, chunk_size;
};

static int take_shape(const void *arg, size_t arg_size, void **state_out)
{
    static struct shape shape;
    if (arg_size != sizeof shape)
        return -1;
    memcpy(&shape, arg, sizeof shape);
    *state_out = &shape;
    return 0;
}

static uint64_t digest(const unsigned char *bytes, size_t size, uint64_t seed)
{
    uint64_t sum = seed * UINT64_C(0x9e3779b97f4a7c15) + size, word;
    for (; size >= sizeof word; bytes += sizeof word, size -= sizeof word) {
        memcpy(&word, bytes, sizeof word);
        sum = (sum ^ word) * UINT64_C(0xff51afd7ed558ccd);
        sum ^= sum >> 29;
    }
    for (; size; bytes++, size--)
        sum = (sum ^ *bytes) * UINT64_C(0x100000001b3);
    return sum ^ sum >> 32;
}

static void spread(uint64_t sum, unsigned char *bytes_out, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        bytes_out[i] = (unsigned char)(sum >> 56);
        sum = sum * UINT64_C(6364136223846793005) + 1442695040888963407u;
    }
}

static int transform(const void *item, void *result, void *state)
{
    const struct shape *shape = state;
    spread(digest(item, shape->item_size, pool_item_index()), result, shape->result_size);
    return 0;
}

static void map_shape(const struct shape *shape)
{
    struct pool_options options = method_options(2);
    struct pool_map_options map = POOL_MAP_OPTIONS_INIT;
    unsigned char *items = malloc(shape->count * shape->item_size),
                  *results = malloc(shape->count * shape->result_size);
    unsigned char *expected = malloc(shape->result_size);
    EXPECT(items && results && expected);
    spread(shape->item_size, items, shape->count * shape->item_size);
    options.initializer = take_shape;
    options.arg = shape;
    options.arg_size = sizeof *shape;
    map.chunk_size = shape->chunk_size;
    struct pool *pool = make_pool_with(&options);
    EXPECT_OK(pool_map_with(pool, transform, items, shape->item_size, results, shape->result_size, shape->count, &map));
    for (size_t i = 0; i < shape->count; i++) {
        spread(digest(items + i * shape->item_size, shape->item_size, i), expected, shape->result_size);
        if (memcmp(results + i * shape->result_size, expected, shape->result_size))
            expectation_failed(__FILE__, __LINE__, "result %zu of %zu is wrong (items of %zu, results of %zu bytes)", i,
                               shape->count, shape->item_size, shape->result_size);
    }
    pool_destroy(pool);
    free(expected);
    free(results);
    free(items);
}

static void maps_items_of_one_byte_to_one_mebibyte(void)
{
    static const struct shape shapes[] = {{1, 1, 100003, 0},      {1, 8, 30011, 0},           {3, 5, 10007, 0},
                                          {7, 1, 1, 0},           {13, 17, 4099, 1},          {64, 64, 5000, 100},
                                          {5, 4099, 3001, 0},     {4097, 3, 3001, 0},         {4096, 4096, 1025, 0},
                                          {65535, 65537, 130, 0}, {1 << 20, 1 << 20, 9, 0},   {1 << 20, 1, 33, 0},
                                          {1, 1 << 20, 33, 0},    {1 << 20, 1 << 20, 16, 16}, {16, 16, 20001, 20001},
                                          {9, 11, 2, SIZE_MAX},   {(1 << 20) - 1, 7, 5, 2}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        map_shape(&shapes[i]);
}

static void maps_a_million_items(void)
{
    map_shape(&(struct shape){1, 1, 1000000, 0});
    map_shape(&(struct shape){8, 8, 1000000, 0});
}

/* ---- simple items ---- */

static int negate(const void *item, void *result, void *state)
{
    (void)state;
    *(int *)result = -*(const int *)item;
    return 0;
}

static void map_of_no_items_does_nothing(void)
{
    struct pool *pool = make_pool(1);
    struct pool_map_options options = POOL_MAP_OPTIONS_INIT;
    int item = 7, result = 8, status = 9, code = 10;
    options.status_out = &status;
    options.code_out = &code;
    EXPECT_OK(pool_map(pool, negate, &item, sizeof item, &result, sizeof result, 0));
    EXPECT_OK(pool_map_with(pool, negate, &item, sizeof item, &result, sizeof result, 0, &options));
    EXPECT_OK(pool_map(pool, negate, NULL, sizeof item, NULL, sizeof result, 0)); /* where an empty array is NULL */
    EXPECT(item == 7 && result == 8 && status == 9 && code == 10);
    pool_destroy(pool);
}

static int fail_if_odd(const void *item, void *result, void *state)
{
    (void)result;
    mark_item(state);
    return *(const int *)item % 2 ? *(const int *)item : 0;
}

static void map_without_results_is_run_for_its_statuses(void)
{
    struct board *board = make_board();
    struct pool_options options = board_options(2);
    struct pool *pool = make_pool_with(&options);
    struct pool_map_options map = POOL_MAP_OPTIONS_INIT;
    enum { COUNT = 501 };
    int items[COUNT], status[COUNT], code[COUNT];
    for (int i = 0; i < COUNT; i++)
        items[i] = i;
    map.status_out = status;
    map.code_out = code;
    EXPECT_INT(pool_map_with(pool, fail_if_odd, items, sizeof *items, NULL, 0, COUNT, &map), POOL_ETASK);
    for (int i = 0; i < COUNT; i++) {
        EXPECT_INT(status[i], i % 2 ? POOL_ETASK : 0);
        EXPECT_INT(code[i], i % 2 ? i : 0);
        EXPECT_INT(board->runs[i], 1);
    }
    EXPECT_INT(pool_map(pool, fail_if_odd, items, sizeof *items, NULL, 0, COUNT), POOL_ETASK);
    EXPECT_OK(pool_map(pool, fail_if_odd, items, sizeof *items, NULL, 0, 1));
    pool_destroy(pool);
}

static int return_item(const void *item, void *result, void *state)
{
    (void)result, (void)state;
    return *(const int *)item;
}

static void any_code_but_zero_is_an_error_of_the_item(void)
{
    struct pool *pool = make_pool(2);
    struct pool_map_options map = POOL_MAP_OPTIONS_INIT;
    int items[] = {0, 1, -1, INT_MAX, INT_MIN, -5, POOL_ECRASH, 0}, status[8], code[8];
    map.status_out = status;
    map.code_out = code;
    EXPECT_INT(pool_map_with(pool, return_item, items, sizeof *items, NULL, 0, 8, &map), POOL_ETASK);
    for (int i = 0; i < 8; i++) {
        EXPECT_INT(code[i], items[i]);
        EXPECT_INT(status[i], items[i] ? POOL_ETASK : 0);
    }
    pool_destroy(pool);
}

/* Items: 0 succeeds, 1 returns an error, 2 crashes. */
static int do_as_told(const void *item, void *result, void *state)
{
    (void)result, (void)state;
    if (*(const int *)item == 2)
        abort();
    return *(const int *)item;
}

static void map_returns_the_error_of_the_lowest_item(void)
{
    struct pool *pool = make_pool(2);
    int items[300] = {0};
    items[17] = 1, items[203] = 2;
    EXPECT_INT(pool_map(pool, do_as_told, items, sizeof *items, NULL, 0, 300), POOL_ETASK);
    EXPECT_TEXT(pool_message(), "17");
    items[17] = 2, items[203] = 1;
    EXPECT_INT(pool_map(pool, do_as_told, items, sizeof *items, NULL, 0, 300), POOL_ECRASH);
    EXPECT_TEXT(pool_message(), "17");
    items[17] = 0;
    EXPECT_INT(pool_map(pool, do_as_told, items, sizeof *items, NULL, 0, 300), POOL_ETASK);
    EXPECT_TEXT(pool_message(), "203");
    pool_destroy(pool);
}

/* ---- where things lie, and who runs them ---- */

static int misalignment(const void *item, void *result, void *state)
{
    (void)state;
    *(unsigned char *)result = 0;
    return (int)(((uintptr_t)item | (uintptr_t)result) & 63);
}

static void arrays_in_the_worker_start_aligned_to_64(void)
{
    static const size_t sizes[] = {1, 3, 17, 64, 100, 4096, 70001};
    struct pool *pool = make_pool(2);
    struct pool_map_options map = POOL_MAP_OPTIONS_INIT;
    unsigned char *items = calloc(40, 70001), *results = calloc(40, 70001);
    map.chunk_size = 1; /* so that every item starts an array */
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        EXPECT_OK(pool_map_with(pool, misalignment, items, sizes[i], results, sizes[i], 40, &map));
    /* and in the middle of larger chunks, where the size keeps the alignment */
    EXPECT_OK(pool_map(pool, misalignment, items, 64, results, 64, 40000));
    free(items);
    free(results);
    pool_destroy(pool);
}

struct whereabouts {
    uint64_t index;
    unsigned worker;
    pid_t pid;
};

static int tell_whereabouts(const void *item, void *result, void *state)
{
    (void)item, (void)state;
    *(struct whereabouts *)result = (struct whereabouts){pool_item_index(), pool_worker_id(), getpid()};
    return 0;
}

static void items_know_their_index_and_worker(void)
{
    enum { COUNT = 20000, WORKERS = 3 };
    struct pool *pool = make_pool(WORKERS);
    static struct whereabouts results[COUNT];
    static char items[COUNT];
    pid_t pids[WORKERS] = {0};
    EXPECT_OK(pool_map(pool, tell_whereabouts, items, 1, results, sizeof *results, COUNT));
    for (size_t i = 0; i < COUNT; i++) {
        EXPECT_INT(results[i].index, i);
        EXPECT(results[i].worker < WORKERS);
        EXPECT(results[i].pid != getpid());
        if (pids[results[i].worker])
            EXPECT_INT(results[i].pid, pids[results[i].worker]);
        pids[results[i].worker] = results[i].pid;
    }
    EXPECT(pool_worker_id() == POOL_NOT_A_WORKER);
    EXPECT_INT(pool_item_index(), 0);
    pool_destroy(pool);
}

static void chunk_size_is_how_many_items_stay_together(void)
{
    enum { COUNT = 3000, CHUNK = 7 };
    struct pool *pool = make_pool(2);
    struct pool_map_options map = POOL_MAP_OPTIONS_INIT;
    static struct whereabouts results[COUNT];
    static char items[COUNT];
    map.chunk_size = CHUNK;
    EXPECT_OK(pool_map_with(pool, tell_whereabouts, items, 1, results, sizeof *results, COUNT, &map));
    for (size_t i = 1; i < COUNT; i++)
        if (results[i].pid != results[i - 1].pid)
            EXPECT_INT(i % CHUNK, 0);
    pool_destroy(pool);
}

/* Ends only when `state`'s first counter has come to the number of items: all must be under way at once. */
static int meet_the_others(const void *item, void *result, void *state)
{
    struct board *board = state;
    mark_item(board);
    *(unsigned *)result = pool_worker_id();
    board->counters[0]++;
    return !await_counter(board, 0, *(const uint64_t *)item);
}

static void items_run_in_all_workers_at_the_same_time(void)
{
    enum { WORKERS = 4 };
    make_board();
    struct pool_options options = board_options(WORKERS);
    struct pool *pool = make_pool_with(&options);
    uint64_t items[WORKERS] = {WORKERS, WORKERS, WORKERS, WORKERS};
    unsigned results[WORKERS], seen = 0;
    EXPECT_OK(pool_map(pool, meet_the_others, items, sizeof *items, results, sizeof *results, WORKERS));
    for (int i = 0; i < WORKERS; i++)
        seen |= 1u << results[i];
    EXPECT_INT(seen, (1u << WORKERS) - 1);
    pool_destroy(pool);
}

static int write_to_item(const void *item, void *result, void *state)
{
    (void)state;
    memcpy(result, item, sizeof(int));
    *(int *)(uintptr_t)item = 0; /* a copy of the worker's own, whatever it does to it */
    return 0;
}

static void items_of_the_host_are_only_read(void)
{
    struct pool *pool = make_pool(2);
    int *items = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    static int results[(1 << 20) / sizeof(int)];
    for (int i = 0; i < (1 << 20) / (int)sizeof(int); i++)
        items[i] = i;
    EXPECT_OK(mprotect(items, 1 << 20, PROT_READ));
    EXPECT_OK(pool_map(pool, write_to_item, items, sizeof *items, results, sizeof *results, (1 << 20) / sizeof(int)));
    EXPECT(!memcmp(items, results, 1 << 20));
    munmap(items, 1 << 20);
    pool_destroy(pool);
}

static int work_unevenly(const void *item, void *result, void *state)
{
    (void)state;
    volatile uint64_t spin = 0;
    for (uint64_t rounds = *(const uint64_t *)item; spin < rounds;)
        spin++;
    *(uint64_t *)result = spin;
    return 0;
}

static void uneven_items_all_come_back(void)
{
    enum { COUNT = 20000 };
    struct pool *pool = make_pool(3);
    static uint64_t items[COUNT], results[COUNT];
    for (uint64_t i = 0; i < COUNT; i++)
        items[i] = i % 5003 ? i % 50 : UINT64_C(20000000);
    EXPECT_OK(pool_map(pool, work_unevenly, items, sizeof *items, results, sizeof *results, COUNT));
    EXPECT(!memcmp(items, results, sizeof items));
    pool_destroy(pool);
}

/* ---- threads ---- */

enum { THREADS = 8, ROUNDS = 20 };

static void *map_again_and_again(void *pool)
{
    int items[777], results[777];
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < 777; i++)
            items[i] = (int)(uintptr_t)&items % 4096 + round * 1000 + i;
        EXPECT_OK(pool_map(pool, negate, items, sizeof *items, results, sizeof *results, 777));
        for (int i = 0; i < 777; i++)
            EXPECT_INT(results[i], -items[i]);
    }
    return NULL;
}

static void many_threads_map_on_one_pool(void)
{
    struct pool *pool = make_pool(2);
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        EXPECT_OK(pthread_create(&threads[i], NULL, map_again_and_again, pool));
    for (int i = 0; i < THREADS; i++)
        EXPECT_OK(pthread_join(threads[i], NULL));
    pool_destroy(pool);
}

/* The cancellation is never let happen: sanitizers do not like threads that end in the middle of a function. */
static void *map_with_a_pending_cancel(void *pool)
{
    int item = 5, result = 0, state;
    pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, NULL);
    pthread_cancel(pthread_self()); /* would act at the first cancellation point */
    EXPECT_OK(pool_map(pool, negate, &item, sizeof item, &result, sizeof result, 1));
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
    EXPECT_INT(state, PTHREAD_CANCEL_ENABLE);
    return result == -5 ? pool : NULL;
}

static void map_is_no_cancellation_point(void)
{
    struct pool *pool = make_pool(1);
    pthread_t thread;
    void *outcome;
    EXPECT_OK(pthread_create(&thread, NULL, map_with_a_pending_cancel, pool));
    EXPECT_OK(pthread_join(thread, &outcome));
    EXPECT(outcome == pool);
    pool_destroy(pool);
}

/* ---- refusals ---- */

static void malformed_calls_are_refused(void)
{
    struct pool *pool = make_pool(1);
    int item = 1, result = 2;
    EXPECT_INT(pool_map(pool, NULL, &item, sizeof item, &result, sizeof result, 1), -EINVAL);
    EXPECT_TEXT(pool_message(), "fn");
    EXPECT_INT(pool_map(pool, negate, NULL, sizeof item, &result, sizeof result, 1), -EINVAL);
    EXPECT_INT(pool_map(pool, negate, &item, 0, &result, sizeof result, 1), -EINVAL);
    EXPECT_INT(pool_map(pool, negate, &item, sizeof item, NULL, sizeof result, 1), -EINVAL);
    EXPECT(*pool_message());
    EXPECT_INT(pool_map(pool, negate, &item, SIZE_MAX / 2, &result, sizeof result, 3), -EOVERFLOW);
    EXPECT_INT(pool_map(pool, negate, &item, sizeof item, &result, SIZE_MAX / 2, 3), -EOVERFLOW);
    EXPECT_INT(pool_map(pool, negate, &item, sizeof item, &result, sizeof result, SIZE_MAX), -EOVERFLOW);
    EXPECT_INT(result, 2);
    EXPECT_OK(pool_map(pool, negate, &item, sizeof item, &result, sizeof result, 1));
    EXPECT_INT(result, -1);
    pool_destroy(pool);
}

static void map_options_may_be_shorter_or_longer(void)
{
    struct pool *pool = make_pool(1);
    struct {
        struct pool_map_options known;
        char unknown[256];
    } options = {.known = POOL_MAP_OPTIONS_INIT};
    int item = 1, result = 0, status = 77, code = 77;
    options.known.size = 0;
    EXPECT_INT(pool_map_with(pool, negate, &item, 4, &result, 4, 1, &options.known), -EINVAL);
    options.known.size = 4097;
    EXPECT_INT(pool_map_with(pool, negate, &item, 4, &result, 4, 1, &options.known), -EINVAL);
    options.known.size = sizeof options;
    EXPECT_OK(pool_map_with(pool, negate, &item, 4, &result, 4, 1, &options.known));
    options.unknown[255] = 1;
    EXPECT_INT(pool_map_with(pool, negate, &item, 4, &result, 4, 1, &options.known), -E2BIG);
    EXPECT(*pool_message());
    /* an older caller's struct ends before code_out: what lies behind it is not read */
    options.known.size = offsetof(struct pool_map_options, code_out);
    options.known.status_out = &status;
    options.known.code_out = &code;
    EXPECT_OK(pool_map_with(pool, negate, &item, 4, &result, 4, 1, &options.known));
    EXPECT(status == 0 && code == 77);
    options.known = (struct pool_map_options)POOL_MAP_OPTIONS_INIT;
    options.known.reserved = 1;
    EXPECT_INT(pool_map_with(pool, negate, &item, 4, &result, 4, 1, &options.known), -EINVAL);
    options.known.reserved = 0;
    options.known.timeout_ms = -1;
    EXPECT_INT(pool_map_with(pool, negate, &item, 4, &result, 4, 1, &options.known), -EINVAL);
    pool_destroy(pool);
}

static void null_pool_is_the_default_pool(void)
{
    enum { COUNT = 1000 };
    static struct whereabouts results[COUNT];
    char items[COUNT] = {0};
    setenv("POOL_WORKERS", "2", 1);
    EXPECT_OK(pool_map(NULL, tell_whereabouts, items, 1, results, sizeof *results, COUNT));
    EXPECT(results[0].pid != getpid() && results[0].worker < 2);
    struct pool *pool = pool_default();
    EXPECT(pool && pool == pool_default());
    EXPECT_OK(pool_map(pool, tell_whereabouts, items, 1, results, sizeof *results, COUNT));
    struct pool_bytes payload = {NULL, 0};
    EXPECT_INT(pool_map_bytes(NULL, NULL, &payload, 1, NULL, NULL), -EINVAL);
}

const struct conformance_case map_cases[] = {
    CASE(maps_items_of_one_byte_to_one_mebibyte),
    CASE(maps_a_million_items),
    CASE(map_of_no_items_does_nothing),
    CASE(map_without_results_is_run_for_its_statuses),
    CASE(any_code_but_zero_is_an_error_of_the_item),
    CASE(map_returns_the_error_of_the_lowest_item),
    CASE(arrays_in_the_worker_start_aligned_to_64),
    CASE(items_know_their_index_and_worker),
    CASE(chunk_size_is_how_many_items_stay_together),
    CASE(items_run_in_all_workers_at_the_same_time),
    CASE(items_of_the_host_are_only_read),
    CASE(uneven_items_all_come_back),
    CASE(many_threads_map_on_one_pool),
    CASE(map_is_no_cancellation_point),
    CASE(malformed_calls_are_refused),
    CASE(map_options_may_be_shorter_or_longer),
    CASE_THAT(KEEPS_POOL, null_pool_is_the_default_pool),
    {0},
};

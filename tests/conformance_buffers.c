/* conformance_buffers: memory that the caller shares with workers: what lies in it is not copied, and everything else
 * is as without it.
 *
 * That nothing is copied shows in the bytes that go through pipes, and in what a worker sees of memory that is written
 * while it looks. */
#include "conformance_deeds.h"
#include <errno.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum { COUNT = 5000, GATE = 1, UNDER_WAY };

/* ---- what workers do ---- */

static int sum(struct pool_call *call)
{
    size_t size;
    const unsigned char *input = pool_call_input(call, &size);
    uint64_t total = 0;
    for (size_t i = 0; i < size; i++)
        total += input[i];
    return reply_number(call, total);
}

static int wait_at_gate_and_sum(struct pool_call *call)
{
    struct board *board = pool_call_state(call);
    board->counters[UNDER_WAY]++;
    return await_counter(board, GATE, 1) ? sum(call) : 1;
}

static int write_to_input(struct pool_call *call)
{
    *(volatile char *)(uintptr_t)pool_call_input(call, NULL) = 1;
    return 0;
}

static int tell_mappings(struct pool_call *call)
{
    static char text[1 << 20];
    if (read_file("/proc/self/maps", text, sizeof text) < 0)
        return 1;
    return reply_number(call, count_text(text, "pool-buffer"));
}

static int use_all_fds(struct pool_call *call)
{
    struct rlimit limit = {.rlim_cur = 3, .rlim_max = 3};
    (void)call;
    return setrlimit(RLIMIT_NOFILE, &limit) ? errno : 0;
}

/* ---- in the host ---- */

static uint64_t bytes_moved(struct pool *pool)
{
    struct pool_stats stats = POOL_STATS_INIT;
    EXPECT_OK(pool_stats(pool, &stats));
    return stats.bytes_out + stats.bytes_in;
}

static uint64_t number_from(struct pool *pool, pool_task_fn *fn, const void *input, size_t size)
{
    struct pool_task *task;
    EXPECT_OK(pool_submit(pool, fn, input, size, NULL, &task));
    EXPECT_OK(end_of(task).status);
    uint64_t number = reply_of(task);
    pool_task_free(task);
    return number;
}

/* ---- the memory ---- */

static void buffer_is_zero_and_begins_at_a_page(void)
{
    struct pool *pool = make_pool(1);
    for (size_t size = 1; size < 100000; size = size * 3 + 1) {
        unsigned char *data = pool_buffer_alloc(pool, size);
        EXPECT(data && !((uintptr_t)data % (uintptr_t)sysconf(_SC_PAGESIZE)));
        for (size_t i = 0; i < size; i++)
            EXPECT(!data[i]);
        memset(data, 1, size);
        EXPECT_OK(pool_buffer_free(pool, data));
    }
    EXPECT_OK(pool_destroy(pool));
}

static void what_is_no_buffer_is_refused(void)
{
    struct pool *pool = make_pool(1), *other = make_pool(1);
    char *data = pool_buffer_alloc(pool, 1 << 16);
    EXPECT(data && !pool_buffer_alloc(pool, 0));
    EXPECT_TEXT(pool_message(), "size is 0");
    EXPECT(!pool_buffer_alloc(pool, SIZE_MAX / 2));
    EXPECT_INT(pool_buffer_free(pool, data + 1), -EINVAL);
    EXPECT_INT(pool_buffer_free(pool, &pool), -EINVAL);
    EXPECT_INT(pool_buffer_free(other, data), -EINVAL);
    EXPECT_TEXT(pool_message(), "no buffer of this pool");
    EXPECT_INT(pool_buffer_free(NULL, data), -EINVAL);
    EXPECT_OK(pool_buffer_free(pool, NULL));
    EXPECT_OK(pool_buffer_free(pool, data));
    EXPECT_INT(pool_buffer_free(pool, data), -EINVAL);
    EXPECT_OK(pool_destroy(pool));
    EXPECT_OK(pool_destroy(other));
}

/* Its copy of the pool goes all the same, though it cannot free the buffers before. */
static int destroy_copy(void *arg)
{
    enum { POOL_BYTES = 1024 };
    size_t before = heap_bytes_in_use();
    int rc = pool_destroy(arg);
    return rc ? rc : before && !is_sanitized() && heap_bytes_in_use() + POOL_BYTES > before;
}

static int have_none_of_it(void *arg)
{
    struct pool *pool = arg;
    return pool_buffer_free(pool, pool) == POOL_EFORKED && !pool_buffer_alloc(pool, 10) && !pool_destroy(pool) &&
                   pool_buffer_free(NULL, pool) == -EINVAL && child_count() == 0
               ? 0
               : 1;
}

static void forked_child_has_none_of_it(void)
{
    struct pool *pool = make_pool(1);
    void *data = pool_buffer_alloc(pool, 100);
    in_another_process(have_none_of_it, pool);
    in_another_process(destroy_copy, pool);
    EXPECT_OK(pool_buffer_free(pool, data));
    EXPECT_OK(pool_destroy(pool));
}

/* ---- what goes by reference ---- */

static void array_that_reaches_beyond_its_buffer_is_copied(void)
{
    struct pool *pool = make_pool(1);
    size_t size = (size_t)sysconf(_SC_PAGESIZE) * 4;
    char *data = pool_buffer_alloc(pool, size - 1);
    memset(data, 2, size - 1);
    EXPECT_INT(number_from(pool, sum, data, size),
               2 * (size - 1)); /* the page's last byte is there, but not the buffer's */
    EXPECT_INT(number_from(pool, sum, data + 10, size - 11), 2 * (size - 11));
    EXPECT_OK(pool_buffer_free(pool, data));
    EXPECT_OK(pool_destroy(pool));
}

static void task_sees_its_input_where_the_caller_has_it(void)
{
    struct board *board = make_board();
    struct pool_options options = board_options(1);
    struct pool_task *task;
    struct pool *pool = make_pool_with(&options);
    unsigned char *data = pool_buffer_alloc(pool, 1 << 20);
    uint64_t before = bytes_moved(pool);
    EXPECT_OK(pool_submit(pool, wait_at_gate_and_sum, data, 1 << 20, NULL, &task));
    EXPECT(await_counter(board, UNDER_WAY, 1));
    memset(data, 1, 1 << 20); /* against the contract, to see that nothing was copied */
    board->counters[GATE] = 1;
    EXPECT_OK(end_of(task).status);
    EXPECT_INT(reply_of(task), 1 << 20);
    EXPECT(bytes_moved(pool) - before < 1 << 16);
    pool_task_free(task);
    EXPECT_OK(pool_buffer_free(pool, data));
    EXPECT_OK(pool_destroy(pool));
}

static void payloads_may_lie_in_buffers_and_elsewhere_and_be_empty(void)
{
    enum { ITEMS = 300 };
    struct pool *pool = make_pool(2);
    unsigned char *buffers[3], plain[64];
    struct pool_bytes items[ITEMS], results[ITEMS];
    memset(plain, 3, sizeof plain);
    for (unsigned i = 0; i < 3; i++)
        memset(buffers[i] = pool_buffer_alloc(pool, 1 << 16), (int)i + 1, 1 << 16);
    for (unsigned i = 0; i < ITEMS; i++)
        items[i] = i % 4 == 3 ? (struct pool_bytes){plain, i % 64} : (struct pool_bytes){buffers[i % 4] + i, i * 100};
    EXPECT_OK(pool_map_bytes(pool, sum, items, ITEMS, results, NULL));
    for (unsigned i = 0; i < ITEMS; i++) {
        uint64_t total;
        EXPECT_INT(results[i].size, sizeof total);
        memcpy(&total, results[i].data, sizeof total);
        EXPECT_INT(total, i % 4 == 3 ? i % 64 * 3 : (i % 4 + 1) * i * 100);
        pool_bytes_clear(&results[i]);
    }
    for (unsigned i = 0; i < 3; i++)
        EXPECT_OK(pool_buffer_free(pool, buffers[i]));
    EXPECT_OK(pool_destroy(pool));
}

static void input_in_a_buffer_is_for_reading_alone(void)
{
    struct pool *pool = make_pool(1);
    struct pool_task *task;
    char *data = pool_buffer_alloc(pool, 4096);
    EXPECT_OK(pool_submit(pool, write_to_input, data, 4096, NULL, &task));
    EXPECT_INT(end_of(task).status, POOL_ECRASH);
    EXPECT(!*data);
    pool_task_free(task);
    EXPECT_OK(pool_buffer_free(pool, data));
    EXPECT_OK(pool_destroy(pool));
}

static void inputs_in_buffers_do_not_count_for_the_bytes_in_flight(void)
{
    make_board();
    struct pool_options options = board_options(1);
    struct pool_task_options no_wait = POOL_TASK_OPTIONS_INIT;
    struct pool_task *tasks[10];
    no_wait.no_wait = 1;
    options.max_bytes_in_flight = 1 << 20;
    struct pool *pool = make_pool_with(&options);
    char *data = pool_buffer_alloc(pool, 1 << 20);
    for (unsigned i = 0; i < 10; i++)
        EXPECT_OK(pool_submit(pool, sum, data, 1 << 20, &no_wait, &tasks[i]));
    for (unsigned i = 0; i < 10; i++)
        EXPECT_OK(end_of(tasks[i]).status);
    free_tasks(tasks, 10);
    EXPECT_OK(pool_buffer_free(pool, data));
    EXPECT_OK(pool_destroy(pool));
}

/* ---- what goes wrong ---- */

static void buffer_that_is_freed_stays_with_what_is_under_way(void)
{
    struct board *board = make_board();
    struct pool_options options = board_options(1);
    struct pool_task *task, *cancelled;
    struct pool *pool = make_pool_with(&options);
    unsigned fds = open_fd_count();
    unsigned char *data = pool_buffer_alloc(pool, 1 << 20);
    memset(data, 1, 1 << 20);
    EXPECT_OK(pool_submit(pool, wait_at_gate_and_sum, data, 1 << 20, NULL, &task));
    EXPECT_OK(pool_submit(pool, sum, data, 1 << 19, NULL, &cancelled));
    EXPECT(await_counter(board, UNDER_WAY, 1));
    EXPECT_OK(pool_buffer_free(pool, data));
    EXPECT_INT(open_fd_count(), fds + 1);
    EXPECT_OK(pool_cancel(cancelled));
    board->counters[GATE] = 1;
    EXPECT_OK(end_of(task).status);
    EXPECT_INT(reply_of(task), 1 << 20);
    EXPECT_INT(open_fd_count(), fds);
    pool_task_free(task);
    pool_task_free(cancelled);
    EXPECT_INT(number_from(pool, tell_mappings, NULL, 0), 0);
    EXPECT_OK(pool_destroy(pool));
}

static void thousand_buffers_leave_nothing_behind(void)
{
    struct pool *pool = make_pool(1);
    unsigned fds = open_fd_count();
    for (unsigned i = 0; i < 1000; i++) {
        unsigned char *data = pool_buffer_alloc(pool, 10000);
        data[i] = 7;
        EXPECT_INT(number_from(pool, sum, data, 10000), 7);
        EXPECT_OK(pool_buffer_free(pool, data));
    }
    EXPECT_INT(open_fd_count(), fds);
    EXPECT_INT(number_from(pool, tell_mappings, NULL, 0), 0);
    EXPECT_OK(pool_destroy(pool));
}

static void many_buffers_at_once_are_told_apart(void)
{
    enum { MANY = 200 };
    struct pool *pool = make_pool(2);
    unsigned char *buffers[MANY];
    for (unsigned i = 0; i < MANY; i++)
        buffers[i] = pool_buffer_alloc(pool, 5000);
    for (unsigned i = 0; i < MANY; i++)
        buffers[i][i] = (unsigned char)(i + 1);
    for (unsigned round = 0; round < 2; round++)
        for (unsigned i = 0; i < MANY; i++)
            if (buffers[i])
                EXPECT_INT(number_from(pool, sum, buffers[i] + i / 2, 2000), (i + 1) % 256);
    for (unsigned i = 0; i < MANY; i++)
        EXPECT_OK(pool_buffer_free(pool, buffers[i * 7 % MANY]));
    EXPECT_OK(pool_destroy(pool));
}

static void worker_without_fds_fails_what_lies_in_a_buffer(void)
{
    struct pool *pool = make_pool(1);
    struct pool_task *task;
    char *data = pool_buffer_alloc(pool, 1 << 16), plain[100] = {1};
    EXPECT_OK(pool_submit(pool, use_all_fds, NULL, 0, NULL, &task));
    EXPECT_OK(end_of(task).status);
    pool_task_free(task);
    EXPECT_OK(pool_submit(pool, sum, data, 1 << 16, NULL, &task));
    EXPECT_INT(end_of(task).status, -EMFILE);
    EXPECT_TEXT(result_of(task).message, "no room for a shared buffer");
    pool_task_free(task);
    EXPECT_INT(pool_map(pool, add_one, plain, sizeof(int), data, sizeof(int), 4), -EMFILE);
    EXPECT_INT(number_from(pool, sum, plain, sizeof plain), 1);
    EXPECT_OK(pool_buffer_free(pool, data));
    EXPECT_OK(pool_destroy(pool));
}

/* ---- inside a worker ---- */

static int use_buffers_in_place(struct pool_call *call)
{
    int *items = pool_buffer_alloc(NULL, COUNT * sizeof *items),
        *results = pool_buffer_alloc(NULL, COUNT * sizeof *items);
    if (!items || !results)
        return 1;
    for (int i = 0; i < COUNT; i++)
        items[i] = i;
    if (pool_map(NULL, add_one, items, sizeof *items, results, sizeof *results, COUNT))
        return 2;
    for (int i = 0; i < COUNT; i++)
        if (results[i] != i + 1)
            return 3;
    if (pool_buffer_free(NULL, items) || pool_buffer_free(NULL, results) || pool_buffer_free(NULL, results) != -EINVAL)
        return 4;
    return reply_number(call, 7);
}

static int add_many_in_a_pool_of_its_own(struct pool_call *call)
{
    struct pool_options options = POOL_OPTIONS_INIT;
    struct pool *pool;
    options.workers = 1;
    if (pool_create(&options, &pool))
        return 1;
    int *items = pool_buffer_alloc(pool, 100 * sizeof *items), *results = pool_buffer_alloc(pool, 100 * sizeof *items);
    if (pool_map(pool, add_one, items, sizeof *items, results, sizeof *results, 100) || results[99] != 1)
        return 2;
    if (pool_buffer_free(pool, items) || pool_destroy(pool) || pool_buffer_free(pool, results))
        return 3;
    return reply_number(call, 7);
}

static void worker_may_have_buffers_of_its_own(void)
{
    struct pool *pool = make_pool(1);
    EXPECT_INT(number_from(pool, use_buffers_in_place, NULL, 0), 7);
    EXPECT_INT(number_from(pool, add_many_in_a_pool_of_its_own, NULL, 0), 7);
    EXPECT_OK(pool_destroy(pool));
}

/* To grow a file beyond the limit raises SIGXFSZ, and the memory that is shared with workers counts as files. */
static void limit_on_the_size_of_files_ends_no_host(void)
{
    struct pool *pool = make_pool(2), *other = NULL;
    struct rlimit limit, none;
    static int items[COUNT], results[COUNT];
    EXPECT_OK(getrlimit(RLIMIT_FSIZE, &limit));
    none = limit;
    none.rlim_cur = 0;
    EXPECT_OK(setrlimit(RLIMIT_FSIZE, &none));
    void *buffer = pool_buffer_alloc(pool, 100);
    int rc = pool_map(pool, add_one, items, sizeof *items, results, sizeof *results, COUNT);
    int create_rc = pool_create(NULL, &other); /* what a preload needs is in such memory, too, under forkserver */
    EXPECT_OK(setrlimit(RLIMIT_FSIZE, &limit));
    EXPECT(!buffer);
    EXPECT_OK(rc);
    EXPECT(create_rc == 0 || create_rc == -EFBIG);
    for (int i = 0; i < COUNT; i++)
        EXPECT_INT(results[i], 1);
    EXPECT_OK(pool_destroy(other));
    EXPECT_OK(pool_destroy(pool));
}

const struct conformance_case buffer_cases[] = {
    CASE(buffer_is_zero_and_begins_at_a_page),
    CASE(what_is_no_buffer_is_refused),
    CASE(forked_child_has_none_of_it),
    CASE(array_that_reaches_beyond_its_buffer_is_copied),
    CASE(task_sees_its_input_where_the_caller_has_it),
    CASE(payloads_may_lie_in_buffers_and_elsewhere_and_be_empty),
    CASE(input_in_a_buffer_is_for_reading_alone),
    CASE(inputs_in_buffers_do_not_count_for_the_bytes_in_flight),
    CASE(buffer_that_is_freed_stays_with_what_is_under_way),
    CASE(thousand_buffers_leave_nothing_behind),
    CASE(many_buffers_at_once_are_told_apart),
    CASE(limit_on_the_size_of_files_ends_no_host),
    CASE(worker_without_fds_fails_what_lies_in_a_buffer),
    CASE(worker_may_have_buffers_of_its_own),
    {0},
};

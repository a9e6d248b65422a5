/* conformance_take: what waits at a worker behind an item that lasts is taken back, and runs elsewhere, once.
 *
 * The item that lasts waits for the end of all the others, so a case that ends at all has shown it. The others take
 * some microseconds, which makes chunks of them, but not so few that a worker begins several at once. */
#include "conformance_numbered.h"
#include <signal.h>
#include <string.h>
#include <time.h>

enum { DONE = 40, GATE };
enum { LASTS = 100, COUNT = 400 };
enum { SHORT_NS = 20000, LONG_NS = 1000000 };

static void spin(uint64_t ns)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    uint64_t until = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec + ns;
    while ((uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec < until)
        clock_gettime(CLOCK_MONOTONIC, &now);
}

/* 0: it has lasted until all the others had ended. */
static int last_or_spin(struct board *board, uint64_t index)
{
    if (index == LASTS)
        return !await_counter(board, DONE, COUNT - 1);
    spin(SHORT_NS);
    board->counters[DONE]++;
    return 0;
}

static int item_that_may_last(const void *item, void *result, void *state)
{
    uint64_t index = mark_item(state);
    *(int *)result = *(const int *)item + 1;
    return last_or_spin(state, index);
}

static int item_that_may_last_and_dies(const void *item, void *result, void *state)
{
    uint64_t index = mark_item(state);
    *(int *)result = *(const int *)item + 1;
    int code = last_or_spin(state, index);
    return index == LASTS && !code ? raise(SIGKILL) : code;
}

static void number(int *items, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        items[i] = (int)i * 3;
}

static void expect_each_ran_once(const struct board *board, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        EXPECT_INT(board->runs[i], 1);
}

static void items_behind_one_that_lasts_run_elsewhere(void)
{
    struct board *board = make_board();
    struct pool_options options = board_options(2);
    struct pool *pool = make_pool_with(&options);
    int items[COUNT], results[COUNT];
    number(items, COUNT);
    EXPECT_OK(pool_map(pool, item_that_may_last, items, sizeof *items, results, sizeof *results, COUNT));
    for (int i = 0; i < COUNT; i++)
        EXPECT_INT(results[i], items[i] + 1);
    expect_each_ran_once(board, COUNT);
    EXPECT_OK(pool_destroy(pool));
}

static void worker_whose_items_were_taken_back_dies_of_its_own_alone(void)
{
    struct board *board = make_board();
    struct pool_options options = board_options(2);
    struct pool_map_options map = POOL_MAP_OPTIONS_INIT;
    struct pool *pool = make_pool_with(&options);
    int items[COUNT], results[COUNT], status[COUNT];
    number(items, COUNT);
    map.status_out = status;
    EXPECT_INT(
        pool_map_with(pool, item_that_may_last_and_dies, items, sizeof *items, results, sizeof *results, COUNT, &map),
        POOL_ECRASH);
    for (int i = 0; i < COUNT; i++)
        EXPECT_INT(status[i], i == LASTS ? POOL_ECRASH : 0);
    for (int i = 0; i < COUNT;
         i++) /* what it had not reported runs again, and so it does itself, to be sure that it was it */
        EXPECT(board->runs[i] == 1 || board->runs[i] == 2);
    EXPECT_OK(pool_destroy(pool));
}

static int task_that_may_last(struct pool_call *call)
{
    struct board *board = pool_call_state(call);
    uint64_t index = number_of(call);
    board->runs[index]++;
    return last_or_spin(board, index);
}

static void tasks_behind_one_that_lasts_run_elsewhere(void)
{
    struct board *board = make_board();
    struct pool_options options = board_options(2);
    struct pool *pool = make_pool_with(&options);
    struct pool_task *tasks[COUNT];
    for (unsigned i = 0; i < COUNT; i++)
        tasks[i] = submit(pool, task_that_may_last, i);
    for (unsigned i = 0; i < COUNT; i++) {
        EXPECT_OK(end_of(tasks[i]).status);
        EXPECT_INT(result_of(tasks[i]).attempts, 1); /* that it was handed to another before does not count */
        pool_task_free(tasks[i]);
    }
    expect_each_ran_once(board, COUNT);
    EXPECT_OK(pool_destroy(pool));
}

/* Number 0 waits at the gate. */
static int gated(struct pool_call *call)
{
    struct board *board = pool_call_state(call);
    uint64_t index = number_of(call);
    board->counters[DONE]++;
    if (!index)
        return !await_counter(board, GATE, 1);
    spin(SHORT_NS);
    return 0;
}

static void task_that_waits_behind_another_is_cancelled_and_nobody_is_killed(void)
{
    enum { BEHIND = 40, CANCELLED = 10, WARM_UP = 50 };
    struct board *board = make_board();
    struct pool_options options = board_options(1);
    struct pool_stats stats = POOL_STATS_INIT;
    struct pool *pool = make_pool_with(&options);
    struct pool_task *tasks[BEHIND];
    pid_t pid = worker_pid(pool);
    for (unsigned i = 1; i <= WARM_UP; i++) { /* so that it is known to be short */
        struct pool_task *task = submit(pool, gated, i);
        EXPECT_OK(end_of(task).status);
        pool_task_free(task);
    }
    struct pool_task *first = submit(pool, gated, 0);
    EXPECT(await_counter(board, DONE, WARM_UP + 1));
    for (unsigned i = 0; i < BEHIND; i++)
        tasks[i] = submit(pool, gated, i + 1);
    EXPECT_OK(pool_cancel(tasks[CANCELLED]));
    board->counters[GATE] = 1;
    EXPECT_OK(end_of(first).status);
    EXPECT_INT(result_of(first).worker_pid, pid);
    for (unsigned i = 0; i < BEHIND; i++) {
        struct pool_result result = end_of(tasks[i]);
        EXPECT_INT(result.status, i == CANCELLED ? POOL_ECANCELED : 0);
        EXPECT(i == CANCELLED || result.worker_pid == pid);
        pool_task_free(tasks[i]);
    }
    pool_task_free(first);
    EXPECT_OK(pool_stats(pool, &stats));
    EXPECT(!stats.crashes && !stats.retried);
    EXPECT_OK(pool_destroy(pool));
}

static int uneven(const void *item, void *result, void *state)
{
    uint64_t index = mark_item(state);
    spin(index % 50 ? SHORT_NS / 4 : LONG_NS);
    *(int *)result = *(const int *)item + 1;
    return 0;
}

static void map_unevenly(uint64_t max_tasks_per_worker)
{
    enum { MANY = 2000 };
    static int items[MANY], results[MANY];
    struct board *board = make_board();
    struct pool_options options = board_options(3);
    options.max_tasks_per_worker = max_tasks_per_worker;
    struct pool *pool = make_pool_with(&options);
    number(items, MANY);
    memset(results, 0, sizeof results);
    EXPECT_OK(pool_map(pool, uneven, items, sizeof *items, results, sizeof *results, MANY));
    for (int i = 0; i < MANY; i++)
        EXPECT_INT(results[i], items[i] + 1);
    expect_each_ran_once(board, MANY);
    EXPECT_OK(pool_destroy(pool));
}

static void uneven_items_run_once_wherever_they_are_taken(void)
{
    map_unevenly(0);
}

static void uneven_items_run_once_though_workers_are_recycled(void)
{
    map_unevenly(300);
}

const struct conformance_case take_cases[] = {
    CASE(items_behind_one_that_lasts_run_elsewhere),
    CASE(worker_whose_items_were_taken_back_dies_of_its_own_alone),
    CASE(tasks_behind_one_that_lasts_run_elsewhere),
    CASE(task_that_waits_behind_another_is_cancelled_and_nobody_is_killed),
    CASE(uneven_items_run_once_wherever_they_are_taken),
    CASE(uneven_items_run_once_though_workers_are_recycled),
    {0},
};

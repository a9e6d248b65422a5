/* conformance_stats: the numbers that a pool keeps, after happenings whose numbers are known. */
#include "conformance_deeds.h"
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

static struct pool_stats stats_of(const struct pool *pool)
{
    struct pool_stats stats = POOL_STATS_INIT;
    EXPECT_OK(pool_stats(pool, &stats));
    EXPECT_INT(stats.size, sizeof stats);
    return stats;
}

/* What has happened since: differences, but of the numbers of the moment. */
static struct pool_stats since(const struct pool_stats *before, const struct pool *pool)
{
    struct pool_stats stats = stats_of(pool);
    stats.submitted -= before->submitted;
    stats.succeeded -= before->succeeded;
    stats.failed -= before->failed;
    stats.canceled -= before->canceled;
    stats.retried -= before->retried;
    stats.crashes -= before->crashes;
    stats.timeouts -= before->timeouts;
    stats.recycled -= before->recycled;
    stats.bytes_out -= before->bytes_out;
    stats.bytes_in -= before->bytes_in;
    return stats;
}

static void expect_ends(const struct pool_stats *stats, uint64_t succeeded, uint64_t failed, uint64_t cancelled)
{
    EXPECT_INT(stats->submitted, succeeded + failed + cancelled);
    EXPECT_INT(stats->succeeded, succeeded);
    EXPECT_INT(stats->failed, failed);
    EXPECT_INT(stats->canceled, cancelled);
}

static void expect_troubles(const struct pool_stats *stats, uint64_t crashes, uint64_t timeouts, uint64_t recycled)
{
    EXPECT_INT(stats->crashes, crashes);
    EXPECT_INT(stats->timeouts, timeouts);
    EXPECT_INT(stats->recycled, recycled);
}

/* ---- the call itself ---- */

static void null_and_malformed_structs_are_refused(void)
{
    struct pool *pool = make_pool(1);
    struct pool_stats stats = POOL_STATS_INIT;
    EXPECT_INT(pool_stats(NULL, &stats), -EINVAL);
    EXPECT_INT(pool_stats(pool, NULL), -EINVAL);
    stats.size = 0;
    EXPECT_INT(pool_stats(pool, &stats), -EINVAL);
    stats.size = 4097;
    EXPECT_INT(pool_stats(pool, &stats), -EINVAL);
    EXPECT_OK(pool_destroy(pool));
}

/* A caller that was compiled with fewer fields. */
static void shorter_struct_gets_the_fields_it_has(void)
{
    struct scene scene = make_scene(1);
    struct pool_stats stats = POOL_STATS_INIT;
    EXPECT_OK(take_status(submit_deed(&scene, DEED_ENDS, 1)));
    memset(&stats, 0x5a, sizeof stats);
    stats.size = (uint32_t)offsetof(struct pool_stats, retried);
    EXPECT_OK(pool_stats(scene.pool, &stats));
    EXPECT_INT(stats.size, offsetof(struct pool_stats, retried));
    EXPECT(stats.workers == 1 && stats.submitted == 2 && stats.succeeded == 2 && !stats.failed && !stats.canceled);
    for (const char *byte = (const char *)&stats + stats.size; byte < (const char *)(&stats + 1); byte++)
        EXPECT_INT(*byte, 0x5a);
    EXPECT_OK(pool_destroy(scene.pool));
}

/* And one that was compiled with more. */
static void longer_struct_is_fine(void)
{
    struct {
        struct pool_stats stats;
        uint64_t unknown[4];
    } longer = {.stats = POOL_STATS_INIT};
    struct scene scene = make_scene(1);
    longer.stats.size = sizeof longer;
    EXPECT_OK(pool_stats(scene.pool, &longer.stats));
    EXPECT(longer.stats.workers == 1 && longer.stats.succeeded == 1);
    for (int i = 0; i < 4; i++)
        EXPECT_INT(longer.unknown[i], 0);
    EXPECT_OK(pool_destroy(scene.pool));
}

static void struct_that_was_not_cleared_is_filled_in(void)
{
    struct scene scene = make_scene(1);
    struct pool_stats stats;
    memset(&stats, 0x5a, sizeof stats);
    stats.size = sizeof stats;
    EXPECT_OK(pool_stats(scene.pool, &stats));
    EXPECT(stats.workers == 1 && !stats.busy && stats.submitted == 1 && !stats.failed && !stats.timeouts);
    EXPECT_OK(pool_destroy(scene.pool));
}

/* ---- workers ---- */

static void workers_and_the_busy_ones_are_counted(void)
{
    struct pool_task *busy[2];
    struct scene scene = make_scene(3);
    struct pool_stats stats = stats_of(scene.pool);
    EXPECT(stats.workers == 3 && stats.busy == 0);
    for (unsigned i = 0; i < 2; i++)
        busy[i] = submit_deed(&scene, DEED_WAITS_AT_GATE, i);
    await_begun(&scene, 2);
    stats = stats_of(scene.pool);
    EXPECT(stats.workers == 3 && stats.busy == 2);
    open_gate(&scene);
    EXPECT(take_status(busy[0]) == 0 && take_status(busy[1]) == 0);
    stats = stats_of(scene.pool);
    EXPECT(stats.workers == 3 && stats.busy == 0);
    EXPECT_OK(pool_shutdown(scene.pool, POOL_DRAIN, POOL_FOREVER));
    stats = stats_of(scene.pool);
    EXPECT(stats.workers == 0 && stats.busy == 0);
    close_scene(&scene);
}

static int initialize_one(const void *arg, size_t arg_size, void **state_out)
{
    int code = attach_board(arg, arg_size, state_out);
    if (code)
        return code;
    struct board *board = *state_out;
    return board->counters[WORKERS_INITIALIZED]++ ? !await_counter(board, DEEDS_GATE, 1) : 0;
}

static void workers_count_from_when_they_are_ready(void)
{
    struct board *board = make_board();
    struct pool_options options = board_options(3);
    options.initializer = initialize_one;
    struct pool *pool = make_pool_with(&options);
    EXPECT_INT(stats_of(pool).workers, 1);
    board->counters[DEEDS_GATE] = 1;
    EXPECT_OK(pool_destroy(pool));
}

/* ---- items ---- */

static void items_of_maps_are_counted(void)
{
    enum { COUNT = 500 };
    static struct deed_input items[COUNT];
    static unsigned results[COUNT];
    struct scene scene = make_scene(2);
    struct pool_stats before = stats_of(scene.pool), stats;
    EXPECT_OK(pool_map(scene.pool, do_deed_item, items, sizeof *items, results, sizeof *results, COUNT));
    stats = since(&before, scene.pool);
    expect_ends(&stats, COUNT, 0, 0);
    items[3].deed = items[77].deed = items[78].deed = DEED_FAILS;
    EXPECT_INT(pool_map(scene.pool, do_deed_item, items, sizeof *items, results, sizeof *results, COUNT), POOL_ETASK);
    stats = since(&before, scene.pool);
    expect_ends(&stats, 2 * COUNT - 3, 3, 0);
    expect_troubles(&stats, 0, 0, 0);
    EXPECT_INT(stats.retried, 0);
    EXPECT_OK(pool_destroy(scene.pool));
}

static void payloads_are_counted(void)
{
    enum { COUNT = 20 };
    struct deed_input inputs[COUNT] = {{0, 0}};
    struct pool_bytes items[COUNT];
    struct scene scene = make_scene(2);
    struct pool_stats before = stats_of(scene.pool);
    for (int i = 0; i < COUNT; i++)
        items[i] = (struct pool_bytes){&inputs[i], sizeof *inputs};
    inputs[4].deed = DEED_FAILS;
    EXPECT_INT(pool_map_bytes(scene.pool, do_deed, items, COUNT, NULL, NULL), POOL_ETASK);
    struct pool_stats stats = since(&before, scene.pool);
    expect_ends(&stats, COUNT - 1, 1, 0);
    EXPECT_OK(pool_destroy(scene.pool));
}

static void items_that_a_map_leaves_out_are_counted_as_cancelled(void)
{
    enum { COUNT = 400 };
    static struct deed_input items[COUNT];
    static unsigned results[COUNT];
    static int status[COUNT];
    unsigned cancelled = 0;
    struct pool_map_options map = POOL_MAP_OPTIONS_INIT;
    struct scene scene = make_scene(1);
    struct pool_stats before = stats_of(scene.pool);
    items[0].deed = DEED_FAILS;
    map.stop_on_error = 1;
    map.chunk_size = 1;
    map.status_out = status;
    EXPECT_INT(pool_map_with(scene.pool, do_deed_item, items, sizeof *items, results, sizeof *results, COUNT, &map),
               POOL_ETASK);
    for (int i = 0; i < COUNT; i++)
        cancelled += status[i] == POOL_ECANCELED;
    struct pool_stats stats = since(&before, scene.pool);
    EXPECT(cancelled > 0);
    expect_ends(&stats, COUNT - 1 - cancelled, 1, cancelled);
    EXPECT_OK(pool_destroy(scene.pool));
}

static void tasks_are_counted(void)
{
    struct scene scene = make_scene(1);
    struct pool_stats before = stats_of(scene.pool), stats;
    struct pool_task *running = submit_deed(&scene, DEED_NEVER_ENDS, 1), *queued = submit_deed(&scene, DEED_ENDS, 2);
    EXPECT_INT(since(&before, scene.pool).submitted, 2);
    EXPECT_INT(since(&before, scene.pool).succeeded, 0);
    EXPECT(pool_cancel(queued) == 0 && pool_cancel(running) == 0);
    EXPECT(take_status(queued) == POOL_ECANCELED && take_status(running) == POOL_ECANCELED);
    EXPECT_OK(take_status(submit_deed(&scene, DEED_ENDS, 3)));
    EXPECT_INT(take_status(submit_deed(&scene, DEED_FAILS, 4)), POOL_ETASK);
    stats = since(&before, scene.pool);
    expect_ends(&stats, 1, 1, 2);
    expect_troubles(&stats, 0, 0, 0); /* a worker that was killed for a cancellation has not crashed */
    EXPECT_OK(pool_destroy(scene.pool));
}

static void tasks_that_were_freed_are_counted(void)
{
    struct scene scene = make_scene(1);
    struct pool_stats before = stats_of(scene.pool);
    for (unsigned i = 0; i < 5; i++)
        pool_task_free(submit_deed(&scene, DEED_ENDS, i));
    EXPECT_OK(take_status(submit_deed(&scene, DEED_ENDS, 5)));
    struct pool_stats stats = since(&before, scene.pool);
    expect_ends(&stats, 6, 0, 0);
    EXPECT_OK(pool_destroy(scene.pool));
}

static int give_deed(void *arg, struct pool_bytes *item_out)
{
    unsigned *left = arg;
    if (!*left)
        return 0;
    struct deed_input *input = calloc(1, sizeof *input);
    EXPECT(input);
    input->deed = --*left == 3 ? DEED_FAILS : DEED_ENDS;
    *item_out = (struct pool_bytes){input, sizeof *input};
    return 1;
}

static int take_result(void *arg, uint64_t index, const struct pool_result *result)
{
    (void)arg, (void)index, (void)result;
    return 0;
}

static void items_of_streams_are_counted(void)
{
    unsigned left = 100;
    struct scene scene = make_scene(2);
    struct pool_stats before = stats_of(scene.pool);
    EXPECT_OK(pool_stream(scene.pool, do_deed, give_deed, take_result, &left, NULL));
    struct pool_stats stats = since(&before, scene.pool);
    expect_ends(&stats, 99, 1, 0);
    EXPECT_OK(pool_destroy(scene.pool));
}

static void broadcasts_are_no_items(void)
{
    struct deed_input input = {DEED_ENDS, 1};
    struct scene scene = make_scene(2);
    struct pool_stats before = stats_of(scene.pool);
    EXPECT_OK(pool_broadcast(scene.pool, do_deed, &input, sizeof input));
    struct pool_stats stats = since(&before, scene.pool);
    expect_ends(&stats, 0, 0, 0);
    EXPECT_OK(pool_destroy(scene.pool));
}

static void what_a_shutdown_cuts_off_is_counted_as_cancelled(void)
{
    struct pool_task *busy[2], *queued[QUEUED];
    struct scene scene = make_scene(2);
    struct pool_stats before = stats_of(scene.pool);
    occupy(&scene, DEED_NEVER_ENDS, busy);
    queue_deeds(&scene, queued);
    EXPECT_OK(pool_shutdown(scene.pool, POOL_KILL, POOL_FOREVER));
    struct pool_stats stats = since(&before, scene.pool);
    expect_ends(&stats, 0, 0, QUEUED + 2);
    expect_troubles(&stats, 0, 0, 0);
    close_scene(&scene);
    free_tasks(busy, 2);
    free_tasks(queued, QUEUED);
}

/* ---- what befalls workers ---- */

static void crashes_are_counted(void)
{
    struct scene scene = make_scene(2);
    struct pool_stats before = stats_of(scene.pool);
    for (unsigned i = 0; i < 3; i++)
        EXPECT_INT(take_status(submit_deed(&scene, DEED_CRASHES, i)), POOL_ECRASH);
    EXPECT_OK(take_status(submit_deed(&scene, DEED_ENDS, 3)));
    struct pool_stats stats = since(&before, scene.pool);
    expect_ends(&stats, 1, 3, 0);
    expect_troubles(&stats, 3, 0, 0);
    EXPECT_INT(stats.retried, 0);
    EXPECT_OK(pool_destroy(scene.pool));
}

static void death_of_an_idle_worker_is_a_crash(void)
{
    struct scene scene = make_scene(1);
    struct pool_stats before = stats_of(scene.pool);
    EXPECT_OK(kill(scene.pids[0], SIGKILL));
    for (uint64_t since_ms = now_ms(); !since(&before, scene.pool).crashes; pool_process(scene.pool))
        EXPECT(have_patience(since_ms));
    EXPECT_OK(take_status(submit_deed(&scene, DEED_ENDS, 1)));
    struct pool_stats stats = since(&before, scene.pool);
    expect_ends(&stats, 1, 0, 0);
    expect_troubles(&stats, 1, 0, 0);
    EXPECT_OK(pool_destroy(scene.pool));
}

static void timeouts_are_no_crashes(void)
{
    struct pool_task_options options = POOL_TASK_OPTIONS_INIT;
    struct scene scene = make_scene(2);
    struct pool_stats before = stats_of(scene.pool);
    options.timeout_ms = 100;
    for (unsigned i = 0; i < 3; i++)
        EXPECT_INT(take_status(submit_deed_with(&scene, DEED_NEVER_ENDS, i, &options)), POOL_ETIMEOUT);
    EXPECT_OK(take_status(submit_deed(&scene, DEED_ENDS, 3)));
    struct pool_stats stats = since(&before, scene.pool);
    expect_ends(&stats, 1, 3, 0);
    expect_troubles(&stats, 0, 3, 0);
    EXPECT_OK(pool_destroy(scene.pool));
}

static void retries_are_counted(void)
{
    struct pool_options options = scene_options(1);
    options.max_attempts = 3;
    struct scene scene = make_scene_with(&options);
    struct pool_stats before = stats_of(scene.pool);
    EXPECT_INT(take_status(submit_deed(&scene, DEED_CRASHES, 1)), POOL_ECRASH);
    struct pool_stats stats = since(&before, scene.pool);
    expect_ends(&stats, 0, 1, 0);
    EXPECT_INT(scene.board->runs[1], 3);
    EXPECT_INT(stats.retried, 2);
    expect_troubles(&stats, 3, 0, 0);
    EXPECT_OK(pool_destroy(scene.pool));
}

static void innocents_that_run_again_are_counted_as_retried(void)
{
    enum { COUNT = 100 };
    static struct deed_input items[COUNT];
    static unsigned results[COUNT];
    struct pool_map_options map = POOL_MAP_OPTIONS_INIT;
    struct scene scene = make_scene(1);
    struct pool_stats before = stats_of(scene.pool);
    items[50].deed = DEED_CRASHES;
    map.chunk_size = COUNT;
    EXPECT_INT(pool_map_with(scene.pool, do_deed_item, items, sizeof *items, results, sizeof *results, COUNT, &map),
               POOL_ECRASH);
    struct pool_stats stats = since(&before, scene.pool);
    expect_ends(&stats, COUNT - 1, 1, 0);
    EXPECT(stats.retried > 0 && stats.retried <= 3 * COUNT);
    EXPECT(stats.crashes == 1 || stats.crashes == 2);
    EXPECT_OK(pool_destroy(scene.pool));
}

static void worn_out_workers_are_counted(void)
{
    enum { COUNT = 100, EACH = 10 };
    static struct deed_input items[COUNT];
    static unsigned results[COUNT];
    struct pool_options options = scene_options(1);
    options.max_tasks_per_worker = EACH;
    struct scene scene = make_scene_with(&options);
    struct pool_stats before = stats_of(scene.pool);
    EXPECT_OK(pool_map(scene.pool, do_deed_item, items, sizeof *items, results, sizeof *results, COUNT));
    struct pool_stats stats = since(&before, scene.pool);
    expect_ends(&stats, COUNT, 0, 0);
    EXPECT(stats.recycled >= COUNT / EACH - 1 && stats.recycled <= COUNT / EACH);
    EXPECT(stats.crashes == 0 && stats.timeouts == 0 && stats.retried == 0);
    EXPECT_OK(pool_destroy(scene.pool));
}

/* ---- bytes ---- */

static int reply_tenfold(struct pool_call *call)
{
    size_t size;
    pool_call_input(call, &size);
    char *reply = pool_call_reply(call, size * 10);
    if (reply)
        memset(reply, 'x', size * 10);
    return !reply;
}

static void expect_about(uint64_t bytes, uint64_t expected)
{
    EXPECT(bytes >= expected && bytes < expected + expected / 10 + 4096);
}

static void bytes_are_counted_both_ways(void)
{
    enum { TASKS = 10, BYTES = 20000 };
    static const char input[BYTES];
    struct scene scene = make_scene(2);
    struct pool_stats before = stats_of(scene.pool);
    for (int i = 0; i < TASKS; i++) {
        struct pool_task *task;
        EXPECT_OK(pool_submit(scene.pool, reply_tenfold, input, sizeof input, NULL, &task));
        EXPECT_OK(take_status(task));
    }
    struct pool_stats stats = since(&before, scene.pool);
    expect_about(stats.bytes_out, (uint64_t)TASKS * BYTES);
    expect_about(stats.bytes_in, (uint64_t)TASKS * BYTES * 10);
    EXPECT_OK(pool_destroy(scene.pool));
}

static void bytes_of_maps_are_counted(void)
{
    enum { COUNT = 20000 };
    static struct deed_input items[COUNT];
    static unsigned results[COUNT];
    struct scene scene = make_scene(2);
    struct pool_stats before = stats_of(scene.pool);
    EXPECT_OK(pool_map(scene.pool, do_deed_item, items, sizeof *items, results, sizeof *results, COUNT));
    struct pool_stats stats = since(&before, scene.pool);
    EXPECT(stats.bytes_out >= sizeof items && stats.bytes_out < 20 * sizeof items);
    EXPECT(stats.bytes_in >= sizeof results && stats.bytes_in < 20 * sizeof results);
    EXPECT_OK(pool_destroy(scene.pool));
}

/* ---- from other threads ---- */

static void numbers_can_be_had_while_another_thread_drives(void)
{
    struct caller driver;
    struct scene scene = make_scene(1);
    struct pool_task *task = submit_deed(&scene, DEED_WAITS_AT_GATE, 1);
    start_caller(&driver, wait_for_ever, task);
    await_sleep(&driver);
    EXPECT_INT(stats_of(scene.pool).busy, 1);
    EXPECT_INT(stats_of(scene.pool).submitted, 2);
    open_gate(&scene);
    EXPECT_OK(end_of_caller(&driver));
    EXPECT_INT(stats_of(scene.pool).succeeded, 2);
    pool_task_free(task);
    EXPECT_OK(pool_destroy(scene.pool));
}

const struct conformance_case stats_cases[] = {
    CASE(null_and_malformed_structs_are_refused),
    CASE(shorter_struct_gets_the_fields_it_has),
    CASE(longer_struct_is_fine),
    CASE(struct_that_was_not_cleared_is_filled_in),
    CASE(workers_and_the_busy_ones_are_counted),
    CASE(workers_count_from_when_they_are_ready),
    CASE(items_of_maps_are_counted),
    CASE(payloads_are_counted),
    CASE(items_that_a_map_leaves_out_are_counted_as_cancelled),
    CASE(tasks_are_counted),
    CASE(tasks_that_were_freed_are_counted),
    CASE(items_of_streams_are_counted),
    CASE(broadcasts_are_no_items),
    CASE(what_a_shutdown_cuts_off_is_counted_as_cancelled),
    CASE(crashes_are_counted),
    CASE(death_of_an_idle_worker_is_a_crash),
    CASE(timeouts_are_no_crashes),
    CASE(retries_are_counted),
    CASE(innocents_that_run_again_are_counted_as_retried),
    CASE(worn_out_workers_are_counted),
    CASE(bytes_are_counted_both_ways),
    CASE(bytes_of_maps_are_counted),
    CASE(numbers_can_be_had_while_another_thread_drives),
    {0},
};

/* conformance_leaving: ends of pools that others are in: threads that wait, map, stream and broadcast, callbacks, tasks
 * that nobody has collected. */
#include "conformance_deeds.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const enum pool_shutdown_mode modes[] = {POOL_DRAIN, POOL_CANCEL, POOL_TERMINATE, POOL_KILL};
enum { MODES = sizeof modes / sizeof *modes };

static bool is_hard(enum pool_shutdown_mode mode)
{
    return mode == POOL_TERMINATE || mode == POOL_KILL;
}

/* ---- with other threads ---- */

struct shutdown_call {
    struct pool *pool;
    enum pool_shutdown_mode mode;
};

static int shut_down(void *arg)
{
    const struct shutdown_call *call = arg;
    return pool_shutdown(call->pool, call->mode, POOL_FOREVER);
}

static void two_threads_shut_down_at_once(void)
{
    for (size_t i = 0; i < MODES * MODES; i++) {
        struct caller callers[2];
        struct scene scene = make_scene(2);
        struct shutdown_call calls[2] = {{scene.pool, modes[i / MODES]}, {scene.pool, modes[i % MODES]}};
        for (int k = 0; k < 2; k++)
            start_caller(&callers[k], shut_down, &calls[k]);
        for (int k = 0; k < 2; k++)
            EXPECT_OK(end_of_caller(&callers[k]));
        close_scene(&scene);
    }
}

static void stronger_mode_of_one_thread_ends_the_shutdown_of_another(void)
{
    struct pool_task *busy[2];
    struct caller caller;
    struct scene scene = make_scene(2);
    struct shutdown_call drain = {scene.pool, POOL_DRAIN};
    occupy(&scene, DEED_NEVER_ENDS, busy);
    start_caller(&caller, shut_down, &drain);
    await_sleep(&caller);
    EXPECT_OK(pool_shutdown(scene.pool, POOL_KILL, POOL_FOREVER));
    EXPECT_OK(end_of_caller(&caller));
    close_scene(&scene);
    free_tasks(busy, 2);
}

/* A shutdown while a thread is in a call that has made both workers busy with deeds that wait at the gate, or never
 * end. */
static void shut_down_around(struct scene *scene, struct caller *caller, enum pool_shutdown_mode mode)
{
    await_begun(scene, 2);
    await_sleep(caller);
    int begun = pool_shutdown(scene->pool, mode, 0);
    EXPECT(begun == POOL_PENDING || (!begun && is_hard(mode)));
    if (!is_hard(mode))
        open_gate(scene);
}

enum { ITEMS = 40 };

struct map_call {
    struct pool *pool;
    struct deed_input items[ITEMS];
    unsigned results[ITEMS];
    int status[ITEMS];
};

static int map_deeds(void *arg)
{
    struct map_call *call = arg;
    struct pool_map_options options = POOL_MAP_OPTIONS_INIT;
    options.chunk_size = 1;
    options.status_out = call->status;
    return pool_map_with(call->pool, do_deed_item, call->items, sizeof *call->items, call->results,
                         sizeof *call->results, ITEMS, &options);
}

static void map_of_another_thread_ends_as_the_mode_says(void)
{
    for (size_t i = 0; i < MODES; i++) {
        struct caller caller;
        struct scene scene = make_scene(2);
        struct map_call map = {.pool = scene.pool};
        for (unsigned k = 0; k < ITEMS; k++)
            map.items[k] = (struct deed_input){k < 2 ? DEED_WAITS_AT_GATE : DEED_ENDS, k};
        start_caller(&caller, map_deeds, &map);
        shut_down_around(&scene, &caller, modes[i]);
        EXPECT_INT(end_of_caller(&caller), modes[i] == POOL_DRAIN ? 0 : POOL_ECANCELED);
        for (unsigned k = 0; k < ITEMS; k++) {
            EXPECT(map.status[k] == 0 || map.status[k] == POOL_ECANCELED);
            EXPECT(modes[i] != POOL_DRAIN || !map.status[k]);
            EXPECT(!is_hard(modes[i]) || map.status[k]);
            EXPECT(map.status[k] || (scene.board->runs[k] == 1 && map.results[k] == k));
        }
        EXPECT(is_hard(modes[i]) || (!map.status[0] && !map.status[1]));
        EXPECT(modes[i] == POOL_DRAIN || map.status[ITEMS - 1]);
        EXPECT_OK(pool_shutdown(scene.pool, modes[i], POOL_FOREVER));
        close_scene(&scene);
    }
}

static void wait_of_another_thread_ends_as_the_mode_says(void)
{
    for (size_t i = 0; i < MODES; i++) {
        struct pool_task *busy[2], *queued[QUEUED];
        struct caller callers[2];
        struct scene scene = make_scene(2);
        occupy(&scene, DEED_WAITS_AT_GATE, busy);
        queue_deeds(&scene, queued);
        start_caller(&callers[0], wait_for_ever, busy[0]);
        start_caller(&callers[1], wait_for_ever, queued[QUEUED - 1]);
        await_sleep(&callers[0]);
        shut_down_around(&scene, &callers[1], modes[i]);
        EXPECT_INT(end_of_caller(&callers[0]), is_hard(modes[i]) ? POOL_ECANCELED : 0);
        EXPECT_INT(end_of_caller(&callers[1]), modes[i] == POOL_DRAIN ? 0 : POOL_ECANCELED);
        EXPECT_OK(pool_shutdown(scene.pool, modes[i], POOL_FOREVER));
        close_scene(&scene);
        free_tasks(busy, 2);
        free_tasks(queued, QUEUED);
    }
}

/* How many tasks were handed out before there was none left. */
static int take_all(void *pool)
{
    struct pool_task *task;
    int count = 0, rc;
    while (!(rc = pool_next(pool, POOL_FOREVER, &task))) {
        pool_task_free(task);
        count++;
    }
    EXPECT_INT(rc, POOL_EMPTY);
    return count;
}

static void next_of_another_thread_gets_all_tasks_in_any_mode(void)
{
    for (size_t i = 0; i < MODES; i++) {
        struct pool_task *busy[2], *queued[QUEUED];
        struct caller caller;
        struct scene scene = make_scene(2);
        occupy(&scene, DEED_WAITS_AT_GATE, busy);
        queue_deeds(&scene, queued);
        start_caller(&caller, take_all, scene.pool);
        shut_down_around(&scene, &caller, modes[i]);
        EXPECT_INT(end_of_caller(&caller), QUEUED + 2);
        EXPECT_OK(pool_shutdown(scene.pool, modes[i], POOL_FOREVER));
        close_scene(&scene);
    }
}

struct stream_call {
    struct pool *pool;
    uint64_t taken, succeeded, cancelled;
};

/* Endless; the first two make the workers busy. */
static int next_deed(void *arg, struct pool_bytes *item_out)
{
    struct stream_call *call = arg;
    struct deed_input *input = malloc(sizeof *input);
    EXPECT(input);
    *input = (struct deed_input){call->taken < 2 ? DEED_WAITS_AT_GATE : DEED_ENDS, (unsigned)call->taken};
    call->taken++;
    *item_out = (struct pool_bytes){input, sizeof *input};
    return 1;
}

static int count_deed(void *arg, uint64_t index, const struct pool_result *result)
{
    struct stream_call *call = arg;
    EXPECT(result->status == 0 || result->status == POOL_ECANCELED);
    EXPECT(index < call->taken);
    call->succeeded += result->status == 0;
    call->cancelled += result->status != 0;
    return 0;
}

static int stream_deeds(void *arg)
{
    struct stream_call *call = arg;
    return pool_stream(call->pool, do_deed, next_deed, count_deed, call, NULL);
}

static void stream_of_another_thread_ends_and_its_sink_gets_all_items_in_any_mode(void)
{
    for (size_t i = 0; i < MODES; i++) {
        struct caller caller;
        struct scene scene = make_scene(2);
        struct stream_call stream = {.pool = scene.pool};
        start_caller(&caller, stream_deeds, &stream);
        shut_down_around(&scene, &caller, modes[i]);
        EXPECT_INT(end_of_caller(&caller), POOL_ECLOSED);
        EXPECT_INT(stream.succeeded + stream.cancelled, stream.taken);
        EXPECT(stream.taken > 2);
        EXPECT(is_hard(modes[i]) ? !stream.succeeded : stream.succeeded >= 2);
        EXPECT(modes[i] == POOL_DRAIN ? stream.cancelled <= 1 : stream.cancelled > 0); /* taken, but not submitted */
        EXPECT_OK(pool_shutdown(scene.pool, modes[i], POOL_FOREVER));
        close_scene(&scene);
    }
}

static int broadcast_gate(void *pool)
{
    struct deed_input input = {DEED_WAITS_AT_GATE, 0};
    return pool_broadcast(pool, do_deed, &input, sizeof input);
}

static void broadcast_of_another_thread_ends_as_the_mode_says(void)
{
    for (size_t i = 0; i < MODES; i++) {
        struct caller caller;
        struct scene scene = make_scene(2);
        start_caller(&caller, broadcast_gate, scene.pool);
        shut_down_around(&scene, &caller, modes[i]);
        EXPECT_INT(end_of_caller(&caller), is_hard(modes[i]) ? POOL_ECANCELED : 0);
        EXPECT_OK(pool_shutdown(scene.pool, modes[i], POOL_FOREVER));
        close_scene(&scene);
    }
}

enum { ROOM_BYTES = 4096 };

static int submit_large(void *pool)
{
    static const char input[ROOM_BYTES];
    return pool_submit(pool, do_deed, input, sizeof input, NULL, NULL);
}

static void thread_that_waits_for_room_is_refused(void)
{
    char input[ROOM_BYTES] = {0};
    struct deed_input deed = {DEED_NEVER_ENDS, 0};
    struct pool_options options = scene_options(1);
    struct pool_task *task = NULL;
    struct caller caller;
    options.max_bytes_in_flight = ROOM_BYTES;
    options.start_timeout_ms = 4 * PATIENCE_MS; /* no timer helps */
    struct scene scene = make_scene_with(&options);
    memcpy(input, &deed, sizeof deed);
    EXPECT_OK(pool_submit(scene.pool, do_deed, input, sizeof input, NULL, &task));
    await_begun(&scene, 1);
    start_caller(&caller, submit_large, scene.pool);
    await_sleep(&caller);
    EXPECT_INT(pool_shutdown(scene.pool, POOL_DRAIN, 0), POOL_PENDING);
    EXPECT_INT(end_of_caller(&caller), POOL_ECLOSED);
    EXPECT_OK(pool_shutdown(scene.pool, POOL_KILL, POOL_FOREVER));
    EXPECT_INT(take_status(task), POOL_ECANCELED);
    EXPECT_INT(scene.board->counters[DEEDS_BEGUN], 1);
    close_scene(&scene);
}

/* ---- in callbacks ---- */

static int try_to_end_pool(void *pool, size_t done, size_t count)
{
    (void)done, (void)count;
    EXPECT_INT(pool_destroy(pool), -EDEADLK);
    EXPECT_INT(pool_shutdown(pool, POOL_KILL, POOL_FOREVER), -EDEADLK);
    return 0;
}

static void callback_cannot_end_its_own_pool(void)
{
    struct scene scene = make_scene(1);
    struct pool_map_options map = POOL_MAP_OPTIONS_INIT;
    struct deed_input item = {DEED_ENDS, 1};
    unsigned result = 0;
    map.progress = try_to_end_pool;
    map.progress_arg = scene.pool;
    EXPECT_OK(pool_map_with(scene.pool, do_deed_item, &item, sizeof item, &result, sizeof result, 1, &map));
    EXPECT_OK(take_status(submit_deed(&scene, DEED_ENDS, 2)));
    EXPECT_OK(pool_shutdown(scene.pool, POOL_DRAIN, POOL_FOREVER));
    close_scene(&scene);
}

/* ---- pool_destroy ---- */

static void destroy_runs_tasks_that_nobody_collects(void)
{
    struct pool_task *queued[QUEUED];
    struct scene scene = make_scene(2);
    struct deed_input unseen = {DEED_ENDS, 1};
    queue_deeds(&scene, queued);
    for (unsigned i = 0; i < QUEUED; i += 2) {
        pool_task_free(queued[i]);
        queued[i] = NULL;
    }
    EXPECT_OK(pool_submit(scene.pool, do_deed, &unseen, sizeof unseen, NULL, NULL));
    EXPECT_OK(pool_destroy(scene.pool));
    for (unsigned i = 0; i < QUEUED; i++)
        EXPECT_INT(scene.board->runs[QUEUED_ID + i], 1);
    EXPECT_INT(scene.board->runs[1], 1);
    EXPECT_INT(scene.board->counters[WORKERS_FINALIZED], 2);
    EXPECT(workers_are_gone(&scene));
    free_tasks(queued, QUEUED);
}

static void tasks_outlive_their_pool(void)
{
    struct pool_task *queued[QUEUED];
    struct pool_task_options options = POOL_TASK_OPTIONS_INIT;
    struct scene scene = make_scene(2);
    options.tag = &scene;
    queue_deeds(&scene, queued);
    struct pool_task *failing = submit_deed_with(&scene, DEED_FAILS, 1, &options);
    EXPECT_OK(pool_destroy(scene.pool));
    for (unsigned i = 0; i < QUEUED; i++) {
        struct pool_result result = result_of(queued[i]);
        EXPECT_OK(result.status);
        EXPECT(result.data_size == sizeof(unsigned) && *(const unsigned *)result.data == QUEUED_ID + i);
    }
    EXPECT_INT(status_of(failing), POOL_ETASK);
    EXPECT_INT(result_of(failing).code, DEED_CODE);
    EXPECT(pool_task_tag(failing) == &scene);
    pool_task_free(failing);
    free_tasks(queued, QUEUED);
}

static void tasks_that_were_cut_off_outlive_their_pool_too(void)
{
    struct pool_task *busy[2], *queued[QUEUED];
    struct scene scene = make_scene(2);
    occupy(&scene, DEED_NEVER_ENDS, busy);
    queue_deeds(&scene, queued);
    EXPECT_OK(pool_shutdown(scene.pool, POOL_KILL, POOL_FOREVER));
    EXPECT_OK(pool_destroy(scene.pool));
    EXPECT_INT(status_of(busy[0]), POOL_ECANCELED);
    EXPECT_INT(status_of(queued[3]), POOL_ECANCELED);
    EXPECT(result_of(busy[1]).message && !result_of(busy[1]).data);
    free_tasks(busy, 2);
    free_tasks(queued, QUEUED);
}

struct next_call {
    struct pool *pool;
    struct pool_task *task;
};

static int take_next(void *arg)
{
    struct next_call *call = arg;
    return pool_next(call->pool, POOL_FOREVER, &call->task);
}

static int destroy(void *pool)
{
    return pool_destroy(pool);
}

static void destroy_lets_waiting_threads_get_what_they_wait_for(void)
{
    enum { WAITERS = 4 };
    struct pool_task *busy[2], *queued[WAITERS];
    struct caller waiters[WAITERS], taker, destroyer;
    struct scene scene = make_scene(2);
    struct next_call next = {scene.pool, NULL};
    occupy(&scene, DEED_WAITS_AT_GATE, busy);
    for (unsigned i = 0; i < WAITERS; i++) {
        queued[i] = submit_deed(&scene, DEED_ENDS, QUEUED_ID + i);
        start_caller(&waiters[i], wait_for_ever, queued[i]);
        await_sleep(&waiters[i]);
    }
    start_caller(&taker, take_next, &next);
    await_sleep(&taker);
    start_caller(&destroyer, destroy, scene.pool);
    await_sleep(&destroyer);
    open_gate(&scene);
    EXPECT_OK(end_of_caller(&destroyer));
    for (int i = 0; i < WAITERS; i++)
        EXPECT_OK(end_of_caller(&waiters[i]));
    EXPECT_OK(end_of_caller(&taker));
    EXPECT(next.task == busy[0] || next.task == busy[1]); /* the other one is collected by nobody */
    EXPECT(workers_are_gone(&scene));
    free_tasks(busy, 2);
    free_tasks(queued, WAITERS);
}

static void new_work_is_refused_while_destroy_waits(void)
{
    struct pool_task *busy[1];
    struct caller destroyer;
    struct scene scene = make_scene(1);
    struct deed_input item = {DEED_ENDS, 5};
    occupy(&scene, DEED_WAITS_AT_GATE, busy);
    start_caller(&destroyer, destroy, scene.pool);
    await_sleep(&destroyer);
    EXPECT_INT(pool_submit(scene.pool, do_deed, &item, sizeof item, NULL, NULL), POOL_ECLOSED);
    open_gate(&scene);
    EXPECT_OK(end_of_caller(&destroyer));
    EXPECT_OK(status_of(busy[0]));
    EXPECT_INT(scene.board->runs[5], 0);
    pool_task_free(busy[0]);
}

const struct conformance_case leaving_cases[] = {
    CASE(two_threads_shut_down_at_once),
    CASE(stronger_mode_of_one_thread_ends_the_shutdown_of_another),
    CASE(map_of_another_thread_ends_as_the_mode_says),
    CASE(wait_of_another_thread_ends_as_the_mode_says),
    CASE(next_of_another_thread_gets_all_tasks_in_any_mode),
    CASE(stream_of_another_thread_ends_and_its_sink_gets_all_items_in_any_mode),
    CASE(broadcast_of_another_thread_ends_as_the_mode_says),
    CASE(thread_that_waits_for_room_is_refused),
    CASE(callback_cannot_end_its_own_pool),
    CASE(destroy_runs_tasks_that_nobody_collects),
    CASE(tasks_outlive_their_pool),
    CASE(tasks_that_were_cut_off_outlive_their_pool_too),
    CASE(destroy_lets_waiting_threads_get_what_they_wait_for),
    CASE(new_work_is_refused_while_destroy_waits),
    {0},
};

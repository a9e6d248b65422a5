/* conformance_thread: one pool and many threads: they share its tasks and its driving place, and wake each other. */
#include "conformance_deeds.h"
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { THREADS = 8, EACH = 60, SHORT_MS = 50 };

/* ---- each with tasks of its own ---- */

struct member {
    struct scene *scene;
    unsigned number;
};

static void call_with(struct scene *scene, int (*call)(void *member), unsigned count)
{
    struct member members[THREADS];
    struct caller callers[THREADS];
    for (unsigned i = 0; i < count; i++) {
        members[i] = (struct member){scene, i};
        start_caller(&callers[i], call, &members[i]);
    }
    for (unsigned i = 0; i < count; i++)
        EXPECT_OK(end_of_caller(&callers[i]));
}

static unsigned id_of(const struct member *member, unsigned i)
{
    return (member->number + 1) * 1000 + i;
}

static void expect_id(const struct pool_task *task, unsigned id)
{
    struct pool_result result = result_of(task);
    EXPECT_OK(result.status);
    EXPECT_INT(result.data_size, sizeof id);
    EXPECT_INT(*(const unsigned *)result.data, id);
}

static int submit_and_wait(void *arg)
{
    struct member *member = arg;
    for (unsigned i = 0; i < EACH; i++) {
        struct pool_task *task = submit_deed(member->scene, DEED_ENDS, id_of(member, i));
        EXPECT_OK(pool_wait(task, POOL_FOREVER));
        expect_id(task, id_of(member, i));
        pool_task_free(task);
    }
    return 0;
}

static void threads_wait_for_their_own_tasks(void)
{
    struct scene scene = make_scene(3);
    call_with(&scene, submit_and_wait, THREADS);
    EXPECT_INT(scene.board->counters[DEEDS_BEGUN], THREADS * EACH);
    EXPECT_OK(pool_destroy(scene.pool));
}

static int submit_all_then_wait_backwards(void *arg)
{
    struct pool_task *tasks[EACH];
    struct member *member = arg;
    for (unsigned i = 0; i < EACH; i++)
        tasks[i] = submit_deed(member->scene, DEED_ENDS, id_of(member, i));
    for (unsigned i = EACH; i-- > 0;) {
        EXPECT_OK(pool_wait(tasks[i], POOL_FOREVER));
        expect_id(tasks[i], id_of(member, i));
    }
    free_tasks(tasks, EACH);
    return 0;
}

static void threads_wait_in_any_order(void)
{
    struct scene scene = make_scene(3);
    call_with(&scene, submit_all_then_wait_backwards, THREADS);
    EXPECT_OK(pool_destroy(scene.pool));
}

static int map_again_and_again(void *arg)
{
    enum { ROUNDS = 10, COUNT = 300 };
    struct member *member = arg;
    struct deed_input items[COUNT];
    unsigned results[COUNT];
    for (unsigned i = 0; i < COUNT; i++)
        items[i] = (struct deed_input){DEED_ENDS, id_of(member, i)};
    for (int round = 0; round < ROUNDS; round++) {
        memset(results, 0, sizeof results);
        EXPECT_OK(pool_map(member->scene->pool, do_deed_item, items, sizeof *items, results, sizeof *results, COUNT));
        for (unsigned i = 0; i < COUNT; i++)
            EXPECT_INT(results[i], items[i].id);
    }
    return 0;
}

static void threads_map_on_one_pool(void)
{
    struct scene scene = make_scene(3);
    call_with(&scene, map_again_and_again, 4);
    EXPECT_OK(pool_destroy(scene.pool));
}

/* ---- tasks for whoever comes ---- */

static atomic_uint times_handed_out[THREADS * EACH], handed_out;

static void note_handed_out(struct pool_task *task)
{
    atomic_uint *times = pool_task_tag(task);
    EXPECT(times >= times_handed_out && times < times_handed_out + THREADS * EACH);
    EXPECT_OK(status_of(task));
    ++*times;
    ++handed_out;
    pool_task_free(task);
}

static int submit_and_take_any(void *arg)
{
    struct member *member = arg;
    struct pool_task_options options = POOL_TASK_OPTIONS_INIT;
    struct pool_task *task;
    for (unsigned i = 0; i < EACH; i++) {
        struct deed_input input = {DEED_ENDS, id_of(member, i)};
        options.tag = &times_handed_out[member->number * EACH + i];
        EXPECT_OK(pool_submit(member->scene->pool, do_deed, &input, sizeof input, &options, NULL));
    }
    while (handed_out < THREADS * EACH) {
        int rc = pool_next(member->scene->pool, POOL_FOREVER, &task);
        EXPECT(rc == 0 || rc == POOL_EMPTY);
        if (!rc)
            note_handed_out(task);
    }
    return 0;
}

static void each_task_is_handed_out_once_to_one_thread(void)
{
    struct scene scene = make_scene(3);
    call_with(&scene, submit_and_take_any, THREADS);
    for (int i = 0; i < THREADS * EACH; i++)
        EXPECT_INT(times_handed_out[i], 1);
    EXPECT_OK(pool_destroy(scene.pool));
}

/* ---- everything at once ---- */

/* Tasks are freed when all threads have ended, since any of them may be in any thread's hands. */
static struct pool_task *_Atomic all_tasks[THREADS][EACH];
static atomic_uint submitters;

static void submit_tagged(struct member *member, enum deed deed, unsigned i)
{
    struct pool_task_options options = POOL_TASK_OPTIONS_INIT;
    options.tag = &times_handed_out[member->number * EACH + i];
    all_tasks[member->number][i] = submit_deed_with(member->scene, deed, id_of(member, i), &options);
}

static int submit_and_wait_and_keep(struct member *member)
{
    for (unsigned i = 0; i < EACH; i++) {
        submit_tagged(member, DEED_ENDS, i);
        EXPECT_OK(pool_wait(all_tasks[member->number][i], POOL_FOREVER));
        expect_id(all_tasks[member->number][i], id_of(member, i));
    }
    submitters--;
    return 0;
}

static int submit_and_cancel(struct member *member)
{
    for (unsigned i = 0; i < EACH; i++) {
        submit_tagged(member, i % 8 ? DEED_ENDS : DEED_NEVER_ENDS, i);
        if (i % 8)
            continue;
        EXPECT_OK(pool_cancel(all_tasks[member->number][i]));
    }
    submitters--;
    return 0;
}

static int take_what_ends(struct member *member)
{
    struct pool_task *task;
    for (;;) {
        bool last = !submitters;
        int rc = pool_next(member->scene->pool, POOL_FOREVER, &task);
        EXPECT(rc == 0 || rc == POOL_EMPTY);
        if (!rc)
            ++*(atomic_uint *)pool_task_tag(task);
        else if (last)
            return 0;
    }
}

static int broadcast_and_count(struct member *member)
{
    struct deed_input input = {DEED_ENDS, id_of(member, 0)};
    struct pool_stats stats = POOL_STATS_INIT;
    while (submitters) {
        EXPECT_OK(pool_broadcast(member->scene->pool, do_deed, &input, sizeof input));
        EXPECT_OK(pool_stats(member->scene->pool, &stats));
        EXPECT(stats.succeeded + stats.failed + stats.canceled <= stats.submitted);
    }
    return 0;
}

static int play_a_part(void *arg)
{
    struct member *member = arg;
    switch (member->number) {
    case 0:
    case 1:
        return submit_and_wait_and_keep(member);
    case 2:
    case 3:
        return submit_and_cancel(member);
    case 4:
    case 5:
        return take_what_ends(member);
    case 6:
        return broadcast_and_count(member);
    default:
        return map_again_and_again(member);
    }
}

static void threads_do_everything_at_once(void)
{
    struct pool_options options = scene_options(3);
    options.soft_kill_grace_ms = -1;
    struct scene scene = make_scene_with(&options);
    submitters = 4;
    call_with(&scene, play_a_part, THREADS);
    for (unsigned i = 0; i < 4 * EACH; i++) {
        bool waited_for = i < 2 * EACH, endless = !waited_for && i % EACH % 8 == 0;
        EXPECT_INT(status_of(all_tasks[i / EACH][i % EACH]), endless ? POOL_ECANCELED : 0);
        EXPECT(times_handed_out[i] == 1 || (waited_for && !times_handed_out[i]));
        pool_task_free(all_tasks[i / EACH][i % EACH]);
    }
    EXPECT_OK(pool_destroy(scene.pool));
}

/* ---- waking each other ---- */

static int wait_for_a_moment(void *task)
{
    return pool_wait(task, SHORT_MS);
}

static void expect_pending(const struct pool_task *task)
{
    struct pool_result untouched = {.status = 12345};
    EXPECT_INT(pool_task_result(task, &untouched), POOL_PENDING);
    EXPECT_INT(untouched.status, 12345);
}

static void cancelling_a_queued_task_wakes_the_thread_that_waits_for_it_and_drives(void)
{
    struct caller waiter;
    struct pool_task *busy[2];
    struct scene scene = make_scene(2);
    occupy(&scene, DEED_NEVER_ENDS, busy);
    struct pool_task *queued = submit_deed(&scene, DEED_ENDS, 10);
    start_caller(&waiter, wait_for_ever, queued);
    await_sleep(&waiter);
    EXPECT_OK(pool_cancel(queued));
    EXPECT_INT(end_of_caller(&waiter), POOL_ECANCELED);
    expect_pending(busy[0]);
    expect_pending(busy[1]);
    EXPECT_INT(scene.board->runs[10], 0);
    EXPECT_OK(pool_shutdown(scene.pool, POOL_KILL, POOL_FOREVER));
    close_scene(&scene);
    pool_task_free(queued);
    free_tasks(busy, 2);
}

static void cancelling_a_queued_task_wakes_the_thread_that_waits_for_it_while_a_third_drives(void)
{
    for (int drives_first = 0; drives_first < 2; drives_first++) {
        struct caller callers[2];
        struct pool_task *tasks[2];
        struct scene scene = make_scene(1);
        tasks[0] = submit_deed(&scene, DEED_NEVER_ENDS, 1);
        tasks[1] = submit_deed(&scene, DEED_ENDS, 2);
        for (int i = 0; i < 2; i++) {
            start_caller(&callers[i], wait_for_ever, tasks[i ^ drives_first]);
            await_sleep(&callers[i]);
        }
        EXPECT_OK(pool_cancel(tasks[1]));
        EXPECT_INT(end_of_caller(&callers[1 ^ drives_first]), POOL_ECANCELED);
        expect_pending(tasks[0]);
        EXPECT_OK(pool_cancel(tasks[0]));
        EXPECT_INT(end_of_caller(&callers[drives_first]), POOL_ECANCELED);
        free_tasks(tasks, 2);
        EXPECT_OK(pool_destroy(scene.pool));
    }
}

static void cancelling_a_running_task_wakes_the_thread_that_waits_for_it(void)
{
    struct caller waiter;
    struct scene scene = make_scene(1);
    struct pool_task *task = submit_deed(&scene, DEED_NEVER_ENDS, 1);
    await_begun(&scene, 1);
    start_caller(&waiter, wait_for_ever, task);
    await_sleep(&waiter);
    EXPECT_OK(pool_cancel(task));
    EXPECT_INT(end_of_caller(&waiter), POOL_ECANCELED);
    EXPECT_INT(pool_cancel(task), POOL_ENDED);
    pool_task_free(task);
    EXPECT_OK(take_status(submit_deed(&scene, DEED_ENDS, 2)));
    EXPECT_OK(pool_destroy(scene.pool));
}

static void end_of_a_task_wakes_the_thread_that_waits_for_it_whoever_drives(void)
{
    for (int drives_first = 0; drives_first < 2; drives_first++) {
        struct caller callers[2];
        struct pool_task *tasks[2];
        struct scene scene = make_scene(2);
        tasks[0] = submit_deed(&scene, DEED_NEVER_ENDS, 1);
        tasks[1] = submit_deed(&scene, DEED_WAITS_AT_GATE, 2);
        for (int i = 0; i < 2; i++) {
            start_caller(&callers[i], wait_for_ever, tasks[i ^ drives_first]);
            await_sleep(&callers[i]);
        }
        open_gate(&scene);
        EXPECT_OK(end_of_caller(&callers[1 ^ drives_first]));
        expect_pending(tasks[0]);
        EXPECT_OK(pool_cancel(tasks[0]));
        EXPECT_INT(end_of_caller(&callers[drives_first]), POOL_ECANCELED);
        free_tasks(tasks, 2);
        EXPECT_OK(pool_destroy(scene.pool));
    }
}

static void another_thread_drives_when_the_driving_one_gives_up(void)
{
    struct caller driver, waiter;
    struct scene scene = make_scene(2);
    struct pool_task *endless = submit_deed(&scene, DEED_NEVER_ENDS, 1);
    struct pool_task *gated = submit_deed(&scene, DEED_WAITS_AT_GATE, 2);
    start_caller(&driver, wait_for_a_moment, endless);
    start_caller(&waiter, wait_for_ever, gated);
    EXPECT_INT(end_of_caller(&driver), POOL_PENDING);
    await_sleep(&waiter);
    open_gate(&scene);
    EXPECT_OK(end_of_caller(&waiter));
    EXPECT_OK(pool_cancel(endless));
    pool_task_free(endless);
    pool_task_free(gated);
    EXPECT_OK(pool_destroy(scene.pool));
}

struct held_map {
    struct scene *scene;
    struct caller *waiter;
    atomic_bool is_waited_for;
};

/* For as long as the other thread waits for its task, which cannot end before. */
static int hold_map(void *arg, size_t done, size_t count)
{
    struct held_map *map = arg;
    (void)done, (void)count;
    if (!map->is_waited_for)
        return 0;
    open_gate(map->scene);
    for (uint64_t since_ms = now_ms(); !map->waiter->has_returned;)
        EXPECT(have_patience(since_ms));
    return 0;
}

static int map_and_hold(void *arg)
{
    struct held_map *map = arg;
    struct deed_input item = {DEED_WAITS_AT_GATE, 1};
    struct pool_map_options options = POOL_MAP_OPTIONS_INIT;
    options.progress = hold_map;
    options.progress_arg = map;
    return pool_map_with(map->scene->pool, do_deed_item, &item, sizeof item, NULL, 0, 1, &options);
}

static void another_thread_drives_while_the_driving_one_is_in_a_callback(void)
{
    struct caller driver, waiter;
    struct scene scene = make_scene(2);
    struct held_map map = {.scene = &scene, .waiter = &waiter};
    struct pool_task *gated = submit_deed(&scene, DEED_WAITS_AT_GATE, 2);
    start_caller(&driver, map_and_hold, &map);
    await_begun(&scene, 2);
    await_sleep(&driver);
    start_caller(&waiter, wait_for_ever, gated);
    await_sleep(&waiter);
    map.is_waited_for = true;
    EXPECT_OK(end_of_caller(&waiter));
    EXPECT_OK(end_of_caller(&driver));
    pool_task_free(gated);
    EXPECT_OK(pool_destroy(scene.pool));
}

static void waits_time_out_while_another_thread_drives(void)
{
    struct caller driver;
    struct pool_task *task = NULL;
    struct scene scene = make_scene(1);
    struct pool_task *endless = submit_deed(&scene, DEED_NEVER_ENDS, 1), *queued = submit_deed(&scene, DEED_ENDS, 2);
    submit_deed(&scene, DEED_ENDS, 3); /* for pool_next */
    start_caller(&driver, wait_for_ever, endless);
    await_sleep(&driver);
    uint64_t since_ms = now_ms();
    EXPECT_INT(pool_wait(queued, SHORT_MS), POOL_PENDING);
    EXPECT_INT(pool_next(scene.pool, SHORT_MS, &task), POOL_PENDING);
    EXPECT(now_ms() - since_ms >= 2 * SHORT_MS);
    EXPECT_INT(pool_wait(queued, 0), POOL_PENDING);
    EXPECT_INT(pool_next(scene.pool, 0, &task), POOL_PENDING);
    EXPECT_OK(pool_cancel(endless));
    EXPECT_INT(end_of_caller(&driver), POOL_ECANCELED);
    EXPECT_OK(take_status(queued));
    EXPECT_OK(pool_next(scene.pool, POOL_FOREVER, &task));
    pool_task_free(task);
    pool_task_free(endless);
    EXPECT_OK(pool_destroy(scene.pool));
}

static void several_threads_may_wait_for_the_same_task(void)
{
    struct caller waiters[3];
    struct scene scene = make_scene(1);
    struct pool_task *task = submit_deed(&scene, DEED_WAITS_AT_GATE, 1);
    for (int i = 0; i < 3; i++) {
        start_caller(&waiters[i], wait_for_ever, task);
        await_sleep(&waiters[i]);
    }
    open_gate(&scene);
    for (int i = 0; i < 3; i++)
        EXPECT_OK(end_of_caller(&waiters[i]));
    pool_task_free(task);
    EXPECT_OK(pool_destroy(scene.pool));
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

static void threads_in_next_get_a_task_each(void)
{
    struct caller callers[2];
    struct scene scene = make_scene(2);
    struct next_call calls[2] = {{scene.pool, NULL}, {scene.pool, NULL}};
    struct pool_task *endless = submit_deed(&scene, DEED_NEVER_ENDS, 1);
    struct pool_task *gated = submit_deed(&scene, DEED_WAITS_AT_GATE, 2);
    for (int i = 0; i < 2; i++) {
        start_caller(&callers[i], take_next, &calls[i]);
        await_sleep(&callers[i]);
    }
    open_gate(&scene);
    for (uint64_t since_ms = now_ms(); !callers[0].has_returned && !callers[1].has_returned;)
        EXPECT(have_patience(since_ms));
    EXPECT_OK(pool_cancel(endless));
    for (int i = 0; i < 2; i++)
        EXPECT_OK(end_of_caller(&callers[i]));
    EXPECT((calls[0].task == endless && calls[1].task == gated) ||
           (calls[1].task == endless && calls[0].task == gated));
    pool_task_free(endless);
    pool_task_free(gated);
    EXPECT_OK(pool_destroy(scene.pool));
}

/* When the last task that could be handed out is claimed, or freed, there is none left. */
static void thread_in_next_learns_that_there_is_none_left(void)
{
    for (int is_freed = 0; is_freed < 2; is_freed++) {
        struct caller caller;
        struct pool_options options = scene_options(1);
        options.start_timeout_ms = 4 * PATIENCE_MS; /* no timer helps */
        struct scene scene = make_scene_with(&options);
        struct next_call next = {scene.pool, NULL};
        struct pool_task *task = submit_deed(&scene, DEED_WAITS_AT_GATE, 1);
        start_caller(&caller, take_next, &next);
        await_sleep(&caller);
        if (is_freed)
            pool_task_free(task);
        else
            EXPECT_INT(pool_wait(task, 0), POOL_PENDING);
        EXPECT_INT(end_of_caller(&caller), POOL_EMPTY);
        open_gate(&scene);
        if (!is_freed)
            EXPECT_OK(take_status(task));
        EXPECT_OK(pool_destroy(scene.pool));
    }
}

static void await_end(const struct pool_task *task)
{
    struct pool_result result;
    int rc;
    for (uint64_t since_ms = now_ms(); (rc = pool_task_result(task, &result)) == POOL_PENDING;)
        EXPECT(have_patience(since_ms));
    EXPECT_OK(rc);
}

/* Larger than a pipe: the rest of it is written by the thread that drives. */
static void task_of_one_thread_runs_while_another_one_drives(void)
{
    enum { BYTES = 8 << 20 };
    struct caller driver;
    struct pool_task *task = NULL;
    struct deed_input *input = calloc(1, BYTES);
    struct scene scene = make_scene(2);
    struct pool_task *endless = submit_deed(&scene, DEED_NEVER_ENDS, 1);
    start_caller(&driver, wait_for_ever, endless);
    await_sleep(&driver);
    for (int i = 0; i < 3; i++) {
        EXPECT_OK(pool_submit(scene.pool, do_deed, input, BYTES, NULL, &task));
        await_end(task);
        EXPECT_OK(take_status(task));
    }
    EXPECT_OK(pool_cancel(endless));
    EXPECT_INT(end_of_caller(&driver), POOL_ECANCELED);
    pool_task_free(endless);
    free(input);
    EXPECT_OK(pool_destroy(scene.pool));
}

/* ---- without the thread of main ---- */

static int add_one_or_die(const void *item, void *result, void *state)
{
    (void)state;
    if (*(const int *)item == 50)
        raise(SIGKILL);
    *(int *)result = *(const int *)item + 1;
    return 0;
}

static void *use_pool_without_main(void *unused)
{
    char exe[16];
    int items[100], results[100];
    for (uint64_t since_ms = now_ms(); readlink("/proc/self/exe", exe, sizeof exe) >= 0;)
        EXPECT(have_patience(since_ms));
    struct pool_options options = method_options(0);
    options.max_tasks_per_worker = 30;
    struct pool *pool = make_pool_with(&options);
    for (int i = 0; i < 100; i++)
        items[i] = i;
    EXPECT_INT(pool_map(pool, add_one_or_die, items, sizeof *items, results, sizeof *results, 100), POOL_ECRASH);
    EXPECT_INT(results[99], 100);
    EXPECT_OK(pool_destroy(pool));
    _exit(0);
    return unused;
}

static int leave_main(void *unused)
{
    pthread_t thread;
    EXPECT_OK(pthread_create(&thread, NULL, use_pool_without_main, unused));
    pthread_exit(NULL);
}

static void threads_may_outlive_that_of_main(void)
{
    in_another_process(leave_main, NULL);
}

const struct conformance_case thread_cases[] = {
    CASE(threads_wait_for_their_own_tasks),
    CASE(threads_wait_in_any_order),
    CASE(threads_map_on_one_pool),
    CASE(each_task_is_handed_out_once_to_one_thread),
    CASE(threads_do_everything_at_once),
    CASE(cancelling_a_queued_task_wakes_the_thread_that_waits_for_it_and_drives),
    CASE(cancelling_a_queued_task_wakes_the_thread_that_waits_for_it_while_a_third_drives),
    CASE(cancelling_a_running_task_wakes_the_thread_that_waits_for_it),
    CASE(end_of_a_task_wakes_the_thread_that_waits_for_it_whoever_drives),
    CASE(another_thread_drives_when_the_driving_one_gives_up),
    CASE(another_thread_drives_while_the_driving_one_is_in_a_callback),
    CASE(waits_time_out_while_another_thread_drives),
    CASE(several_threads_may_wait_for_the_same_task),
    CASE(threads_in_next_get_a_task_each),
    CASE(thread_in_next_learns_that_there_is_none_left),
    CASE(task_of_one_thread_runs_while_another_one_drives),
    CASE(threads_may_outlive_that_of_main),
    {0},
};

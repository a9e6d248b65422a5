/* conformance_shutdown: the ends of pools: what still runs and what is cut off in each mode, and when, in whatever
 * state the pool and its workers are. */
#include "conformance_deeds.h"
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { SHORT_MS = 100 };

/* What was cancelled has not begun, what has begun succeeded. How many were cancelled. */
static unsigned count_cancelled(const struct scene *scene, struct pool_task *const tasks[QUEUED])
{
    unsigned cancelled = 0;
    for (unsigned i = 0; i < QUEUED; i++) {
        int status = status_of(tasks[i]);
        EXPECT(status == 0 || status == POOL_ECANCELED);
        EXPECT_INT(scene->board->runs[QUEUED_ID + i], status ? 0 : 1);
        cancelled += status != 0;
    }
    return cancelled;
}

/* ---- the four modes ---- */

static void drain_runs_what_was_submitted(void)
{
    struct pool_task *busy[2], *queued[QUEUED];
    struct scene scene = make_scene(2);
    occupy(&scene, DEED_WAITS_AT_GATE, busy);
    queue_deeds(&scene, queued);
    EXPECT_INT(pool_shutdown(scene.pool, POOL_DRAIN, 0), POOL_PENDING);
    open_gate(&scene);
    EXPECT_OK(pool_shutdown(scene.pool, POOL_DRAIN, POOL_FOREVER));
    EXPECT(status_of(busy[0]) == 0 && status_of(busy[1]) == 0);
    EXPECT_INT(count_cancelled(&scene, queued), 0);
    EXPECT_INT(scene.board->counters[WORKERS_FINALIZED], 2);
    close_scene(&scene);
    free_tasks(busy, 2);
    free_tasks(queued, QUEUED);
}

static void cancel_lets_what_workers_have_end_and_cancels_the_rest(void)
{
    struct pool_task *busy[2], *queued[QUEUED];
    struct scene scene = make_scene(2);
    occupy(&scene, DEED_WAITS_AT_GATE, busy);
    queue_deeds(&scene, queued);
    EXPECT_INT(pool_shutdown(scene.pool, POOL_CANCEL, 0), POOL_PENDING);
    EXPECT_INT(status_of(queued[QUEUED - 1]), POOL_ECANCELED); /* at once */
    open_gate(&scene);
    EXPECT_OK(pool_shutdown(scene.pool, POOL_CANCEL, POOL_FOREVER));
    EXPECT(status_of(busy[0]) == 0 && status_of(busy[1]) == 0);
    EXPECT(count_cancelled(&scene, queued) >= QUEUED / 2);
    EXPECT_INT(scene.board->counters[WORKERS_FINALIZED], 2);
    close_scene(&scene);
    free_tasks(busy, 2);
    free_tasks(queued, QUEUED);
}

/* How many deeds noted a SIGTERM. */
static uint64_t cut_off(enum pool_shutdown_mode mode, int64_t timeout_ms)
{
    struct pool_task *busy[2], *queued[QUEUED];
    struct pool_options options = scene_options(2);
    options.soft_kill_grace_ms = PATIENCE_MS;
    struct scene scene = make_scene_with(&options);
    occupy(&scene, DEED_NOTES_SIGTERM, busy);
    queue_deeds(&scene, queued);
    EXPECT_OK(pool_shutdown(scene.pool, mode, timeout_ms));
    EXPECT(status_of(busy[0]) == POOL_ECANCELED && status_of(busy[1]) == POOL_ECANCELED);
    EXPECT_INT(count_cancelled(&scene, queued), QUEUED);
    EXPECT_INT(scene.board->counters[WORKERS_FINALIZED], 0);
    close_scene(&scene);
    free_tasks(busy, 2);
    free_tasks(queued, QUEUED);
    return scene.board->counters[DEEDS_SIGTERMS];
}

static void terminate_cancels_all_and_lets_tasks_clean_up_at_sigterm(void)
{
    EXPECT_INT(cut_off(POOL_TERMINATE, POOL_FOREVER), 2);
    EXPECT_INT(cut_off(POOL_TERMINATE, PATIENCE_MS), 2);
}

static void kill_cancels_all_and_asks_nobody(void)
{
    EXPECT_INT(cut_off(POOL_KILL, POOL_FOREVER), 0);
    EXPECT_INT(cut_off(POOL_KILL, PATIENCE_MS), 0);
}

static void terminate_kills_what_ignores_sigterm(void)
{
    struct pool_task *busy[2];
    struct pool_options options = scene_options(2);
    options.soft_kill_grace_ms = 50;
    struct scene scene = make_scene_with(&options);
    occupy(&scene, DEED_IGNORES_SIGTERM, busy);
    EXPECT_OK(pool_shutdown(scene.pool, POOL_TERMINATE, POOL_FOREVER));
    EXPECT(status_of(busy[0]) == POOL_ECANCELED && status_of(busy[1]) == POOL_ECANCELED);
    close_scene(&scene);
    free_tasks(busy, 2);
}

static void kill_need_not_wait_for_the_grace(void)
{
    struct pool_task *busy[2];
    struct pool_options options = scene_options(2);
    options.soft_kill_grace_ms = INT32_MAX;
    struct scene scene = make_scene_with(&options);
    occupy(&scene, DEED_IGNORES_SIGTERM, busy);
    EXPECT_INT(pool_shutdown(scene.pool, POOL_TERMINATE, SHORT_MS), POOL_PENDING);
    EXPECT_OK(pool_shutdown(scene.pool, POOL_KILL, POOL_FOREVER));
    EXPECT(status_of(busy[0]) == POOL_ECANCELED && status_of(busy[1]) == POOL_ECANCELED);
    close_scene(&scene);
    free_tasks(busy, 2);
}

/* ---- time, and one mode after another ---- */

static void expect_named(const struct scene *scene, const char *message)
{
    for (unsigned i = 0; i < scene->workers; i++) {
        char pid[32];
        snprintf(pid, sizeof pid, "%d", (int)scene->pids[i]);
        EXPECT_TEXT(message, pid);
    }
}

static void shutdown_is_pending_while_a_task_runs_and_says_so(void)
{
    struct pool_task *busy[2];
    struct scene scene = make_scene(2);
    occupy(&scene, DEED_NEVER_ENDS, busy);
    for (int mode = POOL_DRAIN; mode <= POOL_CANCEL; mode++) {
        uint64_t since_ms = now_ms();
        EXPECT_INT(pool_shutdown(scene.pool, (enum pool_shutdown_mode)mode, 0), POOL_PENDING);
        expect_named(&scene, pool_message());
        EXPECT_INT(pool_shutdown(scene.pool, (enum pool_shutdown_mode)mode, SHORT_MS), POOL_PENDING);
        expect_named(&scene, pool_message());
        EXPECT(now_ms() - since_ms >= SHORT_MS);
        EXPECT(is_running(scene.pids[0]) && is_running(scene.pids[1]));
    }
    EXPECT_OK(pool_shutdown(scene.pool, POOL_KILL, POOL_FOREVER));
    close_scene(&scene);
    free_tasks(busy, 2);
}

static void stronger_mode_ends_what_a_weaker_one_waits_for(void)
{
    for (int first = POOL_DRAIN; first < POOL_KILL; first++) {
        for (int second = first < POOL_TERMINATE ? POOL_TERMINATE : POOL_KILL; second <= POOL_KILL; second++) {
            struct pool_task *busy[2];
            struct pool_options options = scene_options(2);
            options.soft_kill_grace_ms = first == POOL_TERMINATE ? INT32_MAX : 10;
            struct scene scene = make_scene_with(&options);
            occupy(&scene, DEED_IGNORES_SIGTERM, busy);
            EXPECT_INT(pool_shutdown(scene.pool, (enum pool_shutdown_mode)first, 0), POOL_PENDING);
            EXPECT_OK(pool_shutdown(scene.pool, (enum pool_shutdown_mode)second, POOL_FOREVER));
            EXPECT(status_of(busy[0]) == POOL_ECANCELED && status_of(busy[1]) == POOL_ECANCELED);
            close_scene(&scene);
            free_tasks(busy, 2);
        }
    }
}

static void cancel_after_drain_cancels_what_is_queued(void)
{
    struct pool_task *busy[1], *queued[QUEUED];
    struct scene scene = make_scene(1);
    occupy(&scene, DEED_WAITS_AT_GATE, busy);
    queue_deeds(&scene, queued);
    EXPECT_INT(pool_shutdown(scene.pool, POOL_DRAIN, 0), POOL_PENDING);
    EXPECT_INT(pool_shutdown(scene.pool, POOL_CANCEL, 0), POOL_PENDING);
    open_gate(&scene);
    EXPECT_OK(pool_shutdown(scene.pool, POOL_DRAIN, POOL_FOREVER)); /* which is weaker */
    EXPECT(count_cancelled(&scene, queued) >= QUEUED / 2);
    EXPECT_OK(status_of(busy[0]));
    EXPECT_INT(scene.board->counters[WORKERS_FINALIZED], 1);
    close_scene(&scene);
    free_tasks(busy, 1);
    free_tasks(queued, QUEUED);
}

static void weaker_mode_changes_nothing(void)
{
    for (int mode = POOL_TERMINATE; mode <= POOL_KILL; mode++) {
        struct pool_task *busy[2];
        struct scene scene = make_scene(2);
        occupy(&scene, DEED_NEVER_ENDS, busy);
        int begun = pool_shutdown(scene.pool, (enum pool_shutdown_mode)mode, 0);
        EXPECT(begun == 0 || begun == POOL_PENDING);
        EXPECT_OK(pool_shutdown(scene.pool, POOL_DRAIN, POOL_FOREVER));
        EXPECT(status_of(busy[0]) == POOL_ECANCELED && status_of(busy[1]) == POOL_ECANCELED);
        for (int again = POOL_DRAIN; again <= POOL_KILL; again++)
            EXPECT_OK(pool_shutdown(scene.pool, (enum pool_shutdown_mode)again, 0));
        close_scene(&scene);
        free_tasks(busy, 2);
    }
}

static void wrong_arguments_are_refused_and_change_nothing(void)
{
    struct scene scene = make_scene(1);
    EXPECT_INT(pool_shutdown(NULL, POOL_DRAIN, 0), -EINVAL);
    EXPECT_INT(pool_shutdown(scene.pool, POOL_KILL, -2), -EINVAL);
    EXPECT_INT(pool_shutdown(scene.pool, POOL_KILL, INT64_MIN), -EINVAL);
    EXPECT_INT(pool_shutdown(scene.pool, (enum pool_shutdown_mode)(POOL_KILL + 1), 0), -EINVAL);
    EXPECT_INT(pool_shutdown(scene.pool, (enum pool_shutdown_mode) - 1, 0), -EINVAL);
    EXPECT_OK(take_status(submit_deed(&scene, DEED_ENDS, 1)));
    EXPECT(is_running(scene.pids[0]));
    EXPECT_OK(pool_shutdown(scene.pool, POOL_DRAIN, INT32_MAX));
    close_scene(&scene);
}

/* ---- what goes on ---- */

static int no_source(void *arg, struct pool_bytes *item_out)
{
    (void)arg, (void)item_out;
    return 0;
}

static int no_sink(void *arg, uint64_t index, const struct pool_result *result)
{
    (void)arg, (void)index, (void)result;
    return 0;
}

static void expect_closed(struct pool *pool)
{
    struct deed_input item = {DEED_ENDS, 5};
    struct pool_bytes bytes = {&item, sizeof item}, reply = {NULL, 0};
    struct pool_task *task = NULL;
    unsigned result = 0;
    EXPECT_INT(pool_submit(pool, do_deed, &item, sizeof item, NULL, &task), POOL_ECLOSED);
    EXPECT(*pool_message() && !task);
    EXPECT_INT(pool_submit(pool, do_deed, &item, sizeof item, NULL, NULL), POOL_ECLOSED);
    EXPECT_INT(pool_map(pool, do_deed_item, &item, sizeof item, &result, sizeof result, 1), POOL_ECLOSED);
    EXPECT_INT(pool_map_bytes(pool, do_deed, &bytes, 1, &reply, NULL), POOL_ECLOSED);
    EXPECT_INT(pool_stream(pool, do_deed, no_source, no_sink, NULL, NULL), POOL_ECLOSED);
    EXPECT_INT(pool_broadcast(pool, do_deed, &item, sizeof item), POOL_ECLOSED);
}

static void shut_down_pool_takes_no_new_work(void)
{
    for (int mode = POOL_DRAIN; mode <= POOL_KILL; mode++) {
        struct scene scene = make_scene(1);
        EXPECT_OK(pool_shutdown(scene.pool, (enum pool_shutdown_mode)mode, POOL_FOREVER));
        expect_closed(scene.pool);
        EXPECT_INT(scene.board->counters[DEEDS_BEGUN], 0);
        close_scene(&scene);
    }
}

static void pool_takes_no_new_work_from_the_beginning_of_its_end(void)
{
    struct pool_task *busy[1];
    struct scene scene = make_scene(1);
    occupy(&scene, DEED_WAITS_AT_GATE, busy);
    EXPECT_INT(pool_shutdown(scene.pool, POOL_DRAIN, 0), POOL_PENDING);
    expect_closed(scene.pool);
    open_gate(&scene);
    EXPECT_OK(take_status(busy[0]));
    EXPECT_OK(pool_shutdown(scene.pool, POOL_DRAIN, POOL_FOREVER));
    close_scene(&scene);
}

static void tasks_are_handed_out_after_a_shutdown(void)
{
    struct pool_task *busy[1], *queued[QUEUED], *task = NULL;
    struct scene scene = make_scene(1);
    struct pool_stats stats = POOL_STATS_INIT;
    occupy(&scene, DEED_WAITS_AT_GATE, busy);
    queue_deeds(&scene, queued);
    EXPECT_INT(pool_shutdown(scene.pool, POOL_DRAIN, 0), POOL_PENDING);
    open_gate(&scene);
    EXPECT_OK(pool_shutdown(scene.pool, POOL_DRAIN, POOL_FOREVER));
    EXPECT_OK(pool_wait(busy[0], 0));
    for (unsigned i = 0; i < QUEUED; i++) {
        EXPECT_OK(pool_next(scene.pool, 0, &task));
        EXPECT(task == queued[i]);
        EXPECT_OK(status_of(task));
    }
    EXPECT_INT(pool_next(scene.pool, POOL_FOREVER, &task), POOL_EMPTY);
    EXPECT(pool_process(scene.pool) >= 0);
    EXPECT_OK(pool_stats(scene.pool, &stats));
    EXPECT_INT(stats.workers, 0);
    EXPECT_INT(stats.succeeded, QUEUED + 2); /* the scene's own item, too */
    close_scene(&scene);
    free_tasks(busy, 1);
    free_tasks(queued, QUEUED);
}

static void waiting_ends_a_pool_as_well_as_shutdown_does(void)
{
    struct pool_task *busy[2];
    struct scene scene = make_scene(2);
    occupy(&scene, DEED_WAITS_AT_GATE, busy);
    EXPECT_INT(pool_shutdown(scene.pool, POOL_DRAIN, 0), POOL_PENDING);
    open_gate(&scene);
    EXPECT(take_status(busy[0]) == 0 && take_status(busy[1]) == 0);
    for (uint64_t since_ms = now_ms(); pool_shutdown(scene.pool, POOL_DRAIN, 0);)
        EXPECT(have_patience(since_ms));
    EXPECT_INT(scene.board->counters[WORKERS_FINALIZED], 2);
    close_scene(&scene);
}

/* ---- during a drain ---- */

static void drain_replaces_workers_that_die(void)
{
    struct pool_task *culprits[2], *queued[QUEUED];
    struct scene scene = make_scene(1);
    culprits[0] = submit_deed(&scene, DEED_CRASHES, 1);
    queue_deeds(&scene, queued);
    culprits[1] = submit_deed(&scene, DEED_CRASHES, 2);
    EXPECT_OK(pool_shutdown(scene.pool, POOL_DRAIN, POOL_FOREVER));
    EXPECT(status_of(culprits[0]) == POOL_ECRASH && status_of(culprits[1]) == POOL_ECRASH);
    for (unsigned i = 0; i < QUEUED; i++)
        EXPECT_OK(status_of(queued[i]));
    close_scene(&scene);
    free_tasks(culprits, 2);
    free_tasks(queued, QUEUED);
}

/* How many processes have run these tasks. */
static unsigned count_workers(struct pool_task *const *tasks, unsigned count)
{
    struct pool_result result, other;
    unsigned workers = 0;
    for (unsigned i = 0; i < count; i++) {
        bool is_new = true;
        EXPECT_OK(pool_task_result(tasks[i], &result));
        for (unsigned k = 0; k < i && is_new; k++) {
            EXPECT_OK(pool_task_result(tasks[k], &other));
            is_new = other.worker_pid != result.worker_pid;
        }
        workers += is_new;
    }
    return workers;
}

/* One that has run a task ends in order. One that was still about to become ready when nothing was left to do is
 * killed, perhaps behind its initializer; under spawn it is the same process each time. */
static void drain_recycles_workers(void)
{
    struct pool_task *queued[QUEUED];
    struct pool_options options = scene_options(2);
    options.max_tasks_per_worker = 4;
    struct scene scene = make_scene_with(&options);
    queue_deeds(&scene, queued);
    EXPECT_OK(pool_shutdown(scene.pool, POOL_DRAIN, POOL_FOREVER));
    EXPECT_INT(count_cancelled(&scene, queued), 0);
    EXPECT(scene.board->counters[WORKERS_FINALIZED] >= QUEUED / 4);
    EXPECT(scene.board->counters[WORKERS_FINALIZED] >= count_workers(queued, QUEUED));
    EXPECT(scene.board->counters[WORKERS_FINALIZED] <= scene.board->counters[WORKERS_INITIALIZED]);
    EXPECT(scene.board->counters[WORKERS_INITIALIZED] <= scene.board->counters[WORKERS_FINALIZED] + 2);
    close_scene(&scene);
    free_tasks(queued, QUEUED);
}

static void deadlines_hold_during_a_drain(void)
{
    struct pool_task_options options = POOL_TASK_OPTIONS_INIT;
    struct scene scene = make_scene(1);
    options.timeout_ms = 200;
    struct pool_task *late = submit_deed_with(&scene, DEED_NEVER_ENDS, 1, &options);
    struct pool_task *last = submit_deed(&scene, DEED_ENDS, 2);
    EXPECT_OK(pool_shutdown(scene.pool, POOL_DRAIN, POOL_FOREVER));
    EXPECT_INT(status_of(late), POOL_ETIMEOUT);
    EXPECT_OK(status_of(last));
    close_scene(&scene);
    pool_task_free(late);
    pool_task_free(last);
}

static void tasks_may_be_cancelled_during_a_drain(void)
{
    struct pool_task *busy[2];
    struct scene scene = make_scene(2);
    occupy(&scene, DEED_NEVER_ENDS, busy);
    EXPECT_INT(pool_shutdown(scene.pool, POOL_DRAIN, SHORT_MS), POOL_PENDING);
    EXPECT(pool_cancel(busy[0]) == 0 && pool_cancel(busy[1]) == 0);
    EXPECT_OK(pool_shutdown(scene.pool, POOL_DRAIN, POOL_FOREVER));
    EXPECT(status_of(busy[0]) == POOL_ECANCELED && status_of(busy[1]) == POOL_ECANCELED);
    close_scene(&scene);
    free_tasks(busy, 2);
}

/* ---- pools in any state ---- */

static void idle_pool_is_shut_down_in_any_mode_twice(void)
{
    for (int mode = POOL_DRAIN; mode <= POOL_KILL; mode++) {
        struct scene scene = make_scene(3);
        EXPECT_OK(pool_shutdown(scene.pool, (enum pool_shutdown_mode)mode, POOL_FOREVER));
        EXPECT_INT(scene.board->counters[WORKERS_FINALIZED], mode <= POOL_CANCEL ? 3 : 0);
        EXPECT(workers_are_gone(&scene));
        EXPECT_OK(pool_shutdown(scene.pool, (enum pool_shutdown_mode)mode, POOL_FOREVER));
        EXPECT_OK(pool_shutdown(scene.pool, (enum pool_shutdown_mode)mode, 0));
        close_scene(&scene);
    }
}

static void pool_that_was_just_created_is_shut_down_in_any_mode(void)
{
    for (int mode = POOL_DRAIN; mode <= POOL_KILL; mode++) {
        struct pool *pool = make_pool(6); /* of which some are still starting */
        EXPECT_OK(pool_shutdown(pool, (enum pool_shutdown_mode)mode, POOL_FOREVER));
        EXPECT(child_count() <= (method->traits & PRELOADS_ONCE ? 1 : 0));
        EXPECT_OK(pool_destroy(pool));
    }
}

/* The first worker to come here becomes ready at once, the others when the gate opens. */
enum { INITIALIZING = 10, WORKER_PIDS = 100 };

static int initialize_slowly(const void *arg, size_t arg_size, void **state_out)
{
    int code = attach_board(arg, arg_size, state_out);
    if (code)
        return code;
    struct board *board = *state_out;
    board->pids[WORKER_PIDS + pool_worker_id()] = getpid();
    return board->counters[INITIALIZING]++ ? !await_counter(board, DEEDS_GATE, 1) : 0;
}

static void workers_that_are_still_starting_do_not_delay_the_end(void)
{
    enum { WORKERS = 3 };
    for (int mode = POOL_DRAIN; mode <= POOL_KILL; mode++) {
        struct board *board = make_board();
        memset(board, 0, sizeof *board);
        struct pool_options options = board_options(WORKERS);
        options.initializer = initialize_slowly;
        options.start_timeout_ms = is_sanitized() ? 3000 : 800; /* also how long they may take to end in order */
        struct pool *pool = make_pool_with(&options);
        EXPECT(await_counter(board, INITIALIZING, WORKERS));
        EXPECT_OK(pool_shutdown(pool, (enum pool_shutdown_mode)mode, PATIENCE_MS / 2));
        for (int i = 0; i < WORKERS; i++)
            EXPECT(!is_running(board->pids[WORKER_PIDS + i]));
        EXPECT_OK(pool_destroy(pool));
    }
}

/* Once the gate is open, no worker becomes ready any more. */
static int initialize_while_gate_is_closed(const void *arg, size_t arg_size, void **state_out)
{
    int code = attach_board(arg, arg_size, state_out);
    return code ? code : (int)((struct board *)*state_out)->counters[DEEDS_GATE];
}

static void broken_pool_is_shut_down_in_any_mode(void)
{
    for (int mode = POOL_DRAIN; mode <= POOL_KILL; mode++) {
        struct pool_task *task = NULL;
        struct pool_options options = scene_options(1);
        options.initializer = initialize_while_gate_is_closed;
        struct scene scene = make_scene_with(&options);
        struct pool_task *first = submit_deed(&scene, DEED_WAITS_AT_GATE, 1);
        struct pool_task *culprit = submit_deed(&scene, DEED_CRASHES, 2), *waiting = submit_deed(&scene, DEED_ENDS, 3);
        open_gate(&scene);
        EXPECT_INT(take_status(waiting), POOL_EBROKEN);
        EXPECT_OK(take_status(first));
        int status = take_status(culprit); /* if it was in doubt it would have to run again, alone */
        EXPECT(status == POOL_ECRASH || status == POOL_EBROKEN);
        EXPECT_OK(pool_shutdown(scene.pool, (enum pool_shutdown_mode)mode, POOL_FOREVER));
        EXPECT_INT(pool_next(scene.pool, POOL_FOREVER, &task), POOL_EMPTY);
        close_scene(&scene);
    }
}

static void stopped_worker_does_not_outlive_a_shutdown(void)
{
    for (int mode = POOL_DRAIN; mode <= POOL_KILL; mode++) {
        struct pool_options options = scene_options(2);
        options.start_timeout_ms = is_sanitized() ? 3000 : 800;
        options.soft_kill_grace_ms = 50;
        struct scene scene = make_scene_with(&options);
        EXPECT_OK(kill(scene.pids[1], SIGSTOP));
        EXPECT_OK(pool_shutdown(scene.pool, (enum pool_shutdown_mode)mode, PATIENCE_MS / 2));
        close_scene(&scene);
    }
}

static void stopped_worker_gets_its_sigterm(void)
{
    struct pool_task *busy[1];
    struct pool_options options = scene_options(1);
    options.soft_kill_grace_ms = PATIENCE_MS;
    struct scene scene = make_scene_with(&options);
    occupy(&scene, DEED_NOTES_SIGTERM, busy);
    EXPECT_OK(kill(scene.pids[0], SIGSTOP));
    EXPECT_OK(pool_shutdown(scene.pool, POOL_TERMINATE, POOL_FOREVER));
    EXPECT_INT(scene.board->counters[DEEDS_SIGTERMS], 1);
    EXPECT_INT(take_status(busy[0]), POOL_ECANCELED);
    close_scene(&scene);
}

const struct conformance_case shutdown_cases[] = {
    CASE(drain_runs_what_was_submitted),
    CASE(cancel_lets_what_workers_have_end_and_cancels_the_rest),
    CASE(terminate_cancels_all_and_lets_tasks_clean_up_at_sigterm),
    CASE(kill_cancels_all_and_asks_nobody),
    CASE(terminate_kills_what_ignores_sigterm),
    CASE(kill_need_not_wait_for_the_grace),
    CASE(shutdown_is_pending_while_a_task_runs_and_says_so),
    CASE(stronger_mode_ends_what_a_weaker_one_waits_for),
    CASE(cancel_after_drain_cancels_what_is_queued),
    CASE(weaker_mode_changes_nothing),
    CASE(wrong_arguments_are_refused_and_change_nothing),
    CASE(shut_down_pool_takes_no_new_work),
    CASE(pool_takes_no_new_work_from_the_beginning_of_its_end),
    CASE(tasks_are_handed_out_after_a_shutdown),
    CASE(waiting_ends_a_pool_as_well_as_shutdown_does),
    CASE(drain_replaces_workers_that_die),
    CASE(drain_recycles_workers),
    CASE(deadlines_hold_during_a_drain),
    CASE(tasks_may_be_cancelled_during_a_drain),
    CASE(idle_pool_is_shut_down_in_any_mode_twice),
    CASE(pool_that_was_just_created_is_shut_down_in_any_mode),
    CASE(workers_that_are_still_starting_do_not_delay_the_end),
    CASE(broken_pool_is_shut_down_in_any_mode),
    CASE(stopped_worker_does_not_outlive_a_shutdown),
    CASE(stopped_worker_gets_its_sigterm),
    {0},
};

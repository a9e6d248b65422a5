/* conformance_progress: pools with a thread of their own that drives when no caller does. */
#include "conformance_deeds.h"
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct scene make_driven_scene(unsigned workers)
{
    struct pool_options options = scene_options(workers);
    options.progress_thread = 1;
    options.soft_kill_grace_ms = 50;
    return make_scene_with(&options);
}

/* Without a call that could drive the pool. */
static void await_end(const struct pool_task *task)
{
    struct pool_result result;
    int rc;
    for (uint64_t since_ms = now_ms(); (rc = pool_task_result(task, &result)) == POOL_PENDING;)
        EXPECT(have_patience(since_ms));
    EXPECT_OK(rc);
}

static void tasks_end_though_nobody_waits(void)
{
    struct pool_task *queued[QUEUED];
    struct scene scene = make_driven_scene(2);
    queue_deeds(&scene, queued);
    for (unsigned i = 0; i < QUEUED; i++) {
        await_end(queued[i]);
        EXPECT_OK(status_of(queued[i]));
    }
    free_tasks(queued, QUEUED);
    EXPECT_OK(pool_destroy(scene.pool));
}

static void deadlines_are_kept_though_nobody_waits(void)
{
    struct pool_task_options options = POOL_TASK_OPTIONS_INIT;
    struct scene scene = make_driven_scene(1);
    options.timeout_ms = 200;
    struct pool_task *late = submit_deed_with(&scene, DEED_IGNORES_SIGTERM, 1, &options);
    struct pool_task *next = submit_deed(&scene, DEED_ENDS, 2);
    await_end(late);
    await_end(next);
    EXPECT_INT(take_status(late), POOL_ETIMEOUT);
    EXPECT_OK(take_status(next));
    EXPECT_OK(pool_destroy(scene.pool));
}

static void workers_are_replaced_though_nobody_waits(void)
{
    struct scene scene = make_driven_scene(1);
    for (int i = 0; i < 3; i++) {
        struct pool_task *culprit = submit_deed(&scene, DEED_CRASHES, 1), *next = submit_deed(&scene, DEED_ENDS, 2);
        await_end(next);
        EXPECT_INT(take_status(culprit), POOL_ECRASH);
        EXPECT_OK(take_status(next));
    }
    EXPECT_OK(pool_destroy(scene.pool));
}

static void cancelled_tasks_end_though_nobody_waits(void)
{
    struct scene scene = make_driven_scene(1);
    struct pool_task *endless = submit_deed(&scene, DEED_IGNORES_SIGTERM, 1), *next = submit_deed(&scene, DEED_ENDS, 2);
    await_begun(&scene, 1);
    EXPECT_OK(pool_cancel(endless));
    await_end(endless);
    await_end(next);
    EXPECT_INT(take_status(endless), POOL_ECANCELED);
    EXPECT_OK(take_status(next));
    EXPECT_OK(pool_destroy(scene.pool));
}

/* Larger than what fits into a pipe, so that they are sent and received piece by piece. */
static void large_tasks_end_though_nobody_waits(void)
{
    enum { BYTES = 8 << 20, TASKS = 4 };
    struct pool_task *tasks[TASKS];
    char *input = malloc(BYTES);
    struct scene scene = make_driven_scene(2);
    for (int i = 0; i < TASKS; i++) {
        memset(input, 'a' + i, BYTES);
        EXPECT_OK(pool_submit(scene.pool, return_input, input, BYTES, NULL, &tasks[i]));
    }
    for (int i = 0; i < TASKS; i++) {
        await_end(tasks[i]);
        struct pool_result result = result_of(tasks[i]);
        memset(input, 'a' + i, BYTES);
        EXPECT(result.data_size == BYTES && !memcmp(result.data, input, BYTES));
    }
    free(input);
    free_tasks(tasks, TASKS);
    EXPECT_OK(pool_destroy(scene.pool));
}

static int submit_and_wait(void *scene)
{
    for (unsigned i = 0; i < 200; i++)
        EXPECT_OK(take_status(submit_deed(scene, DEED_ENDS, i)));
    return 0;
}

static void threads_wait_beside_the_progress_thread(void)
{
    enum { THREADS = 4 };
    struct caller callers[THREADS];
    struct scene scene = make_driven_scene(2);
    for (int i = 0; i < THREADS; i++)
        start_caller(&callers[i], submit_and_wait, &scene);
    for (int i = 0; i < THREADS; i++)
        EXPECT_OK(end_of_caller(&callers[i]));
    EXPECT_INT(scene.board->counters[DEEDS_BEGUN], THREADS * 200);
    EXPECT_OK(pool_destroy(scene.pool));
}

static void waiting_thread_is_woken_when_the_progress_thread_drives(void)
{
    struct caller waiters[2];
    struct scene scene = make_driven_scene(2);
    struct pool_task *endless = submit_deed(&scene, DEED_NEVER_ENDS, 1);
    struct pool_task *gated = submit_deed(&scene, DEED_WAITS_AT_GATE, 2);
    start_caller(&waiters[0], wait_for_ever, endless);
    start_caller(&waiters[1], wait_for_ever, gated);
    await_sleep(&waiters[0]);
    await_sleep(&waiters[1]);
    open_gate(&scene);
    EXPECT_OK(end_of_caller(&waiters[1]));
    EXPECT_OK(pool_cancel(endless));
    EXPECT_INT(end_of_caller(&waiters[0]), POOL_ECANCELED);
    pool_task_free(endless);
    pool_task_free(gated);
    EXPECT_OK(pool_destroy(scene.pool));
}

/* ---- the thread itself ---- */

/* In ticks of the clock: what all threads of this process have used. */
static long cpu_ticks(void)
{
    char text[1024];
    unsigned long user, system;
    EXPECT(read_file("/proc/self/stat", text, sizeof text) > 0);
    EXPECT_INT(sscanf(strrchr(text, ')') + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system),
               2);
    return (long)(user + system);
}

static void progress_thread_is_one_and_does_not_spin(void)
{
    enum { WATCHED_MS = 700 };
    unsigned threads = thread_count();
    struct scene scene = make_driven_scene(2);
    struct pool_task *busy[2], *task = NULL;
    EXPECT_INT(thread_count(), threads + 1);
    occupy(&scene, DEED_NEVER_ENDS, busy);
    long ticks = cpu_ticks();
    EXPECT_INT(pool_wait(busy[0], WATCHED_MS / 2), POOL_PENDING);
    for (uint64_t since_ms = now_ms(); now_ms() < since_ms + WATCHED_MS / 2;)
        have_patience(since_ms);
    EXPECT((cpu_ticks() - ticks) * 1000 / sysconf(_SC_CLK_TCK) < WATCHED_MS / 3);
    EXPECT_INT(pool_next(scene.pool, 0, &task), POOL_PENDING);
    EXPECT_OK(pool_shutdown(scene.pool, POOL_KILL, POOL_FOREVER));
    EXPECT_OK(pool_destroy(scene.pool));
    await_thread_count(threads);
    free_tasks(busy, 2);
}

/* The handlers of the host are for threads of the host. */
static void signals_of_the_host_do_not_go_to_the_progress_thread(void)
{
    if (is_sanitized())
        skip_case("there may be a thread of the sanitizer's");
    struct scene scene = make_driven_scene(1);
    DIR *folder = opendir("/proc/self/task");
    EXPECT(folder);
    for (struct dirent *entry = readdir(folder); entry; entry = readdir(folder)) {
        char path[300], text[4096];
        if (entry->d_name[0] == '.' || atoi(entry->d_name) == getpid())
            continue;
        snprintf(path, sizeof path, "/proc/self/task/%s/status", entry->d_name);
        if (read_file(path, text, sizeof text) <= 0)
            continue;
        EXPECT_TEXT(text, "SigBlk:\t");
        unsigned long long blocked = strtoull(strstr(text, "SigBlk:\t") + 8, NULL, 16);
        for (int number = 1; number < 32; number++)
            EXPECT(blocked >> (number - 1) & 1 || number == SIGKILL || number == SIGSTOP || number == SIGSEGV ||
                   number == SIGBUS || number == SIGFPE || number == SIGILL || number == SIGTRAP || number == SIGSYS);
    }
    closedir(folder);
    EXPECT_OK(pool_destroy(scene.pool));
}

static void destroy_ends_the_progress_thread_after_all_tasks(void)
{
    struct pool_task *queued[QUEUED];
    struct scene scene = make_driven_scene(2);
    queue_deeds(&scene, queued);
    EXPECT_OK(pool_destroy(scene.pool));
    for (unsigned i = 0; i < QUEUED; i++)
        EXPECT_OK(status_of(queued[i]));
    EXPECT_INT(scene.board->counters[WORKERS_FINALIZED], 2);
    free_tasks(queued, QUEUED);
}

static void pool_that_drives_itself_comes_to_its_end_by_itself(void)
{
    struct pool_task *busy[1];
    struct scene scene = make_driven_scene(1);
    occupy(&scene, DEED_WAITS_AT_GATE, busy);
    EXPECT_INT(pool_shutdown(scene.pool, POOL_DRAIN, 0), POOL_PENDING);
    open_gate(&scene);
    EXPECT(has_vanished(scene.pids[0]));
    EXPECT_OK(pool_shutdown(scene.pool, POOL_DRAIN, POOL_FOREVER));
    EXPECT_OK(take_status(busy[0]));
    close_scene(&scene);
}

static void many_pools_that_drive_themselves_come_and_go(void)
{
    for (int i = 0; i < 20; i++) {
        struct scene scene = make_driven_scene(2);
        if (i % 2)
            EXPECT_OK(take_status(submit_deed(&scene, DEED_ENDS, 1)));
        EXPECT_OK(pool_destroy(scene.pool));
    }
}

const struct conformance_case progress_cases[] = {
    CASE(tasks_end_though_nobody_waits),
    CASE(deadlines_are_kept_though_nobody_waits),
    CASE(workers_are_replaced_though_nobody_waits),
    CASE(cancelled_tasks_end_though_nobody_waits),
    CASE(large_tasks_end_though_nobody_waits),
    CASE(threads_wait_beside_the_progress_thread),
    CASE(waiting_thread_is_woken_when_the_progress_thread_drives),
    CASE(progress_thread_is_one_and_does_not_spin),
    CASE(signals_of_the_host_do_not_go_to_the_progress_thread),
    CASE(destroy_ends_the_progress_thread_after_all_tasks),
    CASE(pool_that_drives_itself_comes_to_its_end_by_itself),
    CASE(many_pools_that_drive_themselves_come_and_go),
    {0},
};

/* conformance_eventloop: programs that wait for many things in one place: pool_fd says when, pool_process does it. The
 * fd is readable when there is something to do, and not when there is nothing, or such a program would spin. */
#include "conformance_deeds.h"
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { QUIET_MS = 300, FEW = 8 };

static bool is_readable(const struct pool *pool, int timeout_ms)
{
    struct pollfd entry = {.fd = pool_fd(pool), .events = POLLIN};
    EXPECT(entry.fd >= 0);
    int ready = poll(&entry, 1, timeout_ms);
    EXPECT(ready == 0 || (ready == 1 && entry.revents == POLLIN));
    return ready == 1;
}

/* Process for that long what there is to do: how often there was something. */
static unsigned count_wake_ups(struct pool *pool, uint64_t duration_ms)
{
    unsigned count = 0;
    uint64_t until_ms = now_ms() + duration_ms;
    for (uint64_t now = now_ms(); now < until_ms; now = now_ms()) {
        if (!is_readable(pool, (int)(until_ms - now)))
            continue;
        EXPECT(pool_process(pool) >= 0);
        count++;
    }
    return count;
}

static void expect_quiet(struct pool *pool)
{
    EXPECT(count_wake_ups(pool, QUIET_MS) < FEW);
    EXPECT(!is_readable(pool, 0));
}

/* Go on until that task has ended, by events alone. */
static void process_until_end(struct pool *pool, const struct pool_task *task)
{
    struct pool_result result;
    while (pool_task_result(task, &result) == POOL_PENDING) {
        EXPECT(is_readable(pool, PATIENCE_MS));
        EXPECT(pool_process(pool) >= 0);
    }
}

static void fd_is_closed_with_the_pool_though_a_task_is_kept(void)
{
    unsigned fds = open_fd_count();
    struct scene scene = make_scene(1);
    struct pool_task *task = submit_deed(&scene, DEED_ENDS, 1);
    EXPECT(pool_fd(scene.pool) >= 0);
    EXPECT_OK(pool_destroy(scene.pool));
    EXPECT_INT(open_fd_count(), fds);
    EXPECT_OK(take_status(task));
}

static void fd_is_the_same_at_each_call(void)
{
    struct scene scene = make_scene(2);
    int fd = pool_fd(scene.pool);
    EXPECT(fd >= 0);
    EXPECT_OK(take_status(submit_deed(&scene, DEED_ENDS, 1)));
    EXPECT_INT(pool_fd(scene.pool), fd);
    EXPECT(pool_process(scene.pool) >= 0);
    EXPECT_INT(pool_fd(scene.pool), fd);
    EXPECT_OK(pool_shutdown(scene.pool, POOL_DRAIN, POOL_FOREVER));
    EXPECT_INT(pool_fd(scene.pool), fd);
    close_scene(&scene);
}

static void null_is_refused(void)
{
    EXPECT_INT(pool_fd(NULL), -EINVAL);
    EXPECT_INT(pool_process(NULL), -EINVAL);
}

static void fd_that_cannot_be_made_is_an_error_and_can_be_made_later(void)
{
    struct rlimit limit, none;
    struct scene scene = make_scene(1);
    int lowest_free = dup(STDIN_FILENO);
    EXPECT(lowest_free > 0);
    close(lowest_free);
    getrlimit(RLIMIT_NOFILE, &limit);
    none = (struct rlimit){(rlim_t)lowest_free, limit.rlim_max};
    EXPECT_OK(setrlimit(RLIMIT_NOFILE, &none));
    int fd = pool_fd(scene.pool);
    EXPECT_OK(setrlimit(RLIMIT_NOFILE, &limit));
    EXPECT(fd >= 0 || fd == -EMFILE);
    EXPECT(pool_fd(scene.pool) >= 0);
    struct pool_task *task = submit_deed(&scene, DEED_ENDS, 1);
    process_until_end(scene.pool, task);
    EXPECT_OK(take_status(task));
    EXPECT_OK(pool_destroy(scene.pool));
}

/* ---- when it is readable ---- */

static void end_of_a_task_is_an_event(void)
{
    struct pool_task *task = NULL;
    struct scene scene = make_scene(2);
    struct pool_task *gated = submit_deed(&scene, DEED_WAITS_AT_GATE, 1);
    expect_quiet(scene.pool);
    EXPECT_INT(pool_next(scene.pool, 0, &task), POOL_PENDING);
    open_gate(&scene);
    process_until_end(scene.pool, gated);
    expect_quiet(scene.pool); /* though nobody has taken it */
    EXPECT_OK(pool_next(scene.pool, 0, &task));
    EXPECT(task == gated);
    EXPECT_INT(pool_next(scene.pool, 0, &task), POOL_EMPTY);
    EXPECT_OK(take_status(gated));
    EXPECT_OK(pool_destroy(scene.pool));
}

static void idle_pool_is_quiet(void)
{
    struct pool *pool = make_pool(4); /* of which some are still starting */
    EXPECT(count_wake_ups(pool, QUIET_MS) < 4 * FEW);
    expect_quiet(pool);
    EXPECT_OK(pool_destroy(pool));
}

static void pool_is_quiet_while_tasks_run_that_take_long(void)
{
    struct pool_task_options options = POOL_TASK_OPTIONS_INIT;
    struct pool_task *queued[QUEUED];
    struct scene scene = make_scene(2);
    options.timeout_ms = PATIENCE_MS; /* a timer is armed */
    for (unsigned i = 0; i < 2; i++)
        pool_task_free(submit_deed_with(&scene, DEED_WAITS_AT_GATE, i, &options));
    await_begun(&scene, 2);
    queue_deeds(&scene, queued);
    count_wake_ups(scene.pool, 50);
    expect_quiet(scene.pool);
    open_gate(&scene);
    process_until_end(scene.pool, queued[QUEUED - 1]);
    EXPECT_OK(pool_destroy(scene.pool));
    free_tasks(queued, QUEUED);
}

static void deadline_is_an_event(void)
{
    struct pool_task_options options = POOL_TASK_OPTIONS_INIT;
    struct pool_options pool_options = scene_options(1);
    pool_options.soft_kill_grace_ms = 100;
    struct scene scene = make_scene_with(&pool_options);
    options.timeout_ms = 200;
    struct pool_task *late = submit_deed_with(&scene, DEED_IGNORES_SIGTERM, 1, &options);
    struct pool_task *next = submit_deed(&scene, DEED_ENDS, 2);
    process_until_end(scene.pool, late);
    process_until_end(scene.pool, next);
    EXPECT_INT(take_status(late), POOL_ETIMEOUT);
    EXPECT_OK(take_status(next));
    expect_quiet(scene.pool);
    EXPECT_OK(pool_destroy(scene.pool));
}

static void cancellation_is_an_event(void)
{
    struct scene scene = make_scene(1);
    struct pool_task *running = submit_deed(&scene, DEED_NEVER_ENDS, 1), *queued = submit_deed(&scene, DEED_ENDS, 2);
    struct pool_task *task = NULL;
    await_begun(&scene, 1);
    expect_quiet(scene.pool);
    EXPECT_OK(pool_cancel(queued));
    EXPECT(is_readable(scene.pool, PATIENCE_MS));
    EXPECT_INT(pool_process(scene.pool), 1);
    EXPECT_OK(pool_next(scene.pool, 0, &task));
    EXPECT(task == queued);
    EXPECT_OK(pool_cancel(running));
    process_until_end(scene.pool, running);
    EXPECT_INT(take_status(running), POOL_ECANCELED);
    EXPECT_INT(take_status(queued), POOL_ECANCELED);
    expect_quiet(scene.pool);
    EXPECT_OK(pool_destroy(scene.pool));
}

static void death_of_an_idle_worker_is_an_event(void)
{
    struct scene scene = make_scene(2);
    expect_quiet(scene.pool);
    EXPECT_OK(kill(scene.pids[0], SIGKILL));
    EXPECT(is_readable(scene.pool, PATIENCE_MS));
    count_wake_ups(scene.pool, QUIET_MS);
    expect_quiet(scene.pool);
    EXPECT_OK(take_status(submit_deed(&scene, DEED_ENDS, 1)));
    EXPECT_OK(pool_destroy(scene.pool));
}

/* Once the gate is open, no worker becomes ready any more. */
static int initialize_while_gate_is_closed(const void *arg, size_t arg_size, void **state_out)
{
    int code = attach_board(arg, arg_size, state_out);
    return code ? code : (int)((struct board *)*state_out)->counters[DEEDS_GATE];
}

static void end_of_a_broken_pools_tasks_is_an_event(void)
{
    struct pool_options options = scene_options(1);
    options.initializer = initialize_while_gate_is_closed;
    struct scene scene = make_scene_with(&options);
    struct pool_task *first = submit_deed(&scene, DEED_WAITS_AT_GATE, 1);
    struct pool_task *culprit = submit_deed(&scene, DEED_CRASHES, 2), *waiting = submit_deed(&scene, DEED_ENDS, 3);
    expect_quiet(scene.pool);
    open_gate(&scene);
    process_until_end(scene.pool, waiting);
    EXPECT_OK(take_status(first));
    EXPECT_INT(take_status(waiting), POOL_EBROKEN);
    int status = take_status(culprit); /* if it was in doubt it would have to run again, alone */
    EXPECT(status == POOL_ECRASH || status == POOL_EBROKEN);
    expect_quiet(scene.pool);
    EXPECT_OK(pool_destroy(scene.pool));
}

/* A program that asks for the fd late must not wait for an event that has passed. */
static void what_ended_before_the_first_pool_fd_is_an_event_too(void)
{
    struct pool_task *task = NULL;
    struct scene scene = make_scene(1);
    submit_deed(&scene, DEED_ENDS, 1);
    EXPECT_OK(take_status(submit_deed(&scene, DEED_ENDS, 2)));
    EXPECT(is_readable(scene.pool, PATIENCE_MS));
    EXPECT(pool_process(scene.pool) >= 1);
    EXPECT_OK(pool_next(scene.pool, 0, &task));
    EXPECT_OK(take_status(task));
    expect_quiet(scene.pool);
    EXPECT_OK(pool_destroy(scene.pool));
}

/* ---- programs that poll ---- */

/* Go on without waiting until that task has ended, with another worker always at work. */
static void poll_until_end(const struct scene *scene, const struct pool_task *task)
{
    struct pool_result result;
    struct pool_task *beside = submit_deed(scene, DEED_ENDS, 1);
    uint64_t since_ms = now_ms();
    while (pool_task_result(task, &result) == POOL_PENDING) {
        EXPECT(now_ms() - since_ms < PATIENCE_MS);
        EXPECT(pool_process(scene->pool) >= 0);
        if (pool_task_result(beside, &result) == POOL_PENDING)
            continue;
        EXPECT_OK(take_status(beside));
        beside = submit_deed(scene, DEED_ENDS, 1);
    }
    EXPECT_OK(take_status(beside));
}

/* To poll looks at what busy workers say, and not each time at everything. */
static void who_polls_hears_of_deaths_and_deadlines_too(void)
{
    struct pool_task_options options = POOL_TASK_OPTIONS_INIT;
    struct scene scene = make_scene(2);
    options.timeout_ms = 20;
    struct pool_task *late = submit_deed_with(&scene, DEED_NEVER_ENDS, 2, &options);
    poll_until_end(&scene, late);
    EXPECT_INT(take_status(late), POOL_ETIMEOUT);
    struct pool_task *lost = submit_deed(&scene, DEED_CRASHES, 3);
    poll_until_end(&scene, lost);
    EXPECT_INT(take_status(lost), POOL_ECRASH);
    EXPECT_OK(pool_destroy(scene.pool));
}

/* ---- whole programs ---- */

enum { TASKS = 120, DEADLINE_MS = 150 };

static enum deed deed_of(unsigned id)
{
    static const enum deed some[] = {DEED_FAILS, DEED_CRASHES, DEED_NEVER_ENDS, DEED_IGNORES_SIGTERM};
    return id % 10 == 5 ? some[id / 10 % 4] : DEED_ENDS;
}

static int status_due(unsigned id)
{
    switch (deed_of(id)) {
    case DEED_FAILS:
        return POOL_ETASK;
    case DEED_CRASHES:
        return POOL_ECRASH;
    case DEED_NEVER_ENDS:
        return POOL_ETIMEOUT; /* has a deadline */
    case DEED_IGNORES_SIGTERM:
        return POOL_ECANCELED; /* is cancelled at once */
    default:
        return 0;
    }
}

struct program {
    struct scene *scene;
    unsigned submitted, collected;
    int processed;
    bool seen[TASKS];
};

static void submit_next(struct program *program)
{
    struct pool_task_options options = POOL_TASK_OPTIONS_INIT;
    unsigned id = program->submitted;
    if (id == TASKS)
        return;
    options.tag = &program->seen[id];
    options.timeout_ms = deed_of(id) == DEED_NEVER_ENDS ? DEADLINE_MS : 0;
    struct deed_input input = {(int)deed_of(id), id};
    struct pool_task *task = NULL;
    EXPECT_OK(pool_submit(program->scene->pool, do_deed, &input, sizeof input, &options, &task));
    if (input.deed == DEED_IGNORES_SIGTERM)
        EXPECT_OK(pool_cancel(task));
    program->submitted++;
}

static void collect(struct program *program, struct pool_task *task)
{
    bool *seen = pool_task_tag(task);
    unsigned id = (unsigned)(seen - program->seen);
    struct pool_result result = result_of(task);
    EXPECT(!*seen);
    EXPECT_INT(result.status, status_due(id));
    EXPECT(result.status || *(const unsigned *)result.data == id);
    *seen = true;
    program->collected++;
    pool_task_free(task);
    submit_next(program);
    submit_next(program);
}

static void handle_events(struct program *program)
{
    struct pool_task *task;
    int ended = pool_process(program->scene->pool), rc;
    EXPECT(ended >= 0);
    program->processed += ended;
    while (!(rc = pool_next(program->scene->pool, 0, &task)))
        collect(program, task);
    EXPECT(rc == POOL_PENDING || rc == POOL_EMPTY);
}

static void finish(struct program *program)
{
    program->processed += pool_process(program->scene->pool);
    EXPECT_INT(program->processed, TASKS);
    EXPECT_INT(program->collected, TASKS);
    expect_quiet(program->scene->pool);
    EXPECT_OK(pool_destroy(program->scene->pool));
}

static void whole_program_runs_by_events_alone(void)
{
    struct scene scene = make_scene(3);
    struct program program = {.scene = &scene};
    EXPECT(pool_fd(scene.pool) >= 0);
    submit_next(&program);
    while (program.collected < TASKS) {
        EXPECT(is_readable(scene.pool, PATIENCE_MS));
        handle_events(&program);
    }
    finish(&program);
}

/* A child of the host, made without the library's knowledge, that has all fds until it is told to end. */
static pid_t copy_of_host(int gate_out[2])
{
    char byte;
    EXPECT_OK(pipe(gate_out));
    pid_t pid = (pid_t)syscall(SYS_clone, (long)SIGCHLD, NULL, NULL, NULL, NULL);
    if (!pid) {
        close(gate_out[1]);
        (void)!read(gate_out[0], &byte, 1);
        _exit(0);
    }
    EXPECT(pid > 0);
    return pid;
}

static void end_of_a_worker_is_told_once_though_others_have_its_fds(void)
{
    int gate[2], status;
    struct scene scene = make_scene(2);
    struct pool_task *task = submit_deed(&scene, DEED_ENDS, 1);
    process_until_end(scene.pool, task);
    EXPECT_OK(take_status(task));
    pid_t copy = copy_of_host(gate);
    task = submit_deed(&scene, DEED_CRASHES, 2);
    process_until_end(scene.pool, task);
    EXPECT_INT(take_status(task), POOL_ECRASH);
    expect_quiet(scene.pool);
    close(gate[0]);
    close(gate[1]);
    EXPECT_INT(waitpid(copy, &status, 0), copy);
    EXPECT_OK(pool_destroy(scene.pool));
}

static void two_pools_share_one_epoll_set(void)
{
    struct scene scenes[2];
    struct program programs[2] = {{.scene = &scenes[0]}, {.scene = &scenes[1]}};
    int epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    for (int i = 0; i < 2; i++) {
        scenes[i] = make_scene(2);
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = &programs[i]};
        EXPECT_OK(epoll_ctl(epoll_fd, EPOLL_CTL_ADD, pool_fd(scenes[i].pool), &event));
        submit_next(&programs[i]);
    }
    while (programs[0].collected + programs[1].collected < 2 * TASKS) {
        struct epoll_event event;
        EXPECT_INT(epoll_wait(epoll_fd, &event, 1, PATIENCE_MS), 1);
        handle_events(event.data.ptr);
    }
    close(epoll_fd);
    finish(&programs[0]);
    finish(&programs[1]);
}

static void process_alone_gets_everything_done(void)
{
    struct scene scene = make_scene(2);
    struct program program = {.scene = &scene};
    submit_next(&program);
    for (uint64_t since_ms = now_ms(); program.collected < TASKS;) {
        EXPECT(have_patience(since_ms));
        handle_events(&program);
    }
    finish(&program);
}

/* ---- beside other threads ---- */

static void pool_is_quiet_while_another_thread_drives(void)
{
    struct caller driver;
    struct scene scene = make_scene(2);
    EXPECT(pool_fd(scene.pool) >= 0);
    struct pool_task *gated = submit_deed(&scene, DEED_WAITS_AT_GATE, 1);
    start_caller(&driver, wait_for_ever, gated);
    await_sleep(&driver);
    count_wake_ups(scene.pool, 50);
    expect_quiet(scene.pool);
    open_gate(&scene);
    EXPECT_OK(end_of_caller(&driver));
    pool_task_free(gated);
    EXPECT_OK(pool_destroy(scene.pool));
}

static void end_of_a_task_is_an_event_though_another_thread_drives(void)
{
    struct caller driver;
    struct pool_task *task = NULL;
    struct scene scene = make_scene(2);
    EXPECT(pool_fd(scene.pool) >= 0);
    struct pool_task *gated = submit_deed(&scene, DEED_WAITS_AT_GATE, 1);
    start_caller(&driver, wait_for_ever, gated);
    await_sleep(&driver);
    for (unsigned i = 0; i < 5; i++) {
        submit_deed(&scene, DEED_ENDS, 10 + i);
        while (pool_next(scene.pool, 0, &task) == POOL_PENDING) {
            EXPECT(is_readable(scene.pool, PATIENCE_MS));
            EXPECT(pool_process(scene.pool) >= 0);
        }
        EXPECT_INT(*(const unsigned *)result_of(task).data, 10 + i);
        pool_task_free(task);
    }
    open_gate(&scene);
    EXPECT_OK(end_of_caller(&driver));
    pool_task_free(gated);
    EXPECT_OK(pool_destroy(scene.pool));
}

static void events_go_on_when_the_thread_that_drove_has_left(void)
{
    struct caller driver;
    struct scene scene = make_scene(2);
    EXPECT(pool_fd(scene.pool) >= 0);
    struct pool_task *first = submit_deed(&scene, DEED_NEVER_ENDS, 1);
    struct pool_task *second = submit_deed(&scene, DEED_WAITS_AT_GATE, 2);
    start_caller(&driver, wait_for_ever, first);
    await_sleep(&driver);
    EXPECT_OK(pool_cancel(first));
    EXPECT_INT(end_of_caller(&driver), POOL_ECANCELED);
    count_wake_ups(scene.pool, 50);
    open_gate(&scene);
    process_until_end(scene.pool, second);
    EXPECT_OK(take_status(second));
    pool_task_free(first);
    EXPECT_OK(pool_destroy(scene.pool));
}

static void process_counts_what_others_drove(void)
{
    struct scene scene = make_scene(2);
    EXPECT(pool_fd(scene.pool) >= 0);
    EXPECT_INT(pool_process(scene.pool), 0); /* the scene's items are no tasks */
    for (unsigned i = 0; i < 3; i++)
        EXPECT_OK(take_status(submit_deed(&scene, DEED_ENDS, i)));
    EXPECT_INT(take_status(submit_deed(&scene, DEED_FAILS, 3)), POOL_ETASK);
    EXPECT_INT(pool_process(scene.pool), 4);
    EXPECT_INT(pool_process(scene.pool), 0);
    EXPECT_OK(pool_destroy(scene.pool));
}

static void pool_that_drives_itself_tells_news(void)
{
    struct pool_options options = scene_options(2);
    struct pool_task *task = NULL;
    options.progress_thread = 1;
    struct scene scene = make_scene_with(&options);
    EXPECT(pool_fd(scene.pool) >= 0);
    for (unsigned i = 0; i < 5; i++) {
        submit_deed(&scene, DEED_ENDS, i);
        while (pool_next(scene.pool, 0, &task) == POOL_PENDING) {
            EXPECT(is_readable(scene.pool, PATIENCE_MS));
            EXPECT(pool_process(scene.pool) >= 0);
        }
        pool_task_free(task);
    }
    expect_quiet(scene.pool);
    EXPECT_OK(pool_destroy(scene.pool));
}

/* ---- to the end ---- */

static void process_until_gone(struct scene *scene, enum pool_shutdown_mode mode)
{
    int rc;
    while ((rc = pool_shutdown(scene->pool, mode, 0))) {
        EXPECT_INT(rc, POOL_PENDING);
        EXPECT(is_readable(scene->pool, PATIENCE_MS));
        EXPECT(pool_process(scene->pool) >= 0);
    }
}

static void pool_comes_to_its_end_by_events_alone(void)
{
    for (int mode = POOL_DRAIN; mode <= POOL_KILL; mode++) {
        bool hard = mode >= POOL_TERMINATE;
        struct pool_task *busy[2], *queued[QUEUED], *task = NULL;
        struct pool_options options = scene_options(2);
        options.soft_kill_grace_ms = 100;
        struct scene scene = make_scene_with(&options);
        EXPECT(pool_fd(scene.pool) >= 0);
        occupy(&scene, hard ? DEED_IGNORES_SIGTERM : DEED_WAITS_AT_GATE, busy);
        queue_deeds(&scene, queued);
        int begun = pool_shutdown(scene.pool, (enum pool_shutdown_mode)mode, 0);
        EXPECT(begun == POOL_PENDING || (hard && !begun));
        if (!hard)
            expect_quiet(scene.pool);
        open_gate(&scene);
        process_until_gone(&scene, (enum pool_shutdown_mode)mode);
        EXPECT_INT(status_of(busy[0]), hard ? POOL_ECANCELED : 0);
        EXPECT_INT(status_of(queued[QUEUED - 1]), mode == POOL_DRAIN ? 0 : POOL_ECANCELED);
        for (int i = 0; i < QUEUED + 2; i++)
            EXPECT_OK(pool_next(scene.pool, 0, &task));
        EXPECT_INT(pool_next(scene.pool, 0, &task), POOL_EMPTY);
        EXPECT(pool_process(scene.pool) >= 0);
        expect_quiet(scene.pool);
        close_scene(&scene);
        free_tasks(busy, 2);
        free_tasks(queued, QUEUED);
    }
}

static void end_of_a_pool_that_drives_itself_is_an_event(void)
{
    for (int mode = POOL_DRAIN; mode <= POOL_KILL; mode++) {
        struct pool_options options = scene_options(2);
        options.progress_thread = 1;
        struct scene scene = make_scene_with(&options);
        EXPECT(pool_fd(scene.pool) >= 0);
        process_until_gone(&scene, (enum pool_shutdown_mode)mode);
        EXPECT(pool_process(scene.pool) >= 0);
        expect_quiet(scene.pool);
        close_scene(&scene);
    }
}

const struct conformance_case eventloop_cases[] = {
    CASE(fd_is_the_same_at_each_call),
    CASE(fd_is_closed_with_the_pool_though_a_task_is_kept),
    CASE(null_is_refused),
    CASE(fd_that_cannot_be_made_is_an_error_and_can_be_made_later),
    CASE(end_of_a_task_is_an_event),
    CASE(who_polls_hears_of_deaths_and_deadlines_too),
    CASE(idle_pool_is_quiet),
    CASE(pool_is_quiet_while_tasks_run_that_take_long),
    CASE(deadline_is_an_event),
    CASE(cancellation_is_an_event),
    CASE(death_of_an_idle_worker_is_an_event),
    CASE(end_of_a_broken_pools_tasks_is_an_event),
    CASE(what_ended_before_the_first_pool_fd_is_an_event_too),
    CASE(whole_program_runs_by_events_alone),
    CASE(end_of_a_worker_is_told_once_though_others_have_its_fds),
    CASE(two_pools_share_one_epoll_set),
    CASE(process_alone_gets_everything_done),
    CASE(pool_is_quiet_while_another_thread_drives),
    CASE(end_of_a_task_is_an_event_though_another_thread_drives),
    CASE(events_go_on_when_the_thread_that_drove_has_left),
    CASE(process_counts_what_others_drove),
    CASE(pool_that_drives_itself_tells_news),
    CASE(pool_comes_to_its_end_by_events_alone),
    CASE(end_of_a_pool_that_drives_itself_is_an_event),
    {0},
};

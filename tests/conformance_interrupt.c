/* conformance_interrupt: what befalls the threads of a host while they are in a pool: signals, cancellation, fork(),
 * and others that allocate memory meanwhile. */
#include "conformance_deeds.h"
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>

enum { ALLOCATORS = 8, SHORT_MS = 50 };

/* ---- signals ---- */

static volatile sig_atomic_t alarms;

static void count_alarm(int number)
{
    (void)number;
    alarms = alarms + 1;
}

static void map_some(const struct scene *scene)
{
    enum { COUNT = 3000 };
    static struct deed_input items[COUNT];
    static unsigned results[COUNT];
    for (unsigned i = 0; i < COUNT; i++)
        items[i] = (struct deed_input){DEED_ENDS, i};
    EXPECT_OK(pool_map(scene->pool, do_deed_item, items, sizeof *items, results, sizeof *results, COUNT));
    for (unsigned i = 0; i < COUNT; i++)
        EXPECT_INT(results[i], i);
}

static void use_in_every_way(const struct scene *scene)
{
    struct pool_task *queued[QUEUED], *task;
    struct deed_input input = {DEED_ENDS, 7};
    for (int round = 0; round < 5; round++) {
        for (unsigned i = 0; i < QUEUED; i++)
            EXPECT_OK(take_status(submit_deed(scene, DEED_ENDS, i)));
        queue_deeds(scene, queued);
        for (unsigned i = 0; i < QUEUED; i++) {
            EXPECT_OK(pool_next(scene->pool, POOL_FOREVER, &task));
            EXPECT_OK(take_status(task));
        }
        EXPECT_OK(pool_broadcast(scene->pool, do_deed, &input, sizeof input));
    }
    map_some(scene);
}

/* Without SA_RESTART every system call of the host may end with EINTR. */
static void signals_interrupt_no_call(void)
{
    struct sigaction action = {.sa_handler = count_alarm}, before;
    struct itimerval often = {{0, 200}, {0, 200}}, never = {{0, 0}, {0, 0}};
    struct scene scene = make_scene(2);
    sigaction(SIGALRM, &action, &before);
    setitimer(ITIMER_REAL, &often, NULL);
    use_in_every_way(&scene);
    struct pool_task *endless = submit_deed(&scene, DEED_NEVER_ENDS, 1);
    uint64_t since_ms = now_ms();
    EXPECT_INT(pool_wait(endless, 2 * SHORT_MS), POOL_PENDING);
    EXPECT_INT(pool_shutdown(scene.pool, POOL_DRAIN, 2 * SHORT_MS), POOL_PENDING);
    EXPECT(now_ms() - since_ms >= 4 * SHORT_MS);
    EXPECT_OK(pool_shutdown(scene.pool, POOL_TERMINATE, POOL_FOREVER));
    close_scene(&scene);
    setitimer(ITIMER_REAL, &never, NULL);
    sigaction(SIGALRM, &before, NULL);
    EXPECT(alarms > 100);
    pool_task_free(endless);
}

/* ---- cancellation ---- */

static atomic_bool got_through;

static void *wait_and_end(void *task)
{
    got_through = pool_wait(task, POOL_FOREVER) == 0;
    pthread_testcancel();
    return NULL;
}

static void wait_is_no_cancellation_point(void)
{
    pthread_t thread;
    void *end = NULL;
    struct scene scene = make_scene(1);
    struct pool_task *task = submit_deed(&scene, DEED_WAITS_AT_GATE, 1);
    await_begun(&scene, 1);
    EXPECT_OK(pthread_create(&thread, NULL, wait_and_end, task));
    EXPECT_INT(pool_wait(task, SHORT_MS), POOL_PENDING); /* most likely both are in it now */
    EXPECT_OK(pthread_cancel(thread));
    EXPECT_INT(pool_wait(task, SHORT_MS), POOL_PENDING);
    open_gate(&scene);
    EXPECT_OK(pthread_join(thread, &end));
    EXPECT(end == PTHREAD_CANCELED && got_through);
    EXPECT_OK(take_status(task));
    EXPECT_OK(pool_destroy(scene.pool));
}

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

/* With its cancellation pending from the beginning. */
static void *live_through_a_pool(void *options)
{
    struct pool *pool;
    struct pool_task *task;
    struct pool_stats stats = POOL_STATS_INIT;
    struct pool_bytes item = {"text", 4}, reply = {NULL, 0};
    EXPECT_OK(pthread_cancel(pthread_self()));
    EXPECT_OK(pool_create(options, &pool));
    EXPECT_OK(pool_map_bytes(pool, return_input, &item, 1, &reply, NULL));
    pool_bytes_clear(&reply);
    EXPECT_OK(pool_submit(pool, return_input, "text", 4, NULL, &task));
    EXPECT(pool_fd(pool) >= 0 && pool_process(pool) >= 0);
    EXPECT_OK(pool_next(pool, POOL_FOREVER, &task));
    EXPECT_OK(pool_wait(task, POOL_FOREVER));
    pool_task_free(task);
    EXPECT_OK(pool_stream(pool, return_input, no_source, no_sink, NULL, NULL));
    EXPECT_OK(pool_broadcast(pool, return_input, NULL, 0));
    EXPECT_OK(pool_stats(pool, &stats));
    EXPECT_OK(pool_shutdown(pool, POOL_DRAIN, POOL_FOREVER));
    EXPECT_OK(pool_destroy(pool));
    got_through = true;
    pthread_testcancel();
    return NULL;
}

static void no_call_is_a_cancellation_point(void)
{
    for (int drives_itself = 0; drives_itself < 2; drives_itself++) {
        pthread_t thread;
        void *end = NULL;
        struct pool_options options = method_options(2);
        options.progress_thread = drives_itself;
        got_through = false;
        EXPECT_OK(pthread_create(&thread, NULL, live_through_a_pool, &options));
        EXPECT_OK(pthread_join(thread, &end));
        EXPECT(end == PTHREAD_CANCELED && got_through);
    }
}

/* ---- pools in a program whose threads allocate ---- */

static atomic_bool stop_allocating;

static int allocate_until_told(void *unused)
{
    void *blocks[64] = {NULL};
    (void)unused;
    for (size_t i = 0; !stop_allocating; i++) {
        free(blocks[i % 64]);
        blocks[i % 64] = malloc(i * 37 % 5000 + 1);
    }
    for (size_t i = 0; i < 64; i++)
        free(blocks[i]);
    return 0;
}

static void pools_come_and_go_while_threads_allocate(void)
{
    enum { ROUNDS = 12 };
    struct caller callers[ALLOCATORS];
    stop_allocating = false;
    for (int i = 0; i < ALLOCATORS; i++)
        start_caller(&callers[i], allocate_until_told, NULL);
    for (int round = 0; round < ROUNDS; round++) {
        struct scene scene = make_scene(2);
        EXPECT_OK(take_status(submit_deed(&scene, DEED_ENDS, 1)));
        EXPECT_INT(take_status(submit_deed(&scene, DEED_CRASHES, 2)), POOL_ECRASH);
        EXPECT_OK(take_status(submit_deed(&scene, DEED_ENDS, 3)));
        EXPECT_OK(pool_destroy(scene.pool));
    }
    stop_allocating = true;
    for (int i = 0; i < ALLOCATORS; i++)
        EXPECT_OK(end_of_caller(&callers[i]));
}

/* ---- fork() ---- */

/* A child that is made while threads of its parent are in the pool. */
struct heritage {
    struct pool *pool;
    struct pool_task *endless, *ended;
    unsigned fds; /* without a pool */
};

static void expect_tasks_useless(const struct heritage *heritage)
{
    struct pool_task *task = NULL;
    struct pool_result result;
    EXPECT_INT(pool_submit(heritage->pool, return_input, "text", 4, NULL, &task), POOL_EFORKED);
    EXPECT(*pool_message() && !task);
    EXPECT_INT(pool_next(heritage->pool, POOL_FOREVER, &task), POOL_EFORKED);
    EXPECT_INT(pool_wait(heritage->endless, POOL_FOREVER), POOL_EFORKED);
    EXPECT_INT(pool_wait(heritage->ended, 0), POOL_EFORKED);
    EXPECT_INT(pool_cancel(heritage->endless), POOL_EFORKED);
    EXPECT_INT(pool_task_result(heritage->endless, &result), POOL_EFORKED);
    EXPECT_INT(pool_task_result(heritage->ended, &result), POOL_EFORKED);
}

static void expect_pool_useless(struct pool *pool)
{
    struct deed_input item = {DEED_ENDS, 1};
    struct pool_bytes bytes = {&item, sizeof item}, reply = {NULL, 0};
    struct pool_stats stats = POOL_STATS_INIT;
    unsigned result = 0;
    EXPECT_INT(pool_map(pool, do_deed_item, &item, sizeof item, &result, sizeof result, 1), POOL_EFORKED);
    EXPECT_INT(pool_map_bytes(pool, do_deed, &bytes, 1, &reply, NULL), POOL_EFORKED);
    EXPECT_INT(pool_stream(pool, do_deed, no_source, no_sink, NULL, NULL), POOL_EFORKED);
    EXPECT_INT(pool_broadcast(pool, do_deed, &item, sizeof item), POOL_EFORKED);
    EXPECT_INT(pool_shutdown(pool, POOL_KILL, POOL_FOREVER), POOL_EFORKED);
    EXPECT_INT(pool_fd(pool), POOL_EFORKED);
    EXPECT_INT(pool_process(pool), POOL_EFORKED);
    EXPECT_INT(pool_stats(pool, &stats), POOL_EFORKED);
}

static int be_useless(void *arg)
{
    const struct heritage *heritage = arg;
    EXPECT(is_sanitized() || thread_count() == 1);
    EXPECT_INT(open_fd_count(), heritage->fds);
    expect_tasks_useless(heritage);
    expect_pool_useless(heritage->pool);
    pool_task_free(heritage->endless);
    EXPECT_OK(pool_destroy(heritage->pool));
    pool_task_free(heritage->ended);
    EXPECT_INT(open_fd_count(), heritage->fds);
    return 0;
}

static atomic_bool stop_working;

static int work_until_told(void *scene)
{
    for (unsigned i = 0; !stop_working; i++)
        EXPECT_OK(take_status(submit_deed(scene, DEED_ENDS, i)));
    return 0;
}

static void fork_children(bool drives_itself)
{
    enum { WORKING = 3, CHILDREN = 10 };
    if (is_sanitized())
        skip_case("a sanitizer's allocator may stay locked in a copy that is made while other threads allocate");
    struct caller callers[WORKING];
    struct pool_options options = scene_options(3);
    unsigned fds = open_fd_count();
    options.progress_thread = drives_itself;
    struct scene scene = make_scene_with(&options);
    EXPECT(pool_fd(scene.pool) >= 0);
    struct heritage heritage = {scene.pool, submit_deed(&scene, DEED_NEVER_ENDS, 1), submit_deed(&scene, DEED_ENDS, 2),
                                fds};
    EXPECT_OK(pool_wait(heritage.ended, POOL_FOREVER));
    stop_working = false;
    for (int i = 0; i < WORKING; i++)
        start_caller(&callers[i], work_until_told, &scene);
    for (int i = 0; i < CHILDREN; i++)
        in_another_process(be_useless, &heritage);
    stop_working = true;
    for (int i = 0; i < WORKING; i++)
        EXPECT_OK(end_of_caller(&callers[i]));
    EXPECT_INT(pool_wait(heritage.endless, 0), POOL_PENDING);
    EXPECT_OK(pool_cancel(heritage.endless));
    EXPECT_INT(take_status(heritage.endless), POOL_ECANCELED);
    EXPECT_OK(take_status(heritage.ended));
    EXPECT_OK(take_status(submit_deed(&scene, DEED_ENDS, 3)));
    EXPECT_OK(pool_destroy(scene.pool));
}

static void child_that_is_forked_while_threads_work_cannot_touch_the_pool(void)
{
    fork_children(false);
}

static void child_cannot_touch_a_pool_that_drives_itself(void)
{
    fork_children(true);
}

const struct conformance_case interrupt_cases[] = {
    CASE(signals_interrupt_no_call),
    CASE(wait_is_no_cancellation_point),
    CASE(no_call_is_a_cancellation_point),
    CASE_IF(STARTS_AFRESH, pools_come_and_go_while_threads_allocate),
    CASE(child_that_is_forked_while_threads_work_cannot_touch_the_pool),
    CASE(child_cannot_touch_a_pool_that_drives_itself),
    {0},
};

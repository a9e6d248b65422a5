/* conformance_spin: who waits may look for news for a while before it sleeps, and nothing but time depends on it:
 * whatever happens meanwhile is noticed, and it comes to an end. */
#include "conformance_deeds.h"
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <sys/resource.h>

enum { LONGEST_US = 1000, TRIPS = 200, WATCHED_MS = 500, MOST_CPU_MS = 250 };

static struct scene make_spinning_scene(unsigned workers)
{
    struct pool_options options = scene_options(workers);
    options.spin_us = LONGEST_US;
    options.soft_kill_grace_ms = 50;
    return make_scene_with(&options);
}

static void make_trips(const struct scene *scene, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        EXPECT_OK(take_status(submit_deed(scene, DEED_ENDS, i)));
}

static void length_of_a_spin_is_checked(void)
{
    static const int64_t refused[] = {-2, LONGEST_US + 1, INT64_MIN, INT64_MAX};
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        struct pool_options options = method_options(1);
        struct pool *pool;
        options.spin_us = refused[i];
        EXPECT_INT(pool_create(&options, &pool), -EINVAL);
        EXPECT_TEXT(pool_message(), "spin_us");
    }
}

static void tasks_end_however_long_anybody_spins(void)
{
    static const int64_t lengths_us[] = {-1, 0, 1, LONGEST_US};
    for (size_t i = 0; i < sizeof lengths_us / sizeof *lengths_us; i++)
        for (unsigned workers = 1; workers <= 3; workers++) {
            struct pool_options options = scene_options(workers);
            options.spin_us = lengths_us[i];
            struct scene scene = make_scene_with(&options);
            make_trips(&scene, TRIPS);
            EXPECT_OK(pool_destroy(scene.pool));
        }
}

/* Of this process and a worker together. */
static uint64_t cpu_ms_with(pid_t worker)
{
    clockid_t clock;
    EXPECT_OK(clock_getcpuclockid(worker, &clock));
    return cpu_ms(CLOCK_PROCESS_CPUTIME_ID) + cpu_ms(clock);
}

static void spins_come_to_an_end_and_idleness_costs_nothing(void)
{
    struct scene scene = make_spinning_scene(2);
    make_trips(&scene, TRIPS);
    struct pool_task *busy = submit_deed(&scene, DEED_WAITS_AT_GATE, TRIPS);
    await_begun(&scene, TRIPS + 1);
    pid_t idle = scene.pids[scene.board->pids[TRIPS] == scene.pids[0]];
    uint64_t before_ms = cpu_ms_with(idle);
    EXPECT_INT(pool_wait(busy, WATCHED_MS), POOL_PENDING);
    EXPECT(cpu_ms_with(idle) - before_ms < MOST_CPU_MS);
    open_gate(&scene);
    EXPECT_OK(take_status(busy));
    EXPECT_OK(pool_destroy(scene.pool));
}

static long sleeps_so_far(void)
{
    struct rusage used;
    return getrusage(RUSAGE_THREAD, &used) ? -1 : used.ru_nvcsw;
}

static int tell_sleeps(struct pool_call *call)
{
    return reply_number(call, (uint64_t)sleeps_so_far());
}

static long sleeps_of_worker(struct pool *pool)
{
    struct pool_task *task = submit(pool, tell_sleeps, 0);
    EXPECT_OK(pool_wait(task, POOL_FOREVER));
    long count = (long)reply_of(task);
    pool_task_free(task);
    return count;
}

/* That is what a spin is for: without it one of the two sleeps in each trip. Where others need the CPUs nobody spins
 * for long, so both go ahead of them. */
static void who_spins_does_not_sleep(void)
{
    struct sched_param ahead = {.sched_priority = 1};
    enum { FEW_TRIPS = 20, SLEEPS = FEW_TRIPS / 4 };
    cpu_set_t cpus;
    EXPECT_OK(sched_getaffinity(0, sizeof cpus, &cpus));
    if (CPU_COUNT(&cpus) < 2)
        skip_case("nobody spins on a single CPU");
    if (sched_setscheduler(0, SCHED_FIFO, &ahead))
        skip_case("it takes the right to go ahead of others");
    struct scene scene = make_scene(1);
    uint64_t since_ms = now_ms();
    long before, sleeps = 0;
    do {
        if (now_ms() - since_ms > PATIENCE_MS)
            expectation_failed(__FILE__, __LINE__, "%ld sleeps in %d trips", sleeps, FEW_TRIPS);
        before = sleeps_of_worker(scene.pool) + sleeps_so_far();
        make_trips(&scene, FEW_TRIPS);
        sleeps = sleeps_so_far() + sleeps_of_worker(scene.pool) - before;
    } while (sleeps > SLEEPS);
    EXPECT_OK(pool_destroy(scene.pool));
}

static void deadlines_are_kept_by_who_spins(void)
{
    struct pool_task_options options = POOL_TASK_OPTIONS_INIT;
    struct scene scene = make_spinning_scene(1);
    options.timeout_ms = 1;
    for (unsigned i = 0; i < 10; i++) {
        EXPECT_INT(take_status(submit_deed_with(&scene, DEED_NEVER_ENDS, 2 * i, &options)), POOL_ETIMEOUT);
        EXPECT_OK(take_status(submit_deed(&scene, DEED_ENDS, 2 * i + 1)));
    }
    EXPECT_OK(pool_destroy(scene.pool));
}

static void deadlines_are_kept_by_who_polls(void)
{
    struct pool_task_options options = POOL_TASK_OPTIONS_INIT;
    struct scene scene = make_scene(1);
    options.timeout_ms = 1;
    struct pool_task *late = submit_deed_with(&scene, DEED_NEVER_ENDS, 0, &options);
    for (uint64_t since_ms = now_ms(); pool_wait(late, 0) == POOL_PENDING;)
        EXPECT(now_ms() - since_ms < PATIENCE_MS);
    EXPECT_INT(take_status(late), POOL_ETIMEOUT);
    EXPECT_OK(pool_destroy(scene.pool));
}

static int wait_for_it(void *task)
{
    return pool_wait(task, POOL_FOREVER);
}

static void who_spins_hears_that_its_task_was_cancelled(void)
{
    struct scene scene = make_spinning_scene(1);
    for (unsigned i = 0; i < 20; i++) {
        struct caller waiter;
        struct pool_task *task = submit_deed(&scene, DEED_NEVER_ENDS, i);
        start_caller(&waiter, wait_for_it, task);
        await_begun(&scene, i + 1);
        EXPECT_OK(pool_cancel(task));
        EXPECT_OK(end_of_caller(&waiter));
        EXPECT_INT(take_status(task), POOL_ECANCELED);
    }
    EXPECT_OK(pool_destroy(scene.pool));
}

static void who_spins_notices_that_a_worker_is_killed(void)
{
    struct scene scene = make_spinning_scene(1);
    for (unsigned i = 0; i < 10; i++) {
        struct caller waiter;
        struct pool_task *task = submit_deed(&scene, DEED_NEVER_ENDS, i);
        start_caller(&waiter, wait_for_it, task);
        await_begun(&scene, i + 1);
        EXPECT_OK(kill(scene.board->pids[i], SIGKILL));
        EXPECT_OK(end_of_caller(&waiter));
        EXPECT_INT(take_status(task), POOL_ECRASH);
    }
    EXPECT_OK(pool_destroy(scene.pool));
}

static void threads_get_on_beside_one_that_spins(void)
{
    struct scene scene = make_spinning_scene(3);
    struct caller waiter;
    struct pool_task *busy = submit_deed(&scene, DEED_WAITS_AT_GATE, TRIPS);
    start_caller(&waiter, wait_for_it, busy);
    make_trips(&scene, TRIPS);
    open_gate(&scene);
    EXPECT_OK(end_of_caller(&waiter));
    EXPECT_OK(take_status(busy));
    EXPECT_OK(pool_destroy(scene.pool));
}

const struct conformance_case spin_cases[] = {
    CASE(length_of_a_spin_is_checked),
    CASE(tasks_end_however_long_anybody_spins),
    CASE(spins_come_to_an_end_and_idleness_costs_nothing),
    CASE(who_spins_does_not_sleep),
    CASE(deadlines_are_kept_by_who_spins),
    CASE(deadlines_are_kept_by_who_polls),
    CASE(who_spins_hears_that_its_task_was_cancelled),
    CASE(who_spins_notices_that_a_worker_is_killed),
    CASE(threads_get_on_beside_one_that_spins),
    {0},
};

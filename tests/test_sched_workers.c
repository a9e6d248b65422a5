/* sched: workers come and go: starts that fail and what they count for, those that are worn, those that are lost. */
#include "sched_scene.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static struct scene scene;

static void three_failed_starts_break_the_pool(void **unused)
{
    (void)unused;
    struct sched_config config = plain;
    config.workers = 1;
    open_scene(&scene, config);
    sched_boot(&scene.sched);
    submit(&scene, &scene.a, job_of(3, 0));
    expect(&scene, "slot 0: start worker 0");
    sched_not_started(&scene.sched, 0);
    expect(&scene, ""); /* not at once */
    at(&scene, 10 * MS);
    expect(&scene, "slot 0: start worker 0");
    sched_failed(&scene.sched, 0);
    expect(&scene, "");
    sched_exited(&scene.sched, 0);
    at(&scene, 30 * MS - 1);
    expect(&scene, "");
    at(&scene, 30 * MS); /* twice as long */
    expect(&scene, "slot 0: start worker 0");
    at(&scene, 30 * MS + 30 * S); /* never says that it is ready */
    expect(&scene, "slot 0: SIGKILL");
    sched_exited(&scene.sched, 0);
    expect(&scene, "a0-2: broken; a has ended; the pool is broken");
    submit(&scene, &scene.b, job_of(2, 0));
    expect(&scene, "b0-1: broken; b has ended");
    close_scene(&scene);
}

/* And those that follow begin one by one, until one succeeds. */
static void starts_that_fail_together_count_once(void **unused)
{
    (void)unused;
    struct sched_config config = plain;
    config.workers = 4;
    open_scene(&scene, config);
    sched_boot(&scene.sched);
    expect(&scene, "slot 0: start worker 0; slot 1: start worker 1; slot 2: start worker 2; slot 3: start worker 3");
    for (unsigned i = 0; i < config.workers; i++)
        sched_exited(&scene.sched, i);
    expect(&scene, "");
    at(&scene, 10 * MS);
    expect(&scene, "slot 0: start worker 0");
    sched_exited(&scene.sched, 0);
    at(&scene, 30 * MS - 1);
    expect(&scene, "");
    at(&scene, 30 * MS);
    expect(&scene, "slot 0: start worker 0");
    sched_ready(&scene.sched, 0);
    expect(&scene, "slot 1: start worker 1; slot 2: start worker 2; slot 3: start worker 3");
    for (unsigned i = 0; i < config.workers; i++)
        sched_exited(&scene.sched, i);
    expect(&scene, ""); /* once more, and not for the third time */
    at(&scene, 40 * MS);
    expect(&scene, "slot 0: start worker 0");
    close_scene(&scene);
}

/* What is under way since before takes its time, and keeps nobody from being started, nor the pool from being broken
 * when that fails as well. */
static void a_start_that_takes_long_is_not_waited_for_by_others(void **unused)
{
    (void)unused;
    open_scene(&scene, plain);
    sched_boot(&scene.sched);
    expect(&scene, "slot 0: start worker 0; slot 1: start worker 1");
    submit(&scene, &scene.a, job_of(1, 0));
    for (unsigned round = 1; round <= 3; round++) {
        sched_exited(&scene.sched, 1);
        expect(&scene, "");
        at(&scene, round * S);
        expect(&scene, "slot 1: start worker 1");
    }
    sched_exited(&scene.sched, 1);
    expect(&scene, "");
    sched_exited(&scene.sched, 0);
    expect(&scene, "a0-0: broken; a has ended; the pool is broken");
    close_scene(&scene);
}

/* Also those that began after failures which a success has ended since. */
static void starts_that_fail_together_after_a_success_count_once(void **unused)
{
    (void)unused;
    struct sched_config config = plain;
    config.workers = 5;
    open_scene(&scene, config);
    sched_boot(&scene.sched);
    expect(&scene, "slot 0: start worker 0; slot 1: start worker 1; slot 2: start worker 2; slot 3: start worker 3; "
                   "slot 4: start worker 4");
    sched_ready(&scene.sched, 0);
    for (unsigned round = 1; round <= 3; round++) {
        for (unsigned i = 1; i < config.workers; i++)
            sched_exited(&scene.sched, i);
        at(&scene, round * 2 * S);
        expect(&scene, "slot 1: start worker 1; slot 2: start worker 2; slot 3: start worker 3; "
                       "slot 4: start worker 4");
    }
    sched_ready(&scene.sched, 1);
    for (unsigned i = 0; i < config.workers; i++)
        sched_exited(&scene.sched, i);
    expect(&scene, "");
    at(&scene, 6 * S + 10 * MS);
    expect(&scene, "slot 0: start worker 0");
    close_scene(&scene);
}

static void failed_starts_do_not_break_a_pool_that_has_a_worker(void **unused)
{
    (void)unused;
    uint64_t now_ns = 0;
    open_ready(&scene, plain);
    submit(&scene, &scene.a, job_of(20, 1));
    expect(&scene, "slot 0: a0-0; slot 1: a1-1");
    sched_exited(&scene.sched, 1);
    expect(&scene, "a1: crash, attempt 1; slot 1: start worker 1");
    for (unsigned i = 0; i < 10; i++) {
        sched_not_started(&scene.sched, 1);
        at(&scene, now_ns += 2 * S);
        expect(&scene, "slot 1: start worker 1");
    }
    sched_ready(&scene.sched, 1);
    expect(&scene, "slot 1: a2-2");
    close_scene(&scene);
}

static void a_start_that_is_put_off_is_no_failure(void **unused)
{
    (void)unused;
    struct sched_config config = plain;
    config.workers = 1;
    open_scene(&scene, config);
    sched_boot(&scene.sched);
    for (unsigned i = 0; i < 10; i++) {
        at(&scene, i * 2 * MS);
        expect(&scene, "slot 0: start worker 0");
        sched_start_later(&scene.sched, 0);
        expect(&scene, "");
    }
    close_scene(&scene);
}

static void a_worn_worker_starts_afresh_in_place(void **unused)
{
    (void)unused;
    struct sched_config config = plain;
    config.workers = 1;
    config.wears_out = config.restarts = true;
    config.max_tasks_per_worker = 3;
    open_ready(&scene, config);
    submit(&scene, &scene.a, job_of(5, 2));
    expect(&scene, "slot 0: a0-1");
    ended(&scene, 0, 2);
    expect(&scene, "slot 0: a2-2"); /* a chunk never crosses the limit */
    ended(&scene, 0, 1);
    expect(&scene, "slot 0: start afresh");
    sched_ready(&scene.sched, 0);
    expect(&scene, "slot 0: a3-4");
    sched_items_ended(&scene.sched, 0, 2, 0, 0, true);
    expect(&scene, "a has ended; slot 0: start afresh");
    sched_shutdown(&scene.sched, POOL_DRAIN); /* its finalizer may be running: it is not killed */
    expect(&scene, "");
    sched_ready(&scene.sched, 0);
    expect(&scene, "slot 0: end in order");
    sched_exited(&scene.sched, 0);
    assert_true(sched_all_gone(&scene.sched));
    close_scene(&scene);
}

static void a_worn_worker_ends_while_its_replacement_starts(void **unused)
{
    (void)unused;
    struct sched_config config = plain;
    config.workers = 1;
    config.wears_out = true;
    config.max_tasks_per_worker = 2;
    open_ready(&scene, config);
    submit(&scene, &scene.a, job_of(4, 2));
    expect(&scene, "slot 0: a0-1");
    ended(&scene, 0, 2);
    expect(&scene, "slot 0: end in order; slot 1: start worker 0");
    sched_garbage(&scene.sched, 0);
    expect(&scene, "slot 0: SIGKILL");
    sched_exited(&scene.sched, 0); /* the number stays its replacement's */
    sched_ready(&scene.sched, 1);
    expect(&scene, "slot 1: a2-3");
    ended(&scene, 1, 2);
    expect(&scene, "a has ended; slot 1: end in order");
    close_scene(&scene);
}

/* One that is at work, one that is being killed for its item, one that starts; and what waits. */
static void when_all_workers_are_lost_everything_ends_with_the_pool(void **unused)
{
    (void)unused;
    struct sched_config config = plain;
    config.workers = 2;
    open_ready(&scene, config);
    struct job given = job_of(4, 1);
    given.timeout_ns = 2 * S;
    submit(&scene, &scene.a, given);
    expect(&scene, "slot 0: a0-0 stepwise; slot 1: a1-1 stepwise");
    at(&scene, S);
    sched_items_ended(&scene.sched, 1, 1, 0, S, false);
    expect(&scene, "slot 1: a2-2 stepwise; slot 1: a3-3 stepwise");
    at(&scene, 2 * S);
    expect(&scene, "slot 0: SIGTERM; slot 1: take back 1");
    sched_taken_back(&scene.sched, 1, 0);
    sched_lose(&scene.sched);
    expect(&scene, "a0: deadline, attempt 1; a3-3: broken; a2-2: broken; a has ended; the pool is broken");
    assert_true(sched_all_gone(&scene.sched));
    close_scene(&scene);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(three_failed_starts_break_the_pool),
        cmocka_unit_test(starts_that_fail_together_count_once),
        cmocka_unit_test(a_start_that_takes_long_is_not_waited_for_by_others),
        cmocka_unit_test(starts_that_fail_together_after_a_success_count_once),
        cmocka_unit_test(failed_starts_do_not_break_a_pool_that_has_a_worker),
        cmocka_unit_test(a_start_that_is_put_off_is_no_failure),
        cmocka_unit_test(a_worn_worker_starts_afresh_in_place),
        cmocka_unit_test(a_worn_worker_ends_while_its_replacement_starts),
        cmocka_unit_test(when_all_workers_are_lost_everything_ends_with_the_pool),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* sched: shutting down, from waiting for the last job to killing. */
#include "sched_scene.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static struct scene scene;

static void closing_waits_for_the_last_job(void **unused)
{
    (void)unused;
    open_scene(&scene, plain);
    sched_boot(&scene.sched);
    expect(&scene, "slot 0: start worker 0; slot 1: start worker 1");
    sched_ready(&scene.sched, 0);
    submit(&scene, &scene.a, job_of(1, 0));
    expect(&scene, "slot 0: a0-0");
    sched_shutdown(&scene.sched, POOL_DRAIN);
    expect(&scene, "");
    ended(&scene, 0, 1);
    expect(&scene, "a has ended; slot 0: end in order; slot 1: SIGKILL");
    sched_exited(&scene.sched, 1);
    assert_false(sched_all_gone(&scene.sched));
    at(&scene, 30 * S);
    expect(&scene, "slot 0: SIGKILL");
    sched_exited(&scene.sched, 0);
    expect(&scene, "");
    assert_true(sched_all_gone(&scene.sched));
    close_scene(&scene);
}

/* Its server is stopped, say, or its tracer keeps it: it needs no time to end in order any more. */
static void who_has_ended_in_order_is_not_waited_for_as_long_as_that_may_take(void **unused)
{
    (void)unused;
    open_ready(&scene, plain);
    sched_shutdown(&scene.sched, POOL_DRAIN);
    expect(&scene, "slot 0: end in order; slot 1: end in order");
    sched_exited(&scene.sched, 1);
    is_gone(&scene, 0);
    expect(&scene, "");
    at(&scene, S);
    expect(&scene, "slot 0: SIGKILL");
    at(&scene, 2 * S);
    expect(&scene, "slot 0: SIGKILL");
    sched_exited(&scene.sched, 0);
    assert_true(sched_all_gone(&scene.sched));
    close_scene(&scene);
}

static void cancelling_shutdown_lets_workers_end_what_they_have(void **unused)
{
    (void)unused;
    open_ready(&scene, plain);
    submit(&scene, &scene.a, job_of(9, 2));
    expect(&scene, "slot 0: a0-1; slot 1: a2-3");
    sched_shutdown(&scene.sched, POOL_CANCEL);
    expect(&scene, "a4-8: cancelled");
    sched_exited(&scene.sched, 1); /* not replaced, and what it had is not run again */
    expect(&scene, "a2-3: cancelled");
    ended(&scene, 0, 2);
    expect(&scene, "a has ended; slot 0: end in order");
    close_scene(&scene);
}

static void shutdown_becomes_stronger_and_never_weaker(void **unused)
{
    (void)unused;
    open_ready(&scene, plain);
    submit(&scene, &scene.a, job_of(2, 1));
    expect(&scene, "slot 0: a0-0; slot 1: a1-1");
    sched_shutdown(&scene.sched, POOL_TERMINATE);
    expect(&scene, "slot 0: SIGTERM; slot 1: SIGTERM");
    sched_shutdown(&scene.sched, POOL_CANCEL);
    expect(&scene, "");
    sched_exited(&scene.sched, 0);
    expect(&scene, "a0-0: cancelled");
    sched_shutdown(&scene.sched, POOL_KILL);
    expect(&scene, "slot 1: SIGKILL");
    sched_exited(&scene.sched, 1);
    expect(&scene, "a1-1: cancelled; a has ended");
    assert_true(sched_all_gone(&scene.sched));
    close_scene(&scene);
}

static void a_broadcast_that_was_not_sent_is_dropped_by_shutdown(void **unused)
{
    (void)unused;
    open_scene(&scene, plain);
    sched_boot(&scene.sched);
    expect(&scene, "slot 0: start worker 0; slot 1: start worker 1");
    broadcast(&scene);
    sched_shutdown(&scene.sched, POOL_CANCEL);
    expect(&scene, "all has ended; slot 0: SIGKILL; slot 1: SIGKILL");
    close_scene(&scene);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(closing_waits_for_the_last_job),
        cmocka_unit_test(who_has_ended_in_order_is_not_waited_for_as_long_as_that_may_take),
        cmocka_unit_test(cancelling_shutdown_lets_workers_end_what_they_have),
        cmocka_unit_test(shutdown_becomes_stronger_and_never_weaker),
        cmocka_unit_test(a_broadcast_that_was_not_sent_is_dropped_by_shutdown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

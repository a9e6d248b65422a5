/* sched: what becomes of a map: how its items are handed out, what stops it, and what its deadlines and errors do. */
#include "sched_scene.h"
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static struct scene scene;

static void a_map_is_shared_out_and_ends(void **unused)
{
    (void)unused;
    open_ready(&scene, plain);
    submit(&scene, &scene.a, job_of(10, 3));
    expect(&scene, "slot 0: a0-2; slot 1: a3-5");
    ended(&scene, 1, 3);
    expect(&scene, "slot 1: a6-8; slot 1: a9-9");
    ended(&scene, 0, 2);
    ended(&scene, 0, 1);
    ended(&scene, 1, 3);
    expect(&scene, "");
    ended(&scene, 1, 1);
    expect(&scene, "a has ended");
    close_scene(&scene);
}

static void nothing_is_due_once_all_are_ready(void **unused)
{
    (void)unused;
    open_scene(&scene, plain);
    sched_boot(&scene.sched);
    expect(&scene, "slot 0: start worker 0; slot 1: start worker 1");
    sched_ready(&scene.sched, 0);
    assert_true(sched_wake_ns(&scene.sched) == plain.start_timeout_ns); /* of the other */
    sched_ready(&scene.sched, 1);
    assert_true(sched_wake_ns(&scene.sched) == SCHED_NEVER);
    close_scene(&scene);
}

static void one_item_goes_first_while_the_cost_is_unknown(void **unused)
{
    (void)unused;
    open_ready(&scene, plain);
    submit(&scene, &scene.a, job_of(1000000, 0));
    expect(&scene, "slot 0: a0-0; slot 1: a1-1");
    sched_items_ended(&scene.sched, 0, 1, 0, 1000, false);
    expect(&scene, "slot 0: a2-500; slot 0: a501-999; slot 0: a1000-1498; slot 0: a1499-1997; "
                   "slot 0: a1998-2496; slot 0: a2497-2995; slot 0: a2996-3494; slot 0: a3495-3993");
    close_scene(&scene);
}

static void the_next_of_long_items_waits_at_its_worker(void **unused)
{
    (void)unused;
    open_ready(&scene, plain);
    submit(&scene, &scene.a, job_of(6, 1));
    expect(&scene, "slot 0: a0-0; slot 1: a1-1");
    sched_items_ended(&scene.sched, 0, 1, 0, S, false);
    expect(&scene, "slot 0: a2-2; slot 0: a3-3"); /* the other has not ended one: it might not be asked */
    sched_items_ended(&scene.sched, 1, 1, 0, S, false);
    expect(&scene, "slot 1: a4-4; slot 1: a5-5");
    close_scene(&scene);
}

static void a_job_of_nothing_ends_at_once(void **unused)
{
    (void)unused;
    open_ready(&scene, plain);
    submit(&scene, &scene.a, job_of(0, 0));
    expect(&scene, "a has ended");
    close_scene(&scene);
}

static void deadline_runs_from_the_start_of_the_item(void **unused)
{
    (void)unused;
    struct sched_config config = plain;
    config.workers = 1;
    config.max_attempts = 3;
    open_ready(&scene, config);
    struct job given = job_of(3, 3);
    given.timeout_ns = 10 * MS;
    submit(&scene, &scene.a, given);
    expect(&scene, "slot 0: a0-2 stepwise");
    sched_clock(&scene.sched, 8 * MS);
    ended(&scene, 0, 1);
    assert_true(sched_wake_ns(&scene.sched) <= 18 * MS);
    at(&scene, 18 * MS - 1);
    expect(&scene, "");
    at(&scene, 18 * MS);
    expect(&scene, "slot 0: SIGTERM");
    at(&scene, 118 * MS);
    expect(&scene, "slot 0: SIGKILL");
    sched_exited(&scene.sched, 0);
    expect(&scene, "a1: deadline, attempt 1; slot 0: start worker 0"); /* not tried again; its neighbour is */
    sched_ready(&scene.sched, 0);
    expect(&scene, "slot 0: a2-2 stepwise");
    close_scene(&scene);
}

static void without_grace_the_deadline_kills_at_once(void **unused)
{
    (void)unused;
    struct sched_config config = plain;
    config.workers = 1;
    config.kill_grace_ns = 0;
    open_ready(&scene, config);
    struct job given = job_of(1, 0);
    given.timeout_ns = 10 * MS;
    submit(&scene, &scene.a, given);
    expect(&scene, "slot 0: a0-0 stepwise");
    at(&scene, 10 * MS);
    expect(&scene, "slot 0: SIGKILL");
    close_scene(&scene);
}

static void at_most_once_sends_items_one_by_one(void **unused)
{
    (void)unused;
    struct sched_config config = plain;
    config.max_attempts = 3;
    open_ready(&scene, config);
    struct job given = job_of(5, 4);
    given.at_most_once = true;
    submit(&scene, &scene.a, given);
    expect(&scene, "slot 0: a0-0 stepwise; slot 1: a1-1 stepwise");
    ended(&scene, 0, 1);
    expect(&scene, "slot 0: a2-2 stepwise");
    sched_exited(&scene.sched, 0);
    expect(&scene, "a2: crash, attempt 1; slot 0: start worker 0");
    close_scene(&scene);
}

static void stop_on_error_cancels_what_was_not_begun(void **unused)
{
    (void)unused;
    open_ready(&scene, plain);
    struct job given = job_of(12, 4);
    given.stop_on_error = true;
    submit(&scene, &scene.a, given);
    expect(&scene, "slot 0: a0-3; slot 1: a4-7");
    one_failed(&scene, 0, 2);
    expect(&scene, "a8-11: cancelled; a2-3: cancelled");
    ended(&scene, 1, 4);
    expect(&scene, "a has ended");
    close_scene(&scene);
}

static void a_crash_stops_on_error_too(void **unused)
{
    (void)unused;
    open_ready(&scene, plain);
    struct job given = job_of(3, 1);
    given.stop_on_error = true;
    submit(&scene, &scene.a, given);
    expect(&scene, "slot 0: a0-0; slot 1: a1-1");
    sched_exited(&scene.sched, 0);
    expect(&scene, "a0: crash, attempt 1; a2-2: cancelled");
    ended(&scene, 1, 1);
    expect(&scene, "a has ended");
    close_scene(&scene);
}

/* A run can be stopped by a failure in it; tasks of any size cannot. */
static void payloads_that_stop_on_error_go_one_by_one(void **unused)
{
    (void)unused;
    struct pool_bytes inputs[4] = {{NULL, 0}};
    open_ready(&scene, plain);
    struct job given = {.kind = JOB_BYTES, .count = 4, .inputs = inputs, .chunk_size = 4, .stop_on_error = true};
    submit(&scene, &scene.a, given);
    expect(&scene, "slot 0: a0-0; slot 1: a1-1");
    close_scene(&scene);
}

static void cancelling_ends_what_was_not_sent(void **unused)
{
    (void)unused;
    open_ready(&scene, plain);
    submit(&scene, &scene.a, job_of(9, 2));
    expect(&scene, "slot 0: a0-1; slot 1: a2-3");
    sched_cancel(&scene.sched, &scene.a, POOL_ECANCELED);
    sched_cancel(&scene.sched, &scene.a, POOL_EBROKEN); /* the first word counts */
    expect(&scene, "a4-8: cancelled");
    ended(&scene, 1, 2);
    sched_exited(&scene.sched, 0); /* in doubt, and not run again */
    expect(&scene, "a0-1: cancelled; a has ended");
    close_scene(&scene);
}

static void a_span_that_cannot_be_sent_fails_and_its_job_goes_on(void **unused)
{
    (void)unused;
    struct sched_config config = plain;
    config.workers = 1;
    config.max_tasks_per_worker = 2;
    config.wears_out = config.restarts = true;
    struct sched_effect effect;
    open_ready(&scene, config);
    submit(&scene, &scene.a, job_of(4, 2));
    assert_true(sched_next(&scene.sched, &effect) && effect.kind == SCHED_SEND);
    sched_unsent(&scene.sched, 0, -ENOMEM);
    expect(&scene, "a0-1: error; slot 0: a2-3"); /* the worker has not been worn out by it */
    ended(&scene, 0, 2);
    expect(&scene, "a has ended; slot 0: start afresh");
    close_scene(&scene);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_map_is_shared_out_and_ends),
        cmocka_unit_test(nothing_is_due_once_all_are_ready),
        cmocka_unit_test(one_item_goes_first_while_the_cost_is_unknown),
        cmocka_unit_test(the_next_of_long_items_waits_at_its_worker),
        cmocka_unit_test(a_job_of_nothing_ends_at_once),
        cmocka_unit_test(deadline_runs_from_the_start_of_the_item),
        cmocka_unit_test(without_grace_the_deadline_kills_at_once),
        cmocka_unit_test(at_most_once_sends_items_one_by_one),
        cmocka_unit_test(stop_on_error_cancels_what_was_not_begun),
        cmocka_unit_test(a_crash_stops_on_error_too),
        cmocka_unit_test(payloads_that_stop_on_error_go_one_by_one),
        cmocka_unit_test(cancelling_ends_what_was_not_sent),
        cmocka_unit_test(a_span_that_cannot_be_sent_fails_and_its_job_goes_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

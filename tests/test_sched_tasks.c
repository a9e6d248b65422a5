/* sched: tasks, each with its own deadline and its own luck, and the lane that they lie in. */
#include "sched_scene.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static struct scene scene;

static void tasks_and_maps_go_in_the_order_of_submission(void **unused)
{
    (void)unused;
    struct sched_config config = plain;
    config.workers = 1;
    open_ready(&scene, config);
    open_lane(&scene, 0);
    add_tasks(&scene, 2);
    struct job given = job_of(2, 1);
    given.number = 2;
    submit(&scene, &scene.a, given);
    add_tasks(&scene, 1);
    expect(&scene, "slot 0: task 0-0");
    task_ended(&scene, 0, 0);
    expect(&scene, "slot 0: task 1-1");
    sched_exited(&scene.sched, 0);
    expect(&scene, "task 1: crash, attempt 1; slot 0: start worker 0");
    sched_ready(&scene.sched, 0);
    expect(&scene, "slot 0: a0-0");
    ended(&scene, 0, 1);
    expect(&scene, "slot 0: a1-1; slot 0: task 2-2"); /* which is behind it */
    ended(&scene, 0, 1);
    expect(&scene, "a has ended");
    close_scene(&scene);
}

/* To wake another takes longer than the one that is at work needs for a few short ones. */
static void a_few_short_tasks_wait_for_the_worker_that_is_at_work(void **unused)
{
    (void)unused;
    open_ready(&scene, plain);
    open_lane(&scene, 0);
    add_tasks(&scene, 1);
    expect(&scene, "slot 0: task 0-0");
    task_took(&scene, 0, 0, 1000);
    add_tasks(&scene, 2);
    expect(&scene, "slot 0: task 1-1");
    task_took(&scene, 0, 1, 1000);
    expect(&scene, "slot 0: task 2-2");
    add_tasks(&scene, 1);
    expect(&scene, "");
    at(&scene, MS / 4); /* so it is not a short one that it is at */
    expect(&scene, "slot 1: task 3-3");
    close_scene(&scene);
}

static void short_tasks_that_together_are_long_are_for_all(void **unused)
{
    (void)unused;
    open_ready(&scene, plain);
    open_lane(&scene, 0);
    add_tasks(&scene, 1);
    expect(&scene, "slot 0: task 0-0");
    task_took(&scene, 0, 0, 15000);
    add_tasks(&scene, 1);
    expect(&scene, "slot 0: task 1-1");
    add_tasks(&scene, 1);
    expect(&scene, "slot 1: task 2-2");
    close_scene(&scene);
}

/* It has been told of no page then, so that nothing could be taken back from behind it. */
static void nothing_waits_behind_the_one_item_that_a_worker_begins_with(void **unused)
{
    (void)unused;
    open_scene(&scene, plain);
    sched_boot(&scene.sched);
    expect(&scene, "slot 0: start worker 0; slot 1: start worker 1");
    sched_ready(&scene.sched, 0);
    submit(&scene, &scene.a, job_of(1000, 1));
    expect(&scene, "slot 0: a0-0");
    ended(&scene, 0, 1);
    expect(&scene, "slot 0: a1-1; slot 0: a2-2; slot 0: a3-3; slot 0: a4-4; slot 0: a5-5; slot 0: a6-6; slot 0: a7-7; "
                   "slot 0: a8-8");
    sched_ready(&scene.sched, 1);
    expect(&scene, "slot 1: a9-9");
    ended(&scene, 1, 1);
    expect(&scene, "slot 1: a10-10; slot 1: a11-11; slot 1: a12-12; slot 1: a13-13; slot 1: a14-14; slot 1: a15-15; "
                   "slot 1: a16-16; slot 1: a17-17");
    close_scene(&scene);
}

static void what_comes_back_goes_before_what_came_later(void **unused)
{
    (void)unused;
    struct sched_config config = plain;
    config.max_attempts = 2;
    open_ready(&scene, config);
    open_lane(&scene, 0);
    add_tasks(&scene, 4);
    expect(&scene, "slot 0: task 0-0; slot 1: task 1-1");
    sched_exited(&scene.sched, 0);
    sched_exited(&scene.sched, 1);
    expect(&scene, "slot 0: start worker 0; slot 1: start worker 1");
    sched_ready(&scene.sched, 1);
    expect(&scene, "slot 1: task 0-0 stepwise");
    sched_ready(&scene.sched, 0);
    expect(&scene, "slot 0: task 1-1 stepwise");
    close_scene(&scene);
}

static void each_task_has_its_own_deadline(void **unused)
{
    (void)unused;
    open_ready(&scene, plain);
    open_lane(&scene, LANE_DEADLINES);
    add_task(&scene, 0);
    add_task(&scene, 5 * MS);
    expect(&scene, "slot 0: task 0-0 stepwise; slot 1: task 1-1 stepwise");
    at(&scene, 5 * MS);
    expect(&scene, "slot 1: SIGTERM");
    sched_exited(&scene.sched, 1);
    expect(&scene, "task 1: deadline, attempt 1");
    at(&scene, 100 * S);
    expect(&scene, "");
    close_scene(&scene);
}

static void a_cancelled_task_is_stepped_over(void **unused)
{
    (void)unused;
    open_ready(&scene, plain);
    open_lane(&scene, 0);
    add_tasks(&scene, 6);
    cancel_task(&scene, 0);
    cancel_task(&scene, 3);
    expect(&scene, "slot 0: task 1-1; slot 1: task 2-2");
    cancel_task(&scene, 4);
    task_ended(&scene, 1, 2);
    expect(&scene, "slot 1: task 5-5");
    close_scene(&scene);
}

/* Those behind it go to another worker, and nobody is blamed. */
static void cancelling_a_running_task_kills_its_worker_and_no_other_task(void **unused)
{
    (void)unused;
    open_at_tasks(&scene);
    cancel_task(&scene, 1);
    expect(&scene, "slot 0: SIGTERM");
    cancel_task(&scene, 3);
    sched_exited(&scene.sched, 0);
    expect(&scene, "slot 0: start worker 0");
    sched_ready(&scene.sched, 0);
    expect(&scene, "slot 0: task 2-2 stepwise; slot 0: task 4-5 stepwise");
    close_scene(&scene);
}

/* It has not been read three times; the new one has not been there. */
static void a_new_task_does_not_share_the_bad_luck_of_the_last(void **unused)
{
    (void)unused;
    struct sched_config config = plain;
    config.workers = 1;
    open_ready(&scene, config);
    open_lane(&scene, 0);
    add_tasks(&scene, 1);
    for (unsigned i = 0; i < FLIGHT_UNREAD_DEATHS; i++) {
        expect(&scene, "slot 0: task 0-0");
        sched_head(&scene.sched, 0)->begin_position = 1000;
        sched_unread(&scene.sched, 0, 999);
        sched_exited(&scene.sched, 0);
        expect(&scene, "slot 0: start worker 0");
        sched_ready(&scene.sched, 0);
        if (i + 1 == FLIGHT_UNREAD_DEATHS)
            add_tasks(&scene, 1);
    }
    expect(&scene, "slot 0: task 0-0");
    task_ended(&scene, 0, 0);
    expect(&scene, "slot 0: task 1-1");
    sched_head(&scene.sched, 0)->begin_position = 1000;
    sched_unread(&scene.sched, 0, 999);
    sched_exited(&scene.sched, 0);
    expect(&scene, "slot 0: start worker 0");
    close_scene(&scene);
}

/* However far it had read, which nobody may know. */
static void what_was_never_written_may_run_again_even_if_at_most_once(void **unused)
{
    (void)unused;
    struct sched_config config = plain;
    config.workers = 1;
    open_ready(&scene, config);
    struct job given = job_of(1, 1);
    given.at_most_once = true;
    submit(&scene, &scene.a, given);
    expect(&scene, "slot 0: a0-0 stepwise");
    sched_head(&scene.sched, 0)->begin_position = UINT64_MAX;
    sched_unreachable(&scene.sched, 0);
    sched_exited(&scene.sched, 0);
    at(&scene, S);
    expect(&scene, "slot 0: start worker 0");
    sched_ready(&scene.sched, 0);
    expect(&scene, "slot 0: a0-0 stepwise");
    sched_head(&scene.sched, 0)->begin_position = 1000; /* this time it was, and may have begun */
    sched_unreachable(&scene.sched, 0);
    sched_exited(&scene.sched, 0);
    expect(&scene, "a0: crash, attempt 1; a has ended");
    close_scene(&scene);
}

/* Its end has not been told, and now need not be. */
static void a_task_that_was_blamed_may_be_cancelled(void **unused)
{
    (void)unused;
    struct sched_config config = plain;
    config.workers = 1;
    open_ready(&scene, config);
    open_lane(&scene, 0);
    add_tasks(&scene, 2);
    expect(&scene, "slot 0: task 0-0");
    sched_exited(&scene.sched, 0);
    cancel_task(&scene, 0);
    expect(&scene, "slot 0: start worker 0");
    sched_shutdown(&scene.sched, POOL_CANCEL);
    cancel_task(&scene, 1);
    expect(&scene, "slot 0: SIGKILL");
    close_scene(&scene);
}

static void a_lane_that_is_retired_ends_with_its_last_task(void **unused)
{
    (void)unused;
    open_ready(&scene, plain);
    open_lane(&scene, 0);
    add_tasks(&scene, 1);
    expect(&scene, "slot 0: task 0-0");
    sched_retire(&scene.sched, &scene.lane->job);
    expect(&scene, "");
    task_ended(&scene, 0, 0);
    expect(&scene, "task  has ended");
    close_scene(&scene);
}

/* It is in the hands of a worker still. */
static void a_retired_lane_waits_for_the_worker_of_a_cancelled_task(void **unused)
{
    (void)unused;
    open_ready(&scene, plain);
    open_lane(&scene, 0);
    add_tasks(&scene, 1);
    expect(&scene, "slot 0: task 0-0");
    sched_retire(&scene.sched, &scene.lane->job);
    cancel_task(&scene, 0);
    expect(&scene, "slot 0: SIGTERM");
    sched_exited(&scene.sched, 0);
    expect(&scene, "task  has ended");
    close_scene(&scene);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tasks_and_maps_go_in_the_order_of_submission),
        cmocka_unit_test(a_few_short_tasks_wait_for_the_worker_that_is_at_work),
        cmocka_unit_test(short_tasks_that_together_are_long_are_for_all),
        cmocka_unit_test(nothing_waits_behind_the_one_item_that_a_worker_begins_with),
        cmocka_unit_test(what_comes_back_goes_before_what_came_later),
        cmocka_unit_test(each_task_has_its_own_deadline),
        cmocka_unit_test(a_cancelled_task_is_stepped_over),
        cmocka_unit_test(cancelling_a_running_task_kills_its_worker_and_no_other_task),
        cmocka_unit_test(a_new_task_does_not_share_the_bad_luck_of_the_last),
        cmocka_unit_test(what_was_never_written_may_run_again_even_if_at_most_once),
        cmocka_unit_test(a_task_that_was_blamed_may_be_cancelled),
        cmocka_unit_test(a_lane_that_is_retired_ends_with_its_last_task),
        cmocka_unit_test(a_retired_lane_waits_for_the_worker_of_a_cancelled_task),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

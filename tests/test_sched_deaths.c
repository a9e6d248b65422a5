/* sched: whom a worker's death, its garbage or its silence is blamed on, what runs again, and who takes its place: when
 * it has ended, and when it has gone and nobody has told how. */
#include "sched_scene.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static struct scene scene;

static void a_lone_item_is_to_blame_at_once(void **unused)
{
    (void)unused;
    open_ready(&scene, plain);
    submit(&scene, &scene.a, job_of(1, 0));
    expect(&scene, "slot 0: a0-0");
    sched_exited(&scene.sched, 0);
    expect(&scene, "a0: crash, attempt 1; a has ended");
    close_scene(&scene);
}

static void crash_in_a_chunk_fails_only_the_item_that_crashed(void **unused)
{
    (void)unused;
    struct sched_config config = plain;
    config.workers = 1;
    open_ready(&scene, config);
    submit(&scene, &scene.a, job_of(6, 4));
    expect(&scene, "slot 0: a0-3");
    ended(&scene, 0, 1);
    expect(&scene, "slot 0: a4-5");
    sched_exited(&scene.sched, 0); /* 1, 2 or 3, or even 4 or 5: who knows */
    expect(&scene, "slot 0: start worker 0");
    sched_ready(&scene.sched, 0);
    expect(&scene, "slot 0: a1-3 stepwise");
    ended(&scene, 0, 1);
    sched_exited(&scene.sched, 0); /* 1 was reported: it was 2 */
    expect(&scene, "a2: crash, attempt 1; slot 0: start worker 0");
    sched_ready(&scene.sched, 0);
    expect(&scene, "slot 0: a3-3");
    ended(&scene, 0, 1);
    expect(&scene, "slot 0: a4-5 stepwise");
    ended(&scene, 0, 1);
    ended(&scene, 0, 1);
    expect(&scene, "a has ended");
    close_scene(&scene);
}

static void spans_of_a_dead_worker_go_back_in_order(void **unused)
{
    (void)unused;
    struct sched_config config = plain;
    config.workers = 1;
    open_ready(&scene, config);
    submit(&scene, &scene.a, job_of(12, 2));
    expect(&scene, "slot 0: a0-1");
    sched_items_ended(&scene.sched, 0, 2, 0, 5 * MS, false);
    expect(&scene, "slot 0: a2-3; slot 0: a4-5");
    submit(&scene, &scene.b, job_of(1, 0));
    sched_exited(&scene.sched, 0);
    expect(&scene, "slot 0: start worker 0");
    sched_ready(&scene.sched, 0);
    expect(&scene, "slot 0: a2-3 stepwise");
    ended(&scene, 0, 1);
    ended(&scene, 0, 1);
    expect(&scene, "slot 0: a4-5 stepwise");
    ended(&scene, 0, 1);
    ended(&scene, 0, 1);
    expect(&scene, "slot 0: a6-7; slot 0: a8-9; slot 0: a10-11");
    close_scene(&scene);
}

static void only_certain_deaths_are_attempts(void **unused)
{
    (void)unused;
    struct sched_config config = plain;
    config.workers = 1;
    config.max_attempts = 2;
    open_ready(&scene, config);
    submit(&scene, &scene.a, job_of(2, 2));
    expect(&scene, "slot 0: a0-1");
    sched_exited(&scene.sched, 0);
    for (unsigned attempt = 1; attempt <= 2; attempt++) {
        expect(&scene, "slot 0: start worker 0");
        sched_ready(&scene.sched, 0);
        expect(&scene, "slot 0: a0-1 stepwise");
        sched_exited(&scene.sched, 0);
    }
    expect(&scene, "a0: crash, attempt 2; slot 0: start worker 0");
    close_scene(&scene);
}

/* What it had not read it had not begun; but three times is enough. */
static void an_item_that_was_not_read_is_not_blamed(void **unused)
{
    (void)unused;
    struct sched_config config = plain;
    config.workers = 1;
    open_ready(&scene, config);
    submit(&scene, &scene.a, job_of(1, 0));
    for (unsigned i = 0; i < FLIGHT_UNREAD_DEATHS; i++) {
        expect(&scene, "slot 0: a0-0");
        sched_head(&scene.sched, 0)->begin_position = 1000;
        sched_unread(&scene.sched, 0, 999);
        sched_exited(&scene.sched, 0);
        expect(&scene, "slot 0: start worker 0");
        sched_ready(&scene.sched, 0);
    }
    expect(&scene, "slot 0: a0-0");
    sched_head(&scene.sched, 0)->begin_position = 1000;
    sched_unread(&scene.sched, 0, 999);
    sched_exited(&scene.sched, 0);
    expect(&scene, "a0: crash, attempt 1; a has ended");
    close_scene(&scene);
}

static void garbage_kills_the_worker_and_is_blamed_the_same_way(void **unused)
{
    (void)unused;
    open_ready(&scene, plain);
    submit(&scene, &scene.a, job_of(1, 0));
    expect(&scene, "slot 0: a0-0");
    sched_garbage(&scene.sched, 0);
    expect(&scene, "slot 0: SIGKILL");
    ended(&scene, 0, 1); /* not listened to any more */
    sched_exited(&scene.sched, 0);
    expect(&scene, "a0: garbage, attempt 1; a has ended");
    close_scene(&scene);
}

static void end_of_file_is_not_death(void **unused)
{
    (void)unused;
    open_ready(&scene, plain);
    submit(&scene, &scene.a, job_of(1, 0));
    expect(&scene, "slot 0: a0-0");
    sched_eof(&scene.sched, 0);
    expect(&scene, "");
    at(&scene, S - 1);
    expect(&scene, "");
    at(&scene, S);
    expect(&scene, "slot 0: SIGKILL");
    at(&scene, 2 * S); /* and again, for one that does not take it */
    expect(&scene, "slot 0: SIGKILL");
    sched_exited(&scene.sched, 0);
    expect(&scene, "a0: garbage, attempt 1; a has ended");
    close_scene(&scene);
}

static void who_is_gone_is_replaced_before_it_is_known_how_it_ended(void **unused)
{
    (void)unused;
    open_ready(&scene, plain);
    submit(&scene, &scene.a, job_of(4, 0));
    expect(&scene, "slot 0: a0-0; slot 1: a1-1");
    is_gone(&scene, 0);
    expect(&scene, "slot 2: start worker 0");
    sched_ready(&scene.sched, 2);
    expect(&scene, "slot 2: a2-2");
    is_gone(&scene, 2);
    expect(&scene, ""); /* there is one slot to spare */
    sched_exited(&scene.sched, 0);
    expect(&scene, "a0: crash, attempt 1; slot 0: start worker 0");
    sched_exited(&scene.sched, 2);
    expect(&scene, "a2: crash, attempt 1");
    assert_int_equal(scene.sched.counts.crashes, 2);
    close_scene(&scene);
}

/* Only the one that it died of waits for that. */
static void what_waited_behind_it_runs_elsewhere_when_its_worker_is_gone(void **unused)
{
    (void)unused;
    open_at_tasks(&scene);
    is_gone(&scene, 0);
    expect(&scene, "slot 1: start worker 0");
    sched_ready(&scene.sched, 1);
    expect(&scene, "slot 1: task 2-5 stepwise");
    sched_gone(&scene.sched, 0);
    expect(&scene, "");
    assert_int_equal(scene.sched.leaving_count, 1); /* though that was told twice */
    sched_exited(&scene.sched, 0);
    assert_int_equal(scene.sched.leaving_count, 0);
    expect(&scene, "task 1: crash, attempt 1");
    close_scene(&scene);
}

/* What it had begun with, which is not known, is sent again stepwise; what was not read is in no doubt. */
static void what_the_gone_had_not_read_is_in_no_doubt(void **unused)
{
    (void)unused;
    struct sched_config config = plain;
    config.workers = 1;
    open_ready(&scene, config);
    submit(&scene, &scene.a, job_of(2, 2));
    expect(&scene, "slot 0: a0-1");
    sched_head(&scene.sched, 0)->begin_position = 1000;
    sched_unread(&scene.sched, 0, 999);
    is_gone(&scene, 0);
    expect(&scene, "slot 1: start worker 0");
    sched_ready(&scene.sched, 1);
    expect(&scene, "slot 1: a0-1");
    sched_exited(&scene.sched, 0);
    ended(&scene, 1, 2);
    expect(&scene, "a has ended");
    close_scene(&scene);
}

static void a_task_that_is_to_blame_may_be_cancelled_before_that_is_told(void **unused)
{
    (void)unused;
    struct sched_config config = plain;
    config.workers = 1;
    open_ready(&scene, config);
    open_lane(&scene, 0);
    add_tasks(&scene, 1);
    expect(&scene, "slot 0: task 0-0");
    is_gone(&scene, 0);
    expect(&scene, "");
    cancel_task(&scene, 0);
    sched_retire(&scene.sched, &scene.lane->job);
    expect(&scene, "task  has ended");
    sched_exited(&scene.sched, 0);
    expect(&scene, "");
    close_scene(&scene);
}

/* Its server is stopped, say: that is no fault of the item's. */
static void who_is_gone_is_not_blamed_for_garbage_when_that_is_told_late(void **unused)
{
    (void)unused;
    open_ready(&scene, plain);
    submit(&scene, &scene.a, job_of(1, 0));
    expect(&scene, "slot 0: a0-0");
    is_gone(&scene, 0);
    expect(&scene, "");
    at(&scene, S);
    expect(&scene, "slot 0: SIGKILL");
    sched_exited(&scene.sched, 0);
    expect(&scene, "a0: crash, attempt 1; a has ended");
    close_scene(&scene);
}

static void who_was_killed_is_replaced_when_it_is_gone(void **unused)
{
    (void)unused;
    struct job job = job_of(20, 0);
    open_ready(&scene, plain);
    job.timeout_ns = S;
    submit(&scene, &scene.a, job);
    expect(&scene, "slot 0: a0-0 stepwise; slot 1: a1-1 stepwise");
    at(&scene, S - MS);
    ended(&scene, 1, 1);
    while (sched_next(&scene.sched, &(struct sched_effect){0}))
        continue; /* slot 1 gets what it may queue */
    at(&scene, S);
    expect(&scene, "slot 0: SIGTERM");
    is_gone(&scene, 0);
    expect(&scene, "slot 2: start worker 0");
    sched_exited(&scene.sched, 0);
    expect(&scene, "a0: deadline, attempt 1");
    close_scene(&scene);
}

static void who_dies_without_having_had_anything_is_not_replaced_at_once(void **unused)
{
    (void)unused;
    open_ready(&scene, plain);
    is_gone(&scene, 0);
    is_gone(&scene, 1);
    submit(&scene, &scene.a, job_of(4, 0));
    expect(&scene, "");
    sched_exited(&scene.sched, 0);
    expect(&scene, "");
    at(&scene, 10 * MS);
    expect(&scene, "slot 0: start worker 0");
    close_scene(&scene);
}

/* It may be what it has died of: who is started when it has failed does without. */
static void who_dies_during_a_broadcast_is_not_replaced_at_once(void **unused)
{
    (void)unused;
    open_ready(&scene, plain);
    submit(&scene, &scene.a, job_of(4, 0));
    expect(&scene, "slot 0: a0-0; slot 1: a1-1");
    broadcast(&scene);
    expect(&scene, "slot 0: all0-0 stepwise; slot 1: all1-1 stepwise");
    ended(&scene, 0, 1);
    expect(&scene, "");
    is_gone(&scene, 0);
    expect(&scene, "");
    sched_exited(&scene.sched, 0);
    expect(&scene, "all0: crash, attempt 1; slot 0: start worker 0");
    close_scene(&scene);
}

/* Not at once, since it may be that no worker lives long enough to be given anything. */
static void a_worker_that_dies_idle_is_replaced_when_there_is_work(void **unused)
{
    (void)unused;
    open_ready(&scene, plain);
    sched_exited(&scene.sched, 0);
    sched_exited(&scene.sched, 1);
    expect(&scene, "");
    submit(&scene, &scene.a, job_of(1, 0));
    expect(&scene, "");
    at(&scene, 10 * MS);
    expect(&scene, "slot 0: start worker 0");
    close_scene(&scene);
}

/* What it had said is lost with it: it may have ended every item. */
static void a_worker_that_cannot_be_reached_is_replaced_and_blames_nobody(void **unused)
{
    (void)unused;
    struct sched_config config = plain;
    config.workers = 1;
    open_ready(&scene, config);
    submit(&scene, &scene.a, job_of(2, 1));
    for (unsigned i = 0; i < FLIGHT_UNREAD_DEATHS; i++) {
        expect(&scene, "slot 0: a0-0");
        sched_unreachable(&scene.sched, 0);
        expect(&scene, "slot 0: SIGKILL");
        sched_exited(&scene.sched, 0);
        expect(&scene, ""); /* not in a spin */
        at(&scene, (i + 1) * S);
        expect(&scene, "slot 0: start worker 0");
        sched_ready(&scene.sched, 0);
    }
    expect(&scene, "slot 0: a0-0");
    sched_unreachable(&scene.sched, 0);
    sched_exited(&scene.sched, 0); /* not for ever */
    expect(&scene, "a0: crash, attempt 1");
    close_scene(&scene);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_lone_item_is_to_blame_at_once),
        cmocka_unit_test(crash_in_a_chunk_fails_only_the_item_that_crashed),
        cmocka_unit_test(spans_of_a_dead_worker_go_back_in_order),
        cmocka_unit_test(only_certain_deaths_are_attempts),
        cmocka_unit_test(an_item_that_was_not_read_is_not_blamed),
        cmocka_unit_test(garbage_kills_the_worker_and_is_blamed_the_same_way),
        cmocka_unit_test(end_of_file_is_not_death),
        cmocka_unit_test(who_is_gone_is_replaced_before_it_is_known_how_it_ended),
        cmocka_unit_test(what_waited_behind_it_runs_elsewhere_when_its_worker_is_gone),
        cmocka_unit_test(what_the_gone_had_not_read_is_in_no_doubt),
        cmocka_unit_test(a_task_that_is_to_blame_may_be_cancelled_before_that_is_told),
        cmocka_unit_test(who_is_gone_is_not_blamed_for_garbage_when_that_is_told_late),
        cmocka_unit_test(who_was_killed_is_replaced_when_it_is_gone),
        cmocka_unit_test(who_dies_without_having_had_anything_is_not_replaced_at_once),
        cmocka_unit_test(who_dies_during_a_broadcast_is_not_replaced_at_once),
        cmocka_unit_test(a_worker_that_dies_idle_is_replaced_when_there_is_work),
        cmocka_unit_test(a_worker_that_cannot_be_reached_is_replaced_and_blames_nobody),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

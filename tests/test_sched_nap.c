/* sched: how long the parent may sleep while its workers have enough, and whom it listens to meanwhile. */
#include "sched_scene.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static struct scene scene;

static void the_parent_sleeps_while_those_who_work_have_more(void **unused)
{
    (void)unused;
    open_ready(&scene, plain);
    submit(&scene, &scene.a, job_of(1000, 1));
    expect(&scene, "slot 0: a0-0; slot 1: a1-1");
    assert_int_equal(sched_nap(&scene.sched).ns, 0);
    ended(&scene, 0, 1);
    expect(&scene, "slot 0: a2-2; slot 0: a3-3; slot 0: a4-4; slot 0: a5-5; slot 0: a6-6; slot 0: a7-7; slot 0: a8-8; "
                   "slot 0: a9-9");
    struct sched_nap nap = sched_nap(&scene.sched);
    assert_true(nap.ns && nap.listened_count == 1 && nap.listened[0] == 1); /* it has nothing to go on with */
    ended(&scene, 1, 1);
    expect(&scene, "slot 1: a10-10; slot 1: a11-11; slot 1: a12-12; slot 1: a13-13; slot 1: a14-14; slot 1: a15-15; "
                   "slot 1: a16-16; slot 1: a17-17");
    nap = sched_nap(&scene.sched);
    assert_in_range(nap.ns, 1, 3 * MS);
    assert_int_equal(nap.listened_count, 0);
    scene.a.reply_bytes = 1 << 20; /* with which pipes would be full soon */
    assert_int_equal(sched_nap(&scene.sched).ns, 0);
    close_scene(&scene);
}

static void the_parent_sleeps_and_listens_to_who_is_stalled(void **unused)
{
    (void)unused;
    open_ready(&scene, plain);
    submit(&scene, &scene.a, job_of(1000, 1));
    expect(&scene, "slot 0: a0-0; slot 1: a1-1");
    ended(&scene, 0, 1);
    expect(&scene, "slot 0: a2-2; slot 0: a3-3; slot 0: a4-4; slot 0: a5-5; slot 0: a6-6; slot 0: a7-7; slot 0: a8-8; "
                   "slot 0: a9-9");
    sched_clock(&scene.sched, scene.sched.now_ns + 31 * MS);
    ended(&scene, 1, 1);
    expect(&scene, "slot 1: a10-10; slot 1: a11-11; slot 1: a12-12; slot 1: a13-13; slot 1: a14-14; slot 1: a15-15; "
                   "slot 1: a16-16; slot 1: a17-17");
    assert_int_equal(sched_nap(&scene.sched).listened_count, 0);
    at(&scene, scene.sched.now_ns + MS);
    expect(&scene, "slot 0: take back 7");
    sched_taken_back(&scene.sched, 0, 7);
    expect(&scene, "");
    struct sched_nap nap = sched_nap(&scene.sched);
    assert_true(nap.ns && nap.listened_count == 1 && nap.listened[0] == 0);
    close_scene(&scene);
}

/* Worker 0 is at task 2 for 4 ms and has kept task 3; worker 1 is at task 1. */
static void open_stalled(void)
{
    open_ready(&scene, plain);
    open_lane(&scene, 0);
    add_tasks(&scene, 20);
    expect(&scene, "slot 0: task 0-0; slot 1: task 1-1");
    task_ended(&scene, 0, 0);
    expect(&scene, "slot 0: task 2-2; slot 0: task 3-3; slot 0: task 4-4; slot 0: task 5-5; slot 0: task 6-6; "
                   "slot 0: task 7-7; slot 0: task 8-8; slot 0: task 9-9");
    at(&scene, 4 * MS - 1);
    expect(&scene, "");
    at(&scene, 4 * MS);
    expect(&scene, "slot 0: take back 6");
    sched_taken_back(&scene.sched, 0, 6);
    expect(&scene, "");
}

static void who_is_stalled_keeps_the_next_task_until_it_is_stuck(void **unused)
{
    (void)unused;
    open_stalled();
    at(&scene, 32 * MS - 1);
    expect(&scene, "");
    at(&scene, 32 * MS);
    expect(&scene, "slot 0: take back 1");
    close_scene(&scene);
}

static void long_items_are_not_taken_back_before_they_take_longer_than_known(void **unused)
{
    (void)unused;
    open_ready(&scene, plain);
    open_lane(&scene, 0);
    add_tasks(&scene, 16);
    expect(&scene, "slot 0: task 0-0; slot 1: task 1-1");
    at(&scene, 3 * MS);
    task_took(&scene, 0, 0, 3 * MS);
    task_took(&scene, 1, 1, 3 * MS);
    expect(&scene, "slot 0: task 2-2; slot 1: task 3-3; slot 0: task 4-4; slot 0: task 5-5; slot 0: task 6-6; "
                   "slot 1: task 7-7; slot 1: task 8-8; slot 1: task 9-9");
    at(&scene, 6 * MS);
    expect(&scene, "");
    close_scene(&scene);
}

/* Nor is the parent woken to look for what there is nothing of. */
static void a_chunk_of_the_callers_is_not_looked_at_before_it_is_stuck(void **unused)
{
    (void)unused;
    open_ready(&scene, plain);
    submit(&scene, &scene.a, job_of(1000, 10));
    expect(&scene, "slot 0: a0-9; slot 1: a10-19");
    at(&scene, MS);
    ended(&scene, 0, 1);
    ended(&scene, 1, 1);
    expect(&scene, "slot 0: a20-29; slot 1: a30-39");
    at(&scene, 2 * MS); /* planned when nothing was known of them */
    expect(&scene, "");
    assert_in_range(sched_wake_ns(&scene.sched), 33 * MS, SCHED_NEVER);
    close_scene(&scene);
}

/* What comes next would be over before it could be sent more; or it is a long one, too. */
static void who_is_stalled_keeps_nothing_of_short_items(void **unused)
{
    (void)unused;
    open_ready(&scene, plain);
    submit(&scene, &scene.a, job_of(1000000, 1000));
    expect(&scene, "slot 0: a0-999; slot 1: a1000-1999");
    sched_items_ended(&scene.sched, 0, 999, 0, 999000, false);
    expect(&scene, "slot 0: a2000-2999; slot 0: a3000-3999; slot 0: a4000-4999; slot 0: a5000-5999; "
                   "slot 0: a6000-6999; slot 0: a7000-7999; slot 0: a8000-8999");
    scene.a.chunk_size = 0; /* with one of the caller's nothing is taken back */
    at(&scene, 2 * MS - 1);
    expect(&scene, "");
    at(&scene, 2 * MS);
    expect(&scene, "slot 0: take back 7000; slot 1: take back 999");
    close_scene(&scene);
}

static void what_was_kept_is_given_back_when_items_are_short_after_all(void **unused)
{
    (void)unused;
    open_stalled();
    task_took(&scene, 1, 1, 1000);
    at(&scene, 5 * MS);
    expect(&scene, "slot 0: take back 1; slot 1: task 4-4");
    close_scene(&scene);
}

static void the_parent_does_not_sleep_beyond_a_deadline(void **unused)
{
    (void)unused;
    open_ready(&scene, plain);
    struct job job = job_of(1000, 1);
    job.timeout_ns = 5 * MS / 2;
    submit(&scene, &scene.a, job);
    expect(&scene, "slot 0: a0-0 stepwise; slot 1: a1-1 stepwise");
    sched_clock(&scene.sched, scene.sched.now_ns + MS);
    ended(&scene, 0, 1);
    while (sched_next(&scene.sched, &(struct sched_effect){0}))
        continue;
    assert_int_equal(sched_nap(&scene.sched).ns, 3 * MS / 2); /* slot 1 has had the rest of its time */
    close_scene(&scene);
}

/* Of short items workers tell by the thousand: what comes meanwhile is no more than their results. */
static void runs_of_short_items_leave_time_to_sleep_too(void **unused)
{
    (void)unused;
    open_ready(&scene, plain);
    submit(&scene, &scene.a, job_of(1000000000, 0));
    expect(&scene, "slot 0: a0-0; slot 1: a1-1");
    for (unsigned slot = 0; slot < 2; slot++)
        sched_items_ended(&scene.sched, slot, 1, 0, 20, false);
    struct sched_effect effect;
    while (sched_next(&scene.sched, &effect))
        assert_int_equal(effect.kind, SCHED_SEND);
    assert_int_equal(sched_nap(&scene.sched).ns, 0); /* their results fill pipes in no time */
    scene.a.reply_bytes = 0;                         /* unless they are where they belong */
    assert_in_range(sched_nap(&scene.sched).ns, 1, 3 * MS);
    close_scene(&scene);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_parent_sleeps_while_those_who_work_have_more),
        cmocka_unit_test(the_parent_sleeps_and_listens_to_who_is_stalled),
        cmocka_unit_test(who_is_stalled_keeps_the_next_task_until_it_is_stuck),
        cmocka_unit_test(long_items_are_not_taken_back_before_they_take_longer_than_known),
        cmocka_unit_test(a_chunk_of_the_callers_is_not_looked_at_before_it_is_stuck),
        cmocka_unit_test(who_is_stalled_keeps_nothing_of_short_items),
        cmocka_unit_test(what_was_kept_is_given_back_when_items_are_short_after_all),
        cmocka_unit_test(the_parent_does_not_sleep_beyond_a_deadline),
        cmocka_unit_test(runs_of_short_items_leave_time_to_sleep_too),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

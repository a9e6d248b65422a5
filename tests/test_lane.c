/* lane: tasks get indices in a ring that grows; what was cancelled is a gap; a lane that is too long for what is in it
 * is noticed. Build: cc -Iinclude -Isrc tests/test_lane.c src/lane.c src/job.c -lcmocka */
#include "lane.h"
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

enum { TASKS = 20000 };

static struct job_item tasks[TASKS];

/* Adds tasks [first, first + count), as the scheduler would count them. */
static void add(struct lane *lane, uint64_t first, uint64_t count)
{
    for (uint64_t i = first; i < first + count; i++) {
        tasks[i] = (struct job_item){.number = i, .size = (size_t)i % 7, .timeout_ns = i % 3};
        assert_int_equal(lane_reserve(lane), 0);
        lane_add(lane, &tasks[i]);
        lane->job.unended_count++;
    }
}

static void drop(struct lane *lane, uint64_t i)
{
    lane_drop(lane, i);
    lane->job.unended_count--;
}

static void kinds_become_properties_of_the_job(void **unused)
{
    (void)unused;
    struct lane *lane = lane_create(7, LANE_DEADLINES | LANE_FDS);
    assert_non_null(lane);
    assert_int_equal(lane->job.kind, JOB_LANE);
    assert_int_equal(lane->job.function, 7);
    assert_true(lane->job.stepwise && lane->job.alone && !lane->job.at_most_once);
    lane_destroy(lane);
    lane = lane_create(7, LANE_AT_MOST_ONCE);
    assert_true(lane->job.stepwise && lane->job.alone && lane->job.at_most_once);
    lane_destroy(lane);
    lane = lane_create(7, 0);
    assert_false(lane->job.stepwise || lane->job.alone);
    assert_true(lane->job.count == 0 && lane->job.pending == NULL);
    lane_destroy(lane);
    lane_destroy(NULL);
}

static void items_are_the_tasks_in_order(void **unused)
{
    (void)unused;
    struct lane *lane = lane_create(0, LANE_DEADLINES);
    add(lane, 0, 5);
    assert_true(lane->job.count == 5);
    for (uint64_t i = 0; i < 5; i++) {
        assert_true(job_item(&lane->job, i).number == i && job_item(&lane->job, i).size == i % 7);
        assert_true(job_timeout_ns(&lane->job, i) == i % 3);
        assert_int_equal(tasks[i].slot, JOB_NO_SLOT);
    }
    lane_destroy(lane);
}

/* Also when it does not begin at the start of the ring. */
static void the_ring_grows_and_keeps_what_is_in_it(void **unused)
{
    (void)unused;
    struct lane *lane = lane_create(0, 0);
    add(lane, 0, 50);
    for (uint64_t i = 0; i < 45; i++)
        drop(lane, i);
    add(lane, 50, 1000);
    assert_true(lane->job.ring_base == 45 && lane->job.ring_mask + 1 >= 1005);
    for (uint64_t i = 45; i < 1050; i++)
        assert_ptr_equal(lane->job.ring[i & lane->job.ring_mask], &tasks[i]);
    lane_destroy(lane);
}

static void a_short_lane_needs_no_more_room_however_many_pass_by(void **unused)
{
    (void)unused;
    struct lane *lane = lane_create(0, 0);
    uint64_t mask = lane->job.ring_mask;
    for (uint64_t i = 0; i < TASKS; i++) {
        add(lane, i, 1);
        if (i >= mask)
            drop(lane, i - mask);
    }
    assert_true(lane->job.ring_mask == mask);
    assert_false(lane_is_stretched(lane));
    lane_destroy(lane);
}

/* One that was dropped long ago is not taken for the newer one in its place of the ring. */
static void what_has_left_the_ring_is_not_live(void **unused)
{
    (void)unused;
    struct lane *lane = lane_create(0, 0);
    uint64_t capacity = lane->job.ring_mask + 1;
    add(lane, 0, 2);
    drop(lane, 0);
    drop(lane, 1);
    add(lane, 2, capacity);
    assert_true(lane->job.ring_mask + 1 == capacity);
    assert_false(job_is_live(&lane->job, 0));
    assert_false(job_is_live(&lane->job, 1));
    assert_true(job_is_live(&lane->job, capacity));
    struct span both = {.job = &lane->job, .first = 0, .count = 2};
    assert_true(job_count_live(&lane->job, &both) == 0);
    job_note_slot(&lane->job, &both, 3);
    assert_int_equal(tasks[capacity].slot, JOB_NO_SLOT);
    lane_destroy(lane);
}

static void gaps_end_what_goes_together(void **unused)
{
    (void)unused;
    struct lane *lane = lane_create(0, 0);
    size_t bytes;
    add(lane, 0, 10);
    drop(lane, 0);
    drop(lane, 4);
    drop(lane, 5);
    assert_true(lane->job.ring_base == 1);
    assert_true(job_live_run(&lane->job, 1, 9) == 3);
    assert_true(job_live_run(&lane->job, 4, 6) == 0);
    assert_true(job_live_run(&lane->job, 6, 3) == 3);
    assert_true(job_fit(&lane->job, 1, 9, 1000, &bytes) == 3);
    struct span all = {.job = &lane->job, .first = 0, .count = 10};
    assert_true(job_count_live(&lane->job, &all) == 7);
    job_note_slot(&lane->job, &all, 2);
    assert_true(tasks[3].slot == 2 && tasks[9].slot == 2);
    drop(lane, 2);
    drop(lane, 1);
    drop(lane, 3);
    assert_true(lane->job.ring_base == 6); /* over all the gaps */
    lane_destroy(lane);
}

static void one_that_goes_on_for_ever_stretches_its_lane(void **unused)
{
    (void)unused;
    struct lane *lane = lane_create(0, 0);
    add(lane, 0, 1);
    uint64_t i = 1;
    for (; !lane_is_stretched(lane) && i < TASKS; i++) {
        add(lane, i, 1);
        drop(lane, i);
    }
    assert_in_range(i, 8192, TASKS - 1);
    drop(lane, 0);
    assert_false(lane_is_stretched(lane));
    assert_true(lane->job.ring_base == i);
    lane_destroy(lane);
}

/* What is long since much is in it may stay. */
static void a_full_lane_is_not_stretched(void **unused)
{
    (void)unused;
    struct lane *lane = lane_create(0, 0);
    add(lane, 0, TASKS);
    assert_false(lane_is_stretched(lane));
    lane_destroy(lane);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kinds_become_properties_of_the_job),
        cmocka_unit_test(items_are_the_tasks_in_order),
        cmocka_unit_test(the_ring_grows_and_keeps_what_is_in_it),
        cmocka_unit_test(a_short_lane_needs_no_more_room_however_many_pass_by),
        cmocka_unit_test(what_has_left_the_ring_is_not_live),
        cmocka_unit_test(gaps_end_what_goes_together),
        cmocka_unit_test(one_that_goes_on_for_ever_stretches_its_lane),
        cmocka_unit_test(a_full_lane_is_not_stretched),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

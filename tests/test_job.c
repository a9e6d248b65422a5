/* job: spans are cut, put back and counted; costs and sizes are estimated; the failure that counts is kept.
 * Build: cc -Iinclude -Isrc tests/test_job.c src/job.c -lcmocka */
#include "job.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static struct job fixed_job(uint64_t count, size_t item_size, size_t result_size)
{
    return (struct job){.kind = JOB_FIXED, .count = count, .item_size = item_size, .result_size = result_size};
}

static void assert_span(const struct span *span, uint64_t first, uint64_t count)
{
    assert_non_null(span);
    assert_true(span->first == first && span->count == count);
}

static void all_items_are_pending_at_first(void **unused)
{
    (void)unused;
    struct job job = fixed_job(10, 8, 8);
    job_begin(&job);
    assert_true(job.pending_count == 10 && job.unended_count == 10);
    assert_span(job.pending, 0, 10);
    assert_ptr_equal(job.pending->job, &job);
    job = fixed_job(0, 8, 8);
    job_begin(&job);
    assert_null(job.pending);
    assert_true(job.unended_count == 0);
}

static void a_chunk_is_cut_off_the_front(void **unused)
{
    (void)unused;
    struct job job = fixed_job(10, 8, 8);
    struct span cut;
    job_begin(&job);
    job_cut(&job, 3, &cut);
    assert_span(&cut, 0, 3);
    assert_ptr_equal(cut.job, &job);
    assert_span(job.pending, 3, 7);
    assert_true(job.pending_count == 7 && job.unended_count == 10);
}

static void attempts_stay_with_the_first_item_and_doubt_with_all(void **unused)
{
    (void)unused;
    struct job job = fixed_job(10, 8, 8);
    struct span cut;
    job_begin(&job);
    job.pending->attempts = 2;
    job.pending->suspect = true;
    job_cut(&job, 4, &cut);
    assert_int_equal(cut.attempts, 2);
    assert_int_equal(job.pending->attempts, 0);
    assert_true(cut.suspect && job.pending->suspect);
}

static void a_span_goes_back_in_front(void **unused)
{
    (void)unused;
    struct job job = fixed_job(10, 8, 8);
    struct span cut;
    job_begin(&job);
    job_cut(&job, 3, &cut);
    job_push(&job, &cut);
    assert_true(job.pending_count == 10);
    assert_ptr_equal(job_take_whole(&job), &cut);
    assert_null(cut.next);
    assert_span(job.pending, 3, 7);
    assert_ptr_equal(job_take_whole(&job), &job.whole);
    assert_null(job.pending);
    assert_true(job.pending_count == 0);
}

/* So that what was submitted first is sent first, whoever had it and died when. */
static void spans_are_kept_in_the_order_of_their_items(void **unused)
{
    (void)unused;
    struct job job = fixed_job(12, 8, 8);
    struct span cut[3];
    job_begin(&job);
    for (unsigned i = 0; i < 3; i++)
        job_cut(&job, 3, &cut[i]);
    assert_ptr_equal(job_take_whole(&job), &job.whole);
    job_push(&job, &cut[1]);
    job_push(&job, &job.whole);
    job_push(&job, &cut[0]);
    job_push(&job, &cut[2]);
    assert_true(job.pending_count == 12);
    assert_ptr_equal(job.pending_tail, &job.whole);
    for (unsigned i = 0; i < 3; i++)
        assert_ptr_equal(job_take_whole(&job), &cut[i]);
    assert_span(job_take_whole(&job), 9, 3);
    assert_true(!job.pending && !job.pending_tail);
}

static void what_an_item_is_replied_to_with_follows_what_came_of_late(void **unused)
{
    (void)unused;
    struct buffer *const some = (struct buffer *)&(char){0};
    struct job job = fixed_job(10, 8, 8);
    job_begin(&job);
    assert_int_equal(job.reply_bytes, 8);
    job_note_reply(&job, 100);
    assert_int_equal(job.reply_bytes, 100);
    for (int i = 0; i < 100; i++)
        job_note_reply(&job, 9);
    assert_int_equal(job.reply_bytes, 9);
    job.results_in = some; /* where nothing has to travel */
    job_begin(&job);
    assert_int_equal(job.reply_bytes, 0);
}

static void what_must_be_told_item_by_item_is_stepwise(void **unused)
{
    (void)unused;
    struct job job = fixed_job(3, 8, 8);
    job_begin(&job);
    assert_false(job.stepwise || job.alone);
    job.timeout_ns = 1;
    job_begin(&job);
    assert_true(job.stepwise && !job.alone);
    job = fixed_job(3, 8, 8);
    job.at_most_once = true;
    job_begin(&job);
    assert_true(job.stepwise && job.alone);
    job = fixed_job(3, 8, 8);
    job.stop_on_error = true;
    job_begin(&job);
    assert_false(job.stepwise || job.alone);
    job.kind = JOB_BYTES;
    job_begin(&job);
    assert_true(!job.stepwise && job.alone);
}

static void a_broadcast_is_the_same_payload_for_each(void **unused)
{
    (void)unused;
    struct pool_bytes input = {NULL, 99};
    struct job job = {.kind = JOB_BROADCAST, .count = 4, .inputs = &input};
    job_begin(&job);
    assert_true(job.stepwise);
    assert_true(job_item(&job, 3).size == 99 && job_item(&job, 3).number == 0);
}

static void cost_is_unknown_until_measured_and_then_at_least_1(void **unused)
{
    (void)unused;
    struct job job = fixed_job(10, 8, 8);
    job_begin(&job);
    assert_true(job_item_ns(&job) == 0);
    job_measure(&job, 5, 0);
    assert_true(job_item_ns(&job) == 1);
    job_measure(&job, 1, UINT64_MAX);
    assert_true(job_item_ns(&job) > 1);
}

static void a_slow_first_call_is_soon_forgotten(void **unused)
{
    (void)unused;
    struct job job = fixed_job(1000, 8, 8);
    job_begin(&job);
    job_measure(&job, 1, 50000000);
    for (unsigned i = 0; i < 30; i++)
        job_measure(&job, 100, 100000);
    assert_in_range(job_item_ns(&job), 900, 1300);
    job_measure(&job, 1, 50000000); /* one long one is not what the next are like */
    job_measure(&job, 100, 100000);
    assert_in_range(job_item_ns(&job), 900, 4500);
}

static void first_calls_are_slower_than_the_next(void **unused)
{
    (void)unused;
    struct job job = fixed_job(1000, 8, 8);
    job_begin(&job);
    job_measure(&job, 1, 6000);
    job_measure(&job, 1, 4000);
    assert_in_range(job_item_ns(&job), 1000, 1500);
    assert_int_equal(job.least_ns, 0); /* nobody knows how soon a worker has done what it has */
    job_measure(&job, 100, 120000);
    assert_in_range(job_item_ns(&job), 1200, 1400);
    assert_in_range(job.least_ns, 1200, 1201);
}

static void the_first_of_long_items_are_taken_for_what_they_are(void **unused)
{
    (void)unused;
    struct job job = fixed_job(1000, 8, 8);
    job_begin(&job);
    job_measure(&job, 1, 60000);
    assert_in_range(job_item_ns(&job), 39000, 41000);
    job_measure(&job, 1, 60000);
    assert_in_range(job_item_ns(&job), 52000, 60001);
}

static void fixed_items_fit_by_the_larger_of_item_and_result(void **unused)
{
    (void)unused;
    struct job job = fixed_job(1000, 100, 400);
    size_t bytes;
    assert_true(job_fit(&job, 0, 1000, 4000, &bytes) == 10);
    assert_int_equal(bytes, 4000);
    assert_true(job_fit(&job, 0, 3, 4000, &bytes) == 3);
    assert_int_equal(bytes, 1200);
    assert_true(job_fit(&job, 0, 1000, 399, &bytes) == 1);
    assert_int_equal(bytes, 400);
}

static void payloads_fit_by_their_sum_and_one_always_does(void **unused)
{
    (void)unused;
    struct pool_bytes inputs[] = {{NULL, 936}, {NULL, 936}, {NULL, 0}, {NULL, 5000}, {NULL, SIZE_MAX / 2}};
    struct job job = {.kind = JOB_BYTES, .count = 5, .inputs = inputs};
    size_t bytes;
    assert_true(job_fit(&job, 0, 5, 2063, &bytes) == 2);
    assert_int_equal(bytes, 2000);
    assert_true(job_fit(&job, 0, 5, 2064, &bytes) == 3);
    assert_true(job_fit(&job, 3, 2, 100, &bytes) == 1);
    assert_int_equal(bytes, 5064);
    assert_true(job_fit(&job, 4, 1, 100, &bytes) == 1);
}

static void what_is_large_is_by_itself(void **unused)
{
    (void)unused;
    enum { LARGE = JOB_LARGE_BYTES + 1 };
    struct buffer *const some = (struct buffer *)&(char){0}, *shared[] = {some, some, NULL, NULL, NULL};
    struct pool_bytes inputs[] = {{NULL, 1}, {NULL, LARGE}, {NULL, JOB_LARGE_BYTES}, {NULL, 1}, {NULL, LARGE}};
    struct job job = {.kind = JOB_BYTES, .count = 5, .inputs = inputs};
    size_t bytes;
    assert_int_equal(job_fit(&job, 0, 5, SIZE_MAX / 2, &bytes), 1);
    assert_int_equal(bytes, 65);
    assert_int_equal(job_fit(&job, 1, 4, SIZE_MAX / 2, &bytes), 1);
    assert_int_equal(bytes, LARGE + 64);
    assert_int_equal(job_fit(&job, 2, 3, SIZE_MAX / 2, &bytes), 2);
    job.inputs_in = shared; /* and does not travel */
    assert_int_equal(job_fit(&job, 0, 5, SIZE_MAX / 2, &bytes), 4);
    job.chunk_size = 5;
    assert_int_equal(job_fit(&job, 0, 5, SIZE_MAX / 2, &bytes), 5);
}

static void items_that_are_replied_to_with_much_are_so_too(void **unused)
{
    (void)unused;
    enum { LARGE = JOB_LARGE_BYTES + 1 };
    struct pool_bytes inputs[4] = {{NULL, 1}};
    struct job job = {.kind = JOB_BYTES, .count = 4, .inputs = inputs};
    size_t bytes;
    job_begin(&job);
    job_note_reply(&job, LARGE);
    assert_int_equal(job_fit(&job, 0, 4, 1000, &bytes), 4); /* it may have been the only one */
    job_note_reply(&job, LARGE);
    assert_int_equal(job_fit(&job, 0, 4, 1000, &bytes), 1);
    job_note_reply(&job, JOB_LARGE_BYTES);
    job_note_reply(&job, LARGE);
    assert_int_equal(job_fit(&job, 0, 4, 1000, &bytes), 4);
}

static void the_failure_with_the_lowest_index_is_kept(void **unused)
{
    (void)unused;
    int status[10] = {0}, code[10] = {0};
    struct job job = fixed_job(10, 8, 8);
    job.status_out = status;
    job.code_out = code;
    job_fail(&job, 7, POOL_ETASK, 3, "seven");
    job_fail(&job, 4, POOL_ECRASH, 0, "four");
    assert_false(job_would_keep(&job, 5, POOL_ETASK));
    assert_true(job_would_keep(&job, 3, POOL_ETASK));
    job_fail(&job, 9, POOL_ETASK, 5, NULL);
    assert_int_equal(job.status, POOL_ECRASH);
    assert_true(job.status_index == 4);
    assert_string_equal(job.message, "four");
    assert_true(status[4] == POOL_ECRASH && status[7] == POOL_ETASK && status[9] == POOL_ETASK && status[0] == 0);
    assert_true(code[7] == 3 && code[9] == 5 && code[4] == 0);
    job_fail(&job, 0, POOL_ETASK, 1, NULL);
    assert_null(job.message);
    assert_true(job.status_index == 0);
}

static void an_item_that_was_cancelled_is_not_why_others_failed(void **unused)
{
    (void)unused;
    struct job job = fixed_job(10, 8, 8);
    job_fail(&job, 2, POOL_ECANCELED, 0, "two");
    job_fail(&job, 1, POOL_ECANCELED, 0, "one");
    assert_true(job.status == POOL_ECANCELED && job.status_index == 1);
    job_fail(&job, 7, POOL_ETASK, 3, "seven");
    assert_true(job.status == POOL_ETASK && job.status_index == 7);
    assert_false(job_would_keep(&job, 0, POOL_ECANCELED));
    job_fail(&job, 0, POOL_ECANCELED, 0, "nought");
    job_fail(&job, 5, POOL_ECRASH, 0, "five");
    assert_true(job.status == POOL_ECRASH && job.status_index == 5);
    assert_string_equal(job.message, "five");
    free(job.message);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_items_are_pending_at_first),
        cmocka_unit_test(a_chunk_is_cut_off_the_front),
        cmocka_unit_test(attempts_stay_with_the_first_item_and_doubt_with_all),
        cmocka_unit_test(a_span_goes_back_in_front),
        cmocka_unit_test(spans_are_kept_in_the_order_of_their_items),
        cmocka_unit_test(what_an_item_is_replied_to_with_follows_what_came_of_late),
        cmocka_unit_test(what_must_be_told_item_by_item_is_stepwise),
        cmocka_unit_test(a_broadcast_is_the_same_payload_for_each),
        cmocka_unit_test(cost_is_unknown_until_measured_and_then_at_least_1),
        cmocka_unit_test(a_slow_first_call_is_soon_forgotten),
        cmocka_unit_test(first_calls_are_slower_than_the_next),
        cmocka_unit_test(the_first_of_long_items_are_taken_for_what_they_are),
        cmocka_unit_test(fixed_items_fit_by_the_larger_of_item_and_result),
        cmocka_unit_test(payloads_fit_by_their_sum_and_one_always_does),
        cmocka_unit_test(what_is_large_is_by_itself),
        cmocka_unit_test(items_that_are_replied_to_with_much_are_so_too),
        cmocka_unit_test(the_failure_with_the_lowest_index_is_kept),
        cmocka_unit_test(an_item_that_was_cancelled_is_not_why_others_failed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* conformance_stream_ends: items of a stream that fail, each by itself; and ends of streams before all is done: by the
 * source, by the sink, by a shutdown. */
#include "conformance_flow.h"
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* ---- what workers do ---- */

static bool is_special(uint64_t number)
{
    return number % 100 == 50;
}

static int triple_or_die(struct pool_call *call)
{
    mark_item(pool_call_state(call));
    if (is_special(own_number(call)))
        raise(SIGKILL);
    return triple_item(call);
}

static int triple_at_second_try(struct pool_call *call)
{
    struct board *board = pool_call_state(call);
    uint64_t index = mark_item(board);
    if (is_special(own_number(call)) && board->runs[index] < 3)
        raise(SIGKILL);
    return triple_item(call);
}

static int triple_or_sleep(struct pool_call *call)
{
    while (is_special(own_number(call)))
        pause();
    return triple_item(call);
}

enum { QUICK = 10 };

static int triple_or_spin(struct pool_call *call)
{
    for (volatile bool spin = own_number(call) >= QUICK; spin;)
        spin = true;
    return triple_item(call);
}

/* ---- stopped ---- */

/* From item QUICK on they spin. One at a time: no result waits in its worker for a later item to end. */
static void sink_stops_an_endless_source(void)
{
    for (int ordered = 0; ordered <= 1; ordered++) {
        struct pool_stream_options options = stream_options(ordered, 0);
        struct flow *flow = make_flow(UINT64_MAX);
        struct pool *pool = make_pool(2);
        flow->stop_after = QUICK;
        options.at_most_once = 1;
        EXPECT_INT(run_flow(pool, triple_or_spin, flow, &options), SINK_STOPS);
        EXPECT_INT(flow->given, QUICK);
        stream_some(pool, 100);
        EXPECT_OK(pool_destroy(pool));
        free(flow);
    }
}

static void sink_may_stop_at_any_result(void)
{
    struct pool *pool = make_pool(2);
    for (uint64_t after = 1; after < 200; after += 17) {
        struct pool_stream_options options = stream_options(after % 2, 0);
        struct flow *flow = make_flow(UINT64_MAX);
        flow->stop_after = after;
        EXPECT_INT(run_flow(pool, triple_item, flow, &options), SINK_STOPS);
        EXPECT_INT(flow->given, after);
        free(flow);
    }
    stream_some(pool, 100);
    EXPECT_OK(pool_destroy(pool));
}

static void source_may_stop_the_stream(void)
{
    static const uint64_t counts[] = {0, 1, 25};
    struct pool *pool = make_pool(2);
    for (int i = 0; i < 6; i++) {
        struct pool_stream_options options = stream_options(i % 2, 0);
        struct flow *flow = make_flow(counts[i / 2]);
        flow->source_end = SOURCE_STOPS;
        options.at_most_once = 1;
        EXPECT_INT(run_flow(pool, triple_or_spin, flow, &options), SOURCE_STOPS);
        EXPECT(flow->given <= QUICK);
        free(flow);
    }
    stream_some(pool, 100);
    EXPECT_OK(pool_destroy(pool));
}

/* ---- items that fail ---- */

static int failure_of(uint64_t index)
{
    return fails(index) ? POOL_ETASK : 0;
}

static int take_failures(void *arg, uint64_t index, const struct pool_result *result)
{
    char text[32];
    snprintf(text, sizeof text, "not %d", (int)index);
    EXPECT_INT(result->code, fails(index) ? 500 + index : 0);
    if (fails(index))
        EXPECT_TEXT(result->message, text);
    EXPECT(result->worker_pid > 0 && result->worker_id < 2 && result->attempts >= 1);
    return take_result(arg, index, result);
}

static void failed_items_reach_the_sink_as_results(void)
{
    struct pool *pool = make_pool(2);
    for (int ordered = 0; ordered <= 1; ordered++) {
        struct pool_stream_options options = stream_options(ordered, 0);
        struct flow *flow = make_flow(1000);
        flow->status_of = failure_of;
        flow->thread = pthread_self();
        flow->ordered = ordered;
        EXPECT_OK(pool_stream(pool, triple_or_fail, give_number, take_failures, flow, &options));
        EXPECT_INT(flow->given, flow->count);
        free(flow);
    }
    EXPECT_OK(pool_destroy(pool));
}

static int crash_of(uint64_t index)
{
    return is_special(index) ? POOL_ECRASH : 0;
}

static void stream_goes_on_when_items_crash(void)
{
    make_board();
    struct pool_options options = board_options(2);
    struct pool *pool = make_pool_with(&options);
    for (int ordered = 0; ordered <= 1; ordered++) {
        struct pool_stream_options limits = stream_options(ordered, 50);
        struct flow *flow = make_flow(600);
        flow->status_of = crash_of;
        expect_passage(pool, triple_or_die, flow, &limits);
        free(flow);
    }
    EXPECT_OK(pool_destroy(pool));
}

static void at_most_once_never_runs_an_item_of_a_stream_again(void)
{
    struct board *board = make_board();
    struct pool_options options = board_options(2);
    struct pool_stream_options once = stream_options(0, 0);
    struct flow *flow = make_flow(300);
    options.max_attempts = 3;
    once.at_most_once = 1;
    struct pool *pool = make_pool_with(&options);
    flow->status_of = crash_of;
    expect_passage(pool, triple_or_die, flow, &once);
    for (int i = 0; i < 300; i++)
        EXPECT_INT(board->runs[i], 1);
    EXPECT_OK(pool_destroy(pool));
    free(flow);
}

static void item_of_a_stream_that_succeeds_at_last_has_succeeded(void)
{
    make_board();
    struct pool_options options = board_options(2);
    struct pool_stream_options limits = stream_options(1, 0);
    struct flow *flow = make_flow(300);
    options.max_attempts = 3;
    struct pool *pool = make_pool_with(&options);
    expect_passage(pool, triple_at_second_try, flow, &limits);
    EXPECT_OK(pool_destroy(pool));
    free(flow);
}

static int delay_of(uint64_t index)
{
    return is_special(index) ? POOL_ETIMEOUT : 0;
}

static void late_items_of_a_stream_fail_and_their_neighbours_succeed(void)
{
    struct pool *pool = make_pool(2);
    struct pool_stream_options options = stream_options(1, 0);
    struct flow *flow = make_flow(400);
    flow->status_of = delay_of;
    options.timeout_ms = 200;
    expect_passage(pool, triple_or_sleep, flow, &options);
    EXPECT_OK(pool_destroy(pool));
    free(flow);
}

/* ---- side by side ---- */

enum { PASSED = 3 }; /* a counter of the board that is the host's */

struct closing {
    struct pool *pool;
    struct board *board;
};

static void *shut_down_in_the_middle(void *arg)
{
    struct closing *closing = arg;
    EXPECT(await_counter(closing->board, PASSED, 100));
    EXPECT_OK(pool_shutdown(closing->pool, POOL_DRAIN, PATIENCE_MS));
    return NULL;
}

static void count_callback(void *board)
{
    ((struct board *)board)->counters[PASSED]++;
}

/* The last item that was taken may have been too late for the pool. */
static int take_until_closed(void *arg, uint64_t index, const struct pool_result *result)
{
    struct flow *flow = arg;
    if (result->status != POOL_ECANCELED)
        return take_result(arg, index, result);
    EXPECT_INT(index, flow->taken - 1);
    EXPECT(*result->message);
    flow->given++;
    return 0;
}

static void shutdown_ends_a_stream_and_what_was_taken_reaches_the_sink(void)
{
    pthread_t thread;
    struct flow *flow = make_flow(UINT64_MAX);
    struct pool *pool = make_pool(2);
    struct closing closing = {pool, make_board()};
    struct pool_stream_options options = stream_options(1, 10);
    flow->in_callback = count_callback;
    flow->arg = closing.board;
    flow->stop_after = MOST;
    EXPECT_OK(pthread_create(&thread, NULL, shut_down_in_the_middle, &closing));
    flow->thread = pthread_self();
    EXPECT_INT(pool_stream(pool, triple_unevenly, give_number, take_until_closed, flow, &options), POOL_ECLOSED);
    EXPECT_INT(flow->given, flow->taken);
    EXPECT_OK(pthread_join(thread, NULL));
    EXPECT_INT(run_flow(pool, triple_item, flow, &options), POOL_ECLOSED);
    EXPECT_OK(pool_destroy(pool));
    free(flow);
}

const struct conformance_case stream_end_cases[] = {
    CASE(sink_stops_an_endless_source),
    CASE(sink_may_stop_at_any_result),
    CASE(source_may_stop_the_stream),
    CASE(failed_items_reach_the_sink_as_results),
    CASE(stream_goes_on_when_items_crash),
    CASE(at_most_once_never_runs_an_item_of_a_stream_again),
    CASE(item_of_a_stream_that_succeeds_at_last_has_succeeded),
    CASE(late_items_of_a_stream_fail_and_their_neighbours_succeed),
    CASE(shutdown_ends_a_stream_and_what_was_taken_reaches_the_sink),
    {0},
};

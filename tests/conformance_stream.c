/* conformance_stream: a source, a sink, and workers between them: the sink gets every result once, in the order that
 * was asked for, and never more is under way than was allowed. */
#include "conformance_flow.h"
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* ---- what workers do ---- */

static int triple_the_index(struct pool_call *call)
{
    size_t size;
    const void *input = pool_call_input(call, &size);
    return !input || size ? 1 : reply_number(call, 3 * pool_item_index());
}

enum { TOGETHER = 3 };

static int triple_together(struct pool_call *call)
{
    struct board *board = pool_call_state(call);
    board->counters[UNDER_WAY]++;
    return await_counter(board, UNDER_WAY, TOGETHER) ? triple_item(call) : 1;
}

/* ---- every result, once, in order ---- */

static void every_result_reaches_the_sink_once(void)
{
    struct pool_stats stats = POOL_STATS_INIT;
    struct pool *pool = make_pool(2);
    stream_some(pool, MOST);
    EXPECT_OK(pool_stats(pool, &stats));
    EXPECT_INT(stats.submitted, MOST);
    EXPECT_INT(stats.succeeded, MOST);
    EXPECT_OK(pool_destroy(pool));
}

static void ordered_results_come_in_the_order_of_the_source(void)
{
    struct pool_stream_options options = stream_options(1, 0);
    struct flow *flow = make_flow(1500);
    struct pool *pool = make_pool(3);
    expect_passage(pool, triple_unevenly, flow, &options);
    EXPECT_OK(pool_destroy(pool));
    free(flow);
}

static void empty_stream_never_calls_the_sink(void)
{
    struct pool *pool = make_pool(1);
    for (int ordered = 0; ordered <= 1; ordered++) {
        struct pool_stream_options options = stream_options(ordered, 5);
        struct flow *flow = make_flow(0);
        expect_passage(pool, triple_item, flow, &options);
        free(flow);
    }
    EXPECT_OK(pool_destroy(pool));
}

static int give_nothing(void *arg, struct pool_bytes *item_out)
{
    struct flow *flow = arg;
    *item_out = (struct pool_bytes){NULL, 0};
    if (flow->taken == flow->count)
        return 0;
    flow->taken++;
    return 1;
}

static void items_of_size_0_pass_through_a_stream(void)
{
    struct flow *flow = make_flow(3000);
    struct pool *pool = make_pool(2);
    flow->thread = pthread_self();
    EXPECT_OK(pool_stream(pool, triple_the_index, give_nothing, take_result, flow, NULL));
    EXPECT_INT(flow->given, flow->count);
    EXPECT_OK(pool_destroy(pool));
    free(flow);
}

enum { LARGE = (1 << 20) + 5 };

static int give_large(void *arg, struct pool_bytes *item_out)
{
    uint64_t *count = arg;
    if (!*count)
        return 0;
    *item_out = (struct pool_bytes){malloc(LARGE), LARGE - (size_t)*count};
    memset(item_out->data, (int)(--*count), LARGE);
    return 1;
}

static int take_large(void *arg, uint64_t index, const struct pool_result *result)
{
    (void)arg;
    const unsigned char *bytes = result->data;
    EXPECT_OK(result->status);
    EXPECT_INT(result->data_size, LARGE - (30 - index));
    EXPECT_INT(bytes[0], 30 - index);
    EXPECT(!memcmp(bytes, bytes + 1, result->data_size - 1)); /* one like the other */
    return 0;
}

static void large_items_pass_through_a_stream(void)
{
    uint64_t count = 30;
    struct pool *pool = make_pool(2);
    EXPECT_OK(pool_stream(pool, increment, give_large, take_large, &count, NULL));
    EXPECT_OK(pool_destroy(pool));
}

/* ---- bounded ---- */

static void never_more_is_in_flight_than_was_allowed(void)
{
    enum { WORKERS = 2 };
    static const size_t limits[] = {1, 3, 40, 0};
    struct pool *pool = make_pool(WORKERS);
    for (int i = 0; i < 8; i++) {
        struct pool_stream_options options = stream_options(i % 2, limits[i / 2]);
        struct flow *flow = make_flow(600);
        expect_passage(pool, triple_unevenly, flow, &options);
        EXPECT(flow->most <= (limits[i / 2] ? limits[i / 2] : 16 * WORKERS));
        free(flow);
    }
    EXPECT_OK(pool_destroy(pool));
}

enum { LIMIT = 5000 };

/* Its inputs are in flight until they have ended. One item larger than the limit goes alone. */
static void expect_few_bytes(void *arg)
{
    struct visit *visit = arg;
    struct pool_stats stats = POOL_STATS_INIT;
    EXPECT_OK(pool_stats(visit->pool, &stats));
    uint64_t items = stats.submitted - stats.succeeded;
    EXPECT(items <= 1 || items * visit->item_size <= LIMIT);
}

static void never_more_bytes_are_in_flight_than_was_allowed(void)
{
    static const size_t sizes[] = {400, 30000};
    struct pool_options options = method_options(2);
    options.max_bytes_in_flight = LIMIT;
    struct pool *pool = make_pool_with(&options);
    for (int i = 0; i < 4; i++) {
        struct pool_stream_options limits = stream_options(i % 2, 100);
        struct visit visit = {.pool = pool, .item_size = sizes[i / 2]};
        struct flow *flow = make_flow(400);
        flow->item_size = sizes[i / 2];
        flow->in_callback = expect_few_bytes;
        flow->arg = &visit;
        expect_passage(pool, triple_unevenly, flow, &limits);
        free(flow);
    }
    EXPECT_OK(pool_destroy(pool));
}

static void items_of_a_stream_run_side_by_side(void)
{
    for (int ordered = 0; ordered <= 1; ordered++) {
        struct board *board = make_board();
        board->counters[UNDER_WAY] = 0;
        struct pool_stream_options options = stream_options(ordered, TOGETHER);
        struct pool_options pool_options = board_options(TOGETHER);
        struct flow *flow = make_flow(100);
        struct pool *pool = make_pool_with(&pool_options);
        expect_passage(pool, triple_together, flow, &options);
        EXPECT_OK(pool_destroy(pool));
        free(flow);
    }
}

static void limit_of_a_stream_may_be_huge(void)
{
    struct pool *pool = make_pool(1);
    for (int ordered = 0; ordered <= 1; ordered++) {
        struct pool_stream_options options = stream_options(ordered, SIZE_MAX);
        struct flow *flow = make_flow(2000);
        expect_passage(pool, triple_item, flow, &options);
        free(flow);
    }
    EXPECT_OK(pool_destroy(pool));
}

/* ---- what is refused ---- */

static void expect_refusal(struct pool *pool, const struct pool_stream_options *options, int error)
{
    struct flow *flow = make_flow(10);
    EXPECT_INT(run_flow(pool, triple_item, flow, options), error);
    EXPECT(*pool_message());
    EXPECT_INT(flow->taken, 0);
    free(flow);
}

static void malformed_options_of_a_stream_are_refused(void)
{
    struct {
        struct pool_stream_options known;
        char unknown[512];
    } options = {.known = POOL_STREAM_OPTIONS_INIT};
    struct pool *pool = make_pool(1);
    static const uint32_t sizes[] = {0, 4097, 5000};
    for (int i = 0; i < 3; i++) {
        options.known.size = sizes[i];
        expect_refusal(pool, &options.known, -EINVAL);
    }
    options.known.size = sizeof options;
    options.unknown[511] = 1;
    expect_refusal(pool, &options.known, -E2BIG);
    static const int64_t times[] = {-1, INT64_MIN, INT64_MAX};
    for (int i = 0; i < 3; i++) {
        struct pool_stream_options late = POOL_STREAM_OPTIONS_INIT;
        late.timeout_ms = times[i];
        expect_refusal(pool, &late, -EINVAL);
    }
    struct pool_stream_options reserved = POOL_STREAM_OPTIONS_INIT;
    reserved.reserved = 1;
    expect_refusal(pool, &reserved, -EINVAL);
    options.known.size = offsetof(struct pool_stream_options, timeout_ms); /* an older caller's */
    options.known.timeout_ms = -1;
    struct flow *flow = make_flow(100);
    expect_passage(pool, triple_item, flow, &options.known);
    free(flow);
    EXPECT_OK(pool_destroy(pool));
}

static int give_malformed(void *arg, struct pool_bytes *item_out)
{
    (void)arg;
    *item_out = (struct pool_bytes){NULL, 8};
    return 1;
}

static void malformed_arguments_of_a_stream_are_refused(void)
{
    static char data[16];
    pool_task_fn *nowhere;
    void *address = data;
    struct pool *pool = make_pool(1);
    struct flow *flow = make_flow(10);
    flow->thread = pthread_self();
    memcpy(&nowhere, &address, sizeof nowhere);
    EXPECT_INT(pool_stream(pool, NULL, give_number, take_result, flow, NULL), -EINVAL);
    EXPECT_INT(pool_stream(pool, triple_item, NULL, take_result, flow, NULL), -EINVAL);
    EXPECT_INT(pool_stream(pool, triple_item, give_number, NULL, flow, NULL), -EINVAL);
    EXPECT_INT(pool_stream(pool, nowhere, give_number, take_result, flow, NULL), POOL_EBUILD);
    EXPECT_INT(flow->taken, 0);
    EXPECT_INT(pool_stream(pool, triple_item, give_malformed, take_result, flow, NULL), -EINVAL);
    EXPECT(*pool_message());
    stream_some(pool, 100);
    EXPECT_OK(pool_destroy(pool));
    free(flow);
}

const struct conformance_case stream_cases[] = {
    CASE(every_result_reaches_the_sink_once),
    CASE(ordered_results_come_in_the_order_of_the_source),
    CASE(empty_stream_never_calls_the_sink),
    CASE(items_of_size_0_pass_through_a_stream),
    CASE(large_items_pass_through_a_stream),
    CASE(never_more_is_in_flight_than_was_allowed),
    CASE(never_more_bytes_are_in_flight_than_was_allowed),
    CASE(items_of_a_stream_run_side_by_side),
    CASE(limit_of_a_stream_may_be_huge),
    CASE(malformed_options_of_a_stream_are_refused),
    CASE(malformed_arguments_of_a_stream_are_refused),
    {0},
};

/* conformance_flow: see conformance_flow.h. */
#include "conformance_flow.h"
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* ---- what workers do ---- */

uint64_t own_number(const struct pool_call *call)
{
    size_t size;
    uint64_t number = UINT64_MAX;
    const void *input = pool_call_input(call, &size);
    if (size >= sizeof number)
        memcpy(&number, input, sizeof number);
    return number == pool_item_index() ? number : UINT64_MAX;
}

int increment(struct pool_call *call)
{
    size_t size;
    const unsigned char *input = pool_call_input(call, &size);
    unsigned char *reply = pool_call_reply(call, size);
    for (size_t i = 0; reply && i < size; i++)
        reply[i] = (unsigned char)(input[i] + 1);
    return !reply;
}

int triple_item(struct pool_call *call)
{
    return reply_number(call, 3 * own_number(call));
}

int triple_unevenly(struct pool_call *call)
{
    if (own_number(call) % 16 == 0)
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    return triple_item(call);
}

bool fails(uint64_t number)
{
    return number % 10 == 3;
}

int triple_or_fail(struct pool_call *call)
{
    uint64_t number = own_number(call);
    return fails(number) ? pool_call_fail(call, 500 + (int)number, "not %d", (int)number) : triple_item(call);
}

/* ---- source and sink ---- */

static size_t size_of_items(const struct flow *flow)
{
    return flow->item_size ? flow->item_size : sizeof(uint64_t);
}

int give_number(void *arg, struct pool_bytes *item_out)
{
    struct flow *flow = arg;
    EXPECT(!flow->stopped && pthread_equal(pthread_self(), flow->thread));
    if (flow->in_callback)
        flow->in_callback(flow->arg);
    flow->stopped = flow->taken == flow->count && flow->source_end < 0;
    if (flow->taken == flow->count)
        return flow->source_end;
    *item_out = (struct pool_bytes){calloc(1, size_of_items(flow)), size_of_items(flow)};
    memcpy(item_out->data, &flow->taken, sizeof flow->taken);
    flow->taken++;
    if (flow->taken - flow->given > flow->most)
        flow->most = flow->taken - flow->given;
    return 1;
}

static void expect_result(const struct flow *flow, uint64_t index, const struct pool_result *result)
{
    int status = flow->status_of ? flow->status_of(index) : 0;
    if (result->status != status)
        expectation_failed(__FILE__, __LINE__, "item %d ended with %d (%s): %s", (int)index, result->status,
                           pool_strerror(result->status), result->message);
    EXPECT(result->message && (uintptr_t)result->data % 16 == 0);
    EXPECT_INT(result->data_size, status ? 0 : sizeof index);
    EXPECT(status ? !result->data : !memcmp(result->data, &(uint64_t){3 * index}, sizeof index));
}

int take_result(void *arg, uint64_t index, const struct pool_result *result)
{
    struct flow *flow = arg;
    EXPECT(!flow->stopped && pthread_equal(pthread_self(), flow->thread));
    EXPECT(index < flow->taken && index < MOST && !flow->seen[index]++);
    EXPECT(!flow->ordered || index == flow->given);
    expect_result(flow, index, result);
    flow->given++;
    if (flow->in_callback)
        flow->in_callback(flow->arg);
    flow->stopped = flow->given == flow->stop_after;
    return flow->stopped ? SINK_STOPS : 0;
}

struct flow *make_flow(uint64_t count)
{
    struct flow *flow = calloc(1, sizeof *flow);
    EXPECT(flow);
    flow->count = count;
    return flow;
}

struct pool_stream_options stream_options(int ordered, size_t max_in_flight)
{
    struct pool_stream_options options = POOL_STREAM_OPTIONS_INIT;
    options.ordered = ordered;
    options.max_in_flight = max_in_flight;
    return options;
}

int run_flow(struct pool *pool, pool_task_fn *fn, struct flow *flow, const struct pool_stream_options *options)
{
    flow->thread = pthread_self();
    flow->ordered = options && options->ordered;
    return pool_stream(pool, fn, give_number, take_result, flow, options);
}

void expect_passage(struct pool *pool, pool_task_fn *fn, struct flow *flow, const struct pool_stream_options *options)
{
    struct pool_task *none;
    EXPECT_OK(run_flow(pool, fn, flow, options));
    EXPECT_INT(flow->taken, flow->count);
    EXPECT_INT(flow->given, flow->count);
    if (pool)
        EXPECT_INT(pool_next(pool, POOL_FOREVER, &none), POOL_EMPTY); /* its items are no business of pool_next */
}

void stream_some(struct pool *pool, uint64_t count)
{
    struct flow *flow = make_flow(count);
    expect_passage(pool, triple_item, flow, NULL);
    free(flow);
}

/* conformance_stream: a source, a sink, and workers between them. The sink gets every result once, in the order that
 * was asked for; never more is under way than was allowed; either end may stop it; and what callbacks may do and may
 * not. */
#include "conformance.h"
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* Counters of the board. */
enum { GATE = 1, UNDER_WAY };

/* ---- what workers do ---- */

/* The item's number, which is its index too. */
static uint64_t number_of(const struct pool_call *call)
{
    size_t size;
    uint64_t number = UINT64_MAX;
    const void *input = pool_call_input(call, &size);
    if (size >= sizeof number)
        memcpy(&number, input, sizeof number);
    return number == pool_item_index() ? number : UINT64_MAX;
}

static int reply_number(struct pool_call *call, uint64_t number)
{
    void *reply = pool_call_reply(call, sizeof number);
    if (reply)
        memcpy(reply, &number, sizeof number);
    return !reply;
}

static int triple(struct pool_call *call)
{
    return reply_number(call, 3 * number_of(call));
}

static int triple_the_index(struct pool_call *call)
{
    size_t size;
    const void *input = pool_call_input(call, &size);
    return !input || size ? 1 : reply_number(call, 3 * pool_item_index());
}

static int triple_unevenly(struct pool_call *call)
{
    if (number_of(call) % 16 == 0)
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    return triple(call);
}

static bool fails(uint64_t number)
{
    return number % 10 == 3;
}

static int triple_or_fail(struct pool_call *call)
{
    uint64_t number = number_of(call);
    return fails(number) ? pool_call_fail(call, 500 + (int)number, "not %d", (int)number) : triple(call);
}

static bool is_special(uint64_t number)
{
    return number % 100 == 50;
}

static int triple_or_die(struct pool_call *call)
{
    mark_item(pool_call_state(call));
    if (is_special(number_of(call)))
        raise(SIGKILL);
    return triple(call);
}

static int triple_at_second_try(struct pool_call *call)
{
    struct board *board = pool_call_state(call);
    uint64_t index = mark_item(board);
    if (is_special(number_of(call)) && board->runs[index] < 3)
        raise(SIGKILL);
    return triple(call);
}

static int triple_or_sleep(struct pool_call *call)
{
    while (is_special(number_of(call)))
        pause();
    return triple(call);
}

enum { QUICK = 10 };

static int triple_or_spin(struct pool_call *call)
{
    for (volatile bool spin = number_of(call) >= QUICK; spin;)
        spin = true;
    return triple(call);
}

enum { TOGETHER = 3 };

static int triple_together(struct pool_call *call)
{
    struct board *board = pool_call_state(call);
    board->counters[UNDER_WAY]++;
    return await_counter(board, UNDER_WAY, TOGETHER) ? triple(call) : 1;
}

static int wait_at_gate(struct pool_call *call)
{
    return !await_counter(pool_call_state(call), GATE, 1);
}

/* ---- source and sink ---- */

enum { MOST = 20000 };

struct flow {
    uint64_t count;                 /* items that there are; the source ends after them */
    int source_end;                 /* with this */
    size_t item_size;               /* 0: that of a number */
    uint64_t stop_after;            /* results that the sink takes before it stops; 0: all */
    bool ordered;                   /* results are to come in order */
    int (*status_of)(uint64_t);     /* NULL: all succeed */
    void (*in_callback)(void *arg); /* called in both */
    void *arg;                      /* for in_callback */
    uint64_t taken, given, most;    /* so far: from the source, to the sink; and the most in between */
    bool stopped;
    pthread_t thread;
    unsigned char seen[MOST];
};

/* What in_callback works on. */
struct visit {
    struct pool *pool;
    struct pool_task *claimed, *held, *ended;
    uint64_t submitted, refused, calls;
    size_t item_size;
};

enum { SINK_STOPS = 77, SOURCE_STOPS = -78 };

static size_t size_of_items(const struct flow *flow)
{
    return flow->item_size ? flow->item_size : sizeof(uint64_t);
}

static int give_number(void *arg, struct pool_bytes *item_out)
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

static int take_result(void *arg, uint64_t index, const struct pool_result *result)
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

static struct flow *make_flow(uint64_t count)
{
    struct flow *flow = calloc(1, sizeof *flow);
    EXPECT(flow);
    flow->count = count;
    return flow;
}

static struct pool_stream_options stream_options(int ordered, size_t max_in_flight)
{
    struct pool_stream_options options = POOL_STREAM_OPTIONS_INIT;
    options.ordered = ordered;
    options.max_in_flight = max_in_flight;
    return options;
}

static int run(struct pool *pool, pool_task_fn *fn, struct flow *flow, const struct pool_stream_options *options)
{
    flow->thread = pthread_self();
    flow->ordered = options && options->ordered;
    return pool_stream(pool, fn, give_number, take_result, flow, options);
}

/* All of the flow passes. */
static void expect_passage(struct pool *pool, pool_task_fn *fn, struct flow *flow,
                           const struct pool_stream_options *options)
{
    struct pool_task *none;
    EXPECT_OK(run(pool, fn, flow, options));
    EXPECT_INT(flow->taken, flow->count);
    EXPECT_INT(flow->given, flow->count);
    if (pool)
        EXPECT_INT(pool_next(pool, POOL_FOREVER, &none), POOL_EMPTY); /* its items are no business of pool_next */
}

static void stream_some(struct pool *pool, uint64_t count)
{
    struct flow *flow = make_flow(count);
    expect_passage(pool, triple, flow, NULL);
    free(flow);
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
        expect_passage(pool, triple, flow, &options);
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

static int increment(struct pool_call *call)
{
    size_t size;
    const unsigned char *input = pool_call_input(call, &size);
    unsigned char *reply = pool_call_reply(call, size);
    for (size_t i = 0; reply && i < size; i++)
        reply[i] = (unsigned char)(input[i] + 1);
    return !reply;
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
        expect_passage(pool, triple, flow, &options);
        free(flow);
    }
    EXPECT_OK(pool_destroy(pool));
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
        EXPECT_INT(run(pool, triple_or_spin, flow, &options), SINK_STOPS);
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
        EXPECT_INT(run(pool, triple, flow, &options), SINK_STOPS);
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
        EXPECT_INT(run(pool, triple_or_spin, flow, &options), SOURCE_STOPS);
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

/* ---- what callbacks may do ---- */

static void submit_one(void *arg)
{
    struct visit *visit = arg;
    char bytes[600] = {0};
    int rc = pool_submit(visit->pool, increment, bytes, sizeof bytes, NULL, NULL);
    EXPECT(rc == 0 || rc == POOL_EAGAIN);
    visit->submitted += !rc;
    visit->refused += rc != 0;
}

static void expect_submitted(const struct visit *visit)
{
    for (uint64_t i = 0; i < visit->submitted; i++) {
        struct pool_task *task;
        struct pool_result result;
        EXPECT_OK(pool_next(visit->pool, PATIENCE_MS, &task));
        EXPECT_OK(pool_task_result(task, &result));
        EXPECT(!result.status && result.data_size == 600);
        pool_task_free(task);
    }
}

static void callbacks_may_submit(void)
{
    struct flow *flow = make_flow(500);
    struct pool *pool = make_pool(2);
    struct visit visit = {.pool = pool};
    flow->in_callback = submit_one;
    flow->arg = &visit;
    EXPECT_OK(run(pool, triple, flow, NULL));
    EXPECT_INT(flow->given, flow->count);
    EXPECT_INT(visit.refused, 0);
    EXPECT_INT(visit.submitted, 500 + 501);
    expect_submitted(&visit);
    EXPECT_OK(pool_destroy(pool));
    free(flow);
}

/* What they submit is never waited for: it might wait for ever. */
static void callbacks_submit_as_if_with_no_wait(void)
{
    struct flow *flow = make_flow(50);
    struct board *board = make_board();
    struct pool_options options = board_options(2);
    options.max_bytes_in_flight = 1000;
    struct pool *pool = make_pool_with(&options);
    struct visit visit = {.pool = pool};
    struct pool_task *held = NULL;
    EXPECT_OK(pool_submit(pool, wait_at_gate, (char[700]){0}, 700, NULL, &held));
    flow->in_callback = submit_one;
    flow->arg = &visit;
    EXPECT_OK(run(pool, triple, flow, NULL));
    EXPECT_INT(visit.submitted, 0);
    EXPECT_INT(visit.refused, 50 + 51);
    board->counters[GATE] = 1;
    EXPECT_OK(pool_wait(held, PATIENCE_MS));
    pool_task_free(held);
    EXPECT_OK(pool_destroy(pool));
    free(flow);
}

static int map_nothing(const void *item, void *result, void *state)
{
    (void)item, (void)result, (void)state;
    return 0;
}

static void try_what_waits(void *arg)
{
    struct visit *visit = arg;
    struct pool_task *task = NULL;
    struct pool_bytes bytes = {"", 1};
    int unused = 0;
    visit->calls++;
    EXPECT_INT(pool_wait(visit->claimed, POOL_FOREVER), -EDEADLK);
    EXPECT_INT(pool_wait(visit->claimed, 0), -EDEADLK);
    EXPECT_INT(pool_next(visit->pool, POOL_FOREVER, &task), -EDEADLK);
    EXPECT_INT(pool_map(visit->pool, map_nothing, "", 1, NULL, 0, 1), -EDEADLK);
    EXPECT_INT(pool_map_bytes(visit->pool, increment, &bytes, 1, NULL, NULL), -EDEADLK);
    EXPECT_INT(pool_stream(visit->pool, triple, give_number, take_result, &unused, NULL), -EDEADLK);
    EXPECT_INT(pool_broadcast(visit->pool, increment, NULL, 0), -EDEADLK);
    EXPECT_INT(pool_shutdown(visit->pool, POOL_KILL, POOL_FOREVER), -EDEADLK);
    EXPECT_INT(pool_destroy(visit->pool), -EDEADLK);
    EXPECT(*pool_message() && !task);
    EXPECT_OK(pool_wait(visit->ended, POOL_FOREVER));
}

static int try_in_progress(void *arg, size_t done, size_t count)
{
    EXPECT(done <= count);
    try_what_waits(arg);
    return 0;
}

static void callbacks_may_not_wait(void)
{
    struct flow *flow = make_flow(40);
    struct board *board = make_board();
    struct pool_options options = board_options(3);
    struct pool_map_options map = POOL_MAP_OPTIONS_INIT;
    struct pool *pool = make_pool_with(&options);
    struct visit visit = {.pool = pool};
    EXPECT_OK(pool_submit(pool, increment, NULL, 0, NULL, &visit.ended));
    EXPECT_OK(pool_wait(visit.ended, PATIENCE_MS));
    EXPECT_OK(pool_submit(pool, wait_at_gate, NULL, 0, NULL, &visit.held));
    EXPECT_OK(pool_submit(pool, wait_at_gate, NULL, 0, NULL, &visit.claimed));
    flow->in_callback = try_what_waits;
    flow->arg = &visit;
    EXPECT_OK(run(pool, triple, flow, NULL));
    EXPECT_INT(flow->given, flow->count);
    EXPECT_INT(visit.calls, 40 + 41);
    map.progress = try_in_progress;
    map.progress_arg = &visit;
    EXPECT_OK(pool_map_with(pool, map_nothing, "0123456789", 1, NULL, 0, 10, &map));
    EXPECT(visit.calls > 40 + 41);
    board->counters[GATE] = 1;
    EXPECT_OK(pool_wait(visit.held, PATIENCE_MS)); /* on the same thread, but in no callback any more */
    EXPECT_OK(pool_wait(visit.claimed, PATIENCE_MS));
    pool_task_free(visit.held);
    pool_task_free(visit.claimed);
    pool_task_free(visit.ended);
    EXPECT_OK(pool_destroy(pool));
    free(flow);
}

static void use_another_pool(void *other)
{
    stream_some(other, 20);
    EXPECT_OK(pool_map(other, map_nothing, "0123456789", 1, NULL, 0, 10));
}

static void callbacks_may_use_another_pool(void)
{
    struct flow *flow = make_flow(50);
    struct pool *pool = make_pool(1), *other = make_pool(1);
    flow->in_callback = use_another_pool;
    flow->arg = other;
    expect_passage(pool, triple, flow, NULL);
    EXPECT_OK(pool_destroy(pool));
    EXPECT_OK(pool_destroy(other));
    free(flow);
}

/* ---- side by side ---- */

static void *stream_in_thread(void *pool)
{
    struct pool_stream_options options = stream_options(1, 20);
    for (int i = 0; i < 3; i++) {
        struct flow *flow = make_flow(1000);
        EXPECT_OK(run(pool, triple_unevenly, flow, &options));
        EXPECT_INT(flow->given, flow->count);
        free(flow);
    }
    return NULL;
}

static void *map_in_thread(void *pool)
{
    static const char items[3000];
    for (int i = 0; i < 10; i++)
        EXPECT_OK(pool_map(pool, map_nothing, items, 1, NULL, 0, sizeof items));
    return NULL;
}

static void streams_maps_and_tasks_share_a_pool(void)
{
    pthread_t threads[4];
    struct pool *pool = make_pool(3);
    struct visit visit = {.pool = pool};
    for (int i = 0; i < 4; i++)
        EXPECT_OK(pthread_create(&threads[i], NULL, i ? stream_in_thread : map_in_thread, pool));
    for (int i = 0; i < 500; i++)
        submit_one(&visit);
    expect_submitted(&visit);
    for (int i = 0; i < 4; i++)
        EXPECT_OK(pthread_join(threads[i], NULL));
    EXPECT_OK(pool_destroy(pool));
}

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
    EXPECT_INT(run(pool, triple, flow, &options), POOL_ECLOSED);
    EXPECT_OK(pool_destroy(pool));
    free(flow);
}

/* ---- the default pool, and inside of workers ---- */

static void null_means_the_default_pool_for_a_stream(void)
{
    setenv("POOL_WORKERS", "2", 1);
    stream_some(NULL, 500);
}

struct tally {
    uint64_t count, taken, given, stop_after;
    int end;
    bool wrong;
};

static int give_in_a_worker(void *arg, struct pool_bytes *item_out)
{
    struct tally *tally = arg;
    if (tally->taken == tally->count)
        return tally->end;
    *item_out = (struct pool_bytes){malloc(sizeof tally->taken), sizeof tally->taken};
    memcpy(item_out->data, &tally->taken, sizeof tally->taken);
    tally->taken++;
    return 1;
}

static int take_in_a_worker(void *arg, uint64_t index, const struct pool_result *result)
{
    struct tally *tally = arg;
    uint64_t tripled = 3 * index;
    bool right = fails(index) ? result->status == POOL_ETASK && result->code == 500 + (int)index && !result->data
                              : !result->status && result->data_size == sizeof tripled &&
                                    !memcmp(result->data, &tripled, sizeof tripled);
    tally->wrong |= !right || index != tally->given || !result->message;
    return ++tally->given == tally->stop_after ? SINK_STOPS : 0;
}

/* Streams in place. 0, or the number of the line that went wrong. */
static int stream_in_a_worker(struct pool_call *call)
{
    struct pool_stream_options options = stream_options(1, 4);
    struct tally all = {.count = 200}, some = {.count = UINT64_MAX, .stop_after = 30}, few = {.count = 7, .end = -9};
    uint64_t index = pool_item_index();
    (void)call;
    if (pool_stream(NULL, triple_or_fail, give_in_a_worker, take_in_a_worker, &all, &options) || all.given != 200)
        return __LINE__;
    if (pool_stream(NULL, triple_or_fail, give_in_a_worker, take_in_a_worker, &some, &options) != SINK_STOPS)
        return __LINE__;
    if (pool_stream(pool_default(), triple_or_fail, give_in_a_worker, take_in_a_worker, &few, &options) != -9)
        return __LINE__;
    return all.wrong || some.wrong || few.wrong || some.given != 30 || pool_item_index() != index ? __LINE__ : 0;
}

static void default_pool_of_a_worker_streams_in_place(void)
{
    char text[ANSWER_BYTES];
    struct pool *pool = make_pool(1);
    EXPECT_OK(ask(pool, stream_in_a_worker, "", text));
    EXPECT_OK(pool_destroy(pool));
}

/* ---- what is refused ---- */

static void expect_refusal(struct pool *pool, const struct pool_stream_options *options, int error)
{
    struct flow *flow = make_flow(10);
    EXPECT_INT(run(pool, triple, flow, options), error);
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
    expect_passage(pool, triple, flow, &options.known);
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
    EXPECT_INT(pool_stream(pool, triple, NULL, take_result, flow, NULL), -EINVAL);
    EXPECT_INT(pool_stream(pool, triple, give_number, NULL, flow, NULL), -EINVAL);
    EXPECT_INT(pool_stream(pool, nowhere, give_number, take_result, flow, NULL), POOL_EBUILD);
    EXPECT_INT(flow->taken, 0);
    EXPECT_INT(pool_stream(pool, triple, give_malformed, take_result, flow, NULL), -EINVAL);
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
    CASE(sink_stops_an_endless_source),
    CASE(sink_may_stop_at_any_result),
    CASE(source_may_stop_the_stream),
    CASE(failed_items_reach_the_sink_as_results),
    CASE(stream_goes_on_when_items_crash),
    CASE(at_most_once_never_runs_an_item_of_a_stream_again),
    CASE(item_of_a_stream_that_succeeds_at_last_has_succeeded),
    CASE(late_items_of_a_stream_fail_and_their_neighbours_succeed),
    CASE(callbacks_may_submit),
    CASE(callbacks_submit_as_if_with_no_wait),
    CASE(callbacks_may_not_wait),
    CASE(callbacks_may_use_another_pool),
    CASE(streams_maps_and_tasks_share_a_pool),
    CASE(shutdown_ends_a_stream_and_what_was_taken_reaches_the_sink),
    CASE_THAT(KEEPS_POOL, null_means_the_default_pool_for_a_stream),
    CASE(default_pool_of_a_worker_streams_in_place),
    CASE(malformed_options_of_a_stream_are_refused),
    CASE(malformed_arguments_of_a_stream_are_refused),
    {0},
};

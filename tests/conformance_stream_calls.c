/* conformance_stream_calls: what a source and a sink may do with pools meanwhile, and who else may use them: other
 * threads, and workers, with pools of their own. */
#include "conformance_flow.h"
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* ---- what workers do ---- */

static int wait_at_gate(struct pool_call *call)
{
    return !await_counter(pool_call_state(call), GATE, 1);
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
    EXPECT_OK(run_flow(pool, triple_item, flow, NULL));
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
    EXPECT_OK(run_flow(pool, triple_item, flow, NULL));
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
    EXPECT_INT(pool_stream(visit->pool, triple_item, give_number, take_result, &unused, NULL), -EDEADLK);
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
    EXPECT_OK(run_flow(pool, triple_item, flow, NULL));
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
    expect_passage(pool, triple_item, flow, NULL);
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
        EXPECT_OK(run_flow(pool, triple_unevenly, flow, &options));
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

const struct conformance_case stream_call_cases[] = {
    CASE(callbacks_may_submit),
    CASE(callbacks_submit_as_if_with_no_wait),
    CASE(callbacks_may_not_wait),
    CASE(callbacks_may_use_another_pool),
    CASE(streams_maps_and_tasks_share_a_pool),
    CASE_THAT(KEEPS_POOL, null_means_the_default_pool_for_a_stream),
    CASE(default_pool_of_a_worker_streams_in_place),
    {0},
};

/* The library itself, asked what the peers are asked, in the same way and in the same rounds. All by default settings;
 * see benchmarks/bench_*.c for what it does beside the limits. */
#include "peer.h"
#include <procpool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static void check(int error, const char *what)
{
    if (error == 0)
        return;
    fprintf(stderr, "%s: %s: %s\n", what, pool_strerror(error), pool_message());
    exit(EXIT_FAILURE);
}

static struct pool *make_pool(unsigned workers)
{
    struct pool_options options = POOL_OPTIONS_INIT;
    struct pool *pool;
    options.workers = workers;
    check(pool_create(&options, &pool), "pool_create");
    return pool;
}

/* ---- map ------------------------------------------------------------------------------------------------------ */

static int same(const void *item, void *result, void *state)
{
    (void)state;
    *(uint64_t *)result = *(const uint64_t *)item;
    return 0;
}

struct mapping {
    struct pool *pool;
    uint64_t *items, *results;
};

static void map(void *context, size_t count)
{
    struct mapping *mapping = context;
    check(pool_map(mapping->pool, same, mapping->items, sizeof(uint64_t), mapping->results, sizeof(uint64_t), count),
          "pool_map");
}

static void ask_map(void)
{
    struct mapping mapping = {make_pool(PEER_WORKERS), malloc(PEER_MAX_ITEMS * sizeof(uint64_t)),
                              malloc(PEER_MAX_ITEMS * sizeof(uint64_t))};
    if (!mapping.items || !mapping.results)
        peer_fail("no memory");
    memset(mapping.items, 1, PEER_MAX_ITEMS * sizeof(uint64_t));
    memset(mapping.results, 0, PEER_MAX_ITEMS * sizeof(uint64_t));
    peer_answer("map", "default", peer_rate(map, &mapping) / 1e6, "M items/s", "pool_map");
    pool_destroy(mapping.pool);
}

/* ---- tasks ---------------------------------------------------------------------------------------------------- */

static int do_nothing(struct pool_call *call)
{
    (void)call;
    return 0;
}

static void collect(struct pool *pool)
{
    struct pool_task *task;
    struct pool_result result;
    check(pool_next(pool, POOL_FOREVER, &task), "pool_next");
    check(pool_task_result(task, &result), "pool_task_result");
    check(result.status, "task");
    pool_task_free(task);
}

static void submit_and_collect(void *context, size_t count)
{
    uint64_t input = 1;
    for (size_t submitted = 0, collected = 0; collected < count; collected++) {
        for (; submitted < count && submitted - collected < PEER_WINDOW; submitted++)
            check(pool_submit(context, do_nothing, &input, sizeof input, NULL, NULL), "pool_submit");
        collect(context);
    }
}

static void ask_tasks(void)
{
    struct pool *pool = make_pool(PEER_WORKERS);
    peer_answer("tasks", "default", peer_rate(submit_and_collect, pool) / 1e6, "M/s",
                "pool_submit, pool_next, 1,000 under way");
    pool_destroy(pool);
}

static void submit_and_wait(void *context)
{
    submit_and_collect(context, 1);
}

static void ask_roundtrip(void)
{
    struct pool *pool = make_pool(1);
    peer_answer_trips(submit_and_wait, pool, "pool_submit, pool_next");
    pool_destroy(pool);
}

/* ---- start ---------------------------------------------------------------------------------------------------- */

static int tell_worker(const void *item, void *result, void *state)
{
    (void)item, (void)state;
    *(unsigned *)result = pool_worker_id();
    nanosleep(&(struct timespec){.tv_nsec = 200 * 1000}, NULL); /* so that no worker takes all of them */
    return 0;
}

/* Maps, until each worker has answered. */
static void hear_all(struct pool *pool, unsigned workers)
{
    enum { MAX_WORKERS = 16 };
    static const char items[MAX_WORKERS];
    unsigned ids[MAX_WORKERS], seen = 0;
    char heard[MAX_WORKERS] = {0};
    struct pool_map_options options = POOL_MAP_OPTIONS_INIT;
    options.chunk_size = 1;
    while (seen < workers) {
        check(pool_map_with(pool, tell_worker, items, 1, ids, sizeof *ids, workers, &options), "pool_map_with");
        for (unsigned i = 0; i < workers; i++) {
            seen += !heard[ids[i]];
            heard[ids[i]] = 1;
        }
    }
}

static void ask_start_of(unsigned workers, const char *setting)
{
    double start = peer_seconds();
    struct pool *pool = make_pool(workers);
    hear_all(pool, workers);
    peer_answer("start", setting, (peer_seconds() - start) * 1e3, "ms", "forkserver, its own start included");
    pool_destroy(pool);
}

static void ask_start(void)
{
    ask_start_of(2, "2 workers");
    ask_start_of(16, "16 workers");
}

/* ---- payloads and uneven work ------------------------------------------------------------------------------------ */

static int send_back(struct pool_call *call)
{
    size_t size;
    const void *input = pool_call_input(call, &size);
    void *reply = pool_call_reply(call, size);
    if (!reply)
        return 1;
    memcpy(reply, input, size);
    return 0;
}

static void echo(void *context, size_t count)
{
    static char payload[PEER_PAYLOAD];
    for (size_t i = 0; i < count / 10; i++) {
        check(pool_submit(context, send_back, payload, sizeof payload, NULL, NULL), "pool_submit");
        collect(context);
    }
}

static void ask_echo(void)
{
    struct pool *pool = make_pool(1);
    double rate = peer_rate(echo, pool) / 10;
    peer_answer("echo", "1 MiB", 2.0 * PEER_PAYLOAD * rate / 1e9, "GB/s", "pool_submit, pool_next");
    pool_destroy(pool);
}

static int spin(const void *item, void *result, void *state)
{
    (void)result, (void)state;
    peer_spin(*(const double *)item);
    return 0;
}

static void ask_uneven(void)
{
    size_t count;
    double ideal, *costs = peer_costs(&count, &ideal), warm_up[PEER_WORKERS] = {0};
    struct pool *pool = make_pool(PEER_WORKERS);
    check(pool_map(pool, spin, warm_up, sizeof *warm_up, NULL, 0, PEER_WORKERS), "pool_map");
    double start = peer_seconds();
    check(pool_map(pool, spin, costs, sizeof *costs, NULL, 0, count), "pool_map");
    peer_answer("uneven", "default", (peer_seconds() - start) / ideal, "x ideal", "pool_map");
    pool_destroy(pool);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *question;
        void (*ask)(void);
    } questions[] = {{"map", ask_map},     {"tasks", ask_tasks}, {"roundtrip", ask_roundtrip},
                     {"start", ask_start}, {"echo", ask_echo},   {"uneven", ask_uneven}};
    pool_init();
    for (size_t i = 0; argc == 2 && i < sizeof questions / sizeof *questions; i++)
        if (strcmp(questions[i].question, argv[1]) == 0)
            questions[i].ask();
    return 0;
}

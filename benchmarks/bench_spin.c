/* What does it cost busy workers that those who wait may spin?
 *
 * Two workers on all CPUs that there are, and uneven items that compute, so that whoever takes a CPU from a worker
 * makes it last longer. The limit is the same pool with spin_us set to -1, in the same round. Who goes first changes
 * from round to round. */
#include "bench.h"
#include <procpool.h>
#include <stdio.h>
#include <stdlib.h>

enum { WORKERS = 2, ITEMS = 3000, QUICK_ITEMS = 100, MEAN_STEPS = 200 * 1000 };

/* Between an eighth and 15 eighths of the mean, about 150 microseconds. */
static uint32_t steps_of(uint32_t i)
{
    return MEAN_STEPS / 8 * (1 + (i * UINT32_C(2654435761) >> 16) % 15);
}

static uint64_t compute(uint32_t steps)
{
    uint64_t state = steps;
    for (uint32_t i = 0; i < steps; i++)
        state = state * UINT64_C(6364136223846793005) + 1;
    return state;
}

static int compute_item(const void *item, void *result, void *state)
{
    (void)state;
    *(uint64_t *)result = compute(*(const uint32_t *)item);
    return 0;
}

static int compute_task(struct pool_call *call)
{
    size_t size;
    const uint32_t *steps = pool_call_input(call, &size);
    uint64_t *reply = pool_call_reply(call, sizeof *reply);
    if (!reply)
        return 1;
    *reply = compute(*steps);
    return 0;
}

/* ---- the ways ---------------------------------------------------------------------------------------------------- */

typedef void way_fn(struct pool *pool, uint32_t count);

static void map_all(struct pool *pool, uint32_t count)
{
    static uint32_t steps[ITEMS];
    static uint64_t results[ITEMS];
    for (uint32_t i = 0; i < count; i++)
        steps[i] = steps_of(i);
    int error = pool_map(pool, compute_item, steps, sizeof *steps, results, sizeof *results, count);
    if (error < 0)
        bench_fail("pool_map", error);
}

/* So many under way that a worker always has a task, but never two. */
static void submit_and_collect(struct pool *pool, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        uint32_t steps = steps_of(i);
        if (i >= WORKERS)
            bench_collect(pool);
        int error = pool_submit(pool, compute_task, &steps, sizeof steps, NULL, NULL);
        if (error < 0)
            bench_fail("pool_submit", error);
    }
    for (uint32_t i = 0; i < WORKERS; i++)
        bench_collect(pool);
}

/* ---- measuring --------------------------------------------------------------------------------------------------- */

static double take_ms(const struct bench *bench, way_fn *way, int64_t spin_us)
{
    struct pool_options options = POOL_OPTIONS_INIT;
    struct pool *pool;
    options.workers = WORKERS;
    options.backend = bench->backend;
    options.spin_us = spin_us;
    int error = pool_create(&options, &pool);
    if (error < 0)
        bench_fail("pool_create", error);
    bench_await_workers(pool, WORKERS);
    uint64_t start_ns = bench_now_ns();
    way(pool, bench->quick ? QUICK_ITEMS : ITEMS);
    double ms = bench_seconds_since(start_ns) * 1e3;
    pool_destroy(pool);
    return ms;
}

static void measure(const struct bench *bench, const char *what, way_fn *way)
{
    struct bench_series series = {.what = what, .unit = "ms", .kind = BENCH_TIME, .target_cost = 1.01};
    for (unsigned round = 0; round < bench->rounds; round++) {
        double first_ms = take_ms(bench, way, round % 2 ? 0 : -1);
        double second_ms = take_ms(bench, way, round % 2 ? -1 : 0);
        bench_add(&series, round % 2 ? second_ms : first_ms, round % 2 ? first_ms : second_ms);
    }
    bench_print(bench, &series);
}

int main(int argc, char **argv)
{
    struct bench bench;
    pool_init();
    bench_begin(&bench, "spin", "the same with spin_us set to -1", argc, argv);
    measure(&bench, "map of uneven items", map_all);
    measure(&bench, "uneven tasks, two under way", submit_and_collect);
    return 0;
}

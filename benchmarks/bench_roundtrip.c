/* How long does one task take that does nothing, from the call to its result?
 *
 * pool_map with one item and one worker. The limit: 64 bytes through a pipe to a forked child and back, each side asleep
 * while it waits. Where the two processes run decides what a wake-up costs, far more than anything either of them
 * does; so both are measured with the same placements: on one CPU, on two, and wherever the kernel puts them.
 *
 * A cost of 1.00 means a single pipe round trip and nothing else. It may be less on two CPUs: a library that spins before it sleeps
 * saves wake-ups that the plain pipe pays for. Unpinned, the kernel may well choose differently for the two. */
#include "bench.h"
#include "raw.h"
#include <procpool.h>
#include <stdio.h>

enum { MESSAGE_BYTES = 64, TRIPS = 2000, QUICK_TRIPS = 200, WARM_UP_TRIPS = 100 };

struct placement {
    const char *median, *p99; /* what the series are called */
    int caller_cpu, worker_cpu;
};

static void answer(int in, int out, const void *arg)
{
    const struct placement *placement = arg;
    char message[MESSAGE_BYTES];
    bench_pin(placement->worker_cpu);
    while (raw_read(in, message, sizeof message))
        raw_write(out, message, sizeof message);
}

static void trip_by_pipe(void *context)
{
    struct raw_link *link = context;
    char message[MESSAGE_BYTES] = {0};
    raw_write(link->to, message, sizeof message);
    raw_read(link->from, message, sizeof message);
}

static int do_nothing(const void *item, void *result, void *state)
{
    (void)state;
    *(uint64_t *)result = *(const uint64_t *)item;
    return 0;
}

static void trip_by_pool(void *context)
{
    uint64_t item = 1, result;
    int error = pool_map(context, do_nothing, &item, sizeof item, &result, sizeof result, 1);
    if (error < 0)
        bench_fail("pool_map", error);
}

struct latency {
    double median_us, p99_us;
};

static struct latency latency_of(void (*trip)(void *context), void *context, unsigned trips)
{
    double us[TRIPS];
    for (unsigned i = 0; i < WARM_UP_TRIPS; i++)
        trip(context);
    for (unsigned i = 0; i < trips; i++) {
        uint64_t start_ns = bench_now_ns();
        trip(context);
        us[i] = bench_seconds_since(start_ns) * 1e6;
    }
    return (struct latency){bench_quantile(us, trips, 0.5), bench_quantile(us, trips, 0.99)};
}

static struct latency limit_latency(const struct placement *placement, unsigned trips)
{
    struct raw_link link;
    raw_link_start(&link, 0, answer, placement);
    struct latency latency = latency_of(trip_by_pipe, &link, trips);
    raw_link_stop(&link);
    return latency;
}

static struct latency procpool_latency(const struct bench *bench, const struct placement *placement, unsigned trips)
{
    struct pool_options options = POOL_OPTIONS_INIT;
    options.workers = 1;
    options.backend = bench->backend;
    options.initializer = bench_pin_worker;
    options.arg = &placement->worker_cpu;
    options.arg_size = sizeof placement->worker_cpu;
    struct pool *pool;
    int error = pool_create(&options, &pool);
    if (error < 0)
        bench_fail("pool_create", error);
    struct latency latency = latency_of(trip_by_pool, pool, trips);
    pool_destroy(pool);
    return latency;
}

static void measure(const struct bench *bench, const struct placement *placement)
{
    struct bench_series median = {.what = placement->median, .unit = "us", .kind = BENCH_TIME};
    struct bench_series p99 = {.what = placement->p99, .unit = "us", .kind = BENCH_TIME};
    unsigned trips = bench->quick ? QUICK_TRIPS : TRIPS;
    bench_pin(placement->caller_cpu);
    for (unsigned round = 0; round < bench->rounds; round++) {
        struct latency limit = limit_latency(placement, trips);
        struct latency procpool = procpool_latency(bench, placement, trips);
        bench_add(&median, limit.median_us, procpool.median_us);
        bench_add(&p99, limit.p99_us, procpool.p99_us);
    }
    bench_pin(BENCH_NO_CPU);
    bench_print(bench, &median);
    bench_print(bench, &p99);
}

int main(int argc, char **argv)
{
    pool_init();

    struct bench bench;
    bench_begin(&bench, "roundtrip", "64 bytes through a pipe and back", argc, argv);
    int first = bench_cpu(0), second = bench_cpu(1);
    measure(&bench, &(struct placement){"one CPU, median", "one CPU, p99", first, first});
    if (second != BENCH_NO_CPU)
        measure(&bench, &(struct placement){"two CPUs, median", "two CPUs, p99", first, second});
    measure(&bench, &(struct placement){"unpinned, median", "unpinned, p99", BENCH_NO_CPU, BENCH_NO_CPU});
    return 0;
}

/* How fast do large inputs and replies travel?
 *
 * pool_map_bytes with one item and one worker that replies with a copy of it, call after call. The limit: as many bytes
 * through pipes of 1 MiB to a forked child that reads all of them and then writes all of them back. Both pairs are pinned
 * to two CPUs where there are two. Counted are the bytes of both directions.
 *
 * The library does two things that the limit does not: the worker copies the input into the reply, since that is what this
 * task is, and the caller gets the reply as new memory, whose pages the kernel has to make. What that costs by itself the last
 * row shows: there the limit does both, too. Its reads and writes are of all that is left, and its memory is plain malloc'd. */
#include "bench.h"
#include "raw.h"
#include <procpool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PIPE_BYTES = 1 << 20 };

struct payload {
    const char *what;
    size_t size;
    unsigned repeats, quick_repeats;
    bool limit_copies; /* the limit's child copies, and its parent reads into new memory */
};

static int worker_cpu;

static void send_back(int in, int out, const void *arg)
{
    const struct payload *payload = arg;
    char *data = malloc(payload->size), *reply = payload->limit_copies ? malloc(payload->size) : data;
    bench_pin(worker_cpu);
    while (raw_read(in, data, payload->size)) {
        if (payload->limit_copies)
            memcpy(reply, data, payload->size);
        raw_write(out, reply, payload->size);
    }
}

static void read_reply(int from, const struct payload *payload, char *data)
{
    char *reply = payload->limit_copies ? malloc(payload->size) : data;
    raw_read(from, reply, payload->size);
    if (payload->limit_copies)
        free(reply);
}

static double gigabytes_per_second(const struct payload *payload, unsigned repeats, uint64_t start_ns)
{
    return 2.0 * (double)payload->size * repeats / bench_seconds_since(start_ns) / 1e9;
}

static double limit_rate(const struct payload *payload, unsigned repeats, char *data)
{
    struct raw_link link;
    raw_link_start(&link, PIPE_BYTES, send_back, payload);
    uint64_t start_ns = 0;
    for (unsigned i = 0; i <= repeats; i++) {
        if (i == 1) /* the first one warms up */
            start_ns = bench_now_ns();
        raw_write(link.to, data, payload->size);
        read_reply(link.from, payload, data);
    }
    double rate = gigabytes_per_second(payload, repeats, start_ns);
    raw_link_stop(&link);
    return rate;
}

static int echo(struct pool_call *call)
{
    size_t size;
    const void *input = pool_call_input(call, &size);
    void *reply = pool_call_reply(call, size);
    if (!reply)
        return pool_call_fail(call, 1, "no memory for %zu bytes", size);
    memcpy(reply, input, size);
    return 0;
}

static struct pool *create_pool(const struct bench *bench)
{
    struct pool_options options = POOL_OPTIONS_INIT;
    options.workers = 1;
    options.backend = bench->backend;
    options.initializer = bench_pin_worker;
    options.arg = &worker_cpu;
    options.arg_size = sizeof worker_cpu;
    struct pool *pool;
    int error = pool_create(&options, &pool);
    if (error < 0)
        bench_fail("pool_create", error);
    return pool;
}

static double procpool_rate(const struct bench *bench, const struct payload *payload, unsigned repeats, char *data)
{
    struct pool *pool = create_pool(bench);
    uint64_t start_ns = 0;
    for (unsigned i = 0; i <= repeats; i++) {
        struct pool_bytes item = {data, payload->size}, reply;
        if (i == 1)
            start_ns = bench_now_ns();
        int error = pool_map_bytes(pool, echo, &item, 1, &reply, NULL);
        if (error < 0)
            bench_fail("pool_map_bytes", error);
        pool_bytes_clear(&reply);
    }
    double rate = gigabytes_per_second(payload, repeats, start_ns);
    pool_destroy(pool);
    return rate;
}

static void measure(const struct bench *bench, const struct payload *payload)
{
    struct bench_series series = {.what = payload->what, .unit = "GB/s", .kind = BENCH_RATE, .target_cost = 1 / 0.9};
    unsigned repeats = bench->quick ? payload->quick_repeats : payload->repeats;
    char *data = bench_memory(payload->size);
    for (unsigned round = 0; round < bench->rounds; round++) {
        double limit = limit_rate(payload, repeats, data);
        bench_add(&series, limit, procpool_rate(bench, payload, repeats, data));
    }
    bench_print(bench, &series);
}

int main(int argc, char **argv)
{
    pool_init();

    struct bench bench;
    bench_begin(&bench, "echo", "as many bytes through pipes of 1 MiB and back", argc, argv);
    worker_cpu = bench_cpu(1);
    if (worker_cpu != BENCH_NO_CPU)
        bench_pin(bench_cpu(0));
    measure(&bench, &(struct payload){"4 KiB", 4 << 10, 1000, 100, false});
    measure(&bench, &(struct payload){"1 MiB", 1 << 20, 100, 10, false});
    measure(&bench, &(struct payload){"64 MiB", 64 << 20, 3, 1, false});
    measure(&bench, &(struct payload){"64 MiB, limit copies, too", 64 << 20, 3, 1, true});
    return 0;
}

/* How fast do large inputs and replies travel?
 *
 * pool_map_bytes with one item and one worker that replies with a copy of it, call after call. The limit: as many bytes
 * through pipes of 1 MiB to a forked child that reads all of them and then writes all of them back. Both pairs are
 * pinned to two CPUs where there are two. Counted are the bytes of both directions. Small payloads take no longer than
 * to wake up who waits for them: so they are also compared with a limit both sides of which look for news for 50
 * microseconds before they sleep, as the library does.
 *
 * The library does two things that the limit does not: the worker copies the input into the reply, since that is what
 * this task is, and the caller gets the reply as new memory, whose pages the kernel has to make. What that costs by
 * itself two rows show: there the limit does both, too. Its reads and writes are of all that is left, and its memory is
 * plain malloc'd.
 *
 * Then the same with input and reply in shared memory: a task whose input lies in a shared buffer and which replies by
 * pool_call_reply_shared. The limit is an echo by hand, with two copies: the parent copies the payload into memory that
 * it shares with a forked child, which copies it from there to its reply; a byte by pipe tells either that it is there.
 * Both read nothing of the reply but its last byte. The library's caller has its payload in shared memory in the first
 * place, so that the task's own copy is the only one. */
#include "bench.h"
#include "raw.h"
#include <procpool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PIPE_BYTES = 1 << 20 };
#define SPIN_NS UINT64_C(50000) /* as long as the library looks for news before it sleeps */

struct payload {
    const char *what;
    size_t size;
    unsigned repeats, quick_repeats;
    bool limit_copies; /* the limit's child copies, and its parent reads into new memory */
    bool limit_spins;  /* both of its sides look for news for a while before they sleep */
};

static int caller_cpu, worker_cpu;

static uint64_t spin_ns(const struct payload *payload)
{
    return payload->limit_spins && worker_cpu != BENCH_NO_CPU ? SPIN_NS : 0;
}

static void send_back(int in, int out, const void *arg)
{
    const struct payload *payload = arg;
    char *data = malloc(payload->size), *reply = payload->limit_copies ? malloc(payload->size) : data;
    bench_pin(worker_cpu);
    raw_spin(in, spin_ns(payload));
    while (raw_read_spinning(in, data, payload->size, spin_ns(payload))) {
        if (payload->limit_copies)
            memcpy(reply, data, payload->size);
        raw_write(out, reply, payload->size);
    }
}

static void read_reply(int from, const struct payload *payload, char *data)
{
    char *reply = payload->limit_copies ? malloc(payload->size) : data;
    raw_read_spinning(from, reply, payload->size, spin_ns(payload));
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
    raw_spin(link.from, spin_ns(payload));
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
    bench_pin(BENCH_NO_CPU); /* the pool knows all CPUs there are */
    int error = pool_create(&options, &pool);
    if (error < 0)
        bench_fail("pool_create", error);
    bench_pin(caller_cpu);
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

/* ---- shared memory ---- */

struct shared {
    const struct payload *payload;
    char *input, *reply;
};

static void copy_to_reply(int in, int out, const void *arg)
{
    const struct shared *shared = arg;
    char byte;
    bench_pin(worker_cpu);
    raw_spin(in, spin_ns(shared->payload));
    while (raw_read_spinning(in, &byte, 1, spin_ns(shared->payload))) {
        memcpy(shared->reply, shared->input, shared->payload->size);
        raw_write(out, &byte, 1);
    }
}

static void expect_last(const char *reply, const char *data, size_t size)
{
    if (reply[size - 1] != data[size - 1])
        bench_fail("the reply is wrong", -1);
}

static double shared_limit_rate(const struct payload *payload, unsigned repeats, const char *data)
{
    struct raw_link link;
    struct shared shared = {payload, bench_shared(payload->size), bench_shared(payload->size)};
    raw_link_start(&link, 0, copy_to_reply, &shared);
    raw_spin(link.from, spin_ns(payload));
    uint64_t start_ns = 0;
    char byte = 0;
    for (unsigned i = 0; i <= repeats; i++) {
        if (i == 1)
            start_ns = bench_now_ns();
        memcpy(shared.input, data, payload->size);
        raw_write(link.to, &byte, 1);
        raw_read_spinning(link.from, &byte, 1, spin_ns(payload));
        expect_last(shared.reply, data, payload->size);
    }
    double rate = gigabytes_per_second(payload, repeats, start_ns);
    raw_link_stop(&link);
    bench_unshare(shared.input, payload->size);
    bench_unshare(shared.reply, payload->size);
    return rate;
}

static int echo_shared(struct pool_call *call)
{
    size_t size;
    const void *input = pool_call_input(call, &size);
    void *reply = pool_call_reply_shared(call, size);
    if (!reply)
        return pool_call_fail(call, 1, "no memory for %zu bytes", size);
    memcpy(reply, input, size);
    return 0;
}

static void echo_once(struct pool *pool, const char *input, size_t size)
{
    struct pool_task *task;
    struct pool_result result;
    int error = pool_submit(pool, echo_shared, input, size, NULL, &task);
    if (!error)
        error = pool_wait(task, POOL_FOREVER);
    if (!error)
        error = pool_task_result(task, &result);
    if (error || result.status)
        bench_fail("an echo", error ? error : result.status);
    expect_last(result.data, input, size);
    pool_task_free(task);
}

static double shared_rate(const struct bench *bench, const struct payload *payload, unsigned repeats, const char *data)
{
    struct pool *pool = create_pool(bench);
    char *input = pool_buffer_alloc(pool, payload->size);
    uint64_t start_ns = 0;
    if (!input)
        bench_fail("pool_buffer_alloc", -1);
    memcpy(input, data, payload->size);
    for (unsigned i = 0; i <= repeats; i++) {
        if (i == 1)
            start_ns = bench_now_ns();
        echo_once(pool, input, payload->size);
    }
    double rate = gigabytes_per_second(payload, repeats, start_ns);
    pool_buffer_free(pool, input);
    pool_destroy(pool);
    return rate;
}

static void measure_shared(const struct bench *bench, const struct payload *payload)
{
    struct bench_series series = {
        .what = payload->what, .unit = "GB/s", .kind = BENCH_RATE, .target_cost = payload->limit_spins ? 0 : 1};
    unsigned repeats = bench->quick ? payload->quick_repeats : payload->repeats;
    char *data = bench_memory(payload->size);
    for (unsigned round = 0; round < bench->rounds; round++) {
        double limit = shared_limit_rate(payload, repeats, data);
        bench_add(&series, limit, shared_rate(bench, payload, repeats, data));
    }
    bench_print(bench, &series);
}

static void measure(const struct bench *bench, const struct payload *payload)
{
    struct bench_series series = {
        .what = payload->what, .unit = "GB/s", .kind = BENCH_RATE, .target_cost = payload->limit_spins ? 0 : 1 / 0.9};
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
    caller_cpu = worker_cpu == BENCH_NO_CPU ? BENCH_NO_CPU : bench_cpu(0);
    bench_pin(caller_cpu);
    static const struct payload by_pipe[] = {
        {"4 KiB", 4 << 10, 1000, 100, false, false}, {"4 KiB, limit spins, too", 4 << 10, 1000, 100, false, true},
        {"1 MiB", 1 << 20, 100, 10, false, false},   {"1 MiB, limit copies, too", 1 << 20, 100, 10, true, false},
        {"64 MiB", 64 << 20, 3, 1, false, false},    {"64 MiB, limit copies, too", 64 << 20, 3, 1, true, false},
    };
    static const struct payload shared[] = {
        {"4 KiB, shared memory", 4 << 10, 1000, 100, false, false},
        {"4 KiB, shared memory, limit spins, too", 4 << 10, 1000, 100, false, true},
        {"1 MiB, shared memory", 1 << 20, 100, 10, false, false},
        {"64 MiB, shared memory", 64 << 20, 5, 1, false, false},
    };
    for (size_t i = 0; i < sizeof by_pipe / sizeof *by_pipe; i++)
        measure(&bench, &by_pipe[i]);
    for (size_t i = 0; i < sizeof shared / sizeof *shared; i++)
        measure_shared(&bench, &shared[i]);
    return 0;
}

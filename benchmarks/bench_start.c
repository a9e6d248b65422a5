/* How long does it take until all workers work, and until all are gone again?
 *
 * Counted from before pool_create to the moment when the last of the workers begins its first item (the workers tell the
 * time), and to the return of pool_destroy. The limit: as many processes started by the means of the same start method
 * (fork; posix_spawn of this very program; or one such process that forks the others), each of which writes the time to
 * a pipe as soon as it runs, and their end. The same again in a parent that has touched 1 GiB of memory.
 *
 * With fork the limit itself grows with the parent's memory; with spawn and forkserver neither of the two should. */
#include "bench.h"
#include "raw.h"
#include <procpool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

enum { MAX_WORKERS = 16, ITEMS_PER_WORKER = 8, ITEM_NS = 200 * 1000 };

struct times {
    double working_ms, gone_ms;
};

static double ms_between(uint64_t start_ns, uint64_t end_ns)
{
    return (double)(end_ns - start_ns) / 1e6;
}

static struct times limit_times(const struct bench *bench, unsigned workers)
{
    struct raw_crew crew;
    struct times times;
    uint64_t start_ns = bench_now_ns();
    raw_crew_open(&crew, bench->backend);
    raw_crew_start(&crew, workers);
    times.working_ms = ms_between(start_ns, raw_crew_await(&crew, workers).born_ns);
    raw_crew_close(&crew);
    times.gone_ms = ms_between(start_ns, bench_now_ns());
    return times;
}

struct beginning {
    uint64_t at_ns;
    unsigned worker_id;
};

/* Short, so that a map of some of them lasts no longer than needed, but long enough that no worker takes them all. */
static int tell_time(const void *item, void *result, void *state)
{
    (void)item, (void)state;
    *(struct beginning *)result = (struct beginning){bench_now_ns(), pool_worker_id()};
    nanosleep(&(struct timespec){.tv_nsec = ITEM_NS}, NULL);
    return 0;
}

/* Keep the workers busy until each has begun an item; when the last of them did so. */
static uint64_t last_beginning_ns(struct pool *pool, unsigned workers)
{
    uint64_t first_ns[MAX_WORKERS] = {0}, last_ns = 0;
    struct pool_map_options options = POOL_MAP_OPTIONS_INIT;
    options.chunk_size = 1;
    for (unsigned seen = 0; seen < workers;) {
        static const char items[MAX_WORKERS * ITEMS_PER_WORKER];
        struct beginning beginnings[MAX_WORKERS * ITEMS_PER_WORKER];
        size_t count = (size_t)workers * ITEMS_PER_WORKER;
        int error = pool_map_with(pool, tell_time, items, 1, beginnings, sizeof *beginnings, count, &options);
        if (error < 0)
            bench_fail("pool_map_with", error);
        for (size_t i = 0; i < count; i++) {
            uint64_t *first = &first_ns[beginnings[i].worker_id];
            seen += *first == 0;
            if (*first == 0 || beginnings[i].at_ns < *first)
                *first = beginnings[i].at_ns;
        }
    }
    for (unsigned i = 0; i < workers; i++)
        last_ns = first_ns[i] > last_ns ? first_ns[i] : last_ns;
    return last_ns;
}

static struct times procpool_times(const struct bench *bench, unsigned workers)
{
    struct pool_options options = POOL_OPTIONS_INIT;
    options.workers = workers;
    options.backend = bench->backend;
    struct pool *pool;
    struct times times;
    uint64_t start_ns = bench_now_ns();
    int error = pool_create(&options, &pool);
    if (error < 0)
        bench_fail("pool_create", error);
    times.working_ms = ms_between(start_ns, last_beginning_ns(pool, workers));
    uint64_t end_ns = bench_now_ns();
    pool_destroy(pool);
    times.gone_ms = times.working_ms + ms_between(end_ns, bench_now_ns());
    return times;
}

static void measure(const struct bench *bench, unsigned workers, size_t parent_bytes)
{
    char names[2][80];
    const char *events[2] = {"working", "working and gone"};
    struct bench_series series[2];
    for (int i = 0; i < 2; i++) {
        int length = snprintf(names[i], sizeof names[i], "%u %s", workers, events[i]);
        if (parent_bytes > 0)
            snprintf(names[i] + length, sizeof names[i] - (size_t)length, ", parent %zu MiB", parent_bytes >> 20);
        series[i] = (struct bench_series){.what = names[i], .unit = "ms", .kind = BENCH_TIME};
    }
    for (unsigned round = 0; round < bench->rounds; round++) {
        struct times limit = limit_times(bench, workers), procpool = procpool_times(bench, workers);
        bench_add(&series[0], limit.working_ms, procpool.working_ms);
        bench_add(&series[1], limit.gone_ms, procpool.gone_ms);
    }
    bench_print(bench, &series[0]);
    bench_print(bench, &series[1]);
}

int main(int argc, char **argv)
{
    pool_init();
    raw_main(argc, argv);

    struct bench bench;
    bench_begin(&bench, "start", "bare processes, each of which writes to a pipe", argc, argv);
    measure(&bench, 2, 0);
    measure(&bench, 16, 0);
    size_t parent_bytes = (size_t)(bench.quick ? 64 : 1024) << 20;
    void *ballast = bench_memory(parent_bytes);
    measure(&bench, 2, parent_bytes);
    measure(&bench, 16, parent_bytes);
    munmap(ballast, parent_bytes);
    return 0;
}

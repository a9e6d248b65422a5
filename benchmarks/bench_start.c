/* How long does it take until all workers work, and until they are gone again?
 *
 * Counted from before pool_create to the moment when the last of the workers begins its first item (the workers tell
 * the time), and to the return of pool_destroy. The limit: as many processes started by the means of the same start
 * method (fork; posix_spawn of this very program; or one such process that forks the others), each with two pipes of
 * its own, by which it is sent a byte and answers with the time at which it read that; and their end. In rows of their
 * own, without the end, the limit is the same of a bare pool (see bare.h), whose workers keep a pool's promises and say
 * hello first.
 *
 * Then the same in a parent that has touched 2 GiB of memory. With fork the limit itself grows with the parent's
 * memory; with spawn and forkserver neither of the two should: so the library is also compared with itself in the small
 * parent. */
#include "bare.h"
#include "bench.h"
#include "raw.h"
#include <procpool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

enum { MAX_WORKERS = RAW_MAX_WORKERS, ITEMS_PER_WORKER = 8, ITEM_NS = 1000 * 1000, LARGE_MIB = 2048, QUICK_MIB = 64 };

struct times {
    double working_ms, gone_ms;
};

static double ms_between(uint64_t start_ns, uint64_t end_ns)
{
    return (double)(end_ns - start_ns) / 1e6;
}

static uint64_t last_asked_ns(const struct raw_hello *hellos, unsigned count)
{
    uint64_t last_ns = 0;
    for (unsigned i = 0; i < count; i++)
        last_ns = hellos[i].asked_ns > last_ns ? hellos[i].asked_ns : last_ns;
    return last_ns;
}

static double bare_ms(const struct bench *bench, unsigned workers)
{
    struct raw_hello hellos[MAX_WORKERS];
    struct bare_pool pool;
    uint64_t start_ns = bench_now_ns();
    bare_open(&pool, bench->backend, workers);
    bare_start(&pool);
    bare_ask(&pool, hellos);
    bare_close(&pool);
    return ms_between(start_ns, last_asked_ns(hellos, workers));
}

static struct times limit_times(const struct bench *bench, unsigned workers)
{
    struct raw_hello hellos[MAX_WORKERS];
    struct raw_crew crew;
    struct times times;
    uint64_t start_ns = bench_now_ns();
    raw_crew_open(&crew, bench->backend, workers);
    raw_crew_start(&crew);
    raw_crew_ask(&crew, hellos);
    times.working_ms = ms_between(start_ns, last_asked_ns(hellos, workers));
    uint64_t end_ns = bench_now_ns();
    raw_crew_close(&crew);
    times.gone_ms = times.working_ms + ms_between(end_ns, bench_now_ns());
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
    struct times times;
    uint64_t start_ns = bench_now_ns();
    struct pool *pool = bench_pool(bench, workers);
    times.working_ms = ms_between(start_ns, last_beginning_ns(pool, workers));
    uint64_t end_ns = bench_now_ns();
    pool_destroy(pool);
    times.gone_ms = times.working_ms + ms_between(end_ns, bench_now_ns());
    return times;
}

enum row { SMALL, SMALL_BARE, SMALL_GONE, LARGE, LARGE_GONE, LARGE_TO_SMALL, ROWS };

static const char *const names[ROWS] = {
    [SMALL] = "%u working",
    [SMALL_BARE] = "%u working, beside a bare pool",
    [SMALL_GONE] = "%u working and gone",
    [LARGE] = "%u working, parent %u MiB",
    [LARGE_GONE] = "%u working and gone, parent %u MiB",
    [LARGE_TO_SMALL] = "%u working, parent %u MiB, to small",
};

/* Exec is nearly all of `spawn`, and the same in either. */
static bool has_bare_pool(const struct bench *bench)
{
    return strcmp(bench->backend, "spawn") != 0;
}

/* What is promised of each start method. */
static void set_targets(const struct bench *bench, unsigned workers, struct bench_series *series)
{
    bool forks = strcmp(bench->backend, "fork") == 0, spawns = strcmp(bench->backend, "spawn") == 0;
    series[SMALL].target_cost = forks ? 1.25 : spawns ? 1.15 : 0;
    series[SMALL].target_value = !forks && !spawns && workers == 16 ? 3 : 0;
    series[SMALL_BARE].target_cost = 1.11;
    series[LARGE_TO_SMALL].target_cost = forks ? 0 : 1.1;
    series[LARGE_TO_SMALL].target_excess = forks ? 0 : 1;
}

static struct times measure_round(const struct bench *bench, unsigned workers, struct bench_series *working,
                                  struct bench_series *gone)
{
    struct times limit = limit_times(bench, workers), procpool = procpool_times(bench, workers);
    bench_add(working, limit.working_ms, procpool.working_ms);
    bench_add(gone, limit.gone_ms, procpool.gone_ms);
    return procpool;
}

static void measure(const struct bench *bench, unsigned workers, unsigned parent_mib)
{
    char texts[ROWS][80];
    struct bench_series series[ROWS];
    for (int row = 0; row < ROWS; row++) {
        snprintf(texts[row], sizeof texts[row], names[row], workers, parent_mib);
        series[row] = (struct bench_series){.what = texts[row], .unit = "ms", .kind = BENCH_TIME};
    }
    set_targets(bench, workers, series);
    for (unsigned round = 0; round < bench->rounds; round++) {
        struct times small = measure_round(bench, workers, &series[SMALL], &series[SMALL_GONE]);
        if (has_bare_pool(bench))
            bench_add(&series[SMALL_BARE], bare_ms(bench, workers), small.working_ms);
        if (parent_mib == 0)
            continue;
        void *ballast = bench_memory((size_t)parent_mib << 20);
        struct times large = measure_round(bench, workers, &series[LARGE], &series[LARGE_GONE]);
        munmap(ballast, (size_t)parent_mib << 20);
        bench_add(&series[LARGE_TO_SMALL], small.working_ms, large.working_ms);
    }
    for (int row = 0; row < (parent_mib ? ROWS : LARGE); row++)
        if (series[row].count)
            bench_print(bench, &series[row]);
}

int main(int argc, char **argv)
{
    struct bench bench;
    pool_init();
    raw_main(argc, argv);
    bare_main(argc, argv);
    bench_begin(&bench, "start", "bare processes that are sent a byte and answer", argc, argv);
    unsigned parent_mib = bench.quick ? QUICK_MIB : LARGE_MIB;
    if (bench_available_bytes() < 1.5 * 1048576 * parent_mib) {
        fprintf(stderr, "the large parent is left out, there is not enough memory\n");
        parent_mib = 0;
    }
    measure(&bench, 2, parent_mib);
    measure(&bench, 16, parent_mib);
    return 0;
}

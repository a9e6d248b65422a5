/* How long does the death of a worker hold up the next item?
 *
 * A map of two items in a pool of one worker: the first kills the worker, the second answers; measured is the whole
 * call. The limit: a message to a bare process, which kills itself; the event of its pidfd; another process started by
 * the means of the same start method; a message to it and its answer. Only the item that killed its worker fails: that
 * is checked each time.
 *
 * The cost beyond 1.00 is what a worker promises, a handshake and one more round trip, which the bare process does not
 * need. In a row of its own the limit is a bare pool (see bare.h), which has all of that. */
#include "bare.h"
#include "bench.h"
#include "raw.h"
#include <procpool.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DEATHS = 50, QUICK_DEATHS = 5 };

static double limit_ms(const struct bench *bench, unsigned deaths)
{
    double ms[DEATHS];
    struct raw_crew crew;
    struct raw_hello hello;
    raw_crew_open(&crew, bench->backend, 1);
    raw_crew_start(&crew);
    raw_crew_ask(&crew, &hello);
    for (unsigned i = 0; i < deaths; i++) {
        uint64_t start_ns = bench_now_ns();
        raw_crew_kill(&crew, hello.pid);
        raw_crew_start(&crew);
        raw_crew_ask(&crew, &hello);
        ms[i] = bench_seconds_since(start_ns) * 1e3;
    }
    raw_crew_close(&crew);
    return bench_quantile(ms, deaths, 0.5);
}

static double bare_ms(const struct bench *bench, unsigned deaths)
{
    double ms[DEATHS];
    struct bare_pool pool;
    struct raw_hello hello;
    bare_open(&pool, bench->backend, 1);
    bare_start(&pool);
    bare_ask(&pool, &hello);
    for (unsigned i = 0; i < deaths; i++) {
        uint64_t start_ns = bench_now_ns();
        bare_kill(&pool);
        bare_start(&pool);
        bare_ask(&pool, &hello);
        ms[i] = bench_seconds_since(start_ns) * 1e3;
    }
    bare_close(&pool);
    return bench_quantile(ms, deaths, 0.5);
}

enum item { DIE, ANSWER };

static int die_or_answer(const void *item, void *result, void *state)
{
    (void)state;
    if (*(const enum item *)item == DIE)
        raise(SIGKILL);
    *(enum item *)result = ANSWER;
    return 0;
}

static void lose_a_worker(struct pool *pool)
{
    static const enum item items[2] = {DIE, ANSWER};
    enum item results[2] = {DIE, DIE};
    int status[2];
    struct pool_map_options options = POOL_MAP_OPTIONS_INIT;
    options.status_out = status;
    options.at_most_once = 1; /* the first item dies once, and there is no doubt which of the two it was */
    int error = pool_map_with(pool, die_or_answer, items, sizeof *items, results, sizeof *results, 2, &options);
    if (error != POOL_ECRASH || status[0] != POOL_ECRASH || status[1] != 0 || results[1] != ANSWER)
        bench_fail("pool_map_with", error);
}

static double procpool_ms(const struct bench *bench, unsigned deaths)
{
    double ms[DEATHS];
    struct pool_options options = POOL_OPTIONS_INIT;
    options.workers = 1;
    options.backend = bench->backend;
    struct pool *pool;
    int error = pool_create(&options, &pool);
    if (error < 0)
        bench_fail("pool_create", error);
    for (unsigned i = 0; i < deaths; i++) {
        uint64_t start_ns = bench_now_ns();
        lose_a_worker(pool);
        ms[i] = bench_seconds_since(start_ns) * 1e3;
    }
    pool_destroy(pool);
    return bench_quantile(ms, deaths, 0.5);
}

int main(int argc, char **argv)
{
    pool_init();
    raw_main(argc, argv);
    bare_main(argc, argv);

    struct bench bench;
    bench_begin(&bench, "recover", "kill, event, start and first words of a bare process", argc, argv);
    unsigned deaths = bench.quick ? QUICK_DEATHS : DEATHS;
    struct bench_series series = {.what = "a death to the next result", .unit = "ms", .kind = BENCH_TIME};
    series.target_cost = 1.3;
    series.target_value = strcmp(bench.backend, "forkserver") == 0 ? 0.5 : 0;
    struct bench_series beside_bare = {
        .what = "the same beside a bare pool", .unit = "ms", .kind = BENCH_TIME, .target_cost = 1.11};
    bool has_bare_pool = strcmp(bench.backend, "spawn") != 0; /* exec is nearly all of that, and the same in either */
    for (unsigned round = 0; round < bench.rounds; round++) {
        double limit = limit_ms(&bench, deaths), procpool = procpool_ms(&bench, deaths);
        bench_add(&series, limit, procpool);
        if (has_bare_pool)
            bench_add(&beside_bare, bare_ms(&bench, deaths), procpool);
    }
    bench_print(&bench, &series);
    if (has_bare_pool)
        bench_print(&bench, &beside_bare);
    return 0;
}

/* bench: see bench.h. */
#include "bench.h"
#include <errno.h>
#include <procpool.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>

/* ---- command line ----------------------------------------------------------------------------------------- */

static _Noreturn void usage(const char *name, int status)
{
    fprintf(status ? stderr : stdout,
            "usage: bench_%s [--backend fork|spawn|forkserver] [--rounds N] [--quick] [--json]\n", name);
    exit(status);
}

static unsigned parse_rounds(const char *name, const char *text)
{
    char *end;
    unsigned long rounds = text ? strtoul(text, &end, 10) : 0;
    if (rounds < 1 || rounds > BENCH_MAX_ROUNDS || *end)
        usage(name, 2);
    return (unsigned)rounds;
}

void bench_begin(struct bench *bench, const char *name, const char *limit, int argc, char **argv)
{
    const char *environment = getenv("POOL_BACKEND");
    *bench = (struct bench){.name = name, .backend = environment && *environment ? environment : "forkserver"};
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--json") == 0)
            bench->json = true;
        else if (strcmp(argv[i], "--quick") == 0)
            bench->quick = true;
        else if (strcmp(argv[i], "--backend") == 0 && i + 1 < argc)
            bench->backend = argv[++i];
        else if (strcmp(argv[i], "--rounds") == 0 && i + 1 < argc)
            bench->rounds = parse_rounds(name, argv[++i]);
        else
            usage(name, strcmp(argv[i], "--help") == 0 ? 0 : 2);
    }
    if (bench->rounds == 0)
        bench->rounds = bench->quick ? 2 : 7;
    bench_cpu(0); /* which CPUs there are is found out before anything is pinned */
    if (bench->json)
        return;
    printf("%s: backend %s, %u rounds; the limit: %s\n", name, bench->backend, bench->rounds, limit);
    printf("%-38s %-12s %28s %28s %22s  %s\n", "", "unit", "limit (min..max)", "procpool (min..max)", "cost (min..max)",
           "target");
}

/* ---- series ----------------------------------------------------------------------------------------------- */

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double bench_quantile(double *values, size_t count, double fraction)
{
    qsort(values, count, sizeof *values, compare);
    double place = fraction * (double)(count - 1);
    size_t below = (size_t)place;
    if (below + 1 >= count)
        return values[count - 1];
    return values[below] + (place - (double)below) * (values[below + 1] - values[below]);
}

struct spread {
    double median, min, max;
};

static struct spread spread_of(const double *values, unsigned count)
{
    double sorted[BENCH_MAX_ROUNDS];
    memcpy(sorted, values, count * sizeof *values);
    double median = bench_quantile(sorted, count, 0.5);
    return (struct spread){median, sorted[0], sorted[count - 1]};
}

static struct spread cost_of(const struct bench_series *series)
{
    double cost[BENCH_MAX_ROUNDS];
    for (unsigned i = 0; i < series->count; i++)
        cost[i] = series->kind == BENCH_TIME ? series->procpool[i] / series->limit[i]
                                             : series->limit[i] / series->procpool[i];
    return spread_of(cost, series->count);
}

void bench_add(struct bench_series *series, double limit, double procpool)
{
    series->limit[series->count] = limit;
    series->procpool[series->count] = procpool;
    series->count++;
}

static void print_cell(struct spread spread, int width)
{
    char text[80];
    int digits = spread.median < 10 ? 2 : spread.median < 100 ? 1 : 0;
    snprintf(text, sizeof text, "%.*f (%.*f..%.*f)", digits, spread.median, digits, spread.min, digits, spread.max);
    printf(" %*s", width, text);
}

static void print_json(const char *name, struct spread spread)
{
    printf(", \"%s\": {\"median\": %g, \"min\": %g, \"max\": %g}", name, spread.median, spread.min, spread.max);
}

/* Whether the medians keep what is promised. */
static bool is_met(const struct bench_series *series, struct spread limit, struct spread procpool, struct spread cost)
{
    bool excess_met = series->target_excess > 0 && procpool.median <= limit.median + series->target_excess;
    bool cost_met = series->target_cost <= 0 || cost.median <= series->target_cost || excess_met;
    bool value_met =
        series->kind == BENCH_TIME ? procpool.median <= series->target_value : procpool.median >= series->target_value;
    return cost_met && (series->target_value <= 0 || value_met);
}

static void print_targets_json(const struct bench_series *series, bool met)
{
    if (series->target_cost > 0)
        printf(", \"target_cost\": %g", series->target_cost);
    if (series->target_excess > 0)
        printf(", \"target_excess\": %g", series->target_excess);
    if (series->target_value > 0)
        printf(", \"target_value\": %g", series->target_value);
    if (series->target_cost > 0 || series->target_value > 0)
        printf(", \"met\": %s", met ? "true" : "false");
    if (series->curve)
        printf(", \"curve\": \"%s\", \"x\": %.10g", series->curve, series->x);
}

static void print_targets(const struct bench_series *series, bool met)
{
    if (series->target_cost > 0)
        printf("  cost <= %g", series->target_cost);
    if (series->target_excess > 0)
        printf(" or + %g %s", series->target_excess, series->unit);
    if (series->target_value > 0)
        printf("  %s %g %s", series->kind == BENCH_TIME ? "<=" : ">=", series->target_value, series->unit);
    puts(series->target_cost > 0 || series->target_value > 0 ? met ? " (met)" : " (missed)" : "");
}

void bench_print(const struct bench *bench, const struct bench_series *series)
{
    struct spread limit = spread_of(series->limit, series->count);
    struct spread procpool = spread_of(series->procpool, series->count);
    struct spread cost = cost_of(series);
    bool met = is_met(series, limit, procpool, cost);
    if (bench->json) {
        printf("{\"benchmark\": \"%s\", \"what\": \"%s\", \"backend\": \"%s\", \"kind\": \"%s\"", bench->name,
               series->what, bench->backend, series->kind == BENCH_TIME ? "time" : "rate");
        printf(", \"unit\": \"%s\", \"rounds\": %u", series->unit, series->count);
        print_json("limit", limit);
        print_json("procpool", procpool);
        print_json("cost", cost);
        print_targets_json(series, met);
        puts("}");
    } else {
        printf("%-38s %-12s", series->what, series->unit);
        print_cell(limit, 28);
        print_cell(procpool, 28);
        print_cell(cost, 22);
        print_targets(series, met);
    }
    fflush(stdout);
}

/* Closer together towards the end, where the rare long ones are. */
static const double fractions[] = {0,   0.01, 0.05, 0.1,  0.2,  0.3,  0.4,   0.5,   0.6,
                                   0.7, 0.8,  0.9,  0.95, 0.98, 0.99, 0.995, 0.999, 0.9999};
enum { FRACTIONS = sizeof fractions / sizeof *fractions };

static void print_json_array(const char *name, const double values[FRACTIONS])
{
    printf(", \"%s\": [", name);
    for (int i = 0; i < FRACTIONS; i++)
        printf("%s%g", i > 0 ? ", " : "", values[i]);
    printf("]");
}

void bench_print_quantiles(const struct bench *bench, const char *what, const char *unit, double *limit,
                           double *procpool, size_t count)
{
    double limit_quantiles[FRACTIONS], procpool_quantiles[FRACTIONS];
    if (!bench->json)
        return;
    for (int i = 0; i < FRACTIONS; i++) {
        limit_quantiles[i] = bench_quantile(limit, count, fractions[i]);
        procpool_quantiles[i] = bench_quantile(procpool, count, fractions[i]);
    }
    printf("{\"benchmark\": \"%s\", \"what\": \"%s\", \"backend\": \"%s\", \"unit\": \"%s\"", bench->name, what,
           bench->backend, unit);
    print_json_array("fractions", fractions);
    print_json_array("limit_quantiles", limit_quantiles);
    print_json_array("procpool_quantiles", procpool_quantiles);
    puts("}");
    fflush(stdout);
}

/* ---- clock and CPUs --------------------------------------------------------------------------------------- */

uint64_t bench_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

double bench_seconds_since(uint64_t start_ns)
{
    return (double)(bench_now_ns() - start_ns) / 1e9;
}

double bench_cpu_us(void)
{
    struct rusage usage;
    bench_check(getrusage(RUSAGE_SELF, &usage), "getrusage");
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1e6 +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

/* The CPUs this process was started with. */
static const cpu_set_t *initial_cpus(void)
{
    static cpu_set_t cpus;
    if (CPU_COUNT(&cpus) == 0)
        bench_check(sched_getaffinity(0, sizeof cpus, &cpus), "sched_getaffinity");
    return &cpus;
}

int bench_cpu(unsigned nth)
{
    const cpu_set_t *cpus = initial_cpus();
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET((size_t)cpu, cpus) && nth-- == 0)
            return cpu;
    return BENCH_NO_CPU;
}

void bench_pin(int cpu)
{
    cpu_set_t one;
    CPU_ZERO(&one);
    if (cpu != BENCH_NO_CPU)
        CPU_SET((size_t)cpu, &one);
    bench_check(sched_setaffinity(0, sizeof one, cpu == BENCH_NO_CPU ? initial_cpus() : &one), "sched_setaffinity");
}

int bench_pin_worker(const void *arg, size_t arg_size, void **state_out)
{
    (void)arg_size, (void)state_out;
    bench_pin(*(const int *)arg);
    return 0;
}

/* ---- pools ------------------------------------------------------------------------------------------------ */

struct pool *bench_pool(const struct bench *bench, unsigned workers)
{
    struct pool_options options = POOL_OPTIONS_INIT;
    struct pool *pool;
    options.workers = workers;
    options.backend = bench->backend;
    int error = pool_create(&options, &pool);
    if (error < 0)
        bench_fail("pool_create", error);
    return pool;
}

static int do_nothing(struct pool_call *call)
{
    (void)call;
    return 0;
}

void bench_await_workers(struct pool *pool, unsigned workers)
{
    struct pool_stats stats = POOL_STATS_INIT;
    do {
        int error = pool_broadcast(pool, do_nothing, NULL, 0);
        if (error < 0 || (error = pool_stats(pool, &stats)) < 0)
            bench_fail("pool_broadcast", error);
    } while (stats.workers < workers);
}

void bench_collect(struct pool *pool)
{
    struct pool_task *task;
    struct pool_result result;
    int error = pool_next(pool, POOL_FOREVER, &task);
    if (error || (error = pool_task_result(task, &result)) != 0 || (error = result.status) != 0)
        bench_fail("pool_next", error);
    pool_task_free(task);
}

/* ---- failures and memory ---------------------------------------------------------------------------------- */

void bench_fail(const char *what, int error)
{
    fprintf(stderr, "%s: %s%s%s\n", what, pool_strerror(error), *pool_message() ? ": " : "", pool_message());
    exit(EXIT_FAILURE);
}

long bench_check(long result, const char *what)
{
    if (result == -1)
        bench_fail(what, -errno);
    return result;
}

void *bench_memory(size_t size)
{
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        bench_fail("mmap", -errno);
    madvise(memory, size, MADV_NOHUGEPAGE);
    memset(memory, 1, size);
    return memory;
}

void *bench_shared(size_t size)
{
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        bench_fail("mmap", -errno);
    memset(memory, 1, size);
    return memory;
}

void bench_unshare(void *memory, size_t size)
{
    bench_check(munmap(memory, size), "munmap");
}

void bench_warm_queue(size_t tasks)
{
    size_t size = BENCH_QUEUED_BYTES * tasks;
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        bench_fail("mmap", -errno);
    madvise(memory, size, MADV_HUGEPAGE);
    memset(memory, 1, size);
    bench_check(munmap(memory, size), "munmap");
}

double bench_available_bytes(void)
{
    char line[256];
    double kib = 0;
    FILE *info = fopen("/proc/meminfo", "r");
    while (info && fgets(line, sizeof line, info))
        sscanf(line, "MemAvailable: %lf", &kib);
    if (info)
        fclose(info);
    return kib * 1024;
}

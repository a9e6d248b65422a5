/* Does it matter how many workers there are, and how many tasks are queued?
 *
 * Tasks that do nothing, submitted and collected one by one:
 *
 *   workers   with 1,000 and with 10,000 under way, by 8, 64 and 512 workers: tasks a second, and the parent's CPU time
 *             for each. The limit is the same by 2 workers, in the same round. On a machine with fewer CPUs than
 *             workers nothing can be gained by more of them; the question is what is lost.
 *   queue     1 to 10 million submitted before the first is taken, by 2 workers: the parent's CPU time for each. The
 *             limit is the same with 1,000. A task alone has its own system calls on its way there and back; from 1,000
 *             on they are shared. The memory for them was used right before (see bench_warm_queue). */
#include "bench.h"
#include <errno.h>
#include <procpool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

enum { FEW_WORKERS = 2, MANY = 1000000, QUICK_TASKS = 20000, WARM_UP_TASKS = 20000 };

static const double flat = 1.15; /* within what spreads from one round to the next */

static int do_nothing(struct pool_call *call)
{
    (void)call;
    return 0;
}

static void submit(struct pool *pool)
{
    static const char input[4];
    int error = pool_submit(pool, do_nothing, input, sizeof input, NULL, NULL);
    if (error < 0)
        bench_fail("pool_submit", error);
}

struct figures {
    double rate; /* millions of tasks a second */
    double us;   /* the parent's CPU time for each */
};

static struct figures run_tasks(struct pool *pool, size_t window, size_t total)
{
    double us = bench_cpu_us();
    uint64_t start_ns = bench_now_ns();
    for (size_t submitted = 0, collected = 0; collected < total; collected++) {
        while (submitted < total && submitted - collected < window) {
            submit(pool);
            submitted++;
        }
        bench_collect(pool);
    }
    double seconds = bench_seconds_since(start_ns);
    return (struct figures){(double)total / seconds / 1e6, (bench_cpu_us() - us) / (double)total};
}

/* ---- workers ---------------------------------------------------------------------------------------------------- */

static struct pool *ready_pool(const struct bench *bench, unsigned workers)
{
    struct pool *pool = bench_pool(bench, workers);
    bench_await_workers(pool, workers);
    run_tasks(pool, WARM_UP_TASKS, WARM_UP_TASKS);
    return pool;
}

static void measure_workers(const struct bench *bench, struct pool *few, unsigned workers, size_t window)
{
    static const char *const curves[2] = {"tasks a second by workers", "parent's CPU by workers"};
    static const char *const formats[2][2] = {
        {"%u workers, %zu under way", "by %u workers, %zu under way"},
        {"CPU, %u workers, %zu under way", "CPU, %u workers, %zu under way"},
    };
    size_t total = bench->quick ? QUICK_TASKS : MANY;
    char names[2][80];
    struct bench_series series[2] = {{.unit = "M/s", .kind = BENCH_RATE}, {.unit = "us", .kind = BENCH_TIME}};
    for (int i = 0; i < 2; i++) {
        snprintf(names[i], sizeof names[i], formats[i][window > 1000], workers, window);
        series[i].what = names[i];
        series[i].target_cost = i ? flat : 1 / 0.85;
        series[i].curve = window == 1000 ? curves[i] : NULL;
        series[i].x = workers;
    }
    struct pool *many = ready_pool(bench, workers);
    for (unsigned round = 0; round < bench->rounds; round++) {
        struct figures limit = run_tasks(few, window, total), figures = run_tasks(many, window, total);
        bench_add(&series[0], limit.rate, figures.rate);
        bench_add(&series[1], limit.us, figures.us);
    }
    pool_destroy(many);
    bench_print(bench, &series[0]);
    bench_print(bench, &series[1]);
}

/* ---- queue ------------------------------------------------------------------------------------------------------ */

/* Rounds of `queued` tasks, until as many have run as make a figure. */
static double queued_us(struct pool *pool, size_t queued, size_t enough)
{
    size_t repeats = queued == 1 ? enough / 20 : queued < enough ? enough / queued : 1;
    double sum = 0;
    for (size_t i = 0; i < repeats; i++)
        sum += run_tasks(pool, queued, queued).us;
    return sum / (double)repeats;
}

static void measure_queue(const struct bench *bench, struct pool *pool, size_t queued)
{
    char name[64];
    size_t enough = bench->quick ? QUICK_TASKS : MANY;
    struct bench_series series = {
        .what = name, .unit = "us", .kind = BENCH_TIME, .curve = "parent's CPU by queued tasks"};
    snprintf(name, sizeof name, "%zu queued, CPU", queued);
    series.x = (double)queued;
    series.target_cost = queued > 1000 ? flat : 0;
    if (bench_available_bytes() < 2.0 * BENCH_QUEUED_BYTES * (double)queued) {
        fprintf(stderr, "%s: left out, there is not enough memory\n", name);
        return;
    }
    for (unsigned round = 0; round < bench->rounds; round++) {
        double limit = queued_us(pool, 1000, enough);
        bench_warm_queue(queued);
        bench_add(&series, limit, queued_us(pool, queued, enough));
    }
    bench_print(bench, &series);
}

/* Each worker takes some fds of this process. */
static void raise_fd_limit(void)
{
    struct rlimit limit;
    bench_check(getrlimit(RLIMIT_NOFILE, &limit), "getrlimit");
    limit.rlim_cur = limit.rlim_max;
    bench_check(setrlimit(RLIMIT_NOFILE, &limit), "setrlimit");
}

int main(int argc, char **argv)
{
    static const unsigned workers[] = {8, 64, 512};
    static const size_t windows[] = {1000, 10000}, queued[] = {1, 100000, MANY, 10 * MANY};
    struct bench bench;
    pool_init();
    raise_fd_limit();
    bench_begin(&bench, "scale", "the same by 2 workers; for queues, with 1000 queued", argc, argv);
    struct pool *few = ready_pool(&bench, FEW_WORKERS);
    for (size_t i = 0; i < 3; i++)
        for (size_t j = 0; j < 2; j++)
            measure_workers(&bench, few, workers[i] / (bench.quick ? 4 : 1), windows[j]);
    for (size_t i = 0; i < 4; i++)
        measure_queue(&bench, few, queued[i] / (bench.quick && queued[i] > 1 ? 100 : 1));
    pool_destroy(few);
    return 0;
}

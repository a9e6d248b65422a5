/* How much memory does an idle worker take?
 *
 * Sixteen workers, each of which has run a trivial task and now waits for another: the memory that is private to a
 * worker (Private_Clean and Private_Dirty of /proc/PID/smaps_rollup), as a mean over the workers. What workers share
 * with the process they are copies of, and with each other, is counted by neither; the resident size would count it for
 * each, PSS by the number of sharers. The limit: as many bare processes, started by the means of the same start method,
 * that wait in a read. */
#include "bench.h"
#include "raw.h"
#include <errno.h>
#include <procpool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { WORKERS = 16, TASK_NS = 200 * 1000 };

static double private_kib(pid_t pid)
{
    char path[64], line[256];
    double sum = 0, kib;
    snprintf(path, sizeof path, "/proc/%d/smaps_rollup", (int)pid);
    FILE *rollup = fopen(path, "r");
    if (!rollup)
        bench_fail(path, -errno);
    while (fgets(line, sizeof line, rollup))
        if (sscanf(line, "Private_Clean: %lf", &kib) == 1 || sscanf(line, "Private_Dirty: %lf", &kib) == 1)
            sum += kib;
    fclose(rollup);
    return sum;
}

static double mean_kib(const pid_t *pids)
{
    double sum = 0;
    for (int i = 0; i < WORKERS; i++)
        sum += private_kib(pids[i]);
    return sum / WORKERS;
}

static double limit_kib(const struct bench *bench)
{
    pid_t pids[WORKERS];
    struct raw_hello hellos[WORKERS];
    struct raw_crew crew;
    raw_crew_open(&crew, bench->backend, WORKERS);
    raw_crew_start(&crew);
    raw_crew_ask(&crew, hellos);
    for (int i = 0; i < WORKERS; i++)
        pids[i] = hellos[i].pid;
    double kib = mean_kib(pids);
    raw_crew_close(&crew);
    return kib;
}

/* Long enough that no worker takes all of them. */
static int take_a_moment(struct pool_call *call)
{
    (void)call;
    nanosleep(&(struct timespec){.tv_nsec = TASK_NS}, NULL);
    return 0;
}

static pid_t pid_of_next(struct pool *pool, unsigned *worker_out)
{
    struct pool_task *task;
    struct pool_result result;
    int error = pool_next(pool, POOL_FOREVER, &task);
    if (error || (error = pool_task_result(task, &result)) != 0 || (error = result.status) != 0)
        bench_fail("pool_next", error);
    pool_task_free(task);
    *worker_out = result.worker_id;
    return result.worker_pid;
}

/* Tasks until each worker has had one. */
static void find_workers(struct pool *pool, pid_t *pids_out)
{
    unsigned found = 0, worker;
    memset(pids_out, 0, WORKERS * sizeof *pids_out);
    while (found < WORKERS) {
        for (int i = 0; i < WORKERS; i++) {
            int error = pool_submit(pool, take_a_moment, NULL, 0, NULL, NULL);
            if (error < 0)
                bench_fail("pool_submit", error);
        }
        for (int i = 0; i < WORKERS; i++) {
            pid_t pid = pid_of_next(pool, &worker);
            found += !pids_out[worker];
            pids_out[worker] = pid;
        }
    }
}

static double procpool_kib(const struct bench *bench)
{
    pid_t pids[WORKERS];
    struct pool *pool = bench_pool(bench, WORKERS);
    find_workers(pool, pids);
    double kib = mean_kib(pids);
    pool_destroy(pool);
    return kib;
}

int main(int argc, char **argv)
{
    struct bench bench;
    pool_init();
    raw_main(argc, argv);
    bench_begin(&bench, "memory", "bare processes that wait in a read", argc, argv);
    struct bench_series series = {.what = "an idle worker among 16", .unit = "KiB", .kind = BENCH_TIME};
    series.target_value = strcmp(bench.backend, "spawn") == 0 ? 256 : 102.4;
    for (unsigned round = 0; round < bench.rounds; round++) {
        double limit = limit_kib(&bench);
        bench_add(&series, limit, procpool_kib(&bench));
    }
    bench_print(&bench, &series);
    return 0;
}

/* How long does one task take that does nothing, from its submission to its result?
 *
 * pool_submit and pool_wait with one worker. The limit: 64 bytes through a pipe to a forked child and back, each side
 * asleep while it waits. Where the two processes run decides what a wake-up costs, far more than anything either of
 * them does; so both are measured with the same placements: on one CPU, on two, and wherever the kernel puts them.
 *
 * Whoever does not go to sleep needs no wake-up: hence on two CPUs also the limit of a pipe whose both sides try for 50
 * microseconds before they sleep. A cost below 1.00 against the plain pipe means that the library, too, tries before it
 * sleeps; without spin is what it takes with spin_us set to -1. And whoever waits for more than a pipe (for the end of
 * a worker, a deadline, another thread) has to ask an epoll before it reads: on one CPU, where that counts most, there
 * is a limit that does so. Unpinned, the kernel may well choose differently for the two. */
#include "bench.h"
#include "raw.h"
#include <procpool.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <unistd.h>

enum { MESSAGE_BYTES = 64, TRIPS = 2000, QUICK_TRIPS = 200, WARM_UP_TRIPS = 100, SPIN_NS = 50 * 1000 };

struct placement {
    const char *what;
    int caller_cpu, worker_cpu;
    uint64_t pipe_spin_ns;
    int64_t spin_us;
    bool pipe_polls;
    double target_cost, target_us;
};

/* ---- the ways ---------------------------------------------------------------------------------------------------- */

static void answer(int in, int out, const void *arg)
{
    const struct placement *placement = arg;
    char message[MESSAGE_BYTES];
    bench_pin(placement->worker_cpu);
    raw_spin(in, placement->pipe_spin_ns);
    while (raw_read_spinning(in, message, sizeof message, placement->pipe_spin_ns))
        raw_write(out, message, sizeof message);
}

struct pipe_trip {
    struct raw_link link;
    uint64_t spin_ns;
    int epoll_fd; /* -1: reads at once */
};

static void trip_by_pipe(void *context)
{
    struct pipe_trip *trip = context;
    char message[MESSAGE_BYTES] = {0};
    struct epoll_event event;
    raw_write(trip->link.to, message, sizeof message);
    if (trip->epoll_fd >= 0)
        bench_check(epoll_wait(trip->epoll_fd, &event, 1, -1), "epoll_wait");
    raw_read_spinning(trip->link.from, message, sizeof message, trip->spin_ns);
}

static int do_nothing(struct pool_call *call)
{
    (void)call;
    return 0;
}

static void trip_by_pool(void *context)
{
    static const uint64_t input = 1;
    struct pool_task *task;
    struct pool_result result;
    int error = pool_submit(context, do_nothing, &input, sizeof input, NULL, &task);
    if (error < 0 || (error = pool_wait(task, POOL_FOREVER)) < 0 || (error = pool_task_result(task, &result)) < 0 ||
        (error = result.status) < 0)
        bench_fail("pool_wait", error);
    pool_task_free(task);
}

/* ---- measuring --------------------------------------------------------------------------------------------------- */

static void take_times(void (*trip)(void *context), void *context, unsigned trips, double *us_out)
{
    for (unsigned i = 0; i < WARM_UP_TRIPS; i++)
        trip(context);
    for (unsigned i = 0; i < trips; i++) {
        uint64_t start_ns = bench_now_ns();
        trip(context);
        us_out[i] = bench_seconds_since(start_ns) * 1e6;
    }
}

static int watch(int fd)
{
    struct epoll_event event = {.events = EPOLLIN};
    int epoll_fd = (int)bench_check(epoll_create1(EPOLL_CLOEXEC), "epoll_create1");
    bench_check(epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event), "epoll_ctl");
    return epoll_fd;
}

static void take_pipe_times(const struct placement *placement, unsigned trips, double *us_out)
{
    struct pipe_trip trip = {.spin_ns = placement->pipe_spin_ns};
    bench_pin(placement->caller_cpu);
    raw_link_start(&trip.link, 0, answer, placement);
    raw_spin(trip.link.from, trip.spin_ns);
    trip.epoll_fd = placement->pipe_polls ? watch(trip.link.from) : -1;
    take_times(trip_by_pipe, &trip, trips, us_out);
    if (trip.epoll_fd >= 0)
        close(trip.epoll_fd);
    raw_link_stop(&trip.link);
}

static void take_pool_times(const struct bench *bench, const struct placement *placement, unsigned trips,
                            double *us_out)
{
    struct pool_options options = POOL_OPTIONS_INIT;
    options.workers = 1;
    options.backend = bench->backend;
    options.spin_us = placement->spin_us;
    options.initializer = bench_pin_worker;
    options.arg = &placement->worker_cpu;
    options.arg_size = sizeof placement->worker_cpu;
    struct pool *pool;
    bench_pin(BENCH_NO_CPU); /* the pool knows all CPUs there are */
    int error = pool_create(&options, &pool);
    if (error < 0)
        bench_fail("pool_create", error);
    bench_pin(placement->caller_cpu);
    take_times(trip_by_pool, pool, trips, us_out);
    pool_destroy(pool);
}

/* Median and 99th percentile of each round; and how the times of all rounds together are distributed. */
static void measure(const struct bench *bench, const struct placement *placement)
{
    static double limit_us[BENCH_MAX_ROUNDS * TRIPS], pool_us[BENCH_MAX_ROUNDS * TRIPS];
    char names[2][64];
    struct bench_series median = {.what = names[0], .unit = "us", .kind = BENCH_TIME};
    struct bench_series p99 = {.what = names[1], .unit = "us", .kind = BENCH_TIME};
    unsigned trips = bench->quick ? QUICK_TRIPS : TRIPS;
    snprintf(names[0], sizeof names[0], "%s, median", placement->what);
    snprintf(names[1], sizeof names[1], "%s, p99", placement->what);
    median.target_cost = placement->target_cost;
    median.target_value = placement->target_us;
    for (unsigned round = 0; round < bench->rounds; round++) {
        double *limit = &limit_us[round * trips], *procpool = &pool_us[round * trips];
        take_pipe_times(placement, trips, limit);
        take_pool_times(bench, placement, trips, procpool);
        bench_add(&median, bench_quantile(limit, trips, 0.5), bench_quantile(procpool, trips, 0.5));
        bench_add(&p99, bench_quantile(limit, trips, 0.99), bench_quantile(procpool, trips, 0.99));
    }
    bench_pin(BENCH_NO_CPU);
    bench_print(bench, &median);
    bench_print(bench, &p99);
    bench_print_quantiles(bench, placement->what, "us", limit_us, pool_us, (size_t)trips * bench->rounds);
}

int main(int argc, char **argv)
{
    struct bench bench;
    pool_init();
    bench_begin(&bench, "roundtrip", "64 bytes through a pipe and back", argc, argv);
    int first = bench_cpu(0), second = bench_cpu(1);
    struct placement placements[] = {
        {"one CPU", first, first, .target_cost = 1.3},
        {"one CPU, no spin", first, first, .spin_us = -1, .target_cost = 1.2},
        {"one CPU, no spin, to an epoll", first, first, .spin_us = -1, .pipe_polls = true, .target_cost = 1.11},
        {"two CPUs", first, second, .target_us = 3},
        {"two CPUs, no spin", first, second, .spin_us = -1, .target_cost = 1.2},
        {"two CPUs, to a spinning pipe", first, second, .pipe_spin_ns = SPIN_NS},
        {"unpinned", BENCH_NO_CPU, BENCH_NO_CPU, .spin_us = 0},
        {"unpinned, no spin", BENCH_NO_CPU, BENCH_NO_CPU, .spin_us = -1, .target_cost = 1.2},
    };
    for (size_t i = 0; i < sizeof placements / sizeof *placements; i++)
        if (placements[i].caller_cpu != first || placements[i].worker_cpu != BENCH_NO_CPU)
            measure(&bench, &placements[i]);
    return 0;
}

/* bench: what every benchmark needs to ask its question fairly: a command line, a clock, CPUs to pin to, and a table.
 *
 * A benchmark measures the physical limit and the library in turn, round after round, so that both see the same
 * machine. Each pair of measurements is one round of a series. What is printed of a series: median and spread of
 * either, and the *cost*: by what factor the library is slower than the limit (median of the factors of the rounds;
 * 1.00 is the limit itself). Every failure ends the program with a message: a benchmark that goes on after an error
 * measures something else. */
#ifndef PROCPOOL_BENCH_H
#define PROCPOOL_BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct pool;

enum { BENCH_MAX_ROUNDS = 100 };

struct bench {
    const char *name;
    const char *backend; /* --backend, $POOL_BACKEND, else forkserver */
    unsigned rounds;     /* --rounds */
    bool quick;          /* --quick: to see that it works, not to measure */
    bool json;           /* --json: an object for each series, one a line, instead of a table */
};

/* Reads the command line; wrong usage and --help end the program. Prints the head of the table. */
void bench_begin(struct bench *bench, const char *name, const char *limit, int argc, char **argv);

/* What is measured: a duration (or another cost), of which less is better, or a rate, of which more is. */
enum bench_kind { BENCH_TIME, BENCH_RATE };

struct bench_series {
    const char *what;
    const char *unit;
    enum bench_kind kind;
    /* What the library promises; zero: nothing. */
    double target_cost;   /* at most this cost */
    double target_excess; /* or at most so much more than the limit, in `unit` */
    double target_value;  /* at most this duration, or at least this rate, in `unit` */
    /* A point of a curve, for whoever draws one: how it depends on `x`. NULL: it is no point of any. */
    const char *curve;
    double x;
    unsigned count;
    double limit[BENCH_MAX_ROUNDS], procpool[BENCH_MAX_ROUNDS];
};

void bench_add(struct bench_series *series, double limit, double procpool);
void bench_print(const struct bench *bench, const struct bench_series *series);

/* In JSON alone: the distribution of single times. Sorts both. */
void bench_print_quantiles(const struct bench *bench, const char *what, const char *unit, double *limit,
                           double *procpool, size_t count);

/* CLOCK_MONOTONIC: the same in every process of the machine. */
uint64_t bench_now_ns(void);
double bench_seconds_since(uint64_t start_ns);
/* The CPU time that this process has used. */
double bench_cpu_us(void);

/* The value below which `fraction` of the values lie; sorts them. */
double bench_quantile(double *values, size_t count, double fraction);

/* The nth of the CPUs that this process was started with; BENCH_NO_CPU when there are not as many. */
#define BENCH_NO_CPU (-1)
int bench_cpu(unsigned nth);
/* Run this process on cpu alone; BENCH_NO_CPU: on all that it was started with. */
void bench_pin(int cpu);
/* A pool_initializer_fn that pins the worker to the int that is its argument. */
int bench_pin_worker(const void *arg, size_t arg_size, void **state_out);

/* A pool with all defaults but these. bench_await_workers: until each of them is ready to work. */
struct pool *bench_pool(const struct bench *bench, unsigned workers);
void bench_await_workers(struct pool *pool, unsigned workers);
/* Take the task that ended next, which must have succeeded, and free it. */
void bench_collect(struct pool *pool);

/* error: a negative errno, or an error of the library, which is told with pool_message(). */
_Noreturn void bench_fail(const char *what, int error);
/* The same for a system call that gave -1; returns every other value. */
long bench_check(long result, const char *what);
/* Memory of this process alone, every page of it touched, in 4 KiB pages. */
void *bench_memory(size_t size);
/* The same, shared with children that are forked later. */
void *bench_shared(size_t size);
void bench_unshare(void *memory, size_t size);
/* Use as much memory as so many queued tasks take, and give it back: a virtual machine may have to get what was free
 * for seconds from its host again, which takes longer than the tasks do, and which any program that uses it pays
 * for. */
enum { BENCH_QUEUED_BYTES = 350 };
void bench_warm_queue(size_t tasks);
/* How much memory the machine could still give out. */
double bench_available_bytes(void);

#endif

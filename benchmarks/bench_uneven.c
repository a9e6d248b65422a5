/* How long does work take whose items are very unequal?
 *
 * Two workers; the items do nothing but spend time, each as much as it is told:
 *
 *   Pareto     2,000 items, Pareto-distributed with exponent 1.5 and a mean of 1 ms: the longest holds some per cent of
 *              all
 *   mixed      20,000 items of 1 microsecond; one in a thousand, anywhere, takes 20 ms
 *   in a row   the same, but all the long ones stand together in the middle: whoever sizes chunks by what items took so
 *              far puts all of them into one chunk, and only taking them back from a busy worker helps
 *   last       the same at the end of the array
 *
 * once as a map and once as tasks, one by one. The limit is the ideal: max(all of it / workers, the longest item).
 *
 * An item spins until as much time has passed by the wall clock. So what it takes is what it was told, also where other
 * programs want the same CPUs, and the ideal is known exactly; what is measured is whether a worker is ever idle or
 * waits. What this cannot see is CPU time that the library itself takes from its workers. The last row sees it: there
 * items burn CPU time of their thread, and the limit is a bare farm in the same round: two forked children that take
 * one item at a time from a shared counter. Rows of that farm against the ideal show what is possible without any
 * library. */
#include "bench.h"
#include "raw.h"
#include <math.h>
#include <procpool.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

enum { WORKERS = 2, PARETO_ITEMS = 2000, SHORT_ITEMS = 20000, ONE_IN = 1000, QUICK_PART = 20 };
enum { SHORT_NS = 1000, LONG_NS = 20 * 1000 * 1000, MEAN_NS = 1000 * 1000 };

struct item {
    uint64_t cost_ns;
    clockid_t clock;
};

/* When an item ran and where. */
struct run {
    uint64_t begin_ns, end_ns;
    unsigned worker;
};

struct work {
    const char *name;
    size_t count;
    struct item *items;
    struct run *runs;
};

/* ---- items ------------------------------------------------------------------------------------------------------ */

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static struct run spend(const struct item *item, unsigned worker)
{
    struct run run = {.begin_ns = bench_now_ns(), .worker = worker};
    uint64_t end_ns = (item->clock == CLOCK_MONOTONIC ? run.begin_ns : clock_ns(item->clock)) + item->cost_ns;
    do
        run.end_ns = clock_ns(item->clock);
    while (run.end_ns < end_ns);
    if (item->clock != CLOCK_MONOTONIC)
        run.end_ns = bench_now_ns();
    return run;
}

/* Numbers that look random and are the same each time (splitmix64), in (0, 1]. */
static double next_random(uint64_t *state)
{
    uint64_t bits = *state += 0x9e3779b97f4a7c15u;
    bits = (bits ^ bits >> 30) * 0xbf58476d1ce4e5b9u;
    bits = (bits ^ bits >> 27) * 0x94d049bb133111ebu;
    bits ^= bits >> 31;
    return (double)((bits >> 11) + 1) / 9007199254740992.0;
}

static void cost_pareto(struct work *work)
{
    uint64_t state = 20240607;
    double sum = 0, *costs = bench_memory(work->count * sizeof *costs);
    for (size_t i = 0; i < work->count; i++)
        sum += costs[i] = pow(next_random(&state), -1 / 1.5);
    for (size_t i = 0; i < work->count; i++)
        work->items[i].cost_ns = (uint64_t)(costs[i] / sum * (double)work->count * MEAN_NS);
    munmap(costs, work->count * sizeof *costs);
}

static void cost_mixed(struct work *work)
{
    uint64_t state = 1;
    for (size_t first = 0; first < work->count; first += ONE_IN)
        work->items[first + (size_t)(next_random(&state) * (ONE_IN - 1))].cost_ns = LONG_NS;
}

static void cost_in_a_row(struct work *work)
{
    for (size_t i = 0; i < work->count / ONE_IN; i++)
        work->items[work->count / 2 + i].cost_ns = LONG_NS;
}

static void cost_last(struct work *work)
{
    for (size_t i = 0; i < work->count / ONE_IN; i++)
        work->items[work->count - 1 - i].cost_ns = LONG_NS;
}

static struct work make_work(const char *name, size_t count, void (*cost)(struct work *work))
{
    struct work work = {.name = name, .count = count};
    work.items = bench_memory(count * sizeof *work.items);
    work.runs = bench_memory(count * sizeof *work.runs);
    for (size_t i = 0; i < count; i++)
        work.items[i] = (struct item){SHORT_NS, CLOCK_MONOTONIC};
    cost(&work);
    return work;
}

static void clear_work(struct work *work)
{
    munmap(work->items, work->count * sizeof *work->items);
    munmap(work->runs, work->count * sizeof *work->runs);
}

static double ideal_ms(const struct work *work)
{
    uint64_t sum = 0, longest = 0;
    for (size_t i = 0; i < work->count; i++) {
        sum += work->items[i].cost_ns;
        longest = work->items[i].cost_ns > longest ? work->items[i].cost_ns : longest;
    }
    return (double)(sum / WORKERS > longest ? sum / WORKERS : longest) / 1e6;
}

/* ---- the ways to do it, each of which returns its makespan in ms ------------------------------------------------- */

typedef double way_fn(const struct bench *bench, const struct work *work);

struct farm {
    const struct work *work;
    atomic_size_t *next; /* shared */
};

static void farm_hand(int in, int out, const void *arg)
{
    const struct farm *farm = arg;
    char byte;
    if (!raw_read(in, &byte, 1))
        return;
    for (size_t i; (i = atomic_fetch_add(farm->next, 1)) < farm->work->count;)
        spend(&farm->work->items[i], 0);
    raw_write(out, &byte, 1);
}

static double farm_ms(const struct bench *bench, const struct work *work)
{
    struct raw_link hands[WORKERS];
    struct farm farm = {.work = work};
    char byte = 0;
    (void)bench;
    farm.next = mmap(NULL, sizeof *farm.next, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (farm.next == MAP_FAILED)
        bench_check(-1, "mmap");
    for (int i = 0; i < WORKERS; i++)
        raw_link_start(&hands[i], 0, farm_hand, &farm);
    uint64_t start_ns = bench_now_ns();
    for (int i = 0; i < WORKERS; i++)
        raw_write(hands[i].to, &byte, 1);
    for (int i = 0; i < WORKERS; i++)
        raw_read(hands[i].from, &byte, 1);
    double ms = bench_seconds_since(start_ns) * 1e3;
    for (int i = 0; i < WORKERS; i++)
        raw_link_stop(&hands[i]);
    munmap(farm.next, sizeof *farm.next);
    return ms;
}

static int spend_item(const void *item, void *result, void *state)
{
    (void)state;
    *(struct run *)result = spend(item, pool_worker_id());
    return 0;
}

static double map_ms(const struct bench *bench, const struct work *work)
{
    struct pool *pool = bench_pool(bench, WORKERS);
    bench_await_workers(pool, WORKERS);
    uint64_t start_ns = bench_now_ns();
    int error =
        pool_map(pool, spend_item, work->items, sizeof *work->items, work->runs, sizeof *work->runs, work->count);
    if (error < 0)
        bench_fail("pool_map", error);
    double ms = bench_seconds_since(start_ns) * 1e3;
    pool_destroy(pool);
    return ms;
}

static int spend_task(struct pool_call *call)
{
    struct run *run = pool_call_reply(call, sizeof *run);
    size_t size;
    if (!run)
        return pool_call_fail(call, 1, "no memory");
    *run = spend(pool_call_input(call, &size), pool_worker_id());
    return 0;
}

static double tasks_ms(const struct bench *bench, const struct work *work)
{
    struct pool *pool = bench_pool(bench, WORKERS);
    bench_await_workers(pool, WORKERS);
    uint64_t start_ns = bench_now_ns();
    for (size_t i = 0; i < work->count; i++) {
        int error = pool_submit(pool, spend_task, &work->items[i], sizeof *work->items, NULL, NULL);
        if (error < 0)
            bench_fail("pool_submit", error);
    }
    for (size_t i = 0; i < work->count; i++)
        bench_collect(pool);
    double ms = bench_seconds_since(start_ns) * 1e3;
    pool_destroy(pool);
    return ms;
}

/* ---- the timeline of a map: what each worker did when ------------------------------------------------------------ */

enum {
    BRIEF_NS = 50 * 1000
}; /* an item as short as this, as soon after the one before it, is drawn as a part of that */

static int compare_begin(const void *a, const void *b)
{
    const struct run *x = a, *y = b;
    return (x->begin_ns > y->begin_ns) - (x->begin_ns < y->begin_ns);
}

static void print_stretch(const struct run *stretch, uint64_t start_ns, const char *separator)
{
    printf("%s[%u, %.3f, %.3f]", separator, stretch->worker, (double)(stretch->begin_ns - start_ns) / 1e6,
           (double)(stretch->end_ns - start_ns) / 1e6);
}

/* The stretches in which a worker was busy; runs are in order of their beginnings. Returns the separator of what comes
 * next. */
static const char *print_stretches(const struct run *runs, size_t count, unsigned worker, const char *separator)
{
    struct run stretch = {0};
    for (size_t i = 0; i < count; i++) {
        const struct run *run = &runs[i];
        if (run->worker != worker)
            continue;
        bool continues = run->end_ns - run->begin_ns < BRIEF_NS && run->begin_ns < stretch.end_ns + BRIEF_NS;
        if (!continues && stretch.end_ns) {
            print_stretch(&stretch, runs[0].begin_ns, separator);
            separator = ", ";
        }
        stretch = continues ? (struct run){stretch.begin_ns, run->end_ns, worker} : *run;
    }
    if (!stretch.end_ns)
        return separator;
    print_stretch(&stretch, runs[0].begin_ns, separator);
    return ", ";
}

/* In JSON alone: [worker, begin, end] of each stretch, in ms since the first item began. */
static void print_timeline(const struct bench *bench, const struct work *work)
{
    const char *separator = "";
    if (!bench->json)
        return;
    qsort(work->runs, work->count, sizeof *work->runs, compare_begin);
    printf("{\"benchmark\": \"%s\", \"what\": \"%s: map\", \"backend\": \"%s\", \"unit\": \"ms\", \"timeline\": [",
           bench->name, work->name, bench->backend);
    for (unsigned worker = 0; worker < WORKERS; worker++)
        separator = print_stretches(work->runs, work->count, worker, separator);
    puts("]}");
}

/* ---- measuring --------------------------------------------------------------------------------------------------- */

enum row { FARM, TASKS, MAP, MAP_CPU, ROWS };

static const struct {
    const char *name;
    way_fn *way;
    double target_cost;
} rows[ROWS] = {
    [FARM] = {"%s: bare farm, no library", farm_ms, 0},
    [TASKS] = {"%s: tasks", tasks_ms, 1.015},
    [MAP] = {"%s: map", map_ms, 1.015},
    [MAP_CPU] = {"%s: map, CPU time, to farm", map_ms, 0},
};

static void set_clock(const struct work *work, clockid_t clock)
{
    for (size_t i = 0; i < work->count; i++)
        work->items[i].clock = clock;
}

static void measure_round(const struct bench *bench, const struct work *work, struct bench_series *series)
{
    set_clock(work, CLOCK_THREAD_CPUTIME_ID);
    double limit = farm_ms(bench, work);
    bench_add(&series[MAP_CPU], limit, rows[MAP_CPU].way(bench, work));
    set_clock(work, CLOCK_MONOTONIC);
    for (int row = FARM; row <= MAP; row++)
        bench_add(&series[row], ideal_ms(work), rows[row].way(bench, work));
}

static void measure(const struct bench *bench, struct work work)
{
    char names[ROWS][64];
    struct bench_series series[ROWS];
    for (int row = 0; row < ROWS; row++) {
        snprintf(names[row], sizeof names[row], rows[row].name, work.name);
        series[row] = (struct bench_series){
            .what = names[row], .unit = "ms", .kind = BENCH_TIME, .target_cost = rows[row].target_cost};
    }
    for (unsigned round = 0; round < bench->rounds; round++)
        measure_round(bench, &work, series);
    for (int row = 0; row < ROWS; row++)
        bench_print(bench, &series[row]);
    print_timeline(bench, &work);
    clear_work(&work);
}

int main(int argc, char **argv)
{
    struct bench bench;
    pool_init();
    bench_begin(&bench, "uneven", "max(all of it / workers, the longest item); a bare farm where it says so", argc,
                argv);
    size_t part = bench.quick ? QUICK_PART : 1;
    measure(&bench, make_work("Pareto", PARETO_ITEMS / part, cost_pareto));
    measure(&bench, make_work("mixed", SHORT_ITEMS / part, cost_mixed));
    measure(&bench, make_work("in a row", SHORT_ITEMS / part, cost_in_a_row));
    measure(&bench, make_work("last", SHORT_ITEMS / part, cost_last));
    return 0;
}

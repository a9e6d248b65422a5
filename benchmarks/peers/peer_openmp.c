/* A thread pool as the reference without isolation: what the same questions cost when a crash takes the whole program
 * with it. Threads share memory, so an echo is no question. */
#include "peer.h"
#include <omp.h>
#include <stdlib.h>
#include <string.h>

/* Not to be looked through: the work is a call, as elsewhere. */
static uint64_t same(uint64_t item)
{
    return item;
}
static uint64_t (*volatile work)(uint64_t) = same;

static uint64_t *items, *results;

static void map_in_shares(void *context, size_t count)
{
    (void)context;
#pragma omp parallel for schedule(static)
    for (size_t i = 0; i < count; i++)
        results[i] = work(items[i]);
}

static void map_in_chunks(void *context, size_t count)
{
    (void)context;
#pragma omp parallel for schedule(dynamic, 10000)
    for (size_t i = 0; i < count; i++)
        results[i] = work(items[i]);
}

static void ask_map(void)
{
    items = calloc(PEER_MAX_ITEMS, sizeof *items), results = calloc(PEER_MAX_ITEMS, sizeof *results);
    if (!items || !results)
        peer_fail("no memory");
    memset(items, 1, PEER_MAX_ITEMS * sizeof *items);
    memset(results, 1, PEER_MAX_ITEMS * sizeof *results);
    peer_answer("map", "default", peer_rate(map_in_shares, NULL) / 1e6, "M items/s", "one share a thread");
    peer_answer("map", "best chunk size", peer_rate(map_in_chunks, NULL) / 1e6, "M items/s", "dynamic, 10,000");
}

static void run_tasks(void *context, size_t count)
{
    (void)context;
#pragma omp parallel
#pragma omp single
    for (size_t i = 0; i < count; i++)
#pragma omp task
        work(i);
}

static void ask_tasks(void)
{
    peer_answer("tasks", "default", peer_rate(run_tasks, NULL) / 1e6, "M/s", "omp task");
}

static void cross_region(void *context)
{
    (void)context;
#pragma omp parallel
    work(1);
}

static void ask_roundtrip(void)
{
    peer_answer_trips(cross_region, NULL, "an empty parallel region, spinning");
}

static void ask_start_of(int threads, const char *setting)
{
    omp_set_num_threads(threads);
    double start = peer_seconds();
    cross_region(NULL);
    peer_answer("start", setting, (peer_seconds() - start) * 1e3, "ms", "the first parallel region");
}

static void ask_start(void)
{
    ask_start_of(2, "2 workers");
    ask_start_of(16, "16 workers");
}

static void ask_uneven(void)
{
    size_t count;
    double ideal, *costs = peer_costs(&count, &ideal);
    cross_region(NULL);
    double start = peer_seconds();
#pragma omp parallel for schedule(guided)
    for (size_t i = 0; i < count; i++)
        peer_spin(costs[i]);
    peer_answer("uneven", "default", (peer_seconds() - start) / ideal, "x ideal", "guided");
    start = peer_seconds();
#pragma omp parallel for schedule(dynamic, 1)
    for (size_t i = 0; i < count; i++)
        peer_spin(costs[i]);
    peer_answer("uneven", "one by one", (peer_seconds() - start) / ideal, "x ideal", "dynamic, 1");
}

int main(int argc, char **argv)
{
    static const struct {
        const char *question;
        void (*ask)(void);
    } questions[] = {{"map", ask_map},
                     {"tasks", ask_tasks},
                     {"roundtrip", ask_roundtrip},
                     {"start", ask_start},
                     {"uneven", ask_uneven}};
    omp_set_num_threads(PEER_WORKERS);
    for (size_t i = 0; argc == 2 && i < sizeof questions / sizeof *questions; i++)
        if (strcmp(questions[i].question, argv[1]) == 0)
            questions[i].ask();
    return 0;
}

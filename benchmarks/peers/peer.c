/* peer: see peer.h. */
#include "peer.h"
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { TRIPS = 3000, WARM_UP_TRIPS = 200, MAX_COSTS = 100000 };

static double clock_seconds(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

double peer_seconds(void)
{
    return clock_seconds(CLOCK_MONOTONIC);
}

void peer_spin(double us)
{
    double end = clock_seconds(CLOCK_THREAD_CPUTIME_ID) + us / 1e6;
    while (clock_seconds(CLOCK_THREAD_CPUTIME_ID) < end)
        ;
}

void peer_answer(const char *question, const char *setting, double value, const char *unit, const char *note)
{
    printf("{\"question\": \"%s\", \"setting\": \"%s\", \"value\": %.6g, \"unit\": \"%s\", \"note\": \"%s\"}\n",
           question, setting, value, unit, note);
    fflush(stdout);
}

double peer_rate(void (*run)(void *context, size_t count), void *context)
{
    for (size_t count = 1000;; count *= 10) {
        double start = peer_seconds();
        run(context, count);
        double seconds = peer_seconds() - start;
        if (seconds >= 0.2 || count >= PEER_MAX_ITEMS)
            return (double)count / seconds;
    }
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

void peer_answer_trips(void (*trip)(void *context), void *context, const char *note)
{
    static double us[TRIPS];
    for (int i = -WARM_UP_TRIPS; i < TRIPS; i++) {
        double start = peer_seconds();
        trip(context);
        if (i >= 0)
            us[i] = (peer_seconds() - start) * 1e6;
    }
    qsort(us, TRIPS, sizeof *us, compare);
    peer_answer("roundtrip", "median", us[TRIPS / 2], "us", note);
    peer_answer("roundtrip", "99th percentile", us[TRIPS * 99 / 100], "us", note);
}

double *peer_costs(size_t *count_out, double *ideal_seconds_out)
{
    static double costs[MAX_COSTS];
    const char *path = getenv("PEER_COSTS");
    FILE *file = path ? fopen(path, "r") : NULL;
    if (!file)
        peer_fail("PEER_COSTS names no file");
    double sum = 0, longest = 0;
    size_t count = 0;
    for (; count < MAX_COSTS && fscanf(file, "%lf", &costs[count]) == 1; count++) {
        sum += costs[count];
        longest = costs[count] > longest ? costs[count] : longest;
    }
    fclose(file);
    *count_out = count;
    *ideal_seconds_out = (sum / PEER_WORKERS > longest ? sum / PEER_WORKERS : longest) / 1e6;
    return costs;
}

void peer_fail(const char *what)
{
    fprintf(stderr, "%s\n", what);
    exit(EXIT_FAILURE);
}

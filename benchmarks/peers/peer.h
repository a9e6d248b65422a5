/* peer: what the peers that are written in C share: how an answer is printed, a clock, the costs of uneven work, and
 * the search for a number of items that takes long enough to be measured.
 *
 * The peers in other languages do the same in their own words; see CMakeLists.txt for what is asked of all of them. */
#ifndef PEER_H
#define PEER_H

#include <stddef.h>
#include <stdint.h>

enum { PEER_WORKERS = 2, PEER_MAX_ITEMS = 10000000, PEER_PAYLOAD = 1 << 20, PEER_WINDOW = 1000 };

double peer_seconds(void);

/* Use the CPU for so long; time in which others had it does not count. */
void peer_spin(double us);

void peer_answer(const char *question, const char *setting, double value, const char *unit, const char *note);

/* run(context, count) for counts that grow until it takes 0.2 s or PEER_MAX_ITEMS are done: items a second of the
 * last. */
double peer_rate(void (*run)(void *context, size_t count), void *context);

/* The median and the 99th percentile of single trips, told as the answer to `roundtrip`. */
void peer_answer_trips(void (*trip)(void *context), void *context, const char *note);

/* The costs in the file that PEER_COSTS names, in microseconds, and the ideal time of them all on PEER_WORKERS. */
double *peer_costs(size_t *count_out, double *ideal_seconds_out);

/* Ends the program with a message. */
_Noreturn void peer_fail(const char *what);

#endif

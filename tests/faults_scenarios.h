/* faults_scenarios: what a program does with a pool, written down with everything that may come of it when one call
 * into the system fails on the way.
 *
 *   faults_scenarios.c  the list, and what scenarios share
 *   faults_maps.c       maps, payloads, streams
 *   faults_tasks.c      single tasks, and pools that are shut down or driven around them
 *   faults_workers.c    what workers have beside their tasks: memory and fds of the host, a broadcast, a state
 *
 * Two questions are asked of every result. Is it documented: a call may be refused only after the fault has happened,
 * only when the fault is one that may be felt, and only with an error that its comment in procpool.h names for that.
 * And is it true: what is reported as a success has the right bytes; what was accepted ends exactly once, and is handed
 * out exactly once; what was refused was not run. A pool that was created can always be destroyed.
 *
 * Scenarios are short, since each is run thousands of times, and wait for events, never for time. */
#ifndef FAULTS_SCENARIOS_H
#define FAULTS_SCENARIOS_H

#include "faults.h"

/* ---- the scenarios ---- */

void create_and_destroy(void);
void map_with_a_crash(void);
void large_map_with_a_crash(void);
void map_of_payloads(void);
void tasks(void);
void tasks_of_a_destroyed_pool(void);
void shared_memory(void);
void streams(void);
void broadcasts(void);
void tasks_with_fds(void);
void shutdown_drain(void);
void shutdown_cancel(void);
void shutdown_terminate(void);
void shutdown_kill(void);
void event_loop(void);
void progress_thread(void);
void recycling(void);

/* ---- expectations ---- */

/* Whether something may have gone wrong by now that is not for the library to make good. */
bool fault_is_felt(void);

#define EXPECT(condition)                                                                                              \
    do {                                                                                                               \
        if (!(condition))                                                                                              \
            scenario_failed("%s:%d: not true: %s; pool_message: \"%s\"", __FILE__, __LINE__, #condition,               \
                            pool_message());                                                                           \
    } while (0)

#define EXPECT_INT(call, expected) expect_int(__FILE__, __LINE__, #call, (long long)(call), (long long)(expected))
void expect_int(const char *file, int line, const char *what, long long actual, long long expected);

/* What the system refused is passed on as it is. Workers that cannot be started break a pool only when that goes on. */
bool is_due_to_fault(int error);

/* Whether a call did what it was asked to. If not, the fault has to be why, and there has to be a text. */
#define GRANTED(call) granted(__FILE__, __LINE__, #call, call)
bool granted(const char *file, int line, const char *what, int rc);

/* The status of an item: the one it has coming, or what the fault has made of it. A worker that the library had to give
 * up on for want of memory is a worker that died. */
#define EXPECT_STATUS(status, expected) expect_status(__FILE__, __LINE__, status, expected)
void expect_status(const char *file, int line, int status, int expected);

/* ---- pools ---- */

struct pool_options default_options(unsigned workers);

/* NULL: refused. Then the scenario is over, but for what is checked after every one. */
struct pool *make_pool_with(const struct pool_options *options);
struct pool *make_pool(unsigned workers);

/* ---- waiting ---- */

enum { PATIENCE_MS = 20000 };

bool becomes_readable(int fd);
void end_worker(pid_t pid);

/* ---- what workers do ---- */

enum { CRASHING = 7, FAILING = 11, FAILURE_CODE = 5 };

noreturn void crash(void);
int triple(const void *item, void *result, void *state);

/* Replies with as much again and a half, each byte of it computed. */
unsigned char computed_byte(const unsigned char *input, size_t size, size_t at);
size_t computed_size(size_t size);
int compute(struct pool_call *call);
bool is_computed(const void *reply, size_t reply_size, const void *input, size_t size);

/* ---- maps ---- */

enum { MAP_ITEMS = 300, NOT_WRITTEN = 12345 };

void check_map_item(long number, long result, int status, int code);
void map_arrays(struct pool *pool, long first, const struct pool_map_options *given, long *items, long *results);

/* ---- payloads ---- */

enum { PAYLOADS = 14, LARGEST_PAYLOAD = 700000 };

extern unsigned char payload[LARGEST_PAYLOAD + 1];
void fill_payload(void);

#endif

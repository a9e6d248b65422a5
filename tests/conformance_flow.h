/* conformance_flow: numbers that flow from a source through workers to a sink, and what is to be true of that. */
#ifndef CONFORMANCE_FLOW_H
#define CONFORMANCE_FLOW_H

#include "conformance_numbered.h"
#include <pthread.h>

/* Counters of the board. */
enum { GATE = 1, UNDER_WAY };

/* ---- what workers do ---- */

/* The item's number, which is its index too. */
uint64_t own_number(const struct pool_call *call);
int increment(struct pool_call *call);
int triple_item(struct pool_call *call);
int triple_unevenly(struct pool_call *call);
bool fails(uint64_t number);
int triple_or_fail(struct pool_call *call);

/* ---- source and sink ---- */

enum { MOST = 20000 };

struct flow {
    uint64_t count;                 /* items that there are; the source ends after them */
    int source_end;                 /* with this */
    size_t item_size;               /* 0: that of a number */
    uint64_t stop_after;            /* results that the sink takes before it stops; 0: all */
    bool ordered;                   /* results are to come in order */
    int (*status_of)(uint64_t);     /* NULL: all succeed */
    void (*in_callback)(void *arg); /* called in both */
    void *arg;                      /* for in_callback */
    uint64_t taken, given, most;    /* so far: from the source, to the sink; and the most in between */
    bool stopped;
    pthread_t thread;
    unsigned char seen[MOST];
};

/* What in_callback works on. */
struct visit {
    struct pool *pool;
    struct pool_task *claimed, *held, *ended;
    uint64_t submitted, refused, calls;
    size_t item_size;
};

enum { SINK_STOPS = 77, SOURCE_STOPS = -78 };

int give_number(void *arg, struct pool_bytes *item_out);
int take_result(void *arg, uint64_t index, const struct pool_result *result);
struct flow *make_flow(uint64_t count);
struct pool_stream_options stream_options(int ordered, size_t max_in_flight);
int run_flow(struct pool *pool, pool_task_fn *fn, struct flow *flow, const struct pool_stream_options *options);

/* All of the flow passes. */
void expect_passage(struct pool *pool, pool_task_fn *fn, struct flow *flow, const struct pool_stream_options *options);
void stream_some(struct pool *pool, uint64_t count);

#endif

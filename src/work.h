/* work: what a worker does with one request: resolve a function, run a task, run a run.
 *
 * Requests are handled one after the other on one thread, so the worker's state is one struct. Results gather while
 * more work is at hand and go, between items, some time after the last report: those of a run after 200 microseconds,
 * or a millisecond where they are in place; those of tasks after 20. A stepwise item is reported before the next
 * begins. The clock is read as often as items warrant.
 * Must not know: the handshake, how the process came about. */
#ifndef PROCPOOL_WORK_H
#define PROCPOOL_WORK_H

#include "call.h"
#include "callable.h"
#include "chan.h"
#include "claims.h"
#include "lend.h"
#include "regions.h"
#include "spin.h"
#include "transit.h"
#include <unistd.h>

enum { WORK_ALIGNMENT = 64, WORK_FIRST_BYTES = 1024, WORK_FIRST_FUNCTIONS = 16 };

struct work_buffer {
    uint8_t *data; /* aligned to WORK_ALIGNMENT */
    size_t capacity;
    unsigned little_uses; /* in a row, that would have done with much less */
    uint8_t *first;       /* WORK_FIRST_BYTES to begin with; NULL */
};

/* Small replies of tasks that follow one another, the body of a frame in the making: work.reply_bytes. Not put yet:
 * before any other frame, as work.skipped. */
struct work_replies {
    uint64_t first_id;
    uint32_t count;
    size_t size;
};

struct work_function {
    callable_fn *fn; /* NULL: cannot be run here */
    int error;
    char *text; /* why; NULL: nothing is known of it */
};

/* What the first item needs comes first: pages are made as they are used. */
struct work {
    struct chan chan;
    struct work_function *functions; /* by number */
    uint32_t function_count;
    void *state;                  /* the initializer's */
    pool_finalizer_fn *finalizer; /* of an initializer that has succeeded */
    size_t max_worker_bytes;
    struct work_replies replies;
    uint32_t skipped; /* items that were taken back, which is to be told with those that follow */
    struct work_buffer input, results, failures, report;
    struct pool_call call;
    unsigned reply_little_uses; /* the same of call.reply */
    uint64_t clock_ns;          /* the last look at the clock */
    uint64_t reported_ns;       /* when results were last sent */
    uint64_t weighed_ns;
    struct spin spin;
    bool may_spin;               /* the last request left a CPU for that */
    struct claims claims;        /* what has not been begun may be taken back */
    uint32_t ticket;             /* of the next item */
    uint32_t look_items;         /* that share a look at the clock */
    struct regions regions;      /* shared buffers */
    struct transit transit;      /* memory for what is large */
    size_t transit_used[2];      /* of its items and of its results: up to where this process has touched them */
    struct lend lend;            /* memory for replies */
    struct lend_region *lending; /* where the task at hand has its reply */
    uint32_t replays_left;       /* before it is ready */
    volatile int is_copy;        /* this is a fork that a task made of the worker */
    struct work_function first_functions[WORK_FIRST_FUNCTIONS];
    _Alignas(WORK_ALIGNMENT) uint8_t first_input[WORK_FIRST_BYTES], first_results[WORK_FIRST_BYTES];
    uint8_t staging[CHAN_STAGING_BYTES]; /* of chan */
    uint8_t reply_bytes[WIRE_REPLIES_BYTES];
    struct lend_region lend_regions[LEND_REGIONS];
};
extern struct work work;

/* Begin as a worker that has done nothing yet. */
void work_begin(void);
/* Flush stdout and stderr and end, without the atexit handlers: under `fork` they are the parent's. */
void work_end(int exit_code) __attribute__((noreturn));
/* End if this is a copy of the worker that user code has made by fork and has returned into. */
static inline void work_end_copy(void)
{
    if (__builtin_expect(work.is_copy, 0))
        _exit(0);
}

/* Queue a frame. work_flush sends what is queued; both end the process when that is impossible: the parent is gone. */
void work_put(const struct wire_header *header, const void *body);
void work_put_error(const struct wire_header *request, int error, uint64_t elapsed_ns, const char *text);
void work_flush(void);
void work_flush_if_late(void);

/* The next request's header; its body into memory, or into work.input: false when there is no memory for it, and the
 * body was skipped and the error put. All end the process when the stream ends. */
void work_next(struct wire_header *header_out);
void work_read(void *destination, uint64_t size);
bool work_read_input(const struct wire_header *request);

/* Handlers of WIRE_CLAIMS, WIRE_TRANSIT, WIRE_BUFFER, WIRE_UNMAP, WIRE_RETURN and WIRE_DISCARD, WIRE_FUNCTION,
 * WIRE_TASK, WIRE_RUN. */
void work_take_claims(const struct wire_header *request);
void work_take_transit(const struct wire_header *request);
void work_take_buffer(const struct wire_header *request);
void work_take_unmap(const struct wire_header *request);
void work_take_return(const struct wire_header *request);
void work_take_function(const struct wire_header *request);
void work_run_task(const struct wire_header *request);
void work_run_run(const struct wire_header *request);

/* Memory for a reply, see pool_call.find_shared. */
void *work_find_shared(size_t size, size_t *capacity_out);

/* Run a task that is part of becoming ready, and report nothing. What it returned, or an error; with a text. */
int work_run_replay(const struct wire_header *request, const char **text_out);

#endif

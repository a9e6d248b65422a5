/* job: a call's items as ranges, and how many of them have ended. Pure.
 *
 * The items of a job are held as spans (ranges of indices), never one by one. A span is either pending in its job, or
 * in flight at a slot; cutting a chunk off a pending span makes a new one, and when a worker dies its spans go back to
 * their jobs as they are. So the order of a worker's spans is the order of its results and nothing is looked up.
 *
 * A map is a job with a fixed number of items. Single tasks are items too: those of one function and kind are a *lane*,
 * a job without end that grows at its tail (see lane.h), so that they are sent, measured and blamed as the items of a
 * map are. One that is cancelled before it is sent leaves a gap in its span, which is stepped over. A broadcast is a
 * job whose item i is for slot i.
 *
 * The pointers to the caller's arrays are carried for the loop; the scheduler looks at sizes only.
 * Must not know: slots, workers, time. */
#ifndef PROCPOOL_JOB_H
#define PROCPOOL_JOB_H

#include "procpool.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct job;
struct buffer; /* memory that workers can map; see buffers.h */

/* What of a span does not go through the pipe either, but is copied by memory that is its worker's (see transit.h); the
 * reply of a task only if it fits. */
struct span_transit {
    bool items, results;
    size_t at;   /* where the item `first` of the job, and its result, are there */
    size_t size; /* the room that all of them have there, or would need */
    uint64_t first;
    uint64_t end; /* how much of the memory was taken when it was sent */
};

struct span {
    struct span *next;
    struct job *job;
    uint64_t first, count;
    unsigned attempts;      /* how many workers its first item has killed for certain */
    unsigned unread_deaths; /* how many workers had it before them and died before they read it */
    bool suspect;      /* one of its items may have killed a worker: run it stepwise, and the next time it is known */
    uint64_t cost_ns;  /* expected, when it was sent */
    size_t bytes;      /* of its inputs and results, when it was sent; but what is in buffers does not travel */
    int status;        /* of a span that is not to run: what its items end with */
    bool by_reference; /* when it was sent: inputs that are in buffers did not go through the pipe */
    bool in_place;     /* and neither do its results */
    struct span_transit transit;
    uint64_t sent_position; /* where its last frame ends in the outgoing stream */
    /* How far a worker has to read that stream to begin it; UINT64_MAX: it was never written there. */
    uint64_t begin_position;
};

enum job_kind { JOB_FIXED, JOB_BYTES, JOB_LANE, JOB_BROADCAST };

/* An item, or its reply, that is larger does not fit a pipe of the default size: a larger pipe, or other memory, saves
 * wake-ups. */
enum { JOB_LARGE_BYTES = 48 << 10 };

#define JOB_NO_SLOT ((unsigned)-1) /* it is pending */
#define JOB_NO_MORE ((unsigned)-2) /* that it has ended is about to be told */

/* One payload: of JOB_BYTES and JOB_BROADCAST made up as it is asked for; of a lane the head of a task. */
struct job_item {
    const void *data;
    size_t size;
    struct buffer *buffer; /* where data lies; NULL: in no buffer */
    uint64_t index;        /* what pool_item_index says in it */
    uint64_t number;       /* of a lane: its place among all that was submitted */
    uint64_t timeout_ns;   /* 0: none */
    const int *fds;
    unsigned fd_count;
    unsigned slot; /* of a lane: where it is in flight, JOB_NO_SLOT, or JOB_NO_MORE */
};

struct job {
    /* ---- given ---- */
    enum job_kind kind;
    uint64_t count;       /* a lane's grows */
    uint64_t number;      /* its place among what was submitted; of a lane that of each item counts */
    uint32_t function;    /* number in the loop's table of functions */
    const uint8_t *items; /* JOB_FIXED: count * item_size */
    uint8_t *results;
    size_t item_size, result_size;
    const struct pool_bytes *inputs;      /* JOB_BYTES: count. JOB_BROADCAST: one */
    struct pool_bytes *replies;           /* or NULL */
    struct buffer *items_in, *results_in; /* JOB_FIXED: where these lie; NULL: in no buffer */
    struct buffer **inputs_in;            /* JOB_BYTES: the same for each, or NULL */
    int *status_out, *code_out;           /* or NULL */
    uint64_t chunk_size;                  /* 0: adaptive */
    uint64_t timeout_ns;                  /* 0: none */
    bool at_most_once, stop_on_error;

    /* ---- of a lane; see lane.h ---- */
    struct job_item **ring; /* item i is at i & ring_mask; NULL: it has ended */
    uint64_t ring_mask;
    uint64_t ring_base; /* the oldest item that has not ended: what is below it is no longer in the ring */
    bool has_deadlines, has_fds, has_buffers;
    bool retired; /* nothing is added any more */

    /* ---- kept by the scheduler ---- */
    struct job *next, *prev; /* in the queue of jobs with pending spans */
    bool queued;
    bool stepwise, alone; /* all of its spans; all of its items */
    struct span whole;    /* the first span, so that accepting a job allocates nothing. count 0: not in use */
    struct span *pending, *pending_tail;
    uint64_t pending_count;         /* items in pending spans */
    uint64_t unended_count;         /* items that have not ended */
    uint64_t run_count;             /* JOB_BROADCAST: workers that have run it */
    uint64_t left_count;            /* JOB_BROADCAST: workers that were to, but the pool was shut down */
    bool failed;                    /* JOB_BROADCAST: for one of them */
    unsigned spans_out;             /* that are not pending: in flight, or about to be told */
    int cancel_status;              /* not 0: pending items end with this instead of being sent */
    uint64_t spent_ns, spent_items; /* measured, decaying */
    uint64_t item_ns;               /* what is expected of an item by that */
    uint64_t least_ns;              /* for an item, by any report of late; 0: not known yet */
    uint64_t cold_ns;               /* measured of it while calls may have been first ones */
    uint64_t reply_bytes;           /* for an item, at most, of late */
    uint64_t large_replies;         /* the last so many were large */

    /* ---- the outcome, written by the loop ---- */
    bool ended;
    int status; /* of the failed item with the lowest index, see job_fail */
    uint64_t status_index;
    char *message; /* malloc'd, about that item; NULL: none, or no memory for it */
};

/* After the given fields are set: all items pending, the caller's outputs as if all had succeeded with nothing. */
void job_begin(struct job *job);

/* Item i as a payload. Not of JOB_FIXED. job_input_size: its size alone. */
struct job_item job_item(const struct job *job, uint64_t i);
static inline size_t job_input_size(const struct job *job, uint64_t i)
{
    return job->kind == JOB_LANE ? job->ring[i & job->ring_mask]->size
                                 : job->inputs[job->kind == JOB_BROADCAST ? 0 : i].size;
}
/* Whether it lies in a buffer. */
static inline bool job_is_shared(const struct job *job, uint64_t i)
{
    if (job->kind == JOB_LANE)
        return job->has_buffers && job->ring[i & job->ring_mask]->buffer;
    return job->inputs_in && job->inputs_in[i];
}
/* What a worker knows it by. */
static inline uint64_t job_item_index(const struct job *job, uint64_t i)
{
    return job->kind == JOB_LANE ? job->ring[i & job->ring_mask]->index : job->kind == JOB_BROADCAST ? 0 : i;
}
uint64_t job_timeout_ns(const struct job *job, uint64_t i);
/* Whether item i is still to be dealt with: of a lane it may have been cancelled. */
static inline bool job_is_live(const struct job *job, uint64_t i)
{
    return job->kind != JOB_LANE || (i >= job->ring_base && job->ring[i & job->ring_mask]);
}
uint64_t job_count_live(const struct job *job, const struct span *span);
/* The place of its first pending item among all that was submitted. */
uint64_t job_front_number(const struct job *job);
/* How many from `first` on, at most count, are to be dealt with together: up to the first gap. */
uint64_t job_live_run(const struct job *job, uint64_t first, uint64_t count);
/* A lane's items that were handed to slot, or are JOB_NO_SLOT, JOB_NO_MORE. */
void job_note_slot(const struct job *job, const struct span *span, unsigned slot);

/* The job's pending spans, by their indices: put one (back) where it belongs; take the front one itself; or cut `count`
 * items off it, fewer than it has, into *cut_out. */
void job_push(struct job *job, struct span *span);
struct span *job_take_whole(struct job *job);
void job_cut(struct job *job, uint64_t count, struct span *cut_out);

/* Measured: `items` items took `ns`. */
void job_measure(struct job *job, uint64_t items, uint64_t ns);
/* An item was replied to with so much. */
void job_note_reply(struct job *job, uint64_t bytes);
/* Expected cost of an item, at least 1; 0: not known yet. */
static inline uint64_t job_item_ns(const struct job *job)
{
    return job->item_ns;
}

/* How many items from `first` on, at most `count` and at least 1, are within max_bytes; *bytes_out: what they are. A
 * payload that is large, or whose reply is expected to be, is by itself, unless the caller chose the chunk's size. */
uint64_t job_fit(const struct job *job, uint64_t first, uint64_t count, size_t max_bytes, size_t *bytes_out);

/* The outcome of an item that failed. text: about it, without the item's name; NULL: none. What is kept is the failure
 * with the lowest index, whatever order they come in; that of an item that was cancelled only if no other failed: it is
 * not why. */
void job_fail(struct job *job, uint64_t index, int status, int code, const char *text);
/* Whether the text of such a failure at index would be kept. */
bool job_would_keep(const struct job *job, uint64_t index, int status);

#endif

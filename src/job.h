/* job: a call's items as ranges, and how many of them have ended. Pure.
 *
 * The items of a job are held as spans (ranges of indices), never one by one. A span is either pending in its job, or in flight
 * at a slot; cutting a chunk off a pending span makes a new one, and when a worker dies its spans go back to
 * their jobs as they are. So the order of a worker's spans is the order of its results and nothing is looked up.
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

struct span {
    struct span *next;
    struct job *job;
    uint64_t first, count;
    unsigned attempts;      /* how many workers its first item has killed for certain */
    unsigned unread_deaths; /* how many workers had it before them and died before they read it */
    bool suspect;     /* one of its items may have killed a worker: run it stepwise, and the next time it is known */
    uint64_t cost_ns; /* expected, when it was sent */
    size_t bytes;     /* of its inputs and results, when it was sent */
    uint64_t sent_position;  /* where its last frame ends in the outgoing stream */
    uint64_t begin_position; /* how far a worker has to read that stream to begin it */
};

enum job_kind { JOB_FIXED, JOB_BYTES };

struct job {
    /* ---- given ---- */
    enum job_kind kind;
    uint64_t count;
    uint32_t function;    /* number in the loop's table of functions */
    const uint8_t *items; /* JOB_FIXED: count * item_size */
    uint8_t *results;
    size_t item_size, result_size;
    const struct pool_bytes *inputs; /* JOB_BYTES */
    struct pool_bytes *replies;      /* or NULL */
    int *status_out, *code_out;      /* or NULL */
    uint64_t chunk_size;             /* 0: adaptive */
    uint64_t timeout_ns;             /* 0: none */
    bool at_most_once, stop_on_error;

    /* ---- kept by the scheduler ---- */
    struct job *next, *prev; /* in the queue of jobs with pending spans */
    bool queued;
    struct span whole; /* the first span, so that accepting a job allocates nothing */
    struct span *pending;
    uint64_t pending_count;         /* items in pending spans */
    uint64_t unended_count;         /* items that have not ended */
    int cancel_status;              /* not 0: pending items end with this instead of being sent */
    uint64_t spent_ns, spent_items; /* measured, decaying */

    /* ---- the outcome, written by the loop ---- */
    bool ended;
    int status; /* of the failed item with the lowest index */
    uint64_t status_index;
    char *message; /* malloc'd, about that item; NULL: none, or no memory for it */
};

/* After the given fields are set: all items pending, the caller's outputs as if all had succeeded with nothing. */
void job_begin(struct job *job);

/* The job's pending spans: put one (back) in front, or take up to `count` items off the front into *cut. take_whole moves the front
 * span itself. */
void job_push(struct job *job, struct span *span);
struct span *job_take_whole(struct job *job);
void job_cut(struct job *job, uint64_t count, struct span *cut_out);

/* Measured: `items` items took `ns`. */
void job_measure(struct job *job, uint64_t items, uint64_t ns);
/* Expected cost of an item, at least 1; 0: not known yet. */
uint64_t job_item_ns(const struct job *job);

/* How many items from `first` on, at most `count` and at least 1, are within max_bytes; *bytes_out: what they are. */
uint64_t job_fit(const struct job *job, uint64_t first, uint64_t count, size_t max_bytes, size_t *bytes_out);

/* The outcome of an item that failed. text: about it, without the item's name; NULL: none. What is kept is the failure with the
 * lowest index, whatever order they come in. */
void job_fail(struct job *job, uint64_t index, int status, int code, const char *text);
/* Whether the text of a failure at index would be kept. */
bool job_would_keep(const struct job *job, uint64_t index);

#endif

/* sched: which items go to which slot, when to try again, when to kill. Pure.
 *
 * The heart of the pool as a step function: it is told of events and answers with effects, which the loop (or the
 * simulator) carries out. It makes no system call and never reads the clock. The rules it keeps:
 *
 *   1. Every item ends exactly once, with a result or with its own error.
 *   2. A worker's death fails only the item that killed it. Results come in order; when it is not certain which item
 *      was running, the spans in doubt are sent again stepwise (each item is reported before the next begins), and of
 *      such a span the first unreported item is the culprit. What the worker had not even read is innocent.
 *      max_attempts counts only deaths that are certain.
 *   3. Deadlines run from the start of an item. Jobs with a deadline, and those that must not run an item twice, are
 *      stepwise.
 *   4. Starts that fail are tried again after growing pauses; three in a row break the pool for good, when no worker is
 *      ready or about to be. In a row: each began when the one before was known to have failed.
 *   5. What is in flight at a slot is bounded in runs, bytes and expected time.
 *
 * What a worker has not begun is not lost to it: it is taken back (if the worker agrees: see claims.h) when another has
 * nothing to do, when the worker has been at one item for long, and when it was cancelled. The first item stays, so two
 * workers cannot pass one item to and fro for ever.
 *
 * A broadcast is a job with an item for each slot; a worker runs its own before anything that is sent to it later. Who
 * is ready or on the way when it is submitted takes part, and who is started until it has ended or failed for one of
 * them; a worker that dies or retires without having run it leaves that to its replacement.
 *
 * Time: sched_clock says what time it is; nothing expires by it. sched_expire acts on what is due, and may be called
 * only when everything that workers had said by then has been told, else a healthy worker would be killed for its
 * reader's delay. Effects are taken one at a time by sched_next until it returns false; events may be told in between.
 * Must not know: processes, fds, frames, threads. */
#ifndef PROCPOOL_SCHED_H
#define PROCPOOL_SCHED_H

#include "flight.h"
#include "job.h"
#include "slot.h"

#define SCHED_NEVER UINT64_MAX

enum {
    SCHED_MAX_RUNS = 8,      /* spans in flight at a slot */
    SCHED_FAILED_STARTS = 3, /* in a row, with no worker ready: broken */
    SCHED_LISTENED = 4,      /* slots, see sched_nap */
};

struct sched_config {
    unsigned workers; /* that take items, at most; worker numbers are below it */
    unsigned cpus;    /* that they may use: with more of them busy, short items wait for these; 0: no bound */
    bool restarts;    /* worn out workers start afresh in place; else they end while replacements start */
    bool wears_out;   /* max_tasks_per_worker is set, or workers may report themselves worn */
    uint64_t max_tasks_per_worker; /* 0: no bound */
    unsigned max_attempts;         /* at least 1 */
    uint64_t start_timeout_ns;
    uint64_t kill_grace_ns; /* between SIGTERM and SIGKILL; 0: SIGKILL at once */
};

enum sched_effect_kind {
    /* Start a process for slot, as number worker_id; tell sched_not_started or sched_start_later if it cannot be. */
    SCHED_START,
    SCHED_SEND,    /* send span (all of it) to slot */
    SCHED_SIGNAL,  /* send signal to slot's process */
    SCHED_REFRESH, /* tell slot's worker to start afresh in place */
    SCHED_DISMISS, /* tell slot's worker to end in order */
    /* Items [first, first + count) of job, no gaps in it, have ended with status; slot: whose death it was, or
     * SCHED_NO_SLOT. */
    SCHED_FAIL,
    SCHED_END_JOB, /* every item of job has ended, and no more will come; the scheduler has forgotten it */
    SCHED_BREAK,   /* the pool is broken */
    /* slot is not to begin the last `count` items in flight there; tell sched_taken_back how many of them. */
    SCHED_TAKE_BACK,
};

#define SCHED_NO_SLOT ((unsigned)-1)

#define SCHED_ALL_QUESTIONS 0xffu

struct sched_effect {
    enum sched_effect_kind kind;
    unsigned slot;
    unsigned worker_id;
    struct span *span;
    bool stepwise; /* SCHED_SEND */
    struct job *job;
    uint64_t first, count;
    /* SCHED_FAIL: POOL_ECRASH, POOL_ETIMEOUT, POOL_EPROTO, POOL_ECANCELED, POOL_EBROKEN, -ENOMEM, what sched_unsent
     * said. */
    int status;
    unsigned attempts;
    int signal;
};

struct sched_slot;
struct sched_span_block;

struct sched_counts {
    uint64_t retried;  /* items that go to another worker since theirs has died */
    uint64_t crashes;  /* of ready workers */
    uint64_t timeouts; /* kills at a deadline */
    uint64_t recycled;
};

struct sched {
    struct sched_config config;
    unsigned slot_count; /* more than there are workers, for those that are gone or about to be */
    struct sched_slot *slots;
    uint64_t *idle, *room, *empty, *commanded, *owing, *tails; /* bitmaps over slots */
    uint64_t *worker_ids;                                      /* bitmap of numbers in use */
    unsigned state_count[SLOT_STATE_COUNT];
    unsigned busy_count;    /* slots with spans in flight */
    unsigned leaving_count; /* slots whose workers are gone, of which it is not known yet how they ended */
    unsigned starts_owed;   /* first starts, and those that failed: to be made whatever there is to do */
    unsigned questions; /* bitmap of what sched_next has to look at; SCHED_ALL_QUESTIONS is right, too, and slower */

    uint64_t now_ns, wake_ns, next_start_ns;
    uint64_t look_ns;       /* when to look for workers that do not get on while others' items wait behind theirs */
    unsigned failed_starts; /* in a row */
    unsigned failures;      /* that counted, ever; may wrap */
    bool ever_ready;        /* some worker was */
    bool broken, tell_broken, closing;
    enum pool_shutdown_mode mode; /* how it is closing */
    int refusal;                  /* not 0: nothing is sent any more, what is pending or comes back ends with this */

    struct job *queue;     /* with pending items, by the number of the first */
    struct job *ended;     /* to be told */
    struct span *doomed;   /* of items that end with the span's status; to be told */
    struct job *broadcast; /* the one that has not ended */
    uint64_t pending_items, unended_items;
    struct sched_counts counts;

    struct span *free_spans;
    struct sched_span_block *span_blocks;
};

/* -ENOMEM with nothing to clear; sched_clear may run twice. */
int sched_init(struct sched *sched, const struct sched_config *config);
void sched_clear(struct sched *sched);

void sched_clock(struct sched *sched, uint64_t now_ns);
void sched_expire(struct sched *sched);
/* When sched_expire is to be called next at the latest; SCHED_NEVER. */
uint64_t sched_wake_ns(const struct sched *sched);

/* Events. */
void sched_boot(struct sched *sched);                            /* ask for all workers at once */
void sched_limit_workers(struct sched *sched, unsigned workers); /* no more than this many; before the first submit */
void sched_submit(struct sched *sched, struct job *job); /* job_begin was called; it stays until SCHED_END_JOB */
/* The lane's last item was added. -ENOMEM: it was not, take it back. */
int sched_add(struct sched *sched, struct job *lane);
/* Nothing will be added any more: SCHED_END_JOB comes when its last item has ended and no worker has been left with
 * what was cancelled. */
void sched_retire(struct sched *sched, struct job *lane);
/* JOB_BROADCAST with an item for each slot; while there is none. */
void sched_broadcast(struct sched *sched, struct job *job);
void sched_cancel(struct sched *sched, struct job *job, int status); /* what has not been sent ends with status */
/* Item i of a lane, which has not ended, is cancelled: it has ended with this call, and is to be dropped from the lane.
 * If a worker has it, it is taken back, or the worker is killed for it: take the effects before anything that workers
 * say is told. */
void sched_cancel_item(struct sched *sched, struct job *lane, uint64_t i);
/* End the workers when the last item has ended (POOL_DRAIN), cancelling what was not sent (POOL_CANCEL), or now. The
 * mode only becomes stronger. */
void sched_shutdown(struct sched *sched, enum pool_shutdown_mode mode);

void sched_not_started(struct sched *sched, unsigned slot);
void sched_start_later(struct sched *sched, unsigned slot); /* no failure: try again soon */
void sched_ready(struct sched *sched, unsigned slot);
void sched_failed(struct sched *sched, unsigned slot); /* its preload or initializer, or it is another build */
/* The first `items` items of slot's first span ended by themselves, `failures` of them with an error, in elapsed_ns.
 * items is at most what sched_head says. worn: the worker asks to be replaced. */
void sched_items_ended(struct sched *sched, unsigned slot, uint64_t items, uint64_t failures, uint64_t elapsed_ns,
                       bool worn);
/* The last SCHED_SEND to slot could not be carried out, and nothing of it was: its items end with status. */
void sched_unsent(struct sched *sched, unsigned slot, int status);
/* Of what SCHED_TAKE_BACK named the last `items` will not be begun. Before any other event. */
void sched_taken_back(struct sched *sched, unsigned slot, uint64_t items);
/* The worker has stepped over so many of them. */
void sched_skipped(struct sched *sched, unsigned slot, uint64_t items);
void sched_garbage(struct sched *sched, unsigned slot);
/* Nothing can be sent to it: it is killed, and of what it had nothing is to blame. */
void sched_unreachable(struct sched *sched, unsigned slot);
void sched_eof(struct sched *sched, unsigned slot);
/* Told before sched_gone and sched_exited, where it can be known: how far the worker had read. A span it had not read
 * has not begun. */
void sched_unread(struct sched *sched, unsigned slot, uint64_t read_position);
/* After EOF: its process has ended; it is not known yet how. What it had, but for the item that it died of, runs
 * elsewhere. May be told again. */
void sched_gone(struct sched *sched, unsigned slot);
void sched_exited(struct sched *sched, unsigned slot); /* after everything it had said was told */
/* All workers are out of reach, at once: the pool is broken, and what they had under way ends with it. */
void sched_lose(struct sched *sched);

/* Whether what was added just now can wait for company: nobody is idle, nobody is to be started, nothing has ended by
 * it. */
bool sched_may_gather(const struct sched *sched);

/* Effects: false when there is nothing to do now. */
bool sched_next(struct sched *sched, struct sched_effect *effect_out);

/* What slot has to report next: NULL when nothing is in flight there. */
struct span *sched_head(const struct sched *sched, unsigned slot);
enum slot_state sched_state(const struct sched *sched, unsigned slot);
/* Why the slot is being, or was last, killed: 0, or the status for the item it was at. */
int sched_verdict(const struct sched *sched, unsigned slot);
unsigned sched_ready_count(const struct sched *sched);
/* Whether some worker was, though it may be gone by now: another is started when there is something to do. */
bool sched_was_ready(const struct sched *sched);
unsigned sched_busy_count(const struct sched *sched); /* ready, with spans in flight */
/* Whether some are, and there is a CPU beside theirs. */
bool sched_spares_cpu(const struct sched *sched);
/* After effects were taken until there were none: for so long nothing that workers may say would lead to more, but for
 * those at `listened`. ns is 0: for no time that is worth it. */
struct sched_nap {
    uint64_t ns;
    unsigned listened_count;
    unsigned listened[SCHED_LISTENED];
};
struct sched_nap sched_nap(const struct sched *sched);
bool sched_all_gone(const struct sched *sched);

#endif

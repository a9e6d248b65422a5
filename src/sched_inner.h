/* sched_inner: what the rooms of the scheduler share. See sched.h for what it does.
 *
 *   sched.c            events, the end, questions
 *   sched_jobs.c       which items wait, in which order, and when a job is over
 *   sched_slots.c      what is done about an event at a slot
 *   sched_broadcast.c  who owes the broadcast, and when it has ended
 *   sched_take.c       what is taken back from a worker
 *   sched_effects.c    what is wanted next
 *   sched_nap.c        for how long nothing is
 *
 * Nobody else includes this. */
#ifndef PROCPOOL_SCHED_INNER_H
#define PROCPOOL_SCHED_INNER_H

#include "sched.h"

/* What waits at a worker is bounded in time, since taking it back costs something, and in bytes, since it fills pipes.
 * It is as much as lets the parent sleep for a while meanwhile (see sched_nap.c). */
#define SCHED_QUEUED_NS    UINT64_C(8000000)
#define SCHED_QUEUED_BYTES ((size_t)512 << 10)

/* An item that takes longer is taken for one that may never end: nothing more is put behind it, and what is there is
 * taken back (of long items later, see sched_take.c). */
#define SCHED_STALLED_NS UINT64_C(2000000)

/* Commands that wait to be taken as effects, in the order in which they are taken. */
enum {
    COMMAND_FAIL = 1,
    COMMAND_START = 2,
    COMMAND_SIGNAL = 4,
    COMMAND_REFRESH = 8,
    COMMAND_DISMISS = 16,
    COMMAND_TAKE = 32
};

/* What sched_next asks, in this order: whether there is an effect of the kind. What was answered by no is not asked
 * again until something has changed that the answer depends on; whoever changes that says so (sched_ask). */
enum sched_question {
    QUESTION_ENDED,
    QUESTION_COMMANDS,
    QUESTION_DOOMED,
    QUESTION_BROKEN,
    QUESTION_STARTS, /* depends on the slots' states, who is idle, what is pending, and the time */
    QUESTION_PARTS,  /* on who owes the broadcast */
    QUESTION_SENDS,  /* on the queue, how much is unended, what the slots have in flight, and the time */
    QUESTION_TAKES,  /* on the same, but no while there is a queue */
    QUESTION_COUNT
};

struct sched_slot {
    enum slot_state state;
    bool ready;    /* has said so since it was started, or started afresh */
    bool unwanted; /* killed because nobody needs it: its end is no failed start */
    bool worn;
    bool useful;    /* has ended an item */
    bool has_ended; /* one since it started afresh: so it has its page, and can be asked for what waits */
    bool renewing;  /* starts afresh in place: what it was before ends in order first */
    bool cut_off;   /* was killed since nothing could be sent to it */
    bool dismissed; /* told to end in order */
    bool leaves;    /* is gone, and its place is another's already, and what it had too */
    bool owes;      /* takes part in the broadcast, and has not ended it */
    bool asked;     /* for what it has not begun, and nothing has changed since */
    int verdict;
    unsigned failures_before; /* sched->failures when its start began */
    unsigned worker_id;
    bool numbered; /* worker_id is this worker's; one that was dismissed, or leaves, leaves it to its replacement */
    uint64_t due_ns;
    uint64_t moved_ns;   /* when it came to the item that it is at */
    uint64_t tasks_left; /* items it may still be sent */

    struct flight flight;
    struct span broadcast;  /* in flight while it owes it and was sent it */
    uint64_t read_position; /* of the stream to the worker, when it died; SCHED_NEVER: not known, so all of it */

    unsigned commands;
    int signal;                /* COMMAND_SIGNAL */
    struct flight_blame blame; /* COMMAND_FAIL, once it is known how the worker ended */
};

struct sched_span_block {
    struct sched_span_block *next;
    struct span spans[];
};

/* ---- questions ---- */

static inline void sched_ask(struct sched *sched, enum sched_question question)
{
    sched->questions |= 1u << question;
}

/* When the queue has changed, or a time has come. */
static inline void sched_ask_who_works(struct sched *sched)
{
    sched->questions |= 1u << QUESTION_STARTS | 1u << QUESTION_SENDS | 1u << QUESTION_TAKES;
}

/* ---- jobs ---- */

int sched_add_spans(struct sched *sched, size_t count); /* free ones; -ENOMEM */
/* `count` items off the front of the job as a span of their own. NULL: no memory. */
struct span *sched_take_span(struct sched *sched, struct job *job, uint64_t count);
/* Off the front of a lane what was cancelled; then the job's place in the queue is where its first pending item
 * belongs. */
void sched_settle_front(struct sched *sched, struct job *job);
/* A span that was out: its items wait again, or end as the job or the pool was cancelled. */
void sched_put_back(struct sched *sched, struct span *span);
/* The span's items, which are in no list any more, end with status: told by the next effects. */
void sched_doom(struct sched *sched, struct span *span, int status);
void sched_use_up(struct sched *sched, struct span *span); /* a span that was out is of no further use */
void sched_end_items(struct sched *sched, struct job *job, uint64_t count);
void sched_note_ended(struct sched *sched, struct job *job); /* told by the next effects */
void sched_end_if_over(struct sched *sched, struct job *job);
void sched_refuse(struct sched *sched, int status); /* all that is pending, and all that comes back */
bool sched_next_doomed(struct sched *sched, struct sched_effect *effect);
bool sched_next_ended(struct sched *sched, struct sched_effect *effect);

/* ---- slots ---- */

void sched_clear_slot(struct sched_slot *slot);
void sched_command(struct sched *sched, struct sched_slot *slot, unsigned commands);
enum slot_action sched_step(struct sched *sched, struct sched_slot *slot, enum slot_event event);
/* Whether a slot can be sent items now: at once, or behind what it has. After whatever changes that. */
void sched_note_capacity(struct sched *sched, struct sched_slot *slot);
void sched_append_run(struct sched *sched, struct sched_slot *slot, struct span *span);
struct span *sched_pop_run(struct sched *sched, struct sched_slot *slot);
/* The deadline of the item that slot is at, which begins now. */
void sched_arm_deadline(struct sched *sched, struct sched_slot *slot);
/* What is due next, by all that is known; the earliest of what was ever due until this is called. */
void sched_plan_wake(struct sched *sched);
/* Wake up at the latest then to look for workers that do not get on. */
void sched_look_at(struct sched *sched, uint64_t ns);
/* Items that were in flight at a slot are to run elsewhere, if they are still wanted. */
void sched_give_back(struct sched *sched, struct span *span);
/* A worker that has nothing in flight and is worn out starts afresh, here or elsewhere. */
void sched_replace_if_worn(struct sched *sched, struct sched_slot *slot);

/* ---- taking back ---- */

/* What items of the job have taken, which tells what the next ones will. */
void sched_measure(struct sched *sched, struct job *job, uint64_t items, uint64_t elapsed_ns);
/* When the slot, which has something to give back, is to be asked for it even if nobody else is without work. */
uint64_t sched_stalls_ns(const struct sched_slot *slot);
void sched_look_for_stalled(struct sched *sched);
/* COMMAND_TAKE is carried out. */
bool sched_ask_back(struct sched *sched, struct sched_slot *slot, struct sched_effect *effect);
bool sched_next_take_back(struct sched *sched, struct sched_effect *effect);
/* Item i of the lane, which is in flight at the slot, was cancelled. */
void sched_take_item(struct sched *sched, struct sched_slot *slot, const struct job *lane, uint64_t i);

/* ---- the broadcast ---- */

void sched_take_part(struct sched *sched, struct sched_slot *slot); /* if there is one to take part in */
void sched_end_part(struct sched *sched, struct sched_slot *slot, bool has_run);
void sched_end_one_part(struct sched *sched, bool has_run); /* of a slot that owes it no more */
/* What is left of its part in the broadcast when a worker is gone, or on its way out. */
void sched_leave_broadcast(struct sched *sched, struct sched_slot *slot);
void sched_refuse_broadcast(struct sched *sched); /* for those that have not been sent it */
bool sched_broadcast_is_stranded(const struct sched *sched);
bool sched_must_not_wear_out(const struct sched *sched);
bool sched_next_part(struct sched *sched, struct sched_effect *effect);

/* ---- the end ---- */

void sched_wind_down(struct sched *sched);  /* if the pool is closing and nothing is left to do */
void sched_break_pool(struct sched *sched); /* workers cannot be started */

#endif

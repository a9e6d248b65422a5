/* slot: one worker's life as a table, pure.
 *
 * A slot is a place for one worker process. What happens to it (enum slot_event) moves it from state to state and
 * names what has to be done about it (enum slot_action); the scheduler does it. Every cell of the table is filled:
 * SLOT_BUG marks what the scheduler and the loop must never let happen, SLOT_KILL_GARBAGE what a worker must not do.
 * Must not know: jobs, items, time, processes. */
#ifndef PROCPOOL_SLOT_H
#define PROCPOOL_SLOT_H

enum slot_state {
    SLOT_EMPTY,    /* no process */
    SLOT_STARTING, /* a process that has not said that it is ready; also one that starts afresh in place */
    SLOT_READY,    /* takes items */
    SLOT_CLOSED,   /* its reply pipe is at its end, which mostly means that its exit is about to be told */
    SLOT_RETIRING, /* was asked to end in order */
    SLOT_DYING,    /* was sent a signal to end it; or it is gone, and its exit is about to be told */
    SLOT_STATE_COUNT
};

enum slot_event {
    SLOT_START,       /* a process is wanted here */
    SLOT_NOT_STARTED, /* the backend could not start one */
    SLOT_PUT_OFF,     /* the backend cannot start one just now */
    SLOT_SAYS_READY,
    SLOT_SAYS_FAILED, /* preload or initializer failed, or it is another build; it ends by itself */
    SLOT_SAYS_ENDED,  /* items have ended */
    SLOT_SAYS_GARBAGE,
    SLOT_EOF,
    SLOT_GONE, /* after EOF: its process has ended; how it did is told by SLOT_EXITED, later */
    SLOT_EXITED,
    SLOT_DUE,       /* the time limit of what it is doing has passed */
    SLOT_RESTART,   /* is worn out, and can start afresh in place */
    SLOT_RETIRE,    /* is worn out, or no longer needed */
    SLOT_TERMINATE, /* what it is doing is not wanted any more */
    SLOT_KILL,      /* is to be gone */
    SLOT_EVENT_COUNT
};

enum slot_action {
    SLOT_BUG,
    SLOT_NOTHING,
    SLOT_LAUNCH,        /* start a process */
    SLOT_COUNT_FAILURE, /* a start has failed before there was a process */
    SLOT_TRY_LATER,
    SLOT_WELCOME,      /* give it items */
    SLOT_ACCEPT,       /* the items have ended */
    SLOT_AWAIT_EXIT,   /* bounded: a worker without a reply pipe, or process, is of no use */
    SLOT_LEAVE,        /* its place is another's, and what it had */
    SLOT_REFRESH,      /* tell it to start afresh in place */
    SLOT_DISMISS,      /* tell it to end in order */
    SLOT_KILL_GARBAGE, /* SIGKILL; the item it was at fails with POOL_EPROTO */
    SLOT_KILL_LATE,    /* SIGKILL; its start took too long */
    SLOT_KILL_OVERDUE, /* SIGTERM, grace, SIGKILL; the item it was at has passed its deadline */
    SLOT_KILL_SOFTLY,  /* the same; what it had is cancelled, or it is killed for what was */
    SLOT_KILL_NOW,     /* SIGKILL */
    SLOT_BURY,         /* settle what it had */
    SLOT_ACTION_COUNT
};

/* The action for this event; *state moves on. */
enum slot_action slot_step(enum slot_state *state, enum slot_event event);

const char *slot_state_name(enum slot_state state);
const char *slot_event_name(enum slot_event event);

#endif

/* slot: see slot.h. The table, and nothing that would need an `if`. */
#include "slot.h"

struct cell {
    enum slot_state next;
    enum slot_action action;
};

/* TO and STAY say the same to the compiler; STAY tells the reader that the state is the row's own. */
#define STAY(state, action)                                                                                            \
    {                                                                                                                  \
        SLOT_##state, SLOT_##action                                                                                    \
    }
#define TO(state, action)                                                                                              \
    {                                                                                                                  \
        SLOT_##state, SLOT_##action                                                                                    \
    }
#define BUG(state)                                                                                                     \
    {                                                                                                                  \
        SLOT_##state, SLOT_BUG                                                                                         \
    }

/* A dying worker may still say anything: what it had is settled when it is buried, so nothing is done about it. */
static const struct cell table[SLOT_STATE_COUNT][SLOT_EVENT_COUNT] =
    {
        [SLOT_EMPTY] =
            {
                [SLOT_START] = TO(STARTING, LAUNCH),
                [SLOT_NOT_STARTED] = BUG(EMPTY),
                [SLOT_PUT_OFF] = BUG(EMPTY),
                [SLOT_SAYS_READY] = BUG(EMPTY),
                [SLOT_SAYS_FAILED] = BUG(EMPTY),
                [SLOT_SAYS_ENDED] = BUG(EMPTY),
                [SLOT_SAYS_GARBAGE] = BUG(EMPTY),
                [SLOT_EOF] = BUG(EMPTY),
                [SLOT_GONE] = BUG(EMPTY),
                [SLOT_EXITED] = BUG(EMPTY),
                [SLOT_DUE] = BUG(EMPTY),
                [SLOT_RESTART] = BUG(EMPTY),
                [SLOT_RETIRE] = BUG(EMPTY),
                [SLOT_TERMINATE] = STAY(EMPTY, NOTHING),
                [SLOT_KILL] = STAY(EMPTY, NOTHING),
            },
        [SLOT_STARTING] =
            {
                [SLOT_START] = BUG(STARTING),
                [SLOT_NOT_STARTED] = TO(EMPTY, COUNT_FAILURE),
                [SLOT_PUT_OFF] = TO(EMPTY, TRY_LATER),
                [SLOT_SAYS_READY] = TO(READY, WELCOME),
                [SLOT_SAYS_FAILED] = TO(CLOSED, AWAIT_EXIT),
                [SLOT_SAYS_ENDED] = TO(DYING, KILL_GARBAGE),
                [SLOT_SAYS_GARBAGE] = TO(DYING, KILL_GARBAGE),
                [SLOT_EOF] = TO(CLOSED, AWAIT_EXIT),
                [SLOT_GONE] = BUG(STARTING),
                [SLOT_EXITED] = TO(EMPTY, BURY),
                [SLOT_DUE] = TO(DYING, KILL_LATE),
                [SLOT_RESTART] = BUG(STARTING),
                [SLOT_RETIRE] = BUG(STARTING),
                [SLOT_TERMINATE] = TO(DYING, KILL_NOW),
                [SLOT_KILL] = TO(DYING, KILL_NOW),
            },
        [SLOT_READY] =
            {
                [SLOT_START] = BUG(READY),
                [SLOT_NOT_STARTED] = BUG(READY),
                [SLOT_PUT_OFF] = BUG(READY),
                [SLOT_SAYS_READY] = TO(DYING, KILL_GARBAGE),
                [SLOT_SAYS_FAILED] = TO(DYING, KILL_GARBAGE),
                [SLOT_SAYS_ENDED] = STAY(READY, ACCEPT),
                [SLOT_SAYS_GARBAGE] = TO(DYING, KILL_GARBAGE),
                [SLOT_EOF] = TO(CLOSED, AWAIT_EXIT),
                [SLOT_GONE] = BUG(READY),
                [SLOT_EXITED] = TO(EMPTY, BURY),
                [SLOT_DUE] = TO(DYING, KILL_OVERDUE),
                [SLOT_RESTART] = TO(STARTING, REFRESH),
                [SLOT_RETIRE] = TO(RETIRING, DISMISS),
                [SLOT_TERMINATE] = TO(DYING, KILL_SOFTLY),
                [SLOT_KILL] = TO(DYING, KILL_NOW),
            },
        [SLOT_CLOSED] =
            {
                [SLOT_START] = BUG(CLOSED),
                [SLOT_NOT_STARTED] = BUG(CLOSED),
                [SLOT_PUT_OFF] = BUG(CLOSED),
                [SLOT_SAYS_READY] = TO(DYING, KILL_GARBAGE),
                [SLOT_SAYS_FAILED] = TO(DYING, KILL_GARBAGE),
                [SLOT_SAYS_ENDED] = TO(DYING, KILL_GARBAGE),
                [SLOT_SAYS_GARBAGE] = TO(DYING, KILL_GARBAGE),
                [SLOT_EOF] = STAY(CLOSED, NOTHING),
                [SLOT_GONE] = TO(DYING, LEAVE),
                [SLOT_EXITED] = TO(EMPTY, BURY),
                [SLOT_DUE] = TO(DYING, KILL_GARBAGE),
                [SLOT_RESTART] = BUG(CLOSED),
                [SLOT_RETIRE] = BUG(CLOSED),
                [SLOT_TERMINATE] = TO(DYING, KILL_NOW),
                [SLOT_KILL] = TO(DYING, KILL_NOW),
            },
        [SLOT_RETIRING] =
            {
                [SLOT_START] = BUG(RETIRING),
                [SLOT_NOT_STARTED] = BUG(RETIRING),
                [SLOT_PUT_OFF] = BUG(RETIRING),
                [SLOT_SAYS_READY] = TO(DYING, KILL_GARBAGE),
                [SLOT_SAYS_FAILED] = TO(DYING, KILL_GARBAGE),
                [SLOT_SAYS_ENDED] = TO(DYING, KILL_GARBAGE),
                [SLOT_SAYS_GARBAGE] = TO(DYING, KILL_GARBAGE),
                [SLOT_EOF] = STAY(RETIRING, NOTHING),
                [SLOT_GONE] = STAY(RETIRING, AWAIT_EXIT),
                [SLOT_EXITED] = TO(EMPTY, BURY),
                [SLOT_DUE] = TO(DYING, KILL_NOW),
                [SLOT_RESTART] = BUG(RETIRING),
                [SLOT_RETIRE] = BUG(RETIRING),
                [SLOT_TERMINATE] = TO(DYING, KILL_SOFTLY),
                [SLOT_KILL] = TO(DYING, KILL_NOW),
            },
        [SLOT_DYING] =
            {
                [SLOT_START] = BUG(DYING),
                [SLOT_NOT_STARTED] = BUG(DYING),
                [SLOT_PUT_OFF] = BUG(DYING),
                [SLOT_SAYS_READY] = STAY(DYING, NOTHING),
                [SLOT_SAYS_FAILED] = STAY(DYING, NOTHING),
                [SLOT_SAYS_ENDED] = STAY(DYING, NOTHING),
                [SLOT_SAYS_GARBAGE] = STAY(DYING, NOTHING),
                [SLOT_EOF] = STAY(DYING, NOTHING),
                [SLOT_GONE] = STAY(DYING, LEAVE),
                [SLOT_EXITED] = TO(EMPTY, BURY),
                [SLOT_DUE] = STAY(DYING, KILL_NOW),
                [SLOT_RESTART] = BUG(DYING),
                [SLOT_RETIRE] = BUG(DYING),
                [SLOT_TERMINATE] = STAY(DYING, NOTHING),
                [SLOT_KILL] = STAY(DYING, KILL_NOW),
            },
};

enum slot_action slot_step(enum slot_state *state, enum slot_event event)
{
    struct cell cell = table[*state][event];
    *state = cell.next;
    return cell.action;
}

const char *slot_state_name(enum slot_state state)
{
    static const char *const names[SLOT_STATE_COUNT] = {"empty", "starting", "ready", "closed", "retiring", "dying"};
    return names[state];
}

const char *slot_event_name(enum slot_event event)
{
    static const char *const names[SLOT_EVENT_COUNT] = {
        "start", "not started", "put off", "says ready", "says failed", "says ended", "says garbage", "end of file",
        "gone",  "exited",      "due",     "restart",    "retire",      "terminate",  "kill",
    };
    return names[event];
}

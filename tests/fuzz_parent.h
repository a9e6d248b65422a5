/* fuzz_parent: the form of its input, for the target and for the generator of its seeds.
 *
 * The input is a program: PARENT_SETUP_BYTES of set-up, then operations until it ends. An operation is a byte and its
 * arguments, each a byte; a missing byte is 0. Bytes that select something are taken modulo the number of choices, so
 * that every input is a program. A process is named by its place among those that there are now, and so is a job. */
#ifndef PROCPOOL_TESTS_FUZZ_PARENT_H
#define PROCPOOL_TESTS_FUZZ_PARENT_H

/* ---- the set-up ---- */

enum parent_setup {
    SETUP_WORKERS, /* 255: so many that one look does not show all events; else % 4 + 1, and / 4 % 8 CPUs; 0: as many */
    SETUP_FLAGS,   /* enum parent_setup_flags */
    SETUP_TASKS,   /* max_tasks_per_worker; 0: no bound */
    SETUP_ATTEMPTS,
    SETUP_GRACE_MS,
    SETUP_START_10MS,
    SETUP_REPLY_64, /* max_result_bytes in 64 bytes; 255: 2^40 bytes */
    SETUP_SCARCE,   /* the allocation that fails, from the first on; 0: none */
    SETUP_ENDING,   /* enum parent_ending */
    PARENT_SETUP_BYTES
};

enum parent_setup_flags {
    PARENT_RESTARTS = 1,
    PARENT_NEEDS_INIT = 2,
    PARENT_WEARS_OUT = 4,
    PARENT_NO_BOOT = 8,         /* workers are started when there is something to do */
    PARENT_SMALL_PIPES = 16,    /* request pipes hold a page */
    PARENT_OWN_PIDFD = 32,      /* exit_fd is not the pidfd */
    PARENT_MANY_FUNCTIONS = 64, /* function numbers begin at 70 */
    PARENT_ADAPTS = 128,        /* when a first start is refused, be content with fewer workers */
};

enum parent_ending {
    ENDING_HONEST, /* workers do from now on what they should: all that was submitted ends, and new work goes through */
    ENDING_DEATH,  /* all workers die and none can be started: all that was submitted ends */
    ENDING_CLEAR,  /* loop_clear in the middle of it */
    ENDING_ABANDON,
    PARENT_ENDINGS
};

/* ---- operations ---- */

/* With this bit the loop is not run afterwards. */
enum { PARENT_UNDRIVEN = 0x80 };

/* p: a process. */
enum parent_op {
    OP_DRIVE,     /* - */
    OP_TIME,      /* amount: 2^(amount % 40) us; 255: until the loop wants to be woken */
    OP_MAP,       /* flags (parent_map_flags), count, item size, result size, timeout in ms, chunk size, function */
    OP_TASK,      /* flags (parent_task_flags), size, timeout in ms, function */
    OP_BROADCAST, /* size, function */
    OP_CANCEL,    /* job */
    OP_NEXT,      /* p, items: do what a worker should do next, with at most that many items */
    OP_SAY,       /* p, saying, items, how, size, field, value: a frame as it should be, then changed in one field */
    OP_RAW,       /* p, count, bytes: anything */
    OP_DELIVER,   /* p, count: so much of what it has said and that is held back; 255: all, and hold back no more */
    OP_READ,      /* p, count: from its requests; 255: all, and there is room again */
    OP_HANG_UP,   /* p: closes its reply pipe */
    OP_EXIT,      /* p, how: enum parent_exit */
    OP_HABITS,    /* p, enum parent_habits */
    OP_HABITS_FROM_NOW, /* habits: of processes that are started from now on */
    OP_REFUSE,          /* enum parent_refusal: the next start */
    OP_ROOM,            /* p, bytes: its request pipe takes no more than that */
    OP_SCARCE,          /* after, count: that many allocations succeed, then so many fail */
    OP_SHUTDOWN,        /* mode */
    OP_MOVE,            /* p: its end is to be watched for at another fd from now on */
    OP_NUDGE,           /* p: its exit fd is readable though it has not ended; its pid may be known then */
    OP_WAKE,            /* - */
    OP_CROWD,           /* count, function: so many tasks (% 32), each cancelled at once */
    OP_TAMPER,          /* p, 8 bytes: the word that says what it has begun, if it has the page */
    OP_FREE,            /* task: one of those that have ended and are kept */
    OP_SPOIL,           /* p, at, size, value: what travels by memory: in 256ths of it; 255: that it is mapped */
    PARENT_OPS
};

enum parent_map_flags {
    MAP_BYTES = 1, /* items of any size */
    MAP_ONCE = 2,
    MAP_STOP = 4,
    MAP_NO_STATUS = 8, /* statuses are not wanted */
    MAP_NO_CODE = 16,
    MAP_NO_RESULTS = 32, /* replies, or results, are not wanted */
    MAP_UNEVEN = 64,     /* items of many sizes, 0 among them */
};

enum parent_task_flags {
    TASK_ONCE = 1,
    TASK_FDS = 2,        /* with (flags / 8 % 4 + 1) fds */
    TASK_OWNS = 4,       /* its input is memory of its own */
    TASK_LARGE = 32,     /* eight times the size */
    TASK_OF_STREAM = 64, /* its index is not its number */
    TASK_KEPT = 128,     /* when it has ended, with its reply, until OP_FREE */
};

/* Sizes: below 200 as they are, then in steps of 2500 bytes. */
enum { PARENT_SIZE_STEP = 2500, PARENT_SIZE_STEPS_FROM = 200 };

enum parent_saying {
    SAYING_HELLO,
    SAYING_READY,
    SAYING_ANSWER, /* RESULT or RESULTS, whichever fits the first item that is due */
    SAYING_ERROR,
    SAYING_RESULT,
    SAYING_RESULTS,
    SAYING_REFUSAL, /* ERROR with count 0 */
    SAYING_SKIPPED, /* with this count, whatever was taken back */
    SAYING_REPLIES, /* with this count, of whatever spans */
    /* By this number; HOW_ALL_FAIL: it could shrink; HOW_FIRST_FAILS: it is smaller; HOW_LAST_FAILS: without an fd;
     * HOW_LONG_TEXT: with two; HOW_CUT: with no message. */
    SAYING_REGION,
    SAYING_REFERENCE, /* RESULT in the region of this number */
    /* RESULT where the task named room for it, 64 bytes behind that for each item, which is signed; size 255: all of
     * it, 254: a byte more. */
    SAYING_IN_TRANSIT,
    PARENT_SAYINGS
};

enum parent_how {
    HOW_WORN = 1,
    HOW_HELD = 2,     /* not delivered yet, nor is what follows */
    HOW_ALL_FAIL = 4, /* of RESULTS; with a code in RESULT */
    HOW_FIRST_FAILS = 8,
    HOW_LAST_FAILS = 16,
    HOW_LONG_TEXT = 32, /* and not printable */
    HOW_CUT = 64,       /* without its last byte */
};

enum parent_field {
    FIELD_NONE,
    FIELD_ID,       /* += value, which is signed */
    FIELD_COUNT,    /* += value */
    FIELD_FUNCTION, /* += value */
    FIELD_BODY,     /* += value */
    FIELD_BODY_POWER,
    FIELD_CODE,
    FIELD_TYPE,
    FIELD_FLAGS,
    FIELD_EXTRA,
    FIELD_RAW_HEADER, /* a byte of the encoded header */
    FIELD_RAW_BODY,   /* a byte of the body */
    FIELD_HUGE_ID,
    FIELD_HUGE_COUNT,
    PARENT_FIELDS
};

/* EXIT_ALL_SAID: all that it has said is delivered before. */
enum parent_exit { EXIT_CODE, EXIT_SIGNAL, EXIT_UNKNOWN, EXIT_EXPLAINED, EXIT_KEEPS_PIPE, PARENT_EXITS };
enum { EXIT_ALL_SAID = 0x80 };

enum parent_habits {
    HABIT_IGNORES_TERM = 1,
    HABIT_LINGERS = 2,    /* the first SIGKILL takes effect later */
    HABIT_UNKNOWN = 4,    /* nobody can tell how it ended */
    HABIT_KEEPS_PIPE = 8, /* its reply pipe is held open by somebody else */
    HABIT_UNNAMED = 16,   /* of processes to come: its pid is known only when its exit fd is looked at */
    HABIT_MAPS = 32,      /* what is large may travel by memory */
};

enum parent_refusal { REFUSAL_NONE, REFUSAL_BUSY, REFUSAL_AGAIN, REFUSAL_BUILD, PARENT_REFUSALS };

#endif

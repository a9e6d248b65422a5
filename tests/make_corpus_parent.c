/* make_corpus_parent: the seeds of fuzz_parent: lives of a pool, each a program as tests/fuzz_parent.h has it. See
 * make_corpus.c. */
#include "fuzz_parent.h"
#include "make_corpus.h"
#include <stdint.h>

/* ---- words for what happens in most lives ---- */

/* Four attempts per item at most, 5 ms of grace, 110 ms to start, replies up to 4096 bytes. */
#define LIFE(workers, flags, tasks, ending) (workers) - 1, (flags), (tasks), 0, 5, 10, 64, 0, (ending)
#define HUGE_REPLIES(workers, ending)       (workers) - 1, 0, 0, 0, 5, 10, 255, 0, (ending)
#define ATTEMPTS(workers, attempts, ending) (workers) - 1, 0, 0, (attempts)-1, 5, 10, 64, 0, (ending)
#define NO_MEMORY_AT(n, ending)             1, 0, 0, 0, 5, 10, 64, (n), (ending)

#define GREET(p)  OP_NEXT, (p), 0, OP_NEXT, (p), 0
#define ANSWER(p) OP_NEXT, (p), 255
#define TWO_READY GREET(0), GREET(1)
#define LATER     OP_TIME, 255
/* about 1 ms, 8 ms, 130 ms, 2 s */
#define MS     OP_TIME, 10
#define MS_8   OP_TIME, 13
#define MS_130 OP_TIME, 17
#define S_2    OP_TIME, 21

#define MAP(count, size, result_size)                 OP_MAP, 0, (count), (size), (result_size), 0, 0, 0
#define MAP_WITH(flags, count, size, result_size, ms) OP_MAP, (flags), (count), (size), (result_size), (ms), 0, 1
#define CHUNKS(count, chunk, size)                    OP_MAP, 0, (count), (size), 4, 0, (chunk), 2
#define TASK(flags, size, ms, function)               OP_TASK, (flags), (size), (ms), (function)

/* A frame as it should be, and one with a field changed. */
#define SHORT_TASKS                                                                                                    \
    TASK(0, 1, 0, 1), TASK(0, 2, 0, 1), TASK(0, 0, 0, 1), TASK(TASK_OF_STREAM, 3, 0, 1), TASK(0, 1, 0, 1),             \
        TASK(0, 7, 0, 1), TASK(TASK_OWNS, 9, 0, 1), TASK(0, 1, 0, 1)
#define SAY(p, saying, items, how, size)               OP_SAY, (p), (saying), (items), (how), (size), 0, 0
#define LIE(p, saying, items, how, size, field, value) OP_SAY, (p), (saying), (items), (how), (size), (field), (value)
#define TAMPER(p, begun, stop)                                                                                         \
    OP_TAMPER, (p), (begun)&255, 0, 0, ((stop)&1) << 7, (stop) >> 1 & 255, 0, 0, (stop) ? 128 : 0
/* Memory that the process lends, and a reply in it. */
#define REGION(p, number, how, size)    SAY(p, SAYING_REGION, number, how, size)
#define REFERENCE(p, number, how, size) SAY(p, SAYING_REFERENCE, number, how, size)
#define LENT(p, number, size)           REGION(p, number, 0, size), REFERENCE(p, number, 0, size)
#define KEPT_TASKS                                                                                                     \
    TASK(TASK_KEPT, 4, 0, 1), TASK(TASK_KEPT, 4, 0, 1), TASK(TASK_KEPT, 4, 0, 1), TASK(0, 4, 0, 1), TASK(0, 4, 0, 1),  \
        OP_READ, 0, 255
/* Processes that map what large things travel by; the second large item is sent when the first has been answered. */
#define MAPS              OP_HABITS, 0, HABIT_MAPS
#define LARGE_TASK(flags) TASK(flags, K2_5(30), 0, 1)
#define SOME_LARGE_TASKS  LARGE_TASK(0), LARGE_TASK(0), LARGE_TASK(0), LARGE_TASK(0)
/* As much through the pipes as makes the parent give the process that memory. */
#define LARGER_TASK  TASK(TASK_LARGE, K2_5(16), 0, 1)
#define LARGEST_TASK TASK(TASK_LARGE, K2_5(33), 0, 1)
/* Of a function of which nobody knows how long it takes: one for each of two processes. */
#define LARGER_PAIR(function)                                                                                          \
    TASK(TASK_LARGE, K2_5(16), 0, (function)), TASK(TASK_LARGE, K2_5(16), 0, (function)), ANSWER(0), ANSWER(1)
#define MISSED(p)             LARGER_TASK, ANSWER(p), LARGER_TASK, ANSWER(p), LARGER_TASK
#define TRANSIT_OPEN          GREET(0), MAPS, MISSED(0), ANSWER(0), ANSWER(0)
#define IN_TRANSIT(by, size)  SAY(0, SAYING_IN_TRANSIT, by, 0, size)
#define ALL_THE_ROOM          255
#define BEYOND_THE_ROOM       254
#define SPOIL(p, at, size, v) OP_SPOIL, (p), (at), (size), (v)
#define QUIETLY(op)           ((op) | PARENT_UNDRIVEN)
/* Sizes in steps of 2500 bytes. */
#define K2_5(n) (PARENT_SIZE_STEPS_FROM - 1 + (n))

#define SEED(name, ...)                                                                                                \
    {                                                                                                                  \
        name, sizeof((const uint8_t[]){__VA_ARGS__}), (const uint8_t[])                                                \
        {                                                                                                              \
            __VA_ARGS__                                                                                                \
        }                                                                                                              \
    }

static const struct {
    const char *name;
    size_t size;
    const uint8_t *bytes;
} seeds[] = {
    /* ---- what goes well ---- */
    SEED("map", LIFE(2, 0, 0, ENDING_HONEST), TWO_READY, MAP(20, 8, 4), ANSWER(0), ANSWER(1), ANSWER(0), ANSWER(1)),
    SEED("map-bytes", LIFE(2, 0, 0, ENDING_HONEST), TWO_READY, MAP_WITH(MAP_BYTES | MAP_UNEVEN, 12, 90, 0, 0),
         ANSWER(0), ANSWER(1), ANSWER(0)),
    SEED("map-unwanted", LIFE(1, 0, 0, ENDING_HONEST), GREET(0),
         MAP_WITH(MAP_NO_STATUS | MAP_NO_CODE | MAP_NO_RESULTS, 6, 4, 4, 0), ANSWER(0),
         MAP_WITH(MAP_BYTES | MAP_NO_RESULTS | MAP_NO_CODE, 4, 4, 0, 0), SAY(0, SAYING_ANSWER, 1, 0, 100), ANSWER(0)),
    SEED("map-empty", LIFE(1, PARENT_NO_BOOT, 0, ENDING_HONEST), MAP(0, 1, 1), MAP(1, 1, 0), GREET(0), ANSWER(0)),
    SEED("map-queues", LIFE(1, 0, 0, ENDING_DEATH), GREET(0), CHUNKS(60, 5, 1), ANSWER(0), ANSWER(0), OP_NEXT, 0, 3,
         OP_NEXT, 0, 3),
    SEED("map-large", HUGE_REPLIES(2, ENDING_HONEST), TWO_READY, MAP(3, K2_5(30), K2_5(20)), ANSWER(0), ANSWER(1),
         MAP_WITH(MAP_BYTES, 3, K2_5(2), 0, 0), SAY(0, SAYING_ANSWER, 1, 0, K2_5(40)), ANSWER(1)),
    SEED("tasks", LIFE(2, 0, 0, ENDING_HONEST), TWO_READY, TASK(0, 5, 0, 1), TASK(TASK_OWNS, K2_5(1), 0, 1),
         TASK(TASK_OF_STREAM, 0, 0, 2), TASK(TASK_ONCE, 7, 0, 1), TASK(0, 7, 50, 1), ANSWER(0), ANSWER(1), ANSWER(0),
         ANSWER(1)),
    SEED("tasks-fds", LIFE(2, 0, 0, ENDING_HONEST), TWO_READY, TASK(TASK_FDS, 5, 0, 1),
         TASK(TASK_FDS | 24 | TASK_ONCE, 5, 9, 1), TASK(TASK_FDS | 8, 0, 0, 1), ANSWER(0), ANSWER(1), ANSWER(0)),
    SEED("tasks-fds-behind-transit", HUGE_REPLIES(1, ENDING_HONEST), GREET(0), MISSED(0), ANSWER(0), ANSWER(0),
         TASK(TASK_FDS, 5, 0, 1), ANSWER(0), TASK(TASK_FDS, 5, 0, 1), ANSWER(0)),
    SEED("tasks-fds-left", LIFE(1, 0, 0, ENDING_HONEST), GREET(0), TASK(TASK_FDS | 24, 5, 0, 1),
         TASK(TASK_FDS | 24, 5, 0, 1), SAY(0, SAYING_ANSWER, 1, 0, 3), SAY(0, SAYING_ANSWER, 1, 0, 3), OP_EXIT, 0,
         EXIT_CODE),
    SEED("broadcast", LIFE(2, 0, 0, ENDING_HONEST), TWO_READY, OP_BROADCAST, 9, 3, MAP(4, 1, 1), ANSWER(0), ANSWER(1),
         ANSWER(0), OP_BROADCAST, 30, 4, ANSWER(0), ANSWER(1), OP_BROADCAST, 2, 3, ANSWER(1), ANSWER(0), OP_EXIT, 0,
         EXIT_SIGNAL, MAP(9, 1, 1), LATER, GREET(0), ANSWER(0), ANSWER(1)),
    SEED("broadcast-large", LIFE(1, 0, 0, ENDING_HONEST), GREET(0), OP_BROADCAST, K2_5(30), 3, ANSWER(0), OP_EXIT, 0,
         EXIT_CODE, LATER, OP_ROOM, 0, 50, TASK(0, 1, 0, 1), OP_NEXT, 0, 0, OP_NEXT, 0, 0, ANSWER(0)),
    SEED("many-functions", LIFE(1, PARENT_MANY_FUNCTIONS, 0, ENDING_HONEST), GREET(0), MAP(2, 1, 1), ANSWER(0),
         TASK(0, 1, 0, 9), ANSWER(0), ANSWER(0)),
    SEED("many-workers", 255, 0, 0, 0, 5, 10, 64, 0, ENDING_HONEST, QUIETLY(OP_NEXT), 0, 0, MAP(100, 1, 1),
         OP_BROADCAST, 1, 1),
    /* A run is refused that was to have large results. */
    SEED("large-answered-early", 1, 0, 0, 0, 5, 10, 64, 0, 0, 6, 4, 3, 2, 0, 4, 1, 1, 0, 16, 0, 6, 0, 2, 6, 0, 4, 16, 0,
         45, 2, 0, 93, 1, 255, 6, 0, 0, 7, 4, SAYING_ERROR),
    SEED("many-starts-refused", 255, 255, 127, 60, 1, 0, 0, 0, ENDING_DEATH, TASK(0, 255, 255, 6), LATER,
         QUIETLY(OP_MAP), 255, 255),
    SEED("many-die", 255, 0, 0, 0, 5, 10, 64, 0, ENDING_DEATH, MAP(100, 1, 1)),
    SEED("crowd", LIFE(2, 0, 0, ENDING_HONEST), TWO_READY, TASK(0, 1, 0, 255), OP_CROWD, 25, 255, TASK(0, 1, 0, 255),
         OP_CROWD, 25, 255, ANSWER(0), ANSWER(1)),
    SEED("replies", LIFE(1, 0, 0, ENDING_HONEST), GREET(0), MAP_WITH(MAP_BYTES, 40, 4, 0, 0), MS, ANSWER(0), OP_READ, 0,
         255, SAY(0, SAYING_REPLIES, 7, 0, 3), TASK(0, 9, 0, 2), TASK(0, 9, 0, 1), TASK(0, 0, 0, 2), ANSWER(0), OP_READ,
         0, 255, SAY(0, SAYING_REPLIES, 3, 0, 0), ANSWER(0), ANSWER(0)),
    SEED("replies-of-many", LIFE(1, 0, 0, ENDING_HONEST), GREET(0), SHORT_TASKS, ANSWER(0), SHORT_TASKS, SHORT_TASKS,
         OP_READ, 0, 255, SAY(0, SAYING_REPLIES, 4, 0, 30), SAY(0, SAYING_REPLIES, 9, 0, 0), ANSWER(0)),
    SEED("replies-in-pieces", LIFE(1, 0, 0, ENDING_HONEST), GREET(0), MAP_WITH(MAP_BYTES, 9, 4, 0, 0), MS, ANSWER(0),
         OP_READ, 0, 255, SAY(0, SAYING_REPLIES, 2, HOW_HELD, 30), OP_DELIVER, 0, 50, OP_DELIVER, 0, 10, OP_DELIVER, 0,
         255, ANSWER(0)),
    SEED("replies-unasked", LIFE(1, 0, 0, ENDING_HONEST), GREET(0), MAP_WITH(MAP_BYTES, 9, 4, 0, 0), MS, ANSWER(0),
         OP_READ, 0, 255, SAY(0, SAYING_REPLIES, 200, 0, 3), LATER, ANSWER(0)),
    SEED("replies-of-none", LIFE(2, 0, 0, ENDING_HONEST), TWO_READY, MAP(5, 4, 4), SAY(0, SAYING_REPLIES, 1, 0, 4),
         OP_BROADCAST, 9, 3, SAY(1, SAYING_REPLIES, 1, 0, 4), LATER),
    SEED("replies-unsent", LIFE(1, 0, 0, ENDING_DEATH), GREET(0), TASK(0, 1, 0, 1), MS, ANSWER(0), OP_ROOM, 0, 45,
         TASK(0, K2_5(1), 0, 1), TASK(0, 1, 0, 1), SAY(0, SAYING_REPLIES, 2, 0, 0), OP_READ, 0, 255),
    SEED("lie-replies", LIFE(2, 0, 0, ENDING_HONEST), TWO_READY, MAP_WITH(MAP_BYTES, 40, 4, 0, 0), MS, ANSWER(0),
         ANSWER(1), OP_READ, 0, 255, LIE(0, SAYING_REPLIES, 2, 0, 9, FIELD_RAW_BODY, 1), OP_READ, 1, 255,
         LIE(1, SAYING_REPLIES, 2, HOW_CUT, 9, FIELD_RAW_BODY, 30), LATER),

    /* ---- replies in memory that is lent, right and wrong ---- */
    SEED("lends", LIFE(1, 0, 0, ENDING_HONEST), GREET(0), KEPT_TASKS, LENT(0, 0, 100), LENT(0, 63, K2_5(1)),
         LENT(0, 5, 9), LENT(0, 6, 9), OP_FREE, 1, OP_FREE, 0, KEPT_TASKS, REFERENCE(0, 63, 0, 50),
         REFERENCE(0, 0, 0, 100), OP_FREE, 2, LENT(0, 5, 60)),
    SEED("lends-for-maps", LIFE(2, 0, 0, ENDING_HONEST), TWO_READY, MAP_WITH(MAP_BYTES, 9, 4, 0, 0), MS,
         LENT(0, 1, 100), LENT(1, 1, 100), MAP_WITH(MAP_BYTES | MAP_NO_RESULTS, 9, 4, 0, 0), OP_READ, 0, 255,
         REFERENCE(0, 1, 0, 7), OP_BROADCAST, 9, 3, OP_READ, 1, 255, REFERENCE(1, 1, 0, 7), ANSWER(0), ANSWER(1)),
    SEED("lends-much", HUGE_REPLIES(1, ENDING_HONEST), GREET(0), KEPT_TASKS, LENT(0, 0, K2_5(50)), LENT(0, 1, K2_5(30)),
         LENT(0, 2, K2_5(9)), OP_FREE, 0, OP_FREE, 1, OP_FREE, 2, ANSWER(0)),
    SEED("lends-and-dies", LIFE(1, 0, 0, ENDING_HONEST), GREET(0), KEPT_TASKS, LENT(0, 0, 100), LENT(0, 1, 100),
         REGION(0, 2, 0, 9), OP_EXIT, 0, EXIT_SIGNAL, LATER, OP_FREE, 0, GREET(0), OP_READ, 0, 255, LENT(0, 1, 3),
         OP_FREE, 1),
    SEED("lends-and-starts-afresh", LIFE(1, PARENT_RESTARTS, 2, ENDING_HONEST), GREET(0), KEPT_TASKS, LENT(0, 0, 100),
         LENT(0, 1, 100), OP_READ, 0, 255, GREET(0), OP_READ, 0, 255, OP_FREE, 0, LENT(0, 0, 50), OP_FREE, 1),
    SEED("lends-without-fds", LIFE(1, 0, 0, ENDING_HONEST), GREET(0), KEPT_TASKS, REGION(0, 3, HOW_LAST_FAILS, 100),
         REFERENCE(0, 3, 0, 100), KEPT_TASKS, LENT(0, 3, 100), ANSWER(0)),
    SEED("lends-without-memory", LIFE(1, 0, 0, ENDING_HONEST), GREET(0), KEPT_TASKS, OP_SCARCE, 0, 1, LENT(0, 3, 100),
         MAP_WITH(MAP_BYTES, 9, 4, 0, 0), ANSWER(0), ANSWER(0)),
    SEED("lends-between-replies", LIFE(1, 0, 0, ENDING_HONEST), GREET(0), SHORT_TASKS, ANSWER(0), SHORT_TASKS, OP_READ,
         0, 255, REGION(0, 3, 0, 100), SAY(0, SAYING_REPLIES, 2, 0, 5), REFERENCE(0, 3, 0, 30),
         SAY(0, SAYING_REPLIES, 2, 0, 5), ANSWER(0)),
    SEED("lends-in-pieces", LIFE(1, 0, 0, ENDING_HONEST), GREET(0), KEPT_TASKS, REGION(0, 3, HOW_HELD, 100), OP_DELIVER,
         0, 39, OP_DELIVER, 0, 255, REFERENCE(0, 3, HOW_HELD, 100), OP_DELIVER, 0, 45, OP_DELIVER, 0, 255),
    SEED("lends-too-late", LIFE(1, 0, 0, ENDING_HONEST), GREET(0), TASK(0, 1, 3, 1), OP_HABITS, 0, HABIT_IGNORES_TERM,
         OP_READ, 0, 255, REGION(0, 0, 0, 9), MS_8, REFERENCE(0, 0, 0, 9), LATER),
    SEED("lends-abandoned", LIFE(1, 0, 0, ENDING_ABANDON), GREET(0), KEPT_TASKS, LENT(0, 0, 100), REGION(0, 1, 0, 9)),
    SEED("lends-cleared", LIFE(1, 0, 0, ENDING_CLEAR), GREET(0), KEPT_TASKS, LENT(0, 0, 100), REGION(0, 1, 0, 9)),
    SEED("lie-lends", LIFE(4, 0, 0, ENDING_HONEST), TWO_READY, GREET(2), GREET(3), KEPT_TASKS, KEPT_TASKS,
         REGION(0, 0, HOW_ALL_FAIL, 100), REGION(1, 0, HOW_FIRST_FAILS, 100), REGION(2, 0, HOW_LONG_TEXT, 100),
         REGION(3, 0, HOW_CUT, 100)),
    SEED("lie-lends-much", LIFE(4, 0, 0, ENDING_HONEST), TWO_READY, GREET(2), GREET(3), KEPT_TASKS, KEPT_TASKS,
         REGION(0, 64, 0, 100), REGION(1, 0, 0, 0), REGION(2, 0, 0, K2_5(3)),
         LIE(3, SAYING_REGION, 0, 0, 9, FIELD_EXTRA, 1)),
    SEED("lie-lends-twice", LIFE(4, 0, 0, ENDING_HONEST), TWO_READY, GREET(2), GREET(3), KEPT_TASKS, KEPT_TASKS,
         KEPT_TASKS, LENT(0, 0, 100), REFERENCE(0, 0, 0, 50), REGION(1, 0, 0, 100), REGION(1, 0, 0, 100),
         REGION(2, 0, 0, 100), REFERENCE(2, 1, 0, 100), REGION(3, 0, 0, 100), REFERENCE(3, 0, 0, 101)),
    SEED("lie-lends-again", LIFE(2, 0, 0, ENDING_HONEST), TWO_READY, MAP_WITH(MAP_BYTES, 40, 4, 0, 0), MS, ANSWER(0),
         ANSWER(1), OP_READ, 0, 255, LENT(0, 0, 100), REFERENCE(0, 0, 0, 100),
         LIE(1, SAYING_REGION, 3, 0, 9, FIELD_ID, 1), LATER),
    SEED("lie-lends-elsewhere", LIFE(2, 0, 0, ENDING_HONEST), TWO_READY, KEPT_TASKS, MAP(9, 4, 4), REGION(0, 0, 0, 100),
         LIE(0, SAYING_REFERENCE, 0, 0, 10, FIELD_RAW_BODY, 8), REGION(1, 0, 0, 100), REFERENCE(1, 0, 0, 10), LATER),
    SEED("wake", LIFE(1, 0, 0, ENDING_HONEST), OP_WAKE, QUIETLY(OP_WAKE), OP_DRIVE),

    /* ---- what is large travels by memory, right and wrong ---- */
    SEED("transit-tasks", HUGE_REPLIES(1, ENDING_HONEST), TRANSIT_OPEN, LARGE_TASK(0), ANSWER(0), LARGE_TASK(TASK_OWNS),
         LARGE_TASK(TASK_OF_STREAM), LARGE_TASK(0), LARGE_TASK(0), ANSWER(0), ANSWER(0), ANSWER(0), ANSWER(0)),
    SEED("transit-maps", HUGE_REPLIES(1, ENDING_HONEST), TRANSIT_OPEN, CHUNKS(32, 8, K2_5(3)), ANSWER(0), ANSWER(0),
         ANSWER(0), OP_MAP, 0, 32, 4, K2_5(3), 0, 8, 1, OP_NEXT, 0, 3, ANSWER(0), OP_NEXT, 0, 2, ANSWER(0), OP_MAP, 0,
         14, K2_5(3), K2_5(3), 0, 7, 2, SAY(0, SAYING_ANSWER, 3, HOW_FIRST_FAILS, 0), ANSWER(0), ANSWER(0)),
    SEED("transit-map-of-bytes", HUGE_REPLIES(1, ENDING_HONEST), TRANSIT_OPEN, MAP_WITH(MAP_BYTES, 3, K2_5(30), 0, 0),
         ANSWER(0), ANSWER(0), ANSWER(0), MAP_WITH(MAP_BYTES | MAP_NO_RESULTS, 3, K2_5(30), 0, 0), ANSWER(0),
         ANSWER(0)),
    SEED("transit-queued", HUGE_REPLIES(1, ENDING_HONEST), TRANSIT_OPEN, SOME_LARGE_TASKS, SOME_LARGE_TASKS,
         SOME_LARGE_TASKS, ANSWER(0), SOME_LARGE_TASKS, ANSWER(0), ANSWER(0), ANSWER(0)),
    SEED("transit-stops", HUGE_REPLIES(1, ENDING_HONEST), TRANSIT_OPEN, OP_MAP, MAP_STOP, 16, K2_5(3), 4, 0, 8, 1,
         SAY(0, SAYING_ANSWER, 2, HOW_LAST_FAILS, 0), S_2, S_2),
    SEED("transit-replies", HUGE_REPLIES(1, ENDING_HONEST), TRANSIT_OPEN, LARGE_TASK(0), OP_READ, 0, 255,
         SAY(0, SAYING_REPLIES, 1, 0, 7), S_2, S_2),
    SEED("transit-large-replies", HUGE_REPLIES(1, ENDING_HONEST), TRANSIT_OPEN, TASK(0, 9, 0, 1), ANSWER(0),
         TASK(0, 9, 0, 1), OP_READ, 0, 255, SAY(0, SAYING_ANSWER, 1, 0, K2_5(40)), TASK(0, 9, 0, 1), ANSWER(0),
         TASK(0, 9, 0, 1), ANSWER(0), TASK(0, K2_5(2), 0, 1), ANSWER(0)),
    SEED("transit-grows", HUGE_REPLIES(1, ENDING_HONEST), TRANSIT_OPEN, LARGEST_TASK, ANSWER(0), LARGEST_TASK,
         ANSWER(0), LARGEST_TASK, ANSWER(0), LARGEST_TASK, ANSWER(0), ANSWER(0), LARGEST_TASK, ANSWER(0)),
    SEED("transit-seldom", HUGE_REPLIES(1, ENDING_HONEST), GREET(0), MAPS, LARGER_TASK, ANSWER(0), S_2, LARGER_TASK,
         ANSWER(0), S_2, LARGER_TASK, ANSWER(0), LARGER_TASK, ANSWER(0), S_2),
    SEED("transit-too-late", HUGE_REPLIES(1, ENDING_HONEST), GREET(0), MAPS, LARGER_TASK, ANSWER(0), LARGER_TASK,
         ANSWER(0), OP_ROOM, 0, 50, LARGER_TASK, S_2, S_2),
    SEED("transit-trimmed", HUGE_REPLIES(1, ENDING_HONEST), TRANSIT_OPEN, S_2, S_2, MISSED(0), ANSWER(0), ANSWER(0),
         LARGE_TASK(0), S_2, S_2, ANSWER(0), S_2, S_2),
    SEED("transit-kept", HUGE_REPLIES(1, ENDING_HONEST), TRANSIT_OPEN, LARGE_TASK(0), S_2, S_2, OP_READ, 0, 255, S_2,
         S_2, ANSWER(0), S_2, S_2),
    SEED("transit-unmapped", HUGE_REPLIES(2, ENDING_HONEST), TWO_READY, OP_HABITS, 1, HABIT_MAPS, LARGER_PAIR(1),
         LARGER_PAIR(2), LARGER_PAIR(3), ANSWER(0), ANSWER(1), TASK(0, K2_5(30), 0, 4), TASK(0, K2_5(30), 0, 4),
         ANSWER(0), ANSWER(1), S_2, S_2),
    SEED("transit-starts-afresh", 0, PARENT_RESTARTS, 5, 0, 5, 10, 255, 0, ENDING_HONEST, TRANSIT_OPEN, LARGE_TASK(0),
         ANSWER(0), LARGE_TASK(0), ANSWER(0), OP_READ, 0, 255, GREET(0), MISSED(0), ANSWER(0), ANSWER(0), LARGE_TASK(0),
         ANSWER(0)),
    SEED("transit-dies", HUGE_REPLIES(1, ENDING_HONEST), OP_HABITS_FROM_NOW, HABIT_MAPS, TRANSIT_OPEN, LARGE_TASK(0),
         OP_READ, 0, 255, QUIETLY(OP_SAY), 0, SAYING_IN_TRANSIT, 0, HOW_HELD, 200, 0, 0, OP_EXIT, 0, EXIT_SIGNAL, LATER,
         GREET(0), ANSWER(0)),
    SEED("transit-taken", HUGE_REPLIES(2, ENDING_HONEST), TRANSIT_OPEN, CHUNKS(3, 0, K2_5(30)), OP_READ, 0, 255, MS,
         GREET(1), LATER, ANSWER(1), ANSWER(0)),
    SEED("transit-trimmed-behind-taken", HUGE_REPLIES(2, ENDING_HONEST), TRANSIT_OPEN, MAP(60, 4, 0), ANSWER(0),
         OP_READ, 0, 255, GREET(1), MS, MS, MS_130, ANSWER(1), S_2, S_2, ANSWER(0), ANSWER(0)),
    SEED("transit-cancelled", HUGE_REPLIES(1, ENDING_HONEST), TRANSIT_OPEN, LARGE_TASK(0), OP_HABITS, 0,
         HABIT_MAPS | HABIT_IGNORES_TERM, OP_CANCEL, 0, OP_READ, 0, 255, IN_TRANSIT(0, 100), LATER),
    SEED("transit-abandoned", HUGE_REPLIES(1, ENDING_ABANDON), TRANSIT_OPEN, LARGE_TASK(0)),
    SEED("transit-without-memory", HUGE_REPLIES(1, ENDING_HONEST), TRANSIT_OPEN, LARGE_TASK(0), OP_READ, 0, 255,
         OP_SCARCE, 0, 1, IN_TRANSIT(0, ALL_THE_ROOM), LARGE_TASK(0), ANSWER(0)),
    SEED("transit-spoiled", HUGE_REPLIES(1, ENDING_HONEST), TRANSIT_OPEN, LARGE_TASK(0), OP_READ, 0, 255,
         SPOIL(0, 0, K2_5(50), 1), IN_TRANSIT(0, ALL_THE_ROOM), LARGE_TASK(0), OP_READ, 0, 255, QUIETLY(OP_SAY), 0,
         SAYING_IN_TRANSIT, 0, 0, 100, 0, 0, QUIETLY(OP_SPOIL), 0, 128, 90, 7, OP_DRIVE, SPOIL(0, 255, 0, 0),
         LARGE_TASK(0), ANSWER(0), LARGE_TASK(0), ANSWER(0)),
    SEED("lie-transit-offset", HUGE_REPLIES(1, ENDING_HONEST), TRANSIT_OPEN, LARGE_TASK(0), OP_READ, 0, 255,
         IN_TRANSIT(1, 100), LATER),
    SEED("lie-transit-before", HUGE_REPLIES(1, ENDING_HONEST), TRANSIT_OPEN, LARGE_TASK(0), OP_READ, 0, 255,
         IN_TRANSIT(255, 100), LATER),
    SEED("lie-transit-size", HUGE_REPLIES(1, ENDING_HONEST), TRANSIT_OPEN, LARGE_TASK(0), OP_READ, 0, 255,
         IN_TRANSIT(0, BEYOND_THE_ROOM), LATER),
    SEED("lie-transit-empty", HUGE_REPLIES(1, ENDING_HONEST), TRANSIT_OPEN, LARGE_TASK(0), OP_READ, 0, 255,
         IN_TRANSIT(0, 0), LATER),
    SEED("lie-transit-most", LIFE(1, 0, 0, ENDING_HONEST), TRANSIT_OPEN, LARGE_TASK(0), OP_READ, 0, 255,
         IN_TRANSIT(0, K2_5(2)), LATER),
    SEED("lie-transit-unasked", LIFE(2, 0, 0, ENDING_HONEST), TWO_READY, TASK(0, 9, 0, 1), OP_BROADCAST, 9, 3, OP_READ,
         0, 255, OP_READ, 1, 255, IN_TRANSIT(0, 9), SAY(1, SAYING_IN_TRANSIT, 0, 0, 9), LATER),
    SEED("lie-transit-of-run", HUGE_REPLIES(1, ENDING_HONEST), TRANSIT_OPEN, CHUNKS(8, 8, K2_5(3)), OP_READ, 0, 255,
         LIE(0, SAYING_ANSWER, 3, HOW_FIRST_FAILS, 0, FIELD_BODY, 4), LATER),

    /* ---- answers in pieces, answers that say no ---- */
    SEED("pieces", LIFE(1, 0, 0, ENDING_HONEST), GREET(0), CHUNKS(8, 4, 8), SAY(0, SAYING_ANSWER, 1, HOW_HELD, 0),
         OP_DELIVER, 0, 39, OP_DELIVER, 0, 1, OP_DELIVER, 0, 3, OP_DELIVER, 0, 255,
         SAY(0, SAYING_ANSWER, 3, HOW_LAST_FAILS, 0)),
    SEED("pieces-large", HUGE_REPLIES(1, ENDING_HONEST), GREET(0), MAP(2, 1, K2_5(8)),
         SAY(0, SAYING_ANSWER, 1, HOW_HELD, 0), OP_DELIVER, 0, 60, OP_DELIVER, 0, 200, OP_DELIVER, 0, 255,
         TASK(0, 1, 0, 1), ANSWER(0), SAY(0, SAYING_ANSWER, 1, HOW_HELD, K2_5(50)), OP_DELIVER, 0, 100, OP_DELIVER, 0,
         255),
    SEED("failures", LIFE(1, 0, 0, ENDING_HONEST), GREET(0), CHUNKS(9, 9, 4),
         SAY(0, SAYING_ANSWER, 4, HOW_FIRST_FAILS | HOW_LAST_FAILS, 0), SAY(0, SAYING_ANSWER, 5, HOW_ALL_FAIL, 0),
         TASK(0, 1, 0, 1), SAY(0, SAYING_ANSWER, 1, HOW_ALL_FAIL | HOW_LONG_TEXT, 0)),
    SEED("errors", LIFE(1, 0, 0, ENDING_HONEST), GREET(0), CHUNKS(9, 9, 4), SAY(0, SAYING_ERROR, 4, 0, 0),
         SAY(0, SAYING_ERROR, 5, HOW_LONG_TEXT, 0), TASK(0, 1, 0, 1), SAY(0, SAYING_ERROR, 1, 0, 0),
         MAP_WITH(MAP_BYTES, 2, 4, 0, 0), SAY(0, SAYING_ERROR, 1, 0, 0)),
    SEED("stop", LIFE(2, 0, 0, ENDING_HONEST), TWO_READY, OP_MAP, MAP_STOP, 40, 4, 4, 0, 9, 1,
         SAY(0, SAYING_ANSWER, 3, HOW_LAST_FAILS, 0), ANSWER(1), MAP_WITH(MAP_BYTES | MAP_STOP, 9, 4, 0, 0),
         SAY(0, SAYING_ANSWER, 1, HOW_ALL_FAIL, 0), ANSWER(1)),
    SEED("stop-borrowed", LIFE(1, 0, 0, ENDING_DEATH), GREET(0), OP_ROOM, 0, 100, OP_MAP, MAP_STOP, 10, K2_5(1), 4, 0,
         10, 1, SAY(0, SAYING_ANSWER, 1, HOW_FIRST_FAILS, 0), OP_READ, 0, 255),
    SEED("worn-restarts", LIFE(2, PARENT_RESTARTS | PARENT_WEARS_OUT, 0, ENDING_HONEST), TWO_READY, MAP(9, 4, 4),
         SAY(0, SAYING_ANSWER, 1, HOW_WORN, 0), OP_READ, 0, 255, GREET(0), ANSWER(1)),
    SEED("worn-retires", LIFE(2, PARENT_WEARS_OUT, 0, ENDING_HONEST), TWO_READY, MAP(9, 4, 4),
         SAY(0, SAYING_ANSWER, 1, HOW_WORN, 0), OP_NEXT, 0, 0, GREET(2), ANSWER(1), ANSWER(2)),
    SEED("recycled", LIFE(2, PARENT_RESTARTS, 3, ENDING_HONEST), TWO_READY, CHUNKS(30, 3, 1), ANSWER(0), ANSWER(1),
         GREET(0), OP_BROADCAST, 1, 1, ANSWER(0), GREET(1), ANSWER(1), ANSWER(0)),
    SEED("replaced", LIFE(2, 0, 2, ENDING_HONEST), TWO_READY, CHUNKS(30, 2, 1), ANSWER(0), ANSWER(1), GREET(2),
         GREET(3), OP_NEXT, 0, 0, OP_NEXT, 1, 0, ANSWER(2)),

    /* ---- what is taken back: for who has nothing to do, as it is cancelled, from who is gone ---- */
    SEED("taken-for-idle", LIFE(2, 0, 0, ENDING_HONEST), GREET(0), MAP(41, 4, 4), ANSWER(0), OP_READ, 0, 255, GREET(1),
         OP_NEXT, 0, 1, MS, LATER, ANSWER(1), ANSWER(0), ANSWER(1), ANSWER(0)),
    SEED("taken-tasks", LIFE(2, 0, 0, ENDING_HONEST), GREET(0), TASK(0, 1, 0, 1), MS, ANSWER(0), TASK(0, 1, 0, 1),
         TASK(0, K2_5(20), 0, 1), TASK(0, 1, 0, 1), OP_READ, 0, 255, MS, LATER, GREET(1), LATER, ANSWER(1), ANSWER(0)),
    SEED("taken-borrowed", LIFE(2, PARENT_SMALL_PIPES, 0, ENDING_HONEST), GREET(0), MAP(9, K2_5(2), 4), ANSWER(0),
         OP_ROOM, 0, 100, OP_READ, 0, 50, GREET(1), MS, LATER, ANSWER(1), ANSWER(1), OP_READ, 0, 255, ANSWER(0)),
    SEED("taken-cancelled", LIFE(1, 0, 0, ENDING_HONEST), GREET(0), TASK(0, 1, 0, 1), ANSWER(0), TASK(0, 1, 0, 1),
         TASK(0, 1, 0, 1), TASK(0, 1, 0, 1), OP_READ, 0, 255, OP_CANCEL, 1, ANSWER(0), ANSWER(0), ANSWER(0)),
    SEED("taken-dies", LIFE(2, 0, 0, ENDING_HONEST), GREET(0), MAP(41, 4, 4), ANSWER(0), OP_READ, 0, 255, MS, GREET(1),
         LATER, ANSWER(1), OP_EXIT, 0, EXIT_SIGNAL, LATER, GREET(0), ANSWER(0)),
    SEED("taken-then-lies", LIFE(2, 0, 0, ENDING_HONEST), GREET(0), MAP(41, 4, 4), ANSWER(0), OP_READ, 0, 255, MS,
         GREET(1), LATER, SAY(0, SAYING_SKIPPED, 1, 0, 0), LATER, ANSWER(1)),
    SEED("taken-too-many", LIFE(2, 0, 0, ENDING_HONEST), GREET(0), MAP(41, 4, 4), ANSWER(0), OP_READ, 0, 255, MS,
         GREET(1), LATER, SAY(0, SAYING_ANSWER, 1, 0, 0), SAY(0, SAYING_SKIPPED, 3, 0, 0),
         SAY(0, SAYING_SKIPPED, 200, 0, 0), LATER, ANSWER(1)),
    SEED("taken-hostile", LIFE(2, 0, 0, ENDING_HONEST), GREET(0), MAP(41, 4, 4), ANSWER(0), OP_READ, 0, 255,
         TAMPER(0, 15, 0), MS, GREET(1), LATER, TAMPER(0, 0, 3), LATER, SAY(0, SAYING_ANSWER, 5, 0, 0), LATER,
         ANSWER(1)),
    SEED("taken-mid-answer", LIFE(2, 0, 0, ENDING_HONEST), GREET(0), MAP(41, 4, 4), ANSWER(0), OP_READ, 0, 255,
         SAY(0, SAYING_ANSWER, 5, HOW_HELD, 0), OP_DELIVER, 0, 45, MS, GREET(1), LATER, OP_DELIVER, 0, 255, ANSWER(1)),
    SEED("taken-fewer-cpus", LIFE(8, 0, 0, ENDING_HONEST), GREET(0), GREET(1), GREET(2), GREET(3), CHUNKS(90, 2, 4),
         ANSWER(0), ANSWER(1), ANSWER(2), ANSWER(3), OP_READ, 0, 255, OP_READ, 1, 255, MS, LATER, ANSWER(2), ANSWER(3)),
    SEED("unasked-skipped", LIFE(1, 0, 0, ENDING_HONEST), GREET(0), SAY(0, SAYING_SKIPPED, 1, 0, 0), LATER, GREET(0)),

    /* ---- lies ---- */
    SEED("lie-id", LIFE(2, 0, 0, ENDING_HONEST), TWO_READY, MAP(5, 4, 4), LIE(0, SAYING_ANSWER, 1, 0, 0, FIELD_ID, 1),
         LIE(1, SAYING_ANSWER, 1, 0, 0, FIELD_HUGE_ID, 0), LATER),
    SEED("lie-count", LIFE(1, 0, 0, ENDING_HONEST), GREET(0), CHUNKS(9, 3, 4), SAY(0, SAYING_ANSWER, 1, 0, 0),
         LIE(0, SAYING_ANSWER, 2, 0, 0, FIELD_COUNT, 3)),
    SEED("lie-body", LIFE(2, 0, 0, ENDING_HONEST), TWO_READY, CHUNKS(9, 3, 4),
         LIE(0, SAYING_ANSWER, 2, 0, 0, FIELD_BODY, 4),
         LIE(1, SAYING_ANSWER, 2, HOW_FIRST_FAILS, 0, FIELD_RAW_BODY, 0)),
    SEED("lie-failures", LIFE(1, 0, 0, ENDING_HONEST), GREET(0), CHUNKS(9, 9, 4),
         LIE(0, SAYING_ANSWER, 5, HOW_FIRST_FAILS | HOW_LAST_FAILS, 0, FIELD_RAW_BODY, 8)),
    SEED("lie-claims", HUGE_REPLIES(1, ENDING_HONEST), GREET(0), TASK(0, 4, 0, 1),
         LIE(0, SAYING_ANSWER, 1, 0, 100, FIELD_BODY_POWER, 38), LATER),
    SEED("lie-code", LIFE(2, 0, 0, ENDING_HONEST), TWO_READY, MAP(5, 4, 4),
         LIE(0, SAYING_ERROR, 1, 0, 0, FIELD_CODE, 3), LIE(1, SAYING_ANSWER, 1, 0, 0, FIELD_TYPE, 5), LATER),
    SEED("lie-raw", LIFE(2, 0, 0, ENDING_HONEST), TWO_READY, MAP(5, 4, 4),
         LIE(0, SAYING_ANSWER, 1, 0, 0, FIELD_RAW_HEADER, 38), OP_RAW, 1, 5, 'h', 'e', 'l', 'l', 'o', OP_RAW, 1, 2, 1,
         2, LATER),
    SEED("unasked", LIFE(1, 0, 0, ENDING_HONEST), GREET(0), SAY(0, SAYING_RESULT, 1, 0, 3), LATER, GREET(0), OP_RAW, 0,
         3, 1, 2, 3),
    SEED("too-early", LIFE(1, 0, 0, ENDING_HONEST), SAY(0, SAYING_READY, 0, 0, 0), LATER, GREET(0),
         SAY(0, SAYING_HELLO, 0, 0, 0)),
    SEED("answers-unsent", LIFE(1, 0, 0, ENDING_DEATH), GREET(0), OP_ROOM, 0, 45, MAP(4, K2_5(2), 4),
         SAY(0, SAYING_ANSWER, 1, 0, 0), OP_READ, 0, 255),

    /* ---- starts that fail ---- */
    SEED("start-other-build", LIFE(1, 0, 0, ENDING_HONEST), MAP(3, 1, 1),
         LIE(0, SAYING_HELLO, 0, 0, 0, FIELD_RAW_BODY, 4), OP_EXIT, 0, EXIT_CODE),
    SEED("start-declined", LIFE(2, PARENT_NEEDS_INIT, 0, ENDING_HONEST), MAP(3, 1, 1), OP_NEXT, 0, 0,
         SAY(0, SAYING_REFUSAL, 0, HOW_LONG_TEXT, 0), S_2, GREET(1), ANSWER(0), ANSWER(1)),
    SEED("start-mute", LIFE(1, PARENT_NEEDS_INIT, 0, ENDING_HONEST), MAP(3, 1, 1), MS_130, LATER, OP_EXIT, 0, EXIT_CODE,
         LATER, OP_EXIT, 0, EXIT_SIGNAL, LATER, OP_DRIVE),
    SEED("start-breaks", LIFE(2, 0, 0, ENDING_HONEST), OP_BROADCAST, 1, 1, MAP(3, 1, 1), TASK(0, 1, 0, 1), OP_EXIT, 0,
         EXIT_CODE, OP_EXIT, 0, EXIT_EXPLAINED, LATER, OP_EXIT, 0, EXIT_UNKNOWN, LATER),
    SEED("start-refused", LIFE(1, 0, 0, ENDING_HONEST), MAP(3, 1, 1), OP_REFUSE, REFUSAL_BUSY, OP_EXIT, 0, EXIT_CODE,
         LATER, OP_REFUSE, REFUSAL_BUILD, LATER, OP_REFUSE, REFUSAL_AGAIN, LATER, LATER),
    SEED("hangs-up", LIFE(2, 0, 0, ENDING_HONEST), TWO_READY, MAP(6, 4, 4), OP_HANG_UP, 0, OP_EXIT, 0, EXIT_CODE,
         OP_HANG_UP, 1, S_2, OP_EXIT, 1, EXIT_SIGNAL),

    /* ---- deaths ---- */
    SEED("dies-in-item", LIFE(2, 0, 0, ENDING_HONEST), TWO_READY, CHUNKS(12, 4, 1), OP_READ, 0, 255, OP_NEXT, 0, 1,
         OP_EXIT, 0, EXIT_SIGNAL, LATER, GREET(0), OP_READ, 0, 255, OP_EXIT, 0, EXIT_SIGNAL, LATER),
    SEED("dies-often", ATTEMPTS(1, 3, ENDING_HONEST), GREET(0), TASK(0, 1, 0, 1), TASK(0, 1, 0, 1), OP_READ, 0, 255,
         OP_EXIT, 0, EXIT_SIGNAL, LATER, GREET(0), OP_READ, 0, 255, OP_EXIT, 0, EXIT_UNKNOWN, LATER, GREET(0), OP_READ,
         0, 255, OP_EXIT, 0, EXIT_CODE),
    SEED("dies-unread", ATTEMPTS(1, 1, ENDING_HONEST), GREET(0), MAP(2, 1, 1), OP_EXIT, 0, EXIT_SIGNAL, LATER, GREET(0),
         OP_EXIT, 0, EXIT_SIGNAL, LATER, GREET(0), OP_EXIT, 0, EXIT_SIGNAL, LATER, GREET(0), OP_EXIT, 0, EXIT_SIGNAL,
         LATER, GREET(0), OP_EXIT, 0, EXIT_SIGNAL, LATER),
    SEED("dies-once", LIFE(1, 0, 0, ENDING_HONEST), GREET(0), MAP_WITH(MAP_ONCE, 3, 1, 1, 0), OP_READ, 0, 255, OP_EXIT,
         0, EXIT_SIGNAL, LATER, GREET(0), ANSWER(0)),
    SEED("dies-idle", LIFE(1, 0, 0, ENDING_HONEST), GREET(0), OP_EXIT, 0, EXIT_CODE, MAP(1, 1, 1), MS_8, GREET(0)),
    SEED("dies-with-answers", LIFE(1, 0, 0, ENDING_HONEST), GREET(0), CHUNKS(6, 6, 4),
         SAY(0, SAYING_ANSWER, 2, HOW_HELD, 0), OP_EXIT, 0, EXIT_ALL_SAID + EXIT_CODE, LATER, GREET(0),
         SAY(0, SAYING_ANSWER, 3, HOW_HELD, 0), OP_DELIVER, 0, 44, OP_EXIT, 0, EXIT_KEEPS_PIPE, LATER),
    SEED("dies-in-broadcast", LIFE(2, 0, 0, ENDING_HONEST), TWO_READY, OP_BROADCAST, 4, 4, OP_EXIT, 0, EXIT_SIGNAL,
         LATER, GREET(0), ANSWER(0), ANSWER(1), OP_BROADCAST, 4, 4, SAY(0, SAYING_ANSWER, 1, HOW_ALL_FAIL, 0),
         ANSWER(1), OP_BROADCAST, 4, 4, OP_READ, 0, 255, OP_EXIT, 0, EXIT_SIGNAL, ANSWER(1)),

    /* ---- deadlines ---- */
    SEED("deadline", LIFE(2, 0, 0, ENDING_HONEST), TWO_READY, MAP_WITH(0, 6, 4, 4, 20), OP_NEXT, 0, 1, OP_TIME, 14,
         OP_NEXT, 0, 1, OP_TIME, 14, LATER, LATER, GREET(0)),
    SEED("deadline-ignored", LIFE(1, 0, 0, ENDING_HONEST), GREET(0), TASK(0, 1, 3, 1), TASK(0, 1, 0, 1), OP_HABITS, 0,
         HABIT_IGNORES_TERM | HABIT_LINGERS, LATER, LATER, S_2, LATER),
    SEED("deadline-late", LIFE(1, 0, 0, ENDING_HONEST), GREET(0), TASK(0, 1, 3, 1),
         SAY(0, SAYING_ANSWER, 1, HOW_HELD, 4), QUIETLY(OP_DELIVER), 0, 255, MS_8),

    /* ---- cancelling, and the end ---- */
    SEED("cancel", LIFE(2, 0, 0, ENDING_HONEST), TWO_READY, CHUNKS(40, 4, 1), OP_CANCEL, 0, ANSWER(0), ANSWER(1),
         TASK(0, 1, 0, 1), TASK(0, 1, 0, 1), TASK(0, 1, 0, 1), OP_CANCEL, 2, OP_CANCEL, 0, LATER, ANSWER(1)),
    SEED("cancel-behind", LIFE(1, 0, 0, ENDING_HONEST), GREET(0), TASK(0, 1, 0, 1), ANSWER(0), TASK(0, 1, 0, 1),
         TASK(0, K2_5(20), 0, 1), TASK(0, 1, 0, 1), OP_CANCEL, 1, LATER, GREET(0), ANSWER(0)),
    SEED("cancel-borrowed", LIFE(1, 0, 0, ENDING_HONEST), GREET(0), OP_ROOM, 0, 20, TASK(TASK_OWNS, K2_5(20), 0, 1),
         OP_HABITS, 0, HABIT_IGNORES_TERM, OP_CANCEL, 0, OP_READ, 0, 255, LATER),
    SEED("shutdown-drain", LIFE(2, 0, 0, ENDING_HONEST), TWO_READY, MAP(9, 4, 4), TASK(0, 1, 0, 1), OP_SHUTDOWN, 0,
         ANSWER(0), ANSWER(1), ANSWER(0)),
    SEED("shutdown-cancel", LIFE(2, 0, 0, ENDING_HONEST), TWO_READY, CHUNKS(90, 4, 4), TASK(0, 1, 0, 1), OP_BROADCAST,
         1, 1, OP_SHUTDOWN, 1, ANSWER(0), ANSWER(1)),
    SEED("shutdown-terminate", LIFE(2, 0, 0, ENDING_HONEST), TWO_READY, MAP(9, 4, 4), OP_BROADCAST, 1, 1, OP_HABITS, 0,
         HABIT_IGNORES_TERM, OP_SHUTDOWN, 2, LATER),
    SEED("shutdown-kill", LIFE(2, 0, 0, ENDING_DEATH), TWO_READY, MAP(9, 4, 4), OP_HABITS, 0, HABIT_LINGERS,
         OP_SHUTDOWN, 0, OP_SHUTDOWN, 2, OP_SHUTDOWN, 3, S_2),
    SEED("shutdown-slow", LIFE(1, PARENT_RESTARTS, 1, ENDING_HONEST), GREET(0), TASK(0, 1, 0, 1), ANSWER(0),
         OP_SHUTDOWN, 0, OP_NEXT, 0, 0, OP_NEXT, 0, 0, MS_130, LATER),
    SEED("clear", LIFE(2, PARENT_OWN_PIDFD, 0, ENDING_CLEAR), TWO_READY, OP_BROADCAST, 4, 4, ANSWER(0), ANSWER(1),
         OP_HABITS, 0, HABIT_LINGERS, CHUNKS(40, 4, 1), TASK(TASK_FDS, 4, 0, 1), TASK(0, 4, 0, 1),
         SAY(0, SAYING_ANSWER, 2, HOW_CUT, 0)),
    SEED("abandon", LIFE(2, PARENT_OWN_PIDFD, 0, ENDING_ABANDON), TWO_READY, OP_BROADCAST, 4, 4, ANSWER(0), ANSWER(1),
         CHUNKS(40, 4, 1), TASK(TASK_FDS, 4, 0, 1), TASK(0, 4, 0, 1), SAY(0, SAYING_ANSWER, 2, HOW_CUT, 0)),

    /* ---- the system ---- */
    SEED("slow-reader", LIFE(1, PARENT_SMALL_PIPES, 0, ENDING_HONEST), GREET(0), OP_ROOM, 0, 3, MAP(6, K2_5(2), 4),
         OP_ROOM, 0, 200, OP_READ, 0, 100, OP_READ, 0, 255, ANSWER(0),
         MAP_WITH(MAP_BYTES | MAP_UNEVEN, 9, K2_5(1), 0, 0), ANSWER(0)),
    SEED("moves", LIFE(2, PARENT_OWN_PIDFD, 0, ENDING_HONEST), TWO_READY, OP_MOVE, 0, OP_NUDGE, 1, OP_MOVE, 1, OP_EXIT,
         0, EXIT_CODE, MAP(2, 1, 1)),
    SEED("unnamed", LIFE(2, 0, 0, ENDING_HONEST), OP_HABITS_FROM_NOW, HABIT_UNNAMED, OP_EXIT, 0, EXIT_CODE, OP_EXIT, 0,
         EXIT_CODE, LATER, LATER, GREET(0), MAP(3, 1, 1), OP_NUDGE, 0, GREET(0), ANSWER(0), GREET(1), OP_MOVE, 1,
         ANSWER(1)),
    SEED("unnamed-garbage", LIFE(2, 0, 0, ENDING_HONEST), OP_HABITS_FROM_NOW, HABIT_UNNAMED, OP_EXIT, 0, EXIT_CODE,
         OP_EXIT, 0, EXIT_CODE, LATER, LATER, OP_RAW, 0, 1, 1, OP_RAW, 1, 1, 1),
    SEED("habits", LIFE(2, 0, 0, ENDING_HONEST), OP_HABITS_FROM_NOW, 15, MS_130, S_2, S_2, S_2),
    SEED("no-memory-init", NO_MEMORY_AT(2, ENDING_HONEST), MAP(2, 1, 1)),
    SEED("no-memory-start", NO_MEMORY_AT(9, ENDING_HONEST), MAP(2, 1, 1)),
    SEED("no-memory-send", LIFE(2, 0, 0, ENDING_HONEST), TWO_READY, OP_SCARCE, 0, 2, MAP(20, K2_5(1), 4), OP_SCARCE, 0,
         1, TASK(0, 1, 0, 1), OP_SCARCE, 1, 1, TASK(0, K2_5(3), 0, 2), ANSWER(0), ANSWER(1)),
    SEED("no-memory-reply", HUGE_REPLIES(1, ENDING_HONEST), GREET(0), TASK(0, 1, 0, 1), OP_SCARCE, 0, 1,
         SAY(0, SAYING_ANSWER, 1, 0, 100), MAP(3, 1, 1), OP_SCARCE, 0, 3, SAY(0, SAYING_ANSWER, 1, HOW_ALL_FAIL, 0)),
    SEED("no-memory-broadcast", LIFE(1, 0, 0, ENDING_HONEST), GREET(0), OP_SCARCE, 1, 1, OP_BROADCAST, 1, 1, OP_SCARCE,
         2, 1, OP_BROADCAST, 1, 2, OP_SCARCE, 3, 2, OP_BROADCAST, 1, 3, ANSWER(0)),
    SEED("no-memory-watch", LIFE(1, 0, 0, ENDING_HONEST), GREET(0), OP_SCARCE, 0, 1, OP_MOVE, 0, LATER, S_2),
};

void save_parent_seeds(void)
{
    for (size_t i = 0; i < sizeof seeds / sizeof *seeds; i++) {
        put(seeds[i].bytes, seeds[i].size);
        save(seeds[i].name);
    }
}

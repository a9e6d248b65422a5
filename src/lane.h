/* lane: the tasks of one function and kind as the items of an endless job. Pure.
 *
 * Item i of the job is the i-th task that was added; a ring holds a pointer for each from the oldest that has not ended
 * on. While one task goes on for ever the ring would grow with every other that passes by, so a lane whose ring has
 * become long for what is in it is retired: it takes nothing more, ends when its last task does, and a new one takes
 * its place.
 * Must not know: what a task is beside its head, slots, time. */
#ifndef PROCPOOL_LANE_H
#define PROCPOOL_LANE_H

#include "job.h"

struct lane {
    struct job job; /* first: the job of a lane is the lane */
    struct lane *next_retired, *prev_retired;
};

enum { LANE_DEADLINES = 1, LANE_AT_MOST_ONCE = 2, LANE_FDS = 4, LANE_KINDS = 8 };

/* For tasks of this function and kind (LANE_... or'ed). NULL: no memory. */
struct lane *lane_create(uint32_t function, unsigned kind);
void lane_destroy(struct lane *lane); /* NULL is fine */

/* Whether it should be retired before more is added. */
bool lane_is_stretched(const struct lane *lane);

/* Room for one more. -ENOMEM. Then lane_add cannot fail: the new item is at job.count - 1. */
int lane_reserve(struct lane *lane);
void lane_add(struct lane *lane, struct job_item *item);

/* Item i has ended: forget it. */
void lane_drop(struct lane *lane, uint64_t i);

#endif

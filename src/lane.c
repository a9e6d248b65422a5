/* lane: see lane.h. Gaps leave the ring at its front alone, so it is as long as what lies between the oldest item that
 * has not ended and the newest. */
#include "lane.h"
#include <errno.h>
#include <stdlib.h>

enum { FIRST_CAPACITY = 64, LEAST_STRETCH = 8192 };

struct lane *lane_create(uint32_t function, unsigned kind)
{
    struct lane *lane = calloc(1, sizeof *lane);
    struct job_item **ring = malloc(FIRST_CAPACITY * sizeof(struct job_item *));
    if (!lane || !ring) {
        free(lane);
        free(ring);
        return NULL;
    }
    lane->job = (struct job){.kind = JOB_LANE,
                             .function = function,
                             .ring = ring,
                             .ring_mask = FIRST_CAPACITY - 1,
                             .has_deadlines = kind & LANE_DEADLINES,
                             .at_most_once = kind & LANE_AT_MOST_ONCE,
                             .has_fds = kind & LANE_FDS};
    job_begin(&lane->job);
    return lane;
}

void lane_destroy(struct lane *lane)
{
    if (!lane)
        return;
    free(lane->job.ring);
    free(lane->job.message);
    free(lane);
}

bool lane_is_stretched(const struct lane *lane)
{
    return lane->job.count - lane->job.ring_base > LEAST_STRETCH + 4 * lane->job.unended_count;
}

/* Twice the ring: every item moves to where the new mask puts it. */
static int grow(struct lane *lane)
{
    struct job *job = &lane->job;
    uint64_t mask = job->ring_mask * 2 + 1;
    struct job_item **ring = malloc((mask + 1) * sizeof(struct job_item *));
    if (!ring)
        return -ENOMEM;
    for (uint64_t i = job->ring_base; i < job->count; i++)
        ring[i & mask] = job->ring[i & job->ring_mask];
    free(job->ring);
    job->ring = ring;
    job->ring_mask = mask;
    return 0;
}

int lane_reserve(struct lane *lane)
{
    return lane->job.count - lane->job.ring_base <= lane->job.ring_mask ? 0 : grow(lane);
}

void lane_add(struct lane *lane, struct job_item *item)
{
    item->slot = JOB_NO_SLOT;
    lane->job.has_buffers |= item->buffer != NULL;
    lane->job.ring[lane->job.count++ & lane->job.ring_mask] = item;
}

void lane_drop(struct lane *lane, uint64_t i)
{
    struct job *job = &lane->job;
    job->ring[i & job->ring_mask] = NULL;
    while (job->ring_base < job->count && !job->ring[job->ring_base & job->ring_mask])
        job->ring_base++;
}

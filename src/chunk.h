/* chunk: how many items are handed to a worker at a time. Pure.
 *
 * As many as take a fixed time, by the measured cost of an item: one while that is unknown, fewer towards the end of
 * the job so that the workers end together, never so many that their bytes or their number get out of hand.
 * Must not know: slots, workers other than their number, time. */
#ifndef PROCPOOL_CHUNK_H
#define PROCPOOL_CHUNK_H

#include "job.h"

/* Items to take off the front of the job's pending ones, at least 1, at most tasks_left (not 0). *bytes_out: see
 * job_fit. */
uint64_t chunk_choose(const struct job *job, unsigned workers, uint64_t tasks_left, size_t *bytes_out);

/* Whether a chunk of the job may be sent to a worker that has something to do already. */
bool chunk_may_queue(const struct job *job, unsigned workers);

#endif

/* place: tasks run in the calling thread: what the default pool is inside a worker.
 *
 * No isolation, no deadlines, but the same outcomes.
 * Must not know: pools, workers. */
#ifndef PROCPOOL_PLACE_H
#define PROCPOOL_PLACE_H

#include "job.h"

/* Every item of a map. */
void place_run_map(struct job *job, pool_map_fn *fn);
void place_run_map_bytes(struct job *job, pool_task_fn *fn);

/* One payload. What the function returned; its text, at least CALL_TEXT_BYTES; its reply, malloc'd, or {NULL, 0}. */
int place_run(pool_task_fn *fn, const struct job_item *item, char *text_out, struct pool_bytes *reply_out);

#endif

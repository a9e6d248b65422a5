/* chunk: see chunk.h. What is wanted comes first, then every bound on it. */
#include "chunk.h"

#define CHUNK_NS          UINT64_C(500000) /* handing it over costs less than a percent of this */
#define LEAST_CHUNK_NS    UINT64_C(20000)
#define CHUNK_BYTES       ((size_t)128 << 10)
#define FIXED_CHUNK_BYTES ((size_t)64 << 20) /* bound of a chunk whose size the caller chose */
#define MOST_ITEMS        UINT64_C(1000000)
enum { MANY_TASKS = 8 }; /* for each worker: below that short tasks wait for a worker of their own */

/* As many items as take CHUNK_NS; one while the cost is unknown; less towards the end, so that the workers end
 * together, but not so few that handing them over costs more than they do. */
static uint64_t choose_items(const struct job *job, unsigned workers)
{
    uint64_t item_ns = job_item_ns(job);
    if (!item_ns)
        return 1;
    uint64_t most = CHUNK_NS / item_ns, least = LEAST_CHUNK_NS / item_ns;
    uint64_t share = job->pending_count / (2 * (uint64_t)workers);
    if (job->kind == JOB_LANE) /* its tasks may be as unlike as they like: whoever is behind a long one waits */
        least = least < share / 2 ? least : share / 2;
    share = share > least ? share : least;
    share = share < most ? share : most;
    return share ? share : 1;
}

uint64_t chunk_choose(const struct job *job, unsigned workers, uint64_t tasks_left, size_t *bytes_out)
{
    const struct span *front = job->pending;
    uint64_t count = job->chunk_size ? job->chunk_size : choose_items(job, workers);
    count = front->suspect ? front->count : count; /* all that are in doubt together */
    count = job->alone ? 1 : count;
    count = count < MOST_ITEMS ? count : MOST_ITEMS;
    count = count < front->count ? count : front->count;
    count = count < tasks_left ? count : tasks_left;
    return job_fit(job, front->first, count, job->chunk_size ? FIXED_CHUNK_BYTES : CHUNK_BYTES, bytes_out);
}

bool chunk_may_queue(const struct job *job, unsigned workers)
{
    bool many = job->kind != JOB_LANE || job_item_ns(job) >= LEAST_CHUNK_NS ||
                job->pending_count >= MANY_TASKS * (uint64_t)workers;
    return many && !job->stop_on_error && !job->alone;
}

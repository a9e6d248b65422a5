/* map: the map functions. Checks what the caller gave, lays it out as a job, and runs the job in a pool or in place.
 * Must not know: workers, how a pool is driven. */
#include "error.h"
#include "options.h"
#include "place.h"
#include "pool.h"
#include "procpool.h"
#include <errno.h>
#include <stdlib.h>

struct map {
    struct job job;
    callable_fn *fn;
    struct pool_map_options options;
};

/* ---- what the caller gave ---- */

static int settle_options(struct map *map, const struct pool_map_options *given)
{
    map->options = (struct pool_map_options)POOL_MAP_OPTIONS_INIT;
    int rc = options_import(&map->options, sizeof map->options, given, "pool_map_options");
    if (rc)
        return rc;
    const struct pool_map_options *options = &map->options;
    rc = pool_check_deadline(options->timeout_ms);
    if (rc)
        return rc;
    if (options->reserved)
        return error_set(-EINVAL, "pool_map_options.reserved must be 0");
    map->job.status_out = options->status_out;
    map->job.code_out = options->code_out;
    map->job.chunk_size = options->chunk_size;
    map->job.timeout_ns = (uint64_t)options->timeout_ms * 1000000u;
    map->job.at_most_once = options->at_most_once;
    map->job.stop_on_error = options->stop_on_error;
    return 0;
}

static int check_arrays(const void *items, size_t item_size, const void *results, size_t result_size, size_t count)
{
    size_t unused;
    if (!count)
        return 0; /* an empty array is often NULL */
    if (!items || !item_size)
        return error_set(-EINVAL, "pool_map: items is NULL or item_size is 0");
    if (!results != !result_size)
        return error_set(-EINVAL, "pool_map: results is %s but result_size is %zu", results ? "set" : "NULL",
                         result_size);
    if (__builtin_mul_overflow(item_size, count, &unused) || __builtin_mul_overflow(result_size, count, &unused))
        return error_set(-EOVERFLOW, "pool_map: %zu items of %zu bytes, results of %zu: more than memory can hold",
                         count, item_size, result_size);
    return 0;
}

static int check_payloads(const struct pool_bytes *items, size_t count)
{
    if (!items && count)
        return error_set(-EINVAL, "pool_map_bytes: items is NULL");
    for (size_t i = 0; i < count; i++) {
        if (!items[i].data && items[i].size)
            return error_set(-EINVAL, "pool_map_bytes: item %zu is NULL with a size of %zu", i, items[i].size);
        if (items[i].size > SIZE_MAX / 2)
            return error_set(-EOVERFLOW, "pool_map_bytes: item %zu has a size of %zu", i, items[i].size);
    }
    return 0;
}

/* ---- running ---- */

static int run_in_pool(struct pool *pool, struct map *map)
{
    struct pool_progress progress = {map->options.progress, map->options.progress_arg};
    if (pool->in_place) {
        job_begin(&map->job);
        if (map->job.kind == JOB_FIXED)
            place_run_map(&map->job, (pool_map_fn *)map->fn);
        else
            place_run_map_bytes(&map->job, (pool_task_fn *)map->fn);
        return 0;
    }
    return pool_run(pool, &map->job, map->fn, progress.report ? &progress : NULL);
}

static int run_map(struct pool *pool, struct map *map)
{
    struct job *job = &map->job;
    pool = pool ? pool : pool_default();
    if (!pool)
        return pool_default_error();
    if (!job->count)
        return pool_check(pool);
    int rc = run_in_pool(pool, map);
    if (!rc && job->status)
        rc = error_set(job->status, "%s", job->message ? job->message : pool_strerror(job->status));
    free(job->message);
    return rc;
}

int pool_map_with(struct pool *pool, pool_map_fn *fn, const void *items, size_t item_size, void *results,
                  size_t result_size, size_t count, const struct pool_map_options *options)
{
    struct map map = {.fn = (callable_fn *)fn,
                      .job = {.kind = JOB_FIXED,
                              .count = count,
                              .items = items,
                              .results = results,
                              .item_size = item_size,
                              .result_size = result_size}};
    int rc = settle_options(&map, options);
    if (!rc && !fn)
        rc = error_set(-EINVAL, "pool_map: fn is NULL");
    if (!rc)
        rc = check_arrays(items, item_size, results, result_size, count);
    return rc ? rc : run_map(pool, &map);
}

int pool_map(struct pool *pool, pool_map_fn *fn, const void *items, size_t item_size, void *results, size_t result_size,
             size_t count)
{
    return pool_map_with(pool, fn, items, item_size, results, result_size, count, NULL);
}

int pool_map_bytes(struct pool *pool, pool_task_fn *fn, const struct pool_bytes *items, size_t count,
                   struct pool_bytes *results_out, const struct pool_map_options *options)
{
    struct map map = {.fn = (callable_fn *)fn,
                      .job = {.kind = JOB_BYTES, .count = count, .inputs = items, .replies = results_out}};
    int rc = settle_options(&map, options);
    if (!rc && !fn)
        rc = error_set(-EINVAL, "pool_map_bytes: fn is NULL");
    if (!rc)
        rc = check_payloads(items, count);
    return rc ? rc : run_map(pool, &map);
}

void pool_bytes_clear(struct pool_bytes *bytes)
{
    free(bytes->data);
    *bytes = (struct pool_bytes){NULL, 0};
}

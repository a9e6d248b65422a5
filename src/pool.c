#include "pool.h"
#include "call.h"
#include "child.h"
#include "error.h"
#include "options.h"
#include "procpool.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <utlist.h>

enum { PROGRESS_MS = 100 };

/* ---- all pools, and fork() ---- */

static pthread_mutex_t registry_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t default_lock = PTHREAD_MUTEX_INITIALIZER;
static struct pool *registry;
static struct pool *default_pool;
static _Thread_local bool holds_a_lock; /* a fork by this thread is a backend's own, in the middle of a pool's work */

static void lock_pool(struct pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    holds_a_lock = true;
}

static void unlock_pool(struct pool *pool)
{
    holds_a_lock = false;
    pthread_mutex_unlock(&pool->lock);
}

static void before_fork(void)
{
    struct pool *pool;
    if (holds_a_lock)
        return;
    pthread_mutex_lock(&default_lock);
    pthread_mutex_lock(&registry_lock);
    DL_FOREACH(registry, pool)
    pthread_mutex_lock(&pool->lock);
}

static void after_fork_in_parent(void)
{
    struct pool *pool;
    if (holds_a_lock)
        return;
    DL_FOREACH(registry, pool)
    pthread_mutex_unlock(&pool->lock);
    pthread_mutex_unlock(&registry_lock);
    pthread_mutex_unlock(&default_lock);
}

/* The child keeps no fd of any pool: a lifeline that it held would outlive its owner. */
static void after_fork_in_child(void)
{
    struct pool *pool;
    DL_FOREACH(registry, pool)
    {
        pool->forked = true;
        if (!holds_a_lock)
            loop_abandon(&pool->loop); /* a backend's own child closes every fd by itself */
    }
    registry = NULL;
    default_pool = NULL;
    registry_lock = default_lock = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
    holds_a_lock = false;
}

static void watch_forks(void)
{
    pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
}

static void enter_registry(struct pool *pool)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, watch_forks);
    pthread_mutex_lock(&registry_lock);
    DL_APPEND(registry, pool);
    pthread_mutex_unlock(&registry_lock);
}

static void leave_registry(struct pool *pool)
{
    pthread_mutex_lock(&registry_lock);
    DL_DELETE(registry, pool);
    pthread_mutex_unlock(&registry_lock);
}

/* ---- create ---- */

/* Whether this program can be started anew. */
static int check_init(const struct backend *backend)
{
    if (child_is_unborn())
        return error_set(POOL_ENOTINIT,
                         "this process was started as a worker and cannot have workers before pool_init(): "
                         "make no pools in constructors");
    if (!(backend->capabilities & BACKEND_NEEDS_INIT))
        return 0;
    if (!pool_is_initialized())
        return error_set(POOL_ENOTINIT,
                         "start method \"%s\" starts this program again: write `pool_init();` as the first "
                         "statement of main()",
                         backend->name);
    if (getauxval(AT_SECURE))
        return error_set(-EPERM, "start method \"%s\" is not for set-user-ID programs: use \"fork\"", backend->name);
    if (callable_started_by_loader())
        return error_set(-ENOEXEC,
                         "start method \"%s\" cannot start a program that was started through its dynamic loader: "
                         "start it directly, or use \"fork\"",
                         backend->name);
    return 0;
}

struct callable {
    uint8_t bytes[CALLABLE_MAX_BYTES];
    size_t size;
};

static int describe(callable_fn *fn, struct callable *callable, const char *what, struct wire_bytes *bytes_out)
{
    char text[256] = "";
    *bytes_out = (struct wire_bytes){.data = callable->bytes};
    if (!fn)
        return 0;
    int rc = callable_describe(fn, callable->bytes, &callable->size, text);
    if (rc)
        return error_set(rc, "the %s: %s", what, text);
    bytes_out->size = callable->size;
    return 0;
}

static int make_config(const struct pool_options *options, unsigned flags, uint8_t **config_out, size_t *size_out)
{
    struct callable *callables = malloc(3 * sizeof *callables);
    struct wire_config config = {.flags = flags,
                                 .max_result_bytes = options->max_result_bytes,
                                 .max_worker_bytes = options->max_worker_bytes,
                                 .arg = {options->arg, options->arg_size}};
    if (!callables)
        return error_system(-ENOMEM, "making a pool");
    int rc = describe((callable_fn *)options->initializer, &callables[0], "initializer", &config.initializer);
    if (!rc)
        rc = describe((callable_fn *)options->finalizer, &callables[1], "finalizer", &config.finalizer);
    if (!rc)
        rc = describe((callable_fn *)options->preload, &callables[2], "preload", &config.preload);
    if (!rc) {
        *size_out = wire_config_size(&config);
        *config_out = malloc(*size_out);
        rc = *config_out ? 0 : error_system(-ENOMEM, "making a pool");
    }
    if (!rc)
        wire_encode_config(&config, *config_out);
    free(callables);
    return rc;
}

static struct sched_config make_sched_config(const struct pool_options *options, const struct backend *backend,
                                             unsigned workers)
{
    return (struct sched_config){
        .workers = workers,
        .restarts = backend->capabilities & BACKEND_RESTARTS,
        .wears_out = options->max_tasks_per_worker || options->max_worker_bytes,
        .max_tasks_per_worker = options->max_tasks_per_worker,
        .max_attempts = options->max_attempts,
        .start_timeout_ns = (uint64_t)options->start_timeout_ms * 1000000u,
        .kill_grace_ns = options->soft_kill_grace_ms < 0 ? 0 : (uint64_t)options->soft_kill_grace_ms * 1000000u,
    };
}

/* Backend, configuration and loop; nothing is started yet but a backend's helper. */
static int make_loop(struct pool *pool, const struct pool_options *options, const struct backend *backend,
                     unsigned workers)
{
    struct loop_options loop = {.sched = make_sched_config(options, backend, workers),
                                .backend = backend,
                                .max_result_bytes = options->max_result_bytes};
    bool recycles = loop.sched.wears_out && loop.sched.restarts;
    unsigned flags =
        (backend->capabilities & BACKEND_PRELOADS ? 0 : WIRE_CONFIG_PRELOAD) | (recycles ? WIRE_CONFIG_RECYCLES : 0);
    char text[256] = "";
    int rc = make_config(options, flags, &loop.config, &loop.config_size);
    if (rc)
        return rc;
    struct backend_setup setup = {.hooks = pool_hooks()};
    if (options->preload && backend->capabilities & BACKEND_PRELOADS) {
        setup.preload = loop.config;
        setup.preload_size = loop.config_size;
    }
    rc = backend->open(&setup, &loop.backend_state, text);
    if (!rc)
        rc = loop_init(&pool->loop, &loop);
    if (!rc)
        return 0;
    error_set(rc, "making a pool of start method \"%s\": %s%s%s", backend->name, pool_strerror(rc), *text ? ": " : "",
              text);
    backend->close(loop.backend_state);
    free(loop.config);
    return rc;
}

static void drive(struct pool *pool, int timeout_ms);

/* Start the workers, and wait for the first. The lock is held. */
static int boot(struct pool *pool, bool asked)
{
    struct loop *loop = &pool->loop;
    loop_boot(loop);
    bool refused = loop->start_refused;
    if (refused && !asked && loop_live_count(loop))
        sched_limit_workers(&loop->sched, loop_live_count(loop));
    else if (refused)
        return error_set(loop->start_error, "%s", loop->start_text);
    while (!sched_ready_count(&loop->sched) && !loop->broken)
        drive(pool, -1);
    if (loop->broken)
        return error_set(loop->start_error, "workers cannot be started: %s", loop->start_text);
    return 0;
}

static struct pool *allocate(void)
{
    struct pool *pool = calloc(1, sizeof *pool);
    if (!pool)
        return NULL;
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    return pool;
}

static void deallocate(struct pool *pool)
{
    pthread_cond_destroy(&pool->changed);
    pthread_mutex_destroy(&pool->lock);
    free(pool);
}

static int create(const struct pool_options *given, struct pool **pool_out)
{
    struct pool_options options = POOL_OPTIONS_INIT;
    const struct backend *backend;
    unsigned workers = 0;
    bool asked = false;
    int rc = options_import(&options, sizeof options, given, "pool_options");
    if (!rc)
        rc = options_settle(&options);
    if (!rc)
        rc = options_choose_backend(&options, &backend);
    if (!rc)
        rc = check_init(backend);
    if (!rc)
        rc = options_choose_workers(&options, &workers, &asked);
    if (rc)
        return rc;
    struct pool *pool = allocate();
    if (!pool)
        return error_system(-ENOMEM, "making a pool");
    rc = make_loop(pool, &options, backend, workers);
    if (rc) {
        deallocate(pool);
        return rc;
    }
    enter_registry(pool);
    lock_pool(pool);
    rc = boot(pool, asked);
    unlock_pool(pool);
    if (!rc) {
        *pool_out = pool;
        return 0;
    }
    leave_registry(pool);
    loop_clear(&pool->loop);
    deallocate(pool);
    return rc;
}

int pool_create(const struct pool_options *options, struct pool **pool_out)
{
    int cancel_state, unused;
    if (!pool_out)
        return error_set(-EINVAL, "pool_create: pool_out is NULL");
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel_state);
    int rc = create(options, pool_out);
    pthread_setcancelstate(cancel_state, &unused);
    return rc;
}

/* ---- waiting and driving; the lock is held ---- */

static void drive(struct pool *pool, int timeout_ms)
{
    struct epoll_event events[LOOP_EVENTS];
    unsigned jobs_ended = pool->loop.jobs_ended;
    pool->driving = true;
    unlock_pool(pool);
    int count = loop_wait(&pool->loop, events, timeout_ms);
    lock_pool(pool);
    pool->driving = false;
    loop_handle(&pool->loop, events, count);
    if (pool->sleepers && pool->loop.jobs_ended != jobs_ended)
        pthread_cond_broadcast(&pool->changed);
}

static void sleep_until_changed(struct pool *pool, int timeout_ms)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += (long)timeout_ms * 1000000;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    pool->sleepers++;
    holds_a_lock = false;
    if (timeout_ms < 0)
        pthread_cond_wait(&pool->changed, &pool->lock);
    else
        pthread_cond_timedwait(&pool->changed, &pool->lock, &until);
    holds_a_lock = true;
    pool->sleepers--;
}

static void take_turn(struct pool *pool, int timeout_ms)
{
    if (pool->driving)
        sleep_until_changed(pool, timeout_ms);
    else
        drive(pool, timeout_ms);
}

static void report_progress(struct pool *pool, struct job *job, const struct pool_progress *progress, uint64_t *next_ns)
{
    uint64_t now_ns = loop_now_ns();
    if (now_ns < *next_ns && !job->ended)
        return;
    *next_ns = now_ns + PROGRESS_MS * UINT64_C(1000000);
    size_t done = (size_t)(job->count - job->unended_count);
    unlock_pool(pool);
    int stop = progress->report(progress->arg, done, (size_t)job->count);
    lock_pool(pool);
    if (stop && !job->ended)
        loop_cancel(&pool->loop, job, POOL_ECANCELED);
}

static void wait_for(struct pool *pool, struct job *job, const struct pool_progress *progress)
{
    uint64_t next_ns = loop_now_ns() + PROGRESS_MS * UINT64_C(1000000);
    while (!job->ended) {
        take_turn(pool, progress ? PROGRESS_MS : -1);
        if (progress && !job->ended)
            report_progress(pool, job, progress, &next_ns);
    }
    if (progress)
        report_progress(pool, job, progress, &next_ns);
}

/* A thread enters for a call, and leaves; the last one out tells pool_destroy, the others whose turn it is. */
static int enter(struct pool *pool)
{
    if (pool->forked)
        return error_set(POOL_EFORKED,
                         "this pool belongs to the process that this one was forked from: make a new one");
    lock_pool(pool);
    int rc = pool->closing ? error_set(POOL_ECLOSED, "the pool is being destroyed") : 0;
    if (!rc && pool->loop.broken)
        rc = error_set(POOL_EBROKEN, "the pool is broken: %s", pool->loop.start_text);
    if (rc)
        unlock_pool(pool);
    else
        pool->users++;
    return rc;
}

static void leave(struct pool *pool)
{
    pool->users--;
    if (pool->sleepers)
        pthread_cond_broadcast(&pool->changed);
    unlock_pool(pool);
}

static int run(struct pool *pool, struct job *job, callable_fn *fn, const struct pool_progress *progress)
{
    char text[256] = "";
    int rc = enter(pool);
    if (rc)
        return rc;
    rc = functions_number(&pool->loop.functions, fn, &job->function, text);
    if (rc) {
        error_set(rc, "%s", text);
    } else {
        job_begin(job);
        loop_submit(&pool->loop, job);
        wait_for(pool, job, progress);
    }
    leave(pool);
    return rc;
}

int pool_run(struct pool *pool, struct job *job, callable_fn *fn, const struct pool_progress *progress)
{
    int cancel_state, unused;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel_state);
    int rc = run(pool, job, fn, progress);
    pthread_setcancelstate(cancel_state, &unused);
    return rc;
}

int pool_check(struct pool *pool)
{
    int rc = pool->in_place ? 0 : enter(pool);
    if (!rc && !pool->in_place)
        leave(pool);
    return rc;
}

/* ---- destroy ---- */

int pool_destroy(struct pool *pool)
{
    int cancel_state, unused;
    if (!pool || pool->in_place)
        return 0;
    if (pool->forked) {
        free(pool); /* locks of another process are not destroyed */
        return 0;
    }
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel_state);
    lock_pool(pool);
    pool->closing = true;
    loop_close(&pool->loop);
    while (!loop_is_down(&pool->loop))
        take_turn(pool, -1);
    while (pool->users)
        sleep_until_changed(pool, -1);
    unlock_pool(pool);
    leave_registry(pool);
    loop_clear(&pool->loop);
    deallocate(pool);
    pthread_setcancelstate(cancel_state, &unused);
    return 0;
}

/* ---- the default pool ---- */

static _Thread_local int default_error;

int pool_default_error(void)
{
    return default_error;
}

struct pool *pool_default(void)
{
    static struct pool in_place = {.in_place = true};
    if (call_place.worker_id != POOL_NOT_A_WORKER)
        return &in_place;
    pthread_mutex_lock(&default_lock);
    if (!default_pool)
        default_error = pool_create(NULL, &default_pool);
    struct pool *pool = default_pool;
    pthread_mutex_unlock(&default_lock);
    return pool;
}

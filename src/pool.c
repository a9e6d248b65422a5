/* pool: pools come and go: creation, the driving thread, shutdown and destruction, the default pool; and running a job
 * to its end. */
#include "pool.h"
#include "call.h"
#include "child.h"
#include "clock.h"
#include "cpus.h"
#include "error.h"
#include "options.h"
#include "procpool.h"
#include "registry.h"
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/auxv.h>

/* What was asked for, checked and completed. */
struct request {
    struct pool_options options;
    const struct backend *backend;
    unsigned workers;
    bool in_full; /* so many, or none */
};

/* ---- its parts ---- */

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
    char text[CALLABLE_TEXT_BYTES] = "";
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
                                 .spin_ns = options_spin_ns(options),
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

static struct sched_config make_sched_config(const struct request *request)
{
    const struct pool_options *options = &request->options;
    return (struct sched_config){
        .workers = request->workers,
        .cpus = cpus_of_affinity(), /* where a quota is the bound, the default number of workers is within it */
        .restarts = request->backend->capabilities & BACKEND_RESTARTS,
        .wears_out = options->max_tasks_per_worker || options->max_worker_bytes,
        .max_tasks_per_worker = options->max_tasks_per_worker,
        .max_attempts = options->max_attempts,
        .start_timeout_ns = (uint64_t)options->start_timeout_ms * 1000000u,
        .kill_grace_ns = options->soft_kill_grace_ms < 0 ? 0 : (uint64_t)options->soft_kill_grace_ms * 1000000u,
    };
}

/* Backend, configuration and loop; nothing is started yet but a backend's helper. */
static int make_loop(struct pool *pool, const struct request *request)
{
    const struct pool_options *options = &request->options;
    const struct backend *backend = request->backend;
    struct loop_options loop = {
        .sched = make_sched_config(request), .backend = backend, .max_result_bytes = options->max_result_bytes};
    bool recycles = loop.sched.wears_out && loop.sched.restarts;
    unsigned flags =
        (backend->capabilities & BACKEND_PRELOADS ? 0 : WIRE_CONFIG_PRELOAD) | (recycles ? WIRE_CONFIG_RECYCLES : 0);
    char text[BACKEND_TEXT_BYTES] = "";
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
    error_set(rc, "making a pool of start method \"%s\": %s%s%s", backend->name, pool_strerror(rc),
              *text ? ": " : error_advice(rc), text);
    backend->close(loop.backend_state);
    free(loop.config);
    return rc;
}

/* Start the workers, and wait for the first. */
static int boot(struct pool *pool, bool in_full)
{
    struct loop *loop = &pool->loop;
    loop_boot(loop);
    bool refused = loop->start_refused;
    if (refused && !in_full && loop_live_count(loop))
        sched_limit_workers(&loop->sched, loop_live_count(loop));
    else if (refused)
        return error_set(loop->start_error, "%s", loop->start_text);
    while (!sched_was_ready(&loop->sched) && !loop->broken)
        drive_turn(pool, DRIVE_FOREVER, true);
    if (loop->broken)
        return error_set(loop->start_error, "workers cannot be started: %s", loop->start_text);
    return 0;
}

/* ---- the thread that drives when nobody else does ---- */

static void *drive_always(void *argument)
{
    struct pool *pool = argument;
    drive_lock(pool);
    while (!pool->stop_thread)
        drive_turn(pool, DRIVE_FOREVER, true);
    drive_unlock(pool);
    return NULL;
}

/* No signal of the program's is for it. */
static int start_thread(struct pool *pool)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pool->has_thread = true;
    int error = pthread_create(&pool->thread, NULL, drive_always, pool);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error) /* else it is the thread's to read */
        pool->has_thread = false;
    return error ? error_system(-error, "starting the pool's thread") : 0;
}

static void end_thread(struct pool *pool)
{
    if (!pool->has_thread)
        return;
    drive_lock(pool);
    pool->stop_thread = true;
    drive_wake_all(pool);
    drive_unlock(pool);
    pthread_join(pool->thread, NULL);
    pool->has_thread = false;
}

/* ---- create ---- */

/* The lock is held, so that no fork() of the program sees the half of it. */
static int populate(struct pool *pool, const struct request *request)
{
    int rc = make_loop(pool, request);
    if (!rc)
        rc = boot(pool, request->in_full);
    if (!rc && request->options.progress_thread)
        rc = start_thread(pool);
    return rc;
}

static int settle(const struct pool_options *given, struct request *request)
{
    struct pool_options *options = &request->options;
    int rc = options_import(options, sizeof *options, given, "pool_options");
    if (!rc)
        rc = options_settle(options);
    if (!rc)
        rc = options_choose_backend(options, &request->backend);
    if (!rc)
        rc = check_init(request->backend);
    return rc ? rc : options_choose_workers(options, &request->workers, &request->in_full);
}

static int create(const struct pool_options *given, struct pool **pool_out)
{
    struct request request = {.options = POOL_OPTIONS_INIT};
    int rc = settle(given, &request);
    if (rc)
        return rc;
    struct pool *pool = drive_allocate();
    if (!pool)
        return error_system(-ENOMEM, "making a pool");
    const struct pool_options *options = &request.options;
    pool->max_bytes_in_flight = options->max_bytes_in_flight;
    pool->spin.limit_ns = options->progress_thread ? 0 : options_spin_ns(options);
    registry_enter(pool);
    rc = populate(pool, &request);
    if (rc)
        loop_clear(&pool->loop);
    else
        *pool_out = pool;
    pool->gone = rc;
    pool_release(pool); /* and free it, if it has come to nothing */
    return rc;
}

int pool_create(const struct pool_options *options, struct pool **pool_out)
{
    if (!pool_out)
        return error_set(-EINVAL, "pool_create: pool_out is NULL");
    drive_begin_call();
    int rc = create(options, pool_out);
    drive_end_call();
    return rc;
}

/* ---- running a job to its end ---- */

#define PROGRESS_NS UINT64_C(100000000)

static void report_progress(struct pool *pool, struct job *job, const struct pool_progress *progress, uint64_t *next_ns)
{
    struct drive_callback callback;
    uint64_t now_ns = clock_now_ns();
    if (now_ns < *next_ns && !job->ended)
        return;
    *next_ns = now_ns + PROGRESS_NS;
    size_t done = (size_t)(job->count - job->unended_count);
    drive_begin_callback(pool, &callback);
    int stop = progress->report(progress->arg, done, (size_t)job->count);
    drive_end_callback(&callback);
    if (stop && !job->ended) {
        loop_cancel(&pool->loop, job, POOL_ECANCELED);
        drive_note(pool);
    }
}

static void wait_for(struct pool *pool, struct job *job, const struct pool_progress *progress)
{
    uint64_t next_ns = clock_now_ns() + PROGRESS_NS;
    while (!job->ended) {
        drive_turn(pool, progress ? next_ns : DRIVE_FOREVER, true);
        if (progress && !job->ended)
            report_progress(pool, job, progress, &next_ns);
    }
    if (progress)
        report_progress(pool, job, progress, &next_ns);
}

/* Arrays and inputs that lie in buffers stay there. Without memory to note which do, they travel. */
static void hold_buffers(struct pool *pool, struct job *job)
{
    const struct buffers *buffers = &pool->buffers;
    if (!buffers->count)
        return;
    if (job->kind == JOB_FIXED) {
        job->items_in = buffers_hold(buffers, job->items, (size_t)job->count * job->item_size);
        job->results_in = buffers_hold(buffers, job->results, (size_t)job->count * job->result_size);
        return;
    }
    job->inputs_in = calloc((size_t)job->count, sizeof(struct buffer *));
    for (uint64_t i = 0; job->inputs_in && i < job->count; i++)
        job->inputs_in[i] = buffers_hold(buffers, job->inputs[i].data, job->inputs[i].size);
}

static void let_go_buffers(struct pool *pool, struct job *job)
{
    drive_let_go(pool, job->items_in);
    drive_let_go(pool, job->results_in);
    for (uint64_t i = 0; job->inputs_in && i < job->count; i++)
        drive_let_go(pool, job->inputs_in[i]);
    free(job->inputs_in);
}

static void run(struct pool *pool, struct job *job, const struct pool_progress *progress)
{
    job->number = pool->next_number;
    hold_buffers(pool, job);
    job_begin(job);
    loop_submit(&pool->loop, job);
    drive_note(pool);
    wait_for(pool, job, progress);
    let_go_buffers(pool, job);
}

int pool_run(struct pool *pool, struct job *job, callable_fn *fn, const struct pool_progress *progress)
{
    int rc = drive_check_waiting(pool, "pool_map");
    if (!rc)
        rc = drive_enter_for_work(pool);
    if (rc)
        return rc;
    rc = drive_number(pool, fn, &job->function);
    if (!rc)
        run(pool, job, progress);
    drive_leave(pool);
    return rc;
}

int pool_check(struct pool *pool)
{
    if (pool->in_place)
        return 0;
    int rc = drive_enter_for_work(pool);
    if (!rc)
        drive_leave(pool);
    return rc;
}

int pool_check_deadline(int64_t timeout_ms)
{
    if (timeout_ms >= 0 && timeout_ms <= INT64_MAX / 1000000)
        return 0;
    return error_set(-EINVAL,
                     "timeout_ms is %lld: 0 for none, else a positive number of milliseconds, at most 292 years",
                     (long long)timeout_ms);
}

/* ---- shutdown ---- */

static int shut_down(struct pool *pool, enum pool_shutdown_mode mode, uint64_t until_ns)
{
    char text[1024];
    pool->closing = true;
    loop_shutdown(&pool->loop, mode);
    drive_note(pool);
    drive_wake_all(pool); /* who waits for room waits in vain */
    for (bool first = true; !loop_is_down(&pool->loop); first = false)
        if (!drive_turn(pool, until_ns, first))
            break;
    if (loop_is_down(&pool->loop))
        return 0;
    loop_describe_rest(&pool->loop, text, sizeof text);
    return error_set(POOL_PENDING, "shutdown: %s", text);
}

int pool_shutdown(struct pool *pool, enum pool_shutdown_mode mode, int64_t timeout_ms)
{
    uint64_t until_ns;
    if (!pool || mode < POOL_DRAIN || mode > POOL_KILL)
        return error_set(-EINVAL, "pool_shutdown: %s", pool ? "no such mode" : "pool is NULL");
    int rc = drive_until(timeout_ms, "pool_shutdown", &until_ns);
    if (!rc)
        rc = drive_check_waiting(pool, "pool_shutdown");
    if (rc || pool->in_place)
        return rc;
    rc = drive_enter(pool);
    if (!rc) {
        rc = shut_down(pool, mode, until_ns);
        drive_leave(pool);
    }
    return rc;
}

/* ---- destroy ---- */

void pool_release(struct pool *pool)
{
    bool last = pool->gone && !pool->handle_count;
    drive_unlock(pool);
    if (!last)
        return;
    registry_leave(pool);
    drive_deallocate(pool);
}

/* Tasks that were never handed out are known to those alone who kept what pool_submit gave. */
static void forget_ended(struct pool *pool)
{
    while (pool->ended.first) {
        struct pool_task *task = pool->ended.first;
        task_queue_remove(&pool->ended, task);
        task->queue = NULL;
        if (!task->held)
            drive_forget_task(pool, task);
    }
}

static void destroy(struct pool *pool)
{
    drive_lock(pool);
    shut_down(pool, POOL_DRAIN, DRIVE_FOREVER);
    drive_await_leavers(pool);
    drive_unlock(pool);
    end_thread(pool);
    drive_lock(pool);
    loop_clear(&pool->loop);
    drive_close_fds(pool);
    forget_ended(pool);
    pool->gone = true;
    pool_release(pool);
}

/* The copy in a forked child: fds are closed, processes are not its own. */
static void destroy_copy(struct pool *pool)
{
    drive_lock(pool);
    pool->gone = true;
    pool_release(pool);
}

int pool_destroy(struct pool *pool)
{
    if (!pool || pool->in_place || drive_is_sealed(pool))
        return 0;
    int rc = drive_check_waiting(pool, "pool_destroy");
    if (rc)
        return rc;
    drive_begin_call();
    if (drive_is_copy(pool))
        destroy_copy(pool);
    else
        destroy(pool);
    drive_end_call();
    return 0;
}

/* ---- the default pool ---- */

static _Thread_local int default_error;

int pool_default_error(void)
{
    return default_error;
}

static int make_default(struct pool **pool_out)
{
    return pool_create(NULL, pool_out);
}

static int make_none(struct pool **pool_out)
{
    (void)pool_out;
    return error_set(-EINVAL, "there is no default pool yet");
}

static struct pool *find_default(int (*make)(struct pool **))
{
    static struct pool in_place = {.in_place = true,
                                   .lock = PTHREAD_MUTEX_INITIALIZER,
                                   .changed = PTHREAD_COND_INITIALIZER,
                                   .max_bytes_in_flight = SIZE_MAX,
                                   .outer_fd = -1,
                                   .news_fd = -1};
    if (call_place.in_worker)
        return &in_place;
    return registry_default(make, &default_error);
}

struct pool *pool_default(void)
{
    return find_default(make_default);
}

struct pool *pool_default_if_made(void)
{
    return find_default(make_none);
}

/* drive: see drive.h. The object and its lock; who is inside; what is told when tasks have ended; the turn of whoever
 * waits. */
#include "drive.h"
#include "clock.h"
#include "fd.h"
#include "procpool.h"
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

/* What the calling thread is doing in pools. In one piece: to find a thread's own memory costs more than to use it. */
static _Thread_local struct {
    struct drive_callback *callbacks; /* innermost first */
    unsigned calls;                   /* that are inside a pool, nested by callbacks */
    int cancel_state;                 /* what it was before the outermost */
    struct pool *pool;                /* whose lock it holds, or has let go of to fork; in a copy it may be stale */
} thread;

enum { LOOK_AGAIN_MS = 2000 };

unsigned drive_generation, drive_sealed_generations;

/* ---- the object ---- */

static void make_conditions(struct pool *pool)
{
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&pool->changed, &attributes);
    pthread_cond_init(&pool->forked, &attributes);
    pthread_condattr_destroy(&attributes);
}

struct pool *drive_allocate(void)
{
    struct pool *pool = calloc(1, sizeof *pool);
    if (!pool)
        return NULL;
    pool->generation = drive_generation;
    pthread_mutex_init(&pool->lock, NULL);
    make_conditions(pool);
    task_init_slab(&pool->small_tasks);
    pool->loop.epoll_fd = pool->loop.timer_fd = pool->loop.wake_fd = -1;
    pool->outer_fd = pool->news_fd = -1;
    return pool;
}

/* Where the program has closed the pool's: they are nobody's, or the program's. */
static void forget_lost_fds(struct pool *pool)
{
    if (!pool->loop.is_lost)
        return;
    buffers_forget_fds(&pool->buffers);
    pool->outer_fd = pool->news_fd = -1;
}

void drive_close_fds(struct pool *pool)
{
    forget_lost_fds(pool);
    fd_close(&pool->outer_fd);
    fd_close(&pool->news_fd);
}

void drive_deallocate(struct pool *pool)
{
    pthread_cond_destroy(&pool->changed);
    pthread_cond_destroy(&pool->forked);
    pthread_mutex_destroy(&pool->lock);
    buffers_clear(&pool->buffers);
    slab_clear(&pool->small_tasks);
    free(pool);
}

/* ---- the lock ---- */

/* Also for who could be cancelled here, as nowhere else between drive_lock and drive_unlock. Rare, and not to weigh on
 * who takes the lock. */
__attribute__((noinline, cold)) static void await_fork(struct pool *pool)
{
    drive_begin_call();
    while (pool->is_forking)
        pthread_cond_wait(&pool->forked, &pool->lock);
    drive_end_call();
}

/* The calling thread has been given the lock. */
static void take_over(struct pool *pool)
{
    if (pool->is_forking)
        await_fork(pool);
    thread.pool = pool;
}

void drive_lock(struct pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    take_over(pool);
}

void drive_unlock(struct pool *pool)
{
    thread.pool = NULL;
    pthread_mutex_unlock(&pool->lock);
}

bool drive_is_at_work(void)
{
    return thread.pool && !drive_is_copy(thread.pool);
}

void drive_begin_fork(void)
{
    if (!drive_is_at_work())
        return;
    thread.pool->is_forking = true;
    pthread_mutex_unlock(&thread.pool->lock);
}

/* Where two forks may overlap the other one, which has the lock, is waited for: it still copies. */
void drive_end_fork(void)
{
    if (!drive_is_at_work())
        return;
    pthread_mutex_lock(&thread.pool->lock);
    thread.pool->is_forking = false;
    pthread_cond_broadcast(&thread.pool->forked);
}

void drive_forget_threads(struct pool *pool)
{
    pthread_mutex_unlock(&pool->lock); /* this thread locked it, in before_fork */
    make_conditions(pool);             /* whose waiters do not exist here */
    pool->driving = pool->has_thread = pool->is_forking = false;
    pool->users = pool->sleepers = 0;
}

/* With that the thread holds no lock. Its own memory is left alone: a worker would have to copy the page. */
void drive_become_copy(void)
{
    if (drive_is_at_work())
        drive_sealed_generations = drive_generation + 1;
    drive_generation++;
}

/* ---- entering and leaving ---- */

void drive_begin_call(void)
{
    if (!thread.calls++)
        pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &thread.cancel_state);
}

void drive_end_call(void)
{
    int unused;
    if (!--thread.calls)
        pthread_setcancelstate(thread.cancel_state, &unused);
}

static int check_fork(const struct pool *pool)
{
    if (!drive_is_copy(pool))
        return 0;
    return error_set(POOL_EFORKED, "this pool belongs to the process that this one was forked from: make a new one");
}

int drive_check_work(const struct pool *pool)
{
    if (pool->closing)
        return error_set(POOL_ECLOSED, "the pool has been shut down");
    if (pool->loop.broken)
        return error_set(POOL_EBROKEN, "the pool is broken: %s", pool->loop.start_text);
    return 0;
}

int drive_enter(struct pool *pool)
{
    int rc = check_fork(pool);
    if (rc)
        return rc;
    drive_begin_call();
    drive_lock(pool);
    pool->users++;
    return 0;
}

int drive_enter_for_work(struct pool *pool)
{
    int rc = drive_enter(pool);
    if (rc)
        return rc;
    rc = drive_check_work(pool);
    if (rc)
        drive_leave(pool);
    return rc;
}

int drive_lock_for_work(struct pool *pool)
{
    int rc = check_fork(pool);
    if (rc)
        return rc;
    drive_lock(pool);
    rc = drive_check_work(pool);
    if (rc)
        drive_unlock(pool);
    return rc;
}

void drive_leave(struct pool *pool)
{
    pool->users--;
    if (pool->sleepers)
        pthread_cond_broadcast(&pool->changed);
    drive_unlock(pool);
    drive_end_call();
}

/* ---- what has ended ---- */

void drive_let_go(struct pool *pool, struct buffer *buffer)
{
    if (!buffer || --buffer->uses || !buffer->freed)
        return;
    loop_drop_buffer(&pool->loop, buffer);
    forget_lost_fds(pool);
    buffers_destroy(&pool->buffers, buffer);
    pool->handle_count--;
}

void drive_forget_task(struct pool *pool, struct pool_task *task)
{
    const struct borrow *lender = task->region ? task->region->owner : NULL; /* of a worker that still runs */
    bool asks_system = lender || task->item.fd_count;
    if (asks_system)
        drive_begin_call();
    if (drive_is_copy(pool))
        borrow_abandon(task->region);
    pool->handle_count--;
    task_destroy(&pool->small_tasks, task);
    if (lender && lender->is_urgent)
        loop_tell_returns(&pool->loop);
    if (asks_system)
        drive_end_call();
}

static void hand_out(struct pool *pool, struct pool_task *task)
{
    pool->bytes_in_flight -= task_held_bytes(task);
    drive_let_go(pool, task->item.buffer);
    pool->ended_count++;
    pool->expected_count -= task->queue == &pool->ended;
    if (task->dropped)
        drive_forget_task(pool, task);
    else if (task->queue)
        task_queue_append(task->queue, task);
}

/* Tasks that have ended go to where they are waited for; whether there were any. */
static bool hand_out_all(struct pool *pool)
{
    struct task_queue *ended = &pool->loop.ended_tasks;
    bool any = ended->first;
    while (ended->first) {
        struct pool_task *task = ended->first;
        task_queue_remove(ended, task);
        hand_out(pool, task);
    }
    return any;
}

static void tell_event_loop(struct pool *pool)
{
    uint64_t once = 1;
    if (pool->news_fd >= 0)
        (void)!fd_write(pool->news_fd, &once, sizeof once);
}

/* Hand out what has ended, and wake those who sleep. Whether anything has ended that somebody may wait for. */
static bool tell(struct pool *pool)
{
    forget_lost_fds(pool);
    bool any_task = hand_out_all(pool), any_job = pool->loop.jobs_ended != pool->jobs_told;
    bool down = pool->closing && loop_is_down(&pool->loop);
    if (any_task || (down && !pool->down_told))
        tell_event_loop(pool);
    pool->jobs_told = pool->loop.jobs_ended;
    pool->down_told = down;
    if (pool->sleepers && (any_task || any_job || down))
        pthread_cond_broadcast(&pool->changed);
    return any_task || any_job || down;
}

static void wake_driver(struct pool *pool)
{
    if (!pool->driving)
        return;
    drive_begin_call();
    loop_wake(&pool->loop);
    drive_end_call();
}

void drive_wake_all(struct pool *pool)
{
    if (pool->sleepers)
        pthread_cond_broadcast(&pool->changed);
    wake_driver(pool);
}

void drive_note(struct pool *pool)
{
    if (tell(pool))
        wake_driver(pool); /* what it waits for may have happened */
}

/* ---- turns ---- */

/* While a thread drives, the event loop hears of ended tasks alone. */
static void show_loop(struct pool *pool, bool visible)
{
    struct epoll_event event = {.events = EPOLLIN};
    if (pool->outer_fd >= 0)
        epoll_ctl(pool->outer_fd, visible ? EPOLL_CTL_ADD : EPOLL_CTL_DEL, pool->loop.epoll_fd, &event);
}

/* Whoever waits alone, for workers that leave it a CPU, looks for news for a while before it sleeps. Not where an event
 * loop waits as well, nor in the pool's own thread: the program's threads have other uses for the CPU meanwhile. */
static bool may_spin(const struct pool *pool)
{
    return pool->users == 1 && !pool->sleepers && pool->outer_fd < 0 && sched_spares_cpu(&pool->loop.sched);
}

static bool spin(struct pool *pool, const struct loop_glance *glance)
{
    bool found = false;
    if (!glance->count)
        return false;
    while (found = loop_glance(&pool->loop, glance), spin_goes_on(&pool->spin, found, clock_now_ns()))
        spin_pause();
    if (!found)
        loop_look_away(&pool->loop);
    return found;
}

/* Nothing tells of it when another thread closes the pool's fds meanwhile, or when the timer alone was closed: who
 * waits for ever comes back to see. A thread that is alone with the pool, and needs no timer, is not burdened with
 * it. */
static bool looks_again(const struct pool *pool, int timeout_ms)
{
    return timeout_ms < 0 && (pool->has_thread || pool->users > 1 || loop_needs_timer(&pool->loop));
}

/* Only at what workers have written already, which takes no question to the system; an event loop comes for everything.
 * On one CPU it mostly is there as soon as the worker was sent something, which goes ahead of who wrote to it. Whether
 * that is all there is to do now. */
static bool look_in(struct pool *pool, bool waits)
{
    bool suffices = pool->outer_fd < 0 && loop_look_in(&pool->loop, waits);
    if (suffices)
        tell(pool);
    return suffices;
}

static void drive(struct pool *pool, int timeout_ms)
{
    struct epoll_event events[LOOP_EVENTS];
    struct loop_glance glance = {0};
    struct loop_nap nap;
    if (!timeout_ms && look_in(pool, false))
        return;
    if (pool->loop.gathered_tasks)
        timeout_ms = 0; /* they are handed out before anybody waits */
    bool may = timeout_ms && may_spin(pool);
    if (may && loop_is_overdue(&pool->loop))
        timeout_ms = 0;
    bool naps = timeout_ms < 0 && loop_plan_nap(&pool->loop, &nap);
    if (may && timeout_ms && !naps && spin_begin(&pool->spin))
        loop_aim(&pool->loop, &glance);
    else if (timeout_ms && !naps && look_in(pool, true))
        return;
    pool->driving = true;
    if (timeout_ms)
        show_loop(pool, false);
    int wait_ms = looks_again(pool, timeout_ms) ? LOOK_AGAIN_MS : timeout_ms;
    drive_unlock(pool);
    if (naps)
        loop_nap(&nap);
    bool glanced = spin(pool, &glance);
    int count = glanced ? 0 : loop_wait(&pool->loop, events, wait_ms);
    drive_lock(pool);
    pool->driving = false;
    if (timeout_ms && count != LOOP_NO_FDS)
        show_loop(pool, true);
    if (glanced)
        loop_handle_glanced(&pool->loop, &glance);
    else
        loop_handle(&pool->loop, events, count);
    tell(pool);
}

static void sleep_until_changed(struct pool *pool, uint64_t until_ns)
{
    struct timespec until = clock_timespec(until_ns);
    pool->sleepers++;
    thread.pool = NULL;
    if (until_ns == DRIVE_FOREVER)
        pthread_cond_wait(&pool->changed, &pool->lock);
    else
        pthread_cond_timedwait(&pool->changed, &pool->lock, &until);
    take_over(pool);
    pool->sleepers--;
}

void drive_await_leavers(struct pool *pool)
{
    while (pool->users)
        sleep_until_changed(pool, DRIVE_FOREVER);
}

int drive_until(int64_t timeout_ms, const char *function, uint64_t *until_ns_out)
{
    uint64_t now_ns = timeout_ms > 0 ? clock_now_ns() : 0; /* what need not wait need not ask */
    if (timeout_ms < POOL_FOREVER || timeout_ms > (int64_t)((UINT64_MAX - now_ns) / 1000001u))
        return error_set(-EINVAL, "%s: timeout_ms is %" PRId64 ": 0 or more, at most 292 years, or POOL_FOREVER",
                         function, timeout_ms);
    *until_ns_out = timeout_ms == POOL_FOREVER ? DRIVE_FOREVER : now_ns + (uint64_t)timeout_ms * 1000000u;
    return 0;
}

/* -1: no limit. Rounded up, so that nobody wakes before the time is past. */
static int left_ms(uint64_t until_ns)
{
    if (until_ns == DRIVE_FOREVER)
        return -1;
    uint64_t now_ns = until_ns ? clock_now_ns() : 0;
    uint64_t left = until_ns > now_ns ? (until_ns - now_ns + 999999) / 1000000 : 0;
    return left < 3600000 ? (int)left : 3600000;
}

bool drive_turn(struct pool *pool, uint64_t until_ns, bool first)
{
    int timeout_ms = left_ms(until_ns);
    if (!timeout_ms && !first)
        return false;
    if (!pool->driving && !pool->in_place && !pool->loop.is_lost)
        drive(pool, timeout_ms);
    else if (timeout_ms)
        sleep_until_changed(pool, until_ns);
    return true;
}

/* ---- callbacks ---- */

void drive_begin_callback(struct pool *pool, struct drive_callback *callback)
{
    *callback = (struct drive_callback){.pool = pool, .outer = thread.callbacks};
    thread.callbacks = callback;
    if (pool->sleepers && !pool->driving)
        pthread_cond_broadcast(&pool->changed); /* one of them drives meanwhile */
    drive_unlock(pool);
}

void drive_end_callback(struct drive_callback *callback)
{
    thread.callbacks = callback->outer;
    drive_lock(callback->pool);
}

bool drive_in_callback(const struct pool *pool)
{
    for (struct drive_callback *callback = thread.callbacks; callback; callback = callback->outer)
        if (callback->pool == pool)
            return true;
    return false;
}

int drive_check_waiting(const struct pool *pool, const char *function)
{
    if (!drive_in_callback(pool))
        return 0;
    return error_set(-EDEADLK, "%s: this would wait in a callback of the same pool", function);
}

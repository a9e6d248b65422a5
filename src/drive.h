/* drive: whose turn it is. The pool as an object with a lock, and waiting in it.
 *
 * One mutex covers a pool's loop and its tasks. A thread that waits drives the loop itself; when several wait, one
 * drives and the others sleep until something that they wait for has happened or the place is free. The mutex is
 * released only while the one that drives waits (and for callbacks, during which one of the others drives; and for
 * forks, see below). A thread that ends something without driving (a cancellation, say) wakes the one that drives.
 *
 * For programs with an event loop there is one fd (see pool_fd): an epoll of the loop's own epoll and of an eventfd,
 * which is written when tasks have ended, and when the pool has come to its end. The loop's is taken out while a thread
 * drives, or the event loop would spin beside it.
 *
 * A fork() of the program has every pool's lock while it copies (registry.h), and many a libc (musl, glibc before 2.36)
 * lets no other fork() in from before that until after it. So nobody may wait for that with a lock in hand: a thread
 * that forks a worker lets go of the pool's meanwhile. The pool stands still all the same, since is_forking keeps out
 * whoever takes the lock by drive_lock, or wakes with it; the fork() of the program takes it regardless, and what it
 * copies is whole. The worker may be copied with the lock in another thread's hands, and never touches it.
 * Must not know: what the public functions do. */
#ifndef PROCPOOL_DRIVE_H
#define PROCPOOL_DRIVE_H

#include "buffers.h"
#include "error.h"
#include "loop.h"
#include "spin.h"
#include <pthread.h>

#define DRIVE_FOREVER UINT64_MAX

struct pool {
    struct pool *next, *prev; /* in the registry */
    pthread_mutex_t lock;
    bool is_forking; /* a thread in the middle of the pool's work has let go of the lock, and forks a worker */
    pthread_cond_t changed, forked;
    struct loop loop;
    struct buffers buffers;
    bool in_place;       /* inside a worker: runs tasks in the calling thread; has no loop */
    unsigned generation; /* of the process that made it */
    bool closing;        /* takes no new work */
    bool gone;           /* was destroyed; its memory goes with its last task */
    bool driving;        /* some thread has the place */
    struct spin spin;    /* of who drives */
    unsigned users;      /* threads inside a call */
    unsigned sleepers;   /* threads that wait for `changed` */

    /* tasks */
    struct slab small_tasks;
    struct task_queue ended; /* not handed out yet */
    uint64_t expected_count; /* not ended, and to be handed out by pool_next */
    uint64_t handle_count;   /* tasks and buffers that were not freed */
    uint64_t next_number;    /* of the next task */
    uint64_t ended_count;    /* of all tasks, and how many of them pool_process has told */
    uint64_t ended_told;
    size_t bytes_in_flight, max_bytes_in_flight;
    unsigned jobs_told; /* of loop.jobs_ended */
    bool down_told;     /* that it was shut down and has no workers any more */
    bool broadcasting;

    /* event loops, and the thread that drives when nobody else does */
    int outer_fd, news_fd; /* -1: pool_fd was never called */
    pthread_t thread;
    bool has_thread, stop_thread;
};

/* One more than the parent's, in what a pool's process has forked. A pool need not be written to to become a copy: that
 * would cost every worker that is forked a page. */
extern unsigned drive_generation;

static inline bool drive_is_copy(const struct pool *pool)
{
    return pool->generation != drive_generation && !pool->in_place; /* that one is in every process */
}

/* A thread in the middle of a pool's work has forked, as the loop does for workers of `fork`: no lock that was copied
 * then is to be had, and what it guards stays as it is. */
extern unsigned drive_sealed_generations;

static inline bool drive_is_sealed(const struct pool *pool)
{
    return drive_is_copy(pool) && pool->generation < drive_sealed_generations;
}

/* Fails only for want of memory: NULL. drive_deallocate: when it is gone and has no tasks. */
struct pool *drive_allocate(void);
/* The fds of pool_fd; may run twice. */
void drive_close_fds(struct pool *pool);
void drive_deallocate(struct pool *pool);

void drive_lock(struct pool *pool);
void drive_unlock(struct pool *pool);
/* Whether the calling thread is in the middle of a pool's work. */
bool drive_is_at_work(void);
/* Around a fork() by who is, and may be in the middle of nothing as well: see above. Nothing ends it in the child. */
void drive_begin_fork(void);
void drive_end_fork(void);
/* In the child of a fork: all pools are copies, and this thread is in the middle of nothing; for each whose lock it
 * took for the fork: it is free, and no thread is in the pool. */
void drive_become_copy(void);
void drive_forget_threads(struct pool *pool);

/* No call is a cancellation point: a thread that is cancelled inside would leave the lock behind. Nest. Not needed by
 * who makes no system call between drive_lock and drive_unlock. */
void drive_begin_call(void);
void drive_end_call(void);

/* Enter for new work, or only to use what there is. 0, with the lock taken and no cancellation point until drive_leave;
 * else POOL_EFORKED or, for new work, POOL_ECLOSED or POOL_EBROKEN, with the thread's message set. Who leaves wakes who
 * sleeps in the pool: pool_destroy waits for the last to leave, others for the place. */
int drive_enter_for_work(struct pool *pool);
int drive_enter(struct pool *pool);
void drive_leave(struct pool *pool);
/* The same for who neither waits nor, but between drive_begin_call and drive_end_call, makes a system call until
 * drive_unlock. */
int drive_lock_for_work(struct pool *pool);

/* Whether the pool, whose lock is held, takes work (still): 0; POOL_ECLOSED, POOL_EBROKEN with the thread's message
 * set. */
int drive_check_work(const struct pool *pool);
/* loop_number with the thread's message set on failure; the lock is held. */
static inline int drive_number(struct pool *pool, callable_fn *fn, uint32_t *number_out)
{
    char text[CALLABLE_TEXT_BYTES];
    int rc = loop_number(&pool->loop, fn, number_out, text);
    return rc ? error_set(rc, "%s", text) : 0;
}

/* timeout_ms (0 or more, or POOL_FOREVER) from now: 0; -EINVAL with the message set. 0 ms is a time long past,
 * POOL_FOREVER is DRIVE_FOREVER: neither looks at the clock. */
int drive_until(int64_t timeout_ms, const char *function, uint64_t *until_ns_out);

/* Drive, or sleep until something has changed, at most until then. False: it is past. A time that is past still drives
 * once without waiting when first is true. */
bool drive_turn(struct pool *pool, uint64_t until_ns, bool first);

/* Sleep until every other thread has left. */
void drive_await_leavers(struct pool *pool);

/* Everybody who waits in the pool is to look again whether there is still something to wait for. */
void drive_wake_all(struct pool *pool);
/* After something was done to the loop without driving: hand out what has ended, and wake who waits for it. */
void drive_note(struct pool *pool);

/* A task that has ended, or never will here, is needed by nobody any more. */
void drive_forget_task(struct pool *pool, struct pool_task *task);
/* One use less of a buffer; NULL is fine. It goes away if it was freed and this was the last. */
void drive_let_go(struct pool *pool, struct buffer *buffer);

/* Callbacks on the calling thread: the pool's lock is released around them. */
struct drive_callback {
    struct pool *pool;
    struct drive_callback *outer;
};
void drive_begin_callback(struct pool *pool, struct drive_callback *callback);
void drive_end_callback(struct drive_callback *callback);
bool drive_in_callback(const struct pool *pool);
/* 0, or -EDEADLK with the thread's message set: in a callback of the pool nobody may wait in it. */
int drive_check_waiting(const struct pool *pool, const char *function);

#endif

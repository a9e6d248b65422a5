/* loop: the scheduler's hands: performs its effects on real workers and tells it what happens to them.
 *
 * One epoll watches every worker's reply pipe and exit fd, its request pipe while it is full, its pidfd (if that is
 * not the exit fd) once its reply pipe is closed, one timerfd and one eventfd. A pass reads everything that is
 * readable, tells the scheduler, then lets it act on the time, then performs its effects; what it has for a worker is
 * written at its end, in one go.
 *
 * Who waits does so in loop_wait, or where that is cheaper in loop_nap or by loop_glance again and again. These run
 * without the pool's lock; every other call needs it, and none waits for what a process does, but for the end of one
 * that is killed: in loop_clear, and where there is no memory for a worker that was just started.
 * Must not know: the public API's objects, threads, locks. */
#ifndef PROCPOOL_LOOP_H
#define PROCPOOL_LOOP_H

#include "backend.h"
#include "fd.h"
#include "lanes.h"
#include "peer.h"
#include "sched.h"
#include <stdatomic.h>
#include <sys/epoll.h>

enum { LOOP_EVENTS = 64, LOOP_GLANCED = 4, LOOP_STARTS = 16, LOOP_TEXT_BYTES = 2048 };

struct loop_counts {
    uint64_t submitted, succeeded, failed, canceled;
    uint64_t bytes_out, bytes_in; /* of workers that are gone */
};

/* A worker that is to be started. */
struct loop_start {
    unsigned slot, worker_id;
    int rc; /* what became of it */
};

struct loop {
    struct backend_child started[LOOP_STARTS]; /* while starts are being done; then they are the slots' own */
    unsigned started_count;
    struct sched sched;
    struct peer *peers; /* one per slot */
    uint8_t *staging;   /* of their channels */
    const struct backend *backend;
    void *backend_state;
    struct peer_setup setup;
    struct lanes lanes;
    int epoll_fd, timer_fd, wake_fd;
    uint64_t *unsent; /* bitmap over slots: with frames that are to be written at the end of a pass */
    struct loop_start starts[LOOP_STARTS]; /* to be done together */
    unsigned start_count;
    unsigned gathered_tasks;       /* that were submitted since the scheduler was last asked what it wants */
    size_t gathered_bytes;         /* of their inputs */
    uint64_t looked_ns;            /* when what workers say was last read */
    uint64_t checked_ns;           /* when it was last seen that workers can be heard */
    atomic_bool is_glanced_at;     /* by somebody without the lock, who reads what workers say */
    uint64_t timer_ns;             /* what timer_fd is set to; SCHED_NEVER */
    bool has_large_items;          /* workers have memory for what is large, or were sent such of late */
    uint64_t trim_ns;              /* when to look whether they still are; SCHED_NEVER */
    unsigned jobs_ended;           /* counts up, so that waiters can see that something has happened */
    struct task_queue ended_tasks; /* for the caller to take away */
    struct loop_counts counts;

    int start_error;                  /* of the last failed start: POOL_EBROKEN, or what the system refused */
    char start_text[LOOP_TEXT_BYTES]; /* why it failed */
    bool start_refused;               /* the system has refused to start a process */
    bool broken;
    bool misses_fds; /* some are not its own any more; what follows from that is done at the end of a pass */
    bool is_lost;    /* that was done */
};

struct loop_options {
    struct sched_config sched;
    const struct backend *backend;
    void *backend_state; /* opened; taken only on success */
    uint8_t *config;     /* likewise */
    size_t config_size;
    uint64_t max_result_bytes;
};

/* 0 or a negative errno. loop_clear ends what is left the hard way, blocking until it is gone; it may run twice. */
int loop_init(struct loop *loop, const struct loop_options *options);
void loop_clear(struct loop *loop);

/* The number of a function that is to be run, for job->function. 0; POOL_EBUILD, -ENOMEM, with a text in message
 * (CALLABLE_TEXT_BYTES). */
int loop_number(struct loop *loop, callable_fn *fn, uint32_t *number_out, char *message);

/* Hand a job over and do what can be done at once. It is the loop's until job->ended. */
void loop_submit(struct loop *loop, struct job *job);
void loop_cancel(struct loop *loop, struct job *job, int status);

/* A task, which is the loop's until it is in ended_tasks, without a system call. While every worker is busy tasks
 * gather, so that many are handed out and written at once. kind: see lanes_add. 0; LOOP_IS_DUE: it is time to hand them
 * out; -ENOMEM: it stays the caller's. */
enum { LOOP_IS_DUE = 1 };
int loop_add_task(struct loop *loop, struct pool_task *task, uint32_t function, unsigned kind);
void loop_hand_out(struct loop *loop); /* right after that */
/* A task that has not ended: now it has, with POOL_ECANCELED. */
void loop_cancel_task(struct loop *loop, struct pool_task *task);

/* Workers to whom it is urgent are told now which lent memory is not needed any more: they may have nothing to do for
 * long. */
void loop_tell_returns(struct loop *loop);
/* A buffer goes away, which nothing under way lies in: the workers that have it are told. */
void loop_drop_buffer(struct loop *loop, const struct buffer *buffer);

/* A JOB_BROADCAST, while there is no other; its one input malloc'd, and NULL again if it was kept to be replayed. */
void loop_broadcast(struct loop *loop, struct job *job);

/* End the workers, see sched_shutdown; loop_is_down tells when they are gone. */
void loop_shutdown(struct loop *loop, enum pool_shutdown_mode mode);
bool loop_is_down(const struct loop *loop);
/* Processes that are, or may become, workers. */
unsigned loop_live_count(const struct loop *loop);

/* Start all workers. */
void loop_boot(struct loop *loop);

/* A line about what the workers still do; "" when they are gone. */
void loop_describe_rest(const struct loop *loop, char *text_out, size_t size);
/* Add what was sent to workers, and what came from them. */
void loop_add_bytes(const struct loop *loop, uint64_t *out, uint64_t *in);

/* Let the loop_wait that is under way, or the next, return. */
void loop_wake(struct loop *loop);
/* Until when nobody needs the loop, though workers report. loop_nap sleeps until then, or until loop_wake or one of the
 * few workers that are listened to reports; as loop_wait, it needs no lock. loop_plan_nap: false when there is no time
 * for that. */
struct loop_nap {
    uint64_t until_ns;
    unsigned fd_count;
    int fds[FD_NAP_MAX];
};
bool loop_plan_nap(const struct loop *loop, struct loop_nap *nap_out);
void loop_nap(const struct loop_nap *nap);
/* Wait at most timeout_ms (-1: no limit) for something to do; the number of events, or LOOP_NO_FDS. */
enum { LOOP_NO_FDS = -1 };
int loop_wait(const struct loop *loop, struct epoll_event events[LOOP_EVENTS], int timeout_ms);
/* Whether it may end by the time. */
bool loop_needs_timer(const struct loop *loop);
/* Do it. */
void loop_handle(struct loop *loop, struct epoll_event events[LOOP_EVENTS], int count);

/* A cheaper look at the busy workers alone, at most LOOP_GLANCED. loop_aim: whom to look at; none if more are busy.
 * loop_glance: whether one has said something, which it reads; like loop_wait it may run without the lock. What
 * loop_aim has begun ends with loop_look_away if there was nothing; else with loop_handle_glanced, which does what they
 * want: in between it is known to nobody, so nobody may act on the time, and a deadline that has passed kills no worker
 * whose reply was read. Since others may have said something, too, it does not act on the time either. So when
 * loop_is_overdue it is loop_handle's turn. */
struct loop_glance {
    unsigned count;
    unsigned slots[LOOP_GLANCED];
};
void loop_aim(struct loop *loop, struct loop_glance *glance_out);
bool loop_glance(struct loop *loop, const struct loop_glance *glance);
void loop_look_away(struct loop *loop);
void loop_handle_glanced(struct loop *loop, const struct loop_glance *glance);
bool loop_is_overdue(const struct loop *loop);
/* All of that at once, for who comes by again and again without waiting, or is about to wait; a worker that has a bell
 * and did not ring it is left alone. False, with nothing done, when it is loop_handle's turn: workers come or go, one
 * was sent more than its pipe holds, everything was last looked at a millisecond ago, or who waits finds nothing. */
bool loop_look_in(struct loop *loop, bool waits);

/* Whether the pool's fds are seen to be its own still; they may have been closed by the program. If not, then in a
 * forked child they are to be forgotten before loop_abandon; everywhere else it is noticed by what fails: then is_lost
 * is true, all workers are given up and the pool is broken. */
bool loop_has_fds(const struct loop *loop);
void loop_forget_fds(struct loop *loop);

/* In a forked child: close this process's copies of everything and free them; no worker is touched. */
void loop_abandon(struct loop *loop);

#endif

/* task: one submitted task, from its submission until it is freed.
 *
 * Its head is what a lane holds of it; the rest is its input, its outcome, and who is to have it. A queued task is this
 * struct and its input in one piece of memory, so its size is kept in check: many may be queued.
 * Must not know: the scheduler, when to do what, locks. */
#ifndef PROCPOOL_TASK_H
#define PROCPOOL_TASK_H

#include "borrow.h"
#include "lane.h"
#include "procpool.h"
#include "slab.h"

/* Tasks that have ended, in the order in which they did. */
struct task_queue {
    struct pool_task *first;
};

struct pool_task {
    struct job_item item; /* first: the head of a task is the task */
    struct pool_task *next, *prev;
    struct pool *pool;
    struct task_queue *queue; /* where it goes when it has ended; NULL: it was claimed */
    struct lane *lane;        /* until it has ended */
    uint64_t index;           /* in the lane */
    union {
        void *tag;           /* of pool_submit */
        size_t stream_place; /* of pool_stream: in its window */
    };
    void *owned_input; /* NULL: the input is behind this struct */
    void *reply;
    struct borrowed *region; /* where the reply lies instead; NULL */
    size_t reply_size;
    char *message;         /* NULL: none, or no memory for it */
    uint64_t submitted_ns; /* then, when it has ended: how long it was queued */
    uint64_t run_ns;
    int status, code, signal, exit_code;
    unsigned worker_id, attempts;
    pid_t worker_pid;
    bool in_slab;
    bool ended;   /* nothing of its outcome changes any more: see task_has_ended */
    bool held;    /* somebody has the handle */
    bool dropped; /* to be destroyed as soon as it has ended */
};

/* What a task is given. */
struct task_input {
    const void *data; /* copied, unless it lies in `buffer`; of no matter where there is `owned` */
    size_t size;
    struct buffer *buffer; /* NULL: none */
    void *owned;           /* malloc'd, taken on success; NULL: it is the caller's */
};

/* slab: of task_init_slab, for a task that fits into a place of it; NULL: the task is malloc'd. For task_destroy the
 * same, or the pool's. 0; -ENOMEM, -EOVERFLOW. */
int task_create(struct slab *slab, const struct task_input *input, struct pool_task **task_out);
void task_destroy(struct slab *slab, struct pool_task *task);
/* Duplicates of fds go with it. With the pool's lock, and until that is let go of the pool knows the task, or they are
 * closed: or a process that is forked meanwhile would keep them. 0; -ENOMEM; what duplicating one failed with. */
int task_add_fds(struct pool_task *task, const int *fds, unsigned count);

/* Tasks with a copied input up to this size fit into a place. */
enum { TASK_SMALL_BYTES = 32 };
static inline void task_init_slab(struct slab *slab)
{
    slab_init(slab, sizeof(struct pool_task) + TASK_SMALL_BYTES);
}

/* What the library holds of its input. */
static inline size_t task_held_bytes(const struct pool_task *task)
{
    return task->item.buffer ? 0 : task->item.size;
}

/* It goes to this worker. */
void task_note_sent(struct pool_task *task, unsigned worker_id, pid_t worker_pid);
/* The last worker has not begun it. */
void task_note_taken_back(struct pool_task *task);

/* Memory for a reply, which task_end is then given: where the input was, if there is room, which nobody reads any more;
 * else malloc'd. NULL: there is none. */
void *task_reply_memory(struct pool_task *task, size_t size);

/* How it ended. text: NULL: none. reply: of task_reply_memory or malloc'd, taken. region: where it is instead, held,
 * taken; NULL: nowhere. */
struct task_outcome {
    int status, code, signal, exit_code;
    const char *text;
    void *reply;
    struct borrowed *region;
    size_t reply_size;
    uint64_t run_ns;
};
void task_end(struct pool_task *task, const struct task_outcome *outcome, uint64_t now_ns);

/* Its fds alone: for a copy of this process, in which the task never ends. May run twice. */
void task_close_fds(struct pool_task *task);
/* They may be another's by now. */
void task_forget_fds(struct pool_task *task);

/* With the lock or without: once true, the outcome may be read. */
static inline bool task_has_ended(const struct pool_task *task)
{
    return __atomic_load_n(&task->ended, __ATOMIC_ACQUIRE);
}
void task_describe(const struct pool_task *task, struct pool_result *result_out);

void task_queue_append(struct task_queue *queue, struct pool_task *task);
void task_queue_remove(struct task_queue *queue, struct pool_task *task);

#endif

/* task: see task.h. What was taken or duplicated for the input goes when the task ends, all the rest when it is
 * freed. */
#include "task.h"
#include "fd.h"
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

/* Copies of fds, all or none. */
static int duplicate(const int *fds, unsigned count, int **copies_out)
{
    for (unsigned i = 0; i < count; i++)
        if (!fd_is_open(fds[i])) /* before a duplicate takes its number */
            return -EBADF;
    int *copies = malloc(count * sizeof *copies);
    if (!copies)
        return -ENOMEM;
    for (unsigned i = 0; i < count; i++) {
        copies[i] = fd_dup(fds[i]);
        if (copies[i] >= 0)
            continue;
        int error = copies[i];
        while (i--)
            fd_close(&copies[i]);
        free(copies);
        return error;
    }
    *copies_out = copies;
    return 0;
}

static void deallocate(struct slab *slab, struct pool_task *task, bool in_slab)
{
    if (in_slab)
        slab_give(slab, task);
    else
        free(task);
}

/* Where the input is: a copy lies behind the task. */
static const void *find_data(const struct pool_task *task, const struct task_input *input)
{
    if (input->owned)
        return input->owned;
    return input->buffer ? input->data : task + 1;
}

int task_create(struct slab *slab, const struct task_input *input, struct pool_task **task_out)
{
    size_t copied = input->owned || input->buffer ? 0 : input->size, bytes;
    if (__builtin_add_overflow(sizeof(struct pool_task), copied, &bytes))
        return -EOVERFLOW;
    bool in_slab = slab && copied <= TASK_SMALL_BYTES;
    struct pool_task *task = in_slab ? slab_take(slab) : malloc(bytes);
    if (!task)
        return -ENOMEM;
    *task = (struct pool_task){
        .item = {.data = find_data(task, input), .size = input->size, .buffer = input->buffer, .slot = JOB_NO_SLOT},
        .owned_input = input->owned,
        .in_slab = in_slab,
        .worker_id = POOL_NOT_A_WORKER,
        .exit_code = -1};
    if (copied)
        memcpy(task + 1, input->data, copied);
    *task_out = task;
    return 0;
}

int task_add_fds(struct pool_task *task, const int *fds, unsigned count)
{
    int *copies = NULL;
    int error = count ? duplicate(fds, count, &copies) : 0;
    if (error)
        return error;
    task->item.fds = copies;
    task->item.fd_count = count;
    return 0;
}

void task_close_fds(struct pool_task *task)
{
    int *fds = (int *)(uintptr_t)task->item.fds;
    for (unsigned i = 0; i < task->item.fd_count; i++)
        fd_close(&fds[i]);
}

void task_forget_fds(struct pool_task *task)
{
    task->item.fd_count = 0;
}

static void release_input(struct pool_task *task)
{
    task_close_fds(task);
    free((void *)(uintptr_t)task->item.fds);
    free(task->owned_input);
    task->item.fds = NULL;
    task->item.fd_count = 0;
    task->owned_input = NULL;
}

static_assert(sizeof(struct pool_task) % 16 == 0, "a reply behind it is aligned");

void *task_reply_memory(struct pool_task *task, size_t size)
{
    return task->in_slab && size <= TASK_SMALL_BYTES ? task + 1 : malloc(size);
}

void task_destroy(struct slab *slab, struct pool_task *task)
{
    if (!task->ended)
        release_input(task);
    if (task->reply != (void *)(task + 1))
        free(task->reply);
    borrow_give_back(task->region);
    free(task->message);
    deallocate(slab, task, task->in_slab);
}

void task_note_sent(struct pool_task *task, unsigned worker_id, pid_t worker_pid)
{
    task->worker_id = worker_id;
    task->worker_pid = worker_pid;
    task->attempts++;
}

void task_note_taken_back(struct pool_task *task)
{
    if (--task->attempts)
        return;
    task->worker_id = POOL_NOT_A_WORKER;
    task->worker_pid = 0;
}

void task_end(struct pool_task *task, const struct task_outcome *outcome, uint64_t now_ns)
{
    uint64_t passed_ns = now_ns > task->submitted_ns ? now_ns - task->submitted_ns : 0;
    task->submitted_ns = passed_ns > outcome->run_ns ? passed_ns - outcome->run_ns : 0;
    task->run_ns = outcome->run_ns;
    task->status = outcome->status;
    task->code = outcome->code;
    task->signal = outcome->signal;
    task->exit_code = outcome->exit_code;
    task->message = outcome->text ? strdup(outcome->text) : NULL;
    task->reply = outcome->reply;
    task->region = outcome->region;
    task->reply_size = outcome->reply_size;
    task->lane = NULL;
    release_input(task);
    __atomic_store_n(&task->ended, true, __ATOMIC_RELEASE); /* pool_task_result reads it without the lock */
}

void task_describe(const struct pool_task *task, struct pool_result *result_out)
{
    const char *message = task->message ? task->message : task->status ? pool_strerror(task->status) : "";
    *result_out = (struct pool_result){.status = task->status,
                                       .code = task->code,
                                       .signal = task->signal,
                                       .exit_code = task->exit_code,
                                       .worker_id = task->worker_id,
                                       .attempts = task->attempts,
                                       .worker_pid = task->worker_pid,
                                       .queued_ns = task->submitted_ns,
                                       .run_ns = task->run_ns,
                                       .data = task->region ? task->region->data : task->reply,
                                       .data_size = task->reply_size,
                                       .message = message};
}

void task_queue_append(struct task_queue *queue, struct pool_task *task)
{
    DL_APPEND(queue->first, task);
}

void task_queue_remove(struct task_queue *queue, struct pool_task *task)
{
    DL_DELETE(queue->first, task);
}

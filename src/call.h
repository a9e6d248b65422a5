/* call: what a task sees of the library while it runs: its input, its reply, its error text, who it runs in.
 *
 * Used by the worker, and by a pool that runs its tasks in place. One task at a time runs in a worker, so the item's
 * index is a plain global that threads started by the task see as well.
 * Must not know: frames, pools. */
#ifndef PROCPOOL_CALL_H
#define PROCPOOL_CALL_H

#include "procpool.h"
#include <stdbool.h>

enum { CALL_TEXT_BYTES = 1024 };

struct pool_call {
    const void *input;
    size_t input_size;
    void *at; /* where the reply is: one of the three below; NULL: there is none */
    size_t reply_size;
    void *reply; /* malloc'd, owned by whoever made the call */
    size_t reply_capacity;
    void *room; /* where it may be if it fits; NULL */
    size_t room_bytes;
    void *shared; /* where it is if the task asked for that; NULL */
    size_t shared_capacity;
    /* Shared memory for a reply of `size` bytes, other than what it gave in this call before; or NULL. NULL: there is
     * none to be had. */
    void *(*find_shared)(size_t size, size_t *capacity_out);
    size_t max_reply_bytes;
    bool too_large; /* the last reply asked for was above max_reply_bytes */
    void *state;
    int fds[POOL_TASK_FDS]; /* that came with the task */
    size_t fd_count;
    char text[CALL_TEXT_BYTES];
};

/* Where this code runs. */
struct call_place {
    bool in_worker; /* or in a process that comes from one */
    unsigned worker_id;
    uint64_t item_index;
    char text[CALL_TEXT_BYTES]; /* of pool_call_fail(NULL, ...) */
};
extern struct call_place call_place;

/* Begin a call with what is set in `call` beside input and state: keeps the reply's memory, forgets the rest. room: for
 * a reply of at most so many bytes; NULL: none. */
void call_begin(struct pool_call *call, const void *input, size_t size, void *room, size_t room_bytes);

#endif

/* work_inner: what the rooms of a worker's work share. See work.h for what it does.
 *
 *   work.c        the stream, functions, tasks, memory
 *   work_run.c    runs of items of one size
 *   work_share.c  shared buffers, and what lies in them
 *
 * Nobody else includes this. */
#ifndef PROCPOOL_WORK_INNER_H
#define PROCPOOL_WORK_INNER_H

#include "work.h"

#define LOOK_NS UINT64_C(2000) /* items shorter than this share one look at the clock */

/* WIRE_WORN when this worker holds more memory than it may. */
uint8_t work_weigh(uint64_t elapsed_ns);

/* How many of the next `most` items are not taken back. They are begun with this. work_skip_items tells of those that
 * were. */
uint32_t work_begin_items(uint32_t most);
void work_skip_items(uint32_t count);

/* The request cannot be run: so it ends for all of its items that were not taken back. A task was begun as it came. */
void work_refuse(const struct wire_header *request, int error, const char *text);

/* The function that the request names. NULL: it cannot be run here; the error was put. */
callable_fn *work_find_function(const struct wire_header *request);

/* Room for `size` bytes; what was there is lost. */
bool work_reserve(struct work_buffer *buffer, size_t size);
void work_release_if_large(struct work_buffer *buffer);
/* Large buffers stay while large requests follow one another. */
void work_release_if_outgrown(struct work_buffer *buffer, size_t used);

/* The message of the parent's that has to do with `number` has come through the socket: with an fd, or -1, since this
 * process's table is full. */
int work_receive_fd(uint64_t number);

/* Where the input of a request is, and where the results of a run are to be left, or the reply of a task may be. */
struct work_places {
    const uint8_t *input;
    size_t input_size;
    uint8_t *results; /* NULL: they travel */
    size_t results_size;
};
/* The request's body. false: what it asks for is not to be had here; the body was skipped and the error put. */
bool work_take_places(const struct wire_header *request, struct work_places *places_out);

/* Tell where the reply of the task at hand is: false, when it has to travel. */
bool work_refer_to_reply(const struct wire_header *request, uint64_t elapsed_ns, uint8_t flags);

#endif

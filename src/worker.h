/* worker: the life of a worker, on its side of the wire.
 *
 * Says hello, is configured, runs preload and initializer, says that it is ready, and then handles one request after
 * the other (work.h) until it is told to start afresh or to end, or the stream ends.
 * Must not know: how the process came about, what the parent keeps. */
#ifndef PROCPOOL_WORKER_H
#define PROCPOOL_WORKER_H

#include <stddef.h>

/* Be a worker on CHILD_IN_FD and CHILD_OUT_FD. */
void worker_run(void) __attribute__((noreturn));

/* See backend_hooks. */
void worker_prepare_copies(void);

/* Run the preload of an encoded WIRE_CONFIG (see wire.h). 0, or non-zero with a text. */
int worker_preload(const void *config, size_t size, char *message_out, size_t message_size);

#endif

/* worker: the worker's side of the wire.
 *
 * Says hello, is configured, and then runs what it is sent, one item after the other and in order, until it is told to end or the
 * stream ends. Results gather while more work is at hand and go at the latest 200 microseconds after the last report, between items;
 * a stepwise item is reported before the next begins.
 * Must not know: how the process came about, what the parent keeps. */
#ifndef PROCPOOL_WORKER_H
#define PROCPOOL_WORKER_H

#include <stddef.h>

/* Be a worker on CHILD_IN_FD and CHILD_OUT_FD. */
void worker_run(void) __attribute__((noreturn));

/* Run the preload of an encoded WIRE_CONFIG (see wire.h). 0, or non-zero with a text. */
int worker_preload(const void *config, size_t size, char *message_out, size_t message_size);

#endif

/* options: what a caller asked for, checked and completed: structs with a size, defaults, the environment, the limits.
 * On failure the thread's message is set.
 * Must not know: pools. */
#ifndef PROCPOOL_OPTIONS_H
#define PROCPOOL_OPTIONS_H

#include "backend.h"
#include "procpool.h"

/* Read a caller's struct into *own (own_size bytes, holding the defaults), by the rules for `size` fields. given may be
 * NULL. */
int options_import(void *own, size_t own_size, const void *given, const char *name);

/* Zeros become defaults; numbers that cannot be meant are refused. */
int options_settle(struct pool_options *options);

/* For how long who waits may look for news before it sleeps. */
uint64_t options_spin_ns(const struct pool_options *options);

/* By the option, else $POOL_BACKEND, else the default. */
int options_choose_backend(const struct pool_options *options, const struct backend **backend_out);

/* By the option, else $POOL_WORKERS, else the CPUs. *asked_out: the number was asked for, and is to be had in full. */
int options_choose_workers(const struct pool_options *options, unsigned *workers_out, bool *asked_out);

#endif

/* memory: memory that two processes share, by an fd.
 *
 * The one makes it and sends the fd, the other, which need not believe the first, looks at what it was sent before it
 * maps it: memory that could shrink would end who reads it with SIGBUS.
 * Must not know: what is in it, how the fd travels. */
#ifndef PROCPOOL_MEMORY_H
#define PROCPOOL_MEMORY_H

#include <stdbool.h>
#include <stddef.h>

/* `size` bytes, zero, that others may map by the fd and nobody can shrink. Above stdio. The fd or a negative errno. */
int memory_create(const char *name, size_t size);

/* Whether RLIMIT_FSIZE lets this process have such memory, which counts as a file, of that size: 0; -EFBIG; another
 * negative errno. Asked before, since to try would raise SIGXFSZ. */
int memory_check_limit(size_t size);

/* Whether fd is such memory, of at least `size` bytes. */
bool memory_is_safe(int fd, size_t size);

/* protection: as for mmap. 0 or a negative errno. */
int memory_map(int fd, size_t size, int protection, void **data_out);
/* The same, and copies of this process do not have it. */
int memory_map_alone(int fd, size_t size, int protection, void **data_out);

#endif

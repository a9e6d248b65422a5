/* callable: a function pointer as something another process of the same program can find.
 *
 * A function travels as (object, build-id, offset from the object's load address). The object is the executable
 * or a shared object by its absolute path; static functions work, since no symbol name is involved. The receiving
 * process loads a shared object that it does not have yet. For the executable nothing is compared (every worker runs
 * the very same file); for a shared object the build-id, or without one (device, inode, size, mtime and segment layout)
 * must agree.
 *
 * Must not know: pools, workers, frames. Uses dl_iterate_phdr, /proc/self/maps, dlopen. */
#ifndef PROCPOOL_CALLABLE_H
#define PROCPOOL_CALLABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef void callable_fn(void); /* any function; cast back before calling */

enum {
    CALLABLE_PATH_BYTES = 4096,
    CALLABLE_ID_BYTES = 64,
    CALLABLE_MAX_BYTES = CALLABLE_PATH_BYTES + CALLABLE_ID_BYTES + 64,
    CALLABLE_TEXT_BYTES = 256 /* room for what went wrong, in words */
};

/* Describe fn in `bytes` (at least CALLABLE_MAX_BYTES): the wire form, pure data of *size_out bytes.
 * 0; POOL_EBUILD when fn lies in no executable segment of a loaded object with a file; -ENOMEM. message:
 * CALLABLE_TEXT_BYTES, written on failure. */
int callable_describe(callable_fn *fn, uint8_t *bytes, size_t *size_out, char *message);

/* Changes whenever an object is loaded or unloaded: a description made under another generation may be of code that is
 * gone, with other code at its address. */
uint64_t callable_generation(void);

/* Whether a description is of the executable's own code, which is never unloaded: it stays right under every
 * generation. */
bool callable_is_lasting(const uint8_t *bytes);

/* The other way, in a worker. The bytes come from the pool's own process but are checked all the same.
 * 0; POOL_EBUILD (the message says: file gone, other build: both ids, offset outside of executable segments, what
 * dlopen said); POOL_EPROTO when the bytes are malformed. */
int callable_resolve(const uint8_t *bytes, size_t size, callable_fn **fn_out, char *message);

/* The identity of this library's own code, so that two processes can compare: the build-id (or the substitute) of the
 * object that contains it. Returns the number of bytes written, at most CALLABLE_ID_BYTES; never 0. */
size_t callable_library_id(uint8_t *bytes);

/* Find out now what never changes, so that copies of this process need not, each for itself. */
void callable_prepare(void);

/* "parse_header in /usr/lib/x.so" or "/usr/lib/x.so+0x1234" (where no symbol is visible), for messages; truncated to
 * fit. */
void callable_name(callable_fn *fn, char *text_out, size_t text_size);

/* Whether the program was started through its dynamic loader (ld.so ./program): then /proc/self/exe is the loader, and
 * starting this program anew is not possible. */
bool callable_started_by_loader(void);

#endif

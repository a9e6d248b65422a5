/* regions: the shared buffers that a worker has mapped, by number.
 *
 * Mapped for reading alone unless results go there, once, and kept until the parent says that they are gone. What
 * cannot be mapped is remembered as such: the items that lie in it cannot be run here. Those that are for results a
 * copy of the worker does not have, so that nobody writes there after the worker's end.
 * Must not know: frames, items. */
#ifndef PROCPOOL_REGIONS_H
#define PROCPOOL_REGIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct region {
    uint8_t *data; /* NULL: none */
    size_t size;
    bool writable;
    int error; /* why it could not be mapped */
};

struct regions {
    struct region *list; /* by number */
    size_t count;
};

/* From now on `number` means `size` bytes of fd (which stays the caller's), or that there are none because of `error`.
 * What it meant before is unmapped. 0; -ENOMEM, with nothing changed. */
int regions_map(struct regions *regions, uint64_t number, size_t size, int fd, bool writable);
int regions_refuse(struct regions *regions, uint64_t number, int error);
/* -EINVAL: there is none. */
int regions_unmap(struct regions *regions, uint64_t number);

/* `size` bytes at `offset`. 0; what mapping it failed with; -EFAULT: there is no such memory, or it is not to be
 * written to. */
int regions_find(const struct regions *regions, uint64_t number, uint64_t offset, uint64_t size, bool writable,
                 uint8_t **data_out);

#endif

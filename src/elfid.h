/* elfid: what identifies a build of an ELF object, loaded or still a file.
 *
 * The build-id that the linker left in a note; an object without one is identified by its file (device, inode, size,
 * mtime) and the layout of its segments. The first byte of an id tells which, so the two never compare equal. A loaded
 * object and its file are identified by the same code over the same program headers, so that both give the same bytes.
 *
 * Functions return 0, the outcome below, or a negative errno. Must not know: which objects are loaded, and where. */
#ifndef PROCPOOL_ELFID_H
#define PROCPOOL_ELFID_H

#include <link.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum { ELFID_MALFORMED = 1 }; /* the file is no ELF object of this machine */

enum {
    ELFID_BYTES = 64,
    ELFID_BUILD = 'b', /* the rest is the linker's build-id, at most 63 bytes */
    ELFID_FILE = 'f',  /* the rest is device, inode, size, mtime in ns, layout: five u64, little-endian */
    ELFID_FILE_BYTES = 1 + 5 * 8,
};

struct elfid {
    size_t size;
    uint8_t bytes[ELFID_BYTES];
};

/* An object's program headers, and where its bytes are. */
struct elfimage {
    const ElfW(Phdr) * headers;
    size_t header_count;
    uintptr_t base; /* where it is loaded */
    FILE *file;     /* borrowed; NULL: loaded at base */
};

/* In an id of kind FILE the facts about the file are still zero, as they are in no complete id. */
void elfid_of_image(const struct elfimage *image, struct elfid *id_out);

/* Complete an id of kind FILE with the facts about that file; others stay as they are. 0 or a negative errno. */
int elfid_add_file(struct elfid *id, const char *path);

/* The complete id of an object that is not loaded. 0; ELFID_MALFORMED; a negative errno. */
int elfid_of_file(const char *path, struct elfid *id_out);

bool elfid_same(const struct elfid *a, const struct elfid *b);

#endif

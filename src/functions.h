/* functions: the functions that a pool has been given, numbered.
 *
 * A function pointer is described once (see callable.h) and from then on known by a small number, also to the workers
 * that have been told of it.
 * Must not know: workers, jobs. */
#ifndef PROCPOOL_FUNCTIONS_H
#define PROCPOOL_FUNCTIONS_H

#include "callable.h"

struct function_entry;

struct functions {
    struct function_entry *by_pointer; /* uthash */
    struct function_entry **by_number;
    uint32_t count, capacity;
    const struct function_entry *last; /* that was asked for among those that need no second look; NULL: none yet */
};

void functions_clear(struct functions *functions);

/* The number of fn. 0; POOL_EBUILD, -ENOMEM, with a text in message (CALLABLE_TEXT_BYTES). */
int functions_number(struct functions *functions, callable_fn *fn, uint32_t *number_out, char *message);

const uint8_t *functions_bytes(const struct functions *functions, uint32_t number, size_t *size_out);
/* Its name for messages, as callable_name says it; found out once, since that may take as long as starting a
 * process. */
void functions_name(const struct functions *functions, uint32_t number, char *text_out, size_t text_size);

#endif

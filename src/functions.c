/* functions: see functions.h.
 *
 * A number means one function for good, but a pointer need not: an object may be unloaded, and another loaded where it
 * was. So a pointer is described anew when anything has been loaded or unloaded since, and gets another number when it
 * has come to mean something else; but not one of the executable's own code that was asked for last. */
#define HASH_NONFATAL_OOM 1 /* uthash would exit the program */
#include "functions.h"
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

struct function_entry {
    callable_fn *fn;     /* the key */
    uint64_t generation; /* under which the description is known to be right */
    uint32_t number;
    char *name; /* NULL: nobody has asked yet */
    size_t size;
    UT_hash_handle hh;
    uint8_t bytes[];
};

void functions_clear(struct functions *functions)
{
    HASH_CLEAR(hh, functions->by_pointer);
    for (uint32_t i = 0; i < functions->count; i++) {
        free(functions->by_number[i]->name);
        free(functions->by_number[i]);
    }
    free(functions->by_number);
    *functions = (struct functions){0};
}

static int reserve(struct functions *functions)
{
    if (functions->count < functions->capacity)
        return 0;
    uint32_t capacity = functions->capacity * 2 + 8;
    struct function_entry **by_number = realloc(functions->by_number, capacity * sizeof(struct function_entry *));
    if (!by_number)
        return -ENOMEM;
    functions->by_number = by_number;
    functions->capacity = capacity;
    return 0;
}

/* The entry is in both tables or in none. */
static int add(struct functions *functions, callable_fn *fn, const uint8_t *bytes, size_t size)
{
    struct function_entry *entry = calloc(1, sizeof *entry + size);
    if (!entry || reserve(functions)) {
        free(entry);
        return -ENOMEM;
    }
    entry->fn = fn;
    entry->number = functions->count;
    entry->size = size;
    memcpy(entry->bytes, bytes, size);
    HASH_ADD(hh, functions->by_pointer, fn, sizeof entry->fn, entry);
    if (!entry->hh.tbl) { /* uthash's sign of no memory */
        free(entry);
        return -ENOMEM;
    }
    functions->by_number[functions->count++] = entry;
    return 0;
}

static struct function_entry *find(const struct functions *functions, callable_fn *fn)
{
    struct function_entry *entry;
    HASH_FIND(hh, functions->by_pointer, &fn, sizeof fn, entry);
    return entry;
}

/* Describe fn, and have *entry be what it means now: what it meant before (NULL: nothing), or something new. */
static int describe(struct functions *functions, callable_fn *fn, struct function_entry **entry, char *message)
{
    uint8_t bytes[CALLABLE_MAX_BYTES];
    size_t size;
    struct function_entry *before = *entry;
    int rc = callable_describe(fn, bytes, &size, message);
    bool same = !rc && before && before->size == size && !memcmp(before->bytes, bytes, size);
    if (before && !same) /* other code is there now; the number goes on to mean what it meant */
        HASH_DEL(functions->by_pointer, before);
    if (rc || same)
        return rc;
    rc = add(functions, fn, bytes, size);
    if (rc)
        strcpy(message, "no memory to remember the function");
    else
        *entry = functions->by_number[functions->count - 1];
    return rc;
}

/* Code of the executable cannot be replaced: no need to ask what has been loaded since. */
static bool is_last(const struct functions *functions, callable_fn *fn)
{
    return functions->last && functions->last->fn == fn;
}

int functions_number(struct functions *functions, callable_fn *fn, uint32_t *number_out, char *message)
{
    if (is_last(functions, fn)) {
        *number_out = functions->last->number;
        return 0;
    }
    uint64_t generation = callable_generation();
    struct function_entry *entry = find(functions, fn);
    if (!entry || entry->generation != generation) {
        int rc = describe(functions, fn, &entry, message);
        if (rc)
            return rc;
        entry->generation = generation;
    }
    if (callable_is_lasting(entry->bytes))
        functions->last = entry;
    *number_out = entry->number;
    return 0;
}

const uint8_t *functions_bytes(const struct functions *functions, uint32_t number, size_t *size_out)
{
    *size_out = functions->by_number[number]->size;
    return functions->by_number[number]->bytes;
}

void functions_name(const struct functions *functions, uint32_t number, char *text_out, size_t text_size)
{
    struct function_entry *entry = functions->by_number[number];
    if (entry->name) {
        snprintf(text_out, text_size, "%s", entry->name);
        return;
    }
    callable_name(entry->fn, text_out, text_size);
    entry->name = strdup(text_out); /* without memory it is found out again */
}

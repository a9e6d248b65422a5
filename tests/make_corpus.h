/* make_corpus: what its two files share. */
#ifndef PROCPOOL_TESTS_MAKE_CORPUS_H
#define PROCPOOL_TESTS_MAKE_CORPUS_H

#include <stddef.h>

void put(const void *bytes, size_t size);
/* What was put so far as a file, and from the start again. */
void save(const char *name);

void save_parent_seeds(void);

#endif

/* pages: see pages.h. What madvise says to the hint is of no interest. */
#include "pages.h"
#include <errno.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

/* The least size in which a large page surely lies. */
#define WORTHWHILE_BYTES ((size_t)4 << 20)

/* Rounded outwards: were a part of the memory advised and another not, mremap could not move it in one go, and realloc
 * would copy. */
void pages_expect(void *memory, size_t size)
{
    if (size < WORTHWHILE_BYTES)
        return;
    int errno_before = errno;
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), first = (uintptr_t)memory / page * page;
    uintptr_t end = ((uintptr_t)memory + size + page - 1) / page * page;
    madvise((void *)first, end - first, MADV_HUGEPAGE);
    errno = errno_before;
}

/* Where madvise refuses, copies have it, too, and use it as little. */
void *pages_create_alone(size_t size)
{
    int errno_before = errno;
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory != MAP_FAILED)
        madvise(memory, size, MADV_DONTFORK);
    errno = errno_before;
    return memory == MAP_FAILED ? NULL : memory;
}

void pages_destroy(void *memory, size_t size)
{
    int errno_before = errno;
    if (memory)
        munmap(memory, size);
    errno = errno_before;
}

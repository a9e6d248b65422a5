/* Names that the library uses for itself, taken by a program. tests/outside.sh adds all the others that it finds in the
 * library's objects (own_names.h). Were one of them visible to the linker, the program would not link, or the library
 * would call it. */
#include <stdlib.h>

int pool_create(void);
int pool_map(void);
int own_names(void);

int pool_create(void)
{
    abort();
}

int pool_map(void)
{
    abort();
}

#if __has_include("own_names.h")
#define OWN_NAME(name)                                                                                                 \
    int name(void);                                                                                                    \
    int name(void)                                                                                                     \
    {                                                                                                                  \
        abort();                                                                                                       \
    }
#include "own_names.h"
#undef OWN_NAME
#endif

/* How many there are: their addresses are taken, so that they are there. */
int own_names(void)
{
    static int (*const names[])(void) = {
        pool_create,
        pool_map,
#if __has_include("own_names.h")
#define OWN_NAME(name) name,
#include "own_names.h"
#endif
    };
    int count = 0;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        count += names[i] != NULL;
    return count;
}

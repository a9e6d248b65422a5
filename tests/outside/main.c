/* A program of somebody else's, that uses procpool as it is installed: the map of README.md under each start method.
 * The function own_names is in names.c, where this program has functions with the library's own inner names. */
#include <procpool.h>
#include <stdio.h>

int own_names(void);

static int square(const void *item, void *result, void *state)
{
    (void)state;
    *(double *)result = *(const double *)item * *(const double *)item;
    return 0;
}

static int map_under(const char *backend)
{
    struct pool_options options = POOL_OPTIONS_INIT;
    struct pool *pool;
    double items[1000], results[1000];

    options.backend = backend;
    options.workers = 2;
    for (int i = 0; i < 1000; i++)
        items[i] = i;
    if (pool_create(&options, &pool) < 0)
        return 0;
    int error = pool_map(pool, square, items, sizeof *items, results, sizeof *results, 1000);
    pool_destroy(pool);
    for (int i = 0; error == 0 && i < 1000; i++)
        if (results[i] < items[i] * items[i] || results[i] > items[i] * items[i])
            return 0;
    return error == 0;
}

int main(void)
{
    static const char *const backends[] = {"fork", "spawn", "forkserver"};
    int failed = 0;

    pool_init();
    for (int i = 0; i < 3; i++) {
        if (map_under(backends[i]))
            continue;
        printf("%s: %s\n", backends[i], pool_message());
        failed = 1;
    }
    /* Called, so that no linker leaves them out. */
    return failed || own_names() < 3;
}

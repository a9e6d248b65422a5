/* square: the smallest program. A map over an array of doubles, each squared in a worker process. */
#include <procpool.h>
#include <stdio.h>

static int square(const void *item, void *result, void *state)
{
    (void)state;
    *(double *)result = *(const double *)item * *(const double *)item;
    return 0;
}

int main(void)
{
    pool_init(); /* first: a worker is this program, started again */

    double items[] = {1.5, 2, 3, 4}, results[4];
    if (pool_map(NULL, square, items, sizeof items[0], results, sizeof results[0], 4) < 0) {
        fprintf(stderr, "square: %s\n", pool_message());
        return 1;
    }
    for (int i = 0; i < 4; i++)
        printf("%g squared is %g\n", items[i], results[i]);
    return 0;
}

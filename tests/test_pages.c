/* pages: memory that copies of the process do not have.
 * Build: cc -Iinclude -Isrc tests/test_pages.c src/pages.c -lcmocka */
#include "pages.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "copies.h"

enum { SIZE = 10000 };

static void memory_alone_is_zero_and_copies_do_not_have_it(void **unused)
{
    static const char zero[SIZE];
    (void)unused;
    void *memory = pages_create_alone(SIZE);
    assert_non_null(memory);
    assert_memory_equal(memory, zero, SIZE);
    memset(memory, 1, SIZE);
    assert_false(copy_can_read(memory));
    pages_destroy(memory, SIZE);
    pages_destroy(NULL, SIZE);
}

static void memory_that_cannot_be_had_is_null(void **unused)
{
    (void)unused;
    assert_null(pages_create_alone(SIZE_MAX / 2));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_alone_is_zero_and_copies_do_not_have_it),
        cmocka_unit_test(memory_that_cannot_be_had_is_null),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* slab: objects beside one another, and memory that goes back.
 * Build: cc -Iinclude -Isrc tests/test_slab.c src/slab.c -lcmocka */
#include "slab.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

enum { OBJECT_BYTES = 200, MANY = 50000 };

static void *objects[MANY];

static void take_many(struct slab *slab)
{
    for (size_t i = 0; i < MANY; i++) {
        objects[i] = slab_take(slab);
        assert_non_null(objects[i]);
        assert_int_equal((uintptr_t)objects[i] % 16, 0);
        memset(objects[i], (int)i, OBJECT_BYTES);
    }
}

/* What was written into it is there, so it shares no byte with another. */
static void give(struct slab *slab, size_t i)
{
    const unsigned char *bytes = objects[i];
    for (size_t k = 0; k < OBJECT_BYTES; k += 33)
        assert_int_equal(bytes[k], (unsigned char)i);
    slab_give(slab, objects[i]);
}

static void expect_nothing_left(struct slab *slab)
{
    assert_in_range(slab->block_count, 0, 1);
    slab_clear(slab);
    assert_int_equal(slab->block_count, 0);
    slab_clear(slab);
}

static void memory_goes_back_in_whatever_order_objects_do(void **unused)
{
    (void)unused;
    struct slab slab;
    slab_init(&slab, OBJECT_BYTES);
    take_many(&slab);
    for (size_t i = 0; i < MANY; i++)
        give(&slab, i);
    assert_in_range(slab.block_count, 0, 1);
    take_many(&slab);
    for (size_t i = MANY; i--;)
        give(&slab, i);
    assert_in_range(slab.block_count, 0, 1);
    take_many(&slab);
    for (size_t i = 0, step = 7919; i < MANY; i++)
        give(&slab, i * step % MANY);
    expect_nothing_left(&slab);
}

static void memory_goes_back_as_objects_do(void **unused)
{
    (void)unused;
    struct slab slab;
    slab_init(&slab, OBJECT_BYTES);
    take_many(&slab);
    size_t most = slab.block_count;
    for (size_t i = 0; i < MANY / 2; i++)
        give(&slab, i);
    assert_in_range(slab.block_count, most / 2, most / 2 + 2);
    for (size_t i = MANY / 2; i < MANY; i++)
        give(&slab, i);
    expect_nothing_left(&slab);
}

/* Places that were given back are used again before there are more of them. */
static void few_objects_that_come_and_go_need_one_block(void **unused)
{
    (void)unused;
    struct slab slab;
    slab_init(&slab, OBJECT_BYTES);
    for (size_t i = 0; i < 100; i++)
        objects[i] = slab_take(&slab);
    for (size_t round = 0; round < MANY; round++) {
        slab_give(&slab, objects[round % 100]);
        objects[round % 100] = slab_take(&slab);
        assert_non_null(objects[round % 100]);
        assert_in_range(slab.block_count, 0, 1);
    }
    for (size_t i = 0; i < 100; i++)
        slab_give(&slab, objects[i]);
    expect_nothing_left(&slab);
}

/* One object beyond a block, which comes and goes, does not cost a block each time. */
static void an_empty_block_is_kept(void **unused)
{
    (void)unused;
    struct slab slab;
    slab_init(&slab, OBJECT_BYTES);
    for (size_t i = 0; i < slab.places + 1; i++)
        objects[i] = slab_take(&slab);
    size_t blocks = slab.block_count;
    slab_give(&slab, objects[slab.places]);
    assert_int_equal(slab.block_count, blocks);
    for (size_t i = 0; i < slab.places; i++)
        slab_give(&slab, objects[i]);
    expect_nothing_left(&slab);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_goes_back_in_whatever_order_objects_do),
        cmocka_unit_test(memory_goes_back_as_objects_do),
        cmocka_unit_test(few_objects_that_come_and_go_need_one_block),
        cmocka_unit_test(an_empty_block_is_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

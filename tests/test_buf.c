/* buf: bounded cursors.
 * Build: cc -Iinclude -Isrc tests/test_buf.c src/buf.c -lcmocka */
#include "buf.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void numbers_come_back_as_they_were_written(void **unused)
{
    (void)unused;
    uint8_t bytes[15];
    struct buf_writer writer = buf_writer(bytes, sizeof bytes);
    buf_write_u8(&writer, 0xab);
    buf_write_u16(&writer, 0xbeef);
    buf_write_u32(&writer, 0xdeadbeef);
    buf_write_u64(&writer, UINT64_MAX - 1);
    assert_false(writer.failed);
    assert_int_equal(buf_written(&writer), sizeof bytes);

    struct buf_reader reader = buf_reader(bytes, sizeof bytes);
    assert_int_equal(buf_read_u8(&reader), 0xab);
    assert_int_equal(buf_read_u16(&reader), 0xbeef);
    assert_int_equal(buf_read_u32(&reader), 0xdeadbeef);
    assert_false(buf_finished(&reader));
    assert_true(buf_read_u64(&reader) == UINT64_MAX - 1);
    assert_true(buf_finished(&reader));
}

static void numbers_are_little_endian(void **unused)
{
    (void)unused;
    static const uint8_t expected[] = {1, 2, 1, 4, 3, 2, 1, 8, 7, 6, 5, 4, 3, 2, 1};
    uint8_t bytes[sizeof expected];
    struct buf_writer writer = buf_writer(bytes, sizeof bytes);
    buf_write_u8(&writer, 0x01);
    buf_write_u16(&writer, 0x0102);
    buf_write_u32(&writer, 0x01020304);
    buf_write_u64(&writer, 0x0102030405060708);
    assert_memory_equal(bytes, expected, sizeof expected);
}

/* Memory of its own size, so that a sanitizer sees the first byte beyond it. */
static void reading_past_the_end_fails_for_good(void **unused)
{
    (void)unused;
    for (size_t size = 0; size < 8; size++) {
        uint8_t *bytes = malloc(size ? size : 1);
        memset(bytes, 0xff, size);
        struct buf_reader reader = buf_reader(bytes, size);
        assert_true(buf_read_u64(&reader) == 0);
        assert_true(reader.failed);
        assert_int_equal(buf_read_u8(&reader), 0);
        assert_null(buf_borrow(&reader, 0));
        assert_false(buf_finished(&reader));
        free(bytes);
    }
}

static void writing_past_the_end_fails_for_good(void **unused)
{
    (void)unused;
    uint8_t bytes[4] = {9, 9, 9, 9};
    struct buf_writer writer = buf_writer(bytes, 3);
    buf_write_u16(&writer, 0);
    buf_write_u16(&writer, 0);
    assert_true(writer.failed);
    buf_write_u8(&writer, 0);
    buf_write_bytes(&writer, "", 0);
    assert_int_equal(buf_written(&writer), 2);
    assert_int_equal(bytes[2], 9);
    assert_int_equal(bytes[3], 9);
}

static void borrowed_bytes_lie_in_the_readers_memory(void **unused)
{
    (void)unused;
    static const uint8_t bytes[] = {1, 2, 3};
    struct buf_reader reader = buf_reader(bytes, sizeof bytes);
    assert_ptr_equal(buf_borrow(&reader, 2), bytes);
    assert_ptr_equal(buf_borrow(&reader, 0), bytes + 2);
    assert_null(buf_borrow(&reader, SIZE_MAX));
}

static void nothing_is_read_from_no_memory(void **unused)
{
    (void)unused;
    struct buf_reader reader = buf_reader(NULL, 0);
    assert_non_null(buf_borrow(&reader, 0));
    assert_true(buf_finished(&reader));
}

static void bytes_are_copied(void **unused)
{
    (void)unused;
    uint8_t bytes[3];
    struct buf_writer writer = buf_writer(bytes, sizeof bytes);
    buf_write_bytes(&writer, "abc", 3);
    buf_write_bytes(&writer, NULL, 0);
    assert_false(writer.failed);
    assert_memory_equal(bytes, "abc", 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_come_back_as_they_were_written),
        cmocka_unit_test(numbers_are_little_endian),
        cmocka_unit_test(reading_past_the_end_fails_for_good),
        cmocka_unit_test(writing_past_the_end_fails_for_good),
        cmocka_unit_test(borrowed_bytes_lie_in_the_readers_memory),
        cmocka_unit_test(nothing_is_read_from_no_memory),
        cmocka_unit_test(bytes_are_copied),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* buffers, regions: memory that is shared with workers, as the parent keeps it and as a worker finds it.
 *
 * Regions are made of the fds of buffers here, as BUFFER frames make them, so that each sees what the other writes. */
#include "buffers.h"
#include "fd.h"
#include "memory.h"
#include "regions.h"
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "copies.h"

enum { SIZE = 10000, MANY = 200 };

static size_t page_size(void)
{
    return (size_t)sysconf(_SC_PAGESIZE);
}

static struct buffer *add(struct buffers *buffers, size_t size, bool shared)
{
    struct buffer *buffer = NULL;
    assert_int_equal(buffers_add(buffers, size, shared, &buffer), 0);
    assert_int_equal(buffer->size, size);
    assert_int_equal((uintptr_t)buffer->data % page_size(), 0);
    assert_int_equal(buffer->data[0] + buffer->data[size - 1], 0);
    return buffer;
}

static bool is_mapped(const void *address)
{
    unsigned char resident;
    return !mincore((void *)((uintptr_t)address / page_size() * page_size()), 1, &resident);
}

/* valgrind says of a mapping that there is no room for it that it is invalid. */
static bool is_no_memory(int rc)
{
    const char *preloads = getenv("LD_PRELOAD");
    bool under_valgrind = preloads && (strstr(preloads, "vgpreload") || strstr(preloads, "/valgrind/"));
    return rc == -ENOMEM || (under_valgrind && rc == -EINVAL);
}

/* ---- buffers ---- */

static void bytes_lie_in_a_buffer_only_from_end_to_end(void **unused)
{
    struct buffers buffers = {0};
    char outside[8] = {0};
    (void)unused;
    assert_null(buffers_hold(&buffers, outside, sizeof outside));
    struct buffer *buffer = add(&buffers, SIZE, true);
    uint8_t *data = buffer->data;
    assert_ptr_equal(buffers_hold(&buffers, data, SIZE), buffer);
    assert_ptr_equal(buffers_hold(&buffers, data + SIZE - 1, 1), buffer);
    assert_int_equal(buffer->uses, 2);
    assert_null(buffers_hold(&buffers, data, SIZE + 1));
    assert_null(buffers_hold(&buffers, data + 1, SIZE));
    assert_null(buffers_hold(&buffers, data + SIZE - 1, 2));
    assert_null(buffers_hold(&buffers, data + SIZE, 1)); /* in its last page, and not in it */
    assert_null(buffers_hold(&buffers, data - 1, 2));
    assert_null(buffers_hold(&buffers, data + 1, SIZE_MAX));
    assert_null(buffers_hold(&buffers, data + 1, SIZE_MAX - (uintptr_t)data));
    assert_null(buffers_hold(&buffers, NULL, 1));
    assert_null(buffers_hold(&buffers, outside, sizeof outside));
    assert_int_equal(buffer->uses, 2);
    buffers_destroy(&buffers, buffer);
    buffers_clear(&buffers);
}

/* Such neighbours hold all of the bytes, and neither does. */
static void bytes_in_two_neighbours_lie_in_neither(void **unused)
{
    struct buffers buffers = {0};
    struct buffer *all[MANY];
    unsigned neighbours = 0;
    (void)unused;
    for (unsigned i = 0; i < MANY; i++)
        all[i] = add(&buffers, page_size(), i % 2);
    for (size_t i = 0; i + 1 < buffers.count; i++) {
        struct buffer *low = buffers.by_address[i], *high = buffers.by_address[i + 1];
        uint8_t *end = low->data + low->size;
        assert_true(end <= high->data);
        neighbours += end == high->data;
        assert_null(buffers_hold(&buffers, end - 1, 2));
        assert_ptr_equal(buffers_hold(&buffers, end - 1, 1), low);
        assert_ptr_equal(buffers_hold(&buffers, high->data, 1), high);
    }
    assert_true(neighbours > 0);
    for (unsigned i = 0; i < MANY; i++)
        buffers_destroy(&buffers, all[i]);
    buffers_clear(&buffers);
}

static void buffer_is_known_by_where_it_begins(void **unused)
{
    struct buffers buffers = {0};
    struct buffer *all[MANY];
    (void)unused;
    for (unsigned i = 0; i < MANY; i++)
        all[i] = add(&buffers, 1 + i * 97, i % 3);
    for (unsigned i = 0; i < MANY; i++) {
        struct buffer *buffer = all[i * 7 % MANY];
        assert_ptr_equal(buffers_at(&buffers, buffer->data), buffer);
        assert_null(buffers_at(&buffers, buffer->data + 1));
        buffer->freed = true; /* and still in use: nobody finds it any more */
        assert_null(buffers_at(&buffers, buffer->data));
        assert_null(buffers_hold(&buffers, buffer->data, 1));
        uint8_t *data = buffer->data;
        buffers_destroy(&buffers, buffer);
        assert_null(buffers_at(&buffers, data));
        assert_false(is_mapped(data));
    }
    assert_int_equal(buffers.count, 0);
    buffers_clear(&buffers);
    buffers_clear(&buffers);
}

static void numbers_are_small_and_used_again(void **unused)
{
    struct buffers buffers = {0};
    struct buffer *all[MANY];
    (void)unused;
    for (unsigned i = 0; i < MANY; i++) {
        all[i] = add(&buffers, 1, false);
        assert_int_equal(all[i]->number, i);
    }
    for (unsigned i = 0; i < MANY; i += 2)
        buffers_destroy(&buffers, all[i]);
    for (unsigned i = 0; i < MANY; i += 2) {
        all[i] = add(&buffers, 1, false);
        assert_int_equal(all[i]->number, i);
    }
    for (unsigned i = MANY; i--;)
        buffers_destroy(&buffers, all[i]);
    buffers_clear(&buffers);
}

static void what_cannot_be_had_leaves_nothing_behind(void **unused)
{
    struct buffers buffers = {0};
    struct buffer *buffer = NULL, *other = add(&buffers, 1, true);
    (void)unused;
    for (unsigned shared = 0; shared < 2; shared++) {
        assert_true(is_no_memory(buffers_add(&buffers, SIZE_MAX, shared, &buffer)));
        assert_true(is_no_memory(buffers_add(&buffers, SIZE_MAX / 2, shared, &buffer)));
        assert_true(is_no_memory(buffers_add(&buffers, SIZE_MAX / 2 + 1, shared, &buffer)));
    }
    assert_null(buffer);
    assert_int_equal(buffers.count, 1);
    buffer = add(&buffers, 1, true);
    assert_int_equal(buffer->number, 1);
    assert_int_equal(buffer->fd, other->fd + 1);
    buffers_destroy(&buffers, buffer);
    buffers_destroy(&buffers, other);
    buffers_clear(&buffers);
}

/* Whoever has its fd cannot make it shrink under who reads it, nor take a copy by forking. */
static void buffer_stays_as_it_is(void **unused)
{
    struct buffers buffers = {0};
    struct buffer *buffer = add(&buffers, SIZE, true), *plain = add(&buffers, SIZE, false);
    (void)unused;
    assert_true(ftruncate(buffer->fd, SIZE - 1) && ftruncate(buffer->fd, SIZE + 1));
    assert_true(fcntl(buffer->fd, F_ADD_SEALS, F_SEAL_WRITE));
    assert_int_equal(plain->fd, -1);
    assert_false(copy_can_read(buffer->data));
    assert_true(copy_can_read(plain->data));
    int fd = buffer->fd;
    uint8_t *data = buffer->data;
    munmap(plain->data, SIZE);
    buffers_abandon(&buffers); /* as in a copy, which does not have the memory */
    assert_false(fd_is_open(fd));
    assert_true(is_mapped(data));
    assert_int_equal(buffers.count, 0);
    munmap(data, SIZE);
}

/* ---- regions ---- */

static int find(const struct regions *regions, uint64_t number, uint64_t offset, uint64_t size, bool writable)
{
    uint8_t *data;
    return regions_find(regions, number, offset, size, writable, &data);
}

static void region_is_the_buffers_memory(void **unused)
{
    struct buffers buffers = {0};
    struct regions regions = {0};
    struct buffer *buffer = add(&buffers, SIZE, true);
    uint8_t *read_only, *writable;
    (void)unused;
    assert_int_equal(regions_map(&regions, 3, SIZE, buffer->fd, false), 0);
    assert_int_equal(regions_map(&regions, 70, SIZE, buffer->fd, true), 0);
    assert_int_equal(regions_find(&regions, 3, 100, SIZE - 100, false, &read_only), 0);
    assert_int_equal(regions_find(&regions, 70, 100, 1, true, &writable), 0);
    buffer->data[100] = 5;
    assert_int_equal(*read_only, 5);
    *writable = 6;
    assert_int_equal(*read_only, 6);
    assert_false(copy_can_read(writable)); /* nobody writes there after this process's end */
    assert_int_equal(regions_unmap(&regions, 3), 0);
    assert_int_equal(regions_unmap(&regions, 70), 0);
    buffers_destroy(&buffers, buffer);
    buffers_clear(&buffers);
    free(regions.list);
}

static void nothing_is_found_beyond_a_region(void **unused)
{
    struct regions regions = {0};
    int fd = memory_create("region", SIZE);
    (void)unused;
    assert_int_equal(find(&regions, 0, 0, 0, false), -EFAULT);
    assert_int_equal(regions_unmap(&regions, 0), -EINVAL);
    assert_int_equal(regions_map(&regions, 1, SIZE, fd, false), 0);
    fd_close(&fd);
    assert_int_equal(find(&regions, 1, 0, SIZE, false), 0);
    assert_int_equal(find(&regions, 1, SIZE, 0, false), 0);
    assert_int_equal(find(&regions, 1, 0, SIZE, true), -EFAULT);
    assert_int_equal(find(&regions, 1, 0, SIZE + 1, false), -EFAULT);
    assert_int_equal(find(&regions, 1, 1, SIZE, false), -EFAULT);
    assert_int_equal(find(&regions, 1, SIZE + 1, 0, false), -EFAULT);
    assert_int_equal(find(&regions, 1, UINT64_MAX, 2, false), -EFAULT);
    assert_int_equal(find(&regions, 1, 2, UINT64_MAX, false), -EFAULT);
    assert_int_equal(find(&regions, 0, 0, 1, false), -EFAULT);
    assert_int_equal(find(&regions, 2, 0, 1, false), -EFAULT);
    assert_int_equal(find(&regions, UINT64_MAX, 0, 1, false), -EFAULT);
    assert_int_equal(regions_unmap(&regions, UINT64_MAX), -EINVAL);
    assert_int_equal(regions_unmap(&regions, 1), 0);
    assert_int_equal(find(&regions, 1, 0, 1, false), -EFAULT);
    free(regions.list);
}

static void number_means_what_came_last(void **unused)
{
    struct regions regions = {0};
    int first = memory_create("first", SIZE), second = memory_create("second", SIZE);
    uint8_t *old, *data;
    (void)unused;
    assert_int_equal(pwrite(second, "second", 6, 0), 6);
    assert_int_equal(regions_map(&regions, 0, SIZE, first, false), 0);
    assert_int_equal(regions_find(&regions, 0, 0, 1, false, &old), 0);
    assert_int_equal(regions_map(&regions, 0, 6, second, false), 0);
    assert_int_equal(regions_find(&regions, 0, 0, 6, false, &data), 0);
    assert_memory_equal(data, "second", 6);
    assert_int_equal(find(&regions, 0, 0, 7, false), -EFAULT);
    assert_int_equal(regions_refuse(&regions, 0, -EMFILE), 0);
    assert_false(is_mapped(data));
    assert_int_equal(find(&regions, 0, 0, 1, false), -EMFILE); /* why, rather than that it is not there */
    assert_int_equal(find(&regions, 0, 0, SIZE + 1, true), -EMFILE);
    assert_int_equal(regions_unmap(&regions, 0), 0);
    assert_int_equal(find(&regions, 0, 0, 1, false), -EFAULT);
    fd_close(&first);
    fd_close(&second);
    free(regions.list);
}

/* What is wrong with it, is told to those items alone that lie in it. */
static void what_cannot_be_mapped_is_remembered(void **unused)
{
    struct regions regions = {0};
    int fd = memory_create("region", SIZE), ends[2];
    char path[FD_PATH_BYTES];
    (void)unused;
    fd_path(fd, path);
    int read_only = fd_open(path, O_RDONLY);
    assert_int_equal(fd_pipe(ends), 0);
    assert_int_equal(regions_map(&regions, 0, SIZE, read_only, false), 0);
    assert_int_equal(regions_map(&regions, 1, SIZE, read_only, true), 0);
    assert_int_equal(regions_map(&regions, 2, SIZE_MAX / 2, fd, false), 0);
    assert_int_equal(regions_map(&regions, 3, SIZE, ends[0], false), 0);
    assert_int_equal(find(&regions, 0, 0, SIZE, false), 0);
    assert_int_equal(find(&regions, 1, 0, 1, false), -EACCES);
    assert_true(is_no_memory(find(&regions, 2, 0, 1, false)));
    assert_true(find(&regions, 3, 0, 1, false) < 0);
    assert_int_equal(regions_map(&regions, UINT64_MAX / 4, SIZE, fd, false), -ENOMEM); /* no room in the table */
    assert_int_equal(regions_refuse(&regions, UINT64_MAX, -EMFILE), -ENOMEM);
    assert_int_equal(regions_map(&regions, 1, SIZE, fd, true), 0);
    assert_int_equal(find(&regions, 1, 0, SIZE, true), 0);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(regions_unmap(&regions, i), 0);
    fd_close(&ends[0]);
    fd_close(&ends[1]);
    fd_close(&read_only);
    fd_close(&fd);
    free(regions.list);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_lie_in_a_buffer_only_from_end_to_end),
        cmocka_unit_test(bytes_in_two_neighbours_lie_in_neither),
        cmocka_unit_test(buffer_is_known_by_where_it_begins),
        cmocka_unit_test(numbers_are_small_and_used_again),
        cmocka_unit_test(what_cannot_be_had_leaves_nothing_behind),
        cmocka_unit_test(buffer_stays_as_it_is),
        cmocka_unit_test(region_is_the_buffers_memory),
        cmocka_unit_test(nothing_is_found_beyond_a_region),
        cmocka_unit_test(number_means_what_came_last),
        cmocka_unit_test(what_cannot_be_mapped_is_remembered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

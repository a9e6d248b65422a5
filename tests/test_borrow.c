/* borrow, lend: memory for replies, and what a worker that lies may say of it. */
#include "borrow.h"
#include "fd.h"
#include "lend.h"
#include "memory.h"
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "copies.h"

enum { SIZE = 10000 };

static int memory(void)
{
    int fd = memory_create("region", SIZE);
    assert_true(fd >= 0);
    return fd;
}

static int note(struct borrow *borrow, uint64_t number, uint64_t size, int fd)
{
    int rc = borrow_note(borrow, number, size, fd);
    fd_close(&fd);
    return rc;
}

static void what_is_no_sealed_memory_is_refused(void **unused)
{
    struct borrow borrow = {0};
    char path[] = "/tmp/procpool-borrow-XXXXXX";
    int ends[2], file = mkstemp(path), open_memory = memfd_create("open", MFD_ALLOW_SEALING);
    (void)unused;
    assert_true(file >= 0 && open_memory >= 0 && !ftruncate(file, SIZE) && !ftruncate(open_memory, SIZE));
    unlink(path);
    assert_int_equal(fd_pipe(ends), 0);
    assert_int_equal(note(&borrow, 0, SIZE, file), -EINVAL);
    assert_int_equal(note(&borrow, 0, SIZE, open_memory), -EINVAL); /* it could shrink under a reader */
    assert_int_equal(note(&borrow, 0, SIZE, ends[0]), -EINVAL);
    assert_int_equal(note(&borrow, 0, SIZE, ends[1]), -EINVAL);
    int huge = memfd_create("huge", MFD_ALLOW_SEALING | MFD_HUGETLB);
    if (huge >= 0 && !ftruncate(huge, 2 << 20) && !fcntl(huge, F_ADD_SEALS, F_SEAL_SHRINK))
        assert_int_equal(note(&borrow, 0, SIZE, huge), -EINVAL); /* there may be too few pages to read it */
    else if (huge >= 0)
        close(huge);
    assert_null(borrow.regions);
}

static void sizes_and_numbers_are_checked(void **unused)
{
    struct borrow borrow = {0};
    struct borrowed *region;
    (void)unused;
    assert_int_equal(note(&borrow, BORROW_REGIONS, SIZE, memory()), -EINVAL);
    assert_int_equal(note(&borrow, UINT64_MAX, SIZE, memory()), -EINVAL);
    assert_int_equal(note(&borrow, 0, 0, memory()), -EINVAL);
    assert_int_equal(note(&borrow, 0, SIZE + 1, memory()), -EINVAL);
    assert_int_equal(note(&borrow, 0, UINT64_MAX, memory()), -EINVAL);
    assert_int_equal(note(&borrow, 0, SIZE - 1, memory()), 0);
    assert_int_equal(borrow_hold(&borrow, 1, 1, &region), -EINVAL);
    assert_int_equal(borrow_hold(&borrow, BORROW_REGIONS, 1, &region), -EINVAL);
    assert_int_equal(borrow_hold(&borrow, UINT64_MAX, 1, &region), -EINVAL);
    assert_int_equal(borrow_hold(&borrow, 0, 0, &region), -EINVAL);
    assert_int_equal(borrow_hold(&borrow, 0, SIZE, &region), -EINVAL);
    assert_int_equal(borrow_hold(&borrow, 0, SIZE - 1, &region), 0);
    assert_int_equal(borrow_hold(&borrow, 0, 1, &region), -EINVAL); /* it is lent already */
    borrow_give_back(region);
    assert_int_equal(borrow_hold(&borrow, 0, 1, &region), -EINVAL); /* that it was given back was not told yet */
    borrow_clear(&borrow);
    borrow_clear(&borrow);
}

static void what_is_given_back_is_told_once_and_little_is_kept(void **unused)
{
    struct borrow borrow = {0};
    struct borrowed *regions[8];
    unsigned number, kept_count = 0, count = 0;
    bool kept;
    (void)unused;
    for (unsigned i = 0; i < 8; i++) {
        assert_int_equal(note(&borrow, i * 9, SIZE, memory()), 0);
        assert_int_equal(borrow_hold(&borrow, i * 9, SIZE, &regions[i]), 0);
    }
    assert_false(borrow_next_return(&borrow, &number, &kept));
    for (unsigned i = 0; i < 8; i++)
        borrow_give_back(regions[i]);
    borrow_give_back(NULL);
    for (; borrow_next_return(&borrow, &number, &kept); count++) {
        assert_int_equal(number % 9, 0);
        assert_int_equal(borrow.regions[number] != NULL, kept);
        kept_count += kept;
    }
    assert_int_equal(count, 8);
    assert_int_equal(kept_count, BORROW_KEPT);
    borrow_clear(&borrow);
}

static void that_much_memory_is_given_back_is_urgent(void **unused)
{
    struct borrow borrow = {0};
    struct borrowed *regions[4];
    unsigned number;
    bool kept;
    (void)unused;
    for (unsigned i = 0; i < 4; i++) {
        size_t size = i == 1 ? BORROW_LARGE_BYTES + 1 : BORROW_LARGE_BYTES;
        assert_int_equal(note(&borrow, i, size, memory_create("region", size)), 0);
        assert_int_equal(borrow_hold(&borrow, i, 1, &regions[i]), 0);
    }
    for (unsigned i = 0; i < 4; i++) {
        borrow_give_back(regions[i]);
        assert_int_equal(borrow.is_urgent, i > 0); /* the second is large, and beyond two they are not kept */
        while (i && borrow_owes(&borrow)) {
            assert_true(borrow.is_urgent);
            assert_true(borrow_next_return(&borrow, &number, &kept));
        }
        assert_false(borrow.is_urgent);
        assert_int_equal(borrow_next_return(&borrow, &number, &kept), !i);
    }
    borrow_clear(&borrow);
}

static void region_that_is_held_outlives_its_worker_and_its_number(void **unused)
{
    struct borrow borrow = {0};
    struct borrowed *first, *second;
    unsigned number;
    bool kept;
    int fd = memory();
    (void)unused;
    assert_int_equal(pwrite(fd, "first", 5, 0), 5);
    assert_int_equal(note(&borrow, 3, SIZE, fd), 0);
    assert_int_equal(borrow_hold(&borrow, 3, 5, &first), 0);
    assert_int_equal(note(&borrow, 3, SIZE, memory()), 0); /* another by the same number */
    assert_memory_equal(first->data, "first", 5);
    assert_int_equal(borrow_hold(&borrow, 3, 5, &second), 0);
    borrow_give_back(first);
    assert_false(borrow_next_return(&borrow, &number, &kept));
    borrow_clear(&borrow);
    assert_int_equal(second->data[0], 0);
    borrow_give_back(second);
}

static void copy_of_the_process_does_not_have_the_memory(void **unused)
{
    struct borrow borrow = {0};
    struct borrowed *region;
    (void)unused;
    assert_int_equal(note(&borrow, 0, SIZE, memory()), 0);
    assert_int_equal(borrow_hold(&borrow, 0, SIZE, &region), 0);
    void *data = (void *)(uintptr_t)region->data;
    assert_false(copy_can_read(data));
    borrow_abandon(region);
    borrow_abandon(NULL);
    borrow_clear(&borrow);
    borrow_give_back(region);
    assert_int_equal(*(const volatile char *)data, 0); /* what is there is let alone */
    munmap(data, SIZE);
}

static void region_that_could_not_be_mapped_is_given_up(void **unused)
{
    struct borrow borrow = {0};
    struct borrowed *region = NULL;
    unsigned number;
    bool kept;
    (void)unused;
    assert_int_equal(borrow_note(&borrow, 5, SIZE, -1), 0);
    assert_int_equal(borrow_hold(&borrow, 5, 0, &region), -EINVAL); /* a lie is one all the same */
    assert_int_equal(borrow_hold(&borrow, 5, SIZE + 1, &region), -EINVAL);
    assert_int_equal(borrow_hold(&borrow, 5, 10, &region), -EMFILE);
    assert_null(region);
    assert_true(borrow_next_return(&borrow, &number, &kept));
    assert_true(number == 5 && !kept);
    assert_int_equal(borrow_hold(&borrow, 5, 10, &region), -EINVAL);
    borrow_clear(&borrow);
}

static void what_there_was_no_memory_to_note_is_no_lie(void **unused)
{
    struct borrow borrow = {.sizes = {[7] = SIZE}};
    struct borrowed *region = NULL;
    unsigned number;
    bool kept;
    (void)unused;
    assert_int_equal(borrow_hold(&borrow, 8, 10, &region), -EINVAL); /* that one was never announced */
    assert_int_equal(borrow_hold(&borrow, 7, 0, &region), -EINVAL);  /* a lie is one all the same */
    assert_int_equal(borrow_hold(&borrow, 7, SIZE + 1, &region), -EINVAL);
    assert_int_equal(borrow_hold(&borrow, 7, 10, &region), -ENOMEM);
    assert_true(borrow_next_return(&borrow, &number, &kept));
    assert_true(number == 7 && !kept);
    assert_int_equal(borrow_hold(&borrow, BORROW_REGIONS, 10, &region), -EINVAL);
    assert_int_equal(note(&borrow, 3, SIZE, memory()), 0);
    assert_int_equal(borrow_hold(&borrow, 3, SIZE, &region), 0);
    borrow_give_back(region);
    borrow_clear(&borrow);
    assert_int_equal(borrow_hold(&borrow, 7, 10, &region), -EINVAL);
}

static void lender_gives_what_fits_and_is_free(void **unused)
{
    struct lend_region lend_regions[LEND_REGIONS] = {0};
    struct lend lend = {.regions = lend_regions};
    (void)unused;
    struct lend_region *small = lend_find(&lend, 100, NULL), *large = lend_find(&lend, 100000, NULL);
    assert_true(small && large && small != large);
    assert_ptr_equal(lend_find(&lend, 200, NULL), small);
    assert_ptr_equal(lend_find(&lend, 200, small), large);
    assert_ptr_equal(lend_find(&lend, 50000, NULL), large);
    memset(large->data, 1, large->size);
    lend_note_told(large);
    large->lent = true;
    struct lend_region *other = lend_find(&lend, 50000, NULL);
    assert_true(other && other != large);
    assert_int_equal(lend_take_back(&lend, lend_number(&lend, small), true), -EINVAL);
    assert_int_equal(lend_take_back(&lend, LEND_REGIONS, true), -EINVAL);
    assert_int_equal(lend_take_back(&lend, lend_number(&lend, large), true), 0);
    large->lent = true;
    assert_int_equal(lend_take_back(&lend, lend_number(&lend, large), false), 0);
    assert_null(large->data);
    assert_true(lend_idle_bytes(&lend) > 50000);
    lend_trim(&lend);
    assert_int_equal(lend_idle_bytes(&lend), 0);
}

static void pages_of_what_is_not_lent_go_back_and_the_region_stays(void **unused)
{
    struct lend_region lend_regions[LEND_REGIONS] = {0};
    struct lend lend = {.regions = lend_regions};
    struct lend_region *regions[2];
    struct stat status;
    int fds[2];
    (void)unused;
    for (unsigned i = 0; i < 2; i++) {
        regions[i] = lend_find(&lend, SIZE, NULL);
        assert_non_null(regions[i]);
        memset(regions[i]->data, 9, SIZE);
        fds[i] = fd_dup(regions[i]->fd);
        lend_note_told(regions[i]);
        regions[i]->lent = true;
    }
    assert_int_equal(lend_take_back(&lend, lend_number(&lend, regions[1]), true), 0);
    assert_int_equal(lend_idle_bytes(&lend), regions[1]->size);
    lend_trim(&lend);
    assert_int_equal(lend_idle_bytes(&lend), 0);
    assert_true(!fstat(fds[0], &status) && status.st_blocks); /* the parent reads there */
    assert_int_equal(regions[0]->data[SIZE - 1], 9);
    assert_true(!fstat(fds[1], &status) && !status.st_blocks);
    assert_ptr_equal(lend_find(&lend, SIZE, NULL), regions[1]);
    assert_true(regions[1]->told && !regions[1]->data[0]);
    assert_int_equal(lend_idle_bytes(&lend), regions[1]->size);
    for (unsigned i = 0; i < 2; i++) {
        regions[i]->lent = true;
        assert_int_equal(lend_take_back(&lend, lend_number(&lend, regions[i]), false), 0);
        fd_close(&fds[i]);
    }
}

static void lender_has_a_bounded_number_of_regions(void **unused)
{
    struct lend_region lend_regions[LEND_REGIONS] = {0};
    struct lend lend = {.regions = lend_regions};
    (void)unused;
    for (unsigned i = 0; i < LEND_REGIONS; i++) {
        struct lend_region *region = lend_find(&lend, 100, NULL);
        assert_non_null(region);
        lend_note_told(region);
        region->lent = true;
    }
    assert_null(lend_find(&lend, 1, NULL));
    assert_int_equal(lend_take_back(&lend, 7, true), 0);
    struct lend_region *larger = lend_find(&lend, 1 << 20, NULL); /* in the place of the one that is too small */
    assert_int_equal(lend_number(&lend, larger), 7);
    assert_false(larger->told);
    for (unsigned i = 0; i < LEND_REGIONS; i++)
        if (lend.regions[i].lent)
            assert_int_equal(lend_take_back(&lend, i, false), 0);
    lend_trim(&lend);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_no_sealed_memory_is_refused),
        cmocka_unit_test(sizes_and_numbers_are_checked),
        cmocka_unit_test(what_is_given_back_is_told_once_and_little_is_kept),
        cmocka_unit_test(that_much_memory_is_given_back_is_urgent),
        cmocka_unit_test(region_that_is_held_outlives_its_worker_and_its_number),
        cmocka_unit_test(copy_of_the_process_does_not_have_the_memory),
        cmocka_unit_test(region_that_could_not_be_mapped_is_given_up),
        cmocka_unit_test(what_there_was_no_memory_to_note_is_no_lie),
        cmocka_unit_test(lender_gives_what_fits_and_is_free),
        cmocka_unit_test(pages_of_what_is_not_lent_go_back_and_the_region_stays),
        cmocka_unit_test(lender_has_a_bounded_number_of_regions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

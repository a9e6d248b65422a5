/* transit: room comes and goes in order and never overlaps; there is none before the worker has mapped the memory; and
 * what a copy of either side has of it.
 * Build: cc -Iinclude -Isrc tests/test_transit.c src/transit.c src/fd.c -lcmocka */
#include "fd.h"
#include "transit.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { KIB = 1024, MIB = 1024 * KIB };

/* Both sides, in one process. */
static struct transit parent, worker;

static void open_parent(int *fd_out)
{
    parent = worker = (struct transit){0};
    assert_int_equal(transit_create(&parent, TRANSIT_LEAST_BYTES, fd_out), 0);
}

static void open_both(void)
{
    int fd;
    open_parent(&fd);
    assert_int_equal(transit_map(&worker, TRANSIT_LEAST_BYTES, fd), 0);
    fd_close(&fd);
}

static void close_both(void)
{
    transit_clear(&worker);
    transit_clear(&parent);
    transit_clear(&parent);
}

static struct transit_room take(size_t size)
{
    struct transit_room room;
    assert_true(transit_take(&parent, size, &room));
    assert_true(room.offset % 64 == 0 && transit_has(&worker, room.offset, size));
    return room;
}

static void there_is_no_room_before_the_worker_has_mapped_it(void **unused)
{
    (void)unused;
    struct transit_room room;
    int fd;
    assert_false(transit_take(&(struct transit){0}, 1, &room));
    open_parent(&fd);
    assert_false(transit_take(&parent, 1, &room));
    assert_int_equal(transit_map(&worker, TRANSIT_LEAST_BYTES, fd), 0);
    assert_true(transit_take(&parent, 1, &room));
    fd_close(&fd);
    close_both();
}

static void what_one_side_writes_the_other_reads(void **unused)
{
    (void)unused;
    open_both();
    struct transit_room first = take(1000), second = take(1000);
    memset(transit_items(&parent, first.offset), 1, 1000);
    memset(transit_items(&parent, second.offset), 2, 1000);
    memset(transit_results(&worker, first.offset), 3, 1000);
    memset(transit_results(&worker, second.offset), 4, 1000);
    assert_int_equal(transit_items(&worker, first.offset)[999], 1);
    assert_int_equal(transit_items(&worker, second.offset)[0], 2);
    assert_int_equal(transit_results(&parent, first.offset)[999], 3);
    assert_int_equal(transit_results(&parent, second.offset)[0], 4);
    close_both();
}

static void what_is_full_has_room_again_in_order(void **unused)
{
    (void)unused;
    struct transit_room rooms[5], more;
    open_both();
    for (int i = 0; i < 5; i++)
        rooms[i] = take(128 * KIB);
    assert_false(transit_take(&parent, 1, &more));
    transit_release(&parent, rooms[1].end); /* and with it what was before it */
    assert_int_equal(take(200 * KIB).offset, 0);
    assert_false(transit_take(&parent, 128 * KIB, &more));
    transit_release(&parent, rooms[0].end); /* which is no news */
    assert_false(transit_take(&parent, 128 * KIB, &more));
    close_both();
}

static void no_room_reaches_over_the_end(void **unused)
{
    (void)unused;
    struct transit_room more;
    open_both();
    struct transit_room first = take(300 * KIB), second = take(300 * KIB);
    assert_false(transit_take(&parent, 100 * KIB, &more));
    transit_release(&parent, first.end);
    assert_int_equal(take(300 * KIB).offset, 0);
    transit_release(&parent, second.end);
    assert_int_equal(take(300 * KIB).offset, 300 * KIB);
    close_both();
}

static void what_is_empty_begins_at_the_start(void **unused)
{
    (void)unused;
    struct transit_room more;
    open_both();
    for (int i = 0; i < 3; i++) {
        struct transit_room room = take(100);
        assert_int_equal(room.offset, 0);
        transit_release(&parent, room.end);
    }
    assert_int_equal(take(TRANSIT_LEAST_BYTES).offset, 0);
    assert_false(transit_take(&parent, 1, &more));
    assert_false(transit_take(&parent, TRANSIT_LEAST_BYTES + 1, &more));
    close_both();
}

static void it_has_rested_when_nothing_was_under_way_between_two_looks(void **unused)
{
    (void)unused;
    open_both();
    assert_false(transit_has_rested(&parent));
    assert_true(transit_has_rested(&parent));
    uint64_t end = take(1000).end;
    transit_release(&parent, end); /* nor now, but meanwhile */
    assert_false(transit_has_rested(&parent));
    end = take(1000).end;
    assert_false(transit_has_rested(&parent));
    assert_false(transit_has_rested(&parent));
    transit_release(&parent, end);
    assert_false(transit_has_rested(&parent));
    assert_true(transit_has_rested(&parent));
    close_both();
}

static void rooms_under_way_never_overlap(void **unused)
{
    (void)unused;
    enum { MOST = 8 };
    struct {
        struct transit_room room;
        size_t size;
    } under_way[MOST];
    size_t first = 0, end = 0;
    uint32_t random = 1;
    open_both();
    for (int i = 0; i < 200000; i++) {
        random = random * 1664525 + 1013904223;
        size_t size = 1 + (random >> 8) % (200 * KIB);
        struct transit_room room;
        if (end - first == MOST || !transit_take(&parent, size, &room)) {
            assert_true(first < end);
            transit_release(&parent, under_way[first++ % MOST].room.end);
            continue;
        }
        assert_true(transit_has(&worker, room.offset, size));
        for (size_t k = first; k < end; k++) {
            size_t at = under_way[k % MOST].room.offset;
            assert_true(at + under_way[k % MOST].size <= room.offset || room.offset + size <= at);
        }
        under_way[end % MOST].room = room;
        under_way[end++ % MOST].size = size;
    }
    close_both();
}

static void nothing_lies_outside(void **unused)
{
    (void)unused;
    assert_false(transit_has(&(struct transit){0}, 0, 0));
    open_both();
    assert_true(transit_has(&worker, 0, TRANSIT_LEAST_BYTES));
    assert_true(transit_has(&worker, TRANSIT_LEAST_BYTES, 0));
    assert_false(transit_has(&worker, 1, TRANSIT_LEAST_BYTES));
    assert_false(transit_has(&worker, TRANSIT_LEAST_BYTES + 1, 0));
    assert_false(transit_has(&worker, UINT64_MAX, 2));
    assert_false(transit_has(&worker, 2, UINT64_MAX));
    close_both();
}

/* Whether this process has the page at `data`. */
static bool is_there(void *data)
{
    unsigned char unused;
    return !mincore(data, 1, &unused);
}

static void memory_that_cannot_be_larger_stays(void **unused)
{
    (void)unused;
    struct rlimit limit, less;
    struct transit_room room;
    int fd;
    open_both();
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    less = limit;
    less.rlim_cur = MIB;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &less), 0);
    assert_true(transit_create(&parent, 2 * MIB, &fd) < 0);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    room = take(TRANSIT_LEAST_BYTES);
    transit_release(&parent, room.end);
    assert_int_equal(transit_create(&parent, 2 * MIB, &fd), 0);
    assert_false(transit_take(&parent, 1, &room));
    assert_int_equal(transit_map(&worker, 2 * MIB, fd), 0);
    assert_int_equal(take(2 * MIB).offset, 0);
    fd_close(&fd);
    close_both();
}

/* Of which one may be in use while another is filled. */
static void ring_is_as_large_as_two_rooms(void **unused)
{
    (void)unused;
    assert_int_equal(transit_ring_for(1), TRANSIT_LEAST_BYTES);
    assert_int_equal(transit_ring_for(TRANSIT_LEAST_BYTES / 2), TRANSIT_LEAST_BYTES);
    assert_int_equal(transit_ring_for(TRANSIT_LEAST_BYTES / 2 + 1), MIB);
    assert_int_equal(transit_ring_for(MIB), 2 * MIB);
    assert_int_equal(transit_ring_for(TRANSIT_MOST_BYTES / 2), TRANSIT_MOST_BYTES);
    assert_int_equal(transit_ring_for(TRANSIT_MOST_BYTES / 2 + 1), 0);
    assert_int_equal(transit_ring_for(SIZE_MAX), 0);
}

static void copies_of_the_worker_have_items_alone_and_of_the_parent_nothing(void **unused)
{
    (void)unused;
    int status;
    open_both();
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (!pid)
        _exit(is_there(transit_items(&worker, 0)) && !is_there(transit_results(&worker, 0)) &&
                      !is_there(transit_items(&parent, 0)) && !is_there(transit_results(&parent, 0))
                  ? 0
                  : 1);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    close_both();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(there_is_no_room_before_the_worker_has_mapped_it),
        cmocka_unit_test(what_one_side_writes_the_other_reads),
        cmocka_unit_test(what_is_full_has_room_again_in_order),
        cmocka_unit_test(no_room_reaches_over_the_end),
        cmocka_unit_test(what_is_empty_begins_at_the_start),
        cmocka_unit_test(it_has_rested_when_nothing_was_under_way_between_two_looks),
        cmocka_unit_test(rooms_under_way_never_overlap),
        cmocka_unit_test(nothing_lies_outside),
        cmocka_unit_test(memory_that_cannot_be_larger_stays),
        cmocka_unit_test(ring_is_as_large_as_two_rooms),
        cmocka_unit_test(copies_of_the_worker_have_items_alone_and_of_the_parent_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

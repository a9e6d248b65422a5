/* claims: each item is begun by the worker or taken back by the parent, and never both; also when the count wraps
 * around, when the page is not there yet, and when its other side writes what it likes.
 * Build: cc -Iinclude -Isrc tests/test_claims.c src/claims.c src/fd.c -lcmocka -lpthread */
#include "claims.h"
#include "fd.h"
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define WRAP (UINT32_C(1) << 31)

/* Both sides of a page, in one process. */
struct sides {
    struct claims parent, worker;
    int fd;
};

static struct sides sides;

static void open_parent(void)
{
    memset(&sides, 0, sizeof sides);
    assert_int_equal(claims_create(&sides.parent, &sides.fd), 0);
}

static void open_both(void)
{
    open_parent();
    assert_int_equal(claims_map(&sides.worker, sides.fd), 0);
}

static void close_sides(void)
{
    claims_clear(&sides.worker);
    claims_clear(&sides.parent);
    claims_clear(&sides.parent);
    fd_close(&sides.fd);
}

static void the_bell_is_both_sides(void **unused)
{
    (void)unused;
    open_parent();
    assert_null(claims_bell(&sides.worker));
    assert_int_equal(claims_map(&sides.worker, sides.fd), 0);
    assert_int_equal(atomic_load(claims_bell(&sides.parent)), 0);
    atomic_store(claims_bell(&sides.worker), 7);
    assert_int_equal(atomic_load(claims_bell(&sides.parent)), 7);
    assert_int_equal(claims_begin(&sides.worker, 0, 3), 3); /* which it has nothing to do with */
    assert_int_equal(claims_take_back(&sides.parent, 4, 4), 1);
    assert_int_equal(atomic_load(claims_bell(&sides.parent)), 7);
    close_sides();
}

/* ---- one after the other ---- */

static void all_that_is_not_begun_is_taken_back_from_the_end(void **unused)
{
    (void)unused;
    open_both();
    assert_int_equal(claims_begin(&sides.worker, 0, 3), 3);
    assert_int_equal(claims_take_back(&sides.parent, 10, 4), 4);
    assert_int_equal(claims_begin(&sides.worker, 3, 100), 3);
    assert_int_equal(claims_begin(&sides.worker, 6, 100), 0);
    for (uint32_t ticket = 7; ticket < 10; ticket++)
        assert_int_equal(claims_begin(&sides.worker, ticket, 1), 0);
    close_sides();
}

static void no_more_is_taken_back_than_is_not_begun(void **unused)
{
    (void)unused;
    open_both();
    assert_int_equal(claims_begin(&sides.worker, 0, 8), 8);
    assert_int_equal(claims_take_back(&sides.parent, 8, 8), 0);
    assert_int_equal(claims_take_back(&sides.parent, 10, 0), 0);
    assert_int_equal(claims_take_back(&sides.parent, 10, 9), 2);
    assert_int_equal(claims_begin(&sides.worker, 8, 2), 0);
    close_sides();
}

/* `sent` is then where the stop stands. */
static void more_is_taken_back_while_there_is_a_stop(void **unused)
{
    (void)unused;
    open_both();
    assert_int_equal(claims_take_back(&sides.parent, 6, 2), 2);
    assert_int_equal(claims_take_back(&sides.parent, 4, 1), 1);
    assert_int_equal(claims_begin(&sides.worker, 0, 6), 3);
    assert_int_equal(claims_take_back(&sides.parent, 3, 3), 0);
    assert_int_equal(claims_begin(&sides.worker, 3, 2), 0);
    claims_lift_stop(&sides.parent);
    assert_int_equal(claims_begin(&sides.worker, 6, 2), 2);
    assert_int_equal(claims_take_back(&sides.parent, 12, 3), 3);
    assert_int_equal(claims_begin(&sides.worker, 8, 9), 1);
    close_sides();
}

/* The worker was at an item before all that was taken back: the word says nothing of what it stepped over. */
static void what_was_stepped_over_does_not_come_back(void **unused)
{
    (void)unused;
    open_both();
    assert_int_equal(claims_begin(&sides.worker, 0, 1), 1);
    assert_int_equal(claims_take_back(&sides.parent, 9, 8), 8);
    claims_lift_stop(&sides.parent);
    assert_int_equal(claims_take_back(&sides.parent, 12, 2), 2);
    assert_int_equal(claims_begin(&sides.worker, 9, 3), 1);
    close_sides();
}

static void nothing_is_taken_back_before_the_worker_has_the_page(void **unused)
{
    (void)unused;
    open_parent();
    assert_int_equal(claims_take_back(&sides.parent, 10, 10), 0);
    assert_int_equal(claims_map(&sides.worker, sides.fd), 0);
    assert_int_equal(claims_take_back(&sides.parent, 10, 10), 10);
    close_sides();
}

static void without_a_page_everything_may_be_begun_and_nothing_taken_back(void **unused)
{
    (void)unused;
    const struct claims none = {NULL};
    assert_int_equal(claims_begin(&none, 5, 7), 7);
    assert_int_equal(claims_take_back(&none, 12, 7), 0);
}

static void tickets_wrap_around(void **unused)
{
    (void)unused;
    open_both();
    assert_int_equal(claims_begin(&sides.worker, WRAP - 5, 2), 2);
    assert_int_equal(claims_take_back(&sides.parent, WRAP + 5, 8), 8);
    assert_int_equal(claims_begin(&sides.worker, WRAP - 3, 8), 0);
    claims_lift_stop(&sides.parent);
    assert_int_equal(claims_begin(&sides.worker, WRAP + 5, 1), 1);
    close_sides();

    open_both();
    assert_int_equal(claims_begin(&sides.worker, WRAP - 5, 2), 2);
    assert_int_equal(claims_take_back(&sides.parent, WRAP + 5, 2), 2);
    assert_int_equal(claims_begin(&sides.worker, WRAP - 3, 4), 4);
    assert_int_equal(claims_take_back(&sides.parent, WRAP + 3, 9), 2);
    assert_int_equal(claims_begin(&sides.worker, WRAP + 1, 2), 0);
    close_sides();

    open_both(); /* and the counters of both sides at 2^32 */
    assert_int_equal(claims_begin(&sides.worker, UINT32_MAX - 1, 3), 3);
    assert_int_equal(claims_take_back(&sides.parent, 4, 4), 3);
    assert_int_equal(claims_begin(&sides.worker, 1, 3), 0);
    close_sides();
}

/* ---- the other side ---- */

static uint64_t *map_as_a_stranger(void)
{
    uint64_t *words = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, sides.fd, 0);
    assert_ptr_not_equal(words, MAP_FAILED);
    return words;
}

/* Whatever is written there: no more than was asked for, and no more than once. */
static void a_hostile_page_takes_nothing_that_is_not_its_own(void **unused)
{
    (void)unused;
    static const uint64_t written[] = {11, 10, WRAP - 1, UINT64_MAX, UINT64_C(1) << 63, UINT64_C(5) << 31, 0};
    open_both();
    uint64_t *words = map_as_a_stranger();
    for (size_t i = 0; i < sizeof written / sizeof *written; i++)
        for (uint32_t most = 0; most < 12; most++) {
            words[0] = written[i];
            assert_in_range(claims_take_back(&sides.parent, 10, most), 0, most);
            claims_lift_stop(&sides.parent);
        }
    words[0] = 11; /* begun, ahead of what was sent */
    assert_int_equal(claims_take_back(&sides.parent, 10, 5), 0);
    words[0] = UINT64_C(1) << 63; /* stopped, by nobody: the parent knows better */
    assert_int_equal(claims_take_back(&sides.parent, 10, 5), 5);
    munmap(words, 4096);
    close_sides();
}

static void the_page_cannot_be_made_smaller(void **unused)
{
    (void)unused;
    open_both();
    assert_int_equal(ftruncate(sides.fd, 0), -1);
    assert_int_equal(claims_take_back(&sides.parent, 3, 3), 3);
    close_sides();
}

static void a_forked_child_does_not_have_it(void **unused)
{
    (void)unused;
    int status;
    unsigned char resident;
    open_parent();
    pid_t pid = fork();
    if (!pid)
        _exit(mincore(sides.parent.page, 1, &resident) == 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    close_sides();
}

/* ---- at the same time ---- */

enum { TICKETS = 1000000, BATCH = 4096, LOOKS = 50000 };

/* What has happened to each ticket. */
enum { BEGUN = 1, STEPPED_OVER = 2, TAKEN_BACK = 4 };

/* How far one side is, for the other to wait for: awake for a moment, in which they meet; then asleep, since a busy
 * machine comes back to who only yields when all others have had their turn. */
struct counter {
    _Atomic uint32_t value, awaited; /* awaited: 0: by nobody */
    sem_t reached;                   /* posted whenever awaited becomes 0 */
};

static struct {
    struct counter sent, skipped;
    struct counter done; /* by the worker */
    unsigned char seen_by_worker[TICKETS], seen_by_parent[TICKETS];
} race;

static void count_up(struct counter *counter, uint32_t value)
{
    atomic_store(&counter->value, value);
    uint32_t awaited = atomic_load(&counter->awaited);
    if (awaited && value >= awaited && atomic_exchange(&counter->awaited, 0))
        sem_post(&counter->reached);
}

static void await_count(struct counter *counter, uint32_t value)
{
    for (int looks = 0; looks < LOOKS; looks++)
        if (atomic_load(&counter->value) >= value)
            return;
    for (;;) {
        atomic_store(&counter->awaited, value);
        if (atomic_load(&counter->value) >= value)
            return;
        sem_wait(&counter->reached);
    }
}

static void *begin_one_by_one(void *unused)
{
    (void)unused;
    for (uint32_t ticket = 0; ticket < TICKETS; ticket++) {
        await_count(&race.sent, ticket + 1);
        bool begins = claims_begin(&sides.worker, ticket, 1);
        race.seen_by_worker[ticket] |= begins ? BEGUN : STEPPED_OVER;
        count_up(&race.done, ticket + 1);
        if (!begins)
            count_up(&race.skipped, atomic_load(&race.skipped.value) + 1);
    }
    return NULL;
}

/* As the pool does: nothing is sent while something is to be stepped over, but more may be taken. */
static void take_some_back(uint32_t most)
{
    uint32_t sent = atomic_load(&race.sent.value), skipped = atomic_load(&race.skipped.value), taken = 0, more;
    do {
        uint32_t part = most / 8 + 1 < most - taken ? most / 8 + 1 : most - taken;
        more = claims_take_back(&sides.parent, sent - taken, part);
        for (uint32_t i = 1; i <= more; i++)
            race.seen_by_parent[sent - taken - i] |= TAKEN_BACK;
        taken += more;
    } while (more);
    await_count(&race.skipped, skipped + taken);
    claims_lift_stop(&sides.parent);
}

/* Somewhere on its way through what it was sent the worker meets the stop. */
static void send_and_take_back(void)
{
    unsigned seed = 1;
    for (uint32_t sent = 0, more; sent < TICKETS; sent += more) {
        more = 1 + (uint32_t)rand_r(&seed) % BATCH;
        more = more < TICKETS - sent ? more : TICKETS - sent;
        uint32_t look_at = sent + (uint32_t)rand_r(&seed) % more;
        count_up(&race.sent, sent + more);
        await_count(&race.done, look_at);
        take_some_back(1 + (uint32_t)rand_r(&seed) % more); /* of what is in flight at most */
    }
}

static void each_ticket_is_begun_or_taken_back_and_never_both(void **unused)
{
    (void)unused;
    pthread_t worker;
    struct counter *counters[] = {&race.sent, &race.skipped, &race.done};
    open_both();
    for (int i = 0; i < 3; i++)
        assert_int_equal(sem_init(&counters[i]->reached, 0, 0), 0);
    assert_int_equal(pthread_create(&worker, NULL, begin_one_by_one, NULL), 0);
    send_and_take_back();
    assert_int_equal(pthread_join(worker, NULL), 0);
    assert_in_range(atomic_load(&race.skipped.value), 1, TICKETS - 1);
    for (uint32_t i = 0; i < TICKETS; i++) {
        unsigned seen = race.seen_by_worker[i] | race.seen_by_parent[i];
        assert_true(seen == BEGUN || seen == (STEPPED_OVER | TAKEN_BACK));
    }
    close_sides();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_that_is_not_begun_is_taken_back_from_the_end),
        cmocka_unit_test(no_more_is_taken_back_than_is_not_begun),
        cmocka_unit_test(more_is_taken_back_while_there_is_a_stop),
        cmocka_unit_test(what_was_stepped_over_does_not_come_back),
        cmocka_unit_test(nothing_is_taken_back_before_the_worker_has_the_page),
        cmocka_unit_test(without_a_page_everything_may_be_begun_and_nothing_taken_back),
        cmocka_unit_test(tickets_wrap_around),
        cmocka_unit_test(the_bell_is_both_sides),
        cmocka_unit_test(a_hostile_page_takes_nothing_that_is_not_its_own),
        cmocka_unit_test(the_page_cannot_be_made_smaller),
        cmocka_unit_test(a_forked_child_does_not_have_it),
        cmocka_unit_test(each_ticket_is_begun_or_taken_back_and_never_both),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

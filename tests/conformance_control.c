/* conformance_control: what map options make of a map while it runs: stopping, progress, running at most once. */
#include "conformance.h"
#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <time.h>

enum { UNTOUCHED = 0x5a5a5a5a };

/* Takes a millisecond; item FAILS returns an error. */
enum { FAILS = 12 };

static int work_a_while(const void *item, void *result, void *state)
{
    mark_item(state);
    nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    *(int *)result = *(const int *)item;
    return *(const int *)item == FAILS ? 5 : 0;
}

struct outcome {
    unsigned succeeded, failed, cancelled;
};

/* What has been cancelled never ran, its result is untouched; everything else ran once. */
static struct outcome check_items(struct board *board, const int *status, const int *results, int count)
{
    struct outcome outcome = {0};
    for (int i = 0; i < count; i++) {
        outcome.succeeded += status[i] == 0;
        outcome.failed += status[i] == POOL_ETASK;
        outcome.cancelled += status[i] == POOL_ECANCELED;
        EXPECT_INT(board->runs[i], status[i] == POOL_ECANCELED ? 0 : 1);
        if (status[i] != POOL_ETASK)
            EXPECT_INT(results[i], status[i] == POOL_ECANCELED ? UNTOUCHED : i);
    }
    EXPECT_INT(outcome.succeeded + outcome.failed + outcome.cancelled, count);
    return outcome;
}

static void stop_on_error_with(unsigned workers, size_t chunk_size)
{
    enum { COUNT = 1500 };
    struct board *board = make_board();
    memset(board, 0, sizeof *board);
    struct pool_options options = board_options(workers);
    struct pool *pool = make_pool_with(&options);
    struct pool_map_options map = POOL_MAP_OPTIONS_INIT;
    int items[COUNT], results[COUNT], status[COUNT];
    for (int i = 0; i < COUNT; i++)
        items[i] = i, results[i] = UNTOUCHED;
    map.stop_on_error = 1;
    map.chunk_size = chunk_size;
    map.status_out = status;
    int rc = pool_map_with(pool, work_a_while, items, sizeof *items, results, sizeof *results, COUNT, &map);
    EXPECT(rc == POOL_ETASK || (rc == POOL_ECANCELED && workers > 1)); /* an item before it may not have begun */
    struct outcome outcome = check_items(board, status, results, COUNT);
    EXPECT_INT(outcome.failed, 1);
    EXPECT_INT(status[FAILS], POOL_ETASK);
    EXPECT(outcome.cancelled > COUNT / 2);
    EXPECT_OK(pool_map(pool, work_a_while, items, sizeof *items, results, sizeof *results, 5));
    pool_destroy(pool);
}

static void stop_on_error_begins_no_further_item(void)
{
    stop_on_error_with(1, 1);
    stop_on_error_with(1, 0);
    stop_on_error_with(2, 1);
    stop_on_error_with(3, 0);
}

static void stop_on_error_ends_within_a_chunk(void)
{
    stop_on_error_with(1, 1500);
}

static void without_stop_on_error_everything_runs(void)
{
    enum { COUNT = 60 };
    struct board *board = make_board();
    struct pool_options options = board_options(2);
    struct pool *pool = make_pool_with(&options);
    struct pool_map_options map = POOL_MAP_OPTIONS_INIT;
    int items[COUNT], results[COUNT], status[COUNT];
    for (int i = 0; i < COUNT; i++)
        items[i] = i;
    map.status_out = status;
    EXPECT_INT(pool_map_with(pool, work_a_while, items, sizeof *items, results, sizeof *results, COUNT, &map),
               POOL_ETASK);
    struct outcome outcome = check_items(board, status, results, COUNT);
    EXPECT(outcome.failed == 1 && outcome.succeeded == COUNT - 1);
    pool_destroy(pool);
}

/* ---- progress ---- */

struct progress {
    size_t calls, last_done, count;
    size_t cancel_from; /* returns non-zero from so many calls on; 0: never */
    pthread_t thread;
    bool early; /* it was told of a map under way, and not only of its end */
};

static int note_progress(void *arg, size_t done, size_t count)
{
    struct progress *progress = arg;
    EXPECT(pthread_equal(pthread_self(), progress->thread));
    EXPECT(done >= progress->last_done && done <= count);
    EXPECT_INT(count, progress->count);
    progress->last_done = done;
    progress->early |= done < count;
    progress->calls++;
    return progress->cancel_from && progress->calls >= progress->cancel_from;
}

static void progress_is_told_from_time_to_time_and_at_the_end(void)
{
    enum { COUNT = 1500 };
    make_board();
    struct pool_options options = board_options(2);
    struct pool *pool = make_pool_with(&options);
    struct pool_map_options map = POOL_MAP_OPTIONS_INIT;
    struct progress progress = {.count = COUNT, .thread = pthread_self()};
    static int items[COUNT], results[COUNT];
    map.progress = note_progress;
    map.progress_arg = &progress;
    uint64_t begin_ms = now_ms();
    EXPECT_OK(pool_map_with(pool, work_a_while, items, sizeof *items, results, sizeof *results, COUNT, &map));
    EXPECT_INT(progress.last_done, COUNT);
    EXPECT(progress.early);
    EXPECT(progress.calls <= (now_ms() - begin_ms) / 100 + 2);
    progress = (struct progress){.count = 1, .thread = pthread_self()};
    EXPECT_OK(pool_map_with(pool, work_a_while, items, sizeof *items, results, sizeof *results, 1, &map));
    EXPECT_INT(progress.last_done, 1);
    pool_destroy(pool);
}

static void progress_can_cancel_what_has_not_begun(void)
{
    enum { COUNT = 20000 };
    struct board *board = make_board();
    struct pool_options options = board_options(2);
    struct pool *pool = make_pool_with(&options);
    struct pool_map_options map = POOL_MAP_OPTIONS_INIT;
    struct progress progress = {.count = COUNT, .thread = pthread_self(), .cancel_from = 2};
    static int items[COUNT], results[COUNT], status[COUNT];
    for (int i = 0; i < COUNT; i++)
        items[i] = i, results[i] = UNTOUCHED;
    map.progress = note_progress;
    map.progress_arg = &progress;
    map.status_out = status;
    int rc = pool_map_with(pool, work_a_while, items, sizeof *items, results, sizeof *results, COUNT, &map);
    EXPECT(rc == POOL_ECANCELED || rc == POOL_ETASK); /* ETASK: of item FAILS */
    struct outcome outcome = check_items(board, status, results, COUNT);
    EXPECT(outcome.succeeded > 0 && outcome.cancelled > COUNT / 4);
    EXPECT_OK(pool_map(pool, work_a_while, items, sizeof *items, results, sizeof *results, 5));
    pool_destroy(pool);
}

/* The map takes long enough for a progress call; the cancellation comes with the last one, which is too late. */
static void cancelling_at_the_end_changes_nothing(void)
{
    struct pool_map_options map = POOL_MAP_OPTIONS_INIT;
    struct progress progress = {.count = 1, .thread = pthread_self(), .cancel_from = 1};
    make_board();
    struct pool_options options = board_options(1);
    struct pool *pool = make_pool_with(&options);
    int item = 3, result = 0;
    map.progress = note_progress;
    map.progress_arg = &progress;
    EXPECT_OK(pool_map_with(pool, work_a_while, &item, sizeof item, &result, sizeof result, 1, &map));
    EXPECT(progress.calls == 1 && result == 3);
    pool_destroy(pool);
}

/* ---- at most once ---- */

static void at_most_once_runs_every_item_when_nothing_dies(void)
{
    enum { COUNT = 3000 };
    struct board *board = make_board();
    struct pool_options options = board_options(2);
    options.max_tasks_per_worker = 500;
    struct pool *pool = make_pool_with(&options);
    struct pool_map_options map = POOL_MAP_OPTIONS_INIT;
    static int items[COUNT], results[COUNT], status[COUNT];
    for (int i = 0; i < COUNT; i++)
        items[i] = i + FAILS + 1, results[i] = UNTOUCHED;
    map.at_most_once = 1;
    map.chunk_size = 100;
    map.status_out = status;
    EXPECT_OK(pool_map_with(pool, work_a_while, items, sizeof *items, results, sizeof *results, COUNT, &map));
    for (int i = 0; i < COUNT; i++) {
        EXPECT_INT(board->runs[i], 1);
        EXPECT_INT(results[i], items[i]);
        EXPECT_INT(status[i], 0);
    }
    pool_destroy(pool);
}

const struct conformance_case control_cases[] = {
    CASE(stop_on_error_begins_no_further_item),           CASE(stop_on_error_ends_within_a_chunk),
    CASE(without_stop_on_error_everything_runs),          CASE(progress_is_told_from_time_to_time_and_at_the_end),
    CASE(progress_can_cancel_what_has_not_begun),         CASE(cancelling_at_the_end_changes_nothing),
    CASE(at_most_once_runs_every_item_when_nothing_dies), {0},
};

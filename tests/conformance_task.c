/* conformance_task: tasks one at a time: they are submitted, waited for, handed out once, and released; how many fit
 * into a pool, and where they may be used. What their results say: conformance_result.c. How they end otherwise than
 * by returning: conformance_task_ends.c. */
#include "conformance_numbered.h"
#include <errno.h>
#include <pthread.h>
#include <string.h>

/* Counters of the board. A task at the gate ends when it is opened. */
enum { GATE = 1, UNDER_WAY, ENDS };

/* ---- what workers do ---- */

static int wait_at_gate(struct pool_call *call)
{
    struct board *board = pool_call_state(call);
    mark_item(board);
    board->counters[UNDER_WAY]++;
    return !await_counter(board, GATE, 1);
}

/* ---- what the host does ---- */

static struct pool_task *take_next(struct pool *pool)
{
    struct pool_task *task = NULL;
    EXPECT_OK(pool_next(pool, PATIENCE_MS, &task));
    EXPECT(task);
    return task;
}

static void expect_empty(struct pool *pool)
{
    struct pool_task *none = NULL;
    EXPECT_INT(pool_next(pool, POOL_FOREVER, &none), POOL_EMPTY);
    EXPECT(!none);
}

static struct pool_task_options tagged(uint64_t tag)
{
    struct pool_task_options options = POOL_TASK_OPTIONS_INIT;
    options.tag = (void *)(uintptr_t)tag;
    return options;
}

static uint64_t tag_of(const struct pool_task *task)
{
    return (uintptr_t)pool_task_tag(task);
}

/* ---- handed out once ---- */

static void task_runs_in_a_worker_and_its_reply_comes_back(void)
{
    struct pool *pool = make_pool(2);
    for (uint64_t number = 0; number < 200; number++)
        expect_triple(submit(pool, triple, number), number);
    expect_empty(pool);
    EXPECT_OK(pool_destroy(pool));
}

enum { MANY = 20000 };

static void every_queued_task_is_handed_out_once(void)
{
    static unsigned char seen[MANY];
    struct pool *pool = make_pool(2);
    for (uint64_t i = 0; i < MANY; i++) {
        struct pool_task_options options = tagged(i);
        EXPECT_OK(pool_submit(pool, triple, &i, sizeof i, &options, NULL));
    }
    for (int i = 0; i < MANY; i++) {
        struct pool_task *task = take_next(pool);
        EXPECT(tag_of(task) < MANY && !seen[tag_of(task)]++);
        expect_triple(task, tag_of(task));
    }
    expect_empty(pool);
    EXPECT_OK(pool_destroy(pool));
}

/* What number n asks for: one in fifty fails with a text, one in thirty has a large reply, and one in three none. */
static size_t reply_size_of(uint64_t n)
{
    return n % 30 == 29 ? (size_t)(n % 90) * 100 + 2000 : n % 3 ? (size_t)(n % 300) : 0;
}

static bool fails(uint64_t n)
{
    return n % 50 == 49;
}

static int reply_as_asked(struct pool_call *call)
{
    uint64_t n;
    size_t size;
    memcpy(&n, pool_call_input(call, &size), sizeof n);
    if (fails(n))
        return pool_call_fail(call, 9, "number %u", (unsigned)n);
    void *reply = pool_call_reply(call, reply_size_of(n));
    if (reply)
        memset(reply, (int)n, reply_size_of(n));
    return 0;
}

/* Another function, whose tasks are between those of the first. */
static int also_reply_as_asked(struct pool_call *call)
{
    return reply_as_asked(call) + 1;
}

static void expect_reply_as_asked(struct pool_task *task)
{
    struct pool_result result;
    uint64_t n = tag_of(task);
    EXPECT_OK(pool_task_result(task, &result));
    EXPECT_INT(result.status, fails(n) || n % 7 == 6 ? POOL_ETASK : 0);
    EXPECT_INT(result.code, 9 * fails(n) + (n % 7 == 6));
    EXPECT(!fails(n) || strstr(result.message, "number"));
    EXPECT_INT(result.data_size, result.status ? 0 : reply_size_of(n));
    const unsigned char *bytes = result.data;
    EXPECT((uintptr_t)bytes % 16 == 0);
    for (size_t i = 0; i < result.data_size; i++)
        EXPECT_INT(bytes[i], (unsigned char)n);
    pool_task_free(task);
}

static void replies_of_all_sizes_come_to_their_tasks(void)
{
    enum { COUNT = 6000 };
    struct pool *pool = make_pool(2);
    for (uint64_t n = 0; n < COUNT; n++) {
        struct pool_task_options options = tagged(n);
        pool_task_fn *fn = n % 7 == 6 ? also_reply_as_asked : reply_as_asked;
        EXPECT_OK(pool_submit(pool, fn, &n, sizeof n, &options, NULL));
    }
    for (int i = 0; i < COUNT; i++)
        expect_reply_as_asked(take_next(pool));
    expect_empty(pool);
    EXPECT_OK(pool_destroy(pool));
}

static void next_hands_out_the_task_that_submit_gave(void)
{
    struct pool *pool = make_pool(1);
    struct pool_task *task = submit(pool, triple, 5);
    EXPECT(take_next(pool) == task);
    expect_empty(pool);
    EXPECT_OK(pool_wait(task, 0));
    expect_triple(task, 5);
    EXPECT_OK(pool_destroy(pool));
}

static int stamp(struct pool_call *call)
{
    struct board *board = pool_call_state(call);
    return reply_number(call, board->counters[ENDS]++);
}

static void tasks_are_handed_out_in_the_order_in_which_they_end(void)
{
    enum { COUNT = 2000 };
    make_board();
    struct pool_options options = board_options(1);
    struct pool *pool = make_pool_with(&options);
    for (int i = 0; i < COUNT; i++)
        pool_task_free(i % 3 ? NULL : submit(pool, stamp, 0)); /* what is free leaves a gap */
    for (int i = 0; i < COUNT; i++)
        EXPECT_OK(pool_submit(pool, stamp, NULL, 0, NULL, NULL));
    for (uint64_t i = 0, last = 0; i < COUNT; i++) {
        struct pool_task *task = take_next(pool);
        EXPECT(!i || reply_of(task) > last);
        last = reply_of(task);
        pool_task_free(task);
    }
    EXPECT_OK(pool_destroy(pool));
}

static void wait_claims_its_task_also_when_the_time_runs_out(void)
{
    enum { COUNT = 20 };
    struct board *board = make_board();
    struct pool_options options = board_options(1);
    struct pool *pool = make_pool_with(&options);
    struct pool_task *tasks[COUNT], *held = submit(pool, wait_at_gate, 0), *none = NULL;
    EXPECT_INT(pool_wait(held, 0), POOL_PENDING);
    expect_empty(pool);
    EXPECT_INT(pool_wait(held, 30), POOL_PENDING);
    expect_empty(pool);
    for (uint64_t i = 0; i < COUNT; i++)
        tasks[i] = submit(pool, triple, i);
    for (int i = 0; i < COUNT; i += 2)
        EXPECT_INT(pool_wait(tasks[i], 0), POOL_PENDING);
    EXPECT_INT(pool_next(pool, 0, &none), POOL_PENDING);
    board->counters[GATE] = 1;
    for (int i = 1; i < COUNT; i += 2)
        EXPECT(take_next(pool) == tasks[i]);
    expect_empty(pool);
    EXPECT_INT(end_of(held).status, 0);
    EXPECT_OK(pool_wait(held, 0));
    pool_task_free(held);
    for (uint64_t i = 0; i < COUNT; i++)
        expect_triple(tasks[i], i);
    EXPECT_OK(pool_destroy(pool));
}

static void next_tells_pending_from_empty(void)
{
    struct board *board = make_board();
    struct pool_options options = board_options(1);
    struct pool *pool = make_pool_with(&options);
    struct pool_task *none = NULL;
    expect_empty(pool);
    EXPECT_INT(pool_next(pool, 0, &none), POOL_EMPTY);
    struct pool_task *held = submit(pool, wait_at_gate, 0);
    EXPECT_INT(pool_next(pool, 0, &none), POOL_PENDING);
    EXPECT_INT(pool_next(pool, 30, &none), POOL_PENDING);
    EXPECT(!none);
    board->counters[GATE] = 1;
    EXPECT(take_next(pool) == held);
    pool_task_free(held);
    expect_empty(pool);
    EXPECT_OK(pool_destroy(pool));
}

static void task_that_has_not_ended_has_no_result(void)
{
    struct board *board = make_board();
    struct pool_options options = board_options(1);
    struct pool *pool = make_pool_with(&options);
    struct pool_task *tasks[] = {submit(pool, wait_at_gate, 0), submit(pool, triple, 1)};
    struct pool_result result, untouched;
    memset(&result, 0x5a, sizeof result);
    untouched = result;
    for (int i = 0; i < 2; i++)
        EXPECT_INT(pool_task_result(tasks[i], &result), POOL_PENDING);
    EXPECT(!memcmp(&result, &untouched, sizeof result));
    board->counters[GATE] = 1;
    expect_triple(tasks[1], 1);
    EXPECT_INT(end_of(tasks[0]).status, 0);
    pool_task_free(tasks[0]);
    EXPECT_OK(pool_destroy(pool));
}

static void tasks_that_were_freed_run_and_are_not_handed_out(void)
{
    enum { COUNT = 300 };
    struct board *board = make_board();
    struct pool_options options = board_options(2);
    struct pool *pool = make_pool_with(&options);
    for (uint64_t i = 0; i < COUNT; i++)
        pool_task_free(submit(pool, triple, i));
    pool_task_free(NULL);
    expect_empty(pool);
    expect_triple(submit(pool, triple, 7), 7);
    EXPECT_OK(pool_destroy(pool));
    for (int i = 0; i <= COUNT; i++)
        EXPECT_INT(board->runs[i], 1);
}

static void destroy_runs_what_was_submitted_and_never_taken(void)
{
    enum { COUNT = 1000 };
    struct board *board = make_board();
    struct pool_options options = board_options(2);
    struct pool *pool = make_pool_with(&options);
    for (uint64_t i = 0; i < COUNT; i++)
        EXPECT_OK(pool_submit(pool, triple, &i, sizeof i, NULL, NULL));
    EXPECT_OK(pool_destroy(pool));
    for (int i = 0; i < COUNT; i++)
        EXPECT_INT(board->runs[i], 1);
}

static void tasks_outlive_their_pool(void)
{
    enum { COUNT = 100 };
    struct pool *pool = make_pool(2);
    struct pool_task *tasks[COUNT];
    for (uint64_t i = 0; i < COUNT; i++) {
        struct pool_task_options options = tagged(i + 1000);
        tasks[i] = submit_with(pool, triple, i, &options);
    }
    for (int i = 0; i < COUNT / 4; i++)
        take_next(pool);
    EXPECT_OK(pool_destroy(pool));
    for (uint64_t i = 0; i < COUNT; i++) {
        EXPECT_INT(reply_of(tasks[i]), 3 * i);
        EXPECT_INT(tag_of(tasks[i]), i + 1000);
        pool_task_free(tasks[i]);
    }
}

static int tell_index(struct pool_call *call)
{
    return reply_number(call, pool_item_index());
}

static void item_index_is_the_number_of_the_task(void)
{
    enum { COUNT = 300 };
    struct pool *pool = make_pool(2);
    struct pool_task *tasks[COUNT];
    for (uint64_t i = 0; i < COUNT; i++) {
        tasks[i] = submit(pool, tell_index, 0);
        EXPECT_INT(pool_submit(pool, NULL, NULL, 0, NULL, NULL), -EINVAL); /* does not count */
    }
    for (uint64_t i = 0; i < COUNT; i++) {
        EXPECT_OK(pool_wait(tasks[i], PATIENCE_MS));
        EXPECT_INT(reply_of(tasks[i]), i);
        pool_task_free(tasks[i]);
    }
    EXPECT_INT(pool_item_index(), 0);
    EXPECT_OK(pool_destroy(pool));
}

/* ---- from many threads ---- */

enum { PER_THREAD = 1500, THREADS = 3, MIXED = PER_THREAD * THREADS };

struct crowd {
    struct pool *pool;
    atomic_uint number, taken;
    atomic_uchar seen[MIXED];
};

static void *submit_many(void *arg)
{
    struct crowd *crowd = arg;
    for (int i = 0; i < PER_THREAD; i++) {
        uint64_t number = crowd->number++;
        struct pool_task_options options = tagged(number);
        EXPECT_OK(pool_submit(crowd->pool, triple, &number, sizeof number, &options, NULL));
    }
    return NULL;
}

static void *take_many(void *arg)
{
    struct crowd *crowd = arg;
    for (uint64_t since_ms = now_ms(); crowd->taken < MIXED;) {
        struct pool_task *task;
        int rc = pool_next(crowd->pool, PATIENCE_MS, &task);
        EXPECT(rc == 0 || rc == POOL_EMPTY);
        if (rc) {
            EXPECT(have_patience(since_ms));
            continue;
        }
        EXPECT(tag_of(task) < MIXED && !crowd->seen[tag_of(task)]++);
        expect_triple(task, tag_of(task));
        crowd->taken++;
    }
    return NULL;
}

static void *map_meanwhile(void *arg)
{
    enum { COUNT = 2000 };
    struct crowd *crowd = arg;
    int items[COUNT], results[COUNT];
    for (int i = 0; i < COUNT; i++)
        items[i] = i;
    do {
        EXPECT_OK(pool_map(crowd->pool, add_one, items, sizeof *items, results, sizeof *results, COUNT));
        for (int i = 0; i < COUNT; i++)
            EXPECT_INT(results[i], i + 1);
    } while (crowd->taken < MIXED);
    return NULL;
}

static void threads_submit_take_and_map_at_once(void)
{
    static struct crowd crowd;
    static void *(*const parts[])(void *) = {submit_many, submit_many,   submit_many,  take_many,
                                             take_many,   map_meanwhile, map_meanwhile};
    enum { PARTS = sizeof parts / sizeof *parts };
    pthread_t threads[PARTS];
    crowd.pool = make_pool(3);
    for (int i = 0; i < PARTS; i++)
        EXPECT_OK(pthread_create(&threads[i], NULL, parts[i], &crowd));
    for (int i = 0; i < PARTS; i++)
        EXPECT_OK(pthread_join(threads[i], NULL));
    EXPECT_INT(crowd.taken, MIXED);
    expect_empty(crowd.pool);
    EXPECT_OK(pool_destroy(crowd.pool));
}

static void *wait_for_own_tasks(void *pool)
{
    enum { COUNT = 200, AT_ONCE = 4 };
    for (uint64_t i = 0; i < COUNT; i++) {
        struct pool_task *tasks[AT_ONCE];
        for (uint64_t k = 0; k < AT_ONCE; k++)
            tasks[k] = submit(pool, triple, i * k);
        for (uint64_t k = 0; k < AT_ONCE; k++)
            expect_triple(tasks[k], i * k);
    }
    return NULL;
}

static void threads_wait_for_tasks_of_their_own(void)
{
    pthread_t threads[4];
    struct pool *pool = make_pool(2);
    for (int i = 0; i < 4; i++)
        EXPECT_OK(pthread_create(&threads[i], NULL, wait_for_own_tasks, pool));
    for (int i = 0; i < 4; i++)
        EXPECT_OK(pthread_join(threads[i], NULL));
    expect_empty(pool);
    EXPECT_OK(pool_destroy(pool));
}

static void *wait_for_one(void *task)
{
    EXPECT_OK(pool_wait(task, PATIENCE_MS));
    EXPECT_INT(reply_of(task), 12);
    return NULL;
}

static void threads_may_wait_for_the_same_task(void)
{
    pthread_t threads[4];
    struct board *board = make_board();
    struct pool_options options = board_options(1);
    struct pool *pool = make_pool_with(&options);
    struct pool_task *held = submit(pool, wait_at_gate, 0), *task = submit(pool, triple, 4);
    for (int i = 0; i < 4; i++)
        EXPECT_OK(pthread_create(&threads[i], NULL, wait_for_one, task));
    board->counters[GATE] = 1;
    for (int i = 0; i < 4; i++)
        EXPECT_OK(pthread_join(threads[i], NULL));
    EXPECT_INT(end_of(held).status, 0);
    pool_task_free(held);
    pool_task_free(task);
    EXPECT_OK(pool_destroy(pool));
}

/* ---- how much fits ---- */

static int has_input(struct pool_call *call)
{
    return !pool_call_input(call, NULL);
}

enum { ROOM = 1000 };

/* A pool with room for so few bytes, and one worker. */
static struct pool *make_small_pool(void)
{
    struct pool_options options = board_options(1);
    options.max_bytes_in_flight = ROOM;
    return make_pool_with(&options);
}

static int submit_size(struct pool *pool, pool_task_fn *fn, size_t size, int no_wait)
{
    static const char bytes[10 * ROOM];
    struct pool_task_options options = POOL_TASK_OPTIONS_INIT;
    struct pool_task *task = (struct pool_task *)&options;
    options.no_wait = no_wait;
    int rc = pool_submit(pool, fn, bytes, size, &options, &task);
    EXPECT((task != (struct pool_task *)&options) == !rc);
    return rc;
}

static void without_waiting_there_is_no_more_room_than_bytes_in_flight(void)
{
    struct board *board = make_board();
    struct pool *pool = make_small_pool();
    EXPECT_OK(submit_size(pool, wait_at_gate, 600, 1));
    EXPECT_INT(submit_size(pool, has_input, 600, 1), POOL_EAGAIN);
    EXPECT_OK(submit_size(pool, has_input, 300, 1));
    EXPECT_INT(submit_size(pool, has_input, 300, 1), POOL_EAGAIN);
    EXPECT_INT(submit_size(pool, has_input, 5 * ROOM, 1), POOL_EAGAIN);
    board->counters[GATE] = 1;
    for (int i = 0; i < 2; i++)
        pool_task_free(take_next(pool));
    expect_empty(pool);
    EXPECT_OK(submit_size(pool, has_input, 600, 1));
    pool_task_free(take_next(pool));
    EXPECT_OK(pool_destroy(pool));
}

static void without_waiting_a_task_above_the_limit_goes_alone(void)
{
    struct board *board = make_board();
    struct pool *pool = make_small_pool();
    EXPECT_OK(submit_size(pool, wait_at_gate, 5 * ROOM, 1));
    EXPECT_INT(submit_size(pool, has_input, 10, 1), POOL_EAGAIN);
    EXPECT_INT(submit_size(pool, has_input, 5 * ROOM, 1), POOL_EAGAIN);
    board->counters[GATE] = 1;
    pool_task_free(take_next(pool));
    EXPECT_OK(submit_size(pool, has_input, 5 * ROOM, 1));
    pool_task_free(take_next(pool));
    EXPECT_OK(pool_destroy(pool));
}

/* Nothing is taken meanwhile: results that wait for their caller do not count. */
static void submit_waits_until_there_is_room(void)
{
    enum { COUNT = 200 };
    struct pool *pool = make_small_pool();
    make_board();
    for (int i = 0; i < COUNT; i++) {
        struct pool_stats stats = POOL_STATS_INIT;
        size_t size = i % 10 == 9 ? 5 * ROOM : 400;
        EXPECT_OK(submit_size(pool, has_input, size, 0));
        EXPECT_OK(pool_stats(pool, &stats));
        EXPECT(stats.submitted - stats.succeeded <= (size > ROOM ? 1 : 2));
    }
    for (int i = 0; i < COUNT; i++) {
        struct pool_task *task = take_next(pool);
        EXPECT_INT(result_of(task).status, 0);
        pool_task_free(task);
    }
    expect_empty(pool);
    EXPECT_OK(pool_destroy(pool));
}

static void *submit_in_thread(void *pool)
{
    for (int i = 0; i < 100; i++)
        EXPECT_OK(submit_size(pool, has_input, 700, 0));
    return NULL;
}

static void threads_wait_for_room_side_by_side(void)
{
    pthread_t threads[3];
    make_board();
    struct pool *pool = make_small_pool();
    for (int i = 0; i < 3; i++)
        EXPECT_OK(pthread_create(&threads[i], NULL, submit_in_thread, pool));
    for (int i = 0; i < 3; i++)
        EXPECT_OK(pthread_join(threads[i], NULL));
    for (int i = 0; i < 300; i++)
        pool_task_free(take_next(pool));
    expect_empty(pool);
    EXPECT_OK(pool_destroy(pool));
}

/* ---- elsewhere ---- */

static int fail(struct pool_call *call)
{
    return pool_call_fail(call, -5, "in place");
}

/* In a worker: 0, or the number of the line that went wrong. */
static int submit_in_a_worker(struct pool_call *call)
{
    struct pool *pool = pool_default();
    struct pool_task_options options = tagged(9);
    struct pool_task *task = NULL, *next = NULL;
    struct pool_result result;
    uint64_t input = 14;
    (void)call;
    if (!pool || pool_submit(pool, triple, &input, sizeof input, &options, &task) || !task)
        return __LINE__;
    if (pool_wait(task, POOL_FOREVER) || pool_task_result(task, &result) || pool_cancel(task) != POOL_ENDED)
        return __LINE__;
    if (result.status || result.data_size != sizeof input || *(const uint64_t *)result.data != 42)
        return __LINE__;
    if (pool_next(pool, POOL_FOREVER, &next) != POOL_EMPTY || tag_of(task) != 9)
        return __LINE__;
    pool_task_free(task);
    if (pool_submit(pool, fail, NULL, 0, NULL, NULL) || pool_next(pool, 0, &next))
        return __LINE__;
    if (pool_task_result(next, &result) || result.status != POOL_ETASK || result.code != -5)
        return __LINE__;
    pool_task_free(next);
    return 0;
}

static void default_pool_of_a_worker_runs_tasks_in_place(void)
{
    struct pool *pool = make_pool(1);
    struct pool_task *task = submit(pool, submit_in_a_worker, 0);
    EXPECT_INT(end_of(task).code, 0);
    EXPECT_INT(end_of(task).status, 0);
    pool_task_free(task);
    EXPECT_OK(pool_destroy(pool));
}

struct inherited {
    struct pool *pool;
    struct pool_task *ended, *held;
};

static int use_inherited_tasks(void *arg)
{
    struct inherited *inherited = arg;
    struct pool_task *task = NULL;
    struct pool_result result;
    EXPECT_INT(pool_submit(inherited->pool, triple, NULL, 0, NULL, &task), POOL_EFORKED);
    EXPECT_INT(pool_next(inherited->pool, 0, &task), POOL_EFORKED);
    EXPECT_INT(pool_wait(inherited->held, POOL_FOREVER), POOL_EFORKED);
    EXPECT_INT(pool_cancel(inherited->held), POOL_EFORKED);
    EXPECT_INT(pool_task_result(inherited->ended, &result), POOL_EFORKED);
    EXPECT(*pool_message() && !task);
    pool_task_free(inherited->held);
    pool_task_free(inherited->ended);
    EXPECT_OK(pool_destroy(inherited->pool));
    return 0;
}

static void tasks_are_of_no_use_in_a_forked_child_and_unharmed_by_it(void)
{
    struct board *board = make_board();
    struct pool_options options = board_options(1);
    struct pool *pool = make_pool_with(&options);
    struct inherited inherited = {pool, submit(pool, triple, 8), NULL};
    EXPECT_OK(pool_wait(inherited.ended, PATIENCE_MS));
    inherited.held = submit(pool, wait_at_gate, 0);
    in_another_process(use_inherited_tasks, &inherited);
    board->counters[GATE] = 1;
    EXPECT_INT(end_of(inherited.held).status, 0);
    expect_triple(inherited.ended, 8);
    pool_task_free(inherited.held);
    EXPECT_OK(pool_destroy(pool));
}

static struct inherited of_workers;

static int release_inherited(struct pool_call *call)
{
    (void)call;
    struct pool_result result;
    if (pool_task_result(of_workers.ended, &result) != POOL_EFORKED)
        return 1;
    pool_task_free(of_workers.ended);
    return pool_destroy(of_workers.pool);
}

/* It was forked by a thread that held the pool's lock. */
static void worker_may_release_what_was_copied_into_it(void)
{
    struct pool_options options = board_options(1);
    options.max_tasks_per_worker = 1;
    of_workers.pool = make_pool_with(&options);
    of_workers.ended = submit(of_workers.pool, triple, 8);
    EXPECT_OK(pool_wait(of_workers.ended, PATIENCE_MS));
    struct pool_task *task = submit(of_workers.pool, release_inherited, 0);
    EXPECT_INT(end_of(task).status, 0);
    pool_task_free(task);
    expect_triple(of_workers.ended, 8);
    EXPECT_OK(pool_destroy(of_workers.pool));
}

/* ---- what is refused ---- */

static void expect_refusal(struct pool *pool, const struct pool_task_options *options, int error)
{
    struct pool_task *task = (struct pool_task *)&task;
    EXPECT_INT(pool_submit(pool, triple, "12345678", 8, options, &task), error);
    EXPECT(task == (struct pool_task *)&task);
    EXPECT(*pool_message());
}

static void malformed_options_of_a_task_are_refused(void)
{
    struct {
        struct pool_task_options known;
        char unknown[512];
    } options = {.known = POOL_TASK_OPTIONS_INIT};
    struct pool *pool = make_pool(1);
    static const uint32_t sizes[] = {0, 5000, 4097, UINT32_MAX};
    for (int i = 0; i < 4; i++) {
        options.known.size = sizes[i];
        expect_refusal(pool, &options.known, -EINVAL);
    }
    options.known.size = sizeof options;
    options.unknown[511] = 1;
    expect_refusal(pool, &options.known, -E2BIG);
    options.unknown[511] = 0;
    expect_triple(submit_with(pool, triple, 2, &options.known), 2);
    options.known.size = offsetof(struct pool_task_options, timeout_ms); /* an older caller's */
    options.known.timeout_ms = -1;
    expect_triple(submit_with(pool, triple, 2, &options.known), 2);
    static const int64_t times[] = {-1, INT64_MIN, INT64_MAX};
    for (int i = 0; i < 3; i++) {
        struct pool_task_options late = POOL_TASK_OPTIONS_INIT;
        late.timeout_ms = times[i];
        expect_refusal(pool, &late, -EINVAL);
    }
    expect_empty(pool);
    EXPECT_OK(pool_destroy(pool));
}

static void malformed_arguments_about_tasks_are_refused(void)
{
    struct pool *pool = make_pool(1);
    struct pool_task *task = submit(pool, triple, 2), *none = NULL;
    struct pool_result result;
    EXPECT_INT(pool_submit(NULL, triple, NULL, 0, NULL, &none), -EINVAL);
    EXPECT_INT(pool_submit(pool, NULL, NULL, 0, NULL, &none), -EINVAL);
    EXPECT_INT(pool_submit(pool, triple, NULL, 8, NULL, &none), -EINVAL);
    int rc = pool_submit(pool, triple, "", SIZE_MAX, NULL, &none);
    EXPECT(rc == -EOVERFLOW || rc == -ENOMEM);
    EXPECT_INT(pool_next(NULL, 0, &none), -EINVAL);
    EXPECT_INT(pool_next(pool, 0, NULL), -EINVAL);
    EXPECT_INT(pool_next(pool, -2, &none), -EINVAL);
    EXPECT_INT(pool_next(pool, INT64_MIN, &none), -EINVAL);
    EXPECT_INT(pool_next(pool, INT64_MAX, &none), -EINVAL); /* more than can be counted in ns */
    EXPECT_TEXT(pool_message(), "292 years");
    EXPECT(!none);
    EXPECT_INT(pool_wait(NULL, 0), -EINVAL);
    EXPECT_INT(pool_wait(task, -2), -EINVAL);
    EXPECT_INT(pool_wait(task, INT64_MIN), -EINVAL);
    EXPECT_INT(pool_wait(task, INT64_MAX), -EINVAL);
    EXPECT_INT(pool_cancel(NULL), -EINVAL);
    EXPECT_INT(pool_task_result(NULL, &result), -EINVAL);
    EXPECT_INT(pool_task_result(task, NULL), -EINVAL);
    EXPECT(*pool_message());
    expect_triple(task, 2);
    EXPECT_OK(pool_destroy(pool));
}

const struct conformance_case task_cases[] = {
    CASE(task_runs_in_a_worker_and_its_reply_comes_back),
    CASE(every_queued_task_is_handed_out_once),
    CASE(replies_of_all_sizes_come_to_their_tasks),
    CASE(next_hands_out_the_task_that_submit_gave),
    CASE(tasks_are_handed_out_in_the_order_in_which_they_end),
    CASE(wait_claims_its_task_also_when_the_time_runs_out),
    CASE(next_tells_pending_from_empty),
    CASE(task_that_has_not_ended_has_no_result),
    CASE(tasks_that_were_freed_run_and_are_not_handed_out),
    CASE(destroy_runs_what_was_submitted_and_never_taken),
    CASE(tasks_outlive_their_pool),
    CASE(item_index_is_the_number_of_the_task),
    CASE(threads_submit_take_and_map_at_once),
    CASE(threads_wait_for_tasks_of_their_own),
    CASE(threads_may_wait_for_the_same_task),
    CASE(without_waiting_there_is_no_more_room_than_bytes_in_flight),
    CASE(without_waiting_a_task_above_the_limit_goes_alone),
    CASE(submit_waits_until_there_is_room),
    CASE(threads_wait_for_room_side_by_side),
    CASE(default_pool_of_a_worker_runs_tasks_in_place),
    CASE(tasks_are_of_no_use_in_a_forked_child_and_unharmed_by_it),
    CASE_IF(COPIES_PARENT, worker_may_release_what_was_copied_into_it),
    CASE(malformed_options_of_a_task_are_refused),
    CASE(malformed_arguments_about_tasks_are_refused),
    {0},
};

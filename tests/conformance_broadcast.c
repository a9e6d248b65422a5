/* conformance_broadcast: what is run on every worker: those that there are, before anything that is submitted later,
 * and those that come later, before their first task.
 *
 * Globals that a broadcast changes tell whether it ran in this process: every worker begins with them as they are
 * here. */
#include "conformance.h"
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Counters of the board. RUNS: of the broadcast, by worker. */
enum { GATE = 1, UNDER_WAY, VERDICT, PID, RUNS = 16 };

/* ---- what workers do ---- */

static int setting;
static char letters[64];

static int input_of(const struct pool_call *call)
{
    size_t size;
    return *(const int *)pool_call_input(call, &size);
}

static void count_run(const struct pool_call *call)
{
    struct board *board = pool_call_state(call);
    board->counters[RUNS + pool_worker_id()]++;
}

static int set(struct pool_call *call)
{
    count_run(call);
    setting = input_of(call);
    return pool_item_index() != 0;
}

static int set_as_well(struct pool_call *call)
{
    return set(call);
}

static int check_setting(struct pool_call *call)
{
    return setting == input_of(call) ? 0 : pool_call_fail(call, 1, "the setting is %d", setting);
}

/* Later ones may be on their way. */
static int check_item(const void *item, void *result, void *state)
{
    (void)result, (void)state;
    return setting < *(const int *)item;
}

static int append_letter(const struct pool_call *call)
{
    size_t size, end = strlen(letters);
    letters[end] = *(const char *)pool_call_input(call, &size);
    return end >= sizeof letters - 1;
}

static int append_first(struct pool_call *call)
{
    return append_letter(call);
}

static int append_second(struct pool_call *call)
{
    return append_letter(call);
}

static int tell_letters(struct pool_call *call)
{
    return answer(call, letters);
}

/* Fails, dies, or works, as the board says at that moment. */
enum verdict { WORKS, FAILS, DIES, FAILS_IN_ONE, DIES_IN_ONE };

static int obey_verdict(struct pool_call *call)
{
    struct board *board = pool_call_state(call);
    count_run(call);
    setting = input_of(call);
    switch ((enum verdict)board->counters[VERDICT]) {
    case FAILS:
        return pool_call_fail(call, 4711, "not in %s", "the mood");
    case FAILS_IN_ONE:
        return pool_worker_id() == 1 ? pool_call_fail(call, 4712, "worker one will not") : 0;
    case DIES:
        raise(SIGKILL);
        break;
    case DIES_IN_ONE:
        if (pool_worker_id() == 1)
            raise(SIGSEGV);
        break;
    case WORKS:
        break;
    }
    return 0;
}

static int meet_the_others(const void *item, void *result, void *state)
{
    struct board *board = state;
    (void)result;
    board->counters[UNDER_WAY]++;
    return !await_counter(board, UNDER_WAY, *(const uint64_t *)item);
}

static int wait_at_gate(struct pool_call *call)
{
    struct board *board = pool_call_state(call);
    board->counters[PID] = (uint64_t)getpid();
    board->counters[UNDER_WAY]++;
    return !await_counter(board, GATE, 1);
}

/* ---- what the host does ---- */

static struct board *make_clean_board(void)
{
    struct board *board = make_board();
    memset(board, 0, sizeof *board);
    return board;
}

static struct pool *make_pool_of(unsigned workers)
{
    struct pool_options options = board_options(workers);
    return make_pool_with(&options);
}

/* Until each of its workers has run something. */
static void await_all_workers(struct pool *pool, struct board *board, uint64_t workers)
{
    uint64_t items[16];
    for (uint64_t i = 0; i < workers; i++)
        items[i] = workers;
    board->counters[UNDER_WAY] = 0;
    EXPECT_OK(pool_map(pool, meet_the_others, items, sizeof *items, NULL, 0, workers));
}

static int broadcast(struct pool *pool, pool_task_fn *fn, int value)
{
    return pool_broadcast(pool, fn, &value, sizeof value);
}

static void expect_setting(struct pool *pool, int value, int count)
{
    for (int i = 0; i < count; i++)
        EXPECT_OK(pool_submit(pool, check_setting, &value, sizeof value, NULL, NULL));
    for (int i = 0; i < count; i++) {
        struct pool_task *task;
        struct pool_result result;
        EXPECT_OK(pool_next(pool, PATIENCE_MS, &task));
        EXPECT_OK(pool_task_result(task, &result));
        if (result.status)
            expectation_failed(__FILE__, __LINE__, "%s: %s", pool_strerror(result.status), result.message);
        pool_task_free(task);
    }
}

static void expect_letters(struct pool *pool, const char *expected)
{
    char text[ANSWER_BYTES];
    EXPECT_OK(ask(pool, tell_letters, "", text));
    if (strcmp(text, expected))
        expectation_failed(__FILE__, __LINE__, "the letters are %s, not %s", text, expected);
}

/* The next worker is a new one. */
static void kill_worker(struct pool *pool)
{
    pid_t pid = worker_pid(pool);
    EXPECT_OK(kill(pid, SIGKILL));
    EXPECT(has_vanished(pid));
}

/* ---- on every worker ---- */

static void every_worker_runs_it_once(void)
{
    enum { WORKERS = 4 };
    struct board *board = make_clean_board();
    struct pool *pool = make_pool_of(WORKERS);
    struct pool_task *none;
    await_all_workers(pool, board, WORKERS);
    for (uint64_t round = 1; round <= 3; round++) {
        EXPECT_OK(broadcast(pool, set, 5));
        for (int i = 0; i < WORKERS; i++)
            EXPECT_INT(board->counters[RUNS + i], round);
    }
    EXPECT_INT(pool_next(pool, POOL_FOREVER, &none), POOL_EMPTY);
    EXPECT_OK(pool_destroy(pool));
}

/* Some of them may still be starting. */
static void tasks_that_are_submitted_later_find_it_done(void)
{
    make_clean_board();
    for (int i = 0; i < 5; i++) {
        struct pool *pool = make_pool_of(4);
        EXPECT_OK(broadcast(pool, set, 7));
        expect_setting(pool, 7, 300);
        EXPECT_OK(pool_destroy(pool));
    }
}

static int sum_up(struct pool_call *call)
{
    size_t size;
    const unsigned char *input = pool_call_input(call, &size);
    setting = (int)size;
    for (size_t i = 0; i < size; i++)
        setting += input[i];
    return !pool_call_reply(call, 1 << 20); /* which nobody wants */
}

static void input_may_be_large_or_empty(void)
{
    enum { BYTES = 1 << 20 };
    unsigned char *bytes = malloc(BYTES);
    int sum = BYTES;
    make_clean_board();
    for (int i = 0; i < BYTES; i++) {
        bytes[i] = (unsigned char)(i * 31 >> 3);
        sum += bytes[i];
    }
    struct pool *pool = make_pool_of(2);
    EXPECT_OK(pool_broadcast(pool, sum_up, bytes, BYTES));
    memset(bytes, 0, BYTES); /* it is copied, and given to later workers too */
    expect_setting(pool, sum, 10);
    kill_worker(pool);
    kill_worker(pool);
    expect_setting(pool, sum, 10);
    EXPECT_OK(pool_broadcast(pool, sum_up, NULL, 0));
    expect_setting(pool, 0, 10);
    EXPECT_OK(pool_destroy(pool));
    free(bytes);
}

static void broadcast_in_the_middle_of_many_tasks(void)
{
    enum { QUEUED = 300 };
    struct board *board = make_clean_board();
    struct pool *pool = make_pool_of(2);
    await_all_workers(pool, board, 2);
    for (int i = 0; i < QUEUED; i++) {
        struct pool_task *task;
        EXPECT_OK(pool_submit(pool, check_setting, &(int){0}, sizeof(int), NULL, &task));
        pool_task_free(task); /* whether it runs before or after is open */
    }
    EXPECT_OK(broadcast(pool, set, 3));
    EXPECT(board->counters[RUNS] == 1 && board->counters[RUNS + 1] == 1);
    expect_setting(pool, 3, 100);
    EXPECT_OK(pool_destroy(pool));
}

/* ---- side by side ---- */

struct mapping {
    struct pool *pool;
    atomic_bool over;
};

static void *map_meanwhile(void *arg)
{
    struct mapping *mapping = arg;
    static const int items[2000];
    while (!mapping->over)
        EXPECT_OK(pool_map(mapping->pool, check_item, items, sizeof *items, NULL, 0, 2000));
    return NULL;
}

static void broadcast_while_other_threads_map(void)
{
    pthread_t threads[2];
    make_clean_board();
    struct mapping mapping = {make_pool_of(2), false};
    for (int i = 0; i < 2; i++)
        EXPECT_OK(pthread_create(&threads[i], NULL, map_meanwhile, &mapping));
    for (int value = 1; value <= 20; value++) {
        int items[50];
        for (int i = 0; i < 50; i++)
            items[i] = value;
        EXPECT_OK(broadcast(mapping.pool, set, value));
        EXPECT_OK(pool_map(mapping.pool, check_item, items, sizeof *items, NULL, 0, 50));
    }
    mapping.over = true;
    for (int i = 0; i < 2; i++)
        EXPECT_OK(pthread_join(threads[i], NULL));
    EXPECT_OK(pool_destroy(mapping.pool));
}

static void *broadcast_in_thread(void *pool)
{
    for (int i = 0; i < 20; i++)
        EXPECT_OK(broadcast(pool, set, 1));
    return NULL;
}

static void threads_broadcast_at_once(void)
{
    enum { WORKERS = 3 };
    pthread_t threads[4];
    struct board *board = make_clean_board();
    struct pool *pool = make_pool_of(WORKERS);
    await_all_workers(pool, board, WORKERS);
    for (int i = 0; i < 4; i++)
        EXPECT_OK(pthread_create(&threads[i], NULL, broadcast_in_thread, pool));
    for (int i = 0; i < 4; i++)
        EXPECT_OK(pthread_join(threads[i], NULL));
    for (int i = 0; i < WORKERS; i++)
        EXPECT_INT(board->counters[RUNS + i], 80);
    EXPECT_OK(pool_destroy(pool));
}

/* ---- workers that come later ---- */

static void replacement_has_run_it_before_its_first_task(void)
{
    struct board *board = make_clean_board();
    struct pool *pool = make_pool_of(1);
    EXPECT_OK(broadcast(pool, set, 9));
    for (uint64_t deaths = 1; deaths <= 3; deaths++) {
        kill_worker(pool);
        expect_setting(pool, 9, 20);
        EXPECT_INT(board->counters[RUNS], deaths + 1);
    }
    EXPECT_OK(pool_destroy(pool));
}

static void recycled_worker_has_run_it_before_its_first_task(void)
{
    make_clean_board();
    struct pool_options options = board_options(2);
    options.max_tasks_per_worker = 7;
    struct pool *pool = make_pool_with(&options);
    EXPECT_OK(broadcast(pool, set, 11));
    expect_setting(pool, 11, 150);
    EXPECT_OK(broadcast(pool, set_as_well, 12));
    expect_setting(pool, 12, 150);
    EXPECT_OK(pool_destroy(pool));
}

static void later_workers_run_the_last_of_each_function_in_order(void)
{
    make_clean_board();
    struct pool *pool = make_pool_of(1);
    EXPECT_OK(pool_broadcast(pool, append_first, "a", 1));
    EXPECT_OK(pool_broadcast(pool, append_second, "b", 1));
    expect_letters(pool, "ab");
    kill_worker(pool);
    expect_letters(pool, "ab");
    EXPECT_OK(pool_broadcast(pool, append_first, "c", 1));
    expect_letters(pool, "abc");
    for (int i = 0; i < 2; i++) {
        kill_worker(pool);
        expect_letters(pool, "bc");
    }
    EXPECT_OK(pool_broadcast(pool, append_second, "d", 1));
    expect_letters(pool, "bcd");
    kill_worker(pool);
    expect_letters(pool, "cd");
    EXPECT_OK(pool_destroy(pool));
}

/* ---- those that fail ---- */

static void failing_broadcast_tells_why_and_is_not_repeated(void)
{
    static const enum verdict verdicts[] = {FAILS, FAILS_IN_ONE};
    static const char *const texts[] = {"not in the mood", "worker one will not"};
    for (int i = 0; i < 2; i++) {
        struct board *board = make_clean_board();
        struct pool *pool = make_pool_of(2);
        await_all_workers(pool, board, 2);
        board->counters[VERDICT] = verdicts[i];
        EXPECT_INT(broadcast(pool, obey_verdict, 1), POOL_ETASK);
        EXPECT_TEXT(pool_message(), texts[i]);
        EXPECT(board->counters[RUNS] == 1 && board->counters[RUNS + 1] == 1);
        kill_worker(pool);
        kill_worker(pool);
        await_all_workers(pool, board, 2);
        EXPECT(board->counters[RUNS] == 1 && board->counters[RUNS + 1] == 1);
        EXPECT_OK(pool_destroy(pool));
    }
}

static void crashing_broadcast_tells_how_and_is_not_repeated(void)
{
    static const enum verdict verdicts[] = {DIES, DIES_IN_ONE};
    static const char *const words[] = {"signal 9", "signal 11"}, *const names[] = {"SIGKILL", "SIGSEGV"};
    for (int i = 0; i < 2; i++) {
        struct board *board = make_clean_board();
        struct pool *pool = make_pool_of(2);
        await_all_workers(pool, board, 2);
        board->counters[VERDICT] = verdicts[i];
        EXPECT_INT(broadcast(pool, obey_verdict, 1), POOL_ECRASH);
        EXPECT(strstr(pool_message(), words[i]) || strstr(pool_message(), names[i]));
        uint64_t runs = board->counters[RUNS] + board->counters[RUNS + 1];
        EXPECT_INT(runs, 2);
        await_all_workers(pool, board, 2);
        EXPECT_INT(board->counters[RUNS] + board->counters[RUNS + 1], runs);
        board->counters[VERDICT] = WORKS;
        EXPECT_OK(broadcast(pool, obey_verdict, 1));
        expect_setting(pool, 1, 50);
        EXPECT_OK(pool_destroy(pool));
    }
}

static void last_one_that_succeeded_is_repeated_though_a_later_one_failed(void)
{
    struct board *board = make_clean_board();
    struct pool *pool = make_pool_of(1);
    EXPECT_OK(broadcast(pool, obey_verdict, 21));
    board->counters[VERDICT] = FAILS;
    EXPECT_INT(broadcast(pool, obey_verdict, 1), POOL_ETASK);
    board->counters[VERDICT] = WORKS;
    kill_worker(pool);
    expect_setting(pool, 21, 20);
    EXPECT_OK(pool_destroy(pool));
}

/* It went well once, but no replacement survives it. */
static void broadcast_that_fails_in_every_replacement_breaks_the_pool(void)
{
    static const char *const words[] = {"not in the mood", "signal 9"};
    for (int verdict = FAILS; verdict <= DIES; verdict++) {
        struct board *board = make_clean_board();
        struct pool *pool = make_pool_of(1);
        struct pool_task *task;
        struct pool_result result;
        EXPECT_OK(broadcast(pool, obey_verdict, 1));
        pid_t pid = worker_pid(pool);
        board->counters[VERDICT] = (uint64_t)verdict;
        EXPECT_OK(kill(pid, SIGKILL));
        EXPECT(has_vanished(pid));
        EXPECT_OK(pool_submit(pool, check_setting, &(int){1}, sizeof(int), NULL, &task));
        EXPECT_OK(pool_wait(task, PATIENCE_MS));
        EXPECT_OK(pool_task_result(task, &result));
        EXPECT_INT(result.status, POOL_EBROKEN);
        EXPECT_TEXT(result.message, words[verdict - FAILS]);
        EXPECT(board->counters[RUNS] >= 4 && board->counters[RUNS] <= 5); /* one and three failures in a row */
        EXPECT_INT(broadcast(pool, obey_verdict, 1), POOL_EBROKEN);
        EXPECT_INT(pool_submit(pool, check_setting, &(int){1}, sizeof(int), NULL, NULL), POOL_EBROKEN);
        pool_task_free(task);
        EXPECT_OK(pool_destroy(pool));
    }
}

static int broadcast_result;

static void *broadcast_alone(void *pool)
{
    broadcast_result = broadcast(pool, set, 31);
    return NULL;
}

/* A worker that dies of something else before it has run it: its replacement counts. */
static void replacement_counts_when_a_worker_dies_before_it_ran_it(void)
{
    pthread_t thread;
    struct board *board = make_clean_board();
    struct pool *pool = make_pool_of(2);
    struct pool_task *held;
    struct pool_result result;
    await_all_workers(pool, board, 2);
    board->counters[UNDER_WAY] = 0;
    EXPECT_OK(pool_submit(pool, wait_at_gate, NULL, 0, NULL, &held));
    EXPECT(await_counter(board, UNDER_WAY, 1));
    EXPECT_OK(pthread_create(&thread, NULL, broadcast_alone, pool));
    for (uint64_t since_ms = now_ms(); !board->counters[RUNS] && !board->counters[RUNS + 1];)
        EXPECT(have_patience(since_ms)); /* the other one has run it */
    EXPECT_OK(kill((pid_t)board->counters[PID], SIGKILL));
    board->counters[GATE] = 1;
    EXPECT_OK(pthread_join(thread, NULL));
    EXPECT_INT(broadcast_result, 0);
    EXPECT_OK(pool_wait(held, PATIENCE_MS));
    EXPECT_OK(pool_task_result(held, &result));
    EXPECT(result.status == POOL_ECRASH || result.status == 0); /* it may have been in doubt, and run again */
    pool_task_free(held);
    expect_setting(pool, 31, 50);
    await_all_workers(pool, board, 2);
    EXPECT_INT(board->counters[RUNS], 1);
    EXPECT_INT(board->counters[RUNS + 1], 1);
    EXPECT_OK(pool_destroy(pool));
}

/* ---- elsewhere, and what is refused ---- */

/* There the default pool runs its tasks in place, and has no worker. */
static int broadcast_in_a_worker(struct pool_call *call)
{
    (void)call;
    return pool_broadcast(pool_default(), sum_up, "abc", 3) != -EINVAL || !*pool_message() || setting;
}

static void default_pool_of_a_worker_has_nobody_to_run_it(void)
{
    char text[ANSWER_BYTES];
    struct pool *pool = make_pool(1);
    EXPECT_OK(ask(pool, broadcast_in_a_worker, "", text));
    EXPECT_OK(pool_destroy(pool));
}

static void malformed_broadcasts_are_refused(void)
{
    static char data[16];
    pool_task_fn *nowhere;
    void *address = data;
    struct board *board = make_clean_board();
    struct pool *pool = make_pool_of(1);
    memcpy(&nowhere, &address, sizeof nowhere);
    EXPECT_INT(pool_broadcast(NULL, set, "", 1), -EINVAL);
    EXPECT_INT(pool_broadcast(pool, NULL, "", 1), -EINVAL);
    EXPECT_INT(pool_broadcast(pool, set, NULL, 1), -EINVAL);
    EXPECT_INT(pool_broadcast(pool, nowhere, "", 1), POOL_EBUILD);
    EXPECT(*pool_message());
    EXPECT_INT(board->counters[RUNS], 0);
    EXPECT_OK(broadcast(pool, set, 2));
    EXPECT_OK(pool_shutdown(pool, POOL_DRAIN, POOL_FOREVER));
    EXPECT_INT(broadcast(pool, set, 2), POOL_ECLOSED);
    EXPECT_OK(pool_destroy(pool));
}

const struct conformance_case broadcast_cases[] = {
    CASE(every_worker_runs_it_once),
    CASE(tasks_that_are_submitted_later_find_it_done),
    CASE(input_may_be_large_or_empty),
    CASE(broadcast_in_the_middle_of_many_tasks),
    CASE(broadcast_while_other_threads_map),
    CASE(threads_broadcast_at_once),
    CASE(replacement_has_run_it_before_its_first_task),
    CASE(recycled_worker_has_run_it_before_its_first_task),
    CASE(later_workers_run_the_last_of_each_function_in_order),
    CASE(failing_broadcast_tells_why_and_is_not_repeated),
    CASE(crashing_broadcast_tells_how_and_is_not_repeated),
    CASE(last_one_that_succeeded_is_repeated_though_a_later_one_failed),
    CASE(broadcast_that_fails_in_every_replacement_breaks_the_pool),
    CASE(replacement_counts_when_a_worker_dies_before_it_ran_it),
    CASE(default_pool_of_a_worker_has_nobody_to_run_it),
    CASE(malformed_broadcasts_are_refused),
    {0},
};

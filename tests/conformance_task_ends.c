/* conformance_task_ends: tasks that end otherwise than by returning: their worker dies, their time runs out, they are
 * cancelled. Whatever happens to one, the others run, each is handed out once, and what a worker that was lost had with
 * it runs again. */
#include "conformance.h"
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* Counters of the board. A task at the gate ends when it is opened. */
enum { GATE = 1, UNDER_WAY, TERMINATED, PID };

enum fate {
    LIVES,
    SEGFAULTS,
    IS_KILLED,
    EXITS,
    BABBLES,
    SPINS,
    SLEEPS,
    STOPS_ITSELF,
    IGNORES_SIGTERM,
    BLOCKS_ALL,
    FATES,
    NAPS = FATES, /* for 30 ms, and lives */
    DIES_TWICE,   /* and lives when it runs for the third time */
};

/* ---- what workers do ---- */

static enum fate fate_of(const struct pool_call *call)
{
    size_t size;
    return (enum fate) * (const int *)pool_call_input(call, &size);
}

static void babble(void)
{
    unsigned char garbage[4096];
    memset(garbage, 0xa7, sizeof garbage);
    for (int fd = 3; fd < 64; fd++)
        if (!fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) && write(fd, garbage, sizeof garbage) < 0)
            continue;
}

static void hang(enum fate fate)
{
    sigset_t all;
    if (fate == IGNORES_SIGTERM)
        signal(SIGTERM, SIG_IGN);
    if (fate == STOPS_ITSELF)
        raise(SIGSTOP);
    if (fate == BLOCKS_ALL) {
        sigfillset(&all);
        sigprocmask(SIG_SETMASK, &all, NULL);
    }
    for (volatile int spin = fate == SPINS; spin;)
        spin |= 1;
    for (;;)
        pause();
}

static void meet(enum fate fate, unsigned runs)
{
    if (fate == SEGFAULTS)
        raise(SIGSEGV);
    if (fate == IS_KILLED || (fate == DIES_TWICE && runs < 3))
        raise(SIGKILL);
    if (fate == EXITS)
        exit(3);
    if (fate == BABBLES)
        babble();
    if (fate == NAPS)
        nanosleep(&(struct timespec){.tv_nsec = 30000000}, NULL);
    if (fate >= SPINS && fate < FATES)
        hang(fate);
}

/* Those that live reply with three times their number. */
static int meet_fate(struct pool_call *call)
{
    struct board *board = pool_call_state(call);
    uint64_t index = mark_item(board), *reply = pool_call_reply(call, sizeof *reply);
    board->counters[UNDER_WAY]++;
    meet(fate_of(call), board->runs[index]);
    *reply = 3 * index;
    return 0;
}

static int wait_at_gate(struct pool_call *call)
{
    struct board *board = pool_call_state(call);
    mark_item(board);
    board->counters[PID] = (uint64_t)getpid();
    board->counters[UNDER_WAY]++;
    return !await_counter(board, GATE, 1);
}

/* ---- what the host does ---- */

static struct pool_task_options with_deadline(int64_t timeout_ms)
{
    struct pool_task_options options = POOL_TASK_OPTIONS_INIT;
    options.timeout_ms = timeout_ms;
    return options;
}

static struct pool_task *submit_with(struct pool *pool, pool_task_fn *fn, int fate,
                                     const struct pool_task_options *options)
{
    struct pool_task *task = NULL;
    EXPECT_OK(pool_submit(pool, fn, &fate, sizeof fate, options, &task));
    return task;
}

static struct pool_task *submit(struct pool *pool, int fate)
{
    return submit_with(pool, meet_fate, fate, NULL);
}

static struct pool_task *submit_held(struct pool *pool)
{
    return submit_with(pool, wait_at_gate, 0, NULL);
}

static struct pool_result end_of(struct pool_task *task)
{
    struct pool_result result;
    EXPECT_OK(pool_wait(task, PATIENCE_MS));
    EXPECT_OK(pool_task_result(task, &result));
    EXPECT(result.message);
    return result;
}

static void expect_end(struct pool_task *task, int status)
{
    EXPECT_INT(end_of(task).status, status);
    pool_task_free(task);
}

static struct pool *make_pool_of(unsigned workers)
{
    struct pool_options options = board_options(workers);
    options.soft_kill_grace_ms = 50;
    return make_pool_with(&options);
}

static struct board *make_clean_board(void)
{
    struct board *board = make_board();
    memset(board, 0, sizeof *board);
    return board;
}

static int status_of(enum fate fate)
{
    if (fate == LIVES || fate >= FATES)
        return 0;
    return fate == BABBLES ? POOL_EPROTO : fate >= SPINS ? POOL_ETIMEOUT : POOL_ECRASH;
}

static void expect_fate(const struct pool_task *task, int fate, uint64_t index)
{
    struct pool_result result;
    EXPECT_OK(pool_task_result(task, &result));
    if (result.status != status_of((enum fate)fate))
        expectation_failed(__FILE__, __LINE__, "task %d of fate %d ended with %d (%s): %s", (int)index, fate,
                           result.status, pool_strerror(result.status), result.message);
    EXPECT_INT(result.data_size, result.status ? 0 : sizeof index);
    EXPECT(result.status || !memcmp(result.data, &(uint64_t){3 * index}, sizeof index));
}

/* Submit them all at once: each ends as its fate says, and is handed out once. The pool is a new one. */
static void run_fates(struct pool *pool, const int *fates, size_t count, const struct pool_task_options *given)
{
    unsigned char *seen = calloc(count, 1);
    for (size_t i = 0; i < count; i++) {
        struct pool_task_options options = given ? *given : (struct pool_task_options)POOL_TASK_OPTIONS_INIT;
        options.tag = seen + i;
        EXPECT_OK(pool_submit(pool, meet_fate, &fates[i], sizeof *fates, &options, NULL));
    }
    for (size_t taken = 0; taken < count; taken++) {
        struct pool_task *task = NULL;
        EXPECT_OK(pool_next(pool, PATIENCE_MS, &task));
        unsigned char *tag = pool_task_tag(task);
        EXPECT(!(*tag)++);
        expect_fate(task, fates[tag - seen], (uint64_t)(tag - seen));
        pool_task_free(task);
    }
    struct pool_task *none;
    EXPECT_INT(pool_next(pool, POOL_FOREVER, &none), POOL_EMPTY);
    free(seen);
}

/* ---- crashes ---- */

static void crash_fails_only_the_task_that_crashed(void)
{
    enum { COUNT = 600 };
    for (int fate = SEGFAULTS; fate <= BABBLES; fate++) {
        int fates[COUNT] = {0};
        struct board *board = make_clean_board();
        struct pool *pool = make_pool_of(2);
        fates[0] = fates[250] = fates[251] = fates[COUNT - 1] = fate;
        run_fates(pool, fates, COUNT, NULL);
        EXPECT(board->runs[COUNT / 2] >= 1);
        EXPECT_OK(pool_destroy(pool));
    }
}

static void many_that_crash_and_innocents_are_told_apart(void)
{
    enum { COUNT = 300 };
    int fates[COUNT] = {0};
    for (unsigned workers = 1; workers <= 3; workers += 2) {
        make_clean_board();
        struct pool *pool = make_pool_of(workers);
        for (int i = 4; i < COUNT; i += 15)
            fates[i] = 1 + i % 3; /* SEGFAULTS, IS_KILLED, EXITS */
        run_fates(pool, fates, COUNT, NULL);
        EXPECT_OK(pool_destroy(pool));
    }
}

static void every_task_may_crash(void)
{
    enum { COUNT = 25 };
    int fates[COUNT];
    make_clean_board();
    for (int i = 0; i < COUNT; i++)
        fates[i] = i % 2 ? IS_KILLED : EXITS;
    struct pool *pool = make_pool_of(2);
    run_fates(pool, fates, COUNT, NULL);
    expect_end(submit(pool, LIVES), 0);
    EXPECT_OK(pool_destroy(pool));
}

static void task_is_tried_as_often_as_max_attempts_says(void)
{
    for (unsigned attempts = 0; attempts < 4; attempts++) {
        struct board *board = make_clean_board();
        struct pool_options options = board_options(1);
        options.max_attempts = attempts;
        struct pool *pool = make_pool_with(&options);
        struct pool_task *task = submit(pool, IS_KILLED); /* alone, it is known at once to be the one */
        struct pool_result result = end_of(task);
        EXPECT_INT(result.status, POOL_ECRASH);
        EXPECT_INT(result.attempts, attempts ? attempts : 1);
        EXPECT_INT(board->runs[0], attempts ? attempts : 1);
        pool_task_free(task);
        EXPECT_OK(pool_destroy(pool));
    }
}

static void task_that_succeeds_at_last_has_succeeded(void)
{
    enum { COUNT = 60 };
    int fates[COUNT] = {0};
    struct board *board = make_clean_board();
    struct pool_options options = board_options(2);
    options.max_attempts = 3;
    struct pool *pool = make_pool_with(&options);
    fates[3] = fates[20] = fates[21] = DIES_TWICE;
    run_fates(pool, fates, COUNT, NULL);
    EXPECT(board->runs[20] >= 3);
    EXPECT_OK(pool_destroy(pool));
}

static void at_most_once_never_runs_a_task_again(void)
{
    enum { COUNT = 200 };
    int fates[COUNT] = {0};
    struct board *board = make_clean_board();
    struct pool_options options = board_options(2);
    struct pool_task_options once = POOL_TASK_OPTIONS_INIT;
    options.max_attempts = 3;
    once.at_most_once = 1;
    struct pool *pool = make_pool_with(&options);
    for (int i = 5; i < COUNT; i += 20)
        fates[i] = IS_KILLED;
    run_fates(pool, fates, COUNT, &once);
    for (int i = 0; i < COUNT; i++)
        EXPECT_INT(board->runs[i], 1);
    EXPECT_OK(pool_destroy(pool));
}

/* Tasks of both kinds in one queue. */
static void at_most_once_holds_among_tasks_that_may_run_again(void)
{
    enum { COUNT = 200 };
    struct board *board = make_clean_board();
    struct pool_options options = board_options(1);
    options.max_attempts = 2;
    struct pool *pool = make_pool_with(&options);
    struct pool_task *tasks[COUNT];
    for (int i = 0; i < COUNT; i++) {
        struct pool_task_options task_options = POOL_TASK_OPTIONS_INIT;
        task_options.at_most_once = i % 3 == 0;
        tasks[i] = submit_with(pool, meet_fate, i % 20 == 4 ? IS_KILLED : LIVES, &task_options);
    }
    for (int i = 0; i < COUNT; i++) {
        expect_end(tasks[i], i % 20 == 4 ? POOL_ECRASH : 0);
        EXPECT(i % 3 || board->runs[i] == 1);
        EXPECT(i % 3 == 0 || i % 20 != 4 || board->runs[i] >= 2);
    }
    EXPECT_OK(pool_destroy(pool));
}

/* Kill the worker while a task runs in it and others wait, then let it go on. */
static void kill_worker_from_outside(int at_most_once, int status, unsigned runs)
{
    enum { COUNT = 100 };
    struct board *board = make_clean_board();
    struct pool_options options = board_options(1);
    struct pool_task_options task_options = POOL_TASK_OPTIONS_INIT;
    struct pool_task *tasks[COUNT];
    options.max_attempts = 2;
    task_options.at_most_once = at_most_once;
    struct pool *pool = make_pool_with(&options);
    struct pool_task *held = submit_with(pool, wait_at_gate, 0, &task_options);
    EXPECT(await_counter(board, UNDER_WAY, 1));
    for (int i = 0; i < COUNT; i++)
        tasks[i] = submit_with(pool, meet_fate, LIVES, &task_options);
    EXPECT_INT(pool_wait(held, 20), POOL_PENDING);
    EXPECT_OK(kill((pid_t)board->counters[PID], SIGKILL));
    EXPECT(has_vanished((pid_t)board->counters[PID]));
    board->counters[GATE] = 1;
    struct pool_result result = end_of(held);
    EXPECT_INT(result.status, status);
    EXPECT_INT(result.signal, status ? SIGKILL : 0);
    EXPECT_INT(board->runs[0], runs);
    pool_task_free(held);
    for (int i = 0; i < COUNT; i++) {
        expect_end(tasks[i], 0);
        EXPECT_INT(board->runs[i + 1], 1);
    }
    EXPECT_OK(pool_destroy(pool));
}

static void killed_worker_costs_the_task_that_it_ran_at_most(void)
{
    kill_worker_from_outside(0, 0, 2);
}

static void killed_worker_fails_the_task_that_may_run_once_only(void)
{
    kill_worker_from_outside(1, POOL_ECRASH, 1);
}

/* ---- deadlines ---- */

static void task_past_its_deadline_fails_whatever_it_does(void)
{
    enum { COUNT = 100 };
    int fates[COUNT] = {0};
    struct pool_task_options options = with_deadline(250);
    struct board *board = make_clean_board();
    struct pool *pool = make_pool_of(3);
    for (int fate = SPINS; fate < FATES; fate++)
        fates[(fate - SPINS) * 15] = fate;
    run_fates(pool, fates, COUNT, &options);
    for (int i = 0; i < COUNT; i++) {
        EXPECT(!fates[i] || board->runs[i] == 1);
        EXPECT(!fates[i] || has_vanished(board->pids[i]));
    }
    EXPECT_OK(pool_destroy(pool));
}

static void late_task_is_not_tried_again_and_its_worker_is_replaced(void)
{
    struct board *board = make_clean_board();
    struct pool_options options = board_options(1);
    struct pool_task_options late = with_deadline(100);
    options.max_attempts = 3;
    struct pool *pool = make_pool_with(&options);
    struct pool_task *task = submit_with(pool, meet_fate, SLEEPS, &late);
    struct pool_result result = end_of(task);
    EXPECT_INT(result.status, POOL_ETIMEOUT);
    EXPECT_INT(result.attempts, 1);
    EXPECT_INT(result.worker_pid, board->pids[0]);
    EXPECT_INT(result.run_ns, 0);
    EXPECT(worker_pid(pool) != result.worker_pid);
    EXPECT_INT(board->runs[0], 1);
    pool_task_free(task);
    EXPECT_OK(pool_destroy(pool));
}

/* All together take far longer than one may. */
static void deadline_counts_from_the_start_not_from_the_submission(void)
{
    enum { COUNT = 70 };
    int fates[COUNT];
    struct pool_task_options options = with_deadline(1300);
    make_clean_board();
    for (int i = 0; i < COUNT; i++)
        fates[i] = NAPS;
    struct pool *pool = make_pool_of(1);
    run_fates(pool, fates, COUNT, &options);
    EXPECT_OK(pool_destroy(pool));
}

static void each_task_has_a_deadline_of_its_own(void)
{
    enum { COUNT = 12 };
    static const int64_t deadlines_ms[] = {0, 150, PATIENCE_MS};
    struct pool_task *tasks[COUNT];
    make_clean_board();
    struct pool *pool = make_pool_of(1);
    for (int i = 0; i < COUNT; i++) {
        struct pool_task_options options = with_deadline(deadlines_ms[i % 3]);
        tasks[i] = submit_with(pool, meet_fate, i % 3 == 1 ? SLEEPS : NAPS, &options);
    }
    for (int i = 0; i < COUNT; i++)
        expect_end(tasks[i], i % 3 == 1 ? POOL_ETIMEOUT : 0);
    EXPECT_OK(pool_destroy(pool));
}

static void worker_stopped_from_outside_is_killed_at_the_deadline(void)
{
    enum { COUNT = 50 };
    struct board *board = make_clean_board();
    struct pool_task_options options = with_deadline(700);
    struct pool_task *tasks[COUNT];
    struct pool *pool = make_pool_of(1);
    struct pool_task *held = submit_with(pool, wait_at_gate, 0, &options);
    for (int i = 0; i < COUNT; i++)
        tasks[i] = submit(pool, LIVES);
    EXPECT(await_counter(board, UNDER_WAY, 1));
    pid_t pid = (pid_t)board->counters[PID];
    EXPECT_OK(kill(pid, SIGSTOP));
    expect_end(held, POOL_ETIMEOUT);
    EXPECT(has_vanished(pid));
    for (int i = 0; i < COUNT; i++)
        expect_end(tasks[i], 0);
    EXPECT_OK(pool_destroy(pool));
}

static void crashes_deadlines_and_codes_in_one_queue(void)
{
    enum { COUNT = 200 };
    int fates[COUNT];
    struct pool_task_options options = with_deadline(200);
    make_clean_board();
    for (int i = 0; i < COUNT; i++)
        fates[i] = i % 25 == 4 ? IS_KILLED : i % 25 == 5 ? SLEEPS : i % 50 == 6 ? BABBLES : LIVES;
    struct pool *pool = make_pool_of(2);
    run_fates(pool, fates, COUNT, &options);
    EXPECT_OK(pool_destroy(pool));
}

/* ---- cancelled ---- */

static void cancelled_task_that_no_worker_has_never_runs(void)
{
    enum { COUNT = 200 };
    struct board *board = make_clean_board();
    struct pool *pool = make_pool_of(1);
    struct pool_task *tasks[COUNT], *held = submit_held(pool);
    EXPECT(await_counter(board, UNDER_WAY, 1));
    for (int i = 0; i < COUNT; i++)
        tasks[i] = submit(pool, LIVES);
    for (int i = 0; i < COUNT; i += 2)
        EXPECT_OK(pool_cancel(tasks[i]));
    struct pool_result result = end_of(tasks[0]);
    EXPECT_INT(result.status, POOL_ECANCELED);
    EXPECT_INT(result.code, 0);
    EXPECT_INT(result.worker_id, POOL_NOT_A_WORKER);
    EXPECT(!result.worker_pid && !result.attempts && !result.run_ns && !result.data);
    board->counters[GATE] = 1;
    for (int i = 0; i < COUNT; i++) {
        expect_end(tasks[i], i % 2 ? 0 : POOL_ECANCELED);
        EXPECT_INT(board->runs[i + 1], i % 2);
    }
    expect_end(held, 0);
    EXPECT_INT(board->runs[0], 1); /* nobody had to be killed */
    EXPECT_OK(pool_destroy(pool));
}

/* Those that a worker has been handed already, behind one that it runs, may cost that worker its life, and that one no
 * more than another run. */
static void cancelled_task_that_waits_in_a_worker_never_runs(void)
{
    enum { COUNT = 50 };
    struct board *board = make_clean_board();
    struct pool *pool = make_pool_of(1);
    struct pool_task *tasks[COUNT], *held = submit_held(pool);
    EXPECT(await_counter(board, UNDER_WAY, 1));
    for (int i = 0; i < COUNT; i++)
        tasks[i] = submit(pool, LIVES);
    EXPECT_INT(pool_wait(held, 50), POOL_PENDING); /* drives the pool: some are handed out */
    for (int i = 0; i < COUNT; i += 2)
        EXPECT_OK(pool_cancel(tasks[i]));
    for (int i = 0; i < COUNT; i += 2)
        expect_end(tasks[i], POOL_ECANCELED);
    board->counters[GATE] = 1;
    for (int i = 1; i < COUNT; i += 2)
        expect_end(tasks[i], 0);
    for (int i = 0; i < COUNT; i++)
        EXPECT_INT(board->runs[i + 1], i % 2);
    expect_end(held, 0);
    EXPECT_OK(pool_destroy(pool));
}

static void cancel_running_task_of(enum fate fate)
{
    enum { COUNT = 60 };
    struct board *board = make_clean_board();
    struct pool *pool = make_pool_of(1);
    struct pool_task *running = submit(pool, (int)fate), *tasks[COUNT];
    for (int i = 0; i < COUNT; i++)
        tasks[i] = submit(pool, LIVES);
    EXPECT(await_counter(board, UNDER_WAY, 1));
    EXPECT_INT(pool_wait(running, 20), POOL_PENDING);
    pid_t pid = board->pids[0];
    EXPECT_OK(pool_cancel(running));
    struct pool_result result = end_of(running);
    EXPECT_INT(result.status, POOL_ECANCELED);
    EXPECT_INT(result.worker_pid, pid);
    EXPECT_INT(board->runs[0], 1);
    pool_task_free(running);
    for (int i = 0; i < COUNT; i++) {
        expect_end(tasks[i], 0);
        EXPECT(board->pids[i + 1] != pid);
    }
    EXPECT(has_vanished(pid));
    EXPECT(worker_pid(pool) != pid);
    EXPECT_OK(pool_destroy(pool));
}

static void cancelled_running_task_ends_and_its_neighbours_succeed(void)
{
    cancel_running_task_of(SPINS);
    cancel_running_task_of(SLEEPS);
    cancel_running_task_of(IGNORES_SIGTERM);
    cancel_running_task_of(STOPS_ITSELF);
}

static void cancelling_what_has_ended_changes_nothing(void)
{
    make_clean_board();
    struct pool *pool = make_pool_of(1);
    struct pool_task *good = submit(pool, LIVES), *bad = submit(pool, IS_KILLED), *next;
    EXPECT_OK(pool_wait(good, PATIENCE_MS));
    EXPECT_OK(pool_next(pool, PATIENCE_MS, &next));
    EXPECT(next == bad);
    for (int i = 0; i < 2; i++) {
        EXPECT_INT(pool_cancel(good), POOL_ENDED);
        EXPECT_INT(pool_cancel(bad), POOL_ENDED);
    }
    expect_end(good, 0);
    expect_end(bad, POOL_ECRASH);
    EXPECT_OK(pool_destroy(pool));
}

static void cancelling_twice_is_as_good_as_once(void)
{
    make_clean_board();
    struct pool *pool = make_pool_of(1);
    struct pool_task *tasks[] = {submit(pool, SPINS), submit(pool, LIVES)};
    for (int i = 0; i < 2; i++)
        EXPECT_OK(pool_cancel(tasks[i]));
    for (int i = 0; i < 2; i++) {
        int rc = pool_cancel(tasks[i]);
        EXPECT(rc == 0 || rc == POOL_ENDED);
    }
    for (int i = 0; i < 2; i++) {
        EXPECT_INT(end_of(tasks[i]).status, POOL_ECANCELED);
        EXPECT_INT(pool_cancel(tasks[i]), POOL_ENDED);
        pool_task_free(tasks[i]);
    }
    EXPECT_OK(pool_destroy(pool));
}

static void cancelled_tasks_are_handed_out_like_any_other(void)
{
    struct board *board = make_clean_board();
    struct pool *pool = make_pool_of(1);
    struct pool_task *held = submit_held(pool), *task = submit(pool, LIVES), *next = NULL;
    EXPECT_OK(pool_cancel(task));
    EXPECT_OK(pool_next(pool, PATIENCE_MS, &next));
    EXPECT(next == task);
    pool_task_free(task);
    EXPECT_INT(pool_next(pool, 0, &next), POOL_PENDING);
    struct pool_task *freed = submit(pool, LIVES);
    EXPECT_OK(pool_cancel(freed));
    pool_task_free(freed);
    board->counters[GATE] = 1;
    expect_end(held, 0);
    EXPECT_INT(pool_next(pool, POOL_FOREVER, &next), POOL_EMPTY);
    EXPECT_OK(pool_destroy(pool));
}

static void *wait_to_be_cancelled(void *task)
{
    EXPECT_OK(pool_wait(task, PATIENCE_MS));
    return NULL;
}

static void one_thread_cancels_what_another_waits_for(void)
{
    pthread_t thread;
    struct board *board = make_clean_board();
    struct pool *pool = make_pool_of(1);
    struct pool_task *task = submit(pool, SPINS);
    EXPECT(await_counter(board, UNDER_WAY, 1));
    EXPECT_OK(pthread_create(&thread, NULL, wait_to_be_cancelled, task));
    EXPECT_OK(pool_cancel(task));
    EXPECT_OK(pthread_join(thread, NULL));
    expect_end(task, POOL_ECANCELED);
    EXPECT_OK(pool_destroy(pool));
}

/* ---- SIGTERM before SIGKILL ---- */

static struct board *board_of_handler;

static void note_termination(int number)
{
    (void)number;
    board_of_handler->counters[TERMINATED]++;
    _exit(5);
}

static int clean_up_at_sigterm(struct pool_call *call)
{
    board_of_handler = pool_call_state(call);
    signal(SIGTERM, note_termination);
    board_of_handler->counters[UNDER_WAY]++;
    while (pause())
        continue;
    return 0;
}

static void cancelled_task_may_clean_up_at_sigterm(void)
{
    struct board *board = make_clean_board();
    struct pool_options options = board_options(1);
    options.soft_kill_grace_ms = PATIENCE_MS;
    for (uint64_t round = 1; round <= 2; round++) {
        struct pool *pool = make_pool_with(&options);
        struct pool_task *task = submit_with(pool, clean_up_at_sigterm, 0, NULL);
        EXPECT(await_counter(board, UNDER_WAY, round));
        EXPECT_OK(pool_cancel(task));
        expect_end(task, POOL_ECANCELED);
        EXPECT_OK(pool_destroy(pool));
        EXPECT_INT(board->counters[TERMINATED], 1);
        options.soft_kill_grace_ms = -1; /* in the second round there is no SIGTERM */
    }
}

/* ---- cancelled by the thousand ---- */

enum { THOUSANDS = 4000, HELD_BACK = 2 };

struct taking {
    struct pool *pool;
    struct pool_task *taken[THOUSANDS];
};

static void *take_thousands(void *arg)
{
    struct taking *taking = arg;
    for (int i = 0; i < THOUSANDS; i++)
        EXPECT_OK(pool_next(taking->pool, PATIENCE_MS, &taking->taken[i]));
    return NULL;
}

/* Swaps the entry for one before it, at random but always the same. */
static void shuffle(int *numbers, unsigned count)
{
    uint32_t random = 12345;
    for (unsigned i = 0; i < count; i++) {
        random = random * 1664525u + 1013904223u;
        unsigned other = (random >> 8) % (i + 1);
        numbers[i] = numbers[other];
        numbers[other] = (int)i;
    }
}

/* The workers begin in the middle of it. */
static void cancel_in_random_order(struct board *board, struct pool_task *const *tasks, int *cancelled)
{
    static int order[THOUSANDS];
    shuffle(order, THOUSANDS);
    for (int i = 0; i < THOUSANDS / 2; i++) {
        int rc = pool_cancel(tasks[order[i]]);
        board->counters[GATE] |= i == THOUSANDS / 4;
        EXPECT(rc == 0 || rc == POOL_ENDED);
        cancelled[order[i]] = !rc;
    }
}

static void thousands_are_cancelled_while_others_run(void)
{
    static struct taking taking;
    static struct pool_task *tasks[THOUSANDS];
    static int cancelled[THOUSANDS], numbers[THOUSANDS];
    struct pool_task *held[HELD_BACK];
    unsigned cancellations = 0;
    pthread_t thread;
    struct board *board = make_clean_board();
    struct pool *pool = taking.pool = make_pool_of(HELD_BACK);
    for (int i = 0; i < HELD_BACK; i++) {
        held[i] = submit_held(pool);
        EXPECT_INT(pool_wait(held[i], 0), POOL_PENDING); /* and so it is not handed out */
    }
    for (int i = 0; i < THOUSANDS; i++) {
        struct pool_task_options options = POOL_TASK_OPTIONS_INIT;
        options.tag = &numbers[i];
        tasks[i] = submit_with(pool, meet_fate, LIVES, &options);
    }
    EXPECT_OK(pthread_create(&thread, NULL, take_thousands, &taking));
    cancel_in_random_order(board, tasks, cancelled);
    EXPECT_OK(pthread_join(thread, NULL));
    for (int i = 0; i < THOUSANDS; i++) {
        struct pool_result result;
        int *number = pool_task_tag(taking.taken[i]);
        EXPECT_INT((*number)++, 0); /* handed out once */
        EXPECT_OK(pool_task_result(taking.taken[i], &result));
        EXPECT_INT(result.status, cancelled[number - numbers] ? POOL_ECANCELED : 0);
        cancellations += result.status != 0;
        if (!result.status)
            expect_fate(taking.taken[i], LIVES, (uint64_t)(number - numbers) + HELD_BACK);
        pool_task_free(taking.taken[i]);
    }
    for (int i = 0; i < HELD_BACK; i++)
        expect_end(held[i], 0);
    struct pool_stats stats = POOL_STATS_INIT;
    EXPECT_OK(pool_stats(pool, &stats));
    EXPECT(cancellations > 0 && stats.canceled == cancellations);
    EXPECT_OK(pool_destroy(pool));
}

const struct conformance_case task_end_cases[] = {
    CASE(crash_fails_only_the_task_that_crashed),
    CASE(many_that_crash_and_innocents_are_told_apart),
    CASE(every_task_may_crash),
    CASE(task_is_tried_as_often_as_max_attempts_says),
    CASE(task_that_succeeds_at_last_has_succeeded),
    CASE(at_most_once_never_runs_a_task_again),
    CASE(at_most_once_holds_among_tasks_that_may_run_again),
    CASE(killed_worker_costs_the_task_that_it_ran_at_most),
    CASE(killed_worker_fails_the_task_that_may_run_once_only),
    CASE(task_past_its_deadline_fails_whatever_it_does),
    CASE(late_task_is_not_tried_again_and_its_worker_is_replaced),
    CASE(deadline_counts_from_the_start_not_from_the_submission),
    CASE(each_task_has_a_deadline_of_its_own),
    CASE(worker_stopped_from_outside_is_killed_at_the_deadline),
    CASE(crashes_deadlines_and_codes_in_one_queue),
    CASE(cancelled_task_that_no_worker_has_never_runs),
    CASE(cancelled_task_that_waits_in_a_worker_never_runs),
    CASE(cancelled_running_task_ends_and_its_neighbours_succeed),
    CASE(cancelling_what_has_ended_changes_nothing),
    CASE(cancelling_twice_is_as_good_as_once),
    CASE(cancelled_tasks_are_handed_out_like_any_other),
    CASE(one_thread_cancels_what_another_waits_for),
    CASE(cancelled_task_may_clean_up_at_sigterm),
    CASE(thousands_are_cancelled_while_others_run),
    {0},
};

/* conformance_heard: that workers are heard, whatever there is between them and the host: a pipe that is filled while
 * nobody reads, a bell that lies, a tracer. */
#include "conformance_deeds.h"
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Counters of the board. */
enum { GO = 1, HELD };

enum { SOON_MS = 10000 }; /* far less than for ever, far more than it takes */

/* Ask again and again, without waiting. */
static int status_by_polling(struct pool *pool, pool_task_fn *fn)
{
    struct pool_task *task;
    int rc;
    EXPECT_OK(pool_submit(pool, fn, NULL, 0, NULL, NULL));
    for (uint64_t since_ms = now_ms(); (rc = pool_next(pool, 0, &task)) == POOL_PENDING;)
        EXPECT(now_ms() < since_ms + SOON_MS);
    EXPECT_OK(rc);
    return take_status(task);
}

static int status_by_waiting(struct pool *pool, pool_task_fn *fn)
{
    struct pool_task *task;
    EXPECT_OK(pool_submit(pool, fn, NULL, 0, NULL, &task));
    EXPECT_OK(pool_wait(task, POOL_FOREVER));
    return take_status(task);
}

/* ---- a pipe that is filled while nobody reads ---- */

/* The first of REPLIES stops the host and the last lets it go on: what the others reply gathers in the pipe, more than
 * half of what one of the default size holds. */
enum { REPLIES = 60, REPLY_BYTES = 1000, LARGE_PIPE = 256 << 10 };

static int reply_to_stopped_host(struct pool_call *call)
{
    size_t size;
    pid_t host = *(const pid_t *)pool_call_input(call, &size);
    void *reply = pool_call_reply(call, REPLY_BYTES);
    if (!reply)
        return 1;
    memset(reply, (int)pool_item_index(), REPLY_BYTES);
    if (pool_item_index() == 0)
        stop_process(host);
    return pool_item_index() == REPLIES - 1 ? kill(host, SIGCONT) : 0;
}

static int count_pipes(int size)
{
    int count = 0;
    for (int fd = 0; fd < 1024; fd++)
        count += fcntl(fd, F_GETPIPE_SZ) == size;
    return count;
}

static int be_stopped_for_replies(void *unused)
{
    (void)unused;
    struct pool_options options = board_options(1);
    struct pool *pool = make_pool_with(&options);
    struct pool_map_options map_options = POOL_MAP_OPTIONS_INIT;
    pid_t self = getpid();
    struct pool_bytes items[REPLIES], replies[REPLIES];
    map_options.chunk_size = REPLIES;
    for (int i = 0; i < REPLIES; i++)
        items[i] = (struct pool_bytes){&self, sizeof self};
    bool can = pipes_can_be_enlarged();
    EXPECT(largest_pipe() < LARGE_PIPE);
    EXPECT_OK(pool_map_bytes(pool, reply_to_stopped_host, items, REPLIES, replies, &map_options));
    EXPECT(!can || (largest_pipe() == LARGE_PIPE && count_pipes(LARGE_PIPE) == 1)); /* all users' share is small */
    for (int i = 0; i < REPLIES; i++) {
        EXPECT(replies[i].size == REPLY_BYTES && ((const unsigned char *)replies[i].data)[REPLY_BYTES - 1] == i);
        pool_bytes_clear(&replies[i]);
    }
    EXPECT_OK(pool_destroy(pool));
    return 0;
}

static void worker_that_fills_half_a_pipe_has_a_large_one(void)
{
    make_board();
    in_another_process(be_stopped_for_replies, NULL);
}

/* ---- traced workers ---- */

/* A debugger, say, or the leak sanitizer: a worker that has ended is its tracer's until that knows. */
enum { TRACER_MS = 50, EXIT_CODE = 5 };

enum { MOST_TRACED = 16 };

struct tracing {
    unsigned count;
    pid_t workers[MOST_TRACED];
    struct board *board;
    bool keeps_them; /* until it is told to go on */
};

static int trace_workers(void *arg)
{
    const struct tracing *tracing = arg;
    for (unsigned i = 0; i < tracing->count; i++)
        if (ptrace(PTRACE_SEIZE, tracing->workers[i], NULL, NULL))
            return errno;
    tracing->board->counters[HELD] = 1;
    for (unsigned i = 0; i < tracing->count; i++)
        for (uint64_t since_ms = now_ms(); state_of(tracing->workers[i]) != 'Z';)
            EXPECT(have_patience(since_ms));
    if (tracing->keeps_them)
        return !await_counter(tracing->board, GO, 1);
    nanosleep(&(struct timespec){.tv_nsec = TRACER_MS * 1000000}, NULL); /* the host asks meanwhile; it need not */
    return 0;
}

static int end_at_once(struct pool_call *call)
{
    (void)call;
    _exit(EXIT_CODE);
}

static pid_t begin_to_trace(struct tracing *tracing)
{
    pid_t tracer = start_process(trace_workers, tracing);
    for (uint64_t since_ms = now_ms(); !tracing->board->counters[HELD] && is_running(tracer);)
        EXPECT(have_patience(since_ms));
    if (!tracing->board->counters[HELD])
        skip_case("this system lets nobody trace a worker");
    return tracer;
}

/* The exit code of the worker that died of the task, or -1. */
static int take_exit_code(struct pool_task *task)
{
    struct pool_result result;
    EXPECT_OK(pool_wait(task, POOL_FOREVER));
    EXPECT_OK(pool_task_result(task, &result));
    EXPECT_INT(result.status, POOL_ECRASH);
    EXPECT_INT(result.signal, 0);
    pool_task_free(task);
    return result.exit_code;
}

static struct pool_task *submit_end(struct pool *pool)
{
    struct pool_task *task;
    EXPECT_OK(pool_submit(pool, end_at_once, NULL, 0, NULL, &task));
    return task;
}

static void how_a_traced_worker_ended_is_known_once_its_tracer_knows(void)
{
    struct board *board = make_board();
    struct pool_options options = board_options(1);
    struct pool *pool = make_pool_with(&options);
    struct tracing tracing = {.count = 1, .workers = {worker_pid(pool)}, .board = board};
    pid_t tracer = begin_to_trace(&tracing);
    EXPECT_INT(take_exit_code(submit_end(pool)), EXIT_CODE);
    EXPECT_INT(end_of_process(tracer), 0);
    EXPECT_INT(status_by_polling(pool, do_nothing), 0); /* by another */
    EXPECT_OK(pool_destroy(pool));
    EXPECT(state_of(tracing.workers[0]) == '-'); /* nor is it a zombie */
}

/* Nobody can tell how it ended then, but that it has ended is known; it is a zombie until the tracer goes on. Whether
 * another worked in its place before that was told, which takes a second. */
static bool is_replaced_while_its_tracer_keeps_it(void)
{
    struct pool_result unused;
    struct board *board = make_board();
    struct pool_options options = board_options(1);
    struct pool *pool = make_pool_with(&options);
    struct tracing tracing = {.count = 1, .workers = {worker_pid(pool)}, .board = board, .keeps_them = true};
    board->counters[GO] = board->counters[HELD] = 0; /* it may not be the first time */
    pid_t tracer = begin_to_trace(&tracing);
    struct pool_task *task = submit_end(pool);
    EXPECT_INT(status_by_waiting(pool, do_nothing), 0);
    bool is_replaced = pool_task_result(task, &unused) == POOL_PENDING;
    EXPECT_INT(take_exit_code(task), -1);
    EXPECT_OK(pool_destroy(pool));
    board->counters[GO] = 1;
    EXPECT_INT(end_of_process(tracer), 0);
    EXPECT(waitpid(tracing.workers[0], NULL, 0) == tracing.workers[0] || errno == ECHILD); /* it was its server's */
    return is_replaced;
}

static void tracer_that_keeps_a_worker_keeps_nothing_else(void)
{
    for (uint64_t since_ms = now_ms(); !is_replaced_while_its_tracer_keeps_it();)
        EXPECT(have_patience(since_ms));
}

/* How far it had read is looked at when it is seen to have gone, when another takes its place: how it ended is told a
 * second later, and what is to blame for that has been found by then. */
static void what_a_worker_had_not_read_is_not_blamed_though_its_tracer_keeps_it(void)
{
    struct pool_task *task;
    struct board *board = make_board();
    struct pool_options options = board_options(1);
    struct pool *pool = make_pool_with(&options);
    struct tracing tracing = {.count = 1, .workers = {worker_pid(pool)}, .board = board, .keeps_them = true};
    stop_process(tracing.workers[0]);
    pid_t tracer = begin_to_trace(&tracing);
    EXPECT_OK(pool_submit(pool, do_nothing, NULL, 0, NULL, &task));
    kill(tracing.workers[0], SIGKILL);
    EXPECT_OK(pool_wait(task, POOL_FOREVER));
    EXPECT_INT(take_status(task), 0);
    board->counters[GO] = 1;
    EXPECT_INT(end_of_process(tracer), 0);
    EXPECT_OK(pool_destroy(pool));
    EXPECT(waitpid(tracing.workers[0], NULL, 0) == tracing.workers[0] || errno == ECHILD);
}

enum { MOST_SLEEPS = 200 };

/* Nor all the time afterwards: it is told when the tracer lets go. */
static void server_does_not_ask_again_and_again_for_a_worker_that_its_tracer_keeps(void)
{
    static const char sleeps[] = "voluntary_ctxt_switches:";
    struct board *board = make_board();
    struct pool_options options = board_options(1);
    struct pool *pool = make_pool_with(&options);
    struct tracing tracing = {.count = 1, .workers = {worker_pid(pool)}, .board = board, .keeps_them = true};
    pid_t server = (pid_t)status_kib(tracing.workers[0], "PPid:"), tracer = begin_to_trace(&tracing);
    long before = status_kib(server, sleeps);
    EXPECT_INT(take_exit_code(submit_end(pool)), -1); /* after two seconds */
    EXPECT(status_kib(server, sleeps) - before < MOST_SLEEPS);
    board->counters[GO] = 1;
    EXPECT_INT(end_of_process(tracer), 0);
    for (uint64_t since_ms = now_ms(); state_of(tracing.workers[0]) != '-';)
        EXPECT(have_patience(since_ms));
    EXPECT_OK(pool_destroy(pool));
}

static int say_pid(struct pool_call *call)
{
    struct board *board = pool_call_state(call);
    board->pids[pool_worker_id()] = getpid();
    return 0;
}

/* Each for no longer than a second, all together for no longer than that either. */
static void tracer_that_keeps_many_workers_holds_up_their_end_no_longer_than_that_of_one(void)
{
    struct board *board = make_board();
    struct pool_options options = board_options(MOST_TRACED);
    struct pool *pool = make_pool_with(&options);
    struct tracing tracing = {.count = MOST_TRACED, .board = board, .keeps_them = true};
    EXPECT_OK(pool_broadcast(pool, say_pid, NULL, 0));
    for (unsigned i = 0; i < MOST_TRACED; i++)
        tracing.workers[i] = board->pids[i];
    pid_t tracer = begin_to_trace(&tracing);
    uint64_t since_ms = now_ms();
    EXPECT_OK(pool_destroy(pool));
    EXPECT(now_ms() - since_ms < SOON_MS);
    board->counters[GO] = 1;
    EXPECT_INT(end_of_process(tracer), 0);
    for (unsigned i = 0; i < MOST_TRACED; i++)
        EXPECT(waitpid(tracing.workers[i], NULL, 0) == tracing.workers[i] || errno == ECHILD);
}

/* ---- a bell that lies ---- */

enum { BELL_AT = 64 }; /* in the page of claims, see docs/wire-protocol.md */

/* Of this worker's; NULL: it has none yet. */
static _Atomic uint32_t *find_bell(void)
{
    static char maps[1 << 16];
    EXPECT(read_file("/proc/self/maps", maps, sizeof maps) > 0);
    char *line = strstr(maps, "memfd:pool-claims");
    while (line && line > maps && line[-1] != '\n')
        line--;
    return line ? (_Atomic uint32_t *)(uintptr_t)(strtoull(line, NULL, 16) + BELL_AT) : NULL;
}

static void *keep_silent(void *bell)
{
    for (;;)
        atomic_store_explicit((_Atomic uint32_t *)bell, 8, memory_order_relaxed); /* nothing is being written */
    return NULL;
}

static void *keep_ringing(void *bell)
{
    for (uint32_t rings = 2;; rings = rings + 2 ? rings + 2 : 2)
        atomic_store_explicit((_Atomic uint32_t *)bell, rings, memory_order_relaxed);
    return NULL;
}

static int spoil_bell(void *(*forever)(void *bell))
{
    pthread_t thread;
    _Atomic uint32_t *bell = find_bell();
    return bell ? pthread_create(&thread, NULL, forever, bell) : 1;
}

static int silence_bell(struct pool_call *call)
{
    (void)call;
    return spoil_bell(keep_silent);
}

enum { RINGING_MS = 1000, MOST_CPU_MS = 500 };

static int ring_for_nothing(struct pool_call *call)
{
    (void)call;
    struct timespec rest = {.tv_sec = RINGING_MS / 1000};
    int rc = spoil_bell(keep_ringing);
    while (nanosleep(&rest, &rest))
        ;
    return rc;
}

static void worker_that_silences_its_bell_is_heard(void)
{
    make_board();
    struct pool_options options = board_options(1);
    struct pool *pool = make_pool_with(&options);
    EXPECT_INT(status_by_polling(pool, do_nothing), 0);
    EXPECT_INT(status_by_polling(pool, do_nothing), 0); /* now it has a page */
    EXPECT_INT(status_by_polling(pool, silence_bell), 0);
    for (int i = 0; i < 50; i++)
        EXPECT_INT(status_by_polling(pool, do_nothing), 0);
    EXPECT_OK(pool_destroy(pool));
}

static void worker_that_rings_for_nothing_keeps_nobody_awake(void)
{
    make_board();
    struct pool_options options = board_options(1);
    options.spin_us = -1; /* or that would end it */
    struct pool *pool = make_pool_with(&options);
    EXPECT_INT(status_by_waiting(pool, do_nothing), 0);
    EXPECT_INT(status_by_waiting(pool, do_nothing), 0); /* now it has a page */
    uint64_t before_ms = cpu_ms(CLOCK_THREAD_CPUTIME_ID);
    EXPECT_INT(status_by_waiting(pool, ring_for_nothing), 0);
    EXPECT(cpu_ms(CLOCK_THREAD_CPUTIME_ID) - before_ms < MOST_CPU_MS);
    EXPECT_OK(pool_destroy(pool));
}

const struct conformance_case heard_cases[] = {
    CASE(worker_that_fills_half_a_pipe_has_a_large_one),
    CASE(how_a_traced_worker_ended_is_known_once_its_tracer_knows),
    CASE(tracer_that_keeps_a_worker_keeps_nothing_else),
    CASE(what_a_worker_had_not_read_is_not_blamed_though_its_tracer_keeps_it),
    CASE_IF(PRELOADS_ONCE, server_does_not_ask_again_and_again_for_a_worker_that_its_tracer_keeps),
    CASE(tracer_that_keeps_many_workers_holds_up_their_end_no_longer_than_that_of_one),
    CASE(worker_that_silences_its_bell_is_heard),
    CASE(worker_that_rings_for_nothing_keeps_nobody_awake),
    {0},
};

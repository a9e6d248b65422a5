/* conformance_odd: what hardly ever happens to the processes of a pool: they are stopped, speak without being asked,
 * lose the thread that works, leave processes behind that hold their pipes, come in large numbers. None of it may hang
 * a host. */
#include "conformance.h"
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Counters of the board. */
enum { GO = 1, DONE, HELD, STOP };

enum { SOON_MS = 10000 }; /* far less than for ever, far more than it takes */

static void use(struct pool *pool)
{
    enum { COUNT = 60 };
    int items[COUNT], results[COUNT];
    for (int i = 0; i < COUNT; i++)
        items[i] = i * 3;
    EXPECT_OK(pool_map(pool, add_one, items, sizeof *items, results, sizeof *results, COUNT));
    for (int i = 0; i < COUNT; i++)
        EXPECT_INT(results[i], i * 3 + 1);
}

/* Also how long workers may take to end in order. */
static struct pool_options impatient_options(unsigned workers)
{
    struct pool_options options = board_options(workers);
    options.start_timeout_ms = is_sanitized() ? 3000 : 700;
    return options;
}

/* ---- stopped processes ---- */

static pid_t server_of(struct pool *pool)
{
    pid_t server = (pid_t)status_kib(worker_pid(pool), "PPid:");
    EXPECT(server > 1 && server != getpid() && getsid(server) == getsid(0));
    return server;
}

static void stopped_worker_is_killed_by_destroy(void)
{
    make_board();
    struct pool_options options = impatient_options(2);
    struct pool *pool = make_pool_with(&options);
    pid_t worker = worker_pid(pool);
    stop_process(worker);
    EXPECT_OK(pool_destroy(pool));
    EXPECT(!is_running(worker));
}

static void stopped_worker_costs_a_map_with_a_deadline_no_more_than_its_item(void)
{
    enum { COUNT = 40 };
    make_board();
    struct pool_options options = impatient_options(2);
    struct pool_map_options map = POOL_MAP_OPTIONS_INIT;
    struct pool *pool = make_pool_with(&options);
    int items[COUNT] = {0}, results[COUNT], status[COUNT], late = 0;
    pid_t worker = worker_pid(pool);
    stop_process(worker);
    map.timeout_ms = 500;
    map.chunk_size = 1;
    map.status_out = status;
    int rc = pool_map_with(pool, add_one, items, sizeof *items, results, sizeof *results, COUNT, &map);
    for (int i = 0; i < COUNT; i++) {
        EXPECT(status[i] == 0 || status[i] == POOL_ETIMEOUT);
        late += status[i] != 0;
    }
    EXPECT(late <= 1);
    EXPECT_INT(rc, late ? POOL_ETIMEOUT : 0);
    kill(worker, SIGCONT); /* if it is still there */
    use(pool);
    EXPECT_OK(pool_destroy(pool));
    EXPECT(!is_running(worker));
}

static void worker_that_was_stopped_and_continued_works_on(void)
{
    struct pool *pool = make_pool(1);
    pid_t worker = worker_pid(pool);
    stop_process(worker);
    EXPECT_OK(kill(worker, SIGCONT));
    EXPECT_INT(worker_pid(pool), worker);
    EXPECT_OK(pool_destroy(pool));
}

static void stopped_server_does_not_hang_destroy(void)
{
    make_board();
    struct pool *pool = make_pool(3); /* however long its workers may take to end */
    pid_t server = server_of(pool), worker = worker_pid(pool);
    pool_broadcast(pool, do_nothing, NULL, 0); /* all are ready after it */
    uint64_t since_ms = now_ms();
    stop_process(server);
    EXPECT_OK(pool_destroy(pool));
    EXPECT(now_ms() - since_ms < SOON_MS);
    EXPECT(!is_running(server) && !is_running(worker));
}

static void stopped_server_with_stopped_workers_does_not_hang_destroy(void)
{
    make_board();
    struct pool_options options = impatient_options(1);
    struct pool *pool = make_pool_with(&options);
    pid_t server = server_of(pool), worker = worker_pid(pool);
    uint64_t since_ms = now_ms();
    stop_process(server);
    stop_process(worker);
    EXPECT_OK(pool_destroy(pool));
    EXPECT(now_ms() - since_ms < SOON_MS);
    EXPECT(!is_running(server) && !is_running(worker));
}

static int die_if_asked(const void *item, void *result, void *state)
{
    if (*(const int *)item < 0)
        raise(SIGKILL);
    return add_one(item, result, state);
}

/* Its replacement never comes from that server. */
static void map_gets_workers_of_a_new_server_when_the_old_one_is_stopped(void)
{
    enum { COUNT = 60 };
    make_board();
    struct pool_options options = impatient_options(1);
    struct pool_map_options map = POOL_MAP_OPTIONS_INIT;
    struct pool *pool = make_pool_with(&options);
    int items[COUNT] = {0}, results[COUNT], status[COUNT];
    pid_t server = server_of(pool);
    items[20] = -1;
    map.status_out = status;
    uint64_t since_ms = now_ms();
    stop_process(server);
    EXPECT_INT(pool_map_with(pool, die_if_asked, items, sizeof *items, results, sizeof *results, COUNT, &map),
               POOL_ECRASH);
    for (int i = 0; i < COUNT; i++)
        EXPECT_INT(status[i], i == 20 ? POOL_ECRASH : 0);
    EXPECT(now_ms() - since_ms < SOON_MS);
    EXPECT(server_of(pool) != server);
    EXPECT_OK(pool_destroy(pool));
    EXPECT(!is_running(server));
}

static void pool_goes_on_when_all_its_workers_were_killed_and_its_server_is_stopped(void)
{
    make_board();
    struct pool_options options = impatient_options(1);
    struct pool *pool = make_pool_with(&options);
    pid_t server = server_of(pool), worker = worker_pid(pool);
    uint64_t since_ms = now_ms();
    stop_process(server);
    EXPECT_OK(kill(worker, SIGKILL));
    EXPECT(has_vanished(worker)); /* a zombie: its parent is stopped */
    use(pool);
    EXPECT(now_ms() - since_ms < SOON_MS);
    EXPECT_OK(pool_destroy(pool));
    EXPECT(!is_running(server));
}

static void server_that_was_stopped_and_continued_starts_workers_again(void)
{
    struct pool *pool = make_pool(1);
    pid_t server = server_of(pool), worker = worker_pid(pool);
    stop_process(server);
    EXPECT_OK(kill(worker, SIGKILL));
    EXPECT(has_vanished(worker));
    EXPECT_OK(kill(server, SIGCONT));
    use(pool);
    EXPECT_INT(server_of(pool), server);
    EXPECT_OK(pool_destroy(pool));
}

static int be_killed(struct pool_call *call)
{
    (void)call;
    return raise(SIGKILL);
}

enum { MAX_FILLERS = 1024, SOME_REFUSALS_MS = 300 };

/* No fd is free until they are closed again. */
static unsigned fill_table(int fillers[MAX_FILLERS])
{
    struct rlimit limit;
    unsigned count = 0;
    EXPECT_OK(getrlimit(RLIMIT_NOFILE, &limit));
    limit.rlim_cur = limit.rlim_cur < MAX_FILLERS ? limit.rlim_cur : MAX_FILLERS;
    EXPECT_OK(setrlimit(RLIMIT_NOFILE, &limit));
    while ((fillers[count] = dup(STDOUT_FILENO)) >= 0)
        count++;
    return count;
}

static int hang_at_9(const void *item, void *result, void *state)
{
    (void)result, (void)state;
    while (*(const int *)item == 9)
        pause();
    return 0;
}

/* Neither its server nor its workers can be sent a signal any more; and the server, stopped, says nothing. */
static int give_up_being_root(void *unused)
{
    int items[2] = {1, 9}, status[2];
    struct pool_options options = method_options(1);
    struct pool_map_options map = POOL_MAP_OPTIONS_INIT;
    options.start_timeout_ms = is_sanitized() ? 3000 : 700;
    struct pool *pool = make_pool_with(&options), *idle = make_pool_with(&options);
    pid_t servers[2] = {server_of(pool), server_of(idle)}, worker = worker_pid(pool);
    stop_process(servers[0]);
    stop_process(servers[1]);
    EXPECT_OK(setgid(65534));
    EXPECT_OK(setuid(65534));
    map.timeout_ms = 50;
    map.status_out = status;
    EXPECT_INT(pool_map_with(pool, hang_at_9, items, sizeof *items, NULL, 0, 2, &map), POOL_ETIMEOUT);
    EXPECT(status[0] == 0 && status[1] == POOL_ETIMEOUT);
    EXPECT(has_vanished(worker));
    use(pool); /* by a server of this user's */
    EXPECT(has_vanished(servers[0]));
    EXPECT_OK(pool_destroy(pool));
    EXPECT_OK(pool_destroy(idle));
    EXPECT(has_vanished(servers[1]));
    EXPECT_INT(child_count(), 0);
    return unused != NULL;
}

static void stopped_server_of_another_user_is_replaced_and_goes(void)
{
    if (getuid())
        skip_case("only root can become another user");
    in_another_process(give_up_being_root, NULL);
}

/* Dies of item 0 once. */
static int be_killed_at_first(const void *item, void *result, void *state)
{
    struct board *board = state;
    (void)item, (void)result;
    uint64_t index = mark_item(board);
    if (!index && board->runs[index] == 1)
        raise(SIGKILL);
    return 0;
}

/* Whether that was done before the pool heard of how the worker ended, which takes it a second at the least. */
static bool runs_elsewhere_before_its_end_is_told(void)
{
    struct board *board = make_board();
    struct pool_options options = board_options(2);
    struct pool_map_options map = POOL_MAP_OPTIONS_INIT;
    struct pool_stats stats = POOL_STATS_INIT;
    struct pool *pool = make_pool_with(&options);
    pid_t server = server_of(pool);
    int items[8] = {0};
    memset(board, 0, sizeof *board);
    map.chunk_size = 4;
    pool_broadcast(pool, do_nothing, NULL, 0); /* both workers are ready after it */
    stop_process(server);
    EXPECT_OK(pool_map_with(pool, be_killed_at_first, items, sizeof *items, NULL, 0, 8, &map));
    EXPECT_OK(pool_stats(pool, &stats));
    EXPECT_OK(kill(server, SIGCONT));
    EXPECT_OK(pool_destroy(pool));
    return !stats.crashes;
}

static void items_of_one_that_is_gone_do_not_wait_for_a_stopped_server(void)
{
    for (uint64_t since_ms = now_ms(); !runs_elsewhere_before_its_end_is_told();)
        EXPECT(have_patience(since_ms));
}

/* The fds of a worker that is gone are kept while its server, stopped, cannot say how it ended. That its successor
 * cannot be started meanwhile, for want of fds, is no failure: three of these would break the pool. */
static void start_waits_for_the_fds_of_one_that_is_gone(void)
{
    int fillers[MAX_FILLERS];
    struct rlimit limit;
    struct pool_task *dies, *runs;
    struct pool_result result;
    struct pool *pool = make_pool(1);
    pid_t server = server_of(pool);
    EXPECT_OK(getrlimit(RLIMIT_NOFILE, &limit));
    stop_process(server);
    unsigned count = fill_table(fillers);
    EXPECT_OK(pool_submit(pool, be_killed, "", 0, NULL, &dies));
    EXPECT_OK(pool_submit(pool, do_nothing, "", 0, NULL, &runs));
    EXPECT_INT(pool_wait(runs, SOME_REFUSALS_MS), POOL_PENDING);
    while (count)
        close(fillers[--count]);
    EXPECT_OK(setrlimit(RLIMIT_NOFILE, &limit));
    EXPECT_OK(kill(server, SIGCONT));
    EXPECT_OK(pool_wait(runs, POOL_FOREVER));
    EXPECT_OK(pool_task_result(runs, &result));
    EXPECT_INT(result.status, 0);
    EXPECT_OK(pool_wait(dies, POOL_FOREVER));
    pool_task_free(dies);
    pool_task_free(runs);
    EXPECT_OK(pool_destroy(pool));
}

/* ---- speaking without being asked ---- */

enum { GARBAGE_BYTES = 4096 };

/* To every fd above stdio. `size` bytes, some of which would make a frame of a known type. */
static void write_garbage(size_t size)
{
    unsigned char garbage[GARBAGE_BYTES];
    for (size_t i = 0; i < sizeof garbage; i++)
        garbage[i] = (unsigned char)(i * 151 + 3);
    for (int fd = 3; fd < 64; fd++)
        if (write(fd, garbage, size) < 0)
            continue;
}

static struct board *board_of_thread;
static size_t garbage_of_thread;

static void *write_garbage_later(void *unused)
{
    if (!await_counter(board_of_thread, GO, 1))
        return unused;
    write_garbage(garbage_of_thread);
    board_of_thread->counters[DONE]++;
    return unused;
}

/* What outlives the task is a thread. */
static int leave_a_thread_that_writes(const void *item, void *result, void *state)
{
    pthread_t thread;
    (void)result;
    board_of_thread = state;
    garbage_of_thread = *(const size_t *)item;
    return pthread_create(&thread, NULL, write_garbage_later, NULL);
}

static void garbage_of_an_idle_worker_costs_no_item(void)
{
    static const size_t sizes[] = {GARBAGE_BYTES, 1, 20};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct board *board = make_board();
        memset(board, 0, sizeof *board);
        struct pool_options options = board_options(1);
        struct pool *pool = make_pool_with(&options);
        pid_t worker = worker_pid(pool);
        EXPECT_OK(pool_map(pool, leave_a_thread_that_writes, &sizes[i], sizeof *sizes, NULL, 0, 1));
        board->counters[GO] = 1;
        EXPECT(await_counter(board, DONE, 1));
        use(pool);
        EXPECT(worker_pid(pool) != worker);
        EXPECT_OK(pool_destroy(pool));
    }
}

static void garbage_of_an_idle_worker_does_not_hang_destroy(void)
{
    size_t size = GARBAGE_BYTES;
    struct board *board = make_board();
    struct pool_options options = board_options(2);
    struct pool *pool = make_pool_with(&options);
    EXPECT_OK(pool_map(pool, leave_a_thread_that_writes, &size, sizeof size, NULL, 0, 1));
    board->counters[GO] = 1;
    EXPECT(await_counter(board, DONE, 1));
    EXPECT_OK(pool_destroy(pool));
}

/* ---- workers without the thread that works ---- */

enum ending { RETURNS, EXITS_THREAD, EXITS_THREAD_RAW };

static int end_own_thread(const void *item, void *result, void *state)
{
    enum ending ending = (enum ending) * (const int *)item;
    if (ending == EXITS_THREAD)
        pthread_exit(NULL);
    if (ending == EXITS_THREAD_RAW)
        syscall(SYS_exit, 7);
    return add_one(item, result, state);
}

static void task_that_ends_its_thread_fails_alone(void)
{
    enum { COUNT = 60 };
    if (is_sanitized())
        skip_case("a thread of the sanitizer's may live on");
    struct pool *pool = make_pool(2);
    struct pool_map_options map = POOL_MAP_OPTIONS_INIT;
    int items[COUNT] = {0}, results[COUNT], status[COUNT];
    items[7] = EXITS_THREAD, items[33] = EXITS_THREAD_RAW;
    map.status_out = status;
    EXPECT_INT(pool_map_with(pool, end_own_thread, items, sizeof *items, results, sizeof *results, COUNT, &map),
               POOL_ECRASH);
    for (int i = 0; i < COUNT; i++) {
        EXPECT_INT(status[i], items[i] ? POOL_ECRASH : 0);
        EXPECT(items[i] || results[i] == 1);
    }
    EXPECT_OK(pool_destroy(pool));
}

static void *live_on(void *unused)
{
    for (;;)
        pause();
    return unused;
}

/* The process lives as long as its last thread. */
static int end_own_thread_and_leave_another(const void *item, void *result, void *state)
{
    pthread_t thread;
    if (!*(const int *)item)
        return add_one(item, result, state);
    if (!pthread_create(&thread, NULL, live_on, NULL))
        syscall(SYS_exit, 0);
    return 1;
}

static void worker_whose_other_threads_live_on_is_killed_at_the_deadline(void)
{
    enum { COUNT = 20 };
    struct pool *pool = make_pool(1);
    struct pool_map_options map = POOL_MAP_OPTIONS_INIT;
    int items[COUNT] = {0}, results[COUNT], status[COUNT];
    items[7] = 1;
    map.status_out = status;
    map.timeout_ms = 500;
    EXPECT_INT(pool_map_with(pool, end_own_thread_and_leave_another, items, sizeof *items, results, sizeof *results,
                             COUNT, &map),
               POOL_ETIMEOUT);
    for (int i = 0; i < COUNT; i++)
        EXPECT_INT(status[i], items[i] ? POOL_ETIMEOUT : 0);
    EXPECT_OK(pool_destroy(pool));
}

/* ---- processes that hold the pipes of a worker ---- */

/* Past the library's fork handlers, as a program that calls clone would do it. */
static pid_t leave_a_holder(struct board *board)
{
    pid_t pid = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
    if (!pid)
        for (;;)
            syscall(SYS_ppoll, NULL, 0, NULL, NULL, 0);
    if (pid > 0)
        board->pids[board->counters[HELD]++] = pid;
    return pid;
}

static int leave_a_holder_and_maybe_die(const void *item, void *result, void *state)
{
    (void)result;
    if (leave_a_holder(state) < 0)
        return errno;
    if (*(const int *)item < 0)
        raise(SIGKILL);
    while (*(const int *)item > 0)
        pause();
    return 0;
}

static void end_holders(struct board *board)
{
    for (uint64_t i = 0; i < board->counters[HELD]; i++) {
        EXPECT(is_running(board->pids[i]));
        EXPECT_OK(kill(board->pids[i], SIGKILL));
        EXPECT(has_vanished(board->pids[i]));
    }
}

static void process_that_holds_the_pipes_delays_neither_deaths_nor_recycling_nor_the_end(void)
{
    static const int behaviours[] = {-1, 0, 1}, statuses[] = {POOL_ECRASH, 0, POOL_ETIMEOUT};
    struct board *board = make_board();
    struct pool_options options = board_options(1);
    struct pool_map_options map = POOL_MAP_OPTIONS_INIT;
    map.timeout_ms = 400;
    for (int recycles = 0; recycles < 2; recycles++) {
        options.max_tasks_per_worker = recycles ? 1 : 0;
        struct pool *pool = make_pool_with(&options);
        uint64_t since_ms = now_ms();
        for (int i = 0; i < 3; i++) {
            EXPECT_INT(
                pool_map_with(pool, leave_a_holder_and_maybe_die, &behaviours[i], sizeof *behaviours, NULL, 0, 1, &map),
                statuses[i]);
            use(pool);
        }
        EXPECT_OK(pool_map(pool, leave_a_holder_and_maybe_die, &behaviours[1], sizeof *behaviours, NULL, 0, 1));
        EXPECT_OK(pool_destroy(pool));
        EXPECT(now_ms() - since_ms < SOON_MS);
    }
    EXPECT_INT(board->counters[HELD], 8);
    end_holders(board);
}

/* ---- large numbers ---- */

static int meet(const void *item, void *result, void *state)
{
    struct board *board = state;
    mark_item(board);
    board->counters[GO]++;
    *(pid_t *)result = getpid();
    return !await_counter(board, GO, *(const uint64_t *)item);
}

/* Every worker has an item, since none ends before all have begun. */
static void two_hundred_workers_work_and_go(void)
{
    enum { MANY = 200, FEWER = 40 };
    unsigned count = is_sanitized() ? FEWER : MANY;
    uint64_t items[MANY];
    pid_t pids[MANY];
    make_board();
    struct pool_options options = board_options(count);
    struct pool *pool = make_pool_with(&options);
    struct pool_map_options map = POOL_MAP_OPTIONS_INIT;
    map.chunk_size = 1;
    for (unsigned i = 0; i < count; i++)
        items[i] = count;
    EXPECT_OK(pool_map_with(pool, meet, items, sizeof *items, pids, sizeof *pids, count, &map));
    for (unsigned i = 0; i < count; i++)
        for (unsigned k = 0; k < i; k++)
            EXPECT(pids[i] != pids[k]);
    use(pool);
    EXPECT_OK(pool_destroy(pool));
    for (unsigned i = 0; i < count; i++)
        EXPECT(!is_running(pids[i]));
}

/* ---- exit statuses that others take ---- */

static void map_with_deaths_and_recycling(void)
{
    enum { COUNT = 60 };
    struct pool_options options = method_options(2);
    options.max_tasks_per_worker = 12;
    struct pool *pool = make_pool_with(&options);
    struct pool_map_options map = POOL_MAP_OPTIONS_INIT;
    int items[COUNT] = {0}, results[COUNT], status[COUNT];
    map.status_out = status;
    items[3] = items[40] = -1;
    EXPECT_INT(pool_map_with(pool, die_if_asked, items, sizeof *items, results, sizeof *results, COUNT, &map),
               POOL_ECRASH);
    for (int i = 0; i < COUNT; i++)
        EXPECT_INT(status[i], items[i] ? POOL_ECRASH : 0);
    EXPECT_OK(pool_destroy(pool));
}

static void host_may_ask_for_no_zombies(void)
{
    struct sigaction action = {.sa_handler = SIG_DFL, .sa_flags = SA_NOCLDWAIT}, before;
    EXPECT_OK(sigaction(SIGCHLD, &action, &before));
    map_with_deaths_and_recycling();
    EXPECT_OK(sigaction(SIGCHLD, &before, NULL));
}

/* Blocks in waitpid(-1) most of the time, as a supervisor does. */
static void *wait_for_any_child(void *board)
{
    while (!((struct board *)board)->counters[STOP])
        if (waitpid(-1, NULL, __WALL) < 0)
            nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
    return NULL;
}

static void host_may_wait_for_any_child_in_a_thread(void)
{
    pthread_t thread;
    struct board *board = make_board();
    EXPECT_OK(pthread_create(&thread, NULL, wait_for_any_child, board));
    for (int i = 0; i < 5; i++)
        map_with_deaths_and_recycling();
    board->counters[STOP] = 1;
    EXPECT_OK(pthread_join(thread, NULL));
}

const struct conformance_case odd_cases[] = {
    CASE(stopped_worker_is_killed_by_destroy),
    CASE(stopped_worker_costs_a_map_with_a_deadline_no_more_than_its_item),
    CASE(worker_that_was_stopped_and_continued_works_on),
    CASE_IF(PRELOADS_ONCE, stopped_server_does_not_hang_destroy),
    CASE_IF(PRELOADS_ONCE, stopped_server_with_stopped_workers_does_not_hang_destroy),
    CASE_IF(PRELOADS_ONCE, map_gets_workers_of_a_new_server_when_the_old_one_is_stopped),
    CASE_IF(PRELOADS_ONCE, pool_goes_on_when_all_its_workers_were_killed_and_its_server_is_stopped),
    CASE_IF(PRELOADS_ONCE, server_that_was_stopped_and_continued_starts_workers_again),
    CASE_IF(PRELOADS_ONCE, stopped_server_of_another_user_is_replaced_and_goes),
    CASE_IF(PRELOADS_ONCE, items_of_one_that_is_gone_do_not_wait_for_a_stopped_server),
    CASE_IF(PRELOADS_ONCE, start_waits_for_the_fds_of_one_that_is_gone),
    CASE(garbage_of_an_idle_worker_costs_no_item),
    CASE(garbage_of_an_idle_worker_does_not_hang_destroy),
    CASE(task_that_ends_its_thread_fails_alone),
    CASE(worker_whose_other_threads_live_on_is_killed_at_the_deadline),
    CASE(process_that_holds_the_pipes_delays_neither_deaths_nor_recycling_nor_the_end),
    CASE(two_hundred_workers_work_and_go),
    CASE(host_may_ask_for_no_zombies),
    CASE(host_may_wait_for_any_child_in_a_thread),
    {0},
};

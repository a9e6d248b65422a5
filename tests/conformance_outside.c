/* conformance_outside: what others do to the processes of a pool: the host is killed, workers and servers are killed
 * from outside, exit statuses are taken away, signals rain. */
#include "conformance.h"
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

/* Counters of the board. PARENT_PID: of the last worker that told it. */
enum { UNDER_WAY = 1, STOP, PARENT_PID, HANDLED };

static int tell_pid_of_parent(const void *item, void *result, void *state)
{
    (void)item, (void)state;
    *(pid_t *)result = getppid();
    return 0;
}

static int work_for_a_moment(const void *item, void *result, void *state)
{
    struct board *board = state;
    mark_item(board);
    board->counters[UNDER_WAY]++;
    for (volatile unsigned spin = 0; spin < 200000; spin++)
        continue;
    *(uint64_t *)result = *(const uint64_t *)item + 1;
    return 0;
}

/* ---- the host is killed ---- */

static int spin_for_ever(const void *item, void *result, void *state)
{
    struct board *board = state;
    (void)result;
    mark_item(board);
    board->counters[UNDER_WAY]++;
    for (volatile int spin = *(const int *)item; spin;)
        spin |= 1;
    return 0;
}

static void *make_pool_in_thread(void *pool_out)
{
    struct pool_options options = board_options(3);
    *(struct pool **)pool_out = make_pool_with(&options);
    return NULL;
}

/* With *in_thread, the thread that made the pool, and started its workers, has ended before they work. */
static int be_a_host_to_be_killed(void *in_thread)
{
    struct pool *pool;
    pthread_t thread;
    int items[3] = {1, 1, 1};
    if (*(bool *)in_thread) {
        EXPECT_OK(pthread_create(&thread, NULL, make_pool_in_thread, &pool));
        EXPECT_OK(pthread_join(thread, NULL));
    } else {
        make_pool_in_thread(&pool);
    }
    pool_map(pool, spin_for_ever, items, sizeof *items, NULL, 0, 3);
    return 1;
}

static unsigned parent_of(pid_t pid)
{
    return (unsigned)status_kib(pid, "PPid:");
}

static void kill_host_of_working_pool(bool in_thread)
{
    struct board *board = make_board();
    memset(board, 0, sizeof *board);
    pid_t host = start_process(be_a_host_to_be_killed, &in_thread), servers[3];
    EXPECT(await_counter(board, UNDER_WAY, 3));
    for (int i = 0; i < 3; i++)
        servers[i] = (pid_t)parent_of(board->pids[i]);
    EXPECT_OK(kill(host, SIGKILL));
    EXPECT(WIFSIGNALED(end_of_process(host)));
    for (int i = 0; i < 3; i++) {
        EXPECT(has_vanished(board->pids[i]));
        if (method->traits & PRELOADS_ONCE) {
            EXPECT(servers[i] != host && servers[i] > 1);
            EXPECT(has_vanished(servers[i]));
        }
    }
}

static void workers_end_when_their_host_is_killed(void)
{
    kill_host_of_working_pool(false);
}

static void workers_end_with_their_host_though_the_thread_that_made_them_has_gone(void)
{
    kill_host_of_working_pool(true);
}

static int leave_idle_pool(void *how)
{
    struct board *board = make_board();
    struct pool_options options = board_options(2);
    struct pool *pool = make_pool_with(&options);
    board->counters[1] = (uint64_t)worker_pid(pool);
    board->counters[2] = parent_of((pid_t)board->counters[1]);
    if (*(int *)how == SIGKILL)
        raise(SIGKILL);
    exit(0); /* without pool_destroy */
}

static void idle_workers_end_with_their_host_however_it_ends(void)
{
    static int hows[] = {SIGKILL, 0};
    for (int i = 0; i < 2; i++) {
        struct board *board = make_board();
        pid_t host = start_process(leave_idle_pool, &hows[i]);
        int status = end_of_process(host);
        EXPECT(hows[i] ? WIFSIGNALED(status) : status == 0);
        EXPECT(board->counters[1]);
        EXPECT(has_vanished((pid_t)board->counters[1]));
        EXPECT(board->counters[2] <= 1 || has_vanished((pid_t)board->counters[2]));
    }
}

/* ---- a forked child of the host ---- */

static int hold_on(void *pair)
{
    char byte;
    close(((int *)pair)[1]);
    return (int)read(((int *)pair)[0], &byte, 1); /* until the parent is done */
}

static int fork_and_be_killed(void *unused)
{
    int pair[2];
    struct board *board = make_board();
    struct pool_options options = board_options(1);
    struct pool *pool = make_pool_with(&options);
    board->counters[1] = (uint64_t)worker_pid(pool);
    EXPECT_OK(pipe(pair));
    board->counters[2] = (uint64_t)start_process(hold_on, pair);
    raise(SIGKILL);
    return unused != NULL;
}

/* A child that the host forked, and that outlives it, must not hold the lifelines open. */
static void workers_end_with_their_host_though_a_forked_child_of_it_lives_on(void)
{
    struct board *board = make_board();
    pid_t host = start_process(fork_and_be_killed, NULL);
    EXPECT(WIFSIGNALED(end_of_process(host)));
    EXPECT(has_vanished((pid_t)board->counters[1]));
    EXPECT(has_vanished((pid_t)board->counters[2])); /* its pipe has no writer any more */
}

/* ---- exit statuses ---- */

static int die(const void *item, void *result, void *state)
{
    (void)result, (void)state;
    if (*(const int *)item)
        raise(SIGKILL);
    return 0;
}

static void map_with_two_deaths(void)
{
    enum { COUNT = 100 };
    int items[COUNT] = {0}, status[COUNT];
    struct pool_options options = method_options(2);
    options.max_tasks_per_worker = 30;
    struct pool *pool = make_pool_with(&options);
    struct pool_map_options map = POOL_MAP_OPTIONS_INIT;
    map.status_out = status;
    items[20] = items[77] = 1;
    EXPECT_INT(pool_map_with(pool, die, items, sizeof *items, NULL, 0, COUNT, &map), POOL_ECRASH);
    EXPECT_TEXT(pool_message(), "20");
    for (int i = 0; i < COUNT; i++)
        EXPECT_INT(status[i], items[i] ? POOL_ECRASH : 0);
    EXPECT_OK(pool_destroy(pool));
}

static void host_may_ignore_sigchld(void)
{
    signal(SIGCHLD, SIG_IGN);
    map_with_two_deaths();
    signal(SIGCHLD, SIG_DFL);
}

static struct board *handler_board;

static void reap_everything(int number)
{
    (void)number;
    int error = errno;
    while (waitpid(-1, NULL, WNOHANG) > 0)
        handler_board->counters[HANDLED]++;
    errno = error;
}

static void host_may_reap_every_child_in_a_handler(void)
{
    handler_board = make_board();
    struct sigaction action = {.sa_handler = reap_everything, .sa_flags = SA_RESTART};
    sigaction(SIGCHLD, &action, NULL);
    map_with_two_deaths();
    signal(SIGCHLD, SIG_DFL);
}

static void *reap_in_thread(void *board)
{
    while (!((struct board *)board)->counters[STOP])
        while (waitpid(-1, NULL, WNOHANG) > 0)
            continue;
    return NULL;
}

static void host_may_reap_every_child_in_a_thread(void)
{
    pthread_t thread;
    struct board *board = make_board();
    EXPECT_OK(pthread_create(&thread, NULL, reap_in_thread, board));
    for (int i = 0; i < 5; i++)
        map_with_two_deaths();
    board->counters[STOP] = 1;
    EXPECT_OK(pthread_join(thread, NULL));
}

/* ---- signals to the host ---- */

static volatile sig_atomic_t alarms;

static void count_alarm(int number)
{
    (void)number;
    alarms = alarms + 1;
}

static int echo_some(struct pool_call *call)
{
    size_t size;
    const void *input = pool_call_input(call, &size);
    void *reply = pool_call_reply(call, size);
    if (reply)
        memcpy(reply, input, size);
    return !reply;
}

/* Without SA_RESTART every system call of the host may end with EINTR. */
static void host_under_a_storm_of_signals_notices_nothing(void)
{
    enum { COUNT = 30, BYTES = 1000000 };
    struct sigaction action = {.sa_handler = count_alarm}, before;
    struct itimerval often = {{0, 500}, {0, 500}}, never = {0};
    struct pool_bytes items[COUNT], replies[COUNT];
    make_board();
    for (size_t i = 0; i < COUNT; i++) {
        items[i] = (struct pool_bytes){malloc(BYTES), BYTES - i};
        memset(items[i].data, (int)i + 1, BYTES);
    }
    sigaction(SIGALRM, &action, &before);
    setitimer(ITIMER_REAL, &often, NULL);
    for (int round = 0; round < 5; round++) {
        struct pool_options options = board_options(2);
        options.max_tasks_per_worker = 7;
        struct pool *pool = make_pool_with(&options);
        EXPECT_OK(pool_map_bytes(pool, echo_some, items, COUNT, replies, NULL));
        for (size_t i = 0; i < COUNT; i++) {
            EXPECT(replies[i].size == items[i].size && !memcmp(replies[i].data, items[i].data, items[i].size));
            pool_bytes_clear(&replies[i]);
        }
        EXPECT_OK(pool_destroy(pool));
    }
    map_with_two_deaths();
    setitimer(ITIMER_REAL, &never, NULL);
    sigaction(SIGALRM, &before, NULL);
    EXPECT(alarms > 50);
    for (size_t i = 0; i < COUNT; i++)
        pool_bytes_clear(&items[i]);
}

/* The default action of SIGPIPE would end the host. The worker dies while large inputs are being written to it. */
static int die_at_once(struct pool_call *call)
{
    size_t size;
    const char *input = pool_call_input(call, &size);
    if (input[0])
        raise(SIGKILL);
    return 0;
}

/* As under nohup, or in a daemon that reads its configuration again. A forkserver is in the group, too. */
static void hangup_of_the_process_group_is_the_hosts_affair(void)
{
    uint64_t items[300] = {0}, results[300];
    make_board();
    struct pool_options options = board_options(2);
    options.max_tasks_per_worker = 100;
    signal(SIGHUP, SIG_IGN);
    struct pool *pool = make_pool_with(&options);
    for (int i = 0; i < 3; i++) {
        EXPECT_OK(kill(0, SIGHUP));
        EXPECT_OK(pool_map(pool, work_for_a_moment, items, sizeof *items, results, sizeof *results, 300));
    }
    struct pool_stats stats = POOL_STATS_INIT;
    EXPECT_OK(pool_stats(pool, &stats));
    EXPECT_INT(stats.crashes, 0);
    EXPECT_OK(pool_destroy(pool));
    signal(SIGHUP, SIG_DFL);
}

static void host_gets_no_sigpipe(void)
{
    enum { COUNT = 60, BYTES = 700000 };
    struct pool_bytes items[COUNT];
    struct pool_map_options map = POOL_MAP_OPTIONS_INIT;
    int status[COUNT];
    char *bytes = calloc(2, BYTES);
    signal(SIGPIPE, SIG_DFL);
    for (int i = 0; i < COUNT; i++)
        items[i] = (struct pool_bytes){bytes + (i % 2 ? BYTES : 0), BYTES};
    bytes[0] = 1;
    map.status_out = status;
    struct pool *pool = make_pool(2);
    EXPECT_INT(pool_map_bytes(pool, die_at_once, items, COUNT, NULL, &map), POOL_ECRASH);
    for (int i = 0; i < COUNT; i++)
        EXPECT_INT(status[i], i % 2 ? 0 : POOL_ECRASH);
    EXPECT_OK(pool_destroy(pool));
    free(bytes);
}

/* ---- killed from outside ---- */

struct killer {
    struct board *board;
    unsigned kills;
};

/* Kills the worker that began the last item, again and again, each after some more progress. */
static void *kill_workers(void *arg)
{
    struct killer *killer = arg;
    struct board *board = killer->board;
    for (unsigned i = 0; i < 25 && await_counter(board, UNDER_WAY, 300 * (i + 1)) && !board->counters[STOP]; i++) {
        uint64_t item = 97 * i % 8000;
        pid_t pid = 0;
        for (uint64_t k = 0; k < 8000 && !pid; k++)
            pid = board->pids[(item + k) % 8000];
        /* It may have gone already: only a process of this session is meant. */
        if (pid > 0 && getsid(pid) == getsid(0) && pid != getpid() && !kill(pid, i % 2 ? SIGKILL : SIGABRT))
            killer->kills++;
        for (uint64_t k = 0; k < 8000; k++)
            board->pids[k] = board->pids[k] == pid ? 0 : board->pids[k];
    }
    return NULL;
}

static void workers_killed_at_random_cost_an_item_each_at_most(void)
{
    enum { COUNT = 8000 };
    static uint64_t items[COUNT], results[COUNT];
    static int status[COUNT];
    unsigned failed = 0;
    pthread_t thread;
    struct killer killer = {make_board(), 0};
    struct pool_options options = board_options(3);
    struct pool_map_options map = POOL_MAP_OPTIONS_INIT;
    map.status_out = status;
    struct pool *pool = make_pool_with(&options);
    for (uint64_t i = 0; i < COUNT; i++)
        items[i] = i * i;
    EXPECT_OK(pthread_create(&thread, NULL, kill_workers, &killer));
    int rc = pool_map_with(pool, work_for_a_moment, items, sizeof *items, results, sizeof *results, COUNT, &map);
    killer.board->counters[STOP] = 1;
    killer.board->counters[UNDER_WAY] += COUNT; /* lets the killer go */
    EXPECT_OK(pthread_join(thread, NULL));
    EXPECT(killer.kills >= 5);
    for (uint64_t i = 0; i < COUNT; i++) {
        failed += status[i] != 0;
        EXPECT_INT(status[i], status[i] ? POOL_ECRASH : 0);
        EXPECT(status[i] || results[i] == items[i] + 1);
    }
    EXPECT(failed <= killer.kills);
    EXPECT_INT(rc, failed ? POOL_ECRASH : 0);
    EXPECT_OK(pool_map(pool, work_for_a_moment, items, sizeof *items, results, sizeof *results, 100));
    EXPECT_OK(pool_destroy(pool));
}

static void idle_worker_killed_from_outside_costs_nothing(void)
{
    make_board();
    struct pool_options options = board_options(1);
    struct pool *pool = make_pool_with(&options);
    uint64_t items[50] = {0}, results[50];
    for (int i = 0; i < 5; i++) {
        pid_t pid = worker_pid(pool);
        EXPECT_OK(kill(pid, SIGKILL));
        EXPECT(has_vanished(pid));
        EXPECT_OK(pool_map(pool, work_for_a_moment, items, sizeof *items, results, sizeof *results, 50));
        EXPECT(worker_pid(pool) != pid);
    }
    EXPECT_OK(pool_destroy(pool));
}

/* ---- the server is killed ---- */

static pid_t server_of(struct pool *pool)
{
    char item = 0;
    pid_t pid = 0;
    EXPECT_OK(pool_map(pool, tell_pid_of_parent, &item, 1, &pid, sizeof pid, 1));
    EXPECT(pid > 1 && pid != getpid() && getsid(pid) == getsid(0)); /* or it is whoever adopted an orphan */
    return pid;
}

static void idle_pool_goes_on_after_its_server_was_killed(void)
{
    make_board();
    uint64_t items[200] = {0}, results[200];
    struct pool_options options = board_options(1);
    options.max_tasks_per_worker = 60;
    struct pool *pool = make_pool_with(&options);
    for (int i = 0; i < 3; i++) {
        pid_t server = server_of(pool);
        EXPECT_OK(kill(server, SIGKILL));
        EXPECT(has_vanished(server));
        EXPECT_OK(pool_map(pool, work_for_a_moment, items, sizeof *items, results, sizeof *results, 200));
        EXPECT(server_of(pool) != server); /* the worker has been replaced since */
    }
    EXPECT_OK(pool_destroy(pool));
}

static void *kill_server(void *arg)
{
    struct killer *killer = arg;
    for (unsigned i = 0; i < 4 && await_counter(killer->board, UNDER_WAY, 500 * (i + 1)); i++) {
        pid_t server = (pid_t)killer->board->counters[PARENT_PID];
        if (server > 1 && getsid(server) == getsid(0) && server != getpid() && !kill(server, SIGKILL))
            killer->kills++;
    }
    return NULL;
}

static int work_and_tell_parent(const void *item, void *result, void *state)
{
    struct board *board = state;
    board->counters[PARENT_PID] = (uint64_t)getppid();
    int rc = work_for_a_moment(item, result, state);
    if (*(const uint64_t *)item == UINT64_MAX)
        raise(SIGKILL);
    return rc;
}

static void map_goes_on_while_its_server_is_killed(void)
{
    enum { COUNT = 4000 };
    static uint64_t items[COUNT], results[COUNT];
    static int status[COUNT];
    unsigned failed = 0;
    pthread_t thread;
    struct killer killer = {make_board(), 0};
    struct pool_options options = board_options(2);
    struct pool_map_options map = POOL_MAP_OPTIONS_INIT;
    map.status_out = status;
    options.max_tasks_per_worker = 150;
    for (uint64_t i = 0; i < COUNT; i++)
        items[i] = i % 700 == 699 ? UINT64_MAX : i;
    struct pool *pool = make_pool_with(&options);
    EXPECT_OK(pthread_create(&thread, NULL, kill_server, &killer));
    pool_map_with(pool, work_and_tell_parent, items, sizeof *items, results, sizeof *results, COUNT, &map);
    killer.board->counters[UNDER_WAY] += COUNT;
    EXPECT_OK(pthread_join(thread, NULL));
    EXPECT(killer.kills >= 1);
    for (uint64_t i = 0; i < COUNT; i++) {
        if (items[i] == UINT64_MAX)
            EXPECT_INT(status[i], POOL_ECRASH);
        else
            failed += status[i] != 0;
        EXPECT(status[i] || results[i] == items[i] + 1);
    }
    EXPECT_INT(failed, 0); /* the workers of a dead server live on */
    EXPECT_OK(pool_destroy(pool));
}

const struct conformance_case outside_cases[] = {
    CASE(workers_end_when_their_host_is_killed),
    CASE(workers_end_with_their_host_though_the_thread_that_made_them_has_gone),
    CASE(idle_workers_end_with_their_host_however_it_ends),
    CASE(workers_end_with_their_host_though_a_forked_child_of_it_lives_on),
    CASE(host_may_ignore_sigchld),
    CASE(host_may_reap_every_child_in_a_handler),
    CASE(host_may_reap_every_child_in_a_thread),
    CASE(host_under_a_storm_of_signals_notices_nothing),
    CASE(hangup_of_the_process_group_is_the_hosts_affair),
    CASE(host_gets_no_sigpipe),
    CASE(workers_killed_at_random_cost_an_item_each_at_most),
    CASE(idle_worker_killed_from_outside_costs_nothing),
    CASE_IF(PRELOADS_ONCE, idle_pool_goes_on_after_its_server_was_killed),
    CASE_IF(PRELOADS_ONCE, map_goes_on_while_its_server_is_killed),
    {0},
};

/* conformance_lifecycle: pools come and go: what they leave in the host (nothing), what happens when workers cannot
 * start, and what becomes of a pool when the host forks. */
#include "conformance.h"
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void use(struct pool *pool)
{
    int items[50], results[50];
    for (int i = 0; i < 50; i++)
        items[i] = i * 3;
    EXPECT_OK(pool_map(pool, add_one, items, sizeof *items, results, sizeof *results, 50));
    for (int i = 0; i < 50; i++)
        EXPECT_INT(results[i], i * 3 + 1);
}

/* ---- nothing is left ---- */

static void create_use_destroy(unsigned workers)
{
    struct pool *pool = make_pool(workers);
    use(pool);
    EXPECT_OK(pool_destroy(pool));
}

static void *create_use_destroy_many(void *rounds)
{
    unsigned fds = open_fd_count(), threads = thread_count();
    for (int i = 0; i < *(const int *)rounds; i++) {
        create_use_destroy(2);
        EXPECT_INT(open_fd_count(), fds);
        EXPECT_INT(child_count(), 0);
        EXPECT_INT(thread_count(), threads);
    }
    return NULL;
}

/* What a thread has freed and glibc keeps for it counts as in use, and of which sizes that is varies from pool to pool.
 * It is given back when the thread ends. */
static void create_use_destroy_in_a_thread(int rounds)
{
    pthread_t thread;
    unsigned threads = thread_count();
    EXPECT_OK(pthread_create(&thread, NULL, create_use_destroy_many, &rounds));
    EXPECT_OK(pthread_join(thread, NULL));
    await_thread_count(threads); /* or the next one would take it for one of those that are to stay */
}

static void two_hundred_pools_leave_nothing_behind(void)
{
    enum { WARM_UP = 10, ROUNDS = 200, LEAST_BLOCK_BYTES = 24 };
    create_use_destroy_in_a_thread(WARM_UP);
    size_t bytes = heap_bytes_in_use();
    long resident_kib = status_kib(getpid(), "VmRSS:");
    create_use_destroy_in_a_thread(ROUNDS);
    EXPECT(heap_bytes_in_use() <=
           bytes + ROUNDS * LEAST_BLOCK_BYTES / 2); /* what the C library caches comes and goes */
    EXPECT(is_sanitized() || status_kib(getpid(), "VmRSS:") < resident_kib + 4096);
}

static void pool_that_was_never_used_leaves_nothing_behind(void)
{
    for (int i = 0; i < 20; i++) /* while some of its workers are still starting */
        EXPECT_OK(pool_destroy(make_pool(8)));
}

/* Ends when as many items as it says are under way, each in a worker of its own. */
static int wait_for_the_others(const void *item, void *result, void *state)
{
    struct board *board = state;
    (void)result;
    mark_item(board);
    board->counters[1]++;
    return !await_counter(board, 1, *(const uint64_t *)item);
}

static void destroy_waits_for_the_end_of_all_workers(void)
{
    enum { WORKERS = 4 };
    struct board *board = make_board();
    uint64_t items[WORKERS] = {WORKERS, WORKERS, WORKERS, WORKERS};
    struct pool_options options = board_options(WORKERS);
    struct pool *pool = make_pool_with(&options);
    EXPECT_OK(pool_map(pool, wait_for_the_others, items, sizeof *items, NULL, 0, WORKERS));
    for (int i = 0; i < WORKERS; i++)
        EXPECT(is_running(board->pids[i]));
    EXPECT_OK(pool_destroy(pool));
    for (int i = 0; i < WORKERS; i++)
        EXPECT(!is_running(board->pids[i]));
    EXPECT_INT(child_count(), 0);
    EXPECT_OK(pool_destroy(NULL));
}

static void many_pools_live_side_by_side(void)
{
    enum { POOLS = 12 };
    struct pool *pools[POOLS];
    for (int i = 0; i < POOLS; i++)
        pools[i] = make_pool(2);
    for (int round = 0; round < 3; round++)
        for (int i = 0; i < POOLS; i++)
            use(pools[i]);
    for (int i = 0; i < POOLS; i += 2)
        EXPECT_OK(pool_destroy(pools[i]));
    for (int i = 1; i < POOLS; i += 2) {
        use(pools[i]);
        EXPECT_OK(pool_destroy(pools[i]));
    }
}

static void pool_of_many_workers(void)
{
    struct pool *pool = make_pool(64);
    use(pool);
    EXPECT_OK(pool_destroy(pool));
}

/* ---- threads ---- */

static void *make_and_use_pools(void *unused)
{
    for (int i = 0; i < 15; i++)
        create_use_destroy(2);
    return unused;
}

static void threads_make_and_destroy_pools_at_the_same_time(void)
{
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        EXPECT_OK(pthread_create(&threads[i], NULL, make_and_use_pools, NULL));
    for (int i = 0; i < 4; i++)
        EXPECT_OK(pthread_join(threads[i], NULL));
}

static int sleep_a_little(const void *item, void *result, void *state)
{
    struct board *board = state;
    board->counters[1]++;
    nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
    *(int *)result = *(const int *)item + 1;
    return 0;
}

static void *map_slowly(void *pool)
{
    int items[300] = {0}, results[300];
    EXPECT_OK(pool_map(pool, sleep_a_little, items, sizeof *items, results, sizeof *results, 300));
    for (int i = 0; i < 300; i++)
        EXPECT_INT(results[i], 1);
    return NULL;
}

static void destroy_lets_the_maps_of_other_threads_end(void)
{
    pthread_t thread;
    struct board *board = make_board();
    struct pool_options options = board_options(2);
    struct pool *pool = make_pool_with(&options);
    EXPECT_OK(pthread_create(&thread, NULL, map_slowly, pool));
    EXPECT(await_counter(board, 1, 20));
    EXPECT_OK(pool_destroy(pool));
    EXPECT_INT(board->counters[1], 300);
    EXPECT_OK(pthread_join(thread, NULL));
}

/* ---- fork() by the host ---- */

static int use_inherited_pool(void *pool)
{
    int item = 1, result = 0;
    EXPECT_INT(pool_map(pool, add_one, &item, sizeof item, &result, sizeof result, 1), POOL_EFORKED);
    EXPECT(*pool_message());
    EXPECT_OK(pool_destroy(pool));
    create_use_destroy(2); /* but it may have pools of its own */
    return 0;
}

static void pool_is_of_no_use_in_a_forked_child_and_unharmed_by_it(void)
{
    struct pool *pool = make_pool(2);
    pid_t worker = worker_pid(pool);
    unsigned fds = open_fd_count();
    in_another_process(use_inherited_pool, pool);
    EXPECT_INT(open_fd_count(), fds);
    EXPECT_OK(kill(worker, 0));
    use(pool);
    in_another_process(use_inherited_pool, pool);
    use(pool);
    EXPECT_OK(pool_destroy(pool));
}

static int count_fds(void *expected)
{
    EXPECT_INT(open_fd_count(), *(unsigned *)expected);
    return 0;
}

static void forked_child_keeps_no_fd_of_a_pool(void)
{
    unsigned fds = open_fd_count();
    struct pool *pool = make_pool(3);
    EXPECT(open_fd_count() > fds);
    in_another_process(count_fds, &fds);
    EXPECT_OK(pool_destroy(pool));
}

static void *fork_again_and_again(void *unused)
{
    for (int i = 0; i < 40; i++) {
        pid_t pid = fork();
        if (!pid)
            _exit(0);
        EXPECT(pid > 0 && waitpid(pid, NULL, 0) == pid);
    }
    return unused;
}

/* A thread may fork at any moment, also while another one drives a pool. */
static void host_may_fork_while_its_pools_work(void)
{
    pthread_t thread;
    EXPECT_OK(pthread_create(&thread, NULL, fork_again_and_again, NULL));
    for (int i = 0; i < 10; i++)
        create_use_destroy(2);
    EXPECT_OK(pthread_join(thread, NULL));
}

static int use_default_pool(void *parents_worker)
{
    pid_t pid = worker_pid(NULL);
    EXPECT(pid != *(pid_t *)parents_worker);
    return 0;
}

static void default_pool_is_made_anew_in_a_forked_child(void)
{
    setenv("POOL_WORKERS", "1", 1);
    pid_t pid = worker_pid(NULL);
    in_another_process(use_default_pool, &pid);
    EXPECT_INT(worker_pid(NULL), pid);
}

/* ---- the host's own signals ---- */

static void handle_nothing(int number)
{
    (void)number;
}

static void handlers_and_mask_of_the_host_stay_as_they_are(void)
{
    sigset_t some, before, during;
    unsigned threads = thread_count();
    sigemptyset(&some);
    sigaddset(&some, SIGUSR1);
    sigaddset(&some, SIGCHLD);
    sigaddset(&some, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &some, &before);
    signal(SIGUSR2, handle_nothing);
    struct pool *pool = make_pool(2);
    use(pool);
    pthread_sigmask(SIG_SETMASK, NULL, &during);
    for (int number = 1; number < 32; number++) {
        struct sigaction action;
        sigaction(number, NULL, &action);
        EXPECT_INT(sigismember(&during, number), sigismember(&before, number) || sigismember(&some, number));
        EXPECT((action.sa_handler == handle_nothing) == (number == SIGUSR2));
    }
    EXPECT_INT(thread_count(), threads);
    EXPECT_OK(pool_destroy(pool));
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    signal(SIGUSR2, SIG_DFL);
}

const struct conformance_case lifecycle_cases[] = {
    CASE(two_hundred_pools_leave_nothing_behind),
    CASE(pool_that_was_never_used_leaves_nothing_behind),
    CASE(destroy_waits_for_the_end_of_all_workers),
    CASE(many_pools_live_side_by_side),
    CASE(pool_of_many_workers),
    CASE_IF(STARTS_AFRESH, threads_make_and_destroy_pools_at_the_same_time),
    CASE(destroy_lets_the_maps_of_other_threads_end),
    CASE(pool_is_of_no_use_in_a_forked_child_and_unharmed_by_it),
    CASE(forked_child_keeps_no_fd_of_a_pool),
    CASE_IF(STARTS_AFRESH, host_may_fork_while_its_pools_work),
    CASE_THAT(KEEPS_POOL, default_pool_is_made_anew_in_a_forked_child),
    CASE(handlers_and_mask_of_the_host_stay_as_they_are),
    {0},
};

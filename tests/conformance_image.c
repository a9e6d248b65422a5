/* conformance_image: what memory a worker has, and what of the host's program runs in it: globals, constructors, exit
 * handlers, buffered output; and that a worker may have workers. */
#include "conformance.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static int global = 1, constructions;

__attribute__((constructor)) static void count_construction(void)
{
    constructions++;
}

/* ---- globals ---- */

static int tell_global(const void *item, void *result, void *state)
{
    (void)item, (void)state;
    *(int *)result = global;
    return 0;
}

static int global_in_worker(struct pool *pool)
{
    char item = 0;
    int result = -1;
    EXPECT_OK(pool_map(pool, tell_global, &item, 1, &result, sizeof result, 1));
    return result;
}

static void globals_are_inherited_as_they_were_when_the_worker_started(void)
{
    global = 42;
    struct pool *pool = make_pool(1);
    global = 43;
    EXPECT_INT(global_in_worker(pool), 42);
    pool_destroy(pool);
}

static void globals_start_from_scratch(void)
{
    global = 42;
    struct pool *pool = make_pool(2);
    EXPECT_INT(global_in_worker(pool), 1);
    pool_destroy(pool);
}

static int set_global(const void *item, void *result, void *state)
{
    (void)result, (void)state;
    int before = global;
    global = *(const int *)item;
    return before == global ? 0 : before;
}

static void what_a_worker_writes_stays_in_it(void)
{
    int item = 7, code;
    struct pool_map_options map = POOL_MAP_OPTIONS_INIT;
    map.code_out = &code;
    struct pool *pool = make_pool(1);
    EXPECT_INT(pool_map_with(pool, set_global, &item, sizeof item, NULL, 0, 1, &map), POOL_ETASK);
    EXPECT_INT(code, 1);
    EXPECT_INT(global, 1);
    EXPECT_OK(pool_map(pool, set_global, &item, sizeof item, NULL, 0, 1)); /* the same worker has kept it */
    pool_destroy(pool);
}

static int tell_constructions(const void *item, void *result, void *state)
{
    (void)item, (void)state;
    *(int *)result = constructions;
    return 0;
}

static void constructors_run_again_once_in_a_fresh_image(void)
{
    char item = 0;
    int result = -1;
    constructions = 100;
    struct pool *pool = make_pool(1);
    EXPECT_OK(pool_map(pool, tell_constructions, &item, 1, &result, sizeof result, 1));
    EXPECT_INT(result, method->traits & COPIES_PARENT ? 100 : 1);
    pool_destroy(pool);
}

/* ---- memory and threads of the host ---- */

static int tell_memory(const void *item, void *result, void *state)
{
    (void)item, (void)state;
    ((long *)result)[0] = status_kib(getpid(), "VmRSS:");
    ((long *)result)[1] = status_kib(getpid(), "VmSize:");
    return 0;
}

static void workers_do_not_carry_the_memory_of_the_host(void)
{
    enum { BYTES = 512 << 20 };
    long small[2], large[2];
    char item = 0;
    struct pool *pool = make_pool(1);
    EXPECT_OK(pool_map(pool, tell_memory, &item, 1, small, sizeof small, 1));
    pool_destroy(pool);
    char *bytes = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    EXPECT(bytes != MAP_FAILED);
    memset(bytes, 1, BYTES);
    pool = make_pool(1);
    EXPECT_OK(pool_map(pool, tell_memory, &item, 1, large, sizeof large, 1));
    EXPECT(large[0] > 0 && large[0] < small[0] + 8192);
    EXPECT(large[1] < small[1] + (BYTES >> 11));
    pool_destroy(pool);
    munmap(bytes, BYTES);
}

static atomic_bool churning;

static void *churn(void *unused)
{
    while (churning) {
        void *blocks[50];
        for (size_t i = 0; i < 50; i++)
            blocks[i] = malloc(i * 997 % 40000 + 1);
        for (size_t i = 0; i < 50; i++)
            free(blocks[i]);
    }
    return unused;
}

static int use_malloc(const void *item, void *result, void *state)
{
    (void)state;
    char *copy = malloc(100000 + *(const unsigned char *)item);
    FILE *stream = fopen("/dev/null", "w");
    fprintf(stream, "%s", "text");
    fclose(stream);
    memset(copy, *(const unsigned char *)item, 100000);
    *(unsigned char *)result = (unsigned char)copy[99999];
    free(copy);
    return 0;
}

static void workers_start_while_eight_threads_are_busy_in_malloc(void)
{
    enum { THREADS = 8, ROUNDS = 12 };
    pthread_t threads[THREADS];
    unsigned char items[100], results[100];
    for (int i = 0; i < 100; i++)
        items[i] = (unsigned char)i;
    churning = true;
    for (int i = 0; i < THREADS; i++)
        EXPECT_OK(pthread_create(&threads[i], NULL, churn, NULL));
    for (int round = 0; round < ROUNDS; round++) {
        struct pool *pool = make_pool(2);
        EXPECT_OK(pool_map(pool, use_malloc, items, 1, results, 1, 100));
        EXPECT(!memcmp(items, results, 100));
        pool_destroy(pool);
    }
    churning = false;
    for (int i = 0; i < THREADS; i++)
        EXPECT_OK(pthread_join(threads[i], NULL));
}

/* ---- exit handlers and buffered output ---- */

static void print_at_exit(void)
{
    printf("[exit handler of %d]", (int)getpid());
}

static int map_nothing(const void *item, void *result, void *state)
{
    (void)item, (void)result, (void)state;
    return 0;
}

static int exit_by_function(const void *item, void *result, void *state)
{
    (void)item, (void)result, (void)state;
    exit(3);
}

/* A host that ends by exit(), with a handler and with text in its buffers while workers come and go. */
static int print_and_exit(void *unused)
{
    char items[20] = {0};
    setvbuf(stdout, NULL, _IOFBF, 65536);
    printf("[text of the host]");
    fprintf(stderr, "[error of the host]");
    atexit(print_at_exit);
    struct pool_options options = method_options(3);
    options.max_tasks_per_worker = 2;
    struct pool *pool = make_pool_with(&options);
    EXPECT_OK(pool_map(pool, map_nothing, items, 1, NULL, 0, 20));
    pool_destroy(pool);
    (void)unused;
    exit(0);
}

static void host_output_and_exit_handlers_do_not_happen_in_workers(void)
{
    char output[4096];
    in_another_process(print_and_exit, NULL);
    read_output(output, sizeof output);
    EXPECT_INT(count_text(output, "[text of the host]"), 1);
    EXPECT_INT(count_text(output, "[error of the host]"), 1);
    EXPECT_INT(count_text(output, "[exit handler of"), 1);
}

static int exit_in_worker(void *unused)
{
    char item = 0;
    setvbuf(stdout, NULL, _IOFBF, 65536);
    printf("[text of the host]");
    struct pool *pool = make_pool(1);
    EXPECT_INT(pool_map(pool, exit_by_function, &item, 1, NULL, 0, 1), POOL_ECRASH);
    EXPECT_OK(pool_map(pool, map_nothing, &item, 1, NULL, 0, 1));
    pool_destroy(pool);
    fflush(stdout);
    (void)unused;
    return 0;
}

static void text_of_the_host_is_not_printed_again_by_a_worker_that_exits(void)
{
    char output[4096];
    in_another_process(exit_in_worker, NULL);
    read_output(output, sizeof output);
    EXPECT_INT(count_text(output, "[text of the host]"), 1);
}

static int print_in_worker(const void *item, void *result, void *state)
{
    (void)result, (void)state;
    if (*(const char *)item == 'o')
        printf("[out]");
    else
        fprintf(stdout, "[%c]", *(const char *)item);
    fputs("[err]", stderr);
    return 0;
}

static void what_workers_print_appears_once_at_their_end(void)
{
    char output[8192];
    struct pool_options options = method_options(2);
    options.max_tasks_per_worker = 3; /* workers end by recycling, and by destroy */
    struct pool *pool = make_pool_with(&options);
    EXPECT_OK(pool_map(pool, print_in_worker, "ooooooooooooooooooooooooooooooxy", 1, NULL, 0, 32));
    pool_destroy(pool);
    read_output(output, sizeof output);
    EXPECT_INT(count_text(output, "[out]"), 30);
    EXPECT_INT(count_text(output, "[x]"), 1);
    EXPECT_INT(count_text(output, "[y]"), 1);
    EXPECT_INT(count_text(output, "[err]"), 32);
}

/* ---- workers of workers, and processes of tasks ---- */

/* A pool inside a worker, with the start method that the environment names. */
static int map_in_a_pool_of_ones_own(const void *item, void *result, void *state)
{
    (void)state;
    struct pool *pool = NULL;
    struct pool_options options = POOL_OPTIONS_INIT;
    pid_t pids[40];
    int given = *(const int *)item;
    options.workers = 2;
    if (pool_create(&options, &pool))
        return 1;
    char items[40] = {0};
    memset(pids, 0, sizeof pids);
    int rc = pool_map(pool, tell_global, items, 1, pids, sizeof *pids, 40);
    *(int *)result = given + pids[39]; /* the global is 1 everywhere here */
    pool_destroy(pool);
    if (rc)
        return 2;
    return waitpid(-1, NULL, WNOHANG) == -1 ? 0 : 3;
}

static void workers_may_have_pools_of_their_own(void)
{
    int items[6] = {10, 20, 30, 40, 50, 60}, results[6] = {0};
    struct pool *pool = make_pool(2);
    EXPECT_OK(pool_map(pool, map_in_a_pool_of_ones_own, items, sizeof *items, results, sizeof *results, 6));
    for (int i = 0; i < 6; i++)
        EXPECT_INT(results[i], items[i] + 1);
    pool_destroy(pool);
}

static int tell_parent(struct pool_call *call);

/* All of it that the header says a pool in place has not. */
static int use_the_default_pool(struct pool_call *call)
{
    struct pool_stats stats = POOL_STATS_INIT;
    struct pool *pool = pool_default();
    struct pool_task *task, *next;
    bool has_not = pool_fd(pool) == -EINVAL && pool_broadcast(pool, tell_parent, NULL, 0) == -EINVAL;
    has_not = has_not && !pool_shutdown(pool, POOL_KILL, 0) && !pool_destroy(pool);
    if (!has_not || pool_submit(pool, tell_parent, NULL, 0, NULL, &task) || pool_cancel(task) != POOL_ENDED)
        return call != NULL;
    bool has = pool_process(pool) == 1 && !pool_next(pool, 0, &next) && next == task;
    pool_task_free(task);
    return !has || pool_stats(pool, &stats) || stats.submitted || stats.workers;
}

static void default_pool_in_a_worker_has_no_fd_no_numbers_and_no_end(void)
{
    char text[ANSWER_BYTES];
    struct pool *pool = make_pool(1);
    EXPECT_OK(ask(pool, use_the_default_pool, "", text));
    pool_destroy(pool);
}

struct in_place {
    int worker, same_process;
    uint64_t outer_index, inner_indices;
};

static int tell_index_and_pid(const void *item, void *result, void *state)
{
    (void)item;
    ((uint64_t *)result)[0] = pool_item_index();
    ((uint64_t *)result)[1] = (uint64_t)getpid();
    return state ? 1 : 0;
}

static int map_on_the_default_pool(const void *item, void *result, void *state)
{
    (void)item, (void)state;
    struct in_place *seen = result;
    uint64_t inner[5][2];
    char items[5] = {0};
    int status[5], calls = 0;
    struct pool_map_options map = POOL_MAP_OPTIONS_INIT;
    map.status_out = status;
    if (!pool_default() || pool_map_with(NULL, tell_index_and_pid, items, 1, inner, sizeof *inner, 5, &map))
        return 1;
    for (unsigned i = 0; i < 5; i++)
        calls += inner[i][0] == i && inner[i][1] == (uint64_t)getpid() && !status[i];
    seen->worker = (int)pool_worker_id();
    seen->same_process = calls;
    seen->outer_index = pool_item_index();
    return 0;
}

static void default_pool_in_a_worker_runs_in_place(void)
{
    struct in_place results[4];
    char items[4] = {0};
    struct pool *pool = make_pool(1);
    EXPECT_OK(pool_map(pool, map_on_the_default_pool, items, 1, results, sizeof *results, 4));
    for (unsigned i = 0; i < 4; i++) {
        EXPECT_INT(results[i].worker, 0);
        EXPECT_INT(results[i].same_process, 5);
        EXPECT_INT(results[i].outer_index, i);
    }
    pool_destroy(pool);
}

static int fork_and_return_twice(const void *item, void *result, void *state)
{
    struct board *board = state;
    mark_item(board);
    pid_t pid = fork();
    if (pid < 0)
        return 1;
    *(int *)result = *(const int *)item * (pid ? 1 : -1); /* the child's answer would be another */
    if (pid && waitpid(pid, NULL, 0) != pid)
        return 2;
    return 0;
}

static void task_that_forks_and_returns_in_the_child_answers_once(void)
{
    enum { COUNT = 60 };
    make_board();
    int items[COUNT], results[COUNT];
    struct pool_options options = board_options(2);
    struct pool *pool = make_pool_with(&options);
    for (int i = 0; i < COUNT; i++)
        items[i] = i + 1;
    EXPECT_OK(pool_map(pool, fork_and_return_twice, items, sizeof *items, results, sizeof *results, COUNT));
    EXPECT(!memcmp(items, results, sizeof items));
    pool_destroy(pool);
}

/* In a copy of a worker: files that take the numbers that were the worker's are its own, and its copies have them. */
static _Noreturn void fork_with_files(void)
{
    int fds[8], status;
    bool lacks_one = false;
    for (int i = 0; i < 8; i++)
        fds[i] = open("/dev/null", O_RDONLY);
    pid_t pid = fork();
    for (int i = 0; i < 8; i++)
        lacks_one |= fcntl(fds[i], F_GETFD) < 0;
    _exit(lacks_one || pid < 0 || (pid && (waitpid(pid, &status, 0) != pid || status)));
}

static int fork_twice(struct pool_call *call)
{
    int status;
    pid_t pid = fork();
    if (!pid)
        fork_with_files();
    if (pid < 0 || waitpid(pid, &status, 0) != pid || status)
        return __LINE__;
    return answer(call, "all there");
}

static void copy_of_a_worker_keeps_its_own_files(void)
{
    char text[ANSWER_BYTES];
    struct pool *pool = make_pool(1);
    EXPECT_OK(ask(pool, fork_twice, "", text));
    pool_destroy(pool);
}

static int tell_parent(struct pool_call *call)
{
    char text[64];
    snprintf(text, sizeof text, "%d", (int)getppid());
    return answer(call, text);
}

/* The host must not be able to mistake its workers for children of its own program, nor the other way round. */
static void child_of_the_host_keeps_its_exit_status(void)
{
    char text[ANSWER_BYTES];
    struct pool *pool = make_pool(2);
    pid_t pid = fork();
    if (!pid)
        _exit(17);
    EXPECT_OK(ask(pool, tell_parent, "", text));
    pool_destroy(pool);
    int status;
    EXPECT_INT(waitpid(pid, &status, 0), pid);
    EXPECT(WIFEXITED(status) && WEXITSTATUS(status) == 17);
}

/* ---- the cost of a copy ---- */

static long faults_of_starting(unsigned workers)
{
    struct rusage before, after;
    struct pool_options options = method_options(workers);
    struct pool *pool;
    EXPECT_OK(getrusage(RUSAGE_SELF, &before));
    EXPECT_OK(pool_create(&options, &pool));
    EXPECT_OK(getrusage(RUSAGE_SELF, &after));
    EXPECT_OK(pool_shutdown(pool, POOL_KILL, POOL_FOREVER));
    EXPECT_OK(pool_destroy(pool));
    return after.ru_minflt - before.ru_minflt;
}

/* A page that the host writes to between two forks is copied for each: it is to be the stack's, the one with the
 * pool's lock and few others. What else happens meanwhile can only add to it. */
static void starting_a_copy_touches_few_pages(void)
{
    enum { FEW = 16, MANY = 64, PAGES = 7, ATTEMPTS = 5 };
    long least = LONG_MAX;
    if (is_sanitized())
        skip_case("a sanitizer writes to memory of its own");
    for (int i = 0; i < ATTEMPTS; i++) {
        long few = faults_of_starting(FEW), more = faults_of_starting(MANY) - few;
        least = more < least ? more : least;
    }
    EXPECT(least <= PAGES * (MANY - FEW));
}

const struct conformance_case image_cases[] = {
    CASE_IF(COPIES_PARENT, globals_are_inherited_as_they_were_when_the_worker_started),
    CASE_IF(STARTS_AFRESH, globals_start_from_scratch),
    CASE(what_a_worker_writes_stays_in_it),
    CASE(constructors_run_again_once_in_a_fresh_image),
    CASE_IF(STARTS_AFRESH, workers_do_not_carry_the_memory_of_the_host),
    CASE_IF(STARTS_AFRESH, workers_start_while_eight_threads_are_busy_in_malloc),
    CASE_THAT(PRINTS, host_output_and_exit_handlers_do_not_happen_in_workers),
    CASE_THAT(PRINTS, text_of_the_host_is_not_printed_again_by_a_worker_that_exits),
    CASE_THAT(PRINTS, what_workers_print_appears_once_at_their_end),
    CASE(workers_may_have_pools_of_their_own),
    CASE(default_pool_in_a_worker_runs_in_place),
    CASE(default_pool_in_a_worker_has_no_fd_no_numbers_and_no_end),
    CASE(task_that_forks_and_returns_in_the_child_answers_once),
    CASE(copy_of_a_worker_keeps_its_own_files),
    CASE(child_of_the_host_keeps_its_exit_status),
    CASE_IF(COPIES_PARENT, starting_a_copy_touches_few_pages),
    {0},
};

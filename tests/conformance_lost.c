/* conformance_lost: the host closes fds that it has not opened, and those of its pools among them: all at once, as many
 * a daemon begins, or some. Their numbers are then the host's to use. */
#include "conformance.h"
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { FIRST_FD = 3, LAST_FD = 1023, ITEMS = 40, UNDER_WAY = 1 };

/* ---- what workers do ---- */

static int mark_and_add_one(const void *item, void *result, void *state)
{
    mark_item(state);
    *(uint64_t *)result = *(const uint64_t *)item + 1;
    return 0;
}

static int run_for_ever(struct pool_call *call)
{
    struct board *board = pool_call_state(call);
    mark_item(board);
    board->counters[UNDER_WAY]++;
    while (board->counters[UNDER_WAY])
        pause();
    return 0;
}

/* ---- the host ---- */

static struct board *board;

static bool was_open[LAST_FD + 1];

static struct pool *make_board_pool(bool with_thread)
{
    struct pool_options options = board_options(2);
    options.progress_thread = with_thread;
    for (int fd = FIRST_FD; fd <= LAST_FD; fd++)
        was_open[fd] = fcntl(fd, F_GETFD) >= 0;
    return make_pool_with(&options);
}

static bool is_of_pool(int fd)
{
    return !was_open[fd] && fcntl(fd, F_GETFD) >= 0;
}

/* Below libc: ThreadSanitizer knows that the pool's thread uses them, and rightly calls it a race. */
static void close_all(void)
{
    for (int fd = FIRST_FD; fd <= LAST_FD; fd++)
        if (is_of_pool(fd))
            syscall(SYS_close, fd);
}

/* What stands where fds of the pool were: all of them one file of the host's, which nobody else may touch. */
static struct {
    int fd;
    bool taken[LAST_FD + 1];
} own;

static void take_numbers(void)
{
    char path[CASE_PATH_BYTES];
    bool was_pool[LAST_FD + 1] = {false};
    for (int fd = FIRST_FD; fd <= LAST_FD; fd++)
        was_pool[fd] = is_of_pool(fd);
    close_all();
    own.fd = open(case_path("own", path), O_RDWR | O_CREAT, 0600);
    EXPECT_INT(write(own.fd, "mine", 4), 4);
    for (int fd = FIRST_FD; fd <= LAST_FD; fd++)
        if (was_pool[fd] && (own.taken[fd] = true))
            EXPECT_INT(fd == own.fd ? fd : dup2(own.fd, fd), fd);
    for (uint64_t since_ms = now_ms();
         now_ms() < since_ms + 3;) /* who has looked at them just now does not look again */
        continue;
}

static void expect_untouched(void)
{
    struct stat status;
    for (int fd = FIRST_FD; fd <= LAST_FD; fd++)
        if (own.taken[fd])
            EXPECT(fcntl(fd, F_GETFD) >= 0);
    EXPECT_OK(fstat(own.fd, &status));
    EXPECT_INT(status.st_size, 4);
    EXPECT_INT(lseek(own.fd, 0, SEEK_CUR), 4);
}

static int map_some(struct pool *pool)
{
    uint64_t items[ITEMS] = {0}, results[ITEMS];
    int rc = pool_map(pool, mark_and_add_one, items, sizeof *items, results, sizeof *results, ITEMS);
    for (int i = 0; !rc && i < ITEMS; i++)
        EXPECT(results[i] == 1);
    return rc;
}

static struct pool_task *submit(struct pool *pool, pool_task_fn *fn)
{
    struct pool_task *task = NULL;
    EXPECT_OK(pool_submit(pool, fn, "", 0, NULL, &task));
    return task;
}

static void expect_broken(int rc)
{
    EXPECT_INT(rc, POOL_EBROKEN);
    EXPECT_TEXT(pool_message(), "file descriptors were closed by the program");
}

static void expect_ended_with(struct pool_task *task, int status)
{
    struct pool_result result;
    EXPECT_OK(pool_wait(task, POOL_FOREVER));
    EXPECT_OK(pool_task_result(task, &result));
    EXPECT_INT(result.status, status);
    if (status == POOL_EBROKEN)
        EXPECT_TEXT(result.message, "file descriptors were closed by the program");
    pool_task_free(task);
}

static void expect_no_workers(void)
{
    for (int i = 0; i < BOARD_ITEMS && board->pids[i]; i++)
        EXPECT(has_vanished(board->pids[i]));
}

/* ---- what is called after that ---- */

static void map(struct pool *pool)
{
    expect_broken(map_some(pool));
    expect_broken(map_some(pool));
}

static void submit_and_wait(struct pool *pool)
{
    struct pool_task *task;
    expect_ended_with(submit(pool, do_nothing), POOL_EBROKEN);
    expect_broken(pool_submit(pool, do_nothing, "", 0, NULL, &task));
    EXPECT_INT(pool_next(pool, POOL_FOREVER, &task), POOL_EMPTY);
}

static void broadcast(struct pool *pool)
{
    expect_broken(pool_broadcast(pool, do_nothing, "", 0));
}

static void shut_down(struct pool *pool)
{
    EXPECT_OK(pool_shutdown(pool, POOL_DRAIN, POOL_FOREVER));
}

static void fork_a_child(struct pool *pool)
{
    pid_t pid = fork();
    if (!pid) {
        expect_untouched();
        EXPECT_INT(pool_destroy(pool), 0);
        expect_untouched();
        _exit(0);
    }
    EXPECT_INT(end_of_process(pid), 0);
}

static void nothing(struct pool *pool)
{
    (void)pool;
}

static void (*const calls[])(struct pool *) = {map, submit_and_wait, broadcast, shut_down, fork_a_child, nothing};
enum { CALLS = sizeof calls / sizeof *calls };

/* ---- cases ---- */

static int lose_all_while_idle(void *call)
{
    board = make_board();
    struct pool *pool = make_board_pool(false);
    EXPECT_OK(map_some(pool));
    take_numbers();
    calls[*(int *)call](pool);
    EXPECT_OK(pool_destroy(pool));
    expect_untouched();
    expect_no_workers();
    EXPECT_INT(child_count(), 0);
    return 0;
}

static void idle_pool_whose_fds_were_closed_is_broken_and_touches_nothing(void)
{
    for (int i = 0; i < CALLS; i++)
        in_another_process(lose_all_while_idle, &i);
}

static int lose_all_with_tasks_under_way(void *unused)
{
    enum { TASKS = 5 };
    struct pool_task *tasks[TASKS];
    (void)unused;
    board = make_board();
    struct pool *pool = make_board_pool(false);
    for (int i = 0; i < TASKS; i++)
        tasks[i] = submit(pool, run_for_ever);
    for (uint64_t since_ms = now_ms(); board->counters[UNDER_WAY] < 2 && have_patience(since_ms);)
        EXPECT_INT(pool_wait(tasks[0], 0), POOL_PENDING);
    take_numbers();
    for (int i = 0; i < TASKS; i++)
        expect_ended_with(tasks[i], POOL_EBROKEN);
    EXPECT_OK(pool_destroy(pool));
    expect_untouched();
    expect_no_workers();
    EXPECT_INT(child_count(), 0);
    return 0;
}

static void what_is_under_way_or_waits_ends_when_the_fds_were_closed(void)
{
    in_another_process(lose_all_with_tasks_under_way, NULL);
}

static int lose_all_from_beside_the_thread(void *unused)
{
    (void)unused;
    board = make_board();
    struct pool *pool = make_board_pool(true);
    struct pool_task *task = submit(pool, run_for_ever);
    EXPECT(await_counter(board, UNDER_WAY, 1));
    close_all(); /* the thread may see that a worker has died of it */
    EXPECT_OK(pool_wait(task, POOL_FOREVER));
    EXPECT_OK(pool_destroy(pool));
    pool_task_free(task);
    expect_no_workers();
    return 0;
}

static void thread_of_a_pool_whose_fds_were_closed_ends(void)
{
    in_another_process(lose_all_from_beside_the_thread, NULL);
}

/* What the pool waits by. */
static bool is_waited_by(int fd)
{
    char path[32], target[64] = "";
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    return readlink(path, target, sizeof target - 1) > 0 &&
           (!strncmp(target, "anon_inode:[event", 17) || !strncmp(target, "anon_inode:[timerfd", 19));
}

static int lose_what_workers_are_heard_by(void *unused)
{
    (void)unused;
    board = make_board();
    struct pool *pool = make_board_pool(true);
    struct pool_task *task = submit(pool, run_for_ever);
    EXPECT(await_counter(board, UNDER_WAY, 1));
    for (int fd = FIRST_FD; fd <= LAST_FD; fd++)
        if (is_of_pool(fd) && !is_waited_by(fd))
            syscall(SYS_close, fd);
    EXPECT_OK(pool_wait(task, POOL_FOREVER));
    EXPECT_OK(pool_destroy(pool));
    pool_task_free(task);
    expect_no_workers();
    return 0;
}

static void thread_notices_that_workers_cannot_be_heard(void)
{
    in_another_process(lose_what_workers_are_heard_by, NULL);
}

static int lose_all_under_an_event_loop(void *unused)
{
    (void)unused;
    board = make_board();
    struct pool *pool = make_board_pool(false);
    EXPECT(pool_fd(pool) >= 0);
    struct pool_task *task = submit(pool, do_nothing), *next;
    take_numbers();
    while (pool_process(pool) < 1)
        continue;
    EXPECT_OK(pool_next(pool, 0, &next));
    EXPECT(next == task);
    expect_ended_with(task, POOL_EBROKEN);
    expect_broken(pool_fd(pool));
    EXPECT_OK(pool_destroy(pool));
    expect_untouched();
    return 0;
}

static void event_loop_hears_that_the_fds_were_closed(void)
{
    in_another_process(lose_all_under_an_event_loop, NULL);
}

static int lose_all_with_a_buffer(void *unused)
{
    (void)unused;
    board = make_board();
    struct pool *pool = make_board_pool(false);
    char *buffer = pool_buffer_alloc(pool, 1 << 16);
    struct pool_task *task;
    EXPECT(buffer);
    EXPECT_OK(map_some(pool));
    take_numbers();
    EXPECT_OK(pool_submit(pool, do_nothing, buffer, 1 << 16, NULL, &task));
    expect_ended_with(task, POOL_EBROKEN);
    buffer[0] = 1;
    pool_buffer_free(pool, buffer);
    EXPECT_OK(pool_destroy(pool));
    expect_untouched();
    return 0;
}

static void shared_buffers_outlive_their_fds(void)
{
    in_another_process(lose_all_with_a_buffer, NULL);
}

/* One that just starts cannot be told from others by what it has. */
static void await_workers(struct pool *pool)
{
    struct pool_stats stats = POOL_STATS_INIT;
    for (uint64_t since_ms = now_ms(); stats.workers < 2 && have_patience(since_ms);) {
        EXPECT_OK(pool_process(pool));
        EXPECT_OK(pool_stats(pool, &stats));
    }
    EXPECT_INT(stats.workers, 2);
}

/* Whichever it is, nothing hangs, and all workers are gone in the end. That the number was taken again, by the pool
 * itself, may go unnoticed. */
static int lose_one(void *which)
{
    int fd = FIRST_FD, left = *(int *)which;
    struct pool_task_options options = POOL_TASK_OPTIONS_INIT;
    struct pool_task *task;
    board = make_board();
    struct pool *pool = make_board_pool(false);
    EXPECT_OK(map_some(pool));
    await_workers(pool);
    for (; fd <= LAST_FD; fd++)
        if (is_of_pool(fd) && !left--)
            break;
    if (fd > LAST_FD)
        _exit(1); /* there are no more */
    close(fd);
    options.timeout_ms = 50;
    if (!pool_submit(pool, run_for_ever, "", 0, &options, &task)) {
        EXPECT_OK(pool_wait(task, POOL_FOREVER));
        pool_task_free(task);
    }
    int rc = map_some(pool);
    EXPECT(rc == 0 || rc == POOL_EBROKEN || rc == POOL_ECRASH || rc == POOL_EPROTO);
    EXPECT_OK(pool_destroy(pool));
    expect_no_workers();
    return 0;
}

static void pool_ends_whichever_of_its_fds_was_closed(void)
{
    int status = 0, i = 0;
    for (; !status; i++)
        status = end_of_process(start_process(lose_one, &i));
    EXPECT(WIFEXITED(status) && WEXITSTATUS(status) == 1);
    EXPECT(i > 8);
}

const struct conformance_case lost_cases[] = {
    CASE(idle_pool_whose_fds_were_closed_is_broken_and_touches_nothing),
    CASE(what_is_under_way_or_waits_ends_when_the_fds_were_closed),
    CASE(thread_of_a_pool_whose_fds_were_closed_ends),
    CASE(thread_notices_that_workers_cannot_be_heard),
    CASE(event_loop_hears_that_the_fds_were_closed),
    CASE(shared_buffers_outlive_their_fds),
    CASE(pool_ends_whichever_of_its_fds_was_closed),
    {0},
};

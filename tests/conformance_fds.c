/* conformance_fds: file descriptors that go with a task: the worker has them while it runs, and nobody keeps them
 * afterwards.
 *
 * Most cases look at a pipe from its other end: what was written to it has been there, and its end says that
 * nobody holds the writing end any more. */
#include "conformance.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* Counters of the board. */
enum { GATE = 1, UNDER_WAY };

/* ---- what workers do ---- */

static bool writes(int fd, const void *bytes, size_t size)
{
    return write(fd, bytes, size) == (ssize_t)size;
}

static int write_input(struct pool_call *call)
{
    size_t size;
    const void *input = pool_call_input(call, &size);
    return writes(pool_call_fd(call, 0), input, size) ? 0 : errno;
}

/* To each one its number, from 1. */
static int write_numbers(struct pool_call *call)
{
    unsigned char count = *(const unsigned char *)pool_call_input(call, &(size_t){0});
    for (unsigned char i = 1; i <= count; i++)
        if (!writes(pool_call_fd(call, i - 1u), &i, 1))
            return i;
    return pool_call_fd(call, count) == -1 && pool_call_fd(call, (unsigned)-1) == -1 ? 0 : 999;
}

static int talk_back(struct pool_call *call)
{
    char text[16];
    int fd = pool_call_fd(call, 0);
    return read(fd, text, 4) == 4 && !memcmp(text, "ping", 4) && writes(fd, "pong", 4) ? 0 : 1;
}

static int read_first_and_write_second(struct pool_call *call)
{
    char text[64];
    ssize_t size = read(pool_call_fd(call, 0), text, sizeof text);
    return size > 0 && writes(pool_call_fd(call, 1), text, (size_t)size) ? 0 : 1;
}

static int check_large_input_and_write(struct pool_call *call)
{
    size_t size;
    const unsigned char *input = pool_call_input(call, &size);
    for (size_t i = 0; i < size; i++)
        if (input[i] != (unsigned char)(i >> 4))
            return 1;
    return writes(pool_call_fd(call, 0), input, 16) ? 0 : 2;
}

static int write_and_wait_at_gate(struct pool_call *call)
{
    struct board *board = pool_call_state(call);
    if (pool_call_fd(call, 0) >= 0 && !writes(pool_call_fd(call, 0), "w", 1))
        return 1;
    board->counters[UNDER_WAY]++;
    return !await_counter(board, GATE, 1);
}

static int write_and_die(struct pool_call *call)
{
    if (writes(pool_call_fd(call, 0), "w", 1))
        raise(SIGKILL);
    return 1;
}

static int write_and_die_at_first(struct pool_call *call)
{
    struct board *board = pool_call_state(call);
    uint64_t index = mark_item(board);
    if (!writes(pool_call_fd(call, 0), "w", 1))
        return 1;
    if (board->runs[index] == 1)
        raise(SIGKILL);
    return 0;
}

static unsigned count_fds(void)
{
    unsigned count = 0;
    DIR *folder = opendir("/proc/self/fd");
    while (folder && readdir(folder))
        count++;
    if (folder)
        closedir(folder);
    return count;
}

/* How many fds this process has; -1: one that came with the task would survive an exec. */
static int tell_fd_count(struct pool_call *call)
{
    int *reply = pool_call_reply(call, sizeof *reply), fd;
    *reply = (int)count_fds();
    for (unsigned i = 0; (fd = pool_call_fd(call, i)) >= 0; i++)
        if (!(fcntl(fd, F_GETFD) & FD_CLOEXEC))
            *reply = -1;
    return 0;
}

static int kept_fd = -1;

static int keep_fd(struct pool_call *call)
{
    kept_fd = dup(pool_call_fd(call, 0));
    return kept_fd < 0;
}

static int write_to_kept_fd(struct pool_call *call)
{
    (void)call;
    bool written = writes(kept_fd, "k", 1);
    close(kept_fd);
    return !written;
}

static int has_no_fd(struct pool_call *call)
{
    return pool_call_fd(call, 0) == -1 ? 0 : 1;
}

/* ---- what the host does ---- */

struct ends {
    int reader, writer;
};

static struct ends make_pipe(void)
{
    int fds[2];
    EXPECT_OK(pipe2(fds, O_CLOEXEC));
    return (struct ends){fds[0], fds[1]};
}

/* What comes out of the pipe until everybody has closed it. */
static void expect_from(int fd, const char *expected)
{
    char text[4096];
    size_t end = 0;
    ssize_t got = 1;
    while (got > 0) {
        EXPECT_INT(poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, PATIENCE_MS), 1);
        got = read(fd, text + end, sizeof text - 1 - end);
        EXPECT(got >= 0);
        end += (size_t)got;
    }
    text[end] = '\0';
    close(fd);
    if (strcmp(text, expected))
        expectation_failed(__FILE__, __LINE__, "\"%s\" came, not \"%s\"", text, expected);
}

static bool has_ended(int fd)
{
    struct pollfd polled = {.fd = fd, .events = POLLIN};
    return poll(&polled, 1, 0) == 1 && polled.revents == POLLHUP;
}

static struct pool_task_options with_fds(const int *fds, unsigned count)
{
    struct pool_task_options options = POOL_TASK_OPTIONS_INIT;
    options.fds = fds;
    options.fd_count = count;
    return options;
}

static struct pool_task *submit(struct pool *pool, pool_task_fn *fn, const void *input, size_t size, const int *fds,
                                unsigned count)
{
    struct pool_task_options options = with_fds(fds, count);
    struct pool_task *task = NULL;
    EXPECT_OK(pool_submit(pool, fn, input, size, &options, &task));
    return task;
}

/* The caller keeps none of them. */
static struct pool_task *submit_writer(struct pool *pool, pool_task_fn *fn, struct ends ends)
{
    struct pool_task *task = submit(pool, fn, NULL, 0, &ends.writer, 1);
    close(ends.writer);
    return task;
}

static void expect_end(struct pool_task *task, int status)
{
    struct pool_result result;
    EXPECT_OK(pool_wait(task, PATIENCE_MS));
    EXPECT_OK(pool_task_result(task, &result));
    if (result.status != status)
        expectation_failed(__FILE__, __LINE__, "it ended with %d (%s): %s", result.status, pool_strerror(result.status),
                           result.message);
    pool_task_free(task);
}

/* ---- they arrive, and go ---- */

static void pipe_ends_when_the_task_has_ended(void)
{
    struct pool *pool = make_pool(2);
    for (int i = 0; i < 50; i++) {
        struct ends ends = make_pipe();
        struct pool_task *task = submit(pool, write_input, "hello", 5, &ends.writer, 1);
        close(ends.writer); /* at once: the pool has its own */
        expect_end(task, 0);
        expect_from(ends.reader, "hello");
    }
    EXPECT_OK(pool_destroy(pool));
}

/* More than there is room for at a time, all queued at once. */
static void queued_tasks_have_their_own_each(void)
{
    enum { COUNT = 150 };
    struct pool *pool = make_pool(2);
    struct pool_task *tasks[COUNT];
    struct ends ends[COUNT];
    char text[32];
    for (int i = 0; i < COUNT; i++) {
        ends[i] = make_pipe();
        int size = snprintf(text, sizeof text, "number %d", i);
        bool goes_without = i % 3 == 0;
        if (goes_without)
            EXPECT_INT(write(ends[i].writer, text, (size_t)size), size);
        tasks[i] = submit(pool, goes_without ? has_no_fd : write_input, text, (size_t)size, &ends[i].writer,
                          goes_without ? 0 : 1);
        close(ends[i].writer);
    }
    for (int i = 0; i < COUNT; i++) {
        snprintf(text, sizeof text, "number %d", i);
        expect_end(tasks[i], 0);
        expect_from(ends[i].reader, text);
    }
    EXPECT_OK(pool_destroy(pool));
}

static void sockets_work_both_ways(void)
{
    int pair[2];
    char text[5] = "";
    struct pool *pool = make_pool(1);
    EXPECT_OK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair));
    struct pool_task *task = submit(pool, talk_back, NULL, 0, &pair[1], 1);
    close(pair[1]);
    EXPECT_INT(write(pair[0], "ping", 4), 4);
    EXPECT_INT(read(pair[0], text, 4), 4);
    EXPECT_TEXT(text, "pong");
    expect_end(task, 0);
    expect_from(pair[0], "");
    EXPECT_OK(pool_destroy(pool));
}

static void files_are_read_and_written_where_they_stand(void)
{
    char path[CASE_PATH_BYTES], text[64];
    struct pool *pool = make_pool(1);
    int file = open(case_path("file", path), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    EXPECT_INT(write(file, "skipped, read", 13), 13);
    EXPECT_INT(lseek(file, 9, SEEK_SET), 9);
    struct ends ends = make_pipe();
    struct pool_task *task = submit(pool, read_first_and_write_second, NULL, 0, (int[]){file, ends.writer}, 2);
    close(ends.writer);
    expect_end(task, 0);
    expect_from(ends.reader, "read");
    expect_end(submit(pool, write_input, ", more", 6, &file, 1), 0);
    close(file);
    EXPECT(read_file(path, text, sizeof text) > 0);
    EXPECT_TEXT(text, "skipped, read, more");
    EXPECT_OK(pool_destroy(pool));
}

static void sixty_four_may_go_with_a_task(void)
{
    struct pool *pool = make_pool(1);
    for (unsigned char count = 1; count <= POOL_TASK_FDS; count = (unsigned char)(count * 2)) {
        struct ends ends[POOL_TASK_FDS];
        int writers[POOL_TASK_FDS];
        for (int i = 0; i < count; i++) {
            ends[i] = make_pipe();
            writers[i] = ends[i].writer;
        }
        struct pool_task *task = submit(pool, write_numbers, &count, 1, writers, count);
        for (int i = 0; i < count; i++)
            close(writers[i]);
        expect_end(task, 0);
        for (int i = 0; i < count; i++)
            expect_from(ends[i].reader, (char[]){(char)(i + 1), '\0'});
    }
    EXPECT_OK(pool_destroy(pool));
}

static void same_one_may_go_more_than_once(void)
{
    unsigned char count = 3;
    struct ends ends = make_pipe();
    struct pool *pool = make_pool(1);
    int writers[] = {ends.writer, ends.writer, ends.writer};
    struct pool_task *task = submit(pool, write_numbers, &count, 1, writers, 3);
    close(ends.writer);
    expect_end(task, 0);
    expect_from(ends.reader, "\1\2\3");
    EXPECT_OK(pool_destroy(pool));
}

static void large_input_goes_with_them(void)
{
    enum { BYTES = 3 << 20 };
    struct ends ends[6];
    struct pool_task *tasks[6];
    struct pool *pool = make_pool(2);
    unsigned char *bytes = malloc(BYTES);
    for (size_t i = 0; i < BYTES; i++)
        bytes[i] = (unsigned char)(i >> 4);
    bytes[0] = 0;
    for (int i = 0; i < 6; i++) {
        ends[i] = make_pipe();
        tasks[i] = submit(pool, check_large_input_and_write, bytes, BYTES, &ends[i].writer, 1);
        close(ends[i].writer);
    }
    for (int i = 0; i < 6; i++) {
        char text[32] = "";
        expect_end(tasks[i], 0);
        EXPECT_INT(read(ends[i].reader, text, sizeof text), 16);
        expect_from(ends[i].reader, "");
    }
    free(bytes);
    EXPECT_OK(pool_destroy(pool));
}

static int fd_count_of_worker(struct pool *pool, const int *fds, unsigned count)
{
    struct pool_task *task = submit(pool, tell_fd_count, NULL, 0, fds, count);
    struct pool_result result;
    EXPECT_OK(pool_wait(task, PATIENCE_MS));
    EXPECT_OK(pool_task_result(task, &result));
    EXPECT_INT(result.data_size, sizeof(int));
    int told = *(const int *)result.data;
    pool_task_free(task);
    return told;
}

static void worker_closes_them_and_none_survives_an_exec(void)
{
    struct pool *pool = make_pool(1);
    struct ends ends = make_pipe();
    int fds[] = {ends.reader, ends.writer, ends.reader};
    int before = fd_count_of_worker(pool, NULL, 0);
    for (int i = 0; i < 3; i++) {
        EXPECT_INT(fd_count_of_worker(pool, fds, 3), before + 3);
        EXPECT_INT(fd_count_of_worker(pool, NULL, 0), before);
    }
    EXPECT_INT(fcntl(ends.reader, F_GETFD), FD_CLOEXEC); /* the caller's own stay as they were */
    close(ends.reader);
    close(ends.writer);
    EXPECT_OK(pool_destroy(pool));
}

static void task_may_keep_a_duplicate(void)
{
    struct pool *pool = make_pool(1);
    struct ends ends = make_pipe();
    expect_end(submit_writer(pool, keep_fd, ends), 0);
    EXPECT(!has_ended(ends.reader));
    expect_end(submit(pool, write_to_kept_fd, NULL, 0, NULL, 0), 0);
    expect_from(ends.reader, "k");
    EXPECT_OK(pool_destroy(pool));
}

static void tasks_and_items_without_have_none(void)
{
    struct pool *pool = make_pool(1);
    struct pool_bytes item = {NULL, 0};
    for (int i = 0; i < 3; i++) {
        struct ends ends = make_pipe();
        expect_end(submit_writer(pool, write_input, ends), 0);
        expect_from(ends.reader, "");
        EXPECT_OK(pool_map_bytes(pool, has_no_fd, &item, 1, NULL, NULL));
        expect_end(submit(pool, has_no_fd, NULL, 0, NULL, 0), 0);
    }
    EXPECT_OK(pool_destroy(pool));
}

/* ---- deaths ---- */

static void dead_worker_keeps_none(void)
{
    enum { COUNT = 12 };
    struct pool *pool = make_pool(2);
    struct pool_task *tasks[COUNT];
    struct ends ends[COUNT];
    for (int i = 0; i < COUNT; i++) {
        ends[i] = make_pipe();
        tasks[i] = submit_writer(pool, i % 3 ? write_input : write_and_die, ends[i]);
    }
    for (int i = 0; i < COUNT; i++) {
        char text[16] = "";
        expect_end(tasks[i], i % 3 ? 0 : POOL_ECRASH);
        if (i % 3 == 0)
            EXPECT(read(ends[i].reader, text, sizeof text) >= 1); /* once or twice */
        expect_from(ends[i].reader, "");
    }
    EXPECT_OK(pool_destroy(pool));
}

static void task_that_runs_again_has_them_again(void)
{
    enum { COUNT = 20 };
    make_board();
    struct pool_options options = board_options(1);
    options.max_attempts = 2;
    struct pool *pool = make_pool_with(&options);
    struct pool_task *tasks[COUNT];
    struct ends ends[COUNT];
    for (int i = 0; i < COUNT; i++) {
        ends[i] = make_pipe();
        tasks[i] = submit(pool, i % 5 == 2 ? write_and_die_at_first : write_input, "i", 1, &ends[i].writer, 1);
        close(ends[i].writer);
    }
    for (int i = 0; i < COUNT; i++) {
        char text[64] = "";
        expect_end(tasks[i], 0);
        ssize_t size = read(ends[i].reader, text, sizeof text);
        EXPECT(size >= (i % 5 == 2 ? 2 : 1));
        EXPECT_INT(text[0], i % 5 == 2 ? 'w' : 'i');
        expect_from(ends[i].reader, "");
    }
    EXPECT_OK(pool_destroy(pool));
}

static void worker_killed_from_outside_hands_them_on(void)
{
    struct board *board = make_board();
    struct pool_options options = board_options(1);
    options.max_attempts = 2;
    struct pool *pool = make_pool_with(&options);
    struct ends ends = make_pipe();
    char byte = 0;
    pid_t pid = worker_pid(pool);
    struct pool_task *task = submit_writer(pool, write_and_wait_at_gate, ends);
    EXPECT(await_counter(board, UNDER_WAY, 1));
    EXPECT_OK(kill(pid, SIGKILL));
    EXPECT(has_vanished(pid));
    EXPECT_INT(read(ends.reader, &byte, 1), 1);
    EXPECT(byte == 'w' && !has_ended(ends.reader)); /* the pool still has it */
    board->counters[GATE] = 1;
    expect_end(task, 0);
    expect_from(ends.reader, "w");
    EXPECT_OK(pool_destroy(pool));
}

/* ---- cancelled, and given up ---- */

static void cancelled_task_keeps_none(void)
{
    struct board *board = make_board();
    struct pool_options options = board_options(1);
    struct pool *pool = make_pool_with(&options);
    struct ends ends[3] = {make_pipe(), make_pipe(), make_pipe()};
    struct pool_task *running = submit_writer(pool, write_and_wait_at_gate, ends[0]);
    struct pool_task *queued = submit_writer(pool, write_input, ends[1]);
    struct pool_task *last = submit_writer(pool, write_and_wait_at_gate, ends[2]);
    EXPECT(await_counter(board, UNDER_WAY, 1));
    EXPECT_OK(pool_cancel(queued));
    expect_end(queued, POOL_ECANCELED);
    expect_from(ends[1].reader, "");
    EXPECT_OK(pool_cancel(running));
    expect_end(running, POOL_ECANCELED);
    expect_from(ends[0].reader, "w");
    board->counters[GATE] = 1;
    expect_end(last, 0);
    expect_from(ends[2].reader, "w");
    EXPECT_OK(pool_destroy(pool));
}

/* A worker that starts while a task with fds is queued does not inherit the pool's duplicates: it lives on, and the
 * pipe ends. */
static void worker_that_starts_meanwhile_keeps_none(void)
{
    struct board *board = make_board();
    struct pool_options options = board_options(1);
    struct pool *pool = make_pool_with(&options);
    struct ends ends = make_pipe();
    struct pool_task *held = submit(pool, write_and_wait_at_gate, NULL, 0, NULL, 0);
    struct pool_task *queued = submit_writer(pool, write_input, ends);
    EXPECT(await_counter(board, UNDER_WAY, 1));
    EXPECT_OK(pool_cancel(held));
    expect_end(held, POOL_ECANCELED);
    expect_end(queued, 0);
    expect_from(ends.reader, "");
    EXPECT_OK(pool_destroy(pool));
}

struct submitter {
    struct pool *pool;
    int fd;
    _Atomic pid_t tid;
};

static void *submit_in_thread(void *argument)
{
    struct submitter *submitter = argument;
    submitter->tid = (pid_t)syscall(SYS_gettid);
    return submit(submitter->pool, write_and_wait_at_gate, "later", 5, &submitter->fd, 1);
}

static int tell_open_fds(void *unused)
{
    (void)unused;
    return (int)open_fd_count();
}

static int open_fds_of_a_copy(void)
{
    return WEXITSTATUS(end_of_process(start_process(tell_open_fds, NULL)));
}

/* A process that the host forks meanwhile would keep what it does not know of. */
static void task_that_waits_for_room_has_none_yet(void)
{
    struct board *board = make_board();
    struct pool_options options = board_options(1);
    options.max_bytes_in_flight = 1;
    struct ends ends = make_pipe();
    struct submitter submitter = {.pool = make_pool_with(&options), .fd = ends.writer};
    struct pool_task *first = submit(submitter.pool, write_and_wait_at_gate, "first", 5, NULL, 0);
    EXPECT(await_counter(board, UNDER_WAY, 1));
    int before = open_fds_of_a_copy();
    pthread_t thread;
    EXPECT_OK(pthread_create(&thread, NULL, submit_in_thread, &submitter));
    for (uint64_t since_ms = now_ms(); !submitter.tid || state_of(submitter.tid) != 'S';)
        EXPECT(have_patience(since_ms));
    EXPECT_INT(open_fds_of_a_copy(), before);
    board->counters[GATE] = 1;
    void *second;
    EXPECT_OK(pthread_join(thread, &second));
    close(ends.writer);
    expect_end(second, 0);
    expect_end(first, 0);
    expect_from(ends.reader, "w");
    EXPECT_OK(pool_destroy(submitter.pool));
}

static void task_that_was_freed_has_them_all_the_same(void)
{
    struct ends ends = make_pipe();
    struct pool *pool = make_pool(1);
    pool_task_free(submit(pool, write_input, "freed", 5, &ends.writer, 1));
    close(ends.writer);
    EXPECT_OK(pool_destroy(pool));
    expect_from(ends.reader, "freed");
}

/* ---- what is refused ---- */

static void expect_refusal(struct pool *pool, const int *fds, unsigned count, int error)
{
    struct pool_task_options options = with_fds(fds, count);
    struct pool_task *task = (struct pool_task *)&task, *none;
    unsigned fd_count = open_fd_count();
    EXPECT_INT(pool_submit(pool, has_no_fd, NULL, 0, &options, &task), error);
    EXPECT(task == (struct pool_task *)&task);
    EXPECT(*pool_message());
    EXPECT_INT(open_fd_count(), fd_count);
    EXPECT_INT(pool_next(pool, POOL_FOREVER, &none), POOL_EMPTY);
}

static void bad_ones_are_refused_and_nothing_leaks(void)
{
    int fds[POOL_TASK_FDS + 1] = {0};
    struct pool *pool = make_pool(1);
    struct ends ends = make_pipe();
    close(ends.writer);
    expect_refusal(pool, (int[]){-1}, 1, -EBADF);
    expect_refusal(pool, (int[]){ends.reader, ends.reader, ends.writer, ends.reader}, 4, -EBADF);
    expect_refusal(pool, (int[]){ends.reader, 1 << 20}, 2, -EBADF);
    expect_refusal(pool, fds, POOL_TASK_FDS + 1, -EINVAL);
    expect_refusal(pool, fds, UINT32_MAX, -EINVAL);
    expect_refusal(pool, NULL, 1, -EINVAL);
    expect_end(submit(pool, has_no_fd, NULL, 0, fds, 0), 0);
    close(ends.reader);
    EXPECT_OK(pool_destroy(pool));
}

static int live_with_few_fds(void *unused)
{
    int fds[40];
    struct pool *pool = make_pool(1);
    struct ends ends = make_pipe();
    struct rlimit limit = {(rlim_t)open_fd_count() + 20, 1000};
    for (int i = 0; i < 40; i++)
        fds[i] = ends.writer;
    EXPECT_OK(setrlimit(RLIMIT_NOFILE, &limit));
    expect_refusal(pool, fds, 40, -EMFILE);
    expect_end(submit(pool, write_input, "few", 3, fds, 5), 0);
    close(ends.writer);
    expect_from(ends.reader, "few");
    EXPECT_OK(pool_destroy(pool));
    return unused != NULL;
}

static void more_than_the_limit_allows_are_refused_and_nothing_leaks(void)
{
    in_another_process(live_with_few_fds, NULL);
}

const struct conformance_case fds_cases[] = {
    CASE(pipe_ends_when_the_task_has_ended),
    CASE(queued_tasks_have_their_own_each),
    CASE(sockets_work_both_ways),
    CASE(files_are_read_and_written_where_they_stand),
    CASE(sixty_four_may_go_with_a_task),
    CASE(same_one_may_go_more_than_once),
    CASE(large_input_goes_with_them),
    CASE(worker_closes_them_and_none_survives_an_exec),
    CASE(task_may_keep_a_duplicate),
    CASE(tasks_and_items_without_have_none),
    CASE(dead_worker_keeps_none),
    CASE(task_that_runs_again_has_them_again),
    CASE(worker_killed_from_outside_hands_them_on),
    CASE(cancelled_task_keeps_none),
    CASE(worker_that_starts_meanwhile_keeps_none),
    CASE(task_that_waits_for_room_has_none_yet),
    CASE(task_that_was_freed_has_them_all_the_same),
    CASE(bad_ones_are_refused_and_nothing_leaks),
    CASE(more_than_the_limit_allows_are_refused_and_nothing_leaks),
    {0},
};

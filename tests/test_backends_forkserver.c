/* backends: what the forkserver alone does: the preload, and a server that fails, hangs, is stopped or dies. */
#include "backends_rig.h"
#include "fd.h"
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

static struct rig open_server(const char *preload)
{
    return open_rig_with(backend_find("forkserver"), preload);
}

static void preload_runs_once_for_all(void **unused)
{
    (void)unused;
    struct rig rig = open_server("count");
    struct backend_child one, other;
    start_child(&rig, &one);
    start_child(&rig, &other);
    char first[REPLY_BYTES];
    snprintf(first, sizeof first, "%s", ask(&one, "preloaded"));
    assert_string_equal(ask(&other, "preloaded"), first);
    assert_int_equal(atoi(first), 1);
    dismiss(&rig, &one);
    dismiss(&rig, &other);
    close_rig(&rig);
}

/* Starts one that must be refused, and returns the reason. */
static const char *refusal(const char *preload)
{
    struct rig rig = open_server(preload);
    static char said[MESSAGE_BYTES];
    for (int i = 0; i < 3; i++) { /* each time by a fresh server */
        struct backend_child child;
        start_child(&rig, &child);
        struct child_exit how = await_end(&rig, &child);
        assert_false(how.known);
        assert_int_equal(child.pid, 0);
        snprintf(said, sizeof said, "%s", message);
    }
    close_rig(&rig);
    return said;
}

static void failed_preload_is_told_with_code_and_text(void **unused)
{
    (void)unused;
    assert_string_equal(refusal("fail"), "preload failed with code 7: no such table");
}

static void preload_that_leaves_threads_is_refused_with_their_number(void **unused)
{
    (void)unused;
    assert_non_null(strstr(refusal("threads"), "left 2 threads running"));
}

static void server_without_room_says_what_to_do(void **unused)
{
    (void)unused;
    const char *said = refusal("full table");
    assert_non_null(strstr(said, "the forkserver cannot start a worker: Too many open files"));
    assert_non_null(strstr(said, "raise the limit on fds"));
}

static void preload_that_kills_the_server_is_told(void **unused)
{
    (void)unused;
    assert_non_null(strstr(refusal("crash"), "(signal 9)"));
    assert_non_null(strstr(refusal("exit"), "(exit code 23;"));
}

static void preload_may_leave_other_streams(void **unused)
{
    (void)unused;
    struct rig rig = open_server("streams");
    struct backend_child child;
    start_child(&rig, &child);
    assert_string_equal(ask(&child, "link 0"), "/dev/null");
    assert_string_equal(ask(&child, "link 1"), "/dev/null");
    dismiss(&rig, &child);
    close_rig(&rig);
}

static void preload_may_use_threads_and_processes(void **unused)
{
    (void)unused;
    const char *const preloads[] = {"joined", "process", "ignore", "handler"};
    for (size_t i = 0; i < 4; i++) {
        struct rig rig = open_server(preloads[i]);
        struct backend_child child;
        start_child(&rig, &child);
        command(&child, "exit 3");
        struct child_exit how = await_end(&rig, &child);
        assert_true(how.known && how.exit_code == 3);
        close_rig(&rig);
    }
}

static void all_queued_starts_are_refused_by_name(void **unused)
{
    (void)unused;
    struct rig rig = open_server("fail");
    struct backend_child children[FULL_HOUSE];
    for (int i = 0; i < FULL_HOUSE; i++)
        start_child(&rig, &children[i]);
    for (int i = 0; i < FULL_HOUSE; i++) {
        await_end(&rig, &children[i]);
        assert_string_equal(message, "preload failed with code 7: no such table");
    }
    close_rig(&rig);
}

static void what_the_preload_prints_is_written_once(void **unused)
{
    (void)unused;
    char text[64];
    struct capture capture = begin_capture();
    struct rig rig = open_server("print");
    struct backend_child one, other;
    start_child(&rig, &one);
    start_child(&rig, &other);
    ask(&one, "print flushed");
    ask(&other, "print flushed");
    command(&one, "exit 0");
    command(&other, "exit 0");
    await_end(&rig, &one);
    await_end(&rig, &other);
    close_rig(&rig);
    end_capture(&capture, text, sizeof text);
    assert_string_equal(text, "once;flushedflushed");
}

static void kill_server(pid_t server)
{
    int pidfd = pidfd_of(server);
    assert_int_equal(kill(server, SIGKILL), 0);
    assert_true(fd_poll(pidfd, POLLIN, DEADLINE_MS));
    close(pidfd);
}

static void workers_outlive_their_server(void **unused)
{
    if (under_valgrind())
        return; /* knows no pidfd_open, which this case needs itself */
    (void)unused;
    struct rig rig = open_server(NULL);
    struct backend_child child, fresh;
    start_child(&rig, &child);
    pid_t server = server_of(&child);
    await_pid(&rig, &child);
    kill_server(server);
    struct child_exit how;
    assert_true(fd_poll(child.exit_fd, POLLIN, DEADLINE_MS));
    int old_exit_fd = child.exit_fd;
    assert_int_equal(rig.backend->reap(rig.state, &child, &how, message), BACKEND_MOVED);
    assert_int_not_equal(child.exit_fd, old_exit_fd);
    assert_int_equal(rig.backend->reap(rig.state, &child, &how, message), BACKEND_RUNNING);
    assert_int_equal(atoi(ask(&child, "pid")), child.pid);
    start_child(&rig, &fresh);
    assert_int_not_equal(server_of(&fresh), server);
    assert_int_equal(rig.backend->kill(rig.state, &child, SIGKILL), 0);
    how = await_end(&rig, &child);
    assert_true(!how.known || how.signal == SIGKILL);
    dismiss(&rig, &fresh);
    close_rig(&rig);
}

/* The first SIGKILL may wait for a slow server, the second does not. */
static void give_up_on(struct rig *rig, struct backend_child *child)
{
    assert_int_equal(rig->backend->kill(rig->state, child, SIGKILL), 0);
    assert_int_equal(rig->backend->kill(rig->state, child, SIGKILL), 0);
}

static void stuck_server_is_replaced(void **unused)
{
    (void)unused;
    struct rig rig = open_server(NULL);
    struct backend_child child, stuck, fresh;
    start_child(&rig, &child);
    pid_t server = server_of(&child);
    await_pid(&rig, &child);
    kill(server, SIGSTOP);
    start_child(&rig, &stuck); /* does not wait for it */
    give_up_on(&rig, &stuck);
    struct child_exit how = await_end(&rig, &stuck);
    assert_false(how.known);
    assert_non_null(strstr(message, "before the forkserver had started"));
    start_child(&rig, &fresh);
    assert_int_not_equal(server_of(&fresh), server);
    assert_int_equal(atoi(ask(&child, "pid")), child.pid);
    dismiss(&rig, &fresh);
    fd_close(&child.request_fd);
    await_end(&rig, &child);
    close_rig(&rig);
}

static void hanging_preload_blocks_neither_start_nor_close(void **unused)
{
    (void)unused;
    struct rig rig = open_server("hang");
    struct backend_child children[FULL_HOUSE];
    struct child_exit how;
    for (int i = 0; i < FULL_HOUSE; i++)
        start_child(&rig, &children[i]);
    assert_int_equal(rig.backend->reap(rig.state, &children[0], &how, message), BACKEND_RUNNING);
    for (int i = 0; i < FULL_HOUSE; i++)
        give_up_on(&rig, &children[i]);
    for (int i = 0; i < FULL_HOUSE; i++)
        assert_false(await_end(&rig, &children[i]).known);
    close_rig(&rig);
}

static void busy_server_says_so_without_failing(void **unused)
{
    (void)unused;
    struct rig rig = open_server("hang");
    enum { MANY = 400 };
    static struct backend_child children[MANY];
    int started = 0, result = 0;
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    int most = limit.rlim_cur < MANY * 5 + 50 ? (int)(limit.rlim_cur - 50) / 5 : MANY;
    while (started < most && !(result = rig.backend->start(rig.state, &no_greeting, &children[started], message)))
        started++;
    assert_true(result == 0 || result == BACKEND_BUSY);
    for (int i = 0; i < started; i++)
        give_up_on(&rig, &children[i]);
    for (int i = 0; i < started; i++)
        await_end(&rig, &children[i]);
    close_rig(&rig);
}

int main(void)
{
    be_what_this_was_started_as();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(preload_runs_once_for_all),
        cmocka_unit_test(failed_preload_is_told_with_code_and_text),
        cmocka_unit_test(preload_that_leaves_threads_is_refused_with_their_number),
        cmocka_unit_test(server_without_room_says_what_to_do),
        cmocka_unit_test(preload_that_kills_the_server_is_told),
        cmocka_unit_test(preload_may_leave_other_streams),
        cmocka_unit_test(preload_may_use_threads_and_processes),
        cmocka_unit_test(all_queued_starts_are_refused_by_name),
        cmocka_unit_test(what_the_preload_prints_is_written_once),
        cmocka_unit_test(workers_outlive_their_server),
        cmocka_unit_test(stuck_server_is_replaced),
        cmocka_unit_test(hanging_preload_blocks_neither_start_nor_close),
        cmocka_unit_test(busy_server_says_so_without_failing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

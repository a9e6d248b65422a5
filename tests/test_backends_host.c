/* backends: every start method in a host that makes it hard: one that waits for any child, lacks stdio, holds its
 * locks, forks, or dies. */
#include "backends_rig.h"
#include "fd.h"
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

/* It may be lost, and is then not known to be something else. */
static void end_with_status_9(struct rig *rig)
{
    struct backend_child child;
    start_child(rig, &child);
    command(&child, "exit 9");
    struct child_exit how = await_end(rig, &child);
    if (how.known)
        assert_int_equal(how.exit_code, 9);
    else
        assert_true(how.signal == 0 && how.exit_code == -1);
}

static void ignored_sigchld_loses_at_most_the_status(void **prestate)
{
    struct sigaction old;
    sigaction(SIGCHLD, &(struct sigaction){.sa_handler = SIG_IGN}, &old);
    struct rig rig = open_rig(prestate);
    end_with_status_9(&rig);
    close_rig(&rig);
    sigaction(SIGCHLD, &old, NULL);
}

static void host_that_waits_for_any_child_is_survived(void **prestate)
{
    struct sigaction old;
    sigaction(SIGCHLD, &(struct sigaction){.sa_handler = take_statuses, .sa_flags = SA_RESTART}, &old);
    struct rig rig = open_rig(prestate);
    for (int i = 0; i < 5; i++)
        end_with_status_9(&rig);
    close_rig(&rig);
    sigaction(SIGCHLD, &old, NULL);
}

/* Runs body in a fork; cmocka's failures do not cross, so it answers by exit code. Ended without libc's or a
 * sanitizer's help, who would flush streams that a case has locked. */
static int in_host(int (*body)(const struct backend *), const struct backend *backend)
{
    int status;
    fflush(stdout);
    fflush(stderr);
    pid_t pid = fork();
    if (!pid)
        syscall(SYS_exit_group, body(backend));
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static int work_without_stdio(const struct backend *backend)
{
    const struct backend_setup setup = {.hooks = &hooks};
    struct rig rig = {.backend = backend};
    struct backend_child child;
    char fds[REPLY_BYTES], one[REPLY_BYTES];
    for (int fd = 0; fd < 3; fd++)
        close(fd);
    if (backend->open(&setup, &rig.state, message) || backend->start(rig.state, &no_greeting, &child, message))
        return 1;
    command(&child, "fds");
    command(&child, "link 1");
    if (!try_answer(&child, fds) || !try_answer(&child, one))
        return 2;
    if (strncmp(fds, "0 1 2 3c 4c 5c 6c ", 18) || strcmp(one, "/dev/null"))
        return 3;
    if (child.request_fd < 3 || child.reply_fd < 3 || child.lifeline_fd < 3 || child.exit_fd < 3)
        return 4;
    fd_close(&child.request_fd);
    struct child_exit how;
    while (backend->reap(rig.state, &child, &how, message))
        fd_poll(child.exit_fd, POLLIN, DEADLINE_MS);
    backend->close(rig.state);
    return how.known && !how.exit_code ? 0 : 5;
}

static void parent_without_stdio_is_fine(void **prestate)
{
    assert_int_equal(in_host(work_without_stdio, *prestate), 0);
}

static int pids_out[2];

static int start_and_wait_for_death(const struct backend *backend)
{
    const struct backend_setup setup = {.hooks = &hooks};
    struct rig rig = {.backend = backend};
    struct backend_child child;
    int pids[2];
    if (backend->open(&setup, &rig.state, message) || backend->start(rig.state, &no_greeting, &child, message))
        return 1;
    pids[1] = server_of(&child);
    pids[0] = atoi(ask(&child, "pid"));
    ask(&child, "spin");
    if (write(pids_out[1], pids, sizeof pids) != sizeof pids)
        return 2;
    for (;;)
        pause();
}

static void workers_and_server_end_with_the_parent(void **prestate)
{
    if (under_valgrind())
        return; /* knows no pidfd_open, which this case needs itself */
    int pids[2];
    assert_int_equal(pipe(pids_out), 0);
    pid_t host = fork();
    if (!host)
        _exit(start_and_wait_for_death(*prestate));
    assert_int_equal(read(pids_out[0], pids, sizeof pids), sizeof pids);
    int worker = pidfd_of(pids[0]);
    int server = pids[1] == host ? -1 : pidfd_of(pids[1]);
    assert_true(worker >= 0);
    kill(host, SIGKILL);
    assert_int_equal(waitpid(host, NULL, 0), host);
    assert_true(fd_poll(worker, POLLIN, DEADLINE_MS));
    if (server >= 0)
        assert_true(fd_poll(server, POLLIN, DEADLINE_MS));
    close(worker);
    close(server);
    close(pids_out[0]);
    close(pids_out[1]);
}

static void *hold_stdin_and_locks(void *ready)
{
    flockfile(stdout);
    flockfile(stdin);
    *(atomic_int *)ready = 1;
    while (pause())
        continue;
    return NULL;
}

static int start_while_stdio_is_locked(const struct backend *backend)
{
    pthread_t thread;
    static atomic_int ready;
    const struct backend_setup setup = {.hooks = &hooks};
    struct rig rig = {.backend = backend};
    struct backend_child child;
    alarm(DEADLINE_MS / 1000);
    if (pthread_create(&thread, NULL, hold_stdin_and_locks, &ready))
        return 1;
    while (!ready)
        sched_yield();
    if (backend->open(&setup, &rig.state, message) || backend->start(rig.state, &no_greeting, &child, message))
        return 2;
    command(&child, "pid");
    char text[REPLY_BYTES];
    return try_answer(&child, text) ? 0 : 3;
}

static void stdio_locked_by_another_thread_hangs_nobody(void **prestate)
{
    assert_int_equal(in_host(start_while_stdio_is_locked, *prestate), 0);
}

static int abandon_in_a_fork(const struct backend *backend)
{
    const struct backend_setup setup = {.hooks = &hooks};
    struct rig rig = {.backend = backend};
    struct backend_child child;
    char before[REPLY_BYTES], after[REPLY_BYTES];
    int status;
    count_fds(before);
    if (backend->open(&setup, &rig.state, message))
        return 1;
    pid_t pid = fork();
    if (!pid) {
        backend->abandon(rig.state);
        backend->close(rig.state);
        count_fds(after);
        _exit(strcmp(before, after) ? 1 : 0);
    }
    if (waitpid(pid, &status, 0) != pid || status)
        return 2;
    if (backend->start(rig.state, &no_greeting, &child, message))
        return 3;
    command(&child, "pid");
    if (!try_answer(&child, after))
        return 4;
    fd_close(&child.request_fd);
    struct child_exit how;
    while (backend->reap(rig.state, &child, &how, message))
        fd_poll(child.exit_fd, POLLIN, DEADLINE_MS);
    backend->close(rig.state);
    return 0;
}

static void forked_application_can_let_go(void **prestate)
{
    assert_int_equal(in_host(abandon_in_a_fork, *prestate), 0);
}

static const struct backend_case cases[] = {
    CASE(ignored_sigchld_loses_at_most_the_status),
    CASE(host_that_waits_for_any_child_is_survived),
    CASE(parent_without_stdio_is_fine),
    CASE(workers_and_server_end_with_the_parent),
    CASE(stdio_locked_by_another_thread_hangs_nobody),
    CASE(forked_application_can_let_go),
};

int main(void)
{
    be_what_this_was_started_as();
    return run_for_all(cases, sizeof cases / sizeof *cases);
}

/* backends: every start method through its contract: what a worker finds, how it ends, what a start leaves behind. */
#include "backends_rig.h"
#include "fd.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static void worker_answers_and_leaves(void **prestate)
{
    char before[REPLY_BYTES], after[REPLY_BYTES], pid[REPLY_BYTES];
    count_fds(before);
    struct rig rig = open_rig(prestate);
    struct backend_child child;
    start_child(&rig, &child);
    snprintf(pid, sizeof pid, "%s", ask(&child, "pid"));
    await_pid(&rig, &child);
    assert_int_equal(atoi(pid), child.pid);
    struct child_exit how;
    assert_int_equal(rig.backend->reap(rig.state, &child, &how, message), BACKEND_RUNNING);
    fd_close(&child.request_fd);
    how = await_end(&rig, &child);
    assert_true(how.known && !how.signal && !how.exit_code);
    assert_string_equal(message, "");
    close_rig(&rig);
    count_fds(after);
    assert_string_equal(before, after);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
    assert_int_equal(errno, ECHILD);
}

static void fds_of_a_child_are_cloexec_and_above_stdio(void **prestate)
{
    struct rig rig = open_rig(prestate);
    struct backend_child child;
    start_child(&rig, &child);
    await_pid(&rig, &child);
    const int fds[] = {child.request_fd,  child.request_end_fd, child.reply_fd, child.socket_fd,
                       child.lifeline_fd, child.exit_fd,        child.pidfd};
    for (size_t i = 0; i < sizeof fds / sizeof *fds; i++)
        assert_true(fds[i] >= 3 && fcntl(fds[i], F_GETFD) & FD_CLOEXEC);
    assert_true(fcntl(child.request_fd, F_GETFL) & O_NONBLOCK);
    assert_true(fcntl(child.reply_fd, F_GETFL) & O_NONBLOCK);
    dismiss(&rig, &child);
    close_rig(&rig);
}

static void worker_has_no_fd_but_its_own(void **prestate)
{
    int stray[] = {open("/dev/null", O_RDONLY), fcntl(0, F_DUPFD, 300), fcntl(1, F_DUPFD, 777)};
    struct rig rig = open_rig(prestate);
    struct backend_child child, other;
    start_child(&rig, &other);
    start_child(&rig, &child);
    char fds[REPLY_BYTES];
    snprintf(fds, sizeof fds, "%s", ask(&child, "fds"));
    const char *expected = "0 1 2 3c 4c 5c 6c ";
    if (strncmp(fds, expected, strlen(expected)))
        fail_msg("worker has %s", fds);
    /* What child_remember keeps is the only thing above, and valgrind's own, which start high. */
    for (char *at = fds + strlen(expected); *at; at = strchr(at, ' ') + 1)
        assert_true(atoi(at) < 10 || atoi(at) > 900);
    assert_string_equal(ask(&child, "link 0"), "/dev/null");
    dismiss(&rig, &child);
    dismiss(&rig, &other);
    close_rig(&rig);
    for (size_t i = 0; i < 3; i++)
        close(stray[i]);
}

static void worker_has_directory_and_environment_of_open(void **prestate)
{
    char before[512];
    assert_non_null(getcwd(before, sizeof before));
    assert_int_equal(chdir("/proc"), 0);
    setenv("BACKEND_TEST", "early", 1);
    unsigned long sum = sum_environment();
    struct rig rig = open_rig(prestate);
    setenv("BACKEND_TEST", "late", 1);
    assert_int_equal(chdir("/"), 0);
    struct backend_child child;
    start_child(&rig, &child);
    assert_string_equal(ask(&child, "cwd"), "/proc");
    assert_string_equal(ask(&child, "variable PROCPOOL_ROLE"), "(unset)");
    if (!is(prestate, "fork")) { /* a copy has the environment of its own moment */
        assert_string_equal(ask(&child, "variable BACKEND_TEST"), "early");
        if (!under_valgrind())
            assert_true(strtoul(ask(&child, "environment"), NULL, 10) == sum);
    }
    dismiss(&rig, &child);
    close_rig(&rig);
    unsetenv("BACKEND_TEST");
    assert_int_equal(chdir(before), 0);
}

static unsigned long long status_mask(const char *state, const char *name)
{
    const char *line = strstr(state, name);
    assert_non_null(line);
    return strtoull(line + strlen(name) + 1, NULL, 16);
}

static void worker_starts_with_default_signals(void **prestate)
{
    sigset_t all, before;
    sigfillset(&all);
    struct sigaction old_usr1, old_pipe;
    sigaction(SIGUSR1, &(struct sigaction){.sa_handler = ignore_signal}, &old_usr1);
    sigaction(SIGPIPE, &(struct sigaction){.sa_handler = SIG_IGN}, &old_pipe);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    struct rig rig = open_rig(prestate);
    struct backend_child child;
    start_child(&rig, &child);
    const char *state = ask(&child, "state");
    assert_int_equal(status_mask(state, "SigBlk"), 0);
    assert_int_equal(status_mask(state, "SigIgn"), 1 << (SIGHUP - 1) | 1 << (SIGINT - 1) | 1 << (SIGQUIT - 1));
    assert_string_equal(ask(&child, "raise 2"), "survived");
    sigset_t now;
    pthread_sigmask(SIG_SETMASK, NULL, &now);
    assert_true(sigismember(&now, SIGTERM) && sigismember(&now, SIGRTMIN));
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    command(&child, "raise 10");
    struct child_exit how = await_end(&rig, &child);
    assert_true(how.known);
    assert_int_equal(how.signal, SIGUSR1);
    assert_int_equal(how.exit_code, -1);
    close_rig(&rig);
    sigaction(SIGUSR1, &old_usr1, NULL);
    sigaction(SIGPIPE, &old_pipe, NULL);
}

static void worker_is_named_and_first_to_go(void **prestate)
{
    char score[32] = "";
    int fd = open("/proc/self/oom_score_adj", O_RDONLY | O_CLOEXEC);
    assert_true(read(fd, score, sizeof score - 1) > 0);
    close(fd);
    struct rig rig = open_rig(prestate);
    struct backend_child child;
    start_child(&rig, &child);
    char name[32];
    int worker_score;
    assert_int_equal(sscanf(ask(&child, "name"), "%31s %d", name, &worker_score), 2);
    assert_string_equal(name, "pool-worker");
    assert_int_equal(worker_score, atoi(score) + 200 < 1000 ? atoi(score) + 200 : 1000);
    dismiss(&rig, &child);
    close_rig(&rig);
}

static void exit_codes_and_signals_are_told(void **prestate)
{
    struct rig rig = open_rig(prestate);
    struct backend_child child;
    start_child(&rig, &child);
    command(&child, "raise 9");
    struct child_exit how = await_end(&rig, &child);
    assert_true(how.known && how.signal == SIGKILL && how.exit_code == -1);
    start_child(&rig, &child);
    command(&child, "exit 42");
    how = await_end(&rig, &child);
    assert_true(how.known && how.signal == 0 && how.exit_code == 42);
    close_rig(&rig);
}

static void kill_reaches_a_spinning_worker(void **prestate)
{
    struct rig rig = open_rig(prestate);
    struct backend_child child;
    start_child(&rig, &child);
    assert_string_equal(ask(&child, "spin"), "spinning");
    assert_int_equal(rig.backend->kill(rig.state, &child, SIGTERM), 0);
    struct child_exit how = await_end(&rig, &child);
    assert_true(how.known && how.signal == SIGTERM);
    close_rig(&rig);
}

static void term_reaches_a_stopped_worker(void **prestate)
{
    struct rig rig = open_rig(prestate);
    struct backend_child child;
    start_child(&rig, &child);
    await_pid(&rig, &child);
    command(&child, "raise 19");
    assert_int_equal(rig.backend->kill(rig.state, &child, SIGTERM), 0);
    struct child_exit how = await_end(&rig, &child);
    assert_true(how.known && how.signal == SIGTERM);
    close_rig(&rig);
}

static void kill_before_the_worker_is_known_ends_it(void **prestate)
{
    const int signals[] = {SIGTERM, SIGKILL};
    struct rig rig = open_rig(prestate);
    for (int i = 0; i < 2; i++) {
        struct backend_child child;
        start_child(&rig, &child);
        assert_int_equal(rig.backend->kill(rig.state, &child, signals[i]), 0);
        struct child_exit how = await_end(&rig, &child);
        if (how.known)
            assert_int_equal(how.signal, signals[i]);
        else
            assert_int_equal(signals[i], SIGKILL);
    }
    close_rig(&rig);
}

static void kill_after_the_end_is_no_error(void **prestate)
{
    struct rig rig = open_rig(prestate);
    struct backend_child child;
    start_child(&rig, &child);
    await_pid(&rig, &child);
    command(&child, "raise 9");
    assert_true(fd_poll(child.pidfd, POLLIN, DEADLINE_MS));
    assert_int_equal(rig.backend->kill(rig.state, &child, SIGKILL), 0);
    await_end(&rig, &child);
    close_rig(&rig);
}

static void write_to_a_dead_worker_neither_fails_nor_raises_sigpipe(void **prestate)
{
    struct rig rig = open_rig(prestate);
    struct backend_child child;
    char block[4096] = {0};
    start_child(&rig, &child);
    await_pid(&rig, &child);
    assert_int_equal(rig.backend->kill(rig.state, &child, SIGKILL), 0);
    assert_true(fd_poll(child.pidfd, POLLIN, DEADLINE_MS));
    assert_int_equal(fd_write(child.request_fd, block, sizeof block), sizeof block); /* SIGPIPE would end the test */
    ssize_t result;
    while ((result = fd_write(child.request_fd, block, sizeof block)) > 0)
        ;
    assert_int_equal(result, -EAGAIN);
    await_end(&rig, &child);
    close_rig(&rig);
}

static void cut_lifeline_kills_a_spinning_worker(void **prestate)
{
    struct rig rig = open_rig(prestate);
    struct backend_child child;
    start_child(&rig, &child);
    assert_string_equal(ask(&child, "spin"), "spinning");
    fd_close(&child.lifeline_fd);
    struct child_exit how = await_end(&rig, &child);
    assert_true(how.known && how.signal == SIGKILL);
    close_rig(&rig);
}

static void lifeline_cut_before_the_worker_runs_ends_it(void **prestate)
{
    struct rig rig = open_rig(prestate);
    for (int i = 0; i < 20; i++) {
        struct backend_child child;
        start_child(&rig, &child);
        fd_close(&child.lifeline_fd);
        struct child_exit how = await_end(&rig, &child);
        assert_true(how.known && (how.signal == SIGKILL || how.exit_code == EXIT_FAILURE));
    }
    close_rig(&rig);
}

/* Nobody asks it: the command was there before the process. And what its copies would have to do was done once. */
static void worker_finds_its_greeting_and_all_prepared(void **prestate)
{
    static const char bytes[COMMAND_BYTES] = "prepared";
    const struct backend_greeting greeting = {.bytes = bytes, .size = sizeof bytes};
    struct backend_child child;
    char text[REPLY_BYTES];
    prepared = false;
    struct rig rig = open_rig(prestate);
    assert_int_equal(rig.backend->start(rig.state, &greeting, &child, message), 0);
    assert_int_equal(child.greeted, sizeof bytes);
    assert_true(try_answer(&child, text));
    assert_string_equal(text, is(prestate, "spawn") ? "0" : "1");
    dismiss(&rig, &child);
    close_rig(&rig);
}

static void exit_in_a_task_runs_no_inherited_handler(void **prestate)
{
    char text[64];
    struct capture capture = begin_capture();
    printf("[parent]");
    struct rig rig = open_rig(prestate);
    struct backend_child child;
    start_child(&rig, &child);
    assert_string_equal(ask(&child, "print flushed"), "printed");
    command(&child, "exit 5");
    struct child_exit how = await_end(&rig, &child);
    close_rig(&rig);
    end_capture(&capture, text, sizeof text);
    assert_true(how.known && how.exit_code == 5);
    /* Either side's output once, and nothing from inherited_handler. */
    if (strcmp(text, "[parent]flushed") && strcmp(text, "flushed[parent]"))
        fail_msg("written: '%s'", text);
}

static void many_start_at_once(void **prestate)
{
    struct rig rig = open_rig(prestate);
    struct backend_child children[FULL_HOUSE];
    for (int i = 0; i < FULL_HOUSE; i++)
        start_child(&rig, &children[i]);
    for (int i = 0; i < FULL_HOUSE; i++)
        command(&children[i], "pid");
    for (int i = 0; i < FULL_HOUSE; i++) {
        char text[REPLY_BYTES];
        assert_true(try_answer(&children[i], text));
        await_pid(&rig, &children[i]);
        assert_int_equal(atoi(text), children[i].pid);
    }
    for (int i = FULL_HOUSE - 1; i >= 0; i--)
        dismiss(&rig, &children[i]);
    close_rig(&rig);
}

/* With only `limit` fds, until it works: every refusal is -EMFILE and leaves nothing. */
static void start_survives_any_shortage_of_fds(void **prestate)
{
    if (under_valgrind())
        return; /* it keeps a limit of its own */
    char before[REPLY_BYTES], after[REPLY_BYTES];
    struct rlimit limit, full;
    struct rig rig = open_rig(prestate);
    struct backend_child child;
    int result = -1, refusals = 0;
    getrlimit(RLIMIT_NOFILE, &full);
    limit = full;
    count_fds(before);
    for (limit.rlim_cur = 3; result && limit.rlim_cur < 100; limit.rlim_cur++) {
        setrlimit(RLIMIT_NOFILE, &limit);
        result = rig.backend->start(rig.state, &no_greeting, &child, message);
        setrlimit(RLIMIT_NOFILE, &full);
        count_fds(after);
        if (!result)
            break;
        refusals++;
        assert_int_equal(result, -EMFILE);
        assert_string_equal(before, after);
    }
    assert_int_equal(result, 0);
    assert_true(refusals > 3);
    assert_true(atoi(ask(&child, "pid")) > 0);
    dismiss(&rig, &child);
    close_rig(&rig);
}

static void open_survives_any_shortage_of_fds(void **prestate)
{
    if (under_valgrind())
        return; /* it keeps a limit of its own */
    const struct backend *backend = *prestate;
    const struct backend_setup setup = {.hooks = &hooks, .preload = "", .preload_size = 1};
    char before[REPLY_BYTES], after[REPLY_BYTES];
    struct rlimit limit, full;
    int result = -1;
    getrlimit(RLIMIT_NOFILE, &full);
    limit = full;
    count_fds(before);
    for (limit.rlim_cur = 3; result && limit.rlim_cur < 100; limit.rlim_cur++) {
        void *state = NULL;
        setrlimit(RLIMIT_NOFILE, &limit);
        result = backend->open(&setup, &state, message);
        setrlimit(RLIMIT_NOFILE, &full);
        backend->close(state);
        count_fds(after);
        assert_string_equal(before, after);
        if (result)
            assert_int_equal(result, -EMFILE);
    }
    assert_int_equal(result, 0);
}

static const struct backend_case cases[] = {
    CASE(worker_answers_and_leaves),
    CASE(fds_of_a_child_are_cloexec_and_above_stdio),
    CASE(worker_has_no_fd_but_its_own),
    CASE(worker_has_directory_and_environment_of_open),
    CASE(worker_starts_with_default_signals),
    CASE(worker_is_named_and_first_to_go),
    CASE(exit_codes_and_signals_are_told),
    CASE(kill_reaches_a_spinning_worker),
    CASE(term_reaches_a_stopped_worker),
    CASE(kill_before_the_worker_is_known_ends_it),
    CASE(kill_after_the_end_is_no_error),
    CASE(write_to_a_dead_worker_neither_fails_nor_raises_sigpipe),
    CASE(cut_lifeline_kills_a_spinning_worker),
    CASE(lifeline_cut_before_the_worker_runs_ends_it),
    CASE(worker_finds_its_greeting_and_all_prepared),
    CASE(exit_in_a_task_runs_no_inherited_handler),
    CASE(many_start_at_once),
    CASE(start_survives_any_shortage_of_fds),
    CASE(open_survives_any_shortage_of_fds),
};

int main(void)
{
    be_what_this_was_started_as();
    return run_for_all(cases, sizeof cases / sizeof *cases);
}

/* conformance_place: what surrounds a worker: fds, signals, environment, working directory, its name; and what of the
 * pool shows in a process that a task starts. */
#include "conformance.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

extern char **environ;

/* ---- fds ---- */

/* One line for each fd: number and target. The fd that lists is left out. */
static int list_fds(struct pool_call *call)
{
    char text[8192] = "", path[300], target[256];
    DIR *folder = opendir("/proc/self/fd");
    for (struct dirent *entry = readdir(folder); entry; entry = readdir(folder)) {
        if (entry->d_name[0] == '.' || atoi(entry->d_name) == dirfd(folder))
            continue;
        snprintf(path, sizeof path, "/proc/self/fd/%s", entry->d_name);
        ssize_t size = readlink(path, target, sizeof target - 1);
        target[size < 0 ? 0 : size] = '\0';
        snprintf(text + strlen(text), sizeof text - strlen(text), "%s %s\n", entry->d_name, target);
    }
    closedir(folder);
    return answer(call, text);
}

/* Its stdio, its pipes or sockets, and nothing else. */
static void expect_own_fds_only(const char *fds)
{
    EXPECT_TEXT(fds, "0 /dev/null\n");
    for (const char *line = fds; *line; line = strchr(line, '\n') + 1) {
        int number = atoi(line);
        const char *target = strchr(line, ' ') + 1;
        if (number > 2 && strncmp(target, "pipe:", 5) && strncmp(target, "socket:", 7))
            expectation_failed(__FILE__, __LINE__, "a worker has an fd that is not its own: %s", fds);
        EXPECT(number < 64);
    }
    EXPECT(count_text(fds, "\n") <= 8);
}

static void workers_have_no_fd_of_the_host(void)
{
    char path[CASE_PATH_BYTES], fds[ANSWER_BYTES];
    int opened[6], pair[2];
    case_path("kept open", path);
    for (int i = 0; i < 6; i++)
        opened[i] = open(path, O_RDWR | O_CREAT, 0600); /* not close-on-exec */
    EXPECT(pipe(pair) == 0);
    int stdin_before = dup(STDIN_FILENO), high = dup2(opened[0], 700);
    dup2(opened[0], STDIN_FILENO);
    for (int round = 0; round < 2; round++) { /* the second pool is made while the first one lives */
        struct pool *first = make_pool(2), *second = make_pool(2);
        EXPECT_OK(ask(first, list_fds, "", fds));
        expect_own_fds_only(fds);
        EXPECT_OK(ask(second, list_fds, "", fds));
        expect_own_fds_only(fds);
        EXPECT(!strstr(fds, "kept open"));
        pool_destroy(first);
        pool_destroy(second);
    }
    dup2(stdin_before, STDIN_FILENO);
    close(stdin_before);
    close(high);
    close(pair[0]);
    close(pair[1]);
    for (int i = 0; i < 6; i++)
        close(opened[i]);
}

static int read_stdin(const void *item, void *result, void *state)
{
    char byte;
    (void)item, (void)state;
    *(int *)result = (int)read(STDIN_FILENO, &byte, 1);
    return 0;
}

static void stdin_of_workers_is_empty_and_the_host_keeps_its_own(void)
{
    int pair[2], stdin_before = dup(STDIN_FILENO), result = -2;
    char item = 0, text[8] = "";
    EXPECT_OK(pipe(pair));
    EXPECT_INT(write(pair[1], "hello", 5), 5);
    dup2(pair[0], STDIN_FILENO);
    struct pool *pool = make_pool(1);
    EXPECT_OK(pool_map(pool, read_stdin, &item, 1, &result, sizeof result, 1));
    EXPECT_INT(result, 0);
    EXPECT_INT(read(STDIN_FILENO, text, 5), 5);
    pool_destroy(pool);
    dup2(stdin_before, STDIN_FILENO);
    close(stdin_before);
    close(pair[0]);
    close(pair[1]);
}

/* A host that closed some of 0 to 2 (bits): no pool fd may take their place, in the host or in a worker. */
static int run_with_closed_stdio(void *closed)
{
    char fds[ANSWER_BYTES], items[3000], path[CASE_PATH_BYTES];
    unsigned bits = *(unsigned *)closed;
    memset(items, 0, sizeof items);
    for (int fd = 0; fd < 3; fd++)
        if (bits & 1u << fd)
            close(fd);
    struct pool *pool = make_pool(2);
    for (int fd = 0; fd < 3; fd++)
        EXPECT_INT(fcntl(fd, F_GETFD) == -1, (bits >> fd) & 1);
    EXPECT_OK(ask(pool, list_fds, "", fds));
    expect_own_fds_only(fds);
    for (int fd = 1; fd < 3; fd++) {
        snprintf(path, sizeof path, "%d %s", fd, bits & 1u << fd ? "/dev/null\n" : "/");
        EXPECT_TEXT(fds, path);
    }
    EXPECT_OK(pool_map(pool, read_stdin, items, 1, (int[3000]){0}, sizeof(int), 3000));
    pool_destroy(pool);
    return 0;
}

static void stdio_may_be_closed(void)
{
    for (unsigned bits = 1; bits < 8; bits++)
        in_another_process(run_with_closed_stdio, &bits);
}

/* ---- signals ---- */

static void handle_in_host(int number)
{
    (void)number;
    abort();
}

/* Mask and dispositions as the kernel tells them, which no libc or sanitizer can hide. */
static int tell_signals(struct pool_call *call)
{
    char text[8192], out[256] = "";
    if (read_file("/proc/self/status", text, sizeof text) < 0)
        return 1;
    static const char *const fields[] = {"SigBlk:", "SigIgn:", "SigCgt:"};
    for (size_t i = 0; i < 3; i++)
        snprintf(out + strlen(out), sizeof out - strlen(out), "%s%llx\n", fields[i],
                 strtoull(strstr(text, fields[i]) + 7, NULL, 16) & ~(3ull << 31)); /* 32 and 33 are the C library's */
    return answer(call, out);
}

static void signals_are_default_and_unblocked_but_those_of_a_terminal_ignored(void)
{
    char text[ANSWER_BYTES];
    struct sigaction before[65];
    sigset_t all, mask;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &mask);
    for (int number = 1; number < 65; number++) {
        sigaction(number, NULL, &before[number]);
        signal(number, number % 2 ? SIG_IGN : handle_in_host);
    }
    struct pool *pool = make_pool(1);
    EXPECT_OK(ask(pool, tell_signals, "", text));
    EXPECT_TEXT(text, "SigBlk:0\n");
    EXPECT_TEXT(text, "SigIgn:7\n"); /* bits of SIGHUP (1), SIGINT (2) and SIGQUIT (3) */
    EXPECT_TEXT(text, "SigCgt:0\n");
    pool_destroy(pool);
    for (int number = 1; number < 65; number++)
        sigaction(number, &before[number], NULL);
    pthread_sigmask(SIG_SETMASK, &mask, NULL);
}

static int interrupt_myself(const void *item, void *result, void *state)
{
    (void)item, (void)state;
    raise(SIGHUP);
    raise(SIGINT);
    raise(SIGQUIT);
    *(int *)result = 1;
    return 0;
}

static void interrupting_a_worker_does_nothing(void)
{
    char item = 0;
    int result = 0;
    struct pool *pool = make_pool(1);
    EXPECT_OK(pool_map(pool, interrupt_myself, &item, 1, &result, sizeof result, 1));
    EXPECT_INT(result, 1);
    pool_destroy(pool);
}

/* ---- environment ---- */

static int list_environment(struct pool_call *call)
{
    char text[ANSWER_BYTES] = "";
    for (char **each = environ; *each; each++)
        snprintf(text + strlen(text), sizeof text - strlen(text), "%s\n", *each);
    return answer(call, text);
}

static void replace_environment(const char *const *variables)
{
    clearenv();
    for (; *variables; variables++)
        putenv((char *)(uintptr_t)*variables);
}

static void environment_is_that_of_the_pools_making_exactly(void)
{
    static const char *const variables[] = {"ALPHA=1", "BETA=with = and space ", "EMPTY=", NULL};
    char text[ANSWER_BYTES], again[ANSWER_BYTES];
    struct pool_options options = method_options(1);
    options.max_tasks_per_worker = 1;
    replace_environment(variables);
    struct pool *pool = make_pool_with(&options);
    if (!(method->traits & COPIES_PARENT)) { /* else a later worker is a copy of the host as it is then */
        setenv("GAMMA", "too late", 1);
        setenv("ALPHA", "2", 1);
        unsetenv("EMPTY");
    }
    EXPECT_OK(ask(pool, list_environment, "", text));
    if (strcmp(text, "ALPHA=1\nBETA=with = and space \nEMPTY=\n"))
        expectation_failed(__FILE__, __LINE__, "the environment in a worker is: %s", text);
    for (int i = 0; i < 3; i++) { /* workers that replaced the first one */
        EXPECT_OK(ask(pool, list_environment, "", again));
        EXPECT(!strcmp(text, again));
    }
    pool_destroy(pool);
}

static int change_the_environment(const void *item, void *result, void *state)
{
    (void)item, (void)result, (void)state;
    return setenv("CHANGED", "by a task", 1);
}

static void what_a_task_does_to_the_environment_ends_with_its_worker(void)
{
    char text[ANSWER_BYTES], item = 0;
    struct pool_options options = method_options(1);
    options.max_tasks_per_worker = 1;
    struct pool *pool = make_pool_with(&options);
    EXPECT_OK(pool_map(pool, change_the_environment, &item, 1, NULL, 0, 1));
    EXPECT_OK(ask(pool, list_environment, "", text));
    EXPECT(!strstr(text, "CHANGED"));
    pool_destroy(pool);
}

/* What a program started by a task prints. */
static int run_program(struct pool_call *call)
{
    char text[ANSWER_BYTES] = "";
    size_t size;
    FILE *stream = popen(pool_call_input(call, &size), "r");
    if (!stream)
        return 1;
    size = fread(text, 1, sizeof text - 1, stream);
    text[size] = '\0';
    return pclose(stream) ? 2 : answer(call, text);
}

static void program_of_a_task_sees_the_callers_environment_and_no_pool_fd(void)
{
    static const char *const variables[] = {"PATH=/usr/bin:/bin", "ALPHA=1", NULL};
    char text[ANSWER_BYTES];
    replace_environment(variables);
    struct pool *pool = make_pool(1);
    EXPECT_OK(ask(pool, run_program, "exec env", text));
    EXPECT_TEXT(text, "PATH=/usr/bin:/bin\n");
    EXPECT_TEXT(text, "ALPHA=1\n");
    EXPECT(count_text(text, "\n") ==
           2 + count_text(text, "PWD=") + count_text(text, "SHLVL=") + count_text(text, "_="));
    EXPECT_OK(ask(pool, run_program, "for fd in /proc/self/fd/*; do echo fd ${fd##*/}; done", text));
    EXPECT(!strstr(text, "fd 4") && !strstr(text, "fd 5") && !strstr(text, "fd 6"));
    EXPECT(count_text(text, "fd ") <= 4); /* 0 to 2 and the one that lists */
    pool_destroy(pool);
}

/* ---- working directory, name, limits ---- */

static int tell_directory(struct pool_call *call)
{
    char path[ANSWER_BYTES];
    return getcwd(path, sizeof path) ? answer(call, path) : errno;
}

static int go_to_root(const void *item, void *result, void *state)
{
    (void)item, (void)result, (void)state;
    umask(077);
    return chdir("/");
}

static void working_directory_is_that_of_the_pools_making(void)
{
    char path[CASE_PATH_BYTES], real[ANSWER_BYTES], text[ANSWER_BYTES], item = 0;
    EXPECT_OK(mkdir(case_path("here", path), 0700));
    EXPECT(realpath(path, real));
    struct pool_options options = method_options(1);
    options.max_tasks_per_worker = 1;
    EXPECT_OK(chdir(path));
    struct pool *pool = make_pool_with(&options);
    EXPECT_OK(chdir("/"));
    for (int i = 0; i < 3; i++) { /* the first worker, and those that replaced it */
        EXPECT_OK(ask(pool, tell_directory, "", text));
        EXPECT_TEXT(text, real);
        EXPECT_OK(pool_map(pool, go_to_root, &item, 1, NULL, 0, 1));
    }
    pool_destroy(pool);
}

static int tell_name(struct pool_call *call)
{
    char text[256];
    return read_file("/proc/self/comm", text, sizeof text) < 0 ? 1 : answer(call, text);
}

static void workers_are_named_by_their_number(void)
{
    char text[ANSWER_BYTES];
    struct pool *pool = make_pool(1);
    EXPECT_OK(ask(pool, tell_name, "", text));
    EXPECT_TEXT(text, "pool-worker/0\n");
    pool_destroy(pool);
}

static int tell_oom_score(struct pool_call *call)
{
    char text[256];
    return read_file("/proc/self/oom_score_adj", text, sizeof text) < 0 ? 1 : answer(call, text);
}

static void kernel_prefers_a_worker_to_the_host_when_memory_runs_out(void)
{
    char text[ANSWER_BYTES], own[256];
    struct pool *pool = make_pool(1);
    EXPECT(read_file("/proc/self/oom_score_adj", own, sizeof own) > 0);
    EXPECT_OK(ask(pool, tell_oom_score, "", text));
    EXPECT(atoi(text) > atoi(own) || atoi(own) == 1000);
    pool_destroy(pool);
}

/* What exec leaves alone has to be set back when a worker is replaced by a fresh one. */
static int disturb_the_process(const void *item, void *result, void *state)
{
    sigset_t some;
    (void)item, (void)state;
    mode_t mask = umask(0123);
    struct rlimit limit = {64, 64}, before;
    getrlimit(RLIMIT_NOFILE, &before);
    setrlimit(RLIMIT_NOFILE, &limit);
    signal(SIGUSR1, SIG_IGN);
    signal(SIGHUP, SIG_DFL);
    signal(SIGINT, SIG_DFL);
    sigemptyset(&some);
    sigaddset(&some, SIGUSR2);
    sigprocmask(SIG_BLOCK, &some, NULL);
    setitimer(ITIMER_REAL, &(struct itimerval){.it_value = {3600, 0}}, NULL);
    struct itimerval none;
    ((long *)result)[0] = mask;
    ((long *)result)[1] = (long)before.rlim_cur;
    getitimer(ITIMER_PROF, &none);
    ((long *)result)[2] = none.it_value.tv_sec;
    setitimer(ITIMER_PROF, &(struct itimerval){.it_value = {3600, 0}}, NULL);
    return 0;
}

static void recycled_worker_is_as_fresh_as_the_first(void)
{
    long results[3][3];
    char items[3] = {0}, text[ANSWER_BYTES];
    struct pool_options options = method_options(1);
    options.max_tasks_per_worker = 1;
    struct pool *pool = make_pool_with(&options);
    EXPECT_OK(pool_map(pool, disturb_the_process, items, 1, results, sizeof *results, 3));
    for (int i = 1; i < 3; i++)
        for (int k = 0; k < 3; k++)
            EXPECT_INT(results[i][k], results[0][k]);
    EXPECT_OK(ask(pool, tell_signals, "", text));
    EXPECT_TEXT(text, "SigBlk:0\n");
    EXPECT_TEXT(text, "SigIgn:7\n");
    pool_destroy(pool);
}

const struct conformance_case place_cases[] = {
    CASE(workers_have_no_fd_of_the_host),
    CASE(stdin_of_workers_is_empty_and_the_host_keeps_its_own),
    CASE(stdio_may_be_closed),
    CASE(signals_are_default_and_unblocked_but_those_of_a_terminal_ignored),
    CASE(interrupting_a_worker_does_nothing),
    CASE(environment_is_that_of_the_pools_making_exactly),
    CASE(what_a_task_does_to_the_environment_ends_with_its_worker),
    CASE(program_of_a_task_sees_the_callers_environment_and_no_pool_fd),
    CASE(working_directory_is_that_of_the_pools_making),
    CASE(workers_are_named_by_their_number),
    CASE(kernel_prefers_a_worker_to_the_host_when_memory_runs_out),
    CASE(recycled_worker_is_as_fresh_as_the_first),
    {0},
};

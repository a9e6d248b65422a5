/* backends: every start method through its contract, with a worker that knows a handful of commands.
 *
 * Cases that hold for all start methods run once for each entry of backend_table. The worker reads commands of
 * COMMAND_BYTES from CHILD_IN_FD and answers each with REPLY_BYTES of text on CHILD_OUT_FD. */
#include "backend.h"
#include "child.h"
#include "fd.h"
#include <dirent.h>
#include <errno.h>
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
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { COMMAND_BYTES = 64, REPLY_BYTES = 1024, DEADLINE_MS = 60000, MESSAGE_BYTES = 256, FULL_HOUSE = 16 };

extern char **environ;

/* ---- the worker -------------------------------------------------------------------------------------------------- */

static int preloaded; /* how often the preload ran in this image */

static void reply(const char *format, ...)
{
    char text[REPLY_BYTES] = "";
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (write(CHILD_OUT_FD, text, sizeof text) != sizeof text)
        _exit(90);
}

static void append(char *text, const char *format, ...)
{
    size_t length = strlen(text);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text + length, REPLY_BYTES - length, format, arguments);
    va_end(arguments);
}

static void tell_pid(const char *argument)
{
    (void)argument;
    reply("%d", (int)getpid());
}

static void tell_cwd(const char *argument)
{
    char path[REPLY_BYTES];
    (void)argument;
    reply("%s", getcwd(path, sizeof path) ? path : "?");
}

static void tell_variable(const char *argument)
{
    const char *value = getenv(argument);
    reply("%s", value ? value : "(unset)");
}

/* The sum of everything, so that "exactly the same" can be told in a few bytes. */
static unsigned long sum_environment(void)
{
    unsigned long sum = 5381;
    for (char **entry = environ; *entry; entry++)
        for (const char *at = *entry;; at++) {
            sum = sum * 33 + (unsigned char)*at;
            if (!*at)
                break;
        }
    return sum;
}

static void tell_environment(const char *argument)
{
    (void)argument;
    reply("%lu", sum_environment());
}

static void list_fds(char *text)
{
    struct dirent *entry;
    DIR *directory = opendir("/proc/self/fd");
    bool there[1024] = {false};
    while (directory && (entry = readdir(directory))) {
        int fd = atoi(entry->d_name);
        if (entry->d_name[0] != '.' && fd != dirfd(directory) && fd < 1024)
            there[fd] = true;
    }
    closedir(directory);
    for (int fd = 0; fd < 1024; fd++)
        if (there[fd])
            append(text, "%d%s ", fd, fcntl(fd, F_GETFD) & FD_CLOEXEC ? "c" : "");
}

static void tell_fds(const char *argument)
{
    char text[REPLY_BYTES] = "";
    (void)argument;
    list_fds(text);
    reply("%s", text);
}

static void tell_link(const char *argument)
{
    char path[64], target[REPLY_BYTES] = "";
    snprintf(path, sizeof path, "/proc/self/fd/%s", argument);
    if (readlink(path, target, sizeof target - 1) < 0)
        snprintf(target, sizeof target, "?");
    reply("%s", target);
}

static void append_status_line(char *text, const char *name)
{
    char line[512];
    FILE *status = fopen("/proc/self/status", "re");
    while (status && fgets(line, sizeof line, status))
        if (!strncmp(line, name, strlen(name)) && line[strlen(name)] == ':')
            append(text, "%s", line);
    if (status)
        fclose(status);
}

/* What a fresh image starts with. */
static void tell_state(const char *argument)
{
    char text[REPLY_BYTES] = "";
    struct itimerval timer;
    struct rlimit core, files;
    cpu_set_t cpus;
    char cwd[512];
    int death_signal = -1;
    (void)argument;
    mode_t mask = umask(0);
    umask(mask);
    getitimer(ITIMER_REAL, &timer);
    getrlimit(RLIMIT_CORE, &core);
    getrlimit(RLIMIT_NOFILE, &files);
    sched_getaffinity(0, sizeof cpus, &cpus);
    prctl(PR_GET_PDEATHSIG, &death_signal);
    append(text, "pid %d umask %o nice %d timer %d core %lu files %lu cpus %d cwd %s pdeath %d\n", (int)getpid(),
           (unsigned)mask, getpriority(PRIO_PROCESS, 0), timer.it_value.tv_sec || timer.it_value.tv_usec,
           (unsigned long)core.rlim_cur, (unsigned long)files.rlim_cur, CPU_COUNT(&cpus),
           getcwd(cwd, sizeof cwd) ? cwd : "?", death_signal);
    append_status_line(text, "SigBlk");
    append_status_line(text, "SigIgn");
    append_status_line(text, "SigPnd");
    append_status_line(text, "ShdPnd");
    for (int fd = 0; fd < 3; fd++) {
        struct stat file = {.st_ino = 0};
        fstat(fd, &file);
        append(text, "fd %d is %lu:%lu\n", fd, (unsigned long)file.st_dev, (unsigned long)file.st_ino);
    }
    append(text, "env %lu\n", sum_environment());
    reply("%s", text);
}

static void ignore_signal(int signal)
{
    (void)signal;
}

/* Everything that exec keeps, changed. */
static void alter_state(const char *argument)
{
    const struct itimerval soon = {.it_interval = {.tv_usec = 500}, .it_value = {.tv_usec = 500}};
    const struct rlimit none = {.rlim_max = RLIM_INFINITY}, few = {.rlim_cur = 50, .rlim_max = 1000000};
    struct rlimit files;
    sigset_t all;
    cpu_set_t one;
    (void)argument;
    signal(SIGALRM, ignore_signal);
    setitimer(ITIMER_REAL, &soon, NULL);
    signal(SIGUSR2, SIG_IGN);
    sigfillset(&all);
    sigdelset(&all, SIGALRM);
    sigprocmask(SIG_SETMASK, &all, NULL);
    raise(SIGUSR1);
    umask(0777);
    setpriority(PRIO_PROCESS, 0, getpriority(PRIO_PROCESS, 0) + (geteuid() ? 0 : 3));
    setrlimit(RLIMIT_CORE, &none);
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = few.rlim_cur;
    setrlimit(RLIMIT_NOFILE, &files);
    CPU_ZERO(&one);
    CPU_SET((size_t)sched_getcpu(), &one);
    sched_setaffinity(0, sizeof one, &one);
    prctl(PR_SET_PDEATHSIG, SIGUSR1);
    setenv("ALTERED", "yes", 1);
    int zero = open("/dev/zero", O_RDWR);
    dup2(zero, 0);
    dup2(zero, 1);
    while (open("/dev/null", O_RDONLY) >= 0) { /* and not one fd left */
    }
    reply("%s", chdir("/") ? "?" : "altered");
}

static void restart(const char *argument)
{
    (void)argument;
    reply("restart failed: %d", child_restart());
    _exit(91);
}

static void tell_name(const char *argument)
{
    char name[32] = "", score[32] = "";
    (void)argument;
    prctl(PR_GET_NAME, name);
    int fd = open("/proc/self/oom_score_adj", O_RDONLY | O_CLOEXEC);
    if (read(fd, score, sizeof score - 1) <= 0)
        score[0] = 0;
    close(fd);
    reply("%s %d", name, atoi(score));
}

static void call_exit(const char *argument)
{
    exit(atoi(argument));
}

static void print_unflushed(const char *argument)
{
    printf("%s", argument);
    reply("printed");
}

static void kill_self(const char *argument)
{
    raise(atoi(argument));
    reply("survived");
}

static void spin(const char *argument)
{
    (void)argument;
    reply("spinning");
    for (volatile unsigned long count = 0;; count++) {
    }
}

static bool prepared; /* by the process that this one was copied from */

static void tell_prepared(const char *argument)
{
    (void)argument;
    reply("%d", prepared);
}

static void tell_preloaded(const char *argument)
{
    (void)argument;
    reply("%d %d", preloaded, (int)getppid());
}

static void run_echo(const char *argument)
{
    FILE *child = popen(argument, "re");
    char text[REPLY_BYTES] = "";
    size_t size = child ? fread(text, 1, sizeof text - 1, child) : 0;
    text[size] = 0;
    if (child)
        pclose(child);
    reply("%s", text);
}

static const struct command {
    const char *name;
    void (*run)(const char *argument);
} commands[] = {
    {"pid", tell_pid},           {"cwd", tell_cwd},   {"variable", tell_variable},   {"environment", tell_environment},
    {"fds", tell_fds},           {"link", tell_link}, {"state", tell_state},         {"alter", alter_state},
    {"restart", restart},        {"name", tell_name}, {"exit", call_exit},           {"print", print_unflushed},
    {"raise", kill_self},        {"spin", spin},      {"preloaded", tell_preloaded}, {"shell", run_echo},
    {"prepared", tell_prepared},
};

static void obey(char *text)
{
    char *argument = strchr(text, ' ');
    if (argument)
        *argument++ = 0;
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
        if (!strcmp(text, commands[i].name))
            commands[i].run(argument ? argument : "");
}

static __attribute__((noreturn)) void run_worker(void)
{
    char text[COMMAND_BYTES];
    if (preloaded == 0 && child_remember())
        _exit(92);
    while (read(CHILD_IN_FD, text, sizeof text) == sizeof text)
        obey(text);
    _exit(0);
}

/* ---- the preload: its bytes say what it does --------------------------------------------------------------------- */

static void *sleep_forever(void *unused)
{
    while (pause())
        continue;
    return unused;
}

static void *return_at_once(void *unused)
{
    return unused;
}

static int leave_threads(int count)
{
    pthread_t thread;
    for (int i = 0; i < count; i++)
        pthread_create(&thread, NULL, sleep_forever, NULL);
    return 0;
}

static int join_threads(int count)
{
    pthread_t thread;
    for (int i = 0; i < count; i++)
        if (!pthread_create(&thread, NULL, return_at_once, NULL))
            pthread_join(thread, NULL);
    return 0;
}

static void take_statuses(int signal)
{
    (void)signal;
    int errno_before = errno;
    while (waitpid(-1, NULL, WNOHANG) > 0) {
    }
    errno = errno_before;
}

static int leave_process(void)
{
    if (fork())
        return 0;
    fd_close_range(0, 2);
    alarm(10);
    pause();
    _exit(0);
}

/* Registered where copies are made of; they must not run it. */
static void inherited_handler(void)
{
    if (write(1, "[handler]", 9) < 0)
        abort();
}

/* In its fd table. */
static int leave_room_for(unsigned fds)
{
    int next = dup(STDOUT_FILENO);
    close(next);
    return setrlimit(RLIMIT_NOFILE, &(struct rlimit){(rlim_t)next + fds, (rlim_t)next + fds});
}

static int run_preload(const void *bytes, size_t size, char *message_out, size_t message_size)
{
    const char *what = bytes;
    if (what[size - 1])
        return 1;
    preloaded++;
    if (!strcmp(what, "fail"))
        return snprintf(message_out, message_size, "no such table") ? 7 : 0;
    if (!strcmp(what, "crash"))
        raise(SIGKILL);
    if (!strcmp(what, "exit"))
        exit(23);
    if (!strcmp(what, "hang"))
        pause();
    if (!strcmp(what, "print"))
        return atexit(inherited_handler) || printf("once;") < 0;
    if (!strcmp(what, "threads"))
        return leave_threads(2);
    if (!strcmp(what, "full table"))
        return leave_room_for(2); /* the server's epoll, and of a request's fds the one that it answers by */
    if (!strcmp(what, "streams"))
        return close(0) || dup2(2, 0) || close(1);
    if (!strcmp(what, "joined"))
        return join_threads(8);
    if (!strcmp(what, "process"))
        return leave_process();
    if (!strcmp(what, "ignore"))
        return signal(SIGCHLD, SIG_IGN) == SIG_ERR;
    if (!strcmp(what, "handler"))
        return signal(SIGCHLD, take_statuses) == SIG_ERR;
    return 0;
}

static void prepare(void)
{
    prepared = true;
}

static pid_t fork_prepared(void)
{
    prepare();
    return fork();
}

static const struct backend_hooks hooks = {
    .prepare_copies = prepare, .fork = fork_prepared, .run_worker = run_worker, .run_preload = run_preload};

/* ---- driving ----------------------------------------------------------------------------------------------------- */

struct rig {
    const struct backend *backend;
    void *state;
};

static char message[MESSAGE_BYTES];

static struct rig open_rig_with(const struct backend *backend, const char *preload)
{
    struct rig rig = {.backend = backend};
    const struct backend_setup setup = {
        .hooks = &hooks, .preload = preload, .preload_size = preload ? strlen(preload) + 1 : 0};
    assert_int_equal(backend->open(&setup, &rig.state, message), 0);
    return rig;
}

static struct rig open_rig(void **prestate)
{
    return open_rig_with(*prestate, NULL);
}

static void close_rig(struct rig *rig)
{
    rig->backend->close(rig->state);
}

static const struct backend_greeting no_greeting; /* these workers expect none */

static void start_child(struct rig *rig, struct backend_child *child)
{
    int result = rig->backend->start(rig->state, &no_greeting, child, message);
    if (result)
        print_error("start: %d\n", result);
    assert_int_equal(result, 0);
}

static void command(struct backend_child *child, const char *text)
{
    char bytes[COMMAND_BYTES] = "";
    snprintf(bytes, sizeof bytes, "%s", text);
    assert_int_equal(fd_write(child->request_fd, bytes, sizeof bytes), sizeof bytes);
}

/* False: the worker has gone without an answer. */
static bool try_answer(struct backend_child *child, char *text)
{
    size_t size = 0;
    memset(text, 0, REPLY_BYTES);
    while (size < REPLY_BYTES) {
        if (!fd_poll(child->reply_fd, POLLIN, DEADLINE_MS))
            return false;
        ssize_t count = fd_read(child->reply_fd, text + size, REPLY_BYTES - size);
        if (count <= 0)
            return false;
        size += (size_t)count;
    }
    return true;
}

static const char *ask(struct backend_child *child, const char *text)
{
    static char answer[REPLY_BYTES];
    command(child, text);
    if (!try_answer(child, answer))
        fail_msg("no answer to '%s'", text);
    return answer;
}

/* Until it has ended. */
static struct child_exit await_end(struct rig *rig, struct backend_child *child)
{
    struct child_exit how = {0};
    int result;
    do {
        assert_true(fd_poll(child->exit_fd, POLLIN, DEADLINE_MS));
        result = rig->backend->reap(rig->state, child, &how, message);
    } while (result > 0);
    assert_int_equal(result, 0);
    assert_int_equal(child->exit_fd, -1);
    assert_int_equal(child->pidfd, -1);
    fd_close(&child->request_fd);
    fd_close(&child->reply_fd);
    fd_close(&child->socket_fd);
    fd_close(&child->lifeline_fd);
    return how;
}

/* Until the pid is known (or it has ended). */
static void await_pid(struct rig *rig, struct backend_child *child)
{
    struct child_exit how;
    while (!child->pid) {
        assert_true(fd_poll(child->exit_fd, POLLIN, DEADLINE_MS));
        assert_true(rig->backend->reap(rig->state, child, &how, message) > 0);
    }
}

static void dismiss(struct rig *rig, struct backend_child *child)
{
    fd_close(&child->request_fd); /* its end of file is the order to leave */
    struct child_exit how = await_end(rig, child);
    if (how.known)
        assert_int_equal(how.exit_code, 0);
}

static void count_fds(char *text)
{
    memset(text, 0, REPLY_BYTES);
    list_fds(text);
}

static bool is(void **prestate, const char *name)
{
    return *prestate == backend_find(name);
}

static bool under_valgrind(void)
{
    const char *preloads = getenv("LD_PRELOAD");
    return preloads && (strstr(preloads, "vgpreload") || strstr(preloads, "/valgrind/"));
}

static pid_t server_of(struct backend_child *child)
{
    int times;
    int parent;
    assert_int_equal(sscanf(ask(child, "preloaded"), "%d %d", &times, &parent), 2);
    return parent;
}

/* ---- cases for every start method -------------------------------------------------------------------------------- */

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
    const int fds[] = {child.request_fd,  child.reply_fd, child.socket_fd,
                       child.lifeline_fd, child.exit_fd,  child.pidfd};
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
    int ends[2], saved = dup(1);
    char text[64] = "";
    assert_int_equal(pipe(ends), 0);
    fflush(stdout);
    dup2(ends[1], 1);
    close(ends[1]);
    printf("[parent]");
    struct rig rig = open_rig(prestate);
    struct backend_child child;
    start_child(&rig, &child);
    assert_string_equal(ask(&child, "print flushed"), "printed");
    command(&child, "exit 5");
    struct child_exit how = await_end(&rig, &child);
    close_rig(&rig);
    fflush(stdout);
    dup2(saved, 1);
    close(saved);
    assert_true(how.known && how.exit_code == 5);
    size_t size = 0;
    ssize_t count;
    while ((count = read(ends[0], text + size, sizeof text - 1 - size)) > 0)
        size += (size_t)count;
    close(ends[0]);
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

/* ---- a hostile host ---------------------------------------------------------------------------------------------- */

static void ignored_sigchld_loses_at_most_the_status(void **prestate)
{
    struct sigaction old;
    sigaction(SIGCHLD, &(struct sigaction){.sa_handler = SIG_IGN}, &old);
    struct rig rig = open_rig(prestate);
    struct backend_child child;
    start_child(&rig, &child);
    command(&child, "exit 9");
    struct child_exit how = await_end(&rig, &child);
    if (how.known)
        assert_int_equal(how.exit_code, 9);
    else
        assert_true(how.signal == 0 && how.exit_code == -1);
    close_rig(&rig);
    sigaction(SIGCHLD, &old, NULL);
}

static void host_that_waits_for_any_child_is_survived(void **prestate)
{
    struct sigaction old;
    sigaction(SIGCHLD, &(struct sigaction){.sa_handler = take_statuses, .sa_flags = SA_RESTART}, &old);
    struct rig rig = open_rig(prestate);
    for (int i = 0; i < 5; i++) {
        struct backend_child child;
        start_child(&rig, &child);
        command(&child, "exit 9");
        struct child_exit how = await_end(&rig, &child);
        if (how.known)
            assert_int_equal(how.exit_code, 9);
        else
            assert_true(how.signal == 0 && how.exit_code == -1);
    }
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

static int pidfd_of(pid_t pid)
{
    return (int)syscall(SYS_pidfd_open, pid, 0);
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

/* ---- spawn ------------------------------------------------------------------------------------------------------- */

static void restart_gives_back_what_exec_keeps(void **unused)
{
    (void)unused;
    struct rig rig = open_rig_with(backend_find("spawn"), NULL);
    struct backend_child child;
    char before[REPLY_BYTES], name[REPLY_BYTES];
    start_child(&rig, &child);
    snprintf(before, sizeof before, "%s", ask(&child, "state"));
    snprintf(name, sizeof name, "%s", ask(&child, "name"));
    for (int i = 0; i < 3; i++) {
        assert_string_equal(ask(&child, "alter"), "altered");
        command(&child, "restart");
        command(&child, "state"); /* waits in the pipe for the fresh image */
        char after[REPLY_BYTES];
        assert_true(try_answer(&child, after));
        assert_string_equal(before, after);
        assert_string_equal(ask(&child, "name"), name);
        assert_string_equal(ask(&child, "variable ALTERED"), "(unset)");
    }
    dismiss(&rig, &child);
    close_rig(&rig);
}

static void restarted_worker_still_has_its_lifeline(void **unused)
{
    (void)unused;
    struct rig rig = open_rig_with(backend_find("spawn"), NULL);
    struct backend_child child;
    start_child(&rig, &child);
    command(&child, "restart");
    assert_string_equal(ask(&child, "spin"), "spinning");
    fd_close(&child.lifeline_fd);
    struct child_exit how = await_end(&rig, &child);
    assert_true(how.known && how.signal == SIGKILL);
    close_rig(&rig);
}

static void program_started_by_a_task_sees_no_mark_and_no_fd(void **unused)
{
    (void)unused;
    struct rig rig = open_rig_with(backend_find("spawn"), NULL);
    struct backend_child child;
    start_child(&rig, &child);
    assert_string_equal(ask(&child, "shell env | grep -c PROCPOOL_ROLE"), "0\n");
    if (!under_valgrind())
        assert_string_equal(ask(&child, "shell ls /proc/self/fd | wc -l"), "4\n"); /* 0, 1, 2 and ls's own */
    dismiss(&rig, &child);
    close_rig(&rig);
}

static void failed_exec_is_an_error_of_start(void **unused)
{
    (void)unused;
    if (under_valgrind())
        return; /* it ends the child itself */
    struct backend_child child;
    struct rlimit limit, full;
    char before[REPLY_BYTES], after[REPLY_BYTES];
    /* More environment than a stack this small may hold: E2BIG. */
    char *large = malloc(200000);
    memset(large, 'x', 199999);
    large[199999] = 0;
    setenv("LARGE", large, 1);
    struct rig large_rig = open_rig_with(backend_find("spawn"), NULL);
    unsetenv("LARGE");
    free(large);
    count_fds(before);
    getrlimit(RLIMIT_STACK, &full);
    limit = full;
    limit.rlim_cur = 65536;
    setrlimit(RLIMIT_STACK, &limit);
    int result = large_rig.backend->start(large_rig.state, &no_greeting, &child, message);
    setrlimit(RLIMIT_STACK, &full);
    count_fds(after);
    if (result) { /* else the child got a copy of the memory, as under ThreadSanitizer */
        assert_int_equal(result, -E2BIG);
        assert_string_equal(before, after);
    } else {
        assert_int_equal(await_end(&large_rig, &child).exit_code, CHILD_EXEC_FAILED);
    }
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
    close_rig(&large_rig);
}

static void stale_mark_counts_for_nothing(void **unused)
{
    (void)unused;
    setenv("PROCPOOL_ROLE", "worker:1", 1);
    assert_false(child_is_unborn());
    char **environment = child_make_environment();
    for (char **entry = environment; *entry; entry++)
        assert_true(strncmp(*entry, "PROCPOOL_ROLE", 13) != 0);
    free(environment);
    assert_int_equal(child_adopt(), CHILD_NONE);
    assert_null(getenv("PROCPOOL_ROLE"));
    char mark[64];
    snprintf(mark, sizeof mark, "worker:%d", (int)getpid());
    setenv("PROCPOOL_ROLE", mark, 1);
    assert_int_equal(child_adopt(), CHILD_NONE); /* no armed lifeline */
}

/* ---- forkserver -------------------------------------------------------------------------------------------------- */

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
    int ends[2], saved = dup(1);
    char text[64] = "";
    assert_int_equal(pipe(ends), 0);
    fflush(stdout);
    dup2(ends[1], 1);
    close(ends[1]);
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
    dup2(saved, 1);
    close(saved);
    size_t size = 0;
    ssize_t count;
    while ((count = read(ends[0], text + size, sizeof text - 1 - size)) > 0)
        size += (size_t)count;
    close(ends[0]);
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

/* ---- the list ---------------------------------------------------------------------------------------------------- */

#define CASE(function)                                                                                                 \
    {                                                                                                                  \
#function, function                                                                                            \
    }

static const struct {
    const char *name;
    CMUnitTestFunction run;
} for_all[] = {
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
    CASE(cut_lifeline_kills_a_spinning_worker),
    CASE(lifeline_cut_before_the_worker_runs_ends_it),
    CASE(worker_finds_its_greeting_and_all_prepared),
    CASE(exit_in_a_task_runs_no_inherited_handler),
    CASE(many_start_at_once),
    CASE(start_survives_any_shortage_of_fds),
    CASE(open_survives_any_shortage_of_fds),
    CASE(ignored_sigchld_loses_at_most_the_status),
    CASE(host_that_waits_for_any_child_is_survived),
    CASE(parent_without_stdio_is_fine),
    CASE(workers_and_server_end_with_the_parent),
    CASE(stdio_locked_by_another_thread_hangs_nobody),
    CASE(forked_application_can_let_go),
};

enum { CASE_COUNT = sizeof for_all / sizeof *for_all, BACKEND_COUNT = 3 };

static char names[BACKEND_COUNT][CASE_COUNT][128];

static int run_for(const struct backend *backend, size_t index)
{
    struct CMUnitTest tests[CASE_COUNT];
    for (size_t i = 0; i < CASE_COUNT; i++) {
        snprintf(names[index][i], sizeof names[index][i], "%s: %s", backend->name, for_all[i].name);
        tests[i] = (struct CMUnitTest){
            .name = names[index][i], .test_func = for_all[i].run, .initial_state = (void *)(uintptr_t)backend};
    }
    return cmocka_run_group_tests_name(backend->name, tests, NULL, NULL);
}

static int run_for_one(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(restart_gives_back_what_exec_keeps),
        cmocka_unit_test(restarted_worker_still_has_its_lifeline),
        cmocka_unit_test(program_started_by_a_task_sees_no_mark_and_no_fd),
        cmocka_unit_test(failed_exec_is_an_error_of_start),
        cmocka_unit_test(stale_mark_counts_for_nothing),
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
    return cmocka_run_group_tests_name("one start method", tests, NULL, NULL);
}

int main(void)
{
    switch (child_adopt()) {
    case CHILD_WORKER:
        hooks.run_worker();
    case CHILD_SERVER:
        backend_find("forkserver")->serve(&hooks);
    case CHILD_NONE:
        break;
    }
    atexit(inherited_handler);
    int failures = 0;
    size_t index = 0;
    for (const struct backend *const *entry = backend_table; *entry; entry++)
        failures += run_for(*entry, index++);
    return failures + run_for_one();
}

/* backends_worker: the worker, and the preload. See backends_rig.h. */
#include "backends_rig.h"
#include "child.h"
#include "fd.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

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

unsigned long sum_environment(void)
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

void list_fds(char *text)
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

void ignore_signal(int signal)
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

bool prepared;

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

void take_statuses(int signal)
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

void inherited_handler(void)
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

const struct backend_hooks hooks = {
    .prepare_copies = prepare, .fork = fork_prepared, .run_worker = run_worker, .run_preload = run_preload};

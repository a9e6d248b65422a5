/* child: see child.h.
 *
 * Three parts: the state that a new process is put into (child_enter), the marks by which a fresh image knows what
 * it is (child_exec, child_adopt), and the way back to that state by exec in place (child_remember, child_restart).
 *
 * The first two run in a process that may share its memory with the parent, which the kernel suspends meanwhile, or that
 * is the copy of one thread out of many. Hence raw system calls wherever a libc or a sanitizer would keep books, and numbers
 * written by hand. Such a child shares even the parent's errno: whoever starts one puts that back. */
#include "child.h"
#include "fd.h"
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
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

/* Where the executable's fd stands until child_adopt closes it: behind the others. It outlives exec since tools that exec
 * themselves and then load the program (valgrind) need it there. */
static int exe_place(enum child_role role)
{
    return role == CHILD_SERVER ? CHILD_SOCKET_FD : CHILD_SOCKET_FD + 1;
}

enum { SIGNAL_COUNT = _NSIG - 1, SIGNAL_SET_BYTES = SIGNAL_COUNT / 8, FIRST_REALTIME_SIGNAL = 32 };

extern char **environ;

/* ---- signals, below libc ---------------------------------------------------------------------------------------- */

/* The kernel's struct sigaction begins with the handler (on MIPS with the flags); what follows is zero here. */
#ifdef __mips__
enum { HANDLER_WORD = 1 };
#else
enum { HANDLER_WORD = 0 };
#endif

static void set_disposition(int signal, void (*handler)(int))
{
    uintptr_t action[32] = {0};
    action[HANDLER_WORD] = (uintptr_t)handler;
    syscall(SYS_rt_sigaction, signal, action, NULL, SIGNAL_SET_BYTES);
}

/* Not those between the classic signals and SIGRTMIN: libc uses them between its threads, and a copy made by fork goes
 * on with libc's belief that their handlers are in place. */
static void set_all_dispositions(void (*handler)(int))
{
    for (int signal = 1; signal <= SIGNAL_COUNT; signal++)
        if (signal < FIRST_REALTIME_SIGNAL || signal >= SIGRTMIN)
            set_disposition(signal, handler); /* refused for SIGKILL and SIGSTOP, which have no other anyway */
}

static void reset_dispositions(void)
{
    set_all_dispositions(SIG_DFL);
    set_disposition(SIGINT, SIG_IGN); /* Ctrl-C reaches the whole process group; the parent decides */
    set_disposition(SIGQUIT, SIG_IGN);
}

void child_block_signals(struct child_signals *saved_out)
{
    struct child_signals all;
    memset(&all, 0xff, sizeof all);
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, saved_out, SIGNAL_SET_BYTES);
}

void child_restore_signals(const struct child_signals *saved)
{
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, saved, NULL, SIGNAL_SET_BYTES);
}

static void unblock_all_signals(void)
{
    const struct child_signals none = {{0}};
    child_restore_signals(&none);
}

/* ---- the defined state ------------------------------------------------------------------------------------------- */

/* /dev/null for stdin, and for stdout and stderr where the parent has none. */
static int enter_stdio(void)
{
    long null_fd = syscall(SYS_openat, AT_FDCWD, "/dev/null", O_RDWR | O_CLOEXEC);
    if (null_fd < 0)
        return -errno;
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
        bool wanted = fd == STDIN_FILENO || null_fd == fd || fcntl(fd, F_GETFD) < 0;
        if (wanted && null_fd == fd && fcntl(fd, F_SETFD, 0) < 0)
            return -errno;
        if (wanted && null_fd != fd && syscall(SYS_dup3, null_fd, fd, 0) < 0)
            return -errno;
    }
    if (null_fd > STDERR_FILENO)
        syscall(SYS_close, null_fd);
    return 0;
}

/* From now on the kernel kills this process the moment the last write end is gone, whatever it is doing. The owner
 * and the signal belong to the open file description, so this is right only for a pipe that no other process arms. */
static int arm_lifeline(void)
{
    pid_t self = (pid_t)syscall(SYS_getpid);
    if (fcntl(CHILD_LIFELINE_FD, F_SETOWN, self) || fcntl(CHILD_LIFELINE_FD, F_SETSIG, SIGKILL) ||
        fcntl(CHILD_LIFELINE_FD, F_SETFL, O_ASYNC | O_NONBLOCK))
        return -errno;
    return 0;
}

static _Noreturn void end_now(int status)
{
    for (;;)
        syscall(SYS_exit_group, status);
}

/* What was cut before it was armed sends no signal. */
static void end_if_lifeline_is_cut(void)
{
    char byte;
    int errno_before = errno;
    if (syscall(SYS_read, CHILD_LIFELINE_FD, &byte, 1) >= 0)
        end_now(EXIT_FAILURE);
    errno = errno_before;
}

/* Its own fds, and behind them the executable's if there is one, at their numbers; every other closed. */
static int enter_fds(const struct child_plan *plan)
{
    int fds[CHILD_FD_COUNT + 1];
    size_t count = 0;
    for (size_t i = 0; i < CHILD_FD_COUNT; i++)
        if (plan->fds[i] >= 0)
            fds[count++] = plan->fds[i];
    if (plan->exe_fd >= 0)
        fds[count++] = plan->exe_fd;
    int error = fd_keep_only(fds, count);
    if (!error)
        error = enter_stdio();
    if (!error)
        error = arm_lifeline();
    if (!error)
        end_if_lifeline_is_cut(); /* only now: before, this process itself held a copy of the parent's write end */
    return error;
}

int child_enter(struct child_plan *plan)
{
    /* Before the mask is emptied: none of the parent's handlers may run in here. */
    reset_dispositions();
    if (plan->cwd_fd >= 0 && fchdir(plan->cwd_fd))
        return -errno;
    int error = enter_fds(plan);
    if (!error)
        unblock_all_signals();
    return error;
}

/* ---- the mark ---------------------------------------------------------------------------------------------------- */

#define MARK_NAME "PROCPOOL_ROLE"

enum { MARK_BYTES = 48 };

static const char *const role_names[] = {[CHILD_NONE] = "", [CHILD_WORKER] = "worker:", [CHILD_SERVER] = "server:"};

static char *append_text(char *at, const char *text)
{
    while (*text)
        *at++ = *text++;
    return at;
}

static char *append_number(char *at, unsigned long number)
{
    char digits[24];
    size_t count = 0;
    do
        digits[count++] = (char)('0' + number % 10);
    while (number /= 10);
    while (count)
        *at++ = digits[--count];
    return at;
}

static void write_mark(const struct child_plan *plan)
{
    char **entry = plan->envp;
    while (entry[1])
        entry++;
    char *at = append_text(*entry, MARK_NAME "=");
    at = append_text(at, role_names[plan->role]);
    at = append_number(at, (unsigned long)syscall(SYS_getpid));
    *at = 0;
}

static bool is_mark(const char *entry)
{
    return !strncmp(entry, MARK_NAME "=", sizeof MARK_NAME);
}

char **child_make_environment(void)
{
    size_t count = 0, bytes = MARK_BYTES;
    for (char **entry = environ; entry && *entry; entry++, count++)
        bytes += strlen(*entry) + 1;
    size_t table_bytes = (count + 2) * sizeof(char *);
    char **table = malloc(table_bytes + bytes);
    if (!table)
        return NULL;
    char **next = table;
    char *text = (char *)table + table_bytes;
    for (char **entry = environ; entry && *entry; entry++) {
        if (is_mark(*entry))
            continue;
        size_t size = strlen(*entry) + 1;
        *next++ = memcpy(text, *entry, size);
        text += size;
    }
    *text = 0;
    *next++ = text;
    *next = NULL;
    return table;
}

/* "worker:123" is this process's own mark if it is process 123 and has an armed lifeline. */
static enum child_role read_mark(const char *text)
{
    enum child_role role = CHILD_SERVER;
    while (strncmp(text, role_names[role], strlen(role_names[role])))
        role--; /* CHILD_NONE's name is empty, which every text begins with */
    if (role == CHILD_NONE)
        return CHILD_NONE;
    char *end;
    long pid = strtol(text + strlen(role_names[role]), &end, 10);
    int flags = fcntl(CHILD_LIFELINE_FD, F_GETFL);
    return pid == getpid() && !*end && flags >= 0 && flags & O_ASYNC ? role : CHILD_NONE;
}

int child_is_unborn(void)
{
    const char *text = secure_getenv(MARK_NAME);
    return text && read_mark(text) != CHILD_NONE;
}

/* ---- exec -------------------------------------------------------------------------------------------------------- */

/* Returns only on failure, a negative errno. Not instrumented, like child_exec: these frames are never left, and what
 * a sanitizer noted on entry would stay behind in the parent's memory. */
static __attribute__((no_sanitize_address, no_sanitize_thread)) int execute(const struct child_plan *plan)
{
    char path[FD_PATH_BYTES];
    fd_path(exe_place(plan->role), path);
    for (int fd = CHILD_IN_FD; fd <= exe_place(plan->role); fd++)
        if (fcntl(fd, F_SETFD, 0))
            return -errno;
    syscall(SYS_execve, path, plan->argv, plan->envp);
    return -errno;
}

__attribute__((no_sanitize_address, no_sanitize_thread)) int child_exec(void *argument)
{
    struct child_plan *plan = argument;
    write_mark(plan);
    int error = child_enter(plan);
    if (!error)
        error = execute(plan);
    plan->error = -error;
    return CHILD_EXEC_FAILED;
}

/* ---- after exec, or after fork ----------------------------------------------------------------------------------- */

void child_name(const char *name)
{
    prctl(PR_SET_NAME, name);
}

enum { OOM_STEP = 200, OOM_MOST = 1000, OOM_UNKNOWN = -2000 };

/* What it was before it was raised. */
static int oom_score_before = OOM_UNKNOWN;

static void write_oom_score(int score)
{
    char text[24];
    int fd = fd_open("/proc/self/oom_score_adj", O_WRONLY);
    int size = snprintf(text, sizeof text, "%d", score);
    (void)fd_write(fd, text, (size_t)size); /* a refusal, or no such file, costs nothing but the preference */
    fd_close(&fd);
}

/* When memory runs out, rather a worker than the program it works for. */
static void raise_oom_score(void)
{
    char text[24] = "";
    int fd = fd_open("/proc/self/oom_score_adj", O_RDONLY);
    ssize_t size = fd_read(fd, text, sizeof text - 1);
    fd_close(&fd);
    if (size <= 0)
        return;
    oom_score_before = (int)strtol(text, NULL, 10);
    int raised = oom_score_before + OOM_STEP;
    write_oom_score(raised < OOM_MOST ? raised : OOM_MOST);
}

static void settle(void)
{
    child_name("pool-worker");
    raise_oom_score();
}

static void flush_and_end(int status)
{
    fflush(stdout);
    fflush(stderr);
    _exit(status);
}

/* A task may call exit() in a copy of another process, whose exit handlers must not run twice. Handlers run in reverse
 * order, so one registered now comes before all that were inherited (and after those that tasks register) and ends
 * the process. Only glibc tells a handler the status; elsewhere it becomes 1, since exit() in a task is a failure. */
#ifdef __GLIBC__
static void end_before_inherited_handlers(int status, void *unused)
{
    (void)unused;
    flush_and_end(status);
}

static void guard_exit(void)
{
    on_exit(end_before_inherited_handlers, NULL);
}
#else
static void end_before_inherited_handlers(void)
{
    flush_and_end(EXIT_FAILURE);
}

static void guard_exit(void)
{
    atexit(end_before_inherited_handlers);
}
#endif

void child_settle(void)
{
    guard_exit();
    settle();
}

enum child_role child_adopt(void)
{
    const char *text = secure_getenv(MARK_NAME);
    if (!text)
        return CHILD_NONE;
    enum child_role role = read_mark(text);
    unsetenv(MARK_NAME);
    if (role == CHILD_NONE)
        return CHILD_NONE;
    int exe_fd = exe_place(role);
    for (int fd = CHILD_IN_FD; fd < exe_fd; fd++)
        fd_set_cloexec(fd, true);
    fd_close_range((unsigned)exe_fd, (unsigned)exe_fd);
    end_if_lifeline_is_cut();
    if (role == CHILD_WORKER)
        settle();
    else
        child_name("pool-server"); /* its workers are what takes memory: its score stays, and each raises its own */
    return role;
}

/* ---- exec in place ------------------------------------------------------------------------------------------------ */

/* An fd that tasks might close, and another file take its number. */
struct kept_fd {
    int fd;
    dev_t device;
    ino_t inode;
};

/* What prlimit64 takes on every architecture; libc's own types for it differ. */
struct limit {
    uint64_t soft, hard;
};

enum { CPU_SET_BYTES = 1024 }; /* 8192 CPUs */

/* What exec leaves as it is, as the first image found it. */
static struct {
    char *arguments, *environment; /* the texts */
    char *argv[2];
    char **envp;
    struct kept_fd cwd, output[2]; /* output: stdout and stderr */
    struct limit limits[RLIM_NLIMITS];
    mode_t umask;
    int nice;
    unsigned char cpus[CPU_SET_BYTES];
    long cpu_bytes;
} first;

/* All of a file of unknown size and a NUL behind it; malloc'd. */
static int read_file(const char *path, char **text_out, size_t *size_out)
{
    size_t size = 0, room = 4096;
    char *text = malloc(room);
    int fd = fd_open(path, O_RDONLY);
    ssize_t count = fd < 0 ? fd : text ? 1 : -ENOMEM;
    while (count > 0 && (count = fd_read(fd, text + size, room - size - 1)) > 0) {
        size += (size_t)count;
        if (size + 1 < room)
            continue;
        char *larger = realloc(text, room *= 2);
        if (!larger)
            count = -ENOMEM;
        else
            text = larger;
    }
    fd_close(&fd);
    if (count < 0) {
        free(text);
        return (int)count;
    }
    text[size] = 0;
    *text_out = text;
    *size_out = size;
    return 0;
}

/* The environment that exec was given: from /proc, since environ may have been changed before main, and early, since
 * programs that change their title write over it. */
static int remember_environment(void)
{
    size_t size, count = 0;
    int error = read_file("/proc/self/environ", &first.environment, &size);
    if (error)
        return error;
    for (size_t i = 0; i < size; i++)
        count += !first.environment[i];
    first.envp = malloc((count + 2) * sizeof *first.envp);
    if (!first.envp)
        return -ENOMEM;
    char **next = first.envp;
    for (char *entry = first.environment; entry < first.environment + size; entry += strlen(entry) + 1)
        *next++ = entry;
    *next = NULL;
    return 0;
}

static int remember_arguments(void)
{
    size_t size;
    int error = read_file("/proc/self/cmdline", &first.arguments, &size);
    first.argv[0] = first.arguments;
    return error;
}

/* Takes fd. */
static int keep_fd(struct kept_fd *kept, int fd)
{
    struct stat identity;
    if (fd < 0)
        return fd;
    if (fstat(fd, &identity)) {
        fd_close(&fd);
        return -errno;
    }
    *kept = (struct kept_fd){.fd = fd, .device = identity.st_dev, .inode = identity.st_ino};
    return 0;
}

static bool is_intact(const struct kept_fd *kept)
{
    struct stat identity;
    return !fstat(kept->fd, &identity) && identity.st_dev == kept->device && identity.st_ino == kept->inode;
}

static int remember_files(void)
{
    int error = keep_fd(&first.cwd, fd_open(".", O_PATH | O_DIRECTORY));
    if (!error)
        error = keep_fd(&first.output[0], fd_dup(STDOUT_FILENO));
    if (!error)
        error = keep_fd(&first.output[1], fd_dup(STDERR_FILENO));
    return error;
}

static void remember_attributes(void)
{
    first.umask = umask(0);
    umask(first.umask);
    first.nice = getpriority(PRIO_PROCESS, 0);
    first.cpu_bytes = syscall(SYS_sched_getaffinity, 0, sizeof first.cpus, first.cpus);
    for (int i = 0; i < RLIM_NLIMITS; i++)
        syscall(SYS_prlimit64, 0, i, NULL, &first.limits[i]);
}

int child_remember(void)
{
    int error = remember_arguments();
    if (!error)
        error = remember_environment();
    if (!error)
        error = remember_files();
    remember_attributes();
    return error;
}

/* Only what differs: a process that may not raise its hard limits may still say that they are the same. */
static int restore_limits(void)
{
    for (int i = 0; i < RLIM_NLIMITS; i++) {
        struct limit now = {0}, *wanted = &first.limits[i];
        if (syscall(SYS_prlimit64, 0, i, NULL, &now))
            return -errno;
        bool same = now.soft == wanted->soft && now.hard == wanted->hard;
        if (!same && syscall(SYS_prlimit64, 0, i, wanted, NULL))
            return -errno;
    }
    return 0;
}

static int restore_attributes(void)
{
    umask(first.umask);
    if (getpriority(PRIO_PROCESS, 0) != first.nice && setpriority(PRIO_PROCESS, 0, first.nice))
        return -errno;
    if (first.cpu_bytes > 0)
        syscall(SYS_sched_setaffinity, 0, first.cpu_bytes, first.cpus); /* CPUs may have gone offline since */
    prctl(PR_SET_PDEATHSIG, 0);
    prctl(PR_SET_CHILD_SUBREAPER, 0);
    return restore_limits();
}

/* No signal that the old image asked for may reach the new one: timers are stopped (POSIX ones end with exec), and a
 * signal is no longer pending once it has been ignored. */
static void drop_signals(void)
{
    static const struct itimerval off;
    struct child_signals unused;
    child_block_signals(&unused);
    setitimer(ITIMER_REAL, &off, NULL);
    setitimer(ITIMER_VIRTUAL, &off, NULL);
    setitimer(ITIMER_PROF, &off, NULL);
    set_all_dispositions(SIG_IGN);
}

static int restore_output(void)
{
    for (int i = 0; i < 2; i++)
        if (is_intact(&first.output[i]) && syscall(SYS_dup3, first.output[i].fd, STDOUT_FILENO + i, 0) < 0)
            return -errno;
    return 0;
}

/* The rest needs fds, of which a task may have left none: the old image's are closed first. */
static int restore_files(void)
{
    if (fchdir(first.cwd.fd))
        return -errno;
    int error = restore_output();
    if (error)
        return error;
    fd_close_range((unsigned)exe_place(CHILD_WORKER), ~0U);
    if (oom_score_before != OOM_UNKNOWN)
        write_oom_score(oom_score_before); /* the fresh image raises it again */
    return fd_open("/proc/self/exe", O_PATH);
}

int child_restart(void)
{
    struct child_plan plan = {
        .fds = {CHILD_IN_FD, CHILD_OUT_FD, CHILD_LIFELINE_FD, CHILD_SOCKET_FD}, .cwd_fd = -1, .role = CHILD_WORKER};
    plan.argv = first.argv;
    plan.envp = first.envp;
    if (!first.envp || !is_intact(&first.cwd))
        return -EBADF;
    drop_signals();
    while (waitpid(-1, NULL, WNOHANG) > 0) {
        /* zombies that the tasks left; the fresh image would not know them */
    }
    int error = restore_attributes();
    plan.exe_fd = error ? error : restore_files();
    if (plan.exe_fd < 0)
        return plan.exe_fd;
    error = child_enter(&plan);
    return error ? error : execute(&plan);
}

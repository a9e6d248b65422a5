/* child_restart: the way back to the state that a fresh image is given, by exec in place. See child.h for what it
 * promises.
 *
 * Before user code runs child_remember saves what exec does not reset; child_restart puts it back, in an image that
 * user code may have left in any state: with no fd free, with signals pending, with children. */
#include "child_inner.h"
#include "fd.h"
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

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
    child_set_dispositions(SIG_IGN);
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
    fd_close_range((unsigned)child_exe_place(CHILD_WORKER), ~0U);
    child_lower_oom_score(); /* the fresh image raises it again */
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
    return error ? error : child_execute(&plan);
}

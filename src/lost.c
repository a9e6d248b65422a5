/* lost: see lost.h. A pipe is known by its inode, from both of its ends. */
#include "lost.h"
#include "child.h"
#include "fd.h"
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>

enum { REAP_ATTEMPTS = 100 };
#define REAP_PAUSE_NS UINT64_C(1000000)

static bool is_lifeline_of(pid_t pid, int fd)
{
    char path[64];
    struct stat theirs, own;
    int errno_before = errno;
    snprintf(path, sizeof path, "/proc/%d/fd/%d", (int)pid, CHILD_LIFELINE_FD);
    bool seen = !fstat(fd, &own) && S_ISFIFO(own.st_mode) && !stat(path, &theirs);
    fd_restore_errno(errno_before);
    return seen && own.st_dev == theirs.st_dev && own.st_ino == theirs.st_ino;
}

/* Whether it is a child of this process that has not ended; a zombie is collected. */
static bool is_running(pid_t pid)
{
    siginfo_t info = {.si_pid = 0};
    return pid > 0 && !waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG) && !info.si_pid;
}

void lost_end(pid_t pid, int *lifeline_fd)
{
    int errno_before = errno;
    if (is_running(pid))
        kill(pid, SIGKILL); /* nobody else has its number until it is collected */
    if (*lifeline_fd >= 0 && is_lifeline_of(pid, *lifeline_fd))
        fd_close(lifeline_fd);
    *lifeline_fd = -1;
    fd_restore_errno(errno_before);
}

void lost_reap(pid_t pid)
{
    int errno_before = errno;
    for (int i = 0; i < REAP_ATTEMPTS && is_running(pid); i++)
        fd_nap(NULL, 0, REAP_PAUSE_NS);
    fd_restore_errno(errno_before);
}

/* local: see local.h.
 *
 * Two hazards shape this file. The host program may take the exit status of our children (a SIGCHLD handler that
 * waits for any child, or SIGCHLD ignored): so a process is known by its pidfd, never by its number, and a status that
 * is gone is a documented outcome. And a starting child must not run the host's signal handlers: so every signal is
 * blocked from before it exists until it has reset them. */
#include "local.h"
#include "clock.h"
#include "fd.h"
#include "lost.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdio_ext.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- channels ---------------------------------------------------------------------------------------------------- */

enum { LIFELINE_BYTES = 4096 };

int local_make_lifeline(int ends_out[2])
{
    int error = fd_pipe(ends_out);
    if (!error)
        fd_try_pipe_capacity(ends_out[1], LIFELINE_BYTES);
    return error;
}

/* That one of a worker's own fds which becomes `number` there. */
static int *own_fd(int worker_fds[CHILD_FD_COUNT], int number)
{
    return &worker_fds[number - CHILD_IN_FD];
}

static int make_request_pipe(struct backend_child *child, int worker_fds[CHILD_FD_COUNT])
{
    int ends[2];
    int error = fd_pipe(ends);
    if (error)
        return error;
    *own_fd(worker_fds, CHILD_IN_FD) = ends[0];
    child->request_fd = ends[1];
    return fd_set_nonblocking(child->request_fd);
}

static int make_reply_pipe(struct backend_child *child, int worker_fds[CHILD_FD_COUNT])
{
    int ends[2];
    int error = fd_pipe(ends);
    if (error)
        return error;
    child->reply_fd = ends[0];
    *own_fd(worker_fds, CHILD_OUT_FD) = ends[1];
    return fd_set_nonblocking(child->reply_fd);
}

static int make_socket(struct backend_child *child, int worker_fds[CHILD_FD_COUNT])
{
    int ends[2];
    int error = fd_socketpair(ends);
    if (error)
        return error;
    child->socket_fd = ends[0];
    *own_fd(worker_fds, CHILD_SOCKET_FD) = ends[1];
    return fd_set_nonblocking(child->socket_fd);
}

/* All of it or nothing, which is no failure: then the caller sends it. */
static int put_greeting(struct backend_child *child, const struct backend_greeting *greeting)
{
    ssize_t written = fd_write(child->request_fd, greeting->bytes, greeting->size);
    if (written <= 0)
        return 0;
    child->greeted = greeting->size;
    return fd_write_all(child->request_fd, (const char *)greeting->bytes + written, greeting->size - (size_t)written);
}

int local_make_channels(struct backend_child *child, const struct backend_greeting *greeting,
                        int worker_fds[CHILD_FD_COUNT])
{
    int lifeline[2];
    int error = make_request_pipe(child, worker_fds);
    if (!error)
        error = make_reply_pipe(child, worker_fds);
    if (!error)
        error = make_socket(child, worker_fds);
    if (!error)
        error = local_make_lifeline(lifeline);
    if (error)
        return error;
    *own_fd(worker_fds, CHILD_LIFELINE_FD) = lifeline[0];
    child->lifeline_fd = lifeline[1];
    return put_greeting(child, greeting);
}

void local_close_fds(int *fds, size_t count)
{
    for (size_t i = 0; i < count; i++)
        fd_close(&fds[i]);
}

void local_release_worker_fds(struct backend_child *child, int worker_fds[CHILD_FD_COUNT])
{
    int *request_end = own_fd(worker_fds, CHILD_IN_FD);
    child->request_end_fd = *request_end;
    *request_end = -1;
    local_close_fds(worker_fds, CHILD_FD_COUNT);
}

/* ---- the image --------------------------------------------------------------------------------------------------- */

enum { STACK_BYTES = 128 * 1024, GUARD_BYTES = 64 * 1024, ARGUMENT_BYTES = 4096 };

/* The name this program was started with, for those that look at it; at most ARGUMENT_BYTES of it. */
static char *read_program_name(void)
{
    char *name = calloc(1, ARGUMENT_BYTES);
    int fd = fd_open("/proc/self/cmdline", O_RDONLY);
    if (name)
        (void)fd_read(fd, name, ARGUMENT_BYTES - 1); /* without it the name is empty, which harms nobody */
    fd_close(&fd);
    return name;
}

/* The child's own stack, since it shares this process's memory; it ends in pages that fault. */
static void *map_stack(void)
{
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK | MAP_NORESERVE;
    char *stack = mmap(NULL, GUARD_BYTES + STACK_BYTES, PROT_READ | PROT_WRITE, flags, -1, 0);
    if (stack == MAP_FAILED)
        return NULL;
    mprotect(stack, GUARD_BYTES, PROT_NONE);
    return stack;
}

int local_open_cwd(void)
{
    return fd_open(".", O_PATH | O_DIRECTORY);
}

int local_image_init(struct local_image *image)
{
    *image = (struct local_image)LOCAL_NO_IMAGE;
    image->exe_fd = fd_open("/proc/self/exe", O_PATH);
    if (image->exe_fd < 0)
        return image->exe_fd;
    image->cwd_fd = local_open_cwd();
    if (image->cwd_fd < 0)
        return image->cwd_fd;
    image->argv[0] = read_program_name();
    image->envp = child_make_environment();
    image->stack = map_stack();
    return image->argv[0] && image->envp && image->stack ? 0 : -ENOMEM;
}

void local_image_close_fds(struct local_image *image)
{
    fd_close(&image->exe_fd);
    fd_close(&image->cwd_fd);
}

void local_image_lose(struct local_image *image)
{
    image->exe_fd = image->cwd_fd = -1;
}

void local_image_clear(struct local_image *image)
{
    local_image_close_fds(image);
    free(image->argv[0]);
    free(image->envp);
    if (image->stack)
        munmap(image->stack, GUARD_BYTES + STACK_BYTES);
    *image = (struct local_image)LOCAL_NO_IMAGE;
}

/* ---- starting ---------------------------------------------------------------------------------------------------- */

/* The pidfd of a new process, above stdio: the one that clone gave, else one by its pid. A negative errno: there is
 * none. */
static void settle_pidfd(struct local_process *process)
{
    int fd = process->pidfd < 0 ? (int)syscall(SYS_pidfd_open, process->pid, 0) : process->pidfd;
    process->pidfd = fd_take_above_stdio(fd);
}

/* Valgrind up to 3.19 does not know pidfd_open, but clone gives a pidfd. To libc that is no fork: its atfork handlers
 * do not run, which tools may be asked to live with and nobody else. */
static pid_t fork_without_pidfd_open(int *pidfd_out)
{
    return (pid_t)syscall(SYS_clone, CLONE_PIDFD | SIGCHLD, NULL, pidfd_out, NULL, NULL);
}

static void fork_process(const struct backend_hooks *hooks, struct local_process *process)
{
    static _Atomic(int) unknown = -1;
    if (unknown < 0)
        unknown = syscall(SYS_pidfd_open, 0, 0) < 0 && errno == ENOSYS; /* else EINVAL */
    process->pidfd = -1;
    process->pid = unknown ? fork_without_pidfd_open(&process->pidfd) : hooks->fork();
}

/* A child that must not live, before anyone heard of it. Nobody but its parent can have reaped it so soon, unless the
 * host reaps all children at once, and then there is nothing to kill. */
static int discard(struct local_process *process, int error)
{
    if (process->pidfd >= 0) {
        local_end(process);
    } else {
        kill(process->pid, SIGKILL);
        while (waitpid(process->pid, NULL, 0) < 0 && errno == EINTR) {
        }
    }
    return error;
}

/* Part of ThreadSanitizer's runtime, which the program may be linked with even where this library was not. */
extern void __tsan_init(void) __attribute__((weak));

bool local_under_thread_sanitizer(void)
{
    return __tsan_init != NULL;
}

/* CLONE_VFORK suspends this thread until the child has executed or ended; nothing is copied, however large we are.
 * Except under ThreadSanitizer, whose newer runtimes take what a child does in shared memory for this process's own
 * doing. */
static int clone_and_exec(const struct local_image *image, struct child_plan *plan, struct local_process *process)
{
    struct child_signals saved;
    int errno_before = errno;
    char *stack_top = (char *)image->stack + GUARD_BYTES + STACK_BYTES;
    int share_memory = local_under_thread_sanitizer() ? 0 : CLONE_VM;
    int flags = share_memory | CLONE_VFORK | CLONE_PIDFD | SIGCHLD;
    child_block_signals(&saved);
    process->pid = clone(child_exec, stack_top, flags, plan, &process->pidfd);
    int error = process->pid < 0 ? -errno : 0;
    child_restore_signals(&saved);
    fd_restore_errno(errno_before);
    return error;
}

int local_exec(const struct local_image *image, enum child_role role, const int fds[CHILD_FD_COUNT],
               struct local_process *process_out)
{
    if (geteuid() != getuid() || getegid() != getgid())
        return -EPERM; /* the kernel would set AT_SECURE, under which nobody adopts */
    struct child_plan plan = {.exe_fd = image->exe_fd, .cwd_fd = image->cwd_fd, .role = role};
    memcpy(plan.fds, fds, sizeof plan.fds);
    plan.argv = image->argv;
    plan.envp = image->envp;
    struct local_process process = {.pidfd = -1};
    int error = clone_and_exec(image, &plan, &process);
    if (error)
        return error;
    settle_pidfd(&process);
    if (plan.error)
        return discard(&process, -plan.error);
    if (process.pidfd < 0)
        return discard(&process, process.pidfd);
    *process_out = process;
    return 0;
}

/* Where another thread holds the lock, its output is in the making: then nothing is flushed, and the purge in the child
 * keeps it from appearing twice. fflush(NULL) would wait for a thread that sleeps in fgets(stdin). */
static void try_flush(FILE *stream)
{
    /* Not even the lock is written to in vain: a page that is written to between two forks is copied for each. */
    if (!__fpending(stream) || ftrylockfile(stream))
        return;
    fflush_unlocked(stream);
    funlockfile(stream);
}

/* What a stream holds of the parent's; only where it holds something, since in a new copy every page costs that is
 * written to. */
static void purge_streams(void)
{
    if (__fbufsize(stdin))
        __fpurge(stdin);
    if (__fpending(stdout))
        __fpurge(stdout);
    if (__fpending(stderr))
        __fpurge(stderr);
}

static _Noreturn void become_worker(const struct local_original *original, const int fds[CHILD_FD_COUNT])
{
    struct child_plan plan = {
        .exe_fd = -1, .cwd_fd = original->cwd_fd, .role = CHILD_WORKER, .is_settled = original->is_settled};
    memcpy(plan.fds, fds, sizeof plan.fds);
    if (!original->is_settled)
        purge_streams();
    if (child_enter(&plan))
        _exit(CHILD_EXEC_FAILED);
    if (original->is_settled)
        child_name("pool-worker");
    else
        child_settle();
    original->hooks->run_worker();
}

int local_fork(const struct local_original *original, int fds[CHILD_FD_COUNT], struct local_process *process_out)
{
    struct child_signals saved;
    int errno_before = errno;
    try_flush(stdout);
    try_flush(stderr);
    child_block_signals(&saved);
    struct local_process process;
    fork_process(original->hooks, &process);
    int error = process.pid < 0 ? -errno : 0;
    if (process.pid == 0)
        become_worker(original, fds);
    child_restore_signals(&saved);
    fd_close(own_fd(fds, CHILD_OUT_FD)); /* which makes room for the pidfd in a full table */
    if (!error) {
        settle_pidfd(&process);
        error = process.pidfd < 0 ? discard(&process, process.pidfd) : 0;
    }
    fd_restore_errno(errno_before);
    if (!error)
        *process_out = process;
    return error;
}

static void adopt_process(struct backend_child *child, struct local_process process)
{
    child->pid = process.pid;
    child->pidfd = process.pidfd;
    child->exit_fd = process.pidfd;
}

int local_start(const struct backend_greeting *greeting, local_make_fn *make, const void *state,
                struct backend_child *child_out)
{
    struct local_process process;
    *child_out = (struct backend_child)BACKEND_NO_CHILD;
    int error = local_make_channels(child_out, greeting, child_out->worker_fds);
    if (!error)
        error = make(state, child_out->worker_fds, &process);
    local_release_worker_fds(child_out, child_out->worker_fds);
    if (error)
        backend_drop_child(child_out);
    else
        adopt_process(child_out, process);
    return error;
}

/* ---- ending ------------------------------------------------------------------------------------------------------ */

/* Valgrind does not know the system call. Then by number, as long as the process is seen to be alive. */
static int send_signal_by_pid(struct local_process process, int signal)
{
    if (!fd_is_open(process.pidfd))
        return -EBADF; /* as the kernel would say it */
    if (fd_poll(process.pidfd, POLLIN, 0) || !kill(process.pid, signal))
        return 0;
    return -errno;
}

static int send_signal(struct local_process process, int signal)
{
    int errno_before = errno;
    int error = syscall(SYS_pidfd_send_signal, process.pidfd, signal, NULL, 0) ? -errno : 0;
    if (error == -ENOSYS)
        error = send_signal_by_pid(process, signal);
    fd_restore_errno(errno_before);
    return error == -ESRCH ? 0 : error;
}

int local_kill(struct local_process process, int signal)
{
    int error = send_signal(process, signal);
    if (!error && signal == SIGTERM)
        error = send_signal(process, SIGCONT);
    return error;
}

/* Linux 6.15 and later tell the holder of a pidfd how the process ended, whoever reaped it. The layout and numbers are
 * those of linux/pidfd.h; C libraries' headers lack them for years to come. */
struct pidfd_info {
    uint64_t mask;
    uint64_t cgroup;
    uint32_t ids[11];
    int32_t exit_code; /* as waitpid gives it */
};

enum { PIDFD_INFO_EXIT_BIT = 1 << 3 };

#define PIDFD_GET_INFO_REQUEST _IOWR(0xFF, 11, struct pidfd_info)

static void set_exit(struct child_exit *exit_out, int wait_status)
{
    exit_out->known = true;
    exit_out->signal = WIFSIGNALED(wait_status) ? WTERMSIG(wait_status) : 0;
    exit_out->exit_code = WIFSIGNALED(wait_status) ? -1 : WEXITSTATUS(wait_status);
}

enum { REAPER_PATIENCE_MS = 2 };

/* What the kernel tells about a process that was reaped by another. It polls readable some microseconds before it is
 * reaped even where that happens by itself (SIGCHLD ignored), so there is one short pause for the hang-up that
 * follows. */
static void ask_kernel(int pidfd, struct child_exit *exit_out)
{
    int errno_before = errno;
    for (int attempt = 0; attempt < 2 && !exit_out->known; attempt++) {
        struct pidfd_info info = {.mask = PIDFD_INFO_EXIT_BIT};
        if (syscall(SYS_ioctl, pidfd, PIDFD_GET_INFO_REQUEST, &info))
            break; /* an older kernel */
        if (info.mask & PIDFD_INFO_EXIT_BIT)
            set_exit(exit_out, info.exit_code);
        else if (!attempt)
            fd_poll(pidfd, 0, REAPER_PATIENCE_MS);
    }
    fd_restore_errno(errno_before);
}

/* P_PIDFD, which older headers lack. */
enum { WAIT_FOR_PIDFD = 3 };
enum { TRACER_PAUSE_MS = 1, TRACER_MOST_MS = 1000 };

/* It has ended, but its tracer (a debugger, strace, a leak sanitizer) is to be told before its parent can wait for it.
 * Who asks again and again, and is not told when, makes a short pause. */
static int await_tracer(int pidfd)
{
    fd_poll(pidfd, 0, TRACER_PAUSE_MS);
    return BACKEND_RUNNING;
}

/* One that does nothing, such as a debugger that waits for its user, is not waited for. By the clock: each pause for
 * one worker holds up the others. *since_ms: 0 at first. */
static bool has_patience(uint64_t *since_ms)
{
    uint64_t now_ms = clock_now_ns() / 1000000;
    *since_ms = *since_ms ? *since_ms : now_ms;
    return now_ms - *since_ms < TRACER_MOST_MS;
}

int local_collect(int pidfd, struct child_exit *exit_out)
{
    if (!fd_poll(pidfd, POLLIN, 0))
        return BACKEND_RUNNING;
    int errno_before = errno;
    siginfo_t info = {.si_pid = 0};
    *exit_out = (struct child_exit){.exit_code = -1};
    int rc = 0;
    if (waitid((idtype_t)WAIT_FOR_PIDFD, (id_t)pidfd, &info, WEXITED | WNOHANG))
        ask_kernel(pidfd, exit_out);
    else if (!info.si_pid)
        rc = await_tracer(pidfd);
    else if (info.si_code == CLD_EXITED)
        *exit_out = (struct child_exit){.known = true, .exit_code = info.si_status};
    else
        *exit_out = (struct child_exit){.known = true, .signal = info.si_status, .exit_code = -1};
    fd_restore_errno(errno_before);
    return rc;
}

void local_end(struct local_process *process)
{
    struct child_exit unused;
    if (!process->pid)
        return;
    if (process->pidfd < 0 || fd_is_lost(local_kill(*process, SIGKILL))) {
        process->pidfd = -1;
        lost_reap(process->pid);
    } else {
        fd_poll(process->pidfd, POLLIN, -1);
        for (uint64_t since_ms = 0; local_collect(process->pidfd, &unused) && has_patience(&since_ms);)
            ;
        fd_close(&process->pidfd);
    }
    process->pid = 0;
}

int local_kill_child(void *state, struct backend_child *child, int signal)
{
    (void)state;
    int error = local_kill((struct local_process){.pid = child->pid, .pidfd = child->pidfd}, signal);
    if (error != -EPERM || signal != SIGKILL)
        return error;
    fd_close(&child->lifeline_fd); /* this process is another user's by now; the signal of that is the child's own */
    return 0;
}

int local_reap_child(void *state, struct backend_child *child, struct child_exit *exit_out, char *message)
{
    (void)state;
    message[0] = 0;
    int result = local_collect(child->pidfd, exit_out);
    if (result && fd_poll(child->pidfd, POLLIN, 0) && !has_patience(&child->held_ms))
        result = 0;
    if (!result)
        backend_close_exit(child);
    return result;
}

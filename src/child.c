/* child: see child.h.
 *
 * Two parts: the state that a new process is put into (child_enter), and the mark by which a fresh image knows what it
 * is (child_exec, child_adopt). The way back to that state by exec in place is child_restart.c.
 *
 * Both run in a process that may share its memory with the parent, which the kernel suspends meanwhile, or that
 * is the copy of one thread out of many. Hence raw system calls wherever a libc or a sanitizer would keep books, and
 * numbers written by hand. Such a child shares even the parent's errno: whoever starts one puts that back. */
#include "child_inner.h"
#include "fd.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

int child_exe_place(enum child_role role)
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

/* SIGRTMIN, which libc has to be asked for: before a fork, since in the copy that code would have to be mapped. */
static int first_free_signal(void)
{
    static _Atomic(int) known;
    if (!known)
        known = SIGRTMIN;
    return known;
}

/* Not SIGKILL and SIGSTOP, which have but one: the refusal would be written to errno. Nor those between the classic
 * signals and SIGRTMIN: libc uses them between its threads, and a copy made by fork goes on with libc's belief that
 * their handlers are in place. */
static bool has_disposition(int signal)
{
    return signal != SIGKILL && signal != SIGSTOP && (signal < FIRST_REALTIME_SIGNAL || signal >= first_free_signal());
}

void child_set_dispositions(void (*handler)(int))
{
    for (int signal = 1; signal <= SIGNAL_COUNT; signal++)
        if (has_disposition(signal))
            set_disposition(signal, handler);
}

static void reset_dispositions(void)
{
    child_set_dispositions(SIG_DFL);
    set_disposition(SIGHUP, SIG_IGN); /* these reach the whole process group; the parent decides */
    set_disposition(SIGINT, SIG_IGN);
    set_disposition(SIGQUIT, SIG_IGN);
}

void child_block_signals(struct child_signals *saved_out)
{
    struct child_signals all;
    (void)first_free_signal(); /* now it is known in the copy that may follow */
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

/* What was cut before it was armed sends no signal. Asked so that errno is not written to, whose page would have to be
 * copied for it. */
static void end_if_lifeline_is_cut(void)
{
    const long at_once[4] = {0}; /* a timespec of either size */
    struct pollfd lifeline = {.fd = CHILD_LIFELINE_FD, .events = POLLIN};
    if (syscall(SYS_ppoll, &lifeline, 1, at_once, NULL, SIGNAL_SET_BYTES) > 0)
        end_now(EXIT_FAILURE);
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
    if (!error && !plan->is_settled)
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
    if (!plan->is_settled)
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
    char own[24];
    *append_number(own, (unsigned long)getpid()) = 0;
    int flags = fcntl(CHILD_LIFELINE_FD, F_GETFL);
    bool is_own = !strcmp(text + strlen(role_names[role]), own);
    return is_own && flags >= 0 && flags & O_ASYNC ? role : CHILD_NONE;
}

bool child_is_unborn(void)
{
    const char *text = getenv(MARK_NAME);
    return text && read_mark(text) != CHILD_NONE;
}

/* ---- exec -------------------------------------------------------------------------------------------------------- */

/* Returns only on failure, a negative errno. Not instrumented, like child_exec: these frames are never left, and what
 * a sanitizer noted on entry would stay behind in the parent's memory. */
__attribute__((no_sanitize_address, no_sanitize_thread)) int child_execute(const struct child_plan *plan)
{
    char path[FD_PATH_BYTES];
    fd_path(child_exe_place(plan->role), path);
    for (int fd = CHILD_IN_FD; fd <= child_exe_place(plan->role); fd++)
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
        error = child_execute(plan);
    plan->error = -error;
    return CHILD_EXEC_FAILED;
}

/* ---- after exec, or after fork ----------------------------------------------------------------------------------- */

void child_name(const char *name)
{
    syscall(SYS_prctl, PR_SET_NAME, name);
}

void child_name_worker(unsigned worker_id)
{
    char name[] = "pool-worker/4294967295"; /* the kernel takes 15 bytes of it */
    *append_number(name + sizeof "pool-worker", worker_id) = 0;
    child_name(name);
}

enum { OOM_STEP = 200, OOM_MOST = 1000 };

/* What it was before it was raised. */
static int oom_score_before;
static bool oom_score_raised;

static int open_oom_score(void)
{
    return fd_open("/proc/self/oom_score_adj", O_RDWR);
}

/* Numbers by hand here: each function of libc that a new process calls first brings pages that have to be mapped. */
static void write_oom_score(int fd, int score)
{
    char text[24], *at = text;
    if (score < 0)
        *at++ = '-';
    at = append_number(at, (unsigned long)(score < 0 ? -score : score));
    (void)fd_write(fd, text, (size_t)(at - text)); /* a refusal costs nothing but the preference */
}

static int parse_score(const char *text)
{
    int score = 0;
    bool negative = *text == '-';
    for (text += negative; *text >= '0' && *text <= '9'; text++)
        score = score * 10 + (*text - '0');
    return negative ? -score : score;
}

/* When memory runs out, rather a worker than the program it works for. */
static void raise_oom_score(void)
{
    char text[24] = "";
    int fd = open_oom_score();
    if (fd_read(fd, text, sizeof text - 1) > 0) {
        oom_score_before = parse_score(text);
        oom_score_raised = true;
        int raised = oom_score_before + OOM_STEP;
        write_oom_score(fd, raised < OOM_MOST ? raised : OOM_MOST);
    }
    fd_close(&fd);
}

void child_lower_oom_score(void)
{
    int fd = oom_score_raised ? open_oom_score() : -1;
    if (fd >= 0)
        write_oom_score(fd, oom_score_before);
    fd_close(&fd);
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

int child_settle_copies(void)
{
    reset_dispositions();
    guard_exit();
    raise_oom_score();
    return enter_stdio();
}

enum child_role child_adopt(void)
{
    const char *text = getenv(MARK_NAME);
    if (!text)
        return CHILD_NONE;
    enum child_role role = read_mark(text);
    if (getauxval(AT_SECURE)) {
        if (role != CHILD_NONE)
            end_now(EXIT_FAILURE); /* and not another main of the program beside its first */
        return CHILD_NONE;
    }
    unsetenv(MARK_NAME);
    if (role == CHILD_NONE)
        return CHILD_NONE;
    int exe_fd = child_exe_place(role);
    for (int fd = CHILD_IN_FD; fd < exe_fd; fd++)
        fd_set_cloexec(fd, true);
    fd_close_range((unsigned)exe_fd, (unsigned)exe_fd);
    end_if_lifeline_is_cut();
    if (role == CHILD_WORKER)
        settle();
    else
        child_name("pool-server");
    return role;
}

/* faults_system: the system that fails on demand (see faults.h).
 *
 * The program is linked with -Wl,--wrap=F for every F below: what the library calls F is __wrap_F, and __real_F is the
 * libc's own. Calls from inside libc are not seen: fopen's own malloc, say, is not one of ours, but fopen is.
 *
 * A wrapper first asks whether the call counts: is a plan in force, is this the host (and not what it has forked, which
 * may share its memory), has the thread not paused. Then it asks, fault by fault, whether this is the call to fail.
 * Nothing here may disturb what is tested: errno changes only where a call fails.
 *
 * Every allocation is noted in a table, by address, until it is freed: what stays in it is a leak, with the place that
 * made it. Pointers that the table does not know (getline's, or from before) are none of its business. */
#include "faults.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

/* ---- the faults ---- */

#define FORM(fault_name, fault_error, fault_group, fault_traits)                                                       \
    {                                                                                                                  \
        .name = fault_name, .error = fault_error, .group = fault_group, .traits = fault_traits                         \
    }

const struct fault_form fault_forms[FAULT_COUNT] = {
    [NO_FAULT] = FORM("none", 0, NO_FAULT, HARMLESS),

    [FAULT_MEMORY] = FORM("memory", ENOMEM, NO_FAULT, LASTS),
    [FAULT_FDS] = FORM("fds", EMFILE, NO_FAULT, LASTS),
    [FAULT_PROCESSES] = FORM("processes", EAGAIN, NO_FAULT, LASTS),

    [FAULT_MALLOC] = FORM("malloc", ENOMEM, FAULT_MEMORY, 0),
    [FAULT_CALLOC] = FORM("calloc", ENOMEM, FAULT_MEMORY, 0),
    [FAULT_REALLOC] = FORM("realloc", ENOMEM, FAULT_MEMORY, 0),
    [FAULT_ALIGNED_ALLOC] = FORM("aligned_alloc", ENOMEM, FAULT_MEMORY, 0),
    [FAULT_STRDUP] = FORM("strdup", ENOMEM, FAULT_MEMORY, 0),
    [FAULT_GETLINE] = FORM("getline", ENOMEM, FAULT_MEMORY, 0),
    [FAULT_MMAP] = FORM("mmap", ENOMEM, FAULT_MEMORY, 0),
    [FAULT_MREMAP] = FORM("mremap", ENOMEM, FAULT_MEMORY, 0),
    [FAULT_EPOLL_CTL] = FORM("epoll_ctl", ENOMEM, FAULT_MEMORY, 0),
    /* A pipe's pages are allocated as they are written. */
    [FAULT_WRITE_NO_MEMORY] = FORM("write", ENOMEM, FAULT_MEMORY, 0),
    [FAULT_WRITEV_NO_MEMORY] = FORM("writev", ENOMEM, FAULT_MEMORY, 0),
    [FAULT_SENDMSG_NO_MEMORY] = FORM("sendmsg", ENOMEM, FAULT_MEMORY, 0),

    [FAULT_OPEN] = FORM("open", EMFILE, FAULT_FDS, 0),
    [FAULT_FOPEN] = FORM("fopen", EMFILE, FAULT_FDS, 0),
    [FAULT_OPENDIR] = FORM("opendir", EMFILE, FAULT_FDS, 0),
    [FAULT_PIPE2] = FORM("pipe2", EMFILE, FAULT_FDS, 0),
    [FAULT_SOCKETPAIR] = FORM("socketpair", EMFILE, FAULT_FDS, 0),
    [FAULT_DUP] = FORM("dup", EMFILE, FAULT_FDS, 0),
    [FAULT_EPOLL_CREATE] = FORM("epoll_create1", EMFILE, FAULT_FDS, 0),
    [FAULT_TIMERFD_CREATE] = FORM("timerfd_create", EMFILE, FAULT_FDS, 0),
    [FAULT_EVENTFD] = FORM("eventfd", EMFILE, FAULT_FDS, 0),
    [FAULT_MEMFD_CREATE] = FORM("memfd_create", EMFILE, FAULT_FDS, 0),
    [FAULT_FALLOCATE] = FORM("fallocate", ENOSPC, FAULT_MEMORY, 0),
    [FAULT_PIDFD_OPEN] = FORM("pidfd_open", EMFILE, FAULT_FDS, 0),
    /* A message is received, but there was no place for the fds in it. */
    [FAULT_RECVMSG_FDS_LOST] = FORM("recvmsg-fds", 0, FAULT_FDS, 0),

    [FAULT_FORK] = FORM("fork", EAGAIN, FAULT_PROCESSES, 0),
    [FAULT_CLONE] = FORM("clone", EAGAIN, FAULT_PROCESSES, 0),
    [FAULT_PTHREAD_CREATE] = FORM("pthread_create", EAGAIN, FAULT_PROCESSES, 0),

    [FAULT_OPEN_EINTR] = FORM("open-interrupted", EINTR, NO_FAULT, HARMLESS | LASTS),
    [FAULT_READ_EINTR] = FORM("read-interrupted", EINTR, NO_FAULT, HARMLESS | LASTS),
    [FAULT_READV_EINTR] = FORM("readv-interrupted", EINTR, NO_FAULT, HARMLESS | LASTS),
    [FAULT_WRITE_EINTR] = FORM("write-interrupted", EINTR, NO_FAULT, HARMLESS | LASTS),
    [FAULT_WRITEV_EINTR] = FORM("writev-interrupted", EINTR, NO_FAULT, HARMLESS | LASTS),
    [FAULT_SENDMSG_EINTR] = FORM("sendmsg-interrupted", EINTR, NO_FAULT, HARMLESS | LASTS),
    [FAULT_RECVMSG_EINTR] = FORM("recvmsg-interrupted", EINTR, NO_FAULT, HARMLESS | LASTS),
    [FAULT_POLL_EINTR] = FORM("poll-interrupted", EINTR, NO_FAULT, HARMLESS | LASTS),
    [FAULT_EPOLL_WAIT_EINTR] = FORM("epoll_wait-interrupted", EINTR, NO_FAULT, HARMLESS | LASTS),
    [FAULT_READ_SHORT] = FORM("read-short", 0, NO_FAULT, HARMLESS | LASTS),
    [FAULT_READV_SHORT] = FORM("readv-short", 0, NO_FAULT, HARMLESS | LASTS),
    [FAULT_WRITE_SHORT] = FORM("write-short", 0, NO_FAULT, HARMLESS | LASTS),
    [FAULT_WRITEV_SHORT] = FORM("writev-short", 0, NO_FAULT, HARMLESS | LASTS),
    [FAULT_WRITE_FULL] = FORM("write-full", EAGAIN, NO_FAULT, HARMLESS | LASTS),
    [FAULT_WRITEV_FULL] = FORM("writev-full", EAGAIN, NO_FAULT, HARMLESS | LASTS),
    [FAULT_SENDMSG_FULL] = FORM("sendmsg-full", EAGAIN, NO_FAULT, HARMLESS | LASTS | TIRES),
    [FAULT_SENDMSG_TOO_MANY_FDS] = FORM("sendmsg-too-many-fds", ETOOMANYREFS, NO_FAULT, HARMLESS | LASTS | TIRES),
    [FAULT_PIPE_CAPACITY] = FORM("pipe-capacity", EPERM, NO_FAULT, HARMLESS | LASTS),
    /* Older kernels, and tools that do not know the newer calls. */
    [FAULT_CLOSE_RANGE_UNKNOWN] = FORM("close_range", ENOSYS, NO_FAULT, HARMLESS | LASTS),
    [FAULT_PIDFD_SIGNAL_UNKNOWN] = FORM("pidfd_send_signal", ENOSYS, NO_FAULT, HARMLESS | LASTS),

    [FAULT_READ_EIO] = FORM("read-error", EIO, NO_FAULT, 0),
    [FAULT_READV_EIO] = FORM("readv-error", EIO, NO_FAULT, 0),

    [FAULT_CHILD_FCNTL] = FORM("child-fcntl", ENOMEM, NO_FAULT, IN_CHILD | LASTS),
    [FAULT_CHILD_FCHDIR] = FORM("child-fchdir", EACCES, NO_FAULT, IN_CHILD | LASTS),
    [FAULT_CHILD_OPENAT] = FORM("child-openat", ENFILE, NO_FAULT, IN_CHILD | LASTS),
    [FAULT_CHILD_DUP3] = FORM("child-dup3", EBUSY, NO_FAULT, IN_CHILD | LASTS),
    [FAULT_CHILD_EXECVE] = FORM("child-execve", ENOMEM, NO_FAULT, IN_CHILD | LASTS),
    [FAULT_CHILD_CLOSE_RANGE] = FORM("child-close_range", ENOSYS, NO_FAULT, IN_CHILD | HARMLESS | LASTS),
};

enum fault fault_named(const char *name)
{
    int fault = FAULT_COUNT - 1;
    while (fault > NO_FAULT && strcmp(fault_forms[fault].name, name) != 0)
        fault--;
    return (enum fault)fault;
}

/* ---- whether a call is to fail ---- */

/* These run in a process that shares memory with the host and is about to exec, with no frame left behind; so they are
 * kept free of what sanitizers note on entry. */
#define PLAIN __attribute__((no_sanitize_address, no_sanitize_thread))

#define CALLER ((uintptr_t)__builtin_return_address(0))

static struct fault_plan *in_force;
static pid_t host;
static _Thread_local unsigned pauses;

extern const char __executable_start[];

long __real_syscall(long number, ...);

PLAIN static bool counts(void)
{
    return in_force && !pauses && (pid_t)__real_syscall(SYS_getpid) == host;
}

/* The child's own calls: told by their process, which is not the host. */
PLAIN static bool counts_in_child(void)
{
    return in_force && (pid_t)__real_syscall(SYS_getpid) != host;
}

PLAIN static bool is_due(uint64_t number)
{
    if (!in_force->nth || !in_force->lasting)
        return number == in_force->nth;
    bool passes = fault_forms[in_force->fault].traits & HARMLESS && (number - in_force->nth) % 2;
    return number >= in_force->nth && !passes;
}

PLAIN static bool count_one(enum fault fault, uintptr_t caller, int error)
{
    uint64_t number = atomic_fetch_add(&in_force->counts[fault], 1) + 1;
    if (fault != in_force->fault || !is_due(number))
        return false;
    if (!atomic_exchange(&in_force->has_happened, true)) {
        in_force->caller = caller - (uintptr_t)__executable_start;
        in_force->error = error;
    }
    return true;
}

/* Count the call, for the fault and for its group; whether it fails, with errno set. */
PLAIN static bool fails(enum fault fault, uintptr_t caller)
{
    const struct fault_form *form = &fault_forms[fault];
    bool failing = count_one(fault, caller, form->error);
    if (form->group != NO_FAULT)
        failing = count_one(form->group, caller, form->error) || failing;
    if (failing && form->error)
        errno = form->error;
    return failing;
}

#define FAILS(fault)          (counts() && fails(fault, CALLER))
#define FAILS_IN_CHILD(fault) (counts_in_child() && fails(fault, CALLER))

void faults_begin(struct fault_plan *new_plan)
{
    host = getpid();
    in_force = new_plan;
}

void faults_end(void)
{
    in_force = NULL;
}

void faults_pause(void)
{
    pauses++;
}

void faults_resume(void)
{
    pauses--;
}

/* ---- allocations ---- */

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *pointer, size_t size);
void *__real_aligned_alloc(size_t alignment, size_t size);
char *__real_strdup(const char *text);
void __real_free(void *pointer);

enum { ALLOCATIONS = 1 << 16 };

/* Open addressing; a freed one stays as a mark that the search goes on behind it. */
struct allocation {
    uintptr_t address; /* 0: never used; 1: freed */
    size_t size;
    uintptr_t caller;
};

static struct allocation allocations[ALLOCATIONS];
static pthread_mutex_t allocations_lock = PTHREAD_MUTEX_INITIALIZER;

static size_t place_of(uintptr_t address)
{
    return (address >> 4) * UINT64_C(0x9e3779b97f4a7c15) >> 48;
}

static void remember(void *pointer, size_t size, uintptr_t caller)
{
    pthread_mutex_lock(&allocations_lock);
    size_t place = place_of((uintptr_t)pointer);
    while (allocations[place].address > 1)
        place = (place + 1) % ALLOCATIONS;
    allocations[place] = (struct allocation){(uintptr_t)pointer, size, caller - (uintptr_t)__executable_start};
    pthread_mutex_unlock(&allocations_lock);
}

static void forget(void *pointer)
{
    pthread_mutex_lock(&allocations_lock);
    size_t place = place_of((uintptr_t)pointer);
    while (allocations[place].address && allocations[place].address != (uintptr_t)pointer)
        place = (place + 1) % ALLOCATIONS;
    if (allocations[place].address)
        allocations[place].address = 1;
    pthread_mutex_unlock(&allocations_lock);
}

size_t faults_live_allocations(size_t *size_out, uintptr_t *caller_out)
{
    size_t count = 0;
    for (size_t i = 0; i < ALLOCATIONS; i++) {
        if (allocations[i].address <= 1)
            continue;
        count++;
        *size_out = allocations[i].size;
        *caller_out = allocations[i].caller;
    }
    return count;
}

/* The scenario's own is forgotten when it is freed, paused or not. */
static bool watches(void)
{
    return in_force && getpid() == host;
}

void *faults_malloc(size_t size)
{
    void *pointer = __real_malloc(size);
    if (pointer && watches())
        remember(pointer, size, CALLER);
    return pointer;
}

/* What each of the allocators is but for its own call. */
#define ALLOCATE(fault, call, bytes)                                                                                   \
    bool counted = counts();                                                                                           \
    if (counted && fails(fault, CALLER))                                                                               \
        return NULL;                                                                                                   \
    void *pointer = (call);                                                                                            \
    if (pointer && counted)                                                                                            \
        remember(pointer, bytes, CALLER);                                                                              \
    return pointer

void *__wrap_malloc(size_t size);
void *__wrap_malloc(size_t size)
{
    ALLOCATE(FAULT_MALLOC, __real_malloc(size), size);
}

void *__wrap_calloc(size_t count, size_t size);
void *__wrap_calloc(size_t count, size_t size)
{
    ALLOCATE(FAULT_CALLOC, __real_calloc(count, size), count * size);
}

void *__wrap_aligned_alloc(size_t alignment, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size)
{
    ALLOCATE(FAULT_ALIGNED_ALLOC, __real_aligned_alloc(alignment, size), size);
}

char *__wrap_strdup(const char *text);
char *__wrap_strdup(const char *text)
{
    ALLOCATE(FAULT_STRDUP, __real_strdup(text), strlen(text) + 1);
}

void *__wrap_realloc(void *pointer, size_t size);
void *__wrap_realloc(void *pointer, size_t size)
{
    bool counted = counts();
    if (counted && fails(FAULT_REALLOC, CALLER))
        return NULL;
    if (counted && pointer)
        forget(pointer); /* before another thread may be given the same address */
    void *moved = __real_realloc(pointer, size);
    void *held = moved ? moved : pointer;
    if (counted && held)
        remember(held, size, CALLER);
    return moved;
}

void __wrap_free(void *pointer);
void __wrap_free(void *pointer)
{
    if (pointer && watches())
        forget(pointer);
    __real_free(pointer);
}

ssize_t __real_getline(char **line, size_t *room, FILE *file);
ssize_t __wrap_getline(char **line, size_t *room, FILE *file);
ssize_t __wrap_getline(char **line, size_t *room, FILE *file)
{
    return FAILS(FAULT_GETLINE) ? -1 : __real_getline(line, room, file);
}

ssize_t __real_getdelim(char **line, size_t *room, int end, FILE *file);
ssize_t __wrap_getdelim(char **line, size_t *room, int end, FILE *file);
ssize_t __wrap_getdelim(char **line, size_t *room, int end, FILE *file)
{
    return FAILS(FAULT_GETLINE) ? -1 : __real_getdelim(line, room, end, file);
}

/* What both are under optimisation. */
ssize_t __real___getdelim(char **line, size_t *room, int end, FILE *file);
ssize_t __wrap___getdelim(char **line, size_t *room, int end, FILE *file);
ssize_t __wrap___getdelim(char **line, size_t *room, int end, FILE *file)
{
    return FAILS(FAULT_GETLINE) ? -1 : __real___getdelim(line, room, end, file);
}

void *__real_mmap(void *address, size_t size, int protection, int flags, int fd, off_t offset);
void *__wrap_mmap(void *address, size_t size, int protection, int flags, int fd, off_t offset);
void *__wrap_mmap(void *address, size_t size, int protection, int flags, int fd, off_t offset)
{
    return FAILS(FAULT_MMAP) ? MAP_FAILED : __real_mmap(address, size, protection, flags, fd, offset);
}

void *__real_mremap(void *address, size_t old_size, size_t size, int flags, ...);
void *__wrap_mremap(void *address, size_t old_size, size_t size, int flags, ...);
void *__wrap_mremap(void *address, size_t old_size, size_t size, int flags, ...)
{
    return FAILS(FAULT_MREMAP) ? MAP_FAILED : __real_mremap(address, old_size, size, flags);
}

/* ---- fds ---- */

int __real_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...)
{
    va_list arguments;
    va_start(arguments, flags);
    unsigned mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(arguments, unsigned) : 0;
    va_end(arguments);
    if (FAILS(FAULT_OPEN) || FAILS(FAULT_OPEN_EINTR))
        return -1;
    return __real_open(path, flags, mode);
}

FILE *__real_fopen(const char *path, const char *mode);
FILE *__wrap_fopen(const char *path, const char *mode);
FILE *__wrap_fopen(const char *path, const char *mode)
{
    return FAILS(FAULT_FOPEN) ? NULL : __real_fopen(path, mode);
}

DIR *__real_opendir(const char *path);
DIR *__wrap_opendir(const char *path);
DIR *__wrap_opendir(const char *path)
{
    return FAILS(FAULT_OPENDIR) ? NULL : __real_opendir(path);
}

int __real_pipe2(int ends[2], int flags);
int __wrap_pipe2(int ends[2], int flags);
int __wrap_pipe2(int ends[2], int flags)
{
    return FAILS(FAULT_PIPE2) ? -1 : __real_pipe2(ends, flags);
}

int __real_socketpair(int domain, int type, int protocol, int ends[2]);
int __wrap_socketpair(int domain, int type, int protocol, int ends[2]);
int __wrap_socketpair(int domain, int type, int protocol, int ends[2])
{
    return FAILS(FAULT_SOCKETPAIR) ? -1 : __real_socketpair(domain, type, protocol, ends);
}

/* Setting flags on an fd of one's own does not fail, in the host. In a child some of what it sets allocates. */
int __real_fcntl(int fd, int command, ...);
int __wrap_fcntl(int fd, int command, ...);
PLAIN int __wrap_fcntl(int fd, int command, ...)
{
    va_list arguments;
    va_start(arguments, command);
    long argument = va_arg(arguments, long); /* as libc itself does, whether there is one or not */
    va_end(arguments);
    bool dups = command == F_DUPFD_CLOEXEC || command == F_DUPFD;
    if (dups && FAILS(FAULT_DUP))
        return -1;
    if (command == F_SETPIPE_SZ && FAILS(FAULT_PIPE_CAPACITY))
        return -1;
    bool allocates = dups || command == F_SETOWN || command == F_SETFL || command == F_SETSIG;
    if (allocates && FAILS_IN_CHILD(FAULT_CHILD_FCNTL))
        return -1;
    return __real_fcntl(fd, command, argument);
}

int __real_epoll_create1(int flags);
int __wrap_epoll_create1(int flags);
int __wrap_epoll_create1(int flags)
{
    return FAILS(FAULT_EPOLL_CREATE) ? -1 : __real_epoll_create1(flags);
}

int __real_timerfd_create(int clock, int flags);
int __wrap_timerfd_create(int clock, int flags);
int __wrap_timerfd_create(int clock, int flags)
{
    return FAILS(FAULT_TIMERFD_CREATE) ? -1 : __real_timerfd_create(clock, flags);
}

int __real_eventfd(unsigned count, int flags);
int __wrap_eventfd(unsigned count, int flags);
int __wrap_eventfd(unsigned count, int flags)
{
    return FAILS(FAULT_EVENTFD) ? -1 : __real_eventfd(count, flags);
}

int __real_memfd_create(const char *name, unsigned flags);
int __wrap_memfd_create(const char *name, unsigned flags);
int __wrap_memfd_create(const char *name, unsigned flags)
{
    return FAILS(FAULT_MEMFD_CREATE) ? -1 : __real_memfd_create(name, flags);
}

int __real_fallocate(int fd, int mode, off_t offset, off_t size);
int __wrap_fallocate(int fd, int mode, off_t offset, off_t size);
int __wrap_fallocate(int fd, int mode, off_t offset, off_t size)
{
    return FAILS(FAULT_FALLOCATE) ? -1 : __real_fallocate(fd, mode, offset, size);
}

/* ---- reading, writing, waiting ---- */

static bool is_nonblocking(int fd)
{
    return __real_fcntl(fd, F_GETFL) & O_NONBLOCK;
}

/* Somewhere between one and all of them; never all. */
static size_t some_of(size_t size)
{
    return size < 2 ? size : 1 + (size * UINT64_C(2654435761) >> 7) % (size - 1);
}

/* A pipe gives less than it has only while the rest is still on its way, so not once its writer is gone. */
static bool may_be_cut_short(int fd)
{
    struct pollfd watched = {.fd = fd};
    int __real_poll(struct pollfd * fds, nfds_t count, int timeout_ms);
    return __real_poll(&watched, 1, 0) == 0;
}

ssize_t __real_read(int fd, void *bytes, size_t size);
ssize_t __wrap_read(int fd, void *bytes, size_t size);
ssize_t __wrap_read(int fd, void *bytes, size_t size)
{
    if (FAILS(FAULT_READ_EINTR) || FAILS(FAULT_READ_EIO))
        return -1;
    /* Counters are read in one piece or not at all. */
    if (size > sizeof(uint64_t) && may_be_cut_short(fd) && FAILS(FAULT_READ_SHORT))
        size = some_of(size);
    return __real_read(fd, bytes, size);
}

ssize_t __real_write(int fd, const void *bytes, size_t size);
ssize_t __wrap_write(int fd, const void *bytes, size_t size);
ssize_t __wrap_write(int fd, const void *bytes, size_t size)
{
    bool is_counter = size == sizeof(uint64_t);
    if (FAILS(FAULT_WRITE_EINTR) || (!is_counter && FAILS(FAULT_WRITE_NO_MEMORY)))
        return -1;
    if (!is_counter && is_nonblocking(fd) && FAILS(FAULT_WRITE_FULL))
        return -1;
    if (!is_counter && FAILS(FAULT_WRITE_SHORT))
        size = some_of(size);
    return __real_write(fd, bytes, size);
}

static size_t size_of(const struct iovec *parts, int part_count)
{
    size_t size = 0;
    for (int i = 0; i < part_count; i++)
        size += parts[i].iov_len;
    return size;
}

enum { MAX_PARTS = 64 };

/* The beginning of the parts; their number. */
static int cut_parts(const struct iovec *parts, int part_count, struct iovec cut_out[MAX_PARTS])
{
    size_t left = some_of(size_of(parts, part_count));
    int count = 0;
    while (left && count < part_count && count < MAX_PARTS) {
        cut_out[count] = parts[count];
        if (cut_out[count].iov_len > left)
            cut_out[count].iov_len = left;
        left -= cut_out[count].iov_len;
        count++;
    }
    return count;
}

ssize_t __real_readv(int fd, const struct iovec *parts, int part_count);
ssize_t __wrap_readv(int fd, const struct iovec *parts, int part_count);
ssize_t __wrap_readv(int fd, const struct iovec *parts, int part_count)
{
    struct iovec cut[MAX_PARTS];
    if (FAILS(FAULT_READV_EINTR) || FAILS(FAULT_READV_EIO))
        return -1;
    if (may_be_cut_short(fd) && FAILS(FAULT_READV_SHORT))
        return __real_readv(fd, cut, cut_parts(parts, part_count, cut));
    return __real_readv(fd, parts, part_count);
}

ssize_t __real_writev(int fd, const struct iovec *parts, int part_count);
ssize_t __wrap_writev(int fd, const struct iovec *parts, int part_count);
ssize_t __wrap_writev(int fd, const struct iovec *parts, int part_count)
{
    struct iovec cut[MAX_PARTS];
    if (FAILS(FAULT_WRITEV_EINTR) || FAILS(FAULT_WRITEV_NO_MEMORY))
        return -1;
    if (is_nonblocking(fd) && FAILS(FAULT_WRITEV_FULL))
        return -1;
    if (FAILS(FAULT_WRITEV_SHORT))
        return __real_writev(fd, cut, cut_parts(parts, part_count, cut));
    return __real_writev(fd, parts, part_count);
}

ssize_t __real_sendmsg(int fd, const struct msghdr *message, int flags);
ssize_t __wrap_sendmsg(int fd, const struct msghdr *message, int flags);
ssize_t __wrap_sendmsg(int fd, const struct msghdr *message, int flags)
{
    if (FAILS(FAULT_SENDMSG_EINTR) || FAILS(FAULT_SENDMSG_NO_MEMORY))
        return -1;
    if (is_nonblocking(fd) && FAILS(FAULT_SENDMSG_FULL))
        return -1;
    if (message->msg_controllen && FAILS(FAULT_SENDMSG_TOO_MANY_FDS))
        return -1;
    return __real_sendmsg(fd, message, flags);
}

/* What the kernel does where the table is full. */
static void lose_fds(struct msghdr *message)
{
    struct cmsghdr *control = CMSG_FIRSTHDR(message);
    size_t count = (control->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; i++) {
        int fd;
        memcpy(&fd, CMSG_DATA(control) + i * sizeof fd, sizeof fd);
        close(fd);
    }
    message->msg_controllen = 0;
    message->msg_flags |= MSG_CTRUNC;
}

ssize_t __real_recvmsg(int fd, struct msghdr *message, int flags);
ssize_t __wrap_recvmsg(int fd, struct msghdr *message, int flags);
ssize_t __wrap_recvmsg(int fd, struct msghdr *message, int flags)
{
    if (FAILS(FAULT_RECVMSG_EINTR))
        return -1;
    ssize_t received = __real_recvmsg(fd, message, flags);
    bool has_fds = received >= 0 && message->msg_controllen >= CMSG_LEN(sizeof(int)) &&
                   CMSG_FIRSTHDR(message)->cmsg_type == SCM_RIGHTS;
    if (has_fds && FAILS(FAULT_RECVMSG_FDS_LOST))
        lose_fds(message);
    return received;
}

int __real_poll(struct pollfd *fds, nfds_t count, int timeout_ms);
int __wrap_poll(struct pollfd *fds, nfds_t count, int timeout_ms);
int __wrap_poll(struct pollfd *fds, nfds_t count, int timeout_ms)
{
    /* One that does not wait is not interrupted. */
    return timeout_ms && FAILS(FAULT_POLL_EINTR) ? -1 : __real_poll(fds, count, timeout_ms);
}

/* Taking away never fails, and neither does changing. */
int __real_epoll_ctl(int epoll_fd, int operation, int fd, struct epoll_event *event);
int __wrap_epoll_ctl(int epoll_fd, int operation, int fd, struct epoll_event *event);
int __wrap_epoll_ctl(int epoll_fd, int operation, int fd, struct epoll_event *event)
{
    return operation == EPOLL_CTL_ADD && FAILS(FAULT_EPOLL_CTL) ? -1 : __real_epoll_ctl(epoll_fd, operation, fd, event);
}

int __real_epoll_wait(int epoll_fd, struct epoll_event *events, int room, int timeout_ms);
int __wrap_epoll_wait(int epoll_fd, struct epoll_event *events, int room, int timeout_ms);
int __wrap_epoll_wait(int epoll_fd, struct epoll_event *events, int room, int timeout_ms)
{
    return timeout_ms && FAILS(FAULT_EPOLL_WAIT_EINTR) ? -1 : __real_epoll_wait(epoll_fd, events, room, timeout_ms);
}

/* ---- processes and threads ---- */

pid_t __real_fork(void);
pid_t __wrap_fork(void);
pid_t __wrap_fork(void)
{
    return FAILS(FAULT_FORK) ? -1 : __real_fork();
}

int __real_clone(int (*run)(void *), void *stack, int flags, void *argument, ...);
int __wrap_clone(int (*run)(void *), void *stack, int flags, void *argument, ...);
int __wrap_clone(int (*run)(void *), void *stack, int flags, void *argument, ...)
{
    va_list arguments;
    va_start(arguments, argument);
    int *pidfd_out = va_arg(arguments, int *);
    va_end(arguments);
    return FAILS(FAULT_CLONE) ? -1 : __real_clone(run, stack, flags, argument, pidfd_out, NULL, NULL);
}

int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *), void *argument);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *), void *argument);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *), void *argument)
{
    return FAILS(FAULT_PTHREAD_CREATE) ? EAGAIN : __real_pthread_create(thread, attributes, run, argument);
}

int __real_fchdir(int fd);
int __wrap_fchdir(int fd);
PLAIN int __wrap_fchdir(int fd)
{
    return FAILS_IN_CHILD(FAULT_CHILD_FCHDIR) ? -1 : __real_fchdir(fd);
}

/* A pid of 0 asks whether the kernel knows the call. */
PLAIN static enum fault fault_of_syscall(long number, long first)
{
    switch (number) {
    case SYS_pidfd_open:
        return first ? FAULT_PIDFD_OPEN : NO_FAULT;
    case SYS_pidfd_send_signal:
        return FAULT_PIDFD_SIGNAL_UNKNOWN;
    case SYS_close_range:
        return FAULT_CLOSE_RANGE_UNKNOWN;
    default:
        return NO_FAULT;
    }
}

PLAIN static enum fault fault_of_childs_syscall(long number)
{
    switch (number) {
    case SYS_openat:
        return FAULT_CHILD_OPENAT;
    case SYS_dup3:
        return FAULT_CHILD_DUP3;
    case SYS_execve:
        return FAULT_CHILD_EXECVE;
    case SYS_close_range:
        return FAULT_CHILD_CLOSE_RANGE;
    default:
        return NO_FAULT;
    }
}

long __wrap_syscall(long number, ...);
PLAIN long __wrap_syscall(long number, ...)
{
    long a[6];
    va_list arguments;
    va_start(arguments, number);
    for (int i = 0; i < 6; i++)
        a[i] = va_arg(arguments, long);
    va_end(arguments);
    enum fault fault = fault_of_syscall(number, a[0]), childs_fault = fault_of_childs_syscall(number);
    if (fault != NO_FAULT && FAILS(fault))
        return -1;
    if (childs_fault != NO_FAULT && FAILS_IN_CHILD(childs_fault))
        return -1;
    return __real_syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

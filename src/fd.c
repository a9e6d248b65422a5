/* fd: see fd.h. Every function works on the calling process's own fd table and keeps no state.
 *
 * fd_keep_only and fd_close_range also run between fork and exec, perhaps in memory that is shared with the parent.
 * They make raw system calls: a sanitizer that watches dup and close would note them down as the parent's own. */
#include "fd.h"
#include "clock.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { FIRST_FD = 3, MAX_FDS_PER_MESSAGE = 64 };

#ifndef SYS_preadv2
#define SYS_preadv2 (-1) /* no such call */
#endif
enum { READ_NOWAIT = 8 }; /* RWF_NOWAIT, which not every libc has */

#ifndef SYS_close_range
#define SYS_close_range 436 /* the same on every architecture but alpha */
#endif

void fd_close(int *fd)
{
    int errno_before = errno;
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
    fd_restore_errno(errno_before);
}

bool fd_is_open(int fd)
{
    int errno_before = errno;
    return fd_outcome(fcntl(fd, F_GETFD), errno_before) >= 0;
}

static int dup_above_stdio(int fd)
{
    int errno_before = errno;
    return (int)fd_outcome(fcntl(fd, F_DUPFD_CLOEXEC, FIRST_FD), errno_before);
}

int fd_take_above_stdio(int fd)
{
    if (fd < 0)
        return -errno;
    if (fd >= FIRST_FD)
        return fd;
    int moved = dup_above_stdio(fd);
    fd_close(&fd);
    return moved;
}

int fd_dup(int fd)
{
    return dup_above_stdio(fd);
}

static int try_open(const char *path, int flags)
{
    int errno_before = errno;
    int fd;
    do
        fd = open(path, flags | O_CLOEXEC);
    while (fd < 0 && errno == EINTR);
    fd = fd_take_above_stdio(fd);
    fd_restore_errno(errno_before);
    return fd;
}

/* What the kernel has in /proc/self belongs to the thread of main, and goes when that ends before the others. Not at
 * once by the second name: valgrind knows some files by their first. */
int fd_open(const char *path, int flags)
{
    static const char self[] = "/proc/self/", thread_self[] = "/proc/thread-self/";
    char other[64];
    int fd = try_open(path, flags);
    size_t rest = strlen(path) - (sizeof self - 1) + 1;
    if (fd != -ENOENT || strncmp(path, self, sizeof self - 1) || sizeof thread_self - 1 + rest > sizeof other)
        return fd;
    memcpy(other, thread_self, sizeof thread_self - 1);
    memcpy(other + sizeof thread_self - 1, path + sizeof self - 1, rest);
    return try_open(other, flags);
}

/* Both of a pair of new fds above stdio, or none. */
static int take_pair(int pair[2], int ends_out[2])
{
    int first = fd_take_above_stdio(pair[0]);
    int second = fd_take_above_stdio(pair[1]);
    if (first >= 0 && second >= 0) {
        ends_out[0] = first;
        ends_out[1] = second;
        return 0;
    }
    int error = first < 0 ? first : second;
    fd_close(&first);
    fd_close(&second);
    return error;
}

int fd_pipe(int ends_out[2])
{
    int errno_before = errno;
    int pair[2];
    long result = fd_outcome(pipe2(pair, O_CLOEXEC), errno_before);
    return result < 0 ? (int)result : take_pair(pair, ends_out);
}

int fd_socketpair(int ends_out[2])
{
    int errno_before = errno;
    int pair[2];
    long result = fd_outcome(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), errno_before);
    return result < 0 ? (int)result : take_pair(pair, ends_out);
}

/* "/proc/self/fd/" and the number, by hand: no stdio between fork and exec. */
void fd_path(int fd, char path_out[FD_PATH_BYTES])
{
    static const char prefix[] = "/proc/self/fd/";
    char digits[16];
    size_t count = 0;
    for (unsigned rest = (unsigned)fd; rest || !count; rest /= 10)
        digits[count++] = (char)('0' + rest % 10);
    char *at = path_out;
    for (size_t i = 0; i + 1 < sizeof prefix; i++)
        *at++ = prefix[i];
    while (count)
        *at++ = digits[--count];
    *at = 0;
}

int fd_set_nonblocking(int fd)
{
    int errno_before = errno;
    int on = 1;
    return (int)fd_outcome(ioctl(fd, FIONBIO, &on), errno_before);
}

int fd_set_cloexec(int fd, bool cloexec)
{
    int errno_before = errno;
    return (int)fd_outcome(fcntl(fd, F_SETFD, cloexec ? FD_CLOEXEC : 0), errno_before);
}

bool fd_poll(int fd, short events, int timeout_ms)
{
    int errno_before = errno;
    struct pollfd watched = {.fd = fd, .events = events};
    int count = poll(&watched, 1, timeout_ms);
    while (count < 0 && errno == EINTR && timeout_ms < 0)
        count = poll(&watched, 1, timeout_ms);
    fd_restore_errno(errno_before);
    return count > 0;
}

void fd_nap(const int *fds, unsigned fd_count, uint64_t ns)
{
    int errno_before = errno;
    struct pollfd watched[FD_NAP_MAX];
    struct timespec timeout = clock_timespec(ns);
    for (unsigned i = 0; i < fd_count; i++)
        watched[i] = (struct pollfd){.fd = fds[i], .events = POLLIN};
    ppoll(watched, fd_count, &timeout, NULL);
    fd_restore_errno(errno_before);
}

/* What such functions differ in is one call. */
#define RETRY_ON_EINTR(call)                                                                                           \
    int errno_before = errno;                                                                                          \
    ssize_t count;                                                                                                     \
    do                                                                                                                 \
        count = (call);                                                                                                \
    while (count < 0 && errno == EINTR);                                                                               \
    return fd_outcome(count, errno_before)

ssize_t fd_read(int fd, void *bytes, size_t size)
{
    RETRY_ON_EINTR(read(fd, bytes, size));
}

ssize_t fd_read_now(int fd, void *bytes, size_t size)
{
    struct iovec part = {.iov_base = bytes, .iov_len = size};
    const long here = -1; /* no offset */
    RETRY_ON_EINTR(syscall(SYS_preadv2, fd, &part, 1, here, here, READ_NOWAIT));
}

ssize_t fd_readv(int fd, const struct iovec *parts, int part_count)
{
    RETRY_ON_EINTR(readv(fd, parts, part_count));
}

ssize_t fd_write(int fd, const void *bytes, size_t size)
{
    RETRY_ON_EINTR(write(fd, bytes, size));
}

ssize_t fd_writev(int fd, const struct iovec *parts, int part_count)
{
    RETRY_ON_EINTR(writev(fd, parts, part_count));
}

int fd_write_all(int fd, const void *bytes, size_t size)
{
    size_t done = 0;
    while (done < size) {
        ssize_t count = fd_write(fd, (const char *)bytes + done, size - done);
        if (count < 0)
            return (int)count;
        done += (size_t)count;
    }
    return 0;
}

size_t fd_unread(int pipe_fd)
{
    int errno_before = errno, count = 0;
    if (ioctl(pipe_fd, FIONREAD, &count))
        fd_restore_errno(errno_before);
    return count > 0 ? (size_t)count : 0;
}

void fd_try_pipe_capacity(int fd, size_t bytes)
{
    int errno_before = errno;
    fcntl(fd, F_SETPIPE_SZ, (int)bytes);
    fd_restore_errno(errno_before);
}

/* Room for the control part of a message, aligned as cmsghdr wants it. */
union fd_control {
    struct cmsghdr header;
    char bytes[CMSG_SPACE(MAX_FDS_PER_MESSAGE * sizeof(int))];
};

static ssize_t send_message(int socket_fd, const struct msghdr *message)
{
    RETRY_ON_EINTR(sendmsg(socket_fd, message, MSG_NOSIGNAL));
}

static ssize_t receive_once(int socket_fd, struct msghdr *message)
{
    RETRY_ON_EINTR(recvmsg(socket_fd, message, MSG_CMSG_CLOEXEC));
}

/* That the other end was closed with something unread in it is told once, and before what came from there. */
static ssize_t receive_message(int socket_fd, struct msghdr *message)
{
    ssize_t received = receive_once(socket_fd, message);
    return received == -ECONNRESET ? receive_once(socket_fd, message) : received;
}

int fd_send(int socket_fd, const void *bytes, size_t size, const int *fds, size_t fd_count)
{
    if (fd_count > MAX_FDS_PER_MESSAGE)
        return -EINVAL;
    union fd_control control = {.bytes = {0}};
    struct iovec part = {.iov_base = (void *)(uintptr_t)bytes, .iov_len = size};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    if (fd_count) {
        message.msg_control = control.bytes;
        message.msg_controllen = (socklen_t)CMSG_SPACE(fd_count * sizeof(int));
        control.header.cmsg_level = SOL_SOCKET;
        control.header.cmsg_type = SCM_RIGHTS;
        control.header.cmsg_len = (socklen_t)CMSG_LEN(fd_count * sizeof(int));
        memcpy(CMSG_DATA(&control.header), fds, fd_count * sizeof(int));
    }
    ssize_t sent = send_message(socket_fd, &message);
    return sent < 0 ? (int)sent : 0;
}

/* The fds of a received message, each above stdio; returns how many, the first `room` of them in fds_out and the rest
 * closed. One that cannot be moved above stdio ends the list. */
static size_t take_received(const union fd_control *control, size_t control_size, int *fds_out, size_t room)
{
    if (control_size < CMSG_LEN(sizeof(int)) || control->header.cmsg_type != SCM_RIGHTS)
        return 0;
    size_t count = (control->header.cmsg_len - CMSG_LEN(0)) / sizeof(int);
    bool complete = true;
    for (size_t i = 0; i < count; i++) {
        int fd;
        memcpy(&fd, CMSG_DATA(&control->header) + i * sizeof fd, sizeof fd);
        fd = fd_take_above_stdio(fd);
        complete = complete && fd >= 0;
        if (complete && i < room)
            fds_out[i] = fd;
        else
            fd_close(&fd);
        if (!complete && i < room)
            room = i;
    }
    return complete ? count : room;
}

ssize_t fd_receive(int socket_fd, void *bytes, size_t size, int *fds_out, size_t *fd_count)
{
    union fd_control control = {.bytes = {0}};
    struct iovec part = {.iov_base = bytes, .iov_len = size};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control.bytes};
    size_t room = *fd_count;
    *fd_count = 0;
    ssize_t received = receive_message(socket_fd, &message);
    if (received < 0)
        return received;
    size_t count = take_received(&control, message.msg_controllen, fds_out, room);
    if (count <= room) {
        *fd_count = count;
        return received;
    }
    for (size_t i = 0; i < room; i++)
        fd_close(&fds_out[i]);
    return -EMSGSIZE;
}

static void raw_close(unsigned fd)
{
    syscall(SYS_close, fd);
}

/* The number at the start of a name in /proc/self/fd, or -1 for "." and "..". */
static int fd_of_name(const char *name)
{
    int fd = -1;
    for (; *name >= '0' && *name <= '9'; name++)
        fd = (fd < 0 ? 0 : fd * 10) + (*name - '0');
    return fd;
}

/* struct linux_dirent64 is: inode (8), offset (8), record length (2), type (1), name. */
enum { DIRENT_LENGTH_AT = 16, DIRENT_NAME_AT = 19 };

struct range {
    unsigned first, last;
};

static void close_listed(const char *entries, long size, int directory_fd, struct range range)
{
    uint16_t length;
    for (long at = 0; at < size; at += length) {
        memcpy(&length, entries + at + DIRENT_LENGTH_AT, sizeof length);
        int fd = fd_of_name(entries + at + DIRENT_NAME_AT);
        if (fd >= 0 && fd != directory_fd && (unsigned)fd >= range.first && (unsigned)fd <= range.last)
            raw_close((unsigned)fd);
    }
}

/* False: there is no /proc, or no fd left to read it with. procfs lists fds by number, so closing while listing skips
 * none. */
static bool close_by_listing(struct range range)
{
    char entries[1024];
    long directory_fd = syscall(SYS_openat, AT_FDCWD, "/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (directory_fd < 0)
        return false;
    long size;
    while ((size = syscall(SYS_getdents64, directory_fd, entries, sizeof entries)) > 0)
        close_listed(entries, size, (int)directory_fd, range);
    raw_close((unsigned)directory_fd);
    return size == 0;
}

static void close_by_counting(struct range range)
{
    struct rlimit limit = {.rlim_cur = 0};
    getrlimit(RLIMIT_NOFILE, &limit);
    for (rlim_t fd = range.first; fd <= range.last && fd < limit.rlim_cur; fd++)
        raw_close((unsigned)fd);
}

void fd_close_range(unsigned first, unsigned last)
{
    int errno_before = errno;
    struct range range = {first, last};
    if (first <= last && syscall(SYS_close_range, first, last, 0) && !close_by_listing(range))
        close_by_counting(range);
    fd_restore_errno(errno_before);
}

/* Whatever lies between those that stay. */
static void close_others(const int *fds, size_t count)
{
    unsigned first = FIRST_FD;
    for (size_t left = count; left; left--) {
        unsigned next = ~0U;
        for (size_t i = 0; i < count; i++)
            if ((unsigned)fds[i] >= first && (unsigned)fds[i] < next)
                next = (unsigned)fds[i];
        fd_close_range(first, next - 1);
        first = next + 1;
    }
    fd_close_range(first, ~0U);
}

/* A source that stands where another must go moves away first. */
static int clear_target(int *source, int own_target, int end)
{
    if (*source >= end || *source == own_target)
        return 0;
    *source = fcntl(*source, F_DUPFD_CLOEXEC, end);
    return *source < 0 ? -errno : 0;
}

static int place(int source, int target)
{
    long placed = source == target ? fcntl(target, F_SETFD, FD_CLOEXEC) : syscall(SYS_dup3, source, target, O_CLOEXEC);
    return placed < 0 ? -errno : 0;
}

static bool stands_in_the_way(const int *fds, size_t count)
{
    int end = FIRST_FD + (int)count;
    for (size_t i = 0; i < count; i++)
        if (fds[i] < end && fds[i] != FIRST_FD + (int)i)
            return true;
    return false;
}

int fd_keep_only(const int *fds, size_t count)
{
    int sources[FD_KEEP_MAX];
    int end = FIRST_FD + (int)count;
    if (stands_in_the_way(fds, count))
        close_others(fds, count); /* so that a full table has room for moving it */
    for (size_t i = 0; i < count; i++) {
        sources[i] = fds[i];
        int error = clear_target(&sources[i], FIRST_FD + (int)i, end);
        if (error)
            return error;
    }
    for (size_t i = 0; i < count; i++) {
        int error = place(sources[i], FIRST_FD + (int)i);
        if (error)
            return error;
    }
    fd_close_range((unsigned)end, ~0U);
    return 0;
}

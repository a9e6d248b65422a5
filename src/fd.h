/* fd: EINTR-safe file descriptor primitives.
 *
 * The one place that calls read, write, close, pipe2 and dup. Every fd made here is close-on-exec from birth and
 * never below 3: a caller may have closed stdin, stdout or stderr, and nothing of ours may take their place.
 * Functions return 0 (or a count) or a negative errno; errno itself is left as it was found.
 * Knows nothing above the kernel. */
#ifndef PROCPOOL_FD_H
#define PROCPOOL_FD_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

/* errno as it was found, and not written to where it is so: a page that is written to between two forks is copied for
 * each. */
static inline void fd_restore_errno(int errno_before)
{
    if (errno != errno_before)
        errno = errno_before;
}

/* What a system call gave, as a result: the value, or the negative errno, with errno as it was found. */
static inline long fd_outcome(long value, int errno_before)
{
    long result = value < 0 ? -errno : value;
    fd_restore_errno(errno_before);
    return result;
}

/* Close *fd unless it is -1, and set it to -1. Never fails: on Linux the fd is gone whatever close says. */
void fd_close(int *fd);

/* Take fd, which may be -1 with errno set, and give it back at 3 or above, close-on-exec; or a negative errno with fd
 * closed. */
int fd_take_above_stdio(int fd);

/* pipe2(O_CLOEXEC), both ends above stdio. ends_out[0] reads, ends_out[1] writes; both blocking. */
int fd_pipe(int ends_out[2]);

/* socketpair(AF_UNIX, SOCK_SEQPACKET), both ends above stdio. */
int fd_socketpair(int ends_out[2]);

/* open, and a duplicate: close-on-exec, above stdio. The fd or a negative errno. */
int fd_open(const char *path, int flags);
int fd_dup(int fd);
bool fd_is_open(int fd);
/* Whether this error says that a number does not stand for what was opened as that: somebody has closed it. */
static inline bool fd_is_lost(int error)
{
    return error == -EBADF || error == -ENOTSOCK;
}

/* "/proc/self/fd/N": the way to open or execute what an fd stands for. Async-signal-safe. */
enum { FD_PATH_BYTES = 32 };
void fd_path(int fd, char path_out[FD_PATH_BYTES]);

/* Whether one of `events` (or an error or hang-up) is there within timeout_ms; -1 waits without limit. */
bool fd_poll(int fd, short events, int timeout_ms);
/* Wait for `ns`, or until one of these, at most FD_NAP_MAX, is readable, or for less. */
enum { FD_NAP_MAX = 5 };
void fd_nap(const int *fds, unsigned fd_count, uint64_t ns);

int fd_set_nonblocking(int fd);
int fd_set_cloexec(int fd, bool cloexec);

/* Number of bytes, 0 at end of file, -EAGAIN, or another negative errno. That writing raises no SIGPIPE is for the
 * caller to see to, who may keep a read end open. */
ssize_t fd_read(int fd, void *bytes, size_t size);
/* What is there, though the pipe blocks: else -EAGAIN. Pipes can do that since Linux 6.4, unless they were spliced;
 * elsewhere it is another errno, such as -EOPNOTSUPP. */
ssize_t fd_read_now(int fd, void *bytes, size_t size);
ssize_t fd_readv(int fd, const struct iovec *parts, int part_count);
ssize_t fd_write(int fd, const void *bytes, size_t size);
ssize_t fd_writev(int fd, const struct iovec *parts, int part_count);
/* All of it. 0 or a negative errno. */
int fd_write_all(int fd, const void *bytes, size_t size);

/* Bytes that were written into a pipe and not read yet; 0 when that cannot be told. */
size_t fd_unread(int pipe_fd);

/* Ask for a pipe of `bytes` capacity; a refusal (the per-user soft limit) is not an error. */
void fd_try_pipe_capacity(int fd, size_t bytes);

/* One message with up to 64 fds over a SOCK_SEQPACKET socket; MSG_NOSIGNAL. Sending does not take the fds. fd_receive
 * returns the message's size (0: the peer is gone) and gives fds (close-on-exec, above stdio) to the caller, their
 * number in *fd_count; more fds than *fd_count had room for are closed and make it -EMSGSIZE. Fewer than were sent:
 * this process's table is full, and the kernel dropped the last ones. */
int fd_send(int socket_fd, const void *bytes, size_t size, const int *fds, size_t fd_count);
ssize_t fd_receive(int socket_fd, void *bytes, size_t size, int *fds_out, size_t *fd_count);

/* Make fds[i] be 3 + i, close-on-exec, whichever of these numbers they have now, and close all other fds from 3 up. At
 * most FD_KEEP_MAX, each above stdio, none twice. Needs no free place in a full table. Async-signal-safe; 0 or a
 * negative errno. */
enum { FD_KEEP_MAX = 5 };
int fd_keep_only(const int *fds, size_t count);

/* Close every fd in first..last. Async-signal-safe: close_range, else a loop over /proc/self/fd by raw getdents64, else
 * a loop to RLIMIT_NOFILE. */
void fd_close_range(unsigned first, unsigned last);

#endif

/* fd: what its header promises, against the kernel. */
#include "fd.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static bool is_open(int fd)
{
    return fcntl(fd, F_GETFD) >= 0;
}

static bool is_cloexec(int fd)
{
    return fcntl(fd, F_GETFD) & FD_CLOEXEC;
}

static bool same_file(int one, int other)
{
    struct stat a, b;
    return !fstat(one, &a) && !fstat(other, &b) && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

/* Runs `body` in a process of its own, which may do to its fds what it likes; its result is the exit code. */
static int in_child(int (*body)(void))
{
    int status;
    pid_t pid = fork();
    if (!pid)
        _exit(body());
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void pipe_is_cloexec_and_carries_bytes(void **unused)
{
    (void)unused;
    int ends[2];
    char byte = 0;
    assert_int_equal(fd_pipe(ends), 0);
    assert_true(is_cloexec(ends[0]) && is_cloexec(ends[1]));
    assert_int_equal(fd_write(ends[1], "x", 1), 1);
    assert_int_equal(fd_read(ends[0], &byte, 1), 1);
    assert_int_equal(byte, 'x');
    fd_close(&ends[1]);
    assert_int_equal(fd_read(ends[0], &byte, 1), 0);
    fd_close(&ends[0]);
    fd_close(&ends[0]);
    assert_int_equal(ends[0], -1);
}

static int make_all_without_stdio(void)
{
    int pipe_ends[2], socket_ends[2];
    for (int fd = 0; fd < 3; fd++)
        close(fd);
    if (fd_pipe(pipe_ends) || fd_socketpair(socket_ends))
        return 1;
    int opened = fd_open("/", O_PATH);
    int copy = fd_dup(opened);
    const int fds[] = {pipe_ends[0], pipe_ends[1], socket_ends[0], socket_ends[1], opened, copy};
    for (size_t i = 0; i < sizeof fds / sizeof *fds; i++)
        if (fds[i] < 3 || !is_cloexec(fds[i]))
            return 2;
    return is_open(0) || is_open(1) || is_open(2) ? 3 : 0;
}

static void writing_all_of_nothing_takes_no_memory_and_no_fd(void **unused)
{
    (void)unused;
    assert_int_equal(fd_write_all(-1, NULL, 0), 0);
}

static void nothing_of_ours_takes_the_place_of_stdio(void **unused)
{
    (void)unused;
    assert_int_equal(in_child(make_all_without_stdio), 0);
}

static void errors_are_returned_and_errno_is_kept(void **unused)
{
    (void)unused;
    char byte;
    struct iovec part = {.iov_base = &byte, .iov_len = 1};
    errno = 12345;
    assert_int_equal(fd_read(-1, &byte, 1), -EBADF);
    assert_int_equal(fd_readv(-1, &part, 1), -EBADF);
    assert_int_equal(fd_write(-1, "x", 1), -EBADF);
    assert_int_equal(fd_writev(-1, &part, 1), -EBADF);
    assert_int_equal(fd_open("/nonexistent/x", O_RDONLY), -ENOENT);
    assert_int_equal(fd_set_nonblocking(-1), -EBADF);
    assert_int_equal(fd_set_cloexec(-1, true), -EBADF);
    assert_int_equal(fd_dup(-1), -EBADF);
    fd_try_pipe_capacity(-1, 4096);
    assert_int_equal(errno, 12345);
}

static void message_carries_bytes_and_fds(void **unused)
{
    (void)unused;
    int sockets[2], pipe_ends[2], received[2];
    char bytes[8] = "";
    size_t count = 2;
    assert_int_equal(fd_socketpair(sockets), 0);
    assert_int_equal(fd_pipe(pipe_ends), 0);
    assert_int_equal(fd_send(sockets[0], "hello", 5, pipe_ends, 2), 0);
    assert_int_equal(fd_receive(sockets[1], bytes, sizeof bytes, received, &count), 5);
    assert_int_equal(count, 2);
    assert_string_equal(bytes, "hello");
    assert_true(is_cloexec(received[0]) && is_cloexec(received[1]));
    assert_true(same_file(received[0], pipe_ends[0]) && same_file(received[1], pipe_ends[1]));
    assert_int_equal(fd_send(sockets[0], "x", 1, NULL, 0), 0);
    count = 2;
    assert_int_equal(fd_receive(sockets[1], bytes, sizeof bytes, received, &count), 1);
    assert_int_equal(count, 0);
    fd_close(&sockets[0]);
    assert_int_equal(fd_receive(sockets[1], bytes, sizeof bytes, received, &count), 0);
    assert_int_equal(fd_send(sockets[1], "x", 1, NULL, 0), -EPIPE);
    int leftovers[] = {sockets[1], pipe_ends[0], pipe_ends[1], received[0], received[1]};
    for (size_t i = 0; i < 5; i++)
        fd_close(&leftovers[i]);
}

static void message_arrives_though_its_sender_has_left_something_unread(void **unused)
{
    (void)unused;
    int sockets[2], received[1] = {-1};
    char byte = 0;
    size_t count = 1;
    assert_int_equal(fd_socketpair(sockets), 0);
    assert_int_equal(fd_send(sockets[1], "?", 1, NULL, 0), 0);
    assert_int_equal(fd_send(sockets[0], "x", 1, (const int[]){STDERR_FILENO}, 1), 0);
    fd_close(&sockets[0]);
    assert_int_equal(fd_receive(sockets[1], &byte, 1, received, &count), 1);
    assert_int_equal(count, 1);
    assert_int_equal(byte, 'x');
    fd_close(&received[0]);
    count = 1;
    assert_int_equal(fd_receive(sockets[1], &byte, 1, received, &count), 0);
    fd_close(&sockets[1]);
}

static void more_fds_than_asked_for_are_closed(void **unused)
{
    (void)unused;
    int sockets[2], received[2] = {-1, -1};
    char byte;
    assert_int_equal(fd_socketpair(sockets), 0);
    int lowest_free = fd_dup(sockets[0]);
    const int three[] = {0, 1, 2};
    assert_int_equal(fd_send(sockets[0], "x", 1, three, 3), 0);
    size_t count = 2;
    fd_close(&(int){lowest_free});
    assert_int_equal(fd_receive(sockets[1], &byte, 1, received, &count), -EMSGSIZE);
    assert_int_equal(count, 0);
    int next = fd_dup(sockets[0]);
    assert_int_equal(next, lowest_free);
    fd_close(&next);
    fd_close(&sockets[0]);
    fd_close(&sockets[1]);
}

/* Four files that can be told apart, at `from` and above. */
static bool make_files(int from, ino_t inodes_out[4])
{
    static const char *const paths[4] = {"/", "/proc", "/dev", "/dev/null"};
    for (int i = 0; i < 4; i++) {
        struct stat file;
        int fd = open(paths[i], O_PATH);
        if (fd < 0 || fstat(fd, &file) || dup2(fd, 50 + i) < 0 || close(fd))
            return false;
        inodes_out[i] = file.st_ino + file.st_dev;
    }
    for (int i = 0; i < 4; i++)
        if (dup2(50 + i, from + i) < 0)
            return false;
    return true;
}

static int keep_in_order(int from, const int order[4])
{
    ino_t inodes[4];
    int fds[4];
    if (!make_files(from, inodes))
        return 1;
    for (int i = 0; i < 4; i++)
        fds[i] = from + order[i];
    if (fd_keep_only(fds, 4))
        return 2;
    for (int i = 0; i < 4; i++) {
        struct stat file;
        if (fstat(3 + i, &file) || file.st_ino + file.st_dev != inodes[order[i]] || !is_cloexec(3 + i))
            return 3;
    }
    return is_open(7) || is_open(50) || (from > 6 && is_open(from)) ? 4 : 0;
}

static int keep_every_permutation(void)
{
    static const int starts[] = {3, 4, 5, 6, 7, 20};
    for (size_t start = 0; start < sizeof starts / sizeof *starts; start++) {
        for (int code = 0; code < 256; code++) {
            const int order[] = {code & 3, code >> 2 & 3, code >> 4 & 3, code >> 6};
            if ((1 << order[0] | 1 << order[1] | 1 << order[2] | 1 << order[3]) != 15)
                continue;
            int error = keep_in_order(starts[start], order);
            if (error)
                return error;
        }
    }
    return 0;
}

static void kept_fds_get_their_numbers_whichever_they_had(void **unused)
{
    (void)unused;
    assert_int_equal(in_child(keep_every_permutation), 0);
}

static int close_seven_to_nine(void)
{
    for (int fd = 6; fd <= 10; fd++)
        if (dup2(0, fd) < 0)
            return 1;
    fd_close_range(7, 9);
    for (int fd = 6; fd <= 10; fd++)
        if (is_open(fd) != (fd == 6 || fd == 10))
            return 2;
    fcntl(0, F_DUPFD, 200);
    fd_close_range(10, ~0U);
    return is_open(6) && !is_open(10) && !is_open(200) ? 0 : 3;
}

static void range_is_closed_and_nothing_else(void **unused)
{
    (void)unused;
    assert_int_equal(in_child(close_seven_to_nine), 0);
}

/* As on a kernel, or under a filter, that does not know close_range. */
static int forbid(long system_call)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)system_call, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = 4, .filter = filter};
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

static int close_without_close_range(void)
{
    return forbid(436) ? 0 : close_seven_to_nine();
}

static int close_without_proc(void)
{
    return forbid(436) || forbid(SYS_getdents64) ? 0 : close_seven_to_nine();
}

static void range_is_closed_on_any_kernel(void **unused)
{
    (void)unused;
    assert_int_equal(in_child(close_without_close_range), 0);
    assert_int_equal(in_child(close_without_proc), 0);
}

static int keep_with_a_full_table(void)
{
    int ends[2];
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = 40;
    if (setrlimit(RLIMIT_NOFILE, &limit) || pipe(ends))
        return 1;
    int marks[2] = {dup2(ends[0], 38), dup2(ends[1], 39)};
    while (dup(0) >= 0) {
    }
    const int fds[] = {ends[1], ends[0], marks[1]}; /* the first two stand in each other's way */
    bool write_end[3];
    if (fd_keep_only(fds, 3))
        return 2;
    for (int i = 0; i < 3; i++)
        write_end[i] = (fcntl(3 + i, F_GETFL) & O_ACCMODE) == O_WRONLY;
    return write_end[0] && !write_end[1] && write_end[2] && !is_open(6) ? 0 : 3;
}

static void keeping_needs_no_room(void **unused)
{
    (void)unused;
    assert_int_equal(in_child(keep_with_a_full_table), 0);
}

static void path_names_the_fd(void **unused)
{
    (void)unused;
    char path[FD_PATH_BYTES];
    fd_path(0, path);
    assert_string_equal(path, "/proc/self/fd/0");
    fd_path(2147483647, path);
    assert_string_equal(path, "/proc/self/fd/2147483647");
}

static void poll_sees_a_hang_up(void **unused)
{
    (void)unused;
    int ends[2];
    assert_int_equal(fd_pipe(ends), 0);
    assert_false(fd_poll(ends[0], POLLIN, 0));
    fd_close(&ends[1]);
    assert_true(fd_poll(ends[0], POLLIN, 0));
    fd_close(&ends[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pipe_is_cloexec_and_carries_bytes),
        cmocka_unit_test(writing_all_of_nothing_takes_no_memory_and_no_fd),
        cmocka_unit_test(nothing_of_ours_takes_the_place_of_stdio),
        cmocka_unit_test(errors_are_returned_and_errno_is_kept),
        cmocka_unit_test(message_carries_bytes_and_fds),
        cmocka_unit_test(message_arrives_though_its_sender_has_left_something_unread),
        cmocka_unit_test(more_fds_than_asked_for_are_closed),
        cmocka_unit_test(kept_fds_get_their_numbers_whichever_they_had),
        cmocka_unit_test(range_is_closed_and_nothing_else),
        cmocka_unit_test(range_is_closed_on_any_kernel),
        cmocka_unit_test(keeping_needs_no_room),
        cmocka_unit_test(path_names_the_fd),
        cmocka_unit_test(poll_sees_a_hang_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* copies: what a forked copy of a test has, for the unit tests about memory that copies are not to have. Include it
 * behind cmocka.h. */
#ifndef TESTS_COPIES_H
#define TESTS_COPIES_H

#include <signal.h>
#include <stdbool.h>
#include <sys/wait.h>
#include <unistd.h>

/* Whether a copy of this process can read there. */
static inline bool copy_can_read(const void *address)
{
    int status = 0;
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (!pid) {
        signal(SIGSEGV, SIG_DFL);
        _exit(*(const volatile char *)address & 0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return !status;
}

#endif

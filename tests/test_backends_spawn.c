/* backends: what spawn alone does: workers that become fresh ones in place, an image that cannot be executed, the mark.
 * */
#include "backends_rig.h"
#include "child.h"
#include "fd.h"
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static void restart_gives_back_what_exec_keeps(void **unused)
{
    (void)unused;
    struct rig rig = open_rig_with(backend_find("spawn"), NULL);
    struct backend_child child;
    char before[REPLY_BYTES], name[REPLY_BYTES];
    start_child(&rig, &child);
    snprintf(before, sizeof before, "%s", ask(&child, "state"));
    snprintf(name, sizeof name, "%s", ask(&child, "name"));
    for (int i = 0; i < 3; i++) {
        assert_string_equal(ask(&child, "alter"), "altered");
        command(&child, "restart");
        command(&child, "state"); /* waits in the pipe for the fresh image */
        char after[REPLY_BYTES];
        assert_true(try_answer(&child, after));
        assert_string_equal(before, after);
        assert_string_equal(ask(&child, "name"), name);
        assert_string_equal(ask(&child, "variable ALTERED"), "(unset)");
    }
    dismiss(&rig, &child);
    close_rig(&rig);
}

static void restarted_worker_still_has_its_lifeline(void **unused)
{
    (void)unused;
    struct rig rig = open_rig_with(backend_find("spawn"), NULL);
    struct backend_child child;
    start_child(&rig, &child);
    command(&child, "restart");
    assert_string_equal(ask(&child, "spin"), "spinning");
    fd_close(&child.lifeline_fd);
    struct child_exit how = await_end(&rig, &child);
    assert_true(how.known && how.signal == SIGKILL);
    close_rig(&rig);
}

static void program_started_by_a_task_sees_no_mark_and_no_fd(void **unused)
{
    (void)unused;
    struct rig rig = open_rig_with(backend_find("spawn"), NULL);
    struct backend_child child;
    start_child(&rig, &child);
    assert_string_equal(ask(&child, "shell env | grep -c PROCPOOL_ROLE"), "0\n");
    if (!under_valgrind())
        assert_string_equal(ask(&child, "shell ls /proc/self/fd | wc -l"), "4\n"); /* 0, 1, 2 and ls's own */
    dismiss(&rig, &child);
    close_rig(&rig);
}

static void failed_exec_is_an_error_of_start(void **unused)
{
    (void)unused;
    if (under_valgrind())
        return; /* it ends the child itself */
    struct backend_child child;
    struct rlimit limit, full;
    char before[REPLY_BYTES], after[REPLY_BYTES];
    /* More environment than a stack this small may hold: E2BIG. */
    char *large = malloc(200000);
    memset(large, 'x', 199999);
    large[199999] = 0;
    setenv("LARGE", large, 1);
    struct rig large_rig = open_rig_with(backend_find("spawn"), NULL);
    unsetenv("LARGE");
    free(large);
    count_fds(before);
    getrlimit(RLIMIT_STACK, &full);
    limit = full;
    limit.rlim_cur = 65536;
    setrlimit(RLIMIT_STACK, &limit);
    int result = large_rig.backend->start(large_rig.state, &no_greeting, &child, message);
    setrlimit(RLIMIT_STACK, &full);
    count_fds(after);
    if (result) { /* else the child got a copy of the memory, as under ThreadSanitizer */
        assert_int_equal(result, -E2BIG);
        assert_string_equal(before, after);
    } else {
        assert_int_equal(await_end(&large_rig, &child).exit_code, CHILD_EXEC_FAILED);
    }
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
    close_rig(&large_rig);
}

static void stale_mark_counts_for_nothing(void **unused)
{
    (void)unused;
    setenv("PROCPOOL_ROLE", "worker:1", 1);
    assert_false(child_is_unborn());
    char **environment = child_make_environment();
    for (char **entry = environment; *entry; entry++)
        assert_true(strncmp(*entry, "PROCPOOL_ROLE", 13) != 0);
    free(environment);
    assert_int_equal(child_adopt(), CHILD_NONE);
    assert_null(getenv("PROCPOOL_ROLE"));
    char mark[64];
    snprintf(mark, sizeof mark, "worker:%d", (int)getpid());
    setenv("PROCPOOL_ROLE", mark, 1);
    assert_int_equal(child_adopt(), CHILD_NONE); /* no armed lifeline */
}

int main(void)
{
    be_what_this_was_started_as();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(restart_gives_back_what_exec_keeps),
        cmocka_unit_test(restarted_worker_still_has_its_lifeline),
        cmocka_unit_test(program_started_by_a_task_sees_no_mark_and_no_fd),
        cmocka_unit_test(failed_exec_is_an_error_of_start),
        cmocka_unit_test(stale_mark_counts_for_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* backends_rig: driving a start method, and running cases for each of them. See backends_rig.h. */
#include "backends_rig.h"
#include "child.h"
#include "fd.h"
#include <assert.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- driving ----------------------------------------------------------------------------------------------------- */

char message[MESSAGE_BYTES];

struct rig open_rig_with(const struct backend *backend, const char *preload)
{
    struct rig rig = {.backend = backend};
    const struct backend_setup setup = {
        .hooks = &hooks, .preload = preload, .preload_size = preload ? strlen(preload) + 1 : 0};
    assert_int_equal(backend->open(&setup, &rig.state, message), 0);
    return rig;
}

struct rig open_rig(void **prestate)
{
    return open_rig_with(*prestate, NULL);
}

void close_rig(struct rig *rig)
{
    rig->backend->close(rig->state);
}

const struct backend_greeting no_greeting;

void start_child(struct rig *rig, struct backend_child *child)
{
    int result = rig->backend->start(rig->state, &no_greeting, child, message);
    if (result)
        print_error("start: %d\n", result);
    assert_int_equal(result, 0);
}

void command(struct backend_child *child, const char *text)
{
    char bytes[COMMAND_BYTES] = "";
    snprintf(bytes, sizeof bytes, "%s", text);
    assert_int_equal(fd_write(child->request_fd, bytes, sizeof bytes), sizeof bytes);
}

bool try_answer(struct backend_child *child, char *text)
{
    size_t size = 0;
    memset(text, 0, REPLY_BYTES);
    while (size < REPLY_BYTES) {
        if (!fd_poll(child->reply_fd, POLLIN, DEADLINE_MS))
            return false;
        ssize_t count = fd_read(child->reply_fd, text + size, REPLY_BYTES - size);
        if (count <= 0)
            return false;
        size += (size_t)count;
    }
    return true;
}

const char *ask(struct backend_child *child, const char *text)
{
    static char answer[REPLY_BYTES];
    command(child, text);
    if (!try_answer(child, answer))
        fail_msg("no answer to '%s'", text);
    return answer;
}

struct child_exit await_end(struct rig *rig, struct backend_child *child)
{
    struct child_exit how = {0};
    int result;
    do {
        assert_true(fd_poll(child->exit_fd, POLLIN, DEADLINE_MS));
        result = rig->backend->reap(rig->state, child, &how, message);
    } while (result > 0);
    assert_int_equal(result, 0);
    assert_int_equal(child->exit_fd, -1);
    assert_int_equal(child->pidfd, -1);
    backend_close_streams(child);
    return how;
}

void await_pid(struct rig *rig, struct backend_child *child)
{
    struct child_exit how;
    while (!child->pid) {
        assert_true(fd_poll(child->exit_fd, POLLIN, DEADLINE_MS));
        assert_true(rig->backend->reap(rig->state, child, &how, message) > 0);
    }
}

void dismiss(struct rig *rig, struct backend_child *child)
{
    fd_close(&child->request_fd); /* its end of file is the order to leave */
    struct child_exit how = await_end(rig, child);
    if (how.known)
        assert_int_equal(how.exit_code, 0);
}

void count_fds(char *text)
{
    memset(text, 0, REPLY_BYTES);
    list_fds(text);
}

bool is(void **prestate, const char *name)
{
    return *prestate == backend_find(name);
}

bool under_valgrind(void)
{
    const char *preloads = getenv("LD_PRELOAD");
    return preloads && (strstr(preloads, "vgpreload") || strstr(preloads, "/valgrind/"));
}

struct capture begin_capture(void)
{
    struct capture capture = {.stdout_fd = dup(1)};
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    fflush(stdout);
    dup2(ends[1], 1);
    close(ends[1]);
    capture.read_fd = ends[0];
    return capture;
}

/* To the end of it: nobody has that pipe any more. */
void end_capture(struct capture *capture, char *text_out, size_t size)
{
    size_t done = 0;
    ssize_t count;
    fflush(stdout);
    dup2(capture->stdout_fd, 1);
    close(capture->stdout_fd);
    while ((count = read(capture->read_fd, text_out + done, size - 1 - done)) > 0)
        done += (size_t)count;
    text_out[done] = 0;
    close(capture->read_fd);
}

pid_t server_of(struct backend_child *child)
{
    int times;
    int parent;
    assert_int_equal(sscanf(ask(child, "preloaded"), "%d %d", &times, &parent), 2);
    return parent;
}

int pidfd_of(pid_t pid)
{
    return (int)syscall(SYS_pidfd_open, pid, 0);
}

/* ---- running ----------------------------------------------------------------------------------------------------- */

void be_what_this_was_started_as(void)
{
    switch (child_adopt()) {
    case CHILD_WORKER:
        hooks.run_worker();
    case CHILD_SERVER:
        backend_find("forkserver")->serve(&hooks);
    case CHILD_NONE:
        break;
    }
    atexit(inherited_handler);
}

enum { MOST_CASES = 32, NAME_BYTES = 128 };

static int run_for(const struct backend *backend, const struct backend_case *cases, size_t count)
{
    static char names[MOST_CASES][NAME_BYTES];
    struct CMUnitTest tests[MOST_CASES];
    assert(count <= MOST_CASES);
    for (size_t i = 0; i < count; i++) {
        snprintf(names[i], NAME_BYTES, "%s: %s", backend->name, cases[i].name);
        tests[i] = (struct CMUnitTest){
            .name = names[i], .test_func = cases[i].run, .initial_state = (void *)(uintptr_t)backend};
    }
    return _cmocka_run_group_tests(backend->name, tests, count, NULL, NULL);
}

int run_for_all(const struct backend_case *cases, size_t count)
{
    int failures = 0;
    for (const struct backend *const *entry = backend_table; *entry; entry++)
        failures += run_for(*entry, cases, count);
    return failures;
}

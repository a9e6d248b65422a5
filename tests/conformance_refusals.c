/* conformance_refusals: what cannot be had, and how the caller learns of it: workers that do not become ready, limits,
 * unknown start methods, malformed options, a missing pool_init().
 *
 * Needs the program forgets_init (tests/forgets_init.c) beside this one. */
#include "conformance.h"
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

static void use(struct pool *pool)
{
    int items[200] = {0}, results[200];
    EXPECT_OK(pool_map(pool, add_one, items, sizeof *items, results, sizeof *results, 200));
    EXPECT_INT(results[199], 1);
}

/* Nothing may be left by a pool that could not be made. */
static void expect_refusal(const struct pool_options *options, int error)
{
    struct pool *pool = (struct pool *)&pool;
    unsigned fds = open_fd_count();
    EXPECT_INT(pool_create(options, &pool), error);
    EXPECT(pool == (struct pool *)&pool);
    EXPECT(*pool_message());
    EXPECT_INT(open_fd_count(), fds);
    EXPECT_INT(child_count(), 0);
}

/* ---- workers that do not become ready ---- */

static int fail_to_initialize(const void *arg, size_t arg_size, void **state_out)
{
    (void)arg, (void)arg_size, (void)state_out;
    return pool_call_fail(NULL, 4711, "no %s today", "licence");
}

static int fail_without_text(const void *arg, size_t arg_size, void **state_out)
{
    (void)arg, (void)arg_size, (void)state_out;
    return -4712;
}

static void failing_initializer_breaks_the_pool_with_its_code_and_text(void)
{
    struct pool_options options = method_options(3);
    options.initializer = fail_to_initialize;
    expect_refusal(&options, POOL_EBROKEN);
    EXPECT_TEXT(pool_message(), "4711");
    EXPECT_TEXT(pool_message(), "no licence today");
    options.initializer = fail_without_text;
    expect_refusal(&options, POOL_EBROKEN);
    EXPECT_TEXT(pool_message(), "-4712");
}

static int crash_in_initializer(const void *arg, size_t arg_size, void **state_out)
{
    (void)arg, (void)arg_size, (void)state_out;
    raise(SIGKILL);
    return 0;
}

static int exit_in_initializer(const void *arg, size_t arg_size, void **state_out)
{
    (void)arg, (void)arg_size, (void)state_out;
    _exit(77);
}

static void crashing_initializer_breaks_the_pool_and_tells_how(void)
{
    struct pool_options options = method_options(2);
    options.initializer = crash_in_initializer;
    expect_refusal(&options, POOL_EBROKEN);
    EXPECT(strstr(pool_message(), "SIGKILL") || strstr(pool_message(), "signal 9"));
    options.initializer = exit_in_initializer;
    expect_refusal(&options, POOL_EBROKEN);
    EXPECT_TEXT(pool_message(), "77");
}

static int hang_in_initializer(const void *arg, size_t arg_size, void **state_out)
{
    (void)arg, (void)arg_size, (void)state_out;
    while (pause())
        continue;
    return 0;
}

static void hanging_initializer_breaks_the_pool_when_its_time_is_over(void)
{
    struct pool_options options = method_options(2);
    uint64_t begin_ms = now_ms();
    options.initializer = hang_in_initializer;
    options.start_timeout_ms = 300;
    options.soft_kill_grace_ms = -1;
    expect_refusal(&options, POOL_EBROKEN);
    EXPECT(now_ms() - begin_ms < PATIENCE_MS / 2);
}

static int fail_in_preload(const void *arg, size_t arg_size)
{
    (void)arg, (void)arg_size;
    return pool_call_fail(NULL, 815, "no %s to preload", "model");
}

static int crash_in_preload(const void *arg, size_t arg_size)
{
    (void)arg, (void)arg_size;
    raise(SIGKILL);
    return 0;
}

static int hang_in_preload(const void *arg, size_t arg_size)
{
    (void)arg, (void)arg_size;
    while (pause())
        continue;
    return 0;
}

static void failing_preload_breaks_the_pool_and_tells_why(void)
{
    struct pool_options options = method_options(2);
    options.preload = fail_in_preload;
    expect_refusal(&options, POOL_EBROKEN);
    EXPECT_TEXT(pool_message(), "815");
    EXPECT_TEXT(pool_message(), "no model to preload");
    options.preload = crash_in_preload;
    expect_refusal(&options, POOL_EBROKEN);
    EXPECT(strstr(pool_message(), "SIGKILL") || strstr(pool_message(), "signal 9"));
    options.preload = hang_in_preload;
    options.start_timeout_ms = 300;
    options.soft_kill_grace_ms = -1;
    expect_refusal(&options, POOL_EBROKEN);
}

static void *wait_in_thread(void *unused)
{
    while (pause())
        continue;
    return unused;
}

static int leave_threads_in_preload(const void *arg, size_t arg_size)
{
    (void)arg, (void)arg_size;
    pthread_t thread;
    for (int i = 0; i < 3; i++)
        if (pthread_create(&thread, NULL, wait_in_thread, NULL))
            return -1;
    return 0;
}

static void preload_that_leaves_threads_is_refused_with_their_number(void)
{
    struct pool_options options = method_options(2);
    options.preload = leave_threads_in_preload;
    expect_refusal(&options, POOL_EBROKEN);
    EXPECT_TEXT(pool_message(), "thread");
    EXPECT_TEXT(pool_message(), "3");
}

/* ---- workers that become ready at first, or at times ---- */

static int initialize_once(const void *arg, size_t arg_size, void **state_out)
{
    int rc = attach_board(arg, arg_size, state_out);
    struct board *board = *state_out;
    return rc ? rc : board->counters[1]++ ? 99 : 0;
}

/* Item 0 waits until the others, on workers that never come, have had every chance. */
static int die_on_demand(const void *item, void *result, void *state)
{
    (void)state;
    if (*(const int *)item == 9)
        raise(SIGKILL);
    *(int *)result = *(const int *)item + 1;
    return 0;
}

static void pool_goes_on_with_the_workers_that_did_start(void)
{
    enum { COUNT = 2000 };
    static int items[COUNT], results[COUNT];
    make_board();
    struct pool_options options = board_options(3);
    options.initializer = initialize_once;
    struct pool *pool = make_pool_with(&options);
    for (int round = 0; round < 5; round++) {
        EXPECT_OK(pool_map(pool, die_on_demand, items, sizeof *items, results, sizeof *results, COUNT));
        EXPECT_INT(results[COUNT - 1], 1);
    }
    EXPECT_OK(pool_destroy(pool));
}

static void pool_whose_workers_cannot_be_replaced_is_broken_for_good(void)
{
    enum { COUNT = 500, DEADLY = 100 };
    int items[COUNT] = {0}, results[COUNT], status[COUNT];
    struct board *board = make_board();
    struct pool_options options = board_options(1);
    struct pool_map_options map = POOL_MAP_OPTIONS_INIT;
    options.initializer = initialize_once;
    map.status_out = status;
    map.chunk_size = 1;
    struct pool *pool = make_pool_with(&options);
    items[DEADLY] = 9;
    int rc = pool_map_with(pool, die_on_demand, items, sizeof *items, results, sizeof *results, COUNT, &map);
    EXPECT(rc == POOL_ECRASH || rc == POOL_EBROKEN);
    EXPECT_INT(status[0], 0);
    EXPECT_INT(status[COUNT - 1], POOL_EBROKEN);
    EXPECT(status[DEADLY] == POOL_ECRASH || status[DEADLY] == POOL_EBROKEN);
    EXPECT(board->counters[1] >= 4 && board->counters[1] <= 5); /* three failures in a row, and no more */
    EXPECT_INT(pool_map(pool, die_on_demand, items, sizeof *items, results, sizeof *results, COUNT), POOL_EBROKEN);
    EXPECT_TEXT(pool_message(), "99");
    EXPECT_OK(pool_destroy(pool));
}

static int initialize_at_times(const void *arg, size_t arg_size, void **state_out)
{
    int rc = attach_board(arg, arg_size, state_out);
    struct board *board = *state_out;
    return rc ? rc : board->counters[1]++ % 3 ? 0 : 99;
}

static void start_that_fails_at_times_is_tried_again(void)
{
    enum { COUNT = 60 };
    int items[COUNT] = {0}, results[COUNT];
    make_board();
    struct pool_options options = board_options(1);
    options.initializer = initialize_at_times;
    options.max_tasks_per_worker = 5;
    struct pool *pool = make_pool_with(&options);
    EXPECT_OK(pool_map(pool, die_on_demand, items, sizeof *items, results, sizeof *results, COUNT));
    EXPECT_OK(pool_destroy(pool));
}

enum { ENDED_TOGETHER = 8 };

/* The last of the first takes their server along. */
static int end_at_first(const void *arg, size_t arg_size, void **state_out)
{
    int rc = attach_board(arg, arg_size, state_out);
    struct board *board = *state_out;
    uint64_t before = rc ? 0 : board->counters[1]++;
    if (before == ENDED_TOGETHER - 1 && board->counters[2])
        kill(getppid(), SIGKILL);
    if (before < ENDED_TOGETHER)
        raise(SIGKILL);
    return rc;
}

static void workers_that_are_killed_together_as_they_start_are_started_again(void)
{
    struct board *board = make_board();
    struct pool_options options = board_options(ENDED_TOGETHER);
    board->counters[2] = !strcmp(method->name, "forkserver"); /* else the parent is this process */
    options.initializer = end_at_first;
    struct pool *pool = make_pool_with(&options);
    use(pool);
    EXPECT_OK(pool_destroy(pool));
}

static struct board *watched;

static void hold_host_until_worker_is_gone(int number)
{
    (void)number;
    watched->counters[2] = 1;
    while (is_running((pid_t)watched->counters[3]))
        ;
}

/* The first dies of a timer once it is ready; until then the host looks at nothing, and so sees both at once. */
static int end_when_ready(const void *arg, size_t arg_size, void **state_out)
{
    const struct itimerval soon = {.it_value = {.tv_usec = 20000}};
    int rc = attach_board(arg, arg_size, state_out);
    struct board *board = *state_out;
    if (rc || board->counters[1]++)
        return rc;
    board->counters[3] = (uint64_t)getpid();
    if (kill((pid_t)board->counters[4], SIGUSR1) || !await_counter(board, 2, 1))
        return 1;
    return setitimer(ITIMER_REAL, &soon, NULL);
}

static void only_worker_that_dies_as_soon_as_it_is_ready_is_replaced(void)
{
    struct sigaction action = {.sa_handler = hold_host_until_worker_is_gone}, before;
    watched = make_board();
    watched->counters[4] = (uint64_t)getpid();
    EXPECT_OK(sigaction(SIGUSR1, &action, &before));
    struct pool_options options = board_options(1);
    options.initializer = end_when_ready;
    struct pool *pool = make_pool_with(&options);
    EXPECT_OK(sigaction(SIGUSR1, &before, NULL));
    use(pool);
    EXPECT_OK(pool_destroy(pool));
}

/* ---- start methods and numbers ---- */

static void unknown_start_method_is_refused_with_the_choices(void)
{
    struct pool_options options = method_options(1);
    options.backend = "telepathy";
    expect_refusal(&options, POOL_ENOBACKEND);
    EXPECT_TEXT(pool_message(), "telepathy");
    options.backend = "";
    expect_refusal(&options, POOL_ENOBACKEND);
    options.backend = NULL;
    setenv("POOL_BACKEND", "nonsense", 1);
    expect_refusal(&options, POOL_ENOBACKEND);
    static const char *const words[] = {"nonsense", "POOL_BACKEND", "fork", "spawn", "forkserver"};
    for (int i = 0; i < 5; i++)
        EXPECT_TEXT(pool_message(), words[i]);
    EXPECT(!pool_default());
    EXPECT_TEXT(pool_message(), "nonsense");
    int item = 1, result;
    EXPECT_INT(pool_map(NULL, add_one, &item, sizeof item, &result, sizeof result, 1), POOL_ENOBACKEND);
    options.backend = method->name; /* the option beats the environment */
    struct pool *pool = make_pool_with(&options);
    use(pool);
    EXPECT_OK(pool_destroy(pool));
}

static int tell_worker(const void *item, void *result, void *state)
{
    struct board *board = state;
    (void)item, (void)result;
    board->counters[2 + pool_worker_id()]++;
    board->counters[1]++;
    return !await_counter(board, 1, *(const uint64_t *)item);
}

static void environment_may_say_how_many_workers(void)
{
    uint64_t items[3] = {3, 3, 3};
    static const char *const nonsense[] = {"0", "-1", "many", "3x", "99999999999999999999", "5000", " "};
    struct board *board = make_board();
    struct pool_options options = board_options(0);
    setenv("POOL_WORKERS", "3", 1);
    struct pool *pool = make_pool_with(&options);
    EXPECT_OK(pool_map(pool, tell_worker, items, sizeof *items, NULL, 0, 3)); /* three at once */
    EXPECT(board->counters[2] == 1 && board->counters[3] == 1 && board->counters[4] == 1);
    EXPECT_OK(pool_destroy(pool));
    for (int i = 0; i < 7; i++) {
        setenv("POOL_WORKERS", nonsense[i], 1);
        expect_refusal(&options, -EINVAL);
        EXPECT_TEXT(pool_message(), nonsense[i]);
    }
    options.workers = 1;
    pool = make_pool_with(&options); /* the option beats the environment */
    EXPECT_OK(pool_destroy(pool));
}

static void malformed_options_are_refused(void)
{
    struct {
        struct pool_options known;
        char unknown[512];
    } options = {.known = POOL_OPTIONS_INIT};
    struct pool_options good = method_options(1);
    EXPECT_INT(pool_create(&good, NULL), -EINVAL);
    options.known = good;
    options.known.size = 0;
    expect_refusal(&options.known, -EINVAL);
    options.known.size = 4097;
    expect_refusal(&options.known, -EINVAL);
    options.known.size = sizeof options;
    options.unknown[511] = 1;
    expect_refusal(&options.known, -E2BIG);
    options.unknown[511] = 0;
    EXPECT_OK(pool_destroy(make_pool_with(&options.known)));
    options.known.size = offsetof(struct pool_options, initializer); /* an older caller's */
    options.known.initializer = fail_to_initialize;
    EXPECT_OK(pool_destroy(make_pool_with(&options.known)));
    for (int i = 0; i < 6; i++) {
        struct pool_options bad = good;
        bad.workers = i == 0 ? 4097 : 1;
        bad.arg_size = i == 1 ? 1 : i == 2 ? SIZE_MAX : 0;
        bad.arg = i == 2 ? &bad : NULL;
        bad.start_timeout_ms = i == 3 ? -1 : i == 4 ? INT64_MIN : 0;
        bad.soft_kill_grace_ms = i == 5 ? -2 : 0;
        expect_refusal(&bad, -EINVAL);
    }
    good.start_timeout_ms = good.soft_kill_grace_ms = INT64_MAX; /* for ever is long, not an error */
    struct pool *pool = NULL;
    int rc = pool_create(&good, &pool);
    EXPECT(rc == 0 || rc == -EINVAL);
    if (!rc)
        use(pool);
    EXPECT_OK(pool_destroy(pool));
}

/* ---- limits ---- */

static int live_with_40_fds(void *unused)
{
    struct rlimit limit = {40, 40};
    EXPECT_OK(setrlimit(RLIMIT_NOFILE, &limit));
    struct pool_options options = method_options(0);
    struct pool *pool = make_pool_with(&options); /* as many workers as there is room for */
    use(pool);
    EXPECT_OK(pool_destroy(pool));
    options.workers = 2;
    pool = make_pool_with(&options);
    use(pool);
    EXPECT_OK(pool_destroy(pool));
    options.workers = 60; /* cannot be had in full */
    expect_refusal(&options, -EMFILE);
    return unused != NULL;
}

static void forty_fds_are_enough(void)
{
    in_another_process(live_with_40_fds, NULL);
}

/* However few fds are left: it works or is refused, and nothing leaks. */
static int live_with_few_fds(void *unused)
{
    for (rlim_t fds = 3; fds < 50; fds++) {
        struct rlimit limit = {fds, 1000};
        struct pool_options options = method_options(fds % 2 ? 2 : 0);
        struct pool *pool = NULL;
        EXPECT_OK(setrlimit(RLIMIT_NOFILE, &limit));
        int rc = pool_create(&options, &pool);
        if (rc) {
            EXPECT(rc == -EMFILE || rc == POOL_EBROKEN);
            EXPECT(*pool_message() && !pool);
            EXPECT_INT(waitpid(-1, NULL, WNOHANG), -1);
        } else {
            use(pool);
            EXPECT_OK(pool_destroy(pool));
        }
        limit.rlim_cur = 1000;
        EXPECT_OK(setrlimit(RLIMIT_NOFILE, &limit));
        EXPECT_INT(open_fd_count(), *(unsigned *)unused);
    }
    return 0;
}

static void few_fds_are_enough_or_refused(void)
{
    unsigned fds = open_fd_count();
    in_another_process(live_with_few_fds, &fds);
}

static int live_without_processes(void *unused)
{
    struct rlimit limit = {0, 0};
    struct pool_options options = method_options(2);
    if (!getuid() && setuid(65534)) /* root has no such limit */
        return 0;
    setrlimit(RLIMIT_NPROC, &limit);
    pid_t pid = fork();
    if (!pid)
        _exit(0);
    if (pid > 0) {
        waitpid(pid, NULL, 0);
        return 0; /* the limit does not hold here */
    }
    expect_refusal(&options, -EAGAIN);
    EXPECT_TEXT(pool_message(), "ulimit -u");
    return unused != NULL;
}

static void no_room_for_processes_is_that_error(void)
{
    in_another_process(live_without_processes, NULL);
}

static int live_without_proc(void *root)
{
    struct pool_options options = method_options(2);
    struct pool *pool = (struct pool *)&pool;
    if (chroot(root))
        return 0; /* not root */
    EXPECT_INT(pool_create(&options, &pool), -ENOENT);
    EXPECT(pool == (struct pool *)&pool);
    EXPECT_TEXT(pool_message(), "/proc");
    return 0;
}

static void no_proc_is_that_error(void)
{
    char root[CASE_PATH_BYTES];
    EXPECT_OK(mkdir(case_path("root", root), 0700));
    in_another_process(live_without_proc, root);
}

/* ---- users ---- */

/* A program that is started then would be a set-user-ID one, which must not believe that it is a worker. */
static int live_as_another_user(void *unused)
{
    struct pool_options options = method_options(2);
    if (seteuid(65534))
        return 0; /* not root */
    expect_refusal(&options, -EPERM);
    EXPECT_TEXT(pool_message(), "effective user");
    EXPECT_OK(seteuid(0));
    EXPECT_OK(setegid(65534));
    expect_refusal(&options, -EPERM);
    EXPECT_OK(setgid(65534));
    EXPECT_OK(setuid(65534)); /* for good */
    struct pool *pool = make_pool_with(&options);
    use(pool);
    EXPECT_OK(pool_destroy(pool));
    return unused != NULL;
}

static int hang_at_9(const void *item, void *result, void *state)
{
    (void)result, (void)state;
    while (*(const int *)item == 9)
        pause();
    return 0;
}

static int hang(struct pool_call *call)
{
    (void)call;
    return hang_at_9(&(int){9}, NULL, NULL);
}

/* Its workers are still root's, and it may send them no signal. */
static int give_up_being_root(void *unused)
{
    int items[2] = {1, 9}, status[2];
    struct pool_map_options map = POOL_MAP_OPTIONS_INIT;
    struct pool *pool = make_pool(1), *other = make_pool(1);
    struct pool_task *task;
    if (setgid(65534) || setuid(65534))
        return 0; /* not root */
    map.timeout_ms = 50;
    map.status_out = status;
    EXPECT_INT(pool_map_with(pool, hang_at_9, items, sizeof *items, NULL, 0, 2, &map), POOL_ETIMEOUT);
    EXPECT(status[0] == 0 && status[1] == POOL_ETIMEOUT);
    use(pool);
    EXPECT_OK(pool_destroy(pool));
    EXPECT_OK(pool_submit(other, hang, NULL, 0, NULL, &task));
    EXPECT_INT(pool_wait(task, 100), POOL_PENDING);
    EXPECT_OK(pool_shutdown(other, POOL_KILL, PATIENCE_MS));
    EXPECT_OK(pool_destroy(other));
    pool_task_free(task);
    return unused != NULL;
}

static void workers_of_another_user_are_killed_too(void)
{
    in_another_process(give_up_being_root, NULL);
}

static void effective_user_that_is_not_the_real_one_is_refused(void)
{
    in_another_process(live_as_another_user, NULL);
}

/* ---- pool_init() ---- */

/* Run this copy of forgets_init to its end: what it printed. Its images are counted in the log. */
static unsigned run_copy(const char *program, const char *early, bool late, const char *in_main,
                         char output_out[static 4096])
{
    char log[CASE_PATH_BYTES], text[4096];
    size_t before = read_output(output_out, 4096);
    unlink(case_path("log", log));
    pid_t pid = fork();
    if (!pid) {
        setenv("FORGETS_INIT_LOG", log, 1);
        if (early)
            setenv("FORGETS_INIT_EARLY", early, 1);
        if (late)
            setenv("FORGETS_INIT_LATE", "1", 1);
        execl(program, program, in_main, NULL);
        _exit(127);
    }
    EXPECT_INT(end_of_process(pid), 0);
    read_output(text, sizeof text);
    strcpy(output_out, text + before);
    EXPECT(read_file(log, text, sizeof text) > 0);
    return count_text(text, "started\n");
}

static unsigned run_forgetful(const char *early, bool late, const char *in_main, char output_out[static 4096])
{
    char program[1024];
    program_path("forgets_init", program);
    return run_copy(program, early, late, in_main, output_out);
}

static void forgotten_pool_init_is_refused_with_what_to_write(void)
{
    char output[4096], expected[64];
    EXPECT_INT(run_forgetful(NULL, false, method->name, output), 1);
    snprintf(expected, sizeof expected, "main: %d ", POOL_ENOTINIT);
    EXPECT_TEXT(output, expected);
    EXPECT_TEXT(output, "pool_init()");
    EXPECT_TEXT(output, "main");
}

static void pool_in_a_constructor_is_no_fork_bomb(void)
{
    char output[4096], expected[64];
    snprintf(expected, sizeof expected, "early: %d ", POOL_ENOTINIT);
    EXPECT_INT(run_forgetful(method->name, false, NULL, output), 1);
    EXPECT_TEXT(output, expected);
    unsigned images = run_forgetful(method->name, true, method->name, output);
    EXPECT(images >= 2 && images <= 4); /* the host, and two workers or a server */
    EXPECT_TEXT(output, expected);
    EXPECT_TEXT(output, "main: 0 made");
}

static void start_method_without_a_new_image_needs_no_pool_init(void)
{
    char output[4096];
    EXPECT_INT(run_forgetful(NULL, false, method->name, output), 1);
    EXPECT_TEXT(output, "main: 0 made");
}

/* Root's set-user-ID program that gives up being root: its workers would be root again, and have main to themselves. */
static void workers_that_are_given_other_rights_end_before_main(void)
{
    char original[1024], program[CASE_PATH_BYTES], output[4096], log[4096], expected[64];
    if (getuid())
        skip_case("only root has other rights to give");
    program_path("forgets_init", original);
    copy_file(original, case_path("forgets_init", program));
    EXPECT_OK(chmod(program, 04755));
    setenv("FORGETS_INIT_USER", "65534", 1);
    EXPECT(run_copy(program, NULL, true, method->name, output) >= 2);
    EXPECT(read_file(case_path("log", program), log, sizeof log) > 0);
    EXPECT_INT(count_text(log, "in main\n"), 1);
    snprintf(expected, sizeof expected, "main: %d ", POOL_EBROKEN);
    if (!strstr(output, "main: 0 made")) /* as on a mount, or under valgrind, where no file is set-user-ID */
        EXPECT_TEXT(output, expected);
}

/* ---- texts ---- */

static void every_error_and_outcome_has_a_text(void)
{
    for (int error = POOL_ENOBACKEND; error <= POOL_ETASK; error++)
        EXPECT(*pool_strerror(error) && !strstr(pool_strerror(error), "nknown"));
    for (int outcome = POOL_PENDING; outcome <= POOL_ENDED; outcome++)
        EXPECT(*pool_strerror(outcome) && !strstr(pool_strerror(outcome), "nknown"));
    EXPECT_TEXT(pool_strerror(-ENOMEM), strerror(ENOMEM));
    EXPECT(*pool_strerror(0) && *pool_strerror(-99999) && *pool_strerror(12345) && *pool_strerror(-2147483647 - 1));
}

static void *read_message(void *text_out)
{
    snprintf(text_out, 100, "%s", pool_message());
    return NULL;
}

static void message_belongs_to_a_thread(void)
{
    char text[100] = "none";
    pthread_t thread;
    EXPECT(!*pool_message());
    EXPECT_INT(pool_create(NULL, NULL), -EINVAL);
    EXPECT(*pool_message());
    EXPECT_OK(pthread_create(&thread, NULL, read_message, text));
    EXPECT_OK(pthread_join(thread, NULL));
    EXPECT(!*text);
}

const struct conformance_case refusal_cases[] = {
    CASE(failing_initializer_breaks_the_pool_with_its_code_and_text),
    CASE(crashing_initializer_breaks_the_pool_and_tells_how),
    CASE(hanging_initializer_breaks_the_pool_when_its_time_is_over),
    CASE(failing_preload_breaks_the_pool_and_tells_why),
    CASE_IF(PRELOADS_ONCE, preload_that_leaves_threads_is_refused_with_their_number),
    CASE(pool_goes_on_with_the_workers_that_did_start),
    CASE(pool_whose_workers_cannot_be_replaced_is_broken_for_good),
    CASE(start_that_fails_at_times_is_tried_again),
    CASE(workers_that_are_killed_together_as_they_start_are_started_again),
    CASE(only_worker_that_dies_as_soon_as_it_is_ready_is_replaced),
    CASE(unknown_start_method_is_refused_with_the_choices),
    CASE(environment_may_say_how_many_workers),
    CASE(malformed_options_are_refused),
    CASE(forty_fds_are_enough),
    CASE(few_fds_are_enough_or_refused),
    CASE(no_room_for_processes_is_that_error),
    CASE_IF(STARTS_AFRESH, no_proc_is_that_error),
    CASE(workers_of_another_user_are_killed_too),
    CASE_IF(NEEDS_INIT, effective_user_that_is_not_the_real_one_is_refused),
    {"workers_that_are_given_other_rights_end_before_main", workers_that_are_given_other_rights_end_before_main,
     NEEDS_INIT, PRINTS},
    {"forgotten_pool_init_is_refused_with_what_to_write", forgotten_pool_init_is_refused_with_what_to_write, NEEDS_INIT,
     PRINTS},
    {"pool_in_a_constructor_is_no_fork_bomb", pool_in_a_constructor_is_no_fork_bomb, NEEDS_INIT, PRINTS},
    {"start_method_without_a_new_image_needs_no_pool_init", start_method_without_a_new_image_needs_no_pool_init,
     COPIES_PARENT, PRINTS},
    CASE(every_error_and_outcome_has_a_text),
    CASE(message_belongs_to_a_thread),
    {0},
};

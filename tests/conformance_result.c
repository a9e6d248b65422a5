/* conformance_result: what a task tells when it has ended: how, and with which bytes. */
#include "conformance_numbered.h"
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* Counters of the board. A task at the gate ends when it is opened. */
enum { GATE = 1 };

/* ---- what workers do ---- */

static int wait_at_gate(struct pool_call *call)
{
    struct board *board = pool_call_state(call);
    mark_item(board);
    return !await_counter(board, GATE, 1);
}

/* ---- what the host does ---- */

/* ---- how it ended ---- */

enum way {
    RETURNS_0,
    RETURNS_CODE,
    FAILS_WITH_TEXT,
    REPLIES_TOO_MUCH,
    SEGFAULTS,
    EXITS,
    EXITS_WITH_0,
    IS_LATE,
    BABBLES
};

enum { LIMIT_BYTES = 1000 };

static void babble(void)
{
    unsigned char garbage[4096];
    memset(garbage, 0xa7, sizeof garbage);
    for (int fd = 3; fd < 64; fd++)
        if (!fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) && write(fd, garbage, sizeof garbage) < 0)
            continue;
}

static int end_in_a_way(struct pool_call *call)
{
    mark_item(pool_call_state(call));
    memset(pool_call_reply(call, 100), 1, 100);
    switch ((enum way)number_of(call)) {
    case RETURNS_CODE:
        return -17;
    case FAILS_WITH_TEXT:
        return pool_call_fail(call, 1234, "no %s in it", "luck");
    case REPLIES_TOO_MUCH:
        return pool_call_reply(call, LIMIT_BYTES + 1) != NULL;
    case SEGFAULTS:
        return raise(SIGSEGV);
    case EXITS:
        exit(3);
    case EXITS_WITH_0:
        exit(0);
    case BABBLES:
        babble();
        return 0;
    case IS_LATE:
        for (;;)
            pause();
    case RETURNS_0:
        break;
    }
    return 0;
}

struct ending {
    int status, code, signal, exit_code;
    const char *words[2]; /* in the message: one of them */
};

static void expect_ending(const struct pool_result *result, const struct ending *ending, struct board *board,
                          uint64_t index)
{
    char number[32], pid[32];
    EXPECT_INT(result->status, ending->status);
    EXPECT_INT(result->code, ending->code);
    /* Of workers that the pool killed nothing is promised. */
    if (ending->status != POOL_ETIMEOUT && ending->status != POOL_EPROTO) {
        EXPECT_INT(result->signal, ending->signal);
        EXPECT_INT(result->exit_code, ending->exit_code);
        EXPECT_INT(result->worker_pid, board->pids[index]);
    }
    EXPECT_INT(result->worker_id, 0);
    EXPECT_INT(result->attempts, 1);
    EXPECT_INT(result->data_size, ending->status ? 0 : 100);
    if (ending->status != POOL_EPROTO)
        EXPECT_INT(!result->run_ns, (ending->status == POOL_ECRASH || ending->status == POOL_ETIMEOUT));
    if (!ending->status)
        return;
    EXPECT(strstr(result->message, ending->words[0]) || strstr(result->message, ending->words[1]));
    snprintf(number, sizeof number, "%d", (int)index);
    snprintf(pid, sizeof pid, "%d", board->pids[index]);
    EXPECT_TEXT(result->message, number);
    if (ending->status == POOL_ECRASH || ending->status == POOL_ETIMEOUT)
        EXPECT_TEXT(result->message, pid);
}

static void result_tells_how_a_task_ended(void)
{
    static const struct ending endings[] = {
        [RETURNS_0] = {0, 0, 0, -1, {NULL}},
        [RETURNS_CODE] = {POOL_ETASK, -17, 0, -1, {"-17", "-17"}},
        [FAILS_WITH_TEXT] = {POOL_ETASK, 1234, 0, -1, {"no luck in it", "no luck in it"}},
        [REPLIES_TOO_MUCH] = {-EMSGSIZE, 0, 0, -1, {"max_result_bytes", "1000"}},
        [SEGFAULTS] = {POOL_ECRASH, 0, SIGSEGV, -1, {"SIGSEGV", "signal 11"}},
        [EXITS] = {POOL_ECRASH, 0, 0, 3, {"code 3", "status 3"}},
        [EXITS_WITH_0] = {POOL_ECRASH, 0, 0, 0, {"code 0", "status 0"}},
        [IS_LATE] = {POOL_ETIMEOUT, 0, 0, 0, {"deadline", "late"}},
        [BABBLES] = {POOL_EPROTO, 0, 0, 0, {"protocol", "frame"}},
    };
    enum { INDEX_OF_FIRST = 137 };
    struct board *board = make_board();
    struct pool_options options = board_options(1);
    options.max_result_bytes = LIMIT_BYTES;
    struct pool *pool = make_pool_with(&options);
    for (uint64_t i = 0; i < INDEX_OF_FIRST; i++)
        expect_triple(submit(pool, triple, i), i);
    for (uint64_t way = RETURNS_0; way <= BABBLES; way++) {
        struct pool_task_options task_options = POOL_TASK_OPTIONS_INIT;
        task_options.timeout_ms = way == IS_LATE ? 200 : 0;
        struct pool_task *task = submit_with(pool, end_in_a_way, way, &task_options);
        struct pool_result result = end_of(task);
        expect_ending(&result, &endings[way], board, INDEX_OF_FIRST + way);
        pool_task_free(task);
    }
    EXPECT_OK(pool_destroy(pool));
}

static int raise_signal(struct pool_call *call)
{
    return raise((int)number_of(call));
}

static void result_tells_the_signal(void)
{
    static const int signals[] = {SIGKILL, SIGTERM, SIGABRT, SIGFPE};
    struct pool *pool = make_pool(1);
    for (int i = 0; i < 4; i++) {
        struct pool_task *task = submit(pool, raise_signal, (uint64_t)signals[i]);
        struct pool_result result = end_of(task);
        EXPECT_INT(result.status, POOL_ECRASH);
        EXPECT_INT(result.signal, signals[i]);
        EXPECT_INT(result.exit_code, -1);
        EXPECT(result.worker_pid > 0 && result.worker_pid != getpid());
        pool_task_free(task);
    }
    EXPECT_OK(pool_destroy(pool));
}

static int reply_pid(struct pool_call *call)
{
    return reply_number(call, (uint64_t)getpid());
}

/* Also when the pool has only just heard of its worker. */
static void every_result_names_the_worker_that_had_it(void)
{
    enum { POOLS = 12, COUNT = 5 };
    for (int i = 0; i < POOLS; i++) {
        struct pool *pool = make_pool(2);
        struct pool_task *tasks[COUNT];
        for (int k = 0; k < COUNT; k++)
            tasks[k] = submit(pool, reply_pid, 0);
        for (int k = 0; k < COUNT; k++) {
            struct pool_result result = end_of(tasks[k]);
            EXPECT_INT(result.worker_pid, reply_of(tasks[k]));
            EXPECT(result.worker_id < 2);
            pool_task_free(tasks[k]);
        }
        EXPECT_OK(pool_destroy(pool));
    }
}

static void results_tell_how_long_it_was_queued_and_ran(void)
{
    enum { HELD_MS = 200, LEAST_NS = HELD_MS * 500000 };
    struct board *board = make_board();
    struct pool_options options = board_options(1);
    struct pool *pool = make_pool_with(&options);
    struct pool_task *held = submit(pool, wait_at_gate, 0), *queued = submit(pool, triple, 3);
    EXPECT_INT(pool_wait(held, HELD_MS), POOL_PENDING);
    board->counters[GATE] = 1;
    EXPECT(end_of(held).run_ns >= LEAST_NS);
    EXPECT(end_of(queued).queued_ns >= LEAST_NS);
    EXPECT(end_of(queued).queued_ns < PATIENCE_MS * UINT64_C(1000000));
    pool_task_free(held);
    expect_triple(queued, 3);
    EXPECT_OK(pool_destroy(pool));
}

static void a_text_belongs_to_one_task(void)
{
    make_board();
    struct pool_options options = board_options(1);
    struct pool *pool = make_pool_with(&options);
    struct pool_task *texts = submit(pool, end_in_a_way, FAILS_WITH_TEXT);
    struct pool_task *none = submit(pool, end_in_a_way, RETURNS_CODE);
    EXPECT(!strstr(end_of(none).message, "luck"));
    EXPECT_TEXT(end_of(texts).message, "no luck in it");
    pool_task_free(none);
    EXPECT_TEXT(end_of(texts).message, "no luck in it");
    pool_task_free(texts);
    EXPECT_OK(pool_destroy(pool));
}

/* ---- functions that workers cannot run ---- */

static pool_task_fn *at_address(void *address)
{
    pool_task_fn *function;
    memcpy(&function, &address, sizeof function);
    return function;
}

static void task_in_no_loaded_object_is_refused(void)
{
    static char data[16];
    struct pool *pool = make_pool(1);
    struct pool_task *none = NULL;
    void *code = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    EXPECT(code != MAP_FAILED);
    EXPECT_INT(pool_submit(pool, at_address(code), NULL, 0, NULL, &none), POOL_EBUILD);
    EXPECT(*pool_message());
    EXPECT_INT(pool_submit(pool, at_address(data), NULL, 0, NULL, &none), POOL_EBUILD);
    EXPECT(!none);
    expect_triple(submit(pool, triple, 1), 1);
    munmap(code, 4096);
    EXPECT_OK(pool_destroy(pool));
}

static void copy_plugin(const char *plugin, const char *path)
{
    static char bytes[1 << 20];
    char from[2048];
#ifdef TEST_PLUGIN_DIR
    snprintf(from, sizeof from, "%s/%s", TEST_PLUGIN_DIR, plugin);
#else
    char plugins[1024];
    snprintf(from, sizeof from, "%s/%s", program_path("plugins", plugins), plugin);
#endif
    ssize_t size = read_file(from, bytes, sizeof bytes);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0700);
    EXPECT(size > 0);
    EXPECT_INT(write(fd, bytes, (size_t)size), size);
    close(fd);
}

/* A plug-in that another build has taken the place of before a worker has loaded it. */
static void task_whose_plugin_was_replaced_ends_with_that_error(void)
{
    char path[CASE_PATH_BYTES], other_path[CASE_PATH_BYTES];
    struct pool *pool = make_pool(1);
    copy_plugin("plugin_map.so", case_path("plugin.so", path));
    copy_plugin("plugin_map_other.so", case_path("other.so", other_path));
    void *plugin = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    EXPECT(plugin);
    EXPECT_OK(rename(other_path, path));
    struct pool_task *task = submit(pool, at_address(dlsym(plugin, "plugin_answer")), 1);
    struct pool_task *neighbour = submit(pool, triple, 2);
    struct pool_result result = end_of(task);
    EXPECT_INT(result.status, POOL_EBUILD);
    EXPECT_INT(result.code, 0);
    EXPECT_TEXT(result.message, "plugin.so");
    pool_task_free(task);
    expect_triple(neighbour, 2);
    EXPECT_OK(pool_destroy(pool));
    dlclose(plugin);
}

/* ---- payloads ---- */

/* Every byte one more. Input and reply lie where they should. */
static int increment(struct pool_call *call)
{
    size_t size = 99999999;
    const unsigned char *input = pool_call_input(call, &size);
    unsigned char *reply = pool_call_reply(call, size);
    if (!input || (uintptr_t)input % 16 || !reply || (uintptr_t)reply % 16)
        return 1;
    for (size_t i = 0; i < size; i++)
        reply[i] = (unsigned char)(input[i] + 1);
    return 0;
}

static void fill(unsigned char *bytes, size_t size, size_t seed)
{
    for (size_t i = 0; i < size; i++)
        bytes[i] = (unsigned char)(seed + i * 7 + (i >> 8));
}

/* The caller's bytes are gone as soon as it is submitted. */
static struct pool_task *submit_bytes(struct pool *pool, size_t size, size_t seed)
{
    struct pool_task *task = NULL;
    unsigned char *bytes = malloc(size ? size : 1);
    EXPECT(bytes);
    fill(bytes, size, seed);
    EXPECT_OK(pool_submit(pool, increment, size ? bytes : NULL, size, NULL, &task));
    memset(bytes, 0xee, size);
    free(bytes);
    return task;
}

static void expect_bytes(struct pool_task *task, size_t size, size_t seed)
{
    struct pool_result result = end_of(task);
    unsigned char *expected = malloc(size ? size : 1);
    EXPECT_INT(result.status, 0);
    EXPECT_INT(result.data_size, size);
    fill(expected, size, seed + 1);
    EXPECT(!size || !memcmp(result.data, expected, size));
    free(expected);
    pool_task_free(task);
}

static void payloads_of_0_to_10_mebibytes_come_back(void)
{
    static const size_t sizes[] = {0,     1,     15,    16,    17,   0,       2049,     4095,    4096,
                                   16385, 65535, 65536, 65537, 1000, 1 << 20, 10 << 20, 3000001, 0};
    enum { COUNT = sizeof sizes / sizeof *sizes };
    struct pool *pool = make_pool(2);
    struct pool_task *tasks[COUNT];
    for (size_t i = 0; i < COUNT; i++)
        tasks[i] = submit_bytes(pool, sizes[i], i);
    for (size_t i = 0; i < COUNT; i++)
        expect_bytes(tasks[i], sizes[i], i);
    EXPECT_OK(pool_destroy(pool));
}

static void input_is_copied(void)
{
    enum { COUNT = 500 };
    struct board *board = make_board();
    struct pool_options options = board_options(1);
    struct pool *pool = make_pool_with(&options);
    struct pool_task *tasks[COUNT], *held = submit(pool, wait_at_gate, 0);
    for (size_t i = 0; i < COUNT; i++)
        tasks[i] = submit_bytes(pool, i % 100 == 99 ? 1 << 20 : i, i);
    board->counters[GATE] = 1;
    for (size_t i = 0; i < COUNT; i++)
        expect_bytes(tasks[i], i % 100 == 99 ? 1 << 20 : i, i);
    pool_task_free(held);
    EXPECT_OK(pool_destroy(pool));
}

static int reply_nothing(struct pool_call *call)
{
    if (number_of(call) == 1)
        return !pool_call_reply(call, 0);
    return number_of(call) == 2 ? !pool_call_reply(call, 100) || !pool_call_reply(call, 0) : 0;
}

static void empty_reply_is_null(void)
{
    struct pool *pool = make_pool(1);
    for (uint64_t way = 0; way < 3; way++) {
        struct pool_task *task = submit(pool, reply_nothing, way);
        EXPECT_INT(end_of(task).status, 0);
        EXPECT(!result_of(task).data && !result_of(task).data_size);
        pool_task_free(task);
    }
    EXPECT_OK(pool_destroy(pool));
}

const struct conformance_case result_cases[] = {
    CASE(result_tells_how_a_task_ended),
    CASE(result_tells_the_signal),
    CASE(every_result_names_the_worker_that_had_it),
    CASE(results_tell_how_long_it_was_queued_and_ran),
    CASE(a_text_belongs_to_one_task),
    CASE(task_in_no_loaded_object_is_refused),
    CASE(task_whose_plugin_was_replaced_ends_with_that_error),
    CASE(payloads_of_0_to_10_mebibytes_come_back),
    CASE(input_is_copied),
    CASE(empty_reply_is_null),
    {0},
};

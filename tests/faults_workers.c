/* faults_workers: scenarios of what workers have beside their tasks: memory and fds of the host, what was broadcast, a
 * state. */
#include "faults_scenarios.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* ---- shared memory ---- */

/* NULL: refused. */
static void *make_buffer(struct pool *pool, size_t size)
{
    void *data = pool_buffer_alloc(pool, size);
    EXPECT(data || (fault_is_felt() && *pool_message()));
    return data;
}

static int compute_shared(struct pool_call *call)
{
    size_t size;
    const unsigned char *input = pool_call_input(call, &size);
    unsigned char *reply = pool_call_reply_shared(call, computed_size(size));
    if (!reply)
        return pool_call_fail(call, 1, "no memory");
    for (size_t i = 0; i < computed_size(size); i++)
        reply[i] = computed_byte(input, size, i);
    return 0;
}

static void reply_in_shared_memory(struct pool *pool, const unsigned char *input, size_t size)
{
    struct pool_task *task;
    struct pool_result result;
    if (!GRANTED(pool_submit(pool, compute_shared, input, size, NULL, &task)))
        return;
    EXPECT_INT(pool_wait(task, POOL_FOREVER), 0);
    EXPECT_INT(pool_task_result(task, &result), 0);
    EXPECT_STATUS(result.status, 0);
    EXPECT(result.status || is_computed(result.data, result.data_size, input, size));
    pool_task_free(task);
}

void shared_memory(void)
{
    struct pool_map_options options = POOL_MAP_OPTIONS_INIT;
    struct pool *pool = make_pool(2);
    if (!pool)
        return;
    long *items = make_buffer(pool, MAP_ITEMS * sizeof *items),
         *results = make_buffer(pool, MAP_ITEMS * sizeof *results);
    unsigned char *input = make_buffer(pool, 30000);
    if (items && results)
        map_arrays(pool, 0, &options, items, results);
    if (input)
        memset(input, 7, 30000);
    for (size_t i = 0; input && i < 3; i++)
        reply_in_shared_memory(pool, input + i, 20000);
    EXPECT_INT(pool_buffer_free(pool, items), 0);
    EXPECT_INT(pool_buffer_free(pool, results), 0);
    EXPECT_INT(pool_destroy(pool), 0);
    EXPECT_INT(pool_buffer_free(pool, input), 0);
}

/* ---- broadcasts ---- */

struct standing {
    pid_t pid;
    int number;
};

static int number; /* in a worker: what was broadcast */

static int set_number(struct pool_call *call)
{
    number = *(const int *)pool_call_input(call, NULL);
    return 0;
}

static int tell_standing(struct pool_call *call)
{
    struct standing *reply = pool_call_reply(call, sizeof *reply);
    if (!reply)
        return 1;
    *reply = (struct standing){getpid(), number};
    return 0;
}

/* Ask some worker; false: the fault got the better of it. */
static bool ask(struct pool *pool, struct standing *standing_out)
{
    struct pool_bytes item = {NULL, 0}, reply = {NULL, 0};
    int rc = pool_map_bytes(pool, tell_standing, &item, 1, &reply, NULL);
    if (rc) {
        EXPECT_STATUS(rc, 0);
        return false;
    }
    EXPECT_INT(reply.size, sizeof *standing_out);
    memcpy(standing_out, reply.data, sizeof *standing_out);
    pool_bytes_clear(&reply);
    return true;
}

static bool broadcast(struct pool *pool, int new_number)
{
    int rc = pool_broadcast(pool, set_number, &new_number, sizeof new_number);
    EXPECT_STATUS(rc, 0);
    return rc == 0;
}

void broadcasts(void)
{
    struct standing standing;
    struct pool *pool = make_pool(2);
    if (!pool)
        return;
    bool first_done = broadcast(pool, 41), second_done = broadcast(pool, 42);
    for (int i = 0; i < 6; i++) {
        if (!ask(pool, &standing))
            continue;
        EXPECT(standing.number == 42 || !second_done);
        EXPECT(standing.number == 41 || standing.number == 42 || !first_done);
        if (i % 2)
            end_worker(standing.pid); /* its replacement has to be told */
    }
    EXPECT_INT(pool_destroy(pool), 0);
}

/* ---- fds ---- */

enum { TASK_FDS = 2 };

/* Replies with what can be read from its fds; as often as it is run. */
static int read_fds(struct pool_call *call)
{
    char *reply = pool_call_reply(call, TASK_FDS);
    for (unsigned i = 0; reply && i < TASK_FDS; i++)
        if (pread(pool_call_fd(call, i), reply + i, 1, 0) != 1)
            return pool_call_fail(call, errno, "nothing to read from fd %u", i);
    return reply && pool_call_fd(call, TASK_FDS) == -1 ? 0 : 1;
}

static int make_readable(char byte)
{
    faults_pause();
    int fd = memfd_create("readable", MFD_CLOEXEC);
    EXPECT(fd >= 0 && write(fd, &byte, 1) == 1);
    faults_resume();
    return fd;
}

static struct pool_task *submit_with_fds(struct pool *pool, bool at_most_once)
{
    int fds[TASK_FDS];
    struct pool_task *task = NULL;
    struct pool_task_options options = POOL_TASK_OPTIONS_INIT;
    for (int i = 0; i < TASK_FDS; i++)
        fds[i] = make_readable((char)('a' + i));
    options.fds = fds;
    options.fd_count = TASK_FDS;
    options.at_most_once = at_most_once;
    bool accepted = GRANTED(pool_submit(pool, read_fds, NULL, 0, &options, &task));
    EXPECT(accepted == (task != NULL));
    for (int i = 0; i < TASK_FDS; i++)
        close(fds[i]);
    return task;
}

static void check_reply(struct pool_task *task, const void *reply, size_t size)
{
    struct pool_result result;
    if (!task)
        return;
    EXPECT_INT(pool_wait(task, POOL_FOREVER), 0);
    EXPECT_INT(pool_task_result(task, &result), 0);
    EXPECT_STATUS(result.status, 0);
    EXPECT(result.status || (result.data_size == size && !memcmp(result.data, reply, size)));
    pool_task_free(task);
}

void tasks_with_fds(void)
{
    enum { COUNT = 8 };
    struct pool_task *with_fds[COUNT];
    struct pool *pool = make_pool(2);
    if (!pool)
        return;
    for (int i = 0; i < COUNT; i++)
        with_fds[i] = submit_with_fds(pool, i % 3 == 0);
    if (with_fds[COUNT - 1] && pool_cancel(with_fds[COUNT - 1]) >= 0) {
        pool_task_free(with_fds[COUNT - 1]);
        with_fds[COUNT - 1] = NULL;
    }
    for (int i = 0; i < COUNT; i++)
        check_reply(with_fds[i], "ab", TASK_FDS);
    EXPECT_INT(pool_destroy(pool), 0);
}

/* ---- workers that are replaced ---- */

static int make_state(const void *arg, size_t arg_size, void **state_out)
{
    if (arg_size != sizeof(long))
        return pool_call_fail(NULL, 1, "no argument");
    *state_out = malloc(sizeof(long));
    if (!*state_out)
        return pool_call_fail(NULL, 2, "no memory");
    memcpy(*state_out, arg, sizeof(long));
    return 0;
}

static int add_state(struct pool_call *call)
{
    size_t size;
    const long *input = pool_call_input(call, &size), *state = pool_call_state(call);
    long *reply = pool_call_reply(call, sizeof *reply);
    if (!reply)
        return 1;
    *reply = *input + *state;
    return 0;
}

static void check_sum(struct pool_task *task, long input, long state)
{
    long sum = input + state;
    check_reply(task, &sum, sizeof sum);
}

void recycling(void)
{
    enum { COUNT = 20, LIMIT = 3 };
    static const long state = 1000;
    struct pool_task *sums[COUNT] = {NULL};
    struct pool_stats stats = POOL_STATS_INIT;
    struct pool_options options = default_options(2);
    options.initializer = make_state;
    options.finalizer = free;
    options.arg = &state;
    options.arg_size = sizeof state;
    options.max_tasks_per_worker = LIMIT;
    struct pool *pool = make_pool_with(&options);
    if (!pool)
        return;
    for (long i = 0; i < COUNT; i++)
        (void)GRANTED(pool_submit(pool, add_state, &i, sizeof i, NULL, &sums[i]));
    for (long i = 0; i < COUNT; i++)
        check_sum(sums[i], i, state);
    EXPECT_INT(pool_stats(pool, &stats), 0);
    EXPECT(stats.recycled >= COUNT / LIMIT - 2 || fault_is_felt());
    EXPECT_INT(pool_destroy(pool), 0);
}

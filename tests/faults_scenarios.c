/* faults_scenarios: the list, and what scenarios share: see faults_scenarios.h. */
#include "faults_scenarios.h"
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

/* ---- expectations ---- */

bool fault_is_felt(void)
{
    unsigned traits = fault_forms[plan->fault].traits;
    bool harmless = traits & HARMLESS && !(plan->lasting && traits & TIRES);
    return plan->has_happened && !harmless;
}

void expect_int(const char *file, int line, const char *what, long long actual, long long expected)
{
    if (actual != expected)
        scenario_failed("%s:%d: %s is %lld (%s), not %lld; pool_message: \"%s\"", file, line, what, actual,
                        pool_strerror((int)actual), expected, pool_message());
}

bool is_due_to_fault(int error)
{
    if (!fault_is_felt())
        return false;
    bool lacks_fds = plan->fault == FAULT_FDS || fault_forms[plan->fault].group == FAULT_FDS;
    bool lacks_memory = plan->fault == FAULT_MEMORY; /* which fallocate calls by another name */
    return error == -plan->error || (lacks_fds && error == -EMFILE) || (lacks_memory && error == -ENOMEM) ||
           (plan->lasting && error == POOL_EBROKEN);
}

bool granted(const char *file, int line, const char *what, int rc)
{
    if (!rc)
        return true;
    if (!is_due_to_fault(rc))
        scenario_failed("%s:%d: %s is %d (%s); pool_message: \"%s\"", file, line, what, rc, pool_strerror(rc),
                        pool_message());
    if (!*pool_message())
        scenario_failed("%s:%d: %s is %d without a message", file, line, what, rc);
    return false;
}

void expect_status(const char *file, int line, int status, int expected)
{
    bool spoiled = fault_is_felt() && (status == POOL_ECRASH || status == POOL_EPROTO || is_due_to_fault(status));
    if (status != expected && !spoiled)
        scenario_failed("%s:%d: the status is %d (%s), not %d (%s); pool_message: \"%s\"", file, line, status,
                        pool_strerror(status), expected, pool_strerror(expected), pool_message());
}

/* ---- pools ---- */

struct pool_options default_options(unsigned workers)
{
    struct pool_options options = POOL_OPTIONS_INIT;
    options.backend = start_method;
    options.workers = workers;
    options.soft_kill_grace_ms = -1;
    return options;
}

struct pool *make_pool_with(const struct pool_options *options)
{
    struct pool *pool = NULL;
    bool made = GRANTED(pool_create(options, &pool));
    EXPECT(made == (pool != NULL));
    return pool;
}

struct pool *make_pool(unsigned workers)
{
    struct pool_options options = default_options(workers);
    return make_pool_with(&options);
}

/* ---- waiting ---- */

bool becomes_readable(int fd)
{
    struct pollfd watched = {.fd = fd, .events = POLLIN};
    faults_pause();
    int ready = poll(&watched, 1, PATIENCE_MS);
    faults_resume();
    return ready == 1;
}

void end_worker(pid_t pid)
{
    faults_pause();
    int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    EXPECT(pidfd >= 0 && !kill(pid, SIGKILL));
    EXPECT(becomes_readable(pidfd));
    close(pidfd);
    faults_resume();
}

/* ---- what workers do ---- */

noreturn void crash(void)
{
    signal(SIGABRT, SIG_DFL);
    abort();
}

int triple(const void *item, void *result, void *state)
{
    (void)state;
    long number = *(const long *)item;
    if (number == CRASHING)
        crash();
    *(long *)result = number * 3 + 1;
    return number == FAILING ? FAILURE_CODE : 0;
}

unsigned char computed_byte(const unsigned char *input, size_t size, size_t at)
{
    return (unsigned char)((size ? input[at % size] : 0) + at * 7 + size);
}

size_t computed_size(size_t size)
{
    return size + size / 2 + (size % 2);
}

int compute(struct pool_call *call)
{
    size_t size;
    const unsigned char *input = pool_call_input(call, &size);
    unsigned char *reply = pool_call_reply(call, computed_size(size));
    if (!reply)
        return pool_call_fail(call, 1, "no memory");
    for (size_t i = 0; i < computed_size(size); i++)
        reply[i] = computed_byte(input, size, i);
    return 0;
}

bool is_computed(const void *reply, size_t reply_size, const void *input, size_t size)
{
    const unsigned char *bytes = reply;
    bool right = reply_size == computed_size(size) && (reply_size == 0) == (reply == NULL);
    for (size_t i = 0; right && i < reply_size; i++)
        right = bytes[i] == computed_byte(input, size, i);
    return right;
}

/* ---- maps ---- */

void check_map_item(long number, long result, int status, int code)
{
    EXPECT_STATUS(status, number == CRASHING ? POOL_ECRASH : number == FAILING ? POOL_ETASK : 0);
    EXPECT(status != 0 || (result == number * 3 + 1 && number != CRASHING && number != FAILING));
    EXPECT_INT(code, status == POOL_ETASK ? FAILURE_CODE : 0);
}

static void check_map(int rc, const long *items, const long *results, const int *statuses, const int *codes)
{
    if (statuses[0] == NOT_WRITTEN) { /* nothing ran */
        EXPECT(is_due_to_fault(rc) && *pool_message());
        return;
    }
    int first_failure = 0;
    for (size_t i = 0; i < MAP_ITEMS; i++) {
        check_map_item(items[i], results[i], statuses[i], codes[i]);
        first_failure = first_failure ? first_failure : statuses[i];
    }
    EXPECT_INT(rc, first_failure);
    EXPECT(!rc || *pool_message());
}

void map_arrays(struct pool *pool, long first, const struct pool_map_options *given, long *items, long *results)
{
    static int statuses[MAP_ITEMS], codes[MAP_ITEMS];
    struct pool_map_options options = *given;
    options.status_out = statuses;
    options.code_out = codes;
    for (long i = 0; i < MAP_ITEMS; i++) {
        items[i] = first + i;
        statuses[i] = NOT_WRITTEN;
    }
    int rc = pool_map_with(pool, triple, items, sizeof *items, results, sizeof *results, MAP_ITEMS, &options);
    check_map(rc, items, results, statuses, codes);
}

/* ---- payloads ---- */

unsigned char payload[LARGEST_PAYLOAD + 1];

void fill_payload(void)
{
    for (size_t i = 0; i < sizeof payload; i++)
        payload[i] = (unsigned char)(i * i + i / 251);
}

/* ---- the list ---- */

const struct scenario scenarios[] = {
    {"create", create_and_destroy},
    {"map", map_with_a_crash},
    {"large-map", large_map_with_a_crash},
    {"payloads", map_of_payloads},
    {"tasks", tasks},
    {"tasks-outlive-pool", tasks_of_a_destroyed_pool},
    {"shared-memory", shared_memory},
    {"streams", streams},
    {"broadcasts", broadcasts},
    {"fds", tasks_with_fds},
    {"shutdown-drain", shutdown_drain},
    {"shutdown-cancel", shutdown_cancel},
    {"shutdown-terminate", shutdown_terminate},
    {"shutdown-kill", shutdown_kill},
    {"event-loop", event_loop},
    {"progress-thread", progress_thread},
    {"recycling", recycling},
    {NULL, NULL},
};

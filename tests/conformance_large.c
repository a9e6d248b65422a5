/* conformance_large: tasks with large inputs and replies: these travel by memory that a worker shares with the host,
 * where there is such memory and they are not larger than that may be, and nobody can tell but by looking for it. */
#include "conformance_numbered.h"
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum { KIB = 1 << 10, MIB = 1 << 20, LARGEST = 9 * MIB };

/* ---- what workers do ---- */

/* The input of most: what is to be done with the bytes behind it. */
struct order {
    size_t reply_size;
    unsigned char seed;
    enum { MAKE, FAIL, DIE, HANG, GROW, ASK_A_COPY, IS_TOO_LARGE } deed;
};

static unsigned char byte_at(size_t i, unsigned char seed)
{
    return (unsigned char)(i * 31 + i / KIB + seed);
}

static void fill(unsigned char *bytes, size_t from, size_t size, unsigned char seed)
{
    for (size_t i = from; i < size; i++)
        bytes[i] = byte_at(i, seed);
}

static bool is_filled(const unsigned char *bytes, size_t size, unsigned char seed)
{
    for (size_t i = 0; i < size; i++)
        if (bytes[i] != byte_at(i, seed))
            return false;
    return true;
}

/* From one kind of memory to the other, and back where there was some before. */
static int grow_step_by_step(struct pool_call *call, const struct order *order)
{
    size_t had = 0;
    for (size_t size = 16, step = 0; had < order->reply_size; size = size * 3 + 1, step++) {
        size = size < order->reply_size ? size : order->reply_size;
        unsigned char *reply = step % 4 == 2 ? pool_call_reply_shared(call, size) : pool_call_reply(call, size);
        if (!reply)
            return 1;
        fill(reply, had, size, order->seed);
        had = size;
    }
    unsigned char *reply = pool_call_reply(call, order->reply_size / 2);
    return reply == pool_call_reply(call, order->reply_size / 2) && pool_call_reply(call, order->reply_size) ? 0 : 2;
}

/* A copy of the worker has the input. */
static int ask_a_copy(const unsigned char *bytes, size_t size, unsigned char seed)
{
    int status;
    pid_t pid = fork();
    if (!pid)
        _exit(is_filled(bytes, size, seed) ? 0 : 1);
    return pid > 0 && waitpid(pid, &status, 0) == pid && !status ? 0 : 1;
}

static int obey(struct pool_call *call)
{
    size_t size;
    const unsigned char *input = pool_call_input(call, &size);
    const struct order *order = (const void *)input;
    if (!is_filled(input + sizeof *order, size - sizeof *order, order->seed))
        return 3;
    if (order->deed == GROW)
        return grow_step_by_step(call, order);
    if (order->deed == IS_TOO_LARGE)
        return pool_call_reply(call, (size_t)LARGEST + 1) ? 4 : 0;
    unsigned char *reply = pool_call_reply(call, order->reply_size);
    if (!reply)
        return 5;
    fill(reply, 0, order->reply_size / 2, order->seed);
    if (order->deed == FAIL)
        return pool_call_fail(call, 7, "not this one");
    if (order->deed == DIE)
        raise(SIGKILL);
    while (order->deed == HANG)
        pause();
    fill(reply, order->reply_size / 2, order->reply_size, order->seed);
    return order->deed == ASK_A_COPY ? ask_a_copy(input + sizeof *order, size - sizeof *order, order->seed) : 0;
}

static unsigned count_mappings(void)
{
    static char text[MIB];
    return read_file("/proc/self/maps", text, sizeof text) < 0 ? 99 : count_text(text, "pool-transit");
}

static int tell_mappings(struct pool_call *call)
{
    return reply_number(call, count_mappings());
}

/* Whether the input is in such memory. */
static int tell_whether_it_travelled(struct pool_call *call)
{
    static char text[MIB];
    uintptr_t input = (uintptr_t)pool_call_input(call, NULL), begin, end;
    if (read_file("/proc/self/maps", text, sizeof text) < 0)
        return 1;
    for (const char *line = text; *line; line = strchr(line, '\n') + 1)
        if (sscanf(line, "%" SCNxPTR "-%" SCNxPTR, &begin, &end) == 2 && input >= begin && input < end)
            return reply_number(call, count_text(strtok((char *)(uintptr_t)line, "\n"), "pool-transit"));
    return 2;
}

static int tell_weight(struct pool_call *call)
{
    char text[128];
    uint64_t size, resident;
    bool told = read_file("/proc/self/statm", text, sizeof text) > 0 &&
                sscanf(text, "%" SCNu64 " %" SCNu64, &size, &resident) == 2;
    return told ? reply_number(call, resident * (uint64_t)sysconf(_SC_PAGESIZE)) : 1;
}

/* As much as the input's first byte says, of which nothing else is looked at. */
static int put_on_weight(struct pool_call *call)
{
    static void *kept;
    size_t size = *(const unsigned char *)pool_call_input(call, NULL) * (size_t)MIB;
    kept = size ? malloc(size) : kept;
    if (size && kept)
        fill(kept, 0, size, 1);
    return size && !kept ? 1 : 0;
}

static int use_all_fds(struct pool_call *call)
{
    struct rlimit limit = {.rlim_cur = 3, .rlim_max = 3};
    (void)call;
    return setrlimit(RLIMIT_NOFILE, &limit) ? 1 : 0;
}

/* ---- in the host ---- */

/* An input of `size` bytes in all. */
static unsigned char *make_input(const struct order *order, size_t size)
{
    unsigned char *input = malloc(size);
    EXPECT(input && size >= sizeof *order);
    memcpy(input, order, sizeof *order);
    fill(input + sizeof *order, 0, size - sizeof *order, order->seed);
    return input;
}

static struct pool_task *submit_order(struct pool *pool, const struct order *order, size_t size,
                                      const struct pool_task_options *options)
{
    struct pool_task *task;
    unsigned char *input = make_input(order, size);
    EXPECT_OK(pool_submit(pool, obey, input, size, options, &task));
    free(input); /* it was copied */
    return task;
}

static void expect_done(struct pool_task *task, const struct order *order)
{
    struct pool_result result = end_of(task);
    EXPECT_OK(result.status);
    EXPECT_INT(result.data_size, order->reply_size);
    EXPECT(is_filled(result.data, result.data_size, order->seed));
    pool_task_free(task);
}

static void do_order(struct pool *pool, struct order order, size_t size)
{
    expect_done(submit_order(pool, &order, size, NULL), &order);
}

static uint64_t number_from(struct pool *pool, pool_task_fn *fn)
{
    struct pool_task *task = submit(pool, fn, 0);
    EXPECT_OK(end_of(task).status);
    uint64_t reply = reply_of(task);
    pool_task_free(task);
    return reply;
}

/* Large ones, until a worker has the memory. */
static void bring_memory_in(struct pool *pool, unsigned char seed)
{
    struct order order = {.reply_size = MIB, .seed = seed};
    uint64_t since_ms = now_ms(), mappings = 0;
    while (mappings != 2) {
        struct pool_task *first = submit_order(pool, &order, MIB, NULL), *teller = submit(pool, tell_mappings, 0);
        expect_done(first, &order);
        EXPECT_OK(end_of(teller).status);
        mappings = reply_of(teller); /* which was sent behind the first */
        pool_task_free(teller);
        EXPECT(have_patience(since_ms));
    }
}

static void large_inputs_and_replies_travel_by_memory_of_their_worker(void)
{
    struct pool *pool = make_pool(1);
    struct pool_stats stats = POOL_STATS_INIT;
    unsigned fds = open_fd_count();
    do_order(pool, (struct order){.reply_size = 1000}, 1000);
    EXPECT_INT(number_from(pool, tell_mappings), 0);
    for (unsigned char i = 0; i < 20; i++)
        do_order(pool, (struct order){.reply_size = MIB, .seed = i}, MIB);
    EXPECT_INT(number_from(pool, tell_mappings),
               2); /* the items, which copies have, and the replies, which they have not */
    EXPECT_INT(count_mappings(), 1);
    EXPECT_INT(open_fd_count(), fds);
    EXPECT_OK(pool_stats(pool, &stats));
    EXPECT(stats.bytes_out >= 20 * MIB && stats.bytes_out < 21 * MIB);
    EXPECT(stats.bytes_in >= 20 * MIB && stats.bytes_in < 21 * MIB);
    EXPECT_OK(pool_destroy(pool));
    EXPECT_INT(count_mappings(), 0);
}

/* However many there are: the room of one is free again when it is replied to. */
static void large_inputs_with_small_replies_do_too(void)
{
    static unsigned char input[200 * KIB];
    struct pool *pool = make_pool(1);
    uint64_t travelled = 0;
    for (int i = 0; i < 50; i++) {
        struct pool_task *task;
        EXPECT_OK(pool_submit(pool, tell_whether_it_travelled, input, sizeof input, NULL, &task));
        EXPECT_OK(end_of(task).status);
        travelled += reply_of(task);
        pool_task_free(task);
    }
    EXPECT(travelled >= 25); /* but the first, and any while the worker has not mapped the memory */
    EXPECT_OK(pool_destroy(pool));
}

/* One travels by itself, so that it can, however many wait, whatever is among them, and however short they are. */
static void where_many_wait_they_do_as_well(void)
{
    enum { COUNT = 400 };
    static unsigned char input[49 * KIB];
    struct pool *pool = make_pool(1);
    struct pool_task *tasks[COUNT];
    uint64_t travelled = 0;
    for (int i = 0; i < COUNT; i++)
        EXPECT_OK(pool_submit(pool, tell_whether_it_travelled, input, i % 8 ? sizeof input : 1, NULL, &tasks[i]));
    for (int i = 0; i < COUNT; i++) {
        EXPECT_OK(end_of(tasks[i]).status);
        travelled += reply_of(tasks[i]);
        pool_task_free(tasks[i]);
    }
    EXPECT(travelled >= COUNT / 2);
    EXPECT_OK(pool_destroy(pool));
}

/* When it is known that its kind replies with much. */
static void large_replies_of_small_inputs_do_too(void)
{
    struct pool *pool = make_pool(1);
    for (unsigned char i = 0; i < 10; i++)
        do_order(pool, (struct order){.reply_size = 300 * KIB, .seed = i}, 100);
    EXPECT_INT(number_from(pool, tell_mappings), 2);
    EXPECT_OK(pool_destroy(pool));
}

static void sizes_come_and_go(void)
{
    static const size_t sizes[] = {32,      60 * KIB, 3 * MIB,  100,    MIB,     LARGEST, 49 * KIB,
                                   4 * MIB, KIB,      47 * KIB, 600000, 4194305, 2 * MIB, 300 * KIB};
    enum { COUNT = sizeof sizes / sizeof *sizes };
    struct pool_options options = method_options(1);
    options.max_result_bytes = LARGEST;
    struct pool *pool = make_pool_with(&options);
    for (unsigned i = 0; i < COUNT; i++)
        for (unsigned k = 0; k < COUNT; k++)
            do_order(pool, (struct order){.reply_size = sizes[(i + k) % COUNT], .seed = (unsigned char)k}, sizes[k]);
    EXPECT_INT(count_mappings(), 1);
    EXPECT_OK(pool_destroy(pool));
}

static void many_are_under_way_at_once(void)
{
    enum { COUNT = 120 };
    static const size_t sizes[] = {100 * KIB, 200, 400 * KIB, 70 * KIB, MIB};
    struct pool *pool = make_pool(2);
    struct pool_task *tasks[COUNT];
    struct order orders[COUNT];
    for (int round = 0; round < 3; round++) {
        for (unsigned i = 0; i < COUNT; i++) {
            orders[i] = (struct order){.reply_size = sizes[i * 7 % 5], .seed = (unsigned char)i};
            tasks[i] = submit_order(pool, &orders[i], sizes[i % 5], NULL);
        }
        for (unsigned i = 0; i < COUNT; i++)
            expect_done(tasks[COUNT - 1 - i], &orders[COUNT - 1 - i]);
    }
    EXPECT_OK(pool_destroy(pool));
}

static void map_of_bytes_does_as_well(void)
{
    enum { COUNT = 40 };
    struct pool *pool = make_pool(2);
    struct pool_bytes inputs[COUNT], replies[COUNT];
    for (unsigned i = 0; i < COUNT; i++) {
        struct order order = {.reply_size = (i % 4) * 200 * KIB + 1, .seed = (unsigned char)i};
        inputs[i].size = (i % 5) * 150 * KIB + sizeof order;
        inputs[i].data = make_input(&order, inputs[i].size);
    }
    EXPECT_OK(pool_map_bytes(pool, obey, inputs, COUNT, replies, NULL));
    for (unsigned i = 0; i < COUNT; i++) {
        EXPECT_INT(replies[i].size, (i % 4) * 200 * KIB + 1);
        EXPECT(is_filled(replies[i].data, replies[i].size, (unsigned char)i));
        pool_bytes_clear(&replies[i]);
    }
    uint64_t since_ms = now_ms();
    do {
        EXPECT_OK(pool_map_bytes(pool, obey, inputs, COUNT, NULL, NULL)); /* which nobody wants */
        EXPECT(have_patience(since_ms));
    } while (!number_from(pool, tell_mappings)); /* whom the other has left little to do */
    for (unsigned i = 0; i < COUNT; i++)
        pool_bytes_clear(&inputs[i]);
    EXPECT_OK(pool_destroy(pool));
}

/* Its input is still there for another worker, and what it had begun to write is nobody's. */
static void who_dies_of_it_fails_alone(void)
{
    struct pool *pool = make_pool(1);
    struct pool_task_options options = POOL_TASK_OPTIONS_INIT;
    options.timeout_ms = 300;
    for (unsigned char i = 0; i < 3; i++) {
        struct order good = {.reply_size = 200 * KIB, .seed = i}, fails = good, dies = good, hangs = good;
        fails.deed = FAIL;
        dies.deed = DIE;
        hangs.deed = HANG;
        bring_memory_in(pool, i);
        struct pool_task *failed = submit_order(pool, &fails, 100 * KIB, NULL),
                         *dead = submit_order(pool, &dies, 100 * KIB, NULL),
                         *hung = submit_order(pool, &hangs, 100 * KIB, &options),
                         *other = submit_order(pool, &good, 300 * KIB, NULL);
        EXPECT_INT(end_of(failed).code, 7);
        EXPECT_TEXT(end_of(failed).message, "not this one");
        EXPECT_INT(end_of(dead).status, POOL_ECRASH);
        EXPECT_INT(end_of(hung).status, POOL_ETIMEOUT);
        expect_done(other, &good);
        pool_task_free(failed);
        pool_task_free(dead);
        pool_task_free(hung);
    }
    EXPECT_OK(pool_destroy(pool));
}

static void who_is_killed_meanwhile_is_followed_by_another(void)
{
    enum { COUNT = 60 };
    struct pool *pool = make_pool(2);
    struct pool_task *tasks[COUNT];
    struct order order = {.reply_size = 500 * KIB, .seed = 3};
    for (unsigned i = 0; i < COUNT; i++)
        tasks[i] = submit_order(pool, &order, 500 * KIB, NULL);
    for (unsigned i = 0; i < COUNT; i++) {
        struct pool_result result = end_of(tasks[i]);
        if (i % 10 == 5 && is_running(result.worker_pid))
            kill(result.worker_pid, SIGKILL); /* at the next, or between two */
        EXPECT(result.status == 0 || result.status == POOL_ECRASH);
        EXPECT(result.status || is_filled(result.data, order.reply_size, 3));
        pool_task_free(tasks[i]);
    }
    EXPECT_OK(pool_destroy(pool));
}

static void reply_moves_to_where_it_has_room(void)
{
    struct pool *pool = make_pool(1);
    bring_memory_in(pool, 0);
    for (unsigned char i = 0; i < 4; i++) {
        do_order(pool, (struct order){.reply_size = 100 * KIB, .seed = i}, 100 * KIB);
        do_order(pool, (struct order){.reply_size = 700 * KIB, .seed = i, .deed = ASK_A_COPY}, 200 * KIB);
        struct order order = {.reply_size = 2 * MIB, .seed = i, .deed = GROW};
        struct pool_task *task = submit_order(pool, &order, 150 * KIB, NULL);
        struct pool_result result = end_of(task);
        EXPECT_OK(result.status);
        EXPECT_INT(result.data_size, order.reply_size);
        EXPECT(is_filled(result.data, order.reply_size / 2, i)); /* it was no larger for a moment */
        pool_task_free(task);
    }
    EXPECT_OK(pool_destroy(pool));
}

static void what_is_too_large_is_refused_as_ever(void)
{
    struct pool_options options = method_options(1);
    options.max_result_bytes = 200 * KIB;
    struct pool *pool = make_pool_with(&options);
    for (int i = 0; i < 8; i++) {
        struct order order = {.reply_size = 200 * KIB, .deed = i % 2 ? IS_TOO_LARGE : MAKE};
        struct pool_task *task = submit_order(pool, &order, 2 * MIB, NULL);
        EXPECT_INT(end_of(task).status, i % 2 ? -EMSGSIZE : 0);
        pool_task_free(task);
    }
    EXPECT_OK(pool_destroy(pool));
}

static void input_in_a_buffer_may_have_a_reply_that_travels(void)
{
    struct pool *pool = make_pool(1);
    for (unsigned char i = 0; i < 10; i++) {
        struct order order = {.reply_size = 200 * KIB, .seed = i};
        unsigned char *made = make_input(&order, 100 * KIB), *input = pool_buffer_alloc(pool, 100 * KIB);
        struct pool_task *task;
        EXPECT(input);
        memcpy(input, made, 100 * KIB);
        EXPECT_OK(pool_submit(pool, obey, input, 100 * KIB, NULL, &task));
        expect_done(task, &order);
        EXPECT_OK(pool_buffer_free(pool, input));
        free(made);
    }
    EXPECT_INT(number_from(pool, tell_mappings), 2);
    EXPECT_OK(pool_destroy(pool));
}

static void who_cannot_map_is_sent_the_bytes(void)
{
    struct pool *pool = make_pool(1);
    struct pool_task *task = submit(pool, use_all_fds, 0);
    EXPECT_OK(end_of(task).status);
    pool_task_free(task);
    for (unsigned char i = 0; i < 5; i++)
        do_order(pool, (struct order){.reply_size = MIB, .seed = i}, MIB);
    EXPECT_OK(pool_destroy(pool));
}

static void host_without_fds_sends_the_bytes(void)
{
    struct pool *pool = make_pool(1);
    struct rlimit limit, none;
    do_order(pool, (struct order){.reply_size = 100}, 100);
    EXPECT_OK(getrlimit(RLIMIT_NOFILE, &limit));
    none = limit;
    none.rlim_cur = 3;
    EXPECT_OK(setrlimit(RLIMIT_NOFILE, &none));
    for (unsigned char i = 0; i < 5; i++)
        do_order(pool, (struct order){.reply_size = MIB, .seed = i}, MIB);
    EXPECT_INT(count_mappings(), 99); /* there is no looking without fds */
    EXPECT_OK(setrlimit(RLIMIT_NOFILE, &limit));
    EXPECT_INT(count_mappings(), 0);
    EXPECT_OK(pool_destroy(pool));
}

static void await_no_mappings(void)
{
    uint64_t since_ms = now_ms();
    while (count_mappings())
        EXPECT(have_patience(since_ms));
}

/* It would take longer to make than to do without. */
static void single_large_task_brings_no_memory_in(void)
{
    struct pool *pool = make_pool(1);
    do_order(pool, (struct order){.reply_size = MIB}, MIB);
    EXPECT_INT(number_from(pool, tell_mappings), 0);
    EXPECT_INT(count_mappings(), 0);
    bring_memory_in(pool, 1);
    EXPECT_OK(pool_destroy(pool));
}

/* While somebody drives. */
static void idle_pool_gives_the_memory_up(void)
{
    struct pool_options options = method_options(1);
    options.progress_thread = 1;
    struct pool *pool = make_pool_with(&options);
    for (unsigned char i = 0; i < 3; i++) {
        bring_memory_in(pool, i);
        await_no_mappings();
        EXPECT_INT(number_from(pool, tell_mappings), 0);
    }
    EXPECT_OK(pool_destroy(pool));
}

/* Though another is at work all the while. */
static void idle_worker_gives_the_memory_up(void)
{
    struct pool_options options = method_options(2);
    options.progress_thread = 1;
    struct pool *pool = make_pool_with(&options);
    struct pool_result unused;
    struct order hangs = {.reply_size = 1, .deed = HANG};
    struct pool_task *hung = submit_order(pool, &hangs, sizeof hangs, NULL);
    for (unsigned char i = 0; i < 3; i++) {
        bring_memory_in(pool, i);
        await_no_mappings();
    }
    EXPECT_INT(pool_task_result(hung, &unused), POOL_PENDING);
    EXPECT_OK(pool_cancel(hung));
    pool_task_free(hung);
    EXPECT_OK(pool_destroy(pool));
}

static void recycled_worker_has_it_anew(void)
{
    struct pool_options options = method_options(1);
    options.max_tasks_per_worker = 4;
    struct pool *pool = make_pool_with(&options);
    for (unsigned char i = 0; i < 20; i++)
        do_order(pool, (struct order){.reply_size = MIB, .seed = i}, MIB);
    EXPECT_OK(pool_destroy(pool));
}

static uint64_t recycled_after(struct pool *pool, unsigned char mib)
{
    static unsigned char input[4 * MIB];
    struct pool_stats stats = POOL_STATS_INIT;
    struct pool_task *task;
    input[0] = mib;
    EXPECT_OK(pool_submit(pool, put_on_weight, input, sizeof input, NULL, &task));
    EXPECT_OK(end_of(task).status);
    pool_task_free(task);
    number_from(pool, tell_weight); /* by that worker or the next */
    EXPECT_OK(pool_stats(pool, &stats));
    return stats.recycled;
}

/* By what it has beside the pages by which large items travel, not by how large these may be. */
static void worker_is_worn_whatever_else_travels(void)
{
    struct pool_options options = method_options(1);
    struct pool *pool = make_pool_with(&options);
    options.max_worker_bytes = (size_t)number_from(pool, tell_weight) + 20 * MIB;
    EXPECT_OK(pool_destroy(pool));
    pool = make_pool_with(&options);
    for (int i = 0; i < 4; i++)
        EXPECT_INT(recycled_after(pool, 0), 0);
    EXPECT(recycled_after(pool, 28)); /* and perhaps the next: a copy of a host that has grown meanwhile */
    EXPECT_OK(pool_destroy(pool));
}

const struct conformance_case large_cases[] = {
    CASE(large_inputs_and_replies_travel_by_memory_of_their_worker),
    CASE(large_inputs_with_small_replies_do_too),
    CASE(where_many_wait_they_do_as_well),
    CASE(large_replies_of_small_inputs_do_too),
    CASE(sizes_come_and_go),
    CASE(many_are_under_way_at_once),
    CASE(map_of_bytes_does_as_well),
    CASE(who_dies_of_it_fails_alone),
    CASE(who_is_killed_meanwhile_is_followed_by_another),
    CASE(reply_moves_to_where_it_has_room),
    CASE(what_is_too_large_is_refused_as_ever),
    CASE(input_in_a_buffer_may_have_a_reply_that_travels),
    CASE(who_cannot_map_is_sent_the_bytes),
    CASE(host_without_fds_sends_the_bytes),
    CASE(single_large_task_brings_no_memory_in),
    CASE(idle_pool_gives_the_memory_up),
    CASE(idle_worker_gives_the_memory_up),
    CASE(recycled_worker_has_it_anew),
    CASE(worker_is_worn_whatever_else_travels),
    {0},
};

/* conformance_lend: replies that stay in memory which the worker lends: they are read where they were written, and the
 * memory is used again.
 *
 * How much of it there is the maps of host and worker tell. */
#include "conformance_numbered.h"
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>

enum { LARGE = 1 << 20, MAPS_BYTES = 1 << 20 };

static unsigned count_regions_in(const char *maps)
{
    static char text[MAPS_BYTES];
    return read_file(maps, text, sizeof text) < 0 ? 999 : count_text(text, "pool-reply");
}

static unsigned count_regions(void)
{
    return count_regions_in("/proc/self/maps");
}

/* ---- what workers do ---- */

static int echo_shared(struct pool_call *call)
{
    size_t size;
    const void *input = pool_call_input(call, &size);
    void *reply = pool_call_reply_shared(call, size);
    if (!reply)
        return 1;
    memcpy(reply, input, size);
    return 0;
}

/* From 16 bytes on, so that it moves; and from one kind of memory to the other. */
static int grow_step_by_step(struct pool_call *call)
{
    size_t wanted = (size_t)number_of(call), had = 0;
    for (size_t size = 16, step = 0; had < wanted; size = size * 3 + 1, step++) {
        size = size < wanted ? size : wanted;
        unsigned char *reply = step % 4 == 2 ? pool_call_reply(call, size) : pool_call_reply_shared(call, size);
        if (!reply)
            return 1;
        for (size_t i = had; i < size; i++)
            reply[i] = (unsigned char)(i * 7);
        had = size;
    }
    return 0;
}

static int make_and_fail(struct pool_call *call)
{
    memset(pool_call_reply_shared(call, LARGE), 1, LARGE);
    return pool_call_fail(call, 9, "not this one");
}

static int ask_for_too_much(struct pool_call *call)
{
    if (pool_call_reply_shared(call, LARGE + 1))
        return 1;
    if (number_of(call))
        memset(pool_call_reply_shared(call, LARGE), 5, LARGE);
    return 0;
}

static int tell_regions(struct pool_call *call)
{
    return reply_number(call, count_regions());
}

static int use_all_fds(struct pool_call *call)
{
    struct rlimit limit = {.rlim_cur = 3, .rlim_max = 3};
    (void)call;
    return setrlimit(RLIMIT_NOFILE, &limit) ? errno : 0;
}

static int die(struct pool_call *call)
{
    (void)call;
    return raise(SIGKILL);
}

static int lend_in_place(struct pool_call *call)
{
    struct pool_bytes item = {(void *)(uintptr_t) "abcdefgh", 8}, reply;
    if (pool_map_bytes(NULL, echo_shared, &item, 1, &reply, NULL) || reply.size != 8 ||
        memcmp(reply.data, item.data, 8))
        return 1;
    pool_bytes_clear(&reply);
    return reply_number(call, 7);
}

/* ---- in the host ---- */

static unsigned char *make_input(size_t size, unsigned char seed)
{
    unsigned char *data = malloc(size);
    for (size_t i = 0; i < size; i++)
        data[i] = (unsigned char)(i + seed);
    return data;
}

static struct pool_task *submit_echo(struct pool *pool, const void *input, size_t size)
{
    struct pool_task *task;
    EXPECT_OK(pool_submit(pool, echo_shared, input, size, NULL, &task));
    return task;
}

static void expect_echo(struct pool_task *task, const void *input, size_t size)
{
    struct pool_result result = end_of(task);
    EXPECT_OK(result.status);
    EXPECT_INT(result.data_size, size);
    EXPECT(!size == !result.data);
    EXPECT(!size || !memcmp(result.data, input, size));
}

static uint64_t number_from(struct pool *pool, pool_task_fn *fn, uint64_t number)
{
    struct pool_task *task = submit(pool, fn, number);
    EXPECT_OK(end_of(task).status);
    uint64_t reply = reply_of(task);
    pool_task_free(task);
    return reply;
}

static void reply_is_read_where_it_was_written(void)
{
    struct pool *pool = make_pool(1);
    struct pool_stats stats = POOL_STATS_INIT;
    unsigned char *input = make_input(LARGE, 3);
    for (size_t size = 0; size <= LARGE; size = size * 4 + 1) {
        struct pool_task *task = submit_echo(pool, input, size);
        expect_echo(task, input, size);
        pool_task_free(task);
    }
    EXPECT_OK(pool_stats(pool, &stats));
    EXPECT(stats.bytes_in < LARGE / 4);
    free(input);
    EXPECT_OK(pool_destroy(pool));
}

static void region_is_used_again(void)
{
    struct pool *pool = make_pool(1);
    unsigned fds = open_fd_count();
    unsigned char *input = make_input(LARGE, 1);
    for (unsigned i = 0; i < 1000; i++) {
        struct pool_task *task = submit_echo(pool, input + i, LARGE / 8 + i);
        expect_echo(task, input + i, LARGE / 8 + i);
        pool_task_free(task);
    }
    EXPECT(number_from(pool, tell_regions, 0) <= 4);
    EXPECT(count_regions() <= 4);
    EXPECT_INT(open_fd_count(), fds);
    EXPECT_OK(pool_destroy(pool));
    EXPECT_INT(count_regions(), 0);
    free(input);
}

static void many_replies_are_held_at_once_and_memory_goes_with_them(void)
{
    enum { MANY = 300, SIZE = 40000 };
    struct pool *pool = make_pool(2);
    struct pool_task *tasks[MANY];
    unsigned char *input = make_input(SIZE + MANY, 1);
    for (unsigned round = 0; round < 2; round++) {
        for (unsigned i = 0; i < MANY; i++)
            tasks[i] = submit_echo(pool, input + i, SIZE);
        for (unsigned i = 0; i < MANY; i++)
            expect_echo(tasks[i], input + i, SIZE);
        for (unsigned i = 0; i < MANY; i++)
            expect_echo(tasks[i], input + i, SIZE);
        for (unsigned i = 0; i < MANY; i++)
            pool_task_free(tasks[i * 7 % MANY]);
        EXPECT(count_regions() <= 4);
    }
    for (unsigned i = 0; i < 10; i++) /* whoever it is is told of what it had lent */
        number_from(pool, tell_regions, 0);
    EXPECT(number_from(pool, tell_regions, 0) <= 70);
    free(input);
    EXPECT_OK(pool_destroy(pool));
}

/* Though it is given nothing more to do. */
static void idle_worker_gives_up_what_is_not_needed(void)
{
    enum { HELD = 8, KEPT = 2 };
    struct pool *pool = make_pool(1);
    struct pool_task *tasks[HELD];
    unsigned char *input = make_input(LARGE, 1);
    char maps[64];
    uint64_t since_ms = now_ms();
    for (unsigned i = 0; i < HELD; i++)
        tasks[i] = submit_echo(pool, input, LARGE);
    for (unsigned i = 0; i < HELD; i++)
        expect_echo(tasks[i], input, LARGE);
    snprintf(maps, sizeof maps, "/proc/%d/maps", (int)result_of(tasks[0]).worker_pid);
    EXPECT(count_regions_in(maps) >= HELD);
    for (unsigned i = 0; i < HELD; i++)
        pool_task_free(tasks[i]);
    while (count_regions_in(maps) > KEPT)
        EXPECT(have_patience(since_ms));
    free(input);
    EXPECT_OK(pool_destroy(pool));
}

/* KiB of lent memory in RAM, as a process has it mapped. */
static unsigned resident_in(const char *smaps)
{
    static char text[MAPS_BYTES];
    unsigned total = 0;
    if (read_file(smaps, text, sizeof text) < 0)
        return 0;
    for (const char *at = text; (at = strstr(at, "pool-reply")) != NULL; at++) {
        unsigned resident = 0;
        const char *line = strstr(at, "\nRss:");
        if (line && sscanf(line, " Rss: %u", &resident) == 1)
            total += resident;
    }
    return total;
}

static void idle_worker_does_not_keep_the_pages_of_large_replies(void)
{
    struct pool *pool = make_pool(1);
    unsigned char *input = make_input(3 * LARGE, 1);
    char smaps[64];
    for (unsigned round = 0; round < 2; round++) {
        uint64_t since_ms = now_ms();
        struct pool_task *held = submit_echo(pool, input, LARGE), *task = submit_echo(pool, input, 3 * LARGE);
        expect_echo(task, input, 3 * LARGE);
        snprintf(smaps, sizeof smaps, "/proc/%d/smaps", (int)end_of(held).worker_pid);
        EXPECT(resident_in(smaps) >= 4 * LARGE / 1024);
        pool_task_free(task);
        while (resident_in(smaps) > LARGE / 1024)
            EXPECT(have_patience(since_ms));
        expect_echo(held, input, LARGE);
        pool_task_free(held);
    }
    free(input);
    EXPECT_OK(pool_destroy(pool));
}

static void reply_keeps_its_bytes_as_it_grows_and_changes_its_kind(void)
{
    struct pool *pool = make_pool(1);
    for (size_t size = 1; size < LARGE; size = size * 5 + 3) {
        struct pool_task *task = submit(pool, grow_step_by_step, size);
        struct pool_result result = end_of(task);
        EXPECT_OK(result.status);
        EXPECT_INT(result.data_size, size);
        for (size_t i = 0; i < size; i++)
            EXPECT(((const unsigned char *)result.data)[i] == (unsigned char)(i * 7));
        pool_task_free(task);
    }
    EXPECT_OK(pool_destroy(pool));
}

static void failed_task_has_a_text_and_no_reply(void)
{
    struct pool *pool = make_pool(1);
    struct pool_task *task;
    EXPECT_OK(pool_submit(pool, make_and_fail, NULL, 0, NULL, &task));
    EXPECT_INT(end_of(task).status, POOL_ETASK);
    EXPECT_INT(result_of(task).code, 9);
    EXPECT_TEXT(result_of(task).message, "not this one");
    EXPECT(!result_of(task).data && !result_of(task).data_size);
    pool_task_free(task);
    EXPECT_OK(pool_destroy(pool));
}

static void reply_above_the_limit_is_refused(void)
{
    struct pool_options options = method_options(1);
    options.max_result_bytes = LARGE;
    struct pool *pool = make_pool_with(&options);
    struct pool_task *task = submit(pool, ask_for_too_much, 0);
    EXPECT_INT(end_of(task).status, -EMSGSIZE);
    pool_task_free(task);
    task = submit(pool, ask_for_too_much, 1);
    EXPECT_OK(end_of(task).status);
    EXPECT_INT(result_of(task).data_size, LARGE);
    pool_task_free(task);
    EXPECT_OK(pool_destroy(pool));
}

static void map_of_bytes_gives_memory_of_the_callers(void)
{
    enum { ITEMS = 200 };
    struct pool *pool = make_pool(2);
    struct pool_bytes items[ITEMS], results[ITEMS];
    unsigned char *input = make_input(ITEMS * 500, 9);
    for (size_t i = 0; i < ITEMS; i++)
        items[i] = (struct pool_bytes){input + i, i * 499};
    EXPECT_OK(pool_map_bytes(pool, echo_shared, items, ITEMS, results, NULL));
    EXPECT_OK(pool_map_bytes(pool, echo_shared, items, ITEMS, NULL, NULL));
    EXPECT_OK(pool_destroy(pool));
    EXPECT_INT(count_regions(), 0);
    for (size_t i = 0; i < ITEMS; i++) {
        EXPECT_INT(results[i].size, items[i].size);
        EXPECT(!results[i].size || !memcmp(results[i].data, items[i].data, items[i].size));
        pool_bytes_clear(&results[i]);
    }
    free(input);
}

static void reply_outlives_its_worker_and_its_pool(void)
{
    struct pool *pool = make_pool(1);
    struct pool_task *kept[2], *task;
    unsigned char *input = make_input(LARGE, 4);
    for (unsigned i = 0; i < 2; i++) {
        kept[i] = submit_echo(pool, input + i, LARGE - 1);
        expect_echo(kept[i], input + i, LARGE - 1);
        EXPECT_OK(pool_submit(pool, die, NULL, 0, NULL, &task));
        EXPECT_INT(end_of(task).status, POOL_ECRASH);
        pool_task_free(task);
    }
    expect_echo(kept[0], input, LARGE - 1);
    pool_task_free(kept[0]);
    EXPECT_INT(count_regions(), 1);
    EXPECT_OK(pool_destroy(pool));
    EXPECT(!memcmp(result_of(kept[1]).data, input + 1, LARGE - 1));
    pool_task_free(kept[1]);
    EXPECT_INT(count_regions(), 0);
    free(input);
}

/* A worker that is started meanwhile does not either, though it may be a copy of the host. */
static void worker_does_not_keep_what_another_has_lent(void)
{
    struct pool *pool = make_pool(1);
    struct pool_task *task, *dead;
    unsigned char *input = make_input(LARGE, 4);
    task = submit_echo(pool, input, LARGE);
    expect_echo(task, input, LARGE);
    EXPECT_OK(pool_submit(pool, die, NULL, 0, NULL, &dead));
    EXPECT_INT(end_of(dead).status, POOL_ECRASH);
    EXPECT_INT(number_from(pool, tell_regions, 0), 0);
    expect_echo(task, input, LARGE);
    pool_task_free(dead);
    pool_task_free(task);
    free(input);
    EXPECT_OK(pool_destroy(pool));
}

struct held {
    struct pool_task *tasks[2];
    const void *data[2];
};

/* Memory of its own, where the replies are in its parent. */
static int have_other_memory_there(void *arg)
{
    struct held *held = arg;
    void *own[2];
    for (unsigned i = 0; i < 2; i++) {
        own[i] = mmap((void *)(uintptr_t)held->data[i], LARGE, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
        if (own[i] != held->data[i])
            return 1;
        memset(own[i], 7, LARGE);
        pool_task_free(held->tasks[i]);
    }
    return ((char *)own[0])[LARGE - 1] + ((char *)own[1])[LARGE - 1] == 14 ? 0 : 2;
}

static void forked_child_frees_its_copies_of_tasks_and_nothing_else(void)
{
    struct pool *pool = make_pool(1);
    struct pool_task *dead;
    struct held held;
    unsigned char *input = make_input(LARGE, 4);
    for (unsigned i = 0; i < 2; i++) {
        held.tasks[i] = submit_echo(pool, input, LARGE);
        expect_echo(held.tasks[i], input, LARGE);
        held.data[i] = result_of(held.tasks[i]).data;
        if (i)
            break; /* the worker of the first is gone, that of the second is there */
        EXPECT_OK(pool_submit(pool, die, NULL, 0, NULL, &dead));
        EXPECT_INT(end_of(dead).status, POOL_ECRASH);
        pool_task_free(dead);
    }
    in_another_process(have_other_memory_there, &held);
    for (unsigned i = 0; i < 2; i++) {
        expect_echo(held.tasks[i], input, LARGE);
        pool_task_free(held.tasks[i]);
    }
    free(input);
    EXPECT_OK(pool_destroy(pool));
}

static void *free_task(void *task)
{
    pool_task_free(task);
    return NULL;
}

static void task_may_be_freed_in_another_thread_while_its_worker_goes_on(void)
{
    struct pool *pool = make_pool(1);
    pthread_t threads[50];
    unsigned char *input = make_input(LARGE, 4);
    for (unsigned i = 0; i < 50; i++) {
        struct pool_task *task = submit_echo(pool, input + i, LARGE / 4);
        expect_echo(task, input + i, LARGE / 4);
        EXPECT_OK(pthread_create(&threads[i], NULL, free_task, task));
    }
    for (unsigned i = 0; i < 50; i++)
        EXPECT_OK(pthread_join(threads[i], NULL));
    free(input);
    EXPECT_OK(pool_destroy(pool));
}

static void recycled_worker_lends_anew(void)
{
    struct pool_options options = method_options(1);
    options.max_tasks_per_worker = 2;
    struct pool *pool = make_pool_with(&options);
    struct pool_task *kept[20];
    unsigned char *input = make_input(LARGE, 4);
    for (unsigned i = 0; i < 20; i++) {
        kept[i] = submit_echo(pool, input + i, LARGE / 2);
        expect_echo(kept[i], input + i, LARGE / 2);
        if (i % 3 == 0)
            pool_task_free(kept[i]);
    }
    for (unsigned i = 0; i < 20; i++) {
        if (i % 3 == 0)
            continue;
        expect_echo(kept[i], input + i, LARGE / 2);
        pool_task_free(kept[i]);
    }
    free(input);
    EXPECT_OK(pool_destroy(pool));
}

static void worker_without_fds_sends_its_replies(void)
{
    struct pool *pool = make_pool(1);
    struct pool_task *task;
    unsigned char *input = make_input(LARGE, 4);
    EXPECT_OK(pool_submit(pool, use_all_fds, NULL, 0, NULL, &task));
    EXPECT_OK(end_of(task).status);
    pool_task_free(task);
    task = submit_echo(pool, input, LARGE);
    expect_echo(task, input, LARGE);
    EXPECT_INT(count_regions(), 0);
    pool_task_free(task);
    free(input);
    EXPECT_OK(pool_destroy(pool));
}

static void host_without_fds_fails_what_it_cannot_map_and_goes_on(void)
{
    struct pool *pool = make_pool(1);
    struct rlimit limit, none;
    unsigned char *input = make_input(LARGE, 4);
    EXPECT_OK(getrlimit(RLIMIT_NOFILE, &limit));
    none = limit;
    none.rlim_cur = 3;
    struct pool_task *task = submit_echo(pool, input, LARGE);
    EXPECT_OK(setrlimit(RLIMIT_NOFILE, &none));
    int status = end_of(task).status;
    EXPECT_OK(setrlimit(RLIMIT_NOFILE, &limit));
    EXPECT_INT(status, -EMFILE);
    pool_task_free(task);
    for (unsigned i = 0; i < 3; i++) {
        task = submit_echo(pool, input, LARGE);
        expect_echo(task, input, LARGE);
        pool_task_free(task);
    }
    free(input);
    EXPECT_OK(pool_destroy(pool));
}

static int give_next(void *arg, struct pool_bytes *item_out)
{
    unsigned *left = arg;
    if (!*left)
        return 0;
    *item_out = (struct pool_bytes){make_input(30000, (unsigned char)--*left), 30000};
    return 1;
}

static int take_result(void *arg, uint64_t index, const struct pool_result *result)
{
    unsigned char seed = (unsigned char)(99 - index);
    (void)arg;
    EXPECT_OK(result->status);
    EXPECT_INT(result->data_size, 30000);
    for (size_t i = 0; i < result->data_size; i++)
        EXPECT(((const unsigned char *)result->data)[i] == (unsigned char)(i + seed));
    return 0;
}

static void sink_reads_where_the_worker_wrote(void)
{
    struct pool *pool = make_pool(2);
    unsigned left = 100;
    EXPECT_OK(pool_stream(pool, echo_shared, give_next, take_result, &left, NULL));
    EXPECT(count_regions() <= 4);
    EXPECT_OK(pool_destroy(pool));
}

static void in_place_it_is_a_reply_like_any_other(void)
{
    struct pool *pool = make_pool(1);
    EXPECT_INT(number_from(pool, lend_in_place, 0), 7);
    EXPECT_OK(pool_destroy(pool));
}

const struct conformance_case lend_cases[] = {
    CASE(reply_is_read_where_it_was_written),
    CASE(region_is_used_again),
    CASE(many_replies_are_held_at_once_and_memory_goes_with_them),
    CASE(idle_worker_gives_up_what_is_not_needed),
    CASE(idle_worker_does_not_keep_the_pages_of_large_replies),
    CASE(reply_keeps_its_bytes_as_it_grows_and_changes_its_kind),
    CASE(failed_task_has_a_text_and_no_reply),
    CASE(reply_above_the_limit_is_refused),
    CASE(map_of_bytes_gives_memory_of_the_callers),
    CASE(reply_outlives_its_worker_and_its_pool),
    CASE(worker_does_not_keep_what_another_has_lent),
    CASE(forked_child_frees_its_copies_of_tasks_and_nothing_else),
    CASE(task_may_be_freed_in_another_thread_while_its_worker_goes_on),
    CASE(recycled_worker_lends_anew),
    CASE(worker_without_fds_sends_its_replies),
    CASE(host_without_fds_fails_what_it_cannot_map_and_goes_on),
    CASE(sink_reads_where_the_worker_wrote),
    CASE(in_place_it_is_a_reply_like_any_other),
    {0},
};

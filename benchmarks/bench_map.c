/* How many items a second does a map of a function that does nothing process?
 *
 * Ten million 64-bit items, two workers. The limit: the same bytes through the same kind of pipes, to two forked
 * children that send them back without calling anything, in chunks of 100 KB with up to four of them under way at each;
 * whoever moves items through pipes cannot be faster. What the library does beside that is calling a function for each
 * item, and finding out at which size of a chunk that is cheap: its first map starts with small ones and is told apart.
 *
 * A cost of 1.00 means that the pipes are all that is paid for. Beside that, as a limit of its own: children that call
 * a function for each item, through a pointer, since that is how a map is told what to do. What is beyond it is the
 * library's own.
 *
 * The same with both arrays in shared buffers, where the workers work on them in place. The limit: two forked children
 * that have the arrays too, are told by pipe which chunk is next, copy it from one array to the other, and say so; and
 * two that call the function. */
#include "bench.h"
#include "raw.h"
#include <poll.h>
#include <procpool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

enum { WORKERS = 2, CHUNK_ITEMS = 12500, MAX_IN_FLIGHT = 4, WARM_MAPS = 3, PIPE_BYTES = 1 << 20 };

struct header {
    uint64_t size, first;
};

enum { CHUNK_BYTES = CHUNK_ITEMS * sizeof(uint64_t), FRAME_BYTES = CHUNK_BYTES + sizeof(struct header) };

struct job {
    uint64_t *items;
    uint64_t *results;
    size_t count; /* a multiple of CHUNK_ITEMS */
};

static void fill(const struct job *job)
{
    for (size_t i = 0; i < job->count; i++)
        job->items[i] = i;
}

/* ---- the limit ---------------------------------------------------------------------------------------------- */

static int do_nothing(const void *item, void *result, void *state)
{
    (void)state;
    *(uint64_t *)result = *(const uint64_t *)item;
    return 0;
}

/* What a child does with a chunk. Volatile: nobody may know which function that is. */
static pool_map_fn *const volatile called = do_nothing;

static void call_for_each(const uint64_t *items, uint64_t *results)
{
    pool_map_fn *const fn = called;
    for (size_t i = 0; i < CHUNK_ITEMS; i++)
        if (fn(&items[i], &results[i], NULL))
            abort();
}

struct echo {
    struct raw_link link;
    size_t chunks[MAX_IN_FLIGHT]; /* under way, in order: a ring */
    size_t sent, received;
};

static void send_back(int in, int out, const void *arg)
{
    static char frame[FRAME_BYTES];
    (void)arg;
    while (raw_read(in, frame, sizeof frame))
        raw_write(out, frame, sizeof frame);
}

static void send_results(int in, int out, const void *arg)
{
    (void)arg;
    static struct {
        struct header header;
        uint64_t values[CHUNK_ITEMS];
    } items, results;
    while (raw_read(in, &items, sizeof items)) {
        results.header = items.header;
        call_for_each(items.values, results.values);
        raw_write(out, &results, sizeof results);
    }
}

/* Move a whole frame by readv or writev: the header here, the body where the caller has it. */
static void move_frame(ssize_t (*move)(int, const struct iovec *, int), int fd, struct header *header, void *body)
{
    struct iovec parts[2] = {{header, sizeof *header}, {body, CHUNK_BYTES}};
    while (parts[1].iov_len > 0) {
        size_t moved = (size_t)bench_check(move(fd, parts, 2), "readv or writev");
        for (int i = 0; i < 2; i++) {
            size_t part = moved < parts[i].iov_len ? moved : parts[i].iov_len;
            parts[i] = (struct iovec){(char *)parts[i].iov_base + part, parts[i].iov_len - part};
            moved -= part;
        }
    }
}

static void send_chunk(struct echo *echo, const struct job *job, size_t chunk)
{
    struct header header = {CHUNK_BYTES, chunk * CHUNK_ITEMS};
    echo->chunks[echo->sent++ % MAX_IN_FLIGHT] = chunk;
    move_frame(writev, echo->link.to, &header, (void *)&job->items[chunk * CHUNK_ITEMS]);
}

static void receive_chunk(struct echo *echo, const struct job *job)
{
    struct header header;
    size_t chunk = echo->chunks[echo->received++ % MAX_IN_FLIGHT];
    move_frame(readv, echo->link.from, &header, &job->results[chunk * CHUNK_ITEMS]);
}

/* Everything to the echoes and back. in_flight frames fit into a pipe, so that no write here waits for a child that
 * itself waits to be read. */
static void echo_all(struct echo *echoes, size_t in_flight, const struct job *job)
{
    size_t chunks = job->count / CHUNK_ITEMS, sent = 0;
    struct pollfd replies[WORKERS];
    for (int w = 0; w < WORKERS; w++)
        replies[w] = (struct pollfd){.fd = echoes[w].link.from, .events = POLLIN};
    for (size_t i = 0; i < WORKERS * in_flight && sent < chunks; i++)
        send_chunk(&echoes[i % WORKERS], job, sent++);
    for (size_t received = 0; received < chunks;) {
        bench_check(poll(replies, WORKERS, -1), "poll");
        for (int w = 0; w < WORKERS; w++) {
            if (!(replies[w].revents & POLLIN))
                continue;
            receive_chunk(&echoes[w], job);
            received++;
            if (sent < chunks)
                send_chunk(&echoes[w], job, sent++);
        }
    }
}

/* ---- the limit of arrays that are shared ---------------------------------------------------------------------- */

static void copy_chunks(int in, int out, const void *arg)
{
    const struct job *job = arg;
    size_t chunk;
    while (raw_read(in, &chunk, sizeof chunk)) {
        memcpy(job->results + chunk * CHUNK_ITEMS, job->items + chunk * CHUNK_ITEMS, CHUNK_BYTES);
        raw_write(out, &chunk, sizeof chunk);
    }
}

static void call_on_chunks(int in, int out, const void *arg)
{
    const struct job *job = arg;
    size_t chunk;
    while (raw_read(in, &chunk, sizeof chunk)) {
        call_for_each(job->items + chunk * CHUNK_ITEMS, job->results + chunk * CHUNK_ITEMS);
        raw_write(out, &chunk, sizeof chunk);
    }
}

/* As many chunks under way at each as go through pipes in the other limit. */
static void map_by_ranges(void *context, const struct job *job)
{
    struct raw_link *links = context;
    size_t chunks = job->count / CHUNK_ITEMS, sent = 0;
    struct pollfd replies[WORKERS];
    for (int w = 0; w < WORKERS; w++)
        replies[w] = (struct pollfd){.fd = links[w].from, .events = POLLIN};
    for (size_t i = 0; i < WORKERS * MAX_IN_FLIGHT && sent < chunks; i++, sent++)
        raw_write(links[i % WORKERS].to, &sent, sizeof sent);
    for (size_t done = 0; done < chunks;) {
        bench_check(poll(replies, WORKERS, -1), "poll");
        for (int w = 0; w < WORKERS; w++) {
            size_t unused;
            if (!(replies[w].revents & POLLIN))
                continue;
            raw_read(links[w].from, &unused, sizeof unused);
            done++;
            if (sent < chunks)
                raw_write(links[w].to, &sent, sizeof sent);
            sent += sent < chunks;
        }
    }
}

/* ---- measuring ---------------------------------------------------------------------------------------------- */

struct rates {
    double first, warm; /* millions of items a second; of the first map, and the median of those after it */
};

typedef void map_fn(void *context, const struct job *job);

static double rate_of(map_fn *map, void *context, const struct job *job)
{
    memset(job->results, 0xff, job->count * sizeof *job->results); /* their pages are there, their content is not */
    uint64_t start_ns = bench_now_ns();
    map(context, job);
    double seconds = bench_seconds_since(start_ns);
    if (memcmp(job->items, job->results, job->count * sizeof *job->items) != 0) {
        fputs("the results are wrong\n", stderr);
        exit(EXIT_FAILURE);
    }
    return (double)job->count / seconds / 1e6;
}

static struct rates rates_of(map_fn *map, void *context, const struct job *job)
{
    double warm[WARM_MAPS];
    struct rates rates = {.first = rate_of(map, context, job)};
    for (int i = 0; i < WARM_MAPS; i++)
        warm[i] = rate_of(map, context, job);
    rates.warm = bench_quantile(warm, WARM_MAPS, 0.5);
    return rates;
}

struct echoes {
    struct echo echo[WORKERS];
    size_t in_flight;
};

static void map_by_pipes(void *context, const struct job *job)
{
    struct echoes *echoes = context;
    echo_all(echoes->echo, echoes->in_flight, job);
}

static struct rates limit_rates(raw_child_fn *child, const struct job *job)
{
    struct echoes echoes = {.in_flight = MAX_IN_FLIGHT};
    for (int w = 0; w < WORKERS; w++) {
        size_t fit = raw_link_start(&echoes.echo[w].link, PIPE_BYTES, child, NULL) / FRAME_BYTES;
        if (fit < echoes.in_flight)
            echoes.in_flight = fit > 0 ? fit : 1;
    }
    struct rates rates = rates_of(map_by_pipes, &echoes, job);
    for (int w = 0; w < WORKERS; w++)
        raw_link_stop(&echoes.echo[w].link);
    return rates;
}

static struct rates shared_limit_rates(raw_child_fn *child, const struct job *private)
{
    struct job job = {bench_shared(private->count * sizeof *job.items),
                      bench_shared(private->count * sizeof *job.items), private->count};
    struct raw_link links[WORKERS];
    fill(&job);
    for (int w = 0; w < WORKERS; w++)
        raw_link_start(&links[w], 0, child, &job);
    struct rates rates = rates_of(map_by_ranges, links, &job);
    for (int w = 0; w < WORKERS; w++)
        raw_link_stop(&links[w]);
    bench_unshare(job.items, job.count * sizeof *job.items);
    bench_unshare(job.results, job.count * sizeof *job.results);
    return rates;
}

static void map_by_pool(void *context, const struct job *job)
{
    int error =
        pool_map(context, do_nothing, job->items, sizeof *job->items, job->results, sizeof *job->results, job->count);
    if (error < 0)
        bench_fail("pool_map", error);
}

static struct rates procpool_rates(const struct bench *bench, const struct job *job)
{
    struct pool *pool = bench_pool(bench, WORKERS);
    struct rates rates = rates_of(map_by_pool, pool, job);
    pool_destroy(pool);
    return rates;
}

static struct rates shared_rates(const struct bench *bench, const struct job *private)
{
    struct pool *pool = bench_pool(bench, WORKERS);
    struct job job = {pool_buffer_alloc(pool, private->count * sizeof *job.items),
                      pool_buffer_alloc(pool, private->count * sizeof *job.results), private->count};
    if (!job.items || !job.results)
        bench_fail("pool_buffer_alloc", -1);
    fill(&job);
    struct rates rates = rates_of(map_by_pool, pool, &job);
    pool_buffer_free(pool, job.items);
    pool_buffer_free(pool, job.results);
    pool_destroy(pool);
    return rates;
}

int main(int argc, char **argv)
{
    pool_init();

    struct bench bench;
    bench_begin(&bench, "map", "two children that send the bytes back", argc, argv);
    size_t count = bench.quick ? 80 * CHUNK_ITEMS : 800 * CHUNK_ITEMS;
    uint64_t *items = bench_memory(count * sizeof *items), *results = bench_memory(count * sizeof *results);
    struct job job = {items, results, count};
    fill(&job);

    struct bench_series first = {.what = "first map after the start", .unit = "M items/s", .kind = BENCH_RATE};
    struct bench_series warm = {.what = "map", .unit = "M items/s", .kind = BENCH_RATE};
    struct bench_series beside_calls = {.what = "map, limit calls, too", .unit = "M items/s", .kind = BENCH_RATE};
    struct bench_series first_shared = {.what = "first map, shared buffers", .unit = "M items/s", .kind = BENCH_RATE};
    struct bench_series shared = {.what = "map, shared buffers", .unit = "M items/s", .kind = BENCH_RATE};
    struct bench_series shared_beside_calls = {
        .what = "map, shared buffers, limit calls, too", .unit = "M items/s", .kind = BENCH_RATE};
    warm.target_cost = beside_calls.target_cost = shared.target_cost = shared_beside_calls.target_cost = 1 / 0.9;
    warm.target_value = 200;
    shared.target_value = 500;
    for (unsigned round = 0; round < bench.rounds; round++) {
        struct rates limit = limit_rates(send_back, &job), procpool = procpool_rates(&bench, &job);
        bench_add(&first, limit.first, procpool.first);
        bench_add(&warm, limit.warm, procpool.warm);
        bench_add(&beside_calls, limit_rates(send_results, &job).warm, procpool.warm);
        limit = shared_limit_rates(copy_chunks, &job);
        procpool = shared_rates(&bench, &job);
        bench_add(&first_shared, limit.first, procpool.first);
        bench_add(&shared, limit.warm, procpool.warm);
        bench_add(&shared_beside_calls, shared_limit_rates(call_on_chunks, &job).warm, procpool.warm);
    }
    bench_print(&bench, &first);
    bench_print(&bench, &warm);
    bench_print(&bench, &beside_calls);
    bench_print(&bench, &first_shared);
    bench_print(&bench, &shared);
    bench_print(&bench, &shared_beside_calls);
    return 0;
}

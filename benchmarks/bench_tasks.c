/* What does one small task cost, submitted and collected by itself?
 *
 * Tasks that do nothing with 8 bytes of input, submitted and taken with pool_next while a *window* of them is under
 * way: 1, 64, 256, 1,000, and a million submitted before the first is taken, in memory that was used right before (see
 * bench_warm_queue). The limit: frames of the same sizes, as many as fit into one write, through pipes to two forked
 * children that answer each frame with another and call nothing; the same windows.
 * Once more with a write for each: every pool_submit is followed by pool_process, which sends it, and the limit writes
 * one frame at a time.
 *
 * And what a million queued tasks cost the parent: memory for each beside its input, and CPU time to submit and collect
 * one. Their limits are promises, not measurements: 256 bytes, and a microsecond. */
#include "bench.h"
#include "raw.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <procpool.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { WORKERS = 2, MILLION = 1000000, QUICK_TASKS = 20000, INPUT_BYTES = 8 };
enum { REQUEST_BYTES = 48, ANSWER_BYTES = 40, PIPE_BYTES = 1 << 20, WRITE_FRAMES = 512 };

/* ---- the limit: frames through pipes --------------------------------------------------------------------------- */

static void answer_frames(int in, int out, const void *arg)
{
    static char requests[WRITE_FRAMES * REQUEST_BYTES], answers[WRITE_FRAMES * ANSWER_BYTES];
    size_t held = 0;
    (void)arg;
    for (;;) {
        ssize_t got = read(in, requests + held, sizeof requests - held);
        if (got <= 0)
            return;
        held += (size_t)got;
        raw_write(out, answers, held / REQUEST_BYTES * ANSWER_BYTES);
        held %= REQUEST_BYTES;
    }
}

struct frames {
    struct raw_link links[WORKERS];
    size_t window, total, write_frames, sent, answered;
    size_t under_way[WORKERS], partial[WORKERS];
};

/* One write; false: there is no room for more. */
static bool send_frames(struct frames *frames, unsigned w)
{
    static const char requests[WRITE_FRAMES * REQUEST_BYTES];
    size_t room = frames->window / WORKERS + (frames->window < WORKERS), left = frames->total - frames->sent;
    size_t count = frames->under_way[w] < room ? room - frames->under_way[w] : 0;
    count = count < left ? count : left;
    count = count < frames->write_frames ? count : frames->write_frames;
    if (!count || frames->sent - frames->answered >= frames->window)
        return false;
    raw_write(frames->links[w].to, requests, count * REQUEST_BYTES);
    frames->under_way[w] += count;
    frames->sent += count;
    return true;
}

static void receive_frames(struct frames *frames, unsigned w)
{
    static char answers[WRITE_FRAMES * ANSWER_BYTES];
    size_t got = (size_t)bench_check(read(frames->links[w].from, answers, sizeof answers), "read");
    frames->partial[w] += got;
    size_t count = frames->partial[w] / ANSWER_BYTES;
    frames->partial[w] %= ANSWER_BYTES;
    frames->under_way[w] -= count;
    frames->answered += count;
}

/* Never more is under way than the pipes hold, so that no write waits for a child that itself waits to be read. */
static double limit_rate(size_t window, size_t total, size_t write_frames)
{
    struct frames frames = {.window = window < 8192 ? window : 8192, .total = total, .write_frames = write_frames};
    struct pollfd replies[WORKERS];
    for (unsigned w = 0; w < WORKERS; w++) {
        raw_link_start(&frames.links[w], PIPE_BYTES, answer_frames, NULL);
        replies[w] = (struct pollfd){.fd = frames.links[w].from, .events = POLLIN};
    }
    uint64_t start_ns = bench_now_ns();
    while (frames.answered < total) {
        for (unsigned w = 0; w < WORKERS; w++)
            while (send_frames(&frames, w))
                ;
        bench_check(poll(replies, WORKERS, -1), "poll");
        for (unsigned w = 0; w < WORKERS; w++)
            if (replies[w].revents & POLLIN)
                receive_frames(&frames, w);
    }
    double rate = (double)total / bench_seconds_since(start_ns) / 1e6;
    for (unsigned w = 0; w < WORKERS; w++)
        raw_link_stop(&frames.links[w]);
    return rate;
}

/* ---- the library ------------------------------------------------------------------------------------------------ */

static int do_nothing(struct pool_call *call)
{
    (void)call;
    return 0;
}

static void submit(struct pool *pool)
{
    static const char input[INPUT_BYTES];
    int error = pool_submit(pool, do_nothing, input, sizeof input, NULL, NULL);
    if (error < 0)
        bench_fail("pool_submit", error);
}

static void send(struct pool *pool)
{
    int error = pool_process(pool);
    if (error < 0)
        bench_fail("pool_process", error);
}

static double procpool_rate(struct pool *pool, size_t window, size_t total, bool each)
{
    uint64_t start_ns = bench_now_ns();
    for (size_t submitted = 0, collected = 0; collected < total; collected++) {
        while (submitted < total && submitted - collected < window) {
            submit(pool);
            submitted++;
            if (each)
                send(pool);
        }
        bench_collect(pool);
    }
    return (double)total / bench_seconds_since(start_ns) / 1e6;
}

static void measure_windows(const struct bench *bench)
{
    static const size_t windows[] = {1, 64, 256, 1000, MILLION};
    size_t most = bench->quick ? QUICK_TASKS : MILLION;
    struct pool *pool = bench_pool(bench, WORKERS);
    for (size_t i = 0; i < sizeof windows / sizeof *windows; i++) {
        char what[64];
        size_t total = windows[i] == 1 ? most / 20 : most;
        struct bench_series series = {.what = what, .unit = "M/s", .kind = BENCH_RATE};
        series.target_value = windows[i] >= 1000 ? 3 : 0;
        snprintf(what, sizeof what, "%zu under way", windows[i]);
        for (unsigned round = 0; round < bench->rounds; round++) {
            double limit = limit_rate(windows[i], total, WRITE_FRAMES);
            bench_warm_queue(windows[i] < total ? windows[i] : total);
            bench_add(&series, limit, procpool_rate(pool, windows[i], total, false));
        }
        bench_print(bench, &series);
    }
    pool_destroy(pool);
}

static void measure_writes(const struct bench *bench)
{
    size_t total = (bench->quick ? QUICK_TASKS : MILLION) / 2;
    struct pool *pool = bench_pool(bench, WORKERS);
    struct bench_series series = {
        .what = "a write for each, 1000 under way", .unit = "M/s", .kind = BENCH_RATE, .target_value = 1};
    for (unsigned round = 0; round < bench->rounds; round++) {
        double limit = limit_rate(1000, total, 1);
        bench_add(&series, limit, procpool_rate(pool, 1000, total, true));
    }
    bench_print(bench, &series);
    pool_destroy(pool);
}

/* ---- a million queued -------------------------------------------------------------------------------------------- */

/* Memory of this process that is not a file's. */
static double anonymous_bytes(void)
{
    char line[256];
    double kib = -1;
    FILE *status = fopen("/proc/self/status", "r");
    while (status && kib < 0 && fgets(line, sizeof line, status))
        if (!strncmp(line, "RssAnon:", 8))
            kib = strtod(line + 8, NULL);
    if (kib < 0)
        bench_fail("/proc/self/status", -ENOENT);
    fclose(status);
    return kib * 1024;
}

/* Until the other end of its pipe is closed, so that everything behind it stays queued. */
static int await_end(struct pool_call *call)
{
    char byte;
    return read(pool_call_fd(call, 0), &byte, 1) == 0 ? 0 : 1;
}

static void block(struct pool *pool, const int gate[2])
{
    struct pool_task_options options = POOL_TASK_OPTIONS_INIT;
    options.fds = gate;
    options.fd_count = 1;
    int error = pool_submit(pool, await_end, NULL, 0, &options, NULL);
    if (error < 0)
        bench_fail("pool_submit", error);
}

static void queue_many(const struct bench *bench, double *bytes_out, double *us_out)
{
    size_t count = bench->quick ? QUICK_TASKS : MILLION;
    int gate[2];
    struct pool *pool = bench_pool(bench, 1);
    bench_check(pipe2(gate, O_CLOEXEC), "pipe2");
    block(pool, gate);
    bench_warm_queue(count);
    double bytes = anonymous_bytes(), us = bench_cpu_us();
    for (size_t i = 0; i < count; i++)
        submit(pool);
    *bytes_out = (anonymous_bytes() - bytes) / (double)count - INPUT_BYTES;
    close(gate[1]);
    close(gate[0]);
    for (size_t i = 0; i < count + 1; i++)
        bench_collect(pool);
    *us_out = (bench_cpu_us() - us) / (double)count;
    pool_destroy(pool);
}

static void measure_queue(const struct bench *bench)
{
    struct bench_series memory = {
        .what = "memory of a queued task", .unit = "bytes", .kind = BENCH_TIME, .target_cost = 1};
    struct bench_series cpu = {.what = "parent's CPU for a task", .unit = "us", .kind = BENCH_TIME, .target_cost = 1};
    for (unsigned round = 0; round < bench->rounds; round++) {
        double bytes, us;
        queue_many(bench, &bytes, &us);
        bench_add(&memory, 256, bytes);
        bench_add(&cpu, 1, us);
    }
    bench_print(bench, &memory);
    bench_print(bench, &cpu);
}

int main(int argc, char **argv)
{
    struct bench bench;
    pool_init();
    bench_begin(&bench, "tasks", "frames of the same sizes through pipes; promises for memory and CPU", argc, argv);
    measure_windows(&bench);
    measure_writes(&bench);
    measure_queue(&bench);
    return 0;
}

/* factor: what poll-loop and libevent-loop have in common: the task, which takes a line of text with a number and
 * replies with the number's prime factors, and the printing of what has ended. A header, so that an example stays one
 * command to compile. */
#ifndef LOOP_FACTOR_H
#define LOOP_FACTOR_H

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <procpool.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    MAX_UNDER_WAY = 64,  /* lines: with so many at work no more are read, however many there are */
    DEADLINE_MS = 60000, /* for one of them */
    MAX_LINE_BYTES = 4096
};

static _Noreturn void fail(const char *about, const char *why)
{
    fprintf(stderr, "%s: %s\n", about, why);
    exit(EXIT_FAILURE);
}

static size_t print_factors(char *text, size_t size, uint64_t number)
{
    size_t length = (size_t)snprintf(text, size, "%" PRIu64 ":", number);
    for (uint64_t factor = 2; number > 1; factor += 1 + factor % 2) {
        if (factor > number / factor)
            factor = number; /* what is left is prime */
        for (; number % factor == 0; number /= factor)
            length += (size_t)snprintf(text + length, size - length, " %" PRIu64, factor);
    }
    return length;
}

/* Runs in a worker. */
static int factor_line(struct pool_call *call)
{
    char line[32] = "", text[512], *end, *reply;
    size_t size;
    const char *input = pool_call_input(call, &size);
    memcpy(line, input, size < sizeof line ? size : sizeof line - 1);
    errno = 0;
    uint64_t number = strtoull(line, &end, 10);
    if (errno != 0 || end != line + size || !isdigit((unsigned char)*line))
        return pool_call_fail(call, EINVAL, "not a number of 64 bits: %.*s", (int)size, input);
    size = print_factors(text, sizeof text, number);
    reply = pool_call_reply(call, size);
    if (!reply)
        return pool_call_fail(call, ENOMEM, "no memory for the reply");
    memcpy(reply, text, size);
    return 0;
}

static void submit_line(struct pool *pool, const char *line, size_t size)
{
    struct pool_task_options options = POOL_TASK_OPTIONS_INIT;
    options.timeout_ms = DEADLINE_MS;
    options.no_wait = 1; /* a loop that waits in here would not be in its poll */
    if (pool_submit(pool, factor_line, line, size, &options, NULL) < 0)
        fail("cannot submit a line", pool_message());
}

/* Drive the pool and print the results that there are. How many. */
static unsigned print_ended(struct pool *pool)
{
    unsigned count = 0;
    struct pool_task *task;
    if (pool_process(pool) < 0)
        fail("the pool", pool_message());
    for (; pool_next(pool, 0, &task) == 0; count++) {
        struct pool_result result;
        if (pool_task_result(task, &result) == 0) {
            if (result.status == 0)
                printf("%.*s\n", (int)result.data_size, (const char *)result.data);
            else
                fprintf(stderr, "%s\n", result.message);
        }
        pool_task_free(task);
    }
    fflush(stdout);
    return count;
}

#endif

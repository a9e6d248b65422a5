/* libevent-loop: poll-loop.c once more, with libevent: the pool is one more fd of the loop.
 *
 * libevent's own way of watching fds is epoll, which refuses regular files; so that stdin may be one, EV_FEATURE_FDS
 * asks for a way that does not. A program that watches no files can do without. */
#include "factor.h"
#include <event2/buffer.h>
#include <event2/event.h>
#include <unistd.h>

struct program {
    struct pool *pool;
    struct event *pool_event, *input_event;
    struct evbuffer *input;
    bool input_ended;
    unsigned under_way;
};

/* The next line that was read, to be freed, or NULL. */
static char *take_line(struct program *program, size_t *size_out)
{
    char *line = evbuffer_readln(program->input, size_out, EVBUFFER_EOL_LF);
    if (line || !program->input_ended || evbuffer_get_length(program->input) == 0)
        return line;
    evbuffer_add(program->input, "\n", 1); /* the last one may lack it */
    return evbuffer_readln(program->input, size_out, EVBUFFER_EOL_LF);
}

/* Submit what there is and room for. An event that is not added is not watched; with none left the loop ends. */
static void go_on(struct program *program)
{
    char *line;
    for (size_t size; program->under_way < MAX_UNDER_WAY && (line = take_line(program, &size)); program->under_way++) {
        submit_line(program->pool, line, size);
        free(line);
    }
    if (program->input_ended || program->under_way == MAX_UNDER_WAY)
        event_del(program->input_event);
    else
        event_add(program->input_event, NULL);
    if (program->input_ended && program->under_way == 0)
        event_del(program->pool_event);
}

static void on_pool(evutil_socket_t fd, short what, void *arg)
{
    struct program *program = arg;
    (void)fd, (void)what;
    program->under_way -= print_ended(program->pool);
    go_on(program);
}

static void on_input(evutil_socket_t fd, short what, void *arg)
{
    struct program *program = arg;
    (void)what;
    int count = evbuffer_read(program->input, fd, MAX_LINE_BYTES);
    if (count < 0 && errno != EINTR && errno != EAGAIN)
        fail("stdin", strerror(errno));
    program->input_ended = count == 0;
    go_on(program);
}

int main(void)
{
    pool_init(); /* first: a worker is this program, started again */

    struct program program = {.input = evbuffer_new()};
    struct event_config *config = event_config_new();
    if (!config || !program.input || event_config_require_features(config, EV_FEATURE_FDS) < 0)
        fail("libevent", "cannot be set up");
    struct event_base *base = event_base_new_with_config(config);
    event_config_free(config);
    if (!base)
        fail("libevent", "no event loop");
    if (pool_create(NULL, &program.pool) < 0)
        fail("cannot start workers", pool_message());

    program.pool_event = event_new(base, pool_fd(program.pool), EV_READ | EV_PERSIST, on_pool, &program);
    program.input_event = event_new(base, STDIN_FILENO, EV_READ | EV_PERSIST, on_input, &program);
    if (!program.pool_event || !program.input_event || event_add(program.pool_event, NULL) < 0 ||
        event_add(program.input_event, NULL) < 0)
        fail("libevent", "cannot watch the pool and stdin");
    event_base_dispatch(base);

    event_free(program.pool_event); /* before the pool: its fd is the pool's */
    event_free(program.input_event);
    evbuffer_free(program.input);
    event_base_free(base);
    return pool_destroy(program.pool) < 0;
}

/* poll-loop: a pool in a loop of poll(). Every line of stdin is a number, every line of stdout the prime factors of
 * one, in the order in which they are found. For example: seq 1000000000000 1000000000100 | poll-loop
 *
 * The loop never blocks but in poll(). Three rules make it right:
 *   - pool_fd() is polled for reading; when it is readable, pool_process, and then take all that has ended (see
 *     print_ended).
 *   - stdin is polled only while there is room for another task, so that input without end does not fill the memory.
 *   - What is already read has to be tried again when a task has ended: no fd becomes readable for it. */
#include "factor.h"
#include <poll.h>
#include <unistd.h>

struct lines {
    char text[MAX_LINE_BYTES];
    size_t size;
    bool ended; /* nothing will be added */
};

static void read_more(struct lines *lines)
{
    ssize_t count = read(STDIN_FILENO, lines->text + lines->size, sizeof lines->text - lines->size);
    if (count < 0 && errno != EINTR && errno != EAGAIN)
        fail("stdin", strerror(errno));
    if (count > 0)
        lines->size += (size_t)count;
    lines->ended = count == 0;
}

/* The size of the first line, or -1 when no whole line is there. A line that is too long for the room is one all the
 * same. */
static ssize_t first_line(const struct lines *lines)
{
    const char *end = memchr(lines->text, '\n', lines->size);
    if (end)
        return end - lines->text;
    return lines->size == sizeof lines->text || (lines->ended && lines->size > 0) ? (ssize_t)lines->size : -1;
}

/* Submit lines as long as there are some, and room. How many. */
static unsigned submit_lines(struct pool *pool, struct lines *lines, unsigned room)
{
    unsigned count = 0;
    for (ssize_t size; count < room && (size = first_line(lines)) >= 0; count++) {
        size_t taken = (size_t)size < lines->size ? (size_t)size + 1 : lines->size; /* with its newline */
        submit_line(pool, lines->text, (size_t)size);
        lines->size -= taken;
        memmove(lines->text, lines->text + taken, lines->size);
    }
    return count;
}

int main(void)
{
    pool_init(); /* first: a worker is this program, started again */

    struct pool *pool;
    if (pool_create(NULL, &pool) < 0)
        fail("cannot start workers", pool_message());

    static struct lines lines;
    unsigned under_way = 0;
    while (!lines.ended || lines.size > 0 || under_way > 0) {
        bool reads = !lines.ended && under_way < MAX_UNDER_WAY;
        struct pollfd ready[] = {{pool_fd(pool), POLLIN, 0}, {reads ? STDIN_FILENO : -1, POLLIN, 0}};
        if (poll(ready, 2, -1) < 0) {
            if (errno != EINTR)
                fail("poll", strerror(errno));
            continue;
        }
        if (ready[0].revents)
            under_way -= print_ended(pool);
        if (ready[1].revents)
            read_more(&lines);
        under_way += submit_lines(pool, &lines, MAX_UNDER_WAY - under_way);
    }
    return pool_destroy(pool) < 0;
}

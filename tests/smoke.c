/* smoke: the main path in one small program without a test framework, for platforms where there is none (musl): maps of
 * both kinds, a crash, an initializer, under each start method. The last line is `N passed, N failed`. */
#include <errno.h>
#include <procpool.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ITEM_COUNT = 10000, CRASHING_ITEM = 4321, PAYLOAD_COUNT = 20 };

static unsigned passed, failed;

static void check(int ok, const char *backend, const char *what)
{
    if (ok) {
        passed++;
        return;
    }
    failed++;
    printf("FAILED  %s: %s: %s\n", backend, what, pool_message());
}

static int make_offset(const void *arg, size_t arg_size, void **state_out)
{
    int *offset = malloc(sizeof *offset);
    if (!offset || arg_size != sizeof *offset)
        return pool_call_fail(NULL, ENOMEM, "no offset");
    memcpy(offset, arg, arg_size);
    *state_out = offset;
    return 0;
}

static int add_offset(const void *item, void *result, void *state)
{
    *(int *)result = *(const int *)item + *(int *)state;
    return 0;
}

static int crash_once(const void *item, void *result, void *state)
{
    if (*(const int *)item == CRASHING_ITEM) {
        signal(SIGABRT, SIG_DFL);
        abort();
    }
    return add_offset(item, result, state);
}

/* The input twice over. */
static int repeat(struct pool_call *call)
{
    size_t size;
    const void *input = pool_call_input(call, &size);
    char *reply = pool_call_reply(call, 2 * size);
    if (!reply)
        return pool_call_fail(call, ENOMEM, "no room for %zu bytes", 2 * size);
    memcpy(reply, input, size);
    memcpy(reply + size, input, size);
    return 0;
}

static void check_map(struct pool *pool, const char *backend)
{
    static int items[ITEM_COUNT], results[ITEM_COUNT], statuses[ITEM_COUNT];
    for (int i = 0; i < ITEM_COUNT; i++)
        items[i] = i;

    check(pool_map(pool, add_offset, items, sizeof *items, results, sizeof *results, ITEM_COUNT) == 0, backend, "map");
    int right = 0;
    for (int i = 0; i < ITEM_COUNT; i++)
        right += results[i] == i + 7;
    check(right == ITEM_COUNT, backend, "map gives every result");

    struct pool_map_options options = POOL_MAP_OPTIONS_INIT;
    options.status_out = statuses;
    memset(results, 0, sizeof results);
    int error = pool_map_with(pool, crash_once, items, sizeof *items, results, sizeof *results, ITEM_COUNT, &options);
    check(error == POOL_ECRASH, backend, "a crash is reported");
    check(strstr(pool_message(), "4321") != NULL, backend, "the message names the item that crashed");
    right = 0;
    for (int i = 0; i < ITEM_COUNT; i++)
        right += i == CRASHING_ITEM ? statuses[i] == POOL_ECRASH : statuses[i] == 0 && results[i] == i + 7;
    check(right == ITEM_COUNT, backend, "a crash fails only the item that crashed");
}

static void check_map_bytes(struct pool *pool, const char *backend)
{
    static char text[PAYLOAD_COUNT * 10000];
    struct pool_bytes items[PAYLOAD_COUNT], replies[PAYLOAD_COUNT];
    memset(text, 'x', sizeof text);
    for (size_t i = 0; i < PAYLOAD_COUNT; i++)
        items[i] = (struct pool_bytes){text, i * 10000};

    check(pool_map_bytes(pool, repeat, items, PAYLOAD_COUNT, replies, NULL) == 0, backend, "map_bytes");
    int right = 0;
    for (size_t i = 0; i < PAYLOAD_COUNT; i++) {
        right += replies[i].size == 2 * items[i].size && (i == 0 || *(char *)replies[i].data == 'x');
        pool_bytes_clear(&replies[i]);
    }
    check(right == PAYLOAD_COUNT, backend, "map_bytes gives every reply");
}

static void check_backend(const char *backend)
{
    int offset = 7;
    struct pool *pool = NULL;
    struct pool_options options = POOL_OPTIONS_INIT;
    options.backend = backend;
    options.workers = 2;
    options.initializer = make_offset;
    options.arg = &offset;
    options.arg_size = sizeof offset;
    check(pool_create(&options, &pool) == 0, backend, "create");
    if (!pool)
        return;
    check_map(pool, backend);
    check_map_bytes(pool, backend);
    check(pool_destroy(pool) == 0, backend, "destroy");
}

int main(void)
{
    pool_init();

    check_backend("fork");
    check_backend("spawn");
    check_backend("forkserver");

    struct pool_options options = POOL_OPTIONS_INIT;
    struct pool *pool = NULL;
    options.backend = "nonsense";
    check(pool_create(&options, &pool) == POOL_ENOBACKEND && !pool, "nonsense", "is refused");
    check(strstr(pool_message(), "nonsense") != NULL, "nonsense", "the message names it");

    printf("%u passed, %u failed\n", passed, failed);
    return failed != 0;
}

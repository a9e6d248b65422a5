/* chaos_calls: maps, streams, broadcasts, numbers and event loops, at random (see chaos.h). */
#include "chaos.h"
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

static void *allocate(size_t count, size_t size)
{
    void *memory = calloc(count, size);
    if (!memory)
        chaos_failed("no memory");
    return memory;
}

/* ---- maps ---- */

/* A deadline that all items of a call have is long enough for those that behave, on a machine that is busy with other
 * things. */
enum { MOST_ITEMS = 1500, UNTOUCHED = 4711, COMMON_DEADLINE_MS = 2000 };

struct map {
    struct arena *arena;
    size_t count;
    struct memory items, results; /* what orders and sums are in */
    struct order *orders;
    uint64_t *sums;
    int *statuses, *codes;
    struct pool_map_options options;
    bool stopped; /* by its progress callback */
    struct dice *dice;
};

static int follow_progress(void *arg, size_t done, size_t count)
{
    struct map *map = arg;
    if (done > count || count != map->count)
        chaos_failed("progress says %zu of %zu, and there are %zu", done, count, map->count);
    if (done < count && dice_one_in(map->dice, 3))
        map->stopped = true;
    if (dice_one_in(map->dice, 3))
        submit_at_random(map->arena, map->dice, true);
    return map->stopped;
}

static struct map make_map(struct arena *arena, struct dice *dice, size_t most_items, uint32_t most_bytes)
{
    struct map map = {.arena = arena, .dice = dice, .options = POOL_MAP_OPTIONS_INIT};
    map.count = (size_t)(1 + (dice_next(dice) % most_items >> dice_below(dice, 6)));
    map.items = take_memory(arena, dice, map.count * sizeof *map.orders);
    map.results = take_memory(arena, dice, map.count * sizeof *map.sums);
    map.orders = (struct order *)map.items.data;
    map.sums = (uint64_t *)map.results.data;
    map.statuses = allocate(map.count, sizeof *map.statuses);
    map.codes = allocate(map.count, sizeof *map.codes);
    bool has_deadline = dice_one_in(dice, 3), peaceful = dice_one_in(dice, 2);
    size_t endless = has_deadline && dice_one_in(dice, 6) ? dice_below(dice, (unsigned)map.count) : SIZE_MAX;
    for (size_t i = 0; i < map.count; i++) {
        map.orders[i] = make_order(dice, false, most_bytes);
        /* A few that misbehave are enough in a long one. */
        if (i > 10 && (peaceful || i % 16))
            map.orders[i].deed = BEHAVES;
        if (i == endless)
            map.orders[i].deed = HANGS + dice_below(dice, STOPS_ITSELF - HANGS + 1);
        map.statuses[i] = UNTOUCHED;
    }
    map.options.status_out = map.statuses;
    map.options.code_out = map.codes;
    map.options.at_most_once = dice_one_in(dice, 4);
    map.options.stop_on_error = dice_one_in(dice, 8);
    map.options.chunk_size = dice_one_in(dice, 2) ? 0 : 1 + dice_below(dice, 50);
    map.options.timeout_ms = has_deadline ? COMMON_DEADLINE_MS : 0;
    return map;
}

static void clear_map(struct map *map)
{
    give_memory(&map->items);
    give_memory(&map->results);
    free(map->statuses);
    free(map->codes);
}

static struct expectation expect_item(const struct map *map, size_t i)
{
    bool may_be_canceled = map->stopped || map->options.stop_on_error;
    return (struct expectation){.order = &map->orders[i],
                                .arena = map->arena,
                                .at_most_once = map->options.at_most_once,
                                .has_deadline = map->options.timeout_ms,
                                .may_be_canceled = may_be_canceled,
                                .index = i};
}

/* Refused as a whole, or run: then the first failure is what it returns, one of what was cancelled only if there is no
 * other. */
static bool has_run(const struct map *map, int rc)
{
    if (map->statuses[0] != UNTOUCHED)
        return true;
    if (rc != POOL_ECLOSED || !map->arena->shut)
        chaos_failed("a map is %d (%s): %s", rc, pool_strerror(rc), pool_message());
    return false;
}

static void check_map(struct map *map, int rc)
{
    int first_failure = 0, unused;
    for (size_t i = 0; i < map->count; i++) {
        bool lost = map->statuses[i] == POOL_ECRASH && !deed_kills((enum deed)map->orders[i].deed, 0, &unused, &unused);
        if (lost && ++map->arena->lost > map->arena->kills)
            chaos_failed("more items are lost in maps than workers were killed: order %u", map->orders[i].number);
        if (!first_failure || (first_failure == POOL_ECANCELED && map->statuses[i]))
            first_failure = map->statuses[i];
        count_status(map->statuses[i]);
    }
    if (rc != first_failure)
        chaos_failed("a map is %d (%s), but its first failure is %d", rc, pool_strerror(rc), first_failure);
    map->arena->accepted += map->count;
    count_up(COUNT_MAPS, 1);
    count_up(COUNT_MAP_ITEMS, map->count);
}

void map_at_random(struct arena *arena, struct dice *dice)
{
    if (orders_are_used_up())
        return;
    struct map map = make_map(arena, dice, MOST_ITEMS, 0);
    map.options.progress = dice_one_in(dice, 4) ? follow_progress : NULL;
    map.options.progress_arg = &map;
    int rc = pool_map_with(arena->pool, do_order_item, map.orders, sizeof *map.orders, map.sums, sizeof *map.sums,
                           map.count, &map.options);
    if (has_run(&map, rc)) {
        for (size_t i = 0; i < map.count; i++) {
            struct expectation expected = expect_item(&map, i);
            check_item(&expected, map.statuses[i], map.codes[i], map.sums[i]);
        }
        check_map(&map, rc);
    }
    clear_map(&map);
}

static void check_reply(struct map *map, size_t i, struct pool_bytes *reply)
{
    struct reply head = {0};
    struct expectation expected = expect_item(map, i);
    bool right = reply->size >= sizeof head;
    if (right)
        memcpy(&head, reply->data, sizeof head);
    if (map->statuses[i] ? reply->data || reply->size : !right)
        chaos_failed("order %u ended with %d and a reply of %zu bytes", map->orders[i].number, map->statuses[i],
                     reply->size);
    if (right && (reply->size != sizeof head + map->orders[i].size || head.index != i ||
                  !is_filled((char *)reply->data + sizeof head, map->orders[i].size, map->orders[i].seed + 1)))
        chaos_failed("order %u was answered by another reply", map->orders[i].number);
    check_item(&expected, map->statuses[i], map->codes[i], head.sum + i);
    pool_bytes_clear(reply);
}

/* `at`: where there is room for it. */
static struct pool_bytes write_order(const struct order *order, char *at)
{
    memcpy(at, order, sizeof *order);
    fill(at + sizeof *order, order->size, order->seed);
    return (struct pool_bytes){at, sizeof *order + order->size};
}

/* All of them, one right behind the other. */
static struct memory write_orders(const struct map *map, struct pool_bytes *items_out)
{
    size_t size = 0;
    for (size_t i = 0; i < map->count; i++)
        size += sizeof map->orders[i] + map->orders[i].size;
    struct memory memory = take_memory(map->arena, map->dice, size);
    char *at = memory.data;
    for (size_t i = 0; i < map->count; i++) {
        items_out[i] = write_order(&map->orders[i], at);
        at += items_out[i].size;
    }
    return memory;
}

void map_bytes_at_random(struct arena *arena, struct dice *dice)
{
    if (orders_are_used_up())
        return;
    struct map map = make_map(arena, dice, 200, dice_one_in(dice, 10) ? 1 << 20 : 20000);
    struct pool_bytes *items = allocate(map.count, sizeof *items), *replies = allocate(map.count, sizeof *replies);
    struct memory memory = write_orders(&map, items);
    int rc = pool_map_bytes(arena->pool, do_order, items, map.count, replies, &map.options);
    if (has_run(&map, rc)) {
        for (size_t i = 0; i < map.count; i++)
            check_reply(&map, i, &replies[i]);
        check_map(&map, rc);
    }
    give_memory(&memory);
    free(items);
    free(replies);
    clear_map(&map);
}

/* ---- streams ---- */

enum { STREAM_ITEMS = 80, SOURCE_STOPS = -4242, SINK_STOPS = 4242 };

struct stream {
    struct arena *arena;
    struct dice *dice;
    struct order orders[STREAM_ITEMS];
    bool seen[STREAM_ITEMS];
    uint64_t count, given, taken;
    uint64_t source_stops, sink_stops; /* at this one; UINT64_MAX: never */
    uint64_t endless;                  /* this one; UINT64_MAX: none */
    struct pool_stream_options options;
};

static int give_item(void *arg, struct pool_bytes *item_out)
{
    struct stream *stream = arg;
    size_t most = stream->options.max_in_flight ? stream->options.max_in_flight : 16 * stream->arena->options.workers;
    if (stream->given - stream->taken >= most)
        chaos_failed("a stream has more than %zu items in flight", most);
    if (stream->given == stream->source_stops)
        return SOURCE_STOPS;
    if (stream->given == stream->count)
        return 0;
    if (dice_one_in(stream->dice, 20))
        submit_at_random(stream->arena, stream->dice, true);
    struct order *order = &stream->orders[stream->given];
    *order = make_order(stream->dice, false, 30000);
    if (stream->given++ == stream->endless)
        order->deed = HANGS;
    *item_out = write_order(order, allocate(1, sizeof *order + order->size));
    return 1;
}

static int take_result(void *arg, uint64_t index, const struct pool_result *result)
{
    struct stream *stream = arg;
    if (index >= stream->given || stream->seen[index])
        chaos_failed("the sink has had item %" PRIu64 " of %" PRIu64 " before, or too early", index, stream->given);
    if (stream->options.ordered && index != stream->taken)
        chaos_failed("the sink was given item %" PRIu64 " when it was the turn of %" PRIu64, index, stream->taken);
    stream->seen[index] = true;
    /* One that was taken from the source, and not to be had any more. */
    bool was_too_late = stream->arena->shut && !result->attempts;
    struct expectation expected = {.order = &stream->orders[index],
                                   .arena = stream->arena,
                                   .at_most_once = stream->options.at_most_once,
                                   .has_deadline = stream->options.timeout_ms,
                                   .may_be_canceled = was_too_late,
                                   .index = index};
    check_result(&expected, result);
    count_status(result->status);
    return stream->taken++ == stream->sink_stops ? SINK_STOPS : 0;
}

static void check_stream(const struct stream *stream, int rc)
{
    bool stopped = (rc == SOURCE_STOPS && stream->source_stops != UINT64_MAX) ||
                   (rc == SINK_STOPS && stream->sink_stops != UINT64_MAX);
    bool closed = rc == POOL_ECLOSED && stream->arena->shut;
    if (rc && !stopped && !closed)
        chaos_failed("a stream is %d (%s): %s", rc, pool_strerror(rc), pool_message());
    if ((!rc && stream->given != stream->count) || (!stopped && stream->taken != stream->given))
        chaos_failed("a stream is %d after %" PRIu64 " items taken and %" PRIu64 " given on", rc, stream->given,
                     stream->taken);
}

void stream_at_random(struct arena *arena, struct dice *dice)
{
    if (orders_are_used_up())
        return;
    struct stream *stream = allocate(1, sizeof *stream);
    stream->arena = arena;
    stream->dice = dice;
    stream->count = dice_below(dice, STREAM_ITEMS);
    stream->source_stops = dice_one_in(dice, 6) ? dice_below(dice, STREAM_ITEMS) : UINT64_MAX;
    stream->sink_stops = dice_one_in(dice, 6) ? dice_below(dice, STREAM_ITEMS) : UINT64_MAX;
    stream->options = (struct pool_stream_options)POOL_STREAM_OPTIONS_INIT;
    stream->options.ordered = dice_one_in(dice, 2);
    stream->options.max_in_flight = dice_one_in(dice, 2) ? 0 : 1 + dice_below(dice, 20);
    stream->options.at_most_once = dice_one_in(dice, 4);
    stream->options.timeout_ms = dice_one_in(dice, 3) ? COMMON_DEADLINE_MS : 0;
    stream->endless = stream->options.timeout_ms && dice_one_in(dice, 6) ? dice_below(dice, STREAM_ITEMS) : UINT64_MAX;
    int rc = pool_stream(arena->pool, do_order, give_item, take_result, stream, &stream->options);
    check_stream(stream, rc);
    arena->streamed += stream->given;
    count_up(COUNT_STREAMS, 1);
    count_up(COUNT_STREAM_ITEMS, stream->given);
    free(stream);
}

/* ---- broadcasts ---- */

/* A broadcast that met a worker on its way out, and says so. */
static bool was_lost_with_killed(int rc)
{
    const char *pid = strstr(pool_message(), "(pid ");
    return rc == POOL_ECRASH && pid && was_killed((pid_t)strtol(pid + strlen("(pid "), NULL, 10));
}

/* One at a time, so that the numbers go up in every worker. */
void broadcast_at_random(struct arena *arena, struct dice *dice)
{
    (void)dice;
    pthread_mutex_lock(&arena->broadcasting);
    uint64_t number = arena->telling + 1;
    arena->telling = number;
    int rc = pool_broadcast(arena->pool, hear_broadcast, &number, sizeof number);
    bool shut = (rc == POOL_ECLOSED || rc == POOL_ECANCELED) && arena->shut;
    if (rc && !shut && !was_lost_with_killed(rc))
        chaos_failed("a broadcast is %d (%s): %s", rc, pool_strerror(rc), pool_message());
    if (!rc)
        arena->told = number;
    pthread_mutex_unlock(&arena->broadcasting);
    count_up(COUNT_BROADCASTS, !rc);
}

/* ---- numbers ---- */

void look_at_numbers(struct arena *arena)
{
    struct pool_stats stats = POOL_STATS_INIT;
    int rc = pool_stats(arena->pool, &stats);
    if (rc)
        chaos_failed("pool_stats is %d (%s)", rc, pool_strerror(rc));
    if (stats.busy > stats.workers || stats.workers > arena->options.workers)
        chaos_failed("%u workers are busy, of %u, of %u", stats.busy, stats.workers, arena->options.workers);
    if (stats.succeeded + stats.failed + stats.canceled > stats.submitted)
        chaos_failed("more items have ended than were submitted: %" PRIu64 " + %" PRIu64 " + %" PRIu64 " of %" PRIu64,
                     stats.succeeded, stats.failed, stats.canceled, stats.submitted);
    if (*pool_strerror(POOL_ECRASH) == '\0')
        chaos_failed("pool_strerror has no words");
}

/* ---- event loops ---- */

void loop_for_a_while(struct arena *arena, struct dice *dice)
{
    uint64_t until_ms = now_ms() + dice_below(dice, 50);
    do {
        int fd = pool_fd(arena->pool);
        if (fd < 0)
            chaos_failed("pool_fd is %d (%s)", fd, pool_strerror(fd));
        poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, 5);
        int ended = pool_process(arena->pool);
        if (ended < 0)
            chaos_failed("pool_process is %d (%s)", ended, pool_strerror(ended));
        while (take_next(arena, 0) == 0)
            continue;
        if (dice_one_in(dice, 3))
            submit_at_random(arena, dice, false);
    } while (now_ms() < until_ms);
}

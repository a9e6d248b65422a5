/* faults_maps: scenarios with many items: maps, payloads, streams. */
#include "faults_scenarios.h"
#include <string.h>
#include <sys/mman.h>

/* ---- maps ---- */

void create_and_destroy(void)
{
    struct pool *pool = make_pool(3);
    EXPECT_INT(pool_destroy(pool), 0);
}

static void map_once(struct pool *pool, long first, const struct pool_map_options *given)
{
    static long items[MAP_ITEMS], results[MAP_ITEMS];
    map_arrays(pool, first, given, items, results);
}

void map_with_a_crash(void)
{
    struct pool_map_options options = POOL_MAP_OPTIONS_INIT;
    struct pool *pool = make_pool(2);
    if (!pool)
        return;
    map_once(pool, 100, &options);
    map_once(pool, 0, &options);
    options.at_most_once = 1;
    options.timeout_ms = 60000;
    map_once(pool, CRASHING - 20, &options);
    EXPECT_INT(pool_destroy(pool), 0);
}

enum { LARGE_ITEMS = 64, LARGE_ITEM_LONGS = 2560, LARGE_CHUNK = 16 };

/* In chunks that travel by memory of the worker's, where there is such memory: all but the first two, if
 * nothing fails. */
static void map_large(struct pool *pool, long first)
{
    static long items[LARGE_ITEMS][LARGE_ITEM_LONGS], results[LARGE_ITEMS][LARGE_ITEM_LONGS];
    static int statuses[LARGE_ITEMS];
    struct pool_map_options options = POOL_MAP_OPTIONS_INIT;
    options.status_out = statuses;
    options.chunk_size = LARGE_CHUNK;
    for (long i = 0; i < LARGE_ITEMS; i++) {
        items[i][0] = first + i;
        statuses[i] = NOT_WRITTEN;
    }
    int rc = pool_map_with(pool, triple, items, sizeof *items, results, sizeof *results, LARGE_ITEMS, &options);
    if (statuses[0] == NOT_WRITTEN) {
        EXPECT(is_due_to_fault(rc) && *pool_message());
        return;
    }
    for (long i = 0; i < LARGE_ITEMS; i++)
        check_map_item(items[i][0], results[i][0], statuses[i], statuses[i] == POOL_ETASK ? FAILURE_CODE : 0);
}

void large_map_with_a_crash(void)
{
    struct pool *pool = make_pool(1);
    if (!pool)
        return;
    map_large(pool, 1000000);
    map_large(pool, CRASHING - 40);
    EXPECT_INT(pool_destroy(pool), 0);
}

/* ---- payloads ---- */

static void check_payloads(int rc, const struct pool_bytes *items, struct pool_bytes *replies, const int *statuses)
{
    int first_failure = 0;
    for (size_t i = 0; i < PAYLOADS; i++) {
        EXPECT_STATUS(statuses[i], 0);
        if (statuses[i])
            EXPECT(!replies[i].data && !replies[i].size);
        else
            EXPECT(is_computed(replies[i].data, replies[i].size, items[i].data, items[i].size));
        first_failure = first_failure ? first_failure : statuses[i];
        pool_bytes_clear(&replies[i]);
    }
    EXPECT_INT(rc, first_failure);
}

void map_of_payloads(void)
{
    static const size_t sizes[PAYLOADS] = {0, 1,     100, LARGEST_PAYLOAD, 5000, 3, 60000, 200, 70000, 300000,
                                           0, 40000, 9,   LARGEST_PAYLOAD};
    struct pool_bytes items[PAYLOADS], replies[PAYLOADS];
    int statuses[PAYLOADS];
    struct pool_map_options options = POOL_MAP_OPTIONS_INIT;
    options.status_out = statuses;
    fill_payload();
    struct pool *pool = make_pool(2);
    if (!pool)
        return;
    for (size_t i = 0; i < PAYLOADS; i++) {
        items[i] = (struct pool_bytes){payload + i % 2, sizes[i]};
        statuses[i] = NOT_WRITTEN;
    }
    int rc = pool_map_bytes(pool, compute, items, PAYLOADS, replies, &options);
    if (statuses[0] == NOT_WRITTEN)
        EXPECT(is_due_to_fault(rc) && *pool_message());
    else
        check_payloads(rc, items, replies, statuses);
    EXPECT_INT(pool_destroy(pool), 0);
}

/* ---- streams ---- */

enum { STREAM_ITEMS = 30, STREAM_STOPS_AT = 10, STOPPED = -77 };

struct stream {
    uint64_t given, taken;
    uint64_t source_stops, sink_stops; /* at this item; 0: never */
    bool ordered;
    bool seen[STREAM_ITEMS];
};

static size_t stream_size(uint64_t index)
{
    return index % 7 == 3 ? 90000 : (size_t)index * 5;
}

static int give_item(void *arg, struct pool_bytes *item_out)
{
    struct stream *stream = arg;
    uint64_t index = stream->given;
    if (index == STREAM_ITEMS)
        return 0;
    if (stream->source_stops && index == stream->source_stops)
        return STOPPED;
    stream->given++;
    size_t size = stream_size(index);
    *item_out = (struct pool_bytes){.data = size ? faults_malloc(size) : NULL, .size = size};
    if (size)
        memcpy(item_out->data, payload + index, size);
    return 1;
}

static int take_result(void *arg, uint64_t index, const struct pool_result *result)
{
    struct stream *stream = arg;
    EXPECT(index < stream->given && !stream->seen[index]);
    EXPECT(!stream->ordered || index == stream->taken);
    stream->seen[index] = true;
    stream->taken++;
    EXPECT(result->message);
    EXPECT_STATUS(result->status, 0);
    if (!result->status)
        EXPECT(is_computed(result->data, result->data_size, payload + index, stream_size(index)));
    return stream->taken == stream->sink_stops ? STOPPED : 0;
}

static void run_stream(struct pool *pool, struct stream *stream)
{
    struct pool_stream_options options = POOL_STREAM_OPTIONS_INIT;
    options.ordered = stream->ordered;
    options.max_in_flight = stream->ordered ? 8 : 0;
    int rc = pool_stream(pool, compute, give_item, take_result, stream, &options);
    bool stops = stream->source_stops || stream->sink_stops;
    if (rc == STOPPED)
        EXPECT(stops);
    else if (GRANTED(rc))
        EXPECT(!stops && stream->given == STREAM_ITEMS && stream->taken == STREAM_ITEMS);
}

void streams(void)
{
    fill_payload();
    struct pool *pool = make_pool(2);
    if (!pool)
        return;
    run_stream(pool, &(struct stream){.ordered = true});
    run_stream(pool, &(struct stream){.sink_stops = STREAM_STOPS_AT});
    run_stream(pool, &(struct stream){.source_stops = STREAM_STOPS_AT, .ordered = true});
    run_stream(pool, &(struct stream){.ordered = false});
    EXPECT_INT(pool_destroy(pool), 0);
}

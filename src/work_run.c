/* work_run: a run: consecutive items of one size. See work.h. */
#include "clock.h"
#include "work_inner.h"
#include <errno.h>
#include <string.h>

#define REPORT_NS UINT64_C(200000) /* results wait no longer than this for company */
/* Those that are where they belong wait for nobody: that the worker gets on is said in time for it not to be taken for
 * stalled. */
#define IN_PLACE_REPORT_NS UINT64_C(1000000)
enum { LOOK_ITEMS = 512 };
enum { AROUND_BYTES = 64 << 10 }; /* the kernel maps so much for who reads a page that is there */

struct run {
    const struct wire_header *request;
    pool_map_fn *fn;
    const uint8_t *items;
    uint8_t *results;
    size_t item_size, result_size;
    bool in_place;           /* the results are where they belong */
    uint32_t reported, done; /* items [reported, done) wait to be reported */
    uint32_t begun;          /* items [done, begun) may be run; the others have to be begun first */
    uint32_t failure_count;  /* among them; listed in work.failures */
    uint64_t begun_ns;       /* when `reported` was reached */
};

/* The body of a report: the results where they are, or behind a list of failures in a buffer of their own. */
static const void *report_body(const struct run *run, size_t failure_bytes, size_t result_bytes)
{
    const uint8_t *results = run->results + run->reported * run->result_size;
    if (!failure_bytes)
        return results;
    if (!work_reserve(&work.report, failure_bytes + result_bytes))
        work_end(1); /* no memory for a report: the items are in doubt, and run elsewhere */
    memcpy(work.report.data, work.failures.data, failure_bytes);
    memcpy(work.report.data + failure_bytes, results, result_bytes);
    return work.report.data;
}

static void report_run(struct run *run)
{
    uint32_t count = run->done - run->reported;
    size_t failure_bytes = (size_t)run->failure_count * WIRE_FAILURE_BYTES;
    size_t result_bytes = run->in_place ? 0 : count * run->result_size;
    uint64_t elapsed_ns = work.clock_ns - run->begun_ns;
    struct wire_header header = {.type = WIRE_RESULTS,
                                 .flags = work_weigh(elapsed_ns),
                                 .id = run->request->id + run->reported,
                                 .count = count,
                                 .function = run->failure_count,
                                 .extra = elapsed_ns,
                                 .body_bytes = failure_bytes + result_bytes};
    work_put(&header, report_body(run, failure_bytes, result_bytes));
    run->reported = run->done;
    run->failure_count = 0;
    run->begun_ns = work.clock_ns;
}

static void note_failure(struct run *run, uint32_t item, int code)
{
    if (!work_reserve(&work.failures, (size_t)run->request->count * WIRE_FAILURE_BYTES))
        work_end(1);
    struct wire_failure failure = {.offset = item - run->reported, .code = code};
    wire_encode_failure(failure, work.failures.data + (size_t)run->failure_count++ * WIRE_FAILURE_BYTES);
}

/* Call fn for the items [i, limit), up to the first that fails: which that is, or limit. Of its own, and with all that
 * it needs as arguments, so that it stays in registers: the function may be shorter than this. */
static __attribute__((noinline)) uint32_t call_items(pool_map_fn *fn, const struct run *run, uint32_t i, uint32_t limit,
                                                     int *code_out)
{
    const size_t item_size = run->item_size, result_size = run->result_size;
    const uint64_t first = run->request->id;
    void *const state = work.state;
    const uint8_t *item = run->items + i * item_size;
    uint8_t *result = run->results + i * result_size;
    int code = 0;
    for (; i < limit; i++, item += item_size, result += result_size) {
        call_place.item_index = first + i;
        code = fn(item, result, state);
        work_end_copy();
        if (__builtin_expect(code, 0))
            break;
    }
    *code_out = code;
    return i;
}

/* Run items up to `limit`; short of it after a failure that is to stop the run. */
static bool run_items(struct run *run, uint32_t limit)
{
    int code;
    for (; (run->done = call_items(run->fn, run, run->done, limit, &code)) < limit; run->done++) {
        note_failure(run, run->done, code);
        if (run->request->flags & WIRE_STOP) {
            run->done++;
            return false;
        }
    }
    return true;
}

/* The clock is looked at once per `look` items, as their measured cost warrants: 22 ns are much beside an item of 5. */
static void work_through(struct run *run)
{
    const uint64_t report_ns = run->in_place ? IN_PLACE_REPORT_NS : REPORT_NS;
    bool stepwise = run->request->flags & WIRE_STEPWISE, going = true;
    while (going && run->done < run->request->count) {
        uint32_t left = run->request->count - run->done, look = stepwise ? 1 : work.look_items;
        uint32_t step = look < left ? look : left;
        uint64_t before_ns = work.clock_ns;
        run->begun += work_begin_items(step);
        if (run->begun == run->done)
            break;
        going = run_items(run, run->begun);
        work.clock_ns = clock_now_ns();
        uint64_t elapsed_ns = work.clock_ns - before_ns;
        if (elapsed_ns > LOOK_NS)
            work.look_items = look / 2 ? look / 2 : 1;
        else if (look < LOOK_ITEMS && step == look)
            work.look_items = look * 2;
        if (stepwise || work.clock_ns - work.reported_ns >= report_ns) {
            report_run(run);
            work_flush();
        }
    }
    if (run->reported < run->done)
        report_run(run);
    if (!going) /* a failure ends the run: what could have been begun is not told of */
        run->begun += work_begin_items(run->request->count - run->begun);
    if (run->begun < run->request->count)
        work_skip_items(run->request->count - run->begun);
}

/* Room for results with defined contents: the bytes of a result that its function leaves alone travel too. */
static bool reserve_results(size_t size)
{
    size_t capacity_before = work.results.capacity;
    bool done = work_reserve(&work.results, size);
    if (done && work.results.capacity != capacity_before)
        memset(work.results.data, 0, work.results.capacity);
    return done;
}

/* Pages that are there are mapped by the dozen for who reads, and one by one for who writes: that takes the kernel
 * seven times as long. */
static void map_pages(const volatile uint8_t *results, size_t size)
{
    for (size_t i = 0; i < size; i += AROUND_BYTES)
        (void)results[i];
}

/* Where the results go; NULL: there is no memory for them. */
static uint8_t *find_results(const struct work_places *places, size_t size)
{
    if (!places->results)
        return reserve_results(size) ? work.results.data : NULL;
    if (places->results_size != size)
        work_end(1); /* not the parent that said hello */
    map_pages(places->results, size);
    return places->results;
}

static void run_run(const struct wire_header *request, pool_map_fn *fn, const struct work_places *places)
{
    size_t result_size = (size_t)request->extra, results_size;
    if (!request->count || __builtin_mul_overflow(request->count, result_size, &results_size))
        work_end(1);
    uint8_t *results = find_results(places, results_size);
    if (!results) {
        work_refuse(request, -ENOMEM, "the worker has no memory for the results");
        return;
    }
    if (request->flags & WIRE_STEPWISE)
        work_flush();
    struct run run = {.request = request,
                      .fn = fn,
                      .items = places->input,
                      .results = results,
                      .in_place = places->results,
                      .item_size = places->input_size / request->count,
                      .result_size = result_size,
                      .begun_ns = work.clock_ns};
    work_through(&run);
    if (chan_has_output(&work.chan))
        work_flush_if_late();
    work_release_if_outgrown(&work.results, places->results ? 0 : results_size);
    work_release_if_large(&work.failures);
    work_release_if_large(&work.report);
}

void work_run_run(const struct wire_header *request)
{
    struct work_places places;
    if (!work_take_places(request, &places))
        return;
    pool_map_fn *fn = (pool_map_fn *)work_find_function(request);
    if (fn)
        run_run(request, fn, &places);
    work_release_if_outgrown(&work.input, request->flags & WIRE_REFERENCE ? 0 : places.input_size);
}

/* parent_transit: memory by which what is large travels to a process and back, as the process has it.
 *
 * A process with HABIT_MAPS maps it as soon as its message is received. What the parent says of places there is held
 * against what else is under way; the items have to be there, for as long as the process may read them; and results are
 * read by the place that the stream named, whatever the parent takes that to be. */
#include "parent_world.h"
#include <string.h>

/* ---- what the parent tells ---- */

static bool is_under_way(const struct process *process, const struct room *room)
{
    for (size_t i = process->first_question; i < process->question_count; i++) {
        const struct room *other = &process->questions[i].room;
        if (other->size && room->at < other->at + other->size && other->at < room->at + room->size)
            return true;
    }
    return false;
}

/* In place of what there was, where nothing is under way; extra 0: it is given up. The message was sent before. */
void note_transit(struct process *process, const struct wire_header *header)
{
    for (size_t i = process->first_question; i < process->question_count; i++)
        REQUIRE(!process->questions[i].room.size);
    process->transit_at = header->extra ? process->fd_tasks : 0;
    process->transit_bytes = (size_t)header->extra;
    if (!header->extra)
        transit_clear(&process->transit);
}

/* The latest: one before that was meant for what has been told to forget. */
void receive_transit(struct process *process, int fd)
{
    if (process->fd_received != process->transit_at || !(process->habits & HABIT_MAPS))
        return;
    process->spoiled = false;
    REQUIRE(transit_map(&process->transit, process->transit_bytes, fd) == 0);
    trace("  process %u maps %zu bytes twice\n", number_of(process), process->transit_bytes);
}

static struct wire_reference read_place(const struct process *process, const uint8_t *bytes)
{
    struct wire_reference place = wire_decode_reference(bytes);
    REQUIRE(place.buffer == WIRE_IN_TRANSIT && place.size);
    REQUIRE(process->transit.memory && process->transit.ring_bytes == process->transit_bytes);
    REQUIRE(transit_has(&process->transit, place.offset, place.size));
    return place;
}

/* What a frame is about to say of where its items are and where their results may be. */
struct places places_of(const struct process *process, const struct wire_header *header, const uint8_t *start)
{
    struct places places = {.has_results = header->flags & WIRE_IN_PLACE, .has_items = header->flags & WIRE_REFERENCE};
    if (places.has_results)
        places.results = read_place(process, start);
    if (places.has_items)
        places.items = read_place(process, start + (places.has_results ? WIRE_REFERENCE_BYTES : 0));
    REQUIRE(!places.has_results || !places.has_items || places.results.offset == places.items.offset);
    places.room.at = (size_t)(places.has_results ? places.results.offset : places.items.offset);
    places.room.size = (size_t)(places.results.size > places.items.size ? places.results.size : places.items.size);
    REQUIRE(!is_under_way(process, &places.room));
    return places;
}

/* What there is of item i of a frame. */
void note_places(struct question *question, const struct places *places, const struct wire_header *header, uint32_t i)
{
    size_t result_size = (size_t)places->results.size / header->count, item_size = places->items.size / header->count;
    question->room = places->room;
    question->in_place = places->has_results;
    question->results_at = (size_t)places->results.offset + i * result_size;
    question->results_size = result_size;
    question->items_at = (size_t)places->items.offset + i * item_size;
    question->items_size = item_size;
}

/* ---- items ---- */

/* As long as the process has not written there itself, and the item has not ended without it. */
void check_item_in_transit(const struct process *process, const struct question *question)
{
    const struct work *work = work_of(question);
    if (!question->items_size || !work || process->spoiled || (work->task && work->task->ended))
        return;
    const void *data = work->task     ? work->task->item.data
                       : work->inputs ? work->inputs[question->index].data
                                      : work->items + question->index * work->job.item_size;
    size_t size = work->task     ? work->task->item.size
                  : work->inputs ? work->inputs[question->index].size
                                 : work->job.item_size;
    REQUIRE(size == question->items_size);
    REQUIRE(!memcmp(transit_items(&process->transit, question->items_at), data, size));
}

/* ---- results ---- */

/* Where the results belong of a question with in_place. */
const uint8_t *results_of(const struct process *process, const struct question *question)
{
    return transit_results(&process->transit, question->results_at);
}

static void write_reply(struct process *process, size_t at, size_t size)
{
    struct draft scratch = {0};
    draft_reply(&scratch, size);
    if (transit_has(&process->transit, at, size) && size)
        memcpy(transit_results(&process->transit, at), scratch.body.data, size);
    bytes_clear(&scratch.body);
}

/* Of `count` items of a run. */
void write_results(struct process *process, const struct question *first, uint32_t count)
{
    write_reply(process, first->results_at, count * first->results_size);
}

/* A reply as it should be but for the place that is told, which is so much beside the one that was named. */
void draft_in_transit(struct draft *draft, struct process *process, const struct question *question, size_t beside,
                      size_t size)
{
    uint8_t place[WIRE_REFERENCE_BYTES];
    struct wire_reference reference = {WIRE_IN_TRANSIT, question->results_at + beside, size};
    write_reply(process, question->results_at, size < question->results_size ? size : question->results_size);
    wire_encode_reference(reference, place);
    bytes_append(&draft->body, place, sizeof place);
    draft->header = (struct wire_header){
        .type = WIRE_RESULT, .flags = WIRE_REFERENCE, .id = question->id, .count = 1, .extra = 1000};
}

/* Whether a good worker's reply to this task goes there; some are small. */
bool replies_in_transit(const struct question *question)
{
    return question->in_place && !question->in_run && question->id % 4 != 1;
}

/* The whole room, or part of it. */
size_t good_reply_size(const struct question *question)
{
    size_t room = question->results_size, most = world.max_result_bytes < room ? (size_t)world.max_result_bytes : room;
    return question->id % 4 ? (most + 1) / 2 : most;
}

/* Write to any of it at any time: `at` in 256ths of both halves; 255: to the word that says that it is mapped. */
void spoil(struct process *process, uint8_t at, size_t size, uint8_t value)
{
    size_t all = 2 * process->transit.ring_bytes, from = all / 256 * at;
    if (!process->transit.memory)
        return;
    process->spoiled = true;
    if (at == 255)
        memset(process->transit.memory + all, value, sizeof(uint32_t));
    else
        memset(process->transit.memory + from, value, size < all - from ? size : all - from);
}

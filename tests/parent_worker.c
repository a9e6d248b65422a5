/* parent_worker: a good worker, which answers what it was asked, lends memory and steps over what was taken back. */
#include "parent_world.h"
#include <string.h>
#include <unistd.h>

/* What it still has it may begin, and what it has begun it keeps. False: the page says otherwise, which is somebody's
 * lie. */
static bool claim(struct process *process, struct question *question)
{
    if (question->may_go && process->claims.page && !claims_begin(&process->claims, question->ticket, 1)) {
        REQUIRE(process->tampered);
        return false;
    }
    check_item_in_transit(process, question);
    question->claimed = true;
    return true;
}

/* Whether it is a task whose reply may go in one frame with others, be they of its span or not. */
static bool goes_with_others(const struct question *question)
{
    const struct work *work = work_of(question);
    return !question->in_run && work && work->kind != WORK_BROADCAST && !replies_in_transit(question);
}

static bool are_together(const struct question *first, const struct question *other)
{
    return first == other || (first->in_run && other->span == first->span) ||
           (goes_with_others(first) && goes_with_others(other));
}

/* Items from `first` on that can be answered at once, at most `most`. */
static uint32_t claim_some(struct process *process, size_t first, unsigned most)
{
    struct question *questions = process->questions;
    uint32_t count = 0;
    while (count < most && first + count < process->question_count && questions[first + count].end <= process->read &&
           are_together(&questions[first], &questions[first + count]) && claim(process, &questions[first + count]))
        count++;
    return count;
}

/* In a region that is free, or in a new one. False: there is none, or replies must be smaller. */
static bool lend_reply(struct process *process, uint64_t id)
{
    enum { REGION_BYTES = 128 };
    unsigned number = 0;
    while (number < BORROW_REGIONS && (process->lents[number].held || process->lents[number].untold))
        number++;
    if (number == BORROW_REGIONS || world.max_result_bytes < REGION_BYTES || process->socket_fd < 0 ||
        process->messages_heard < process->message_count)
        return false;
    struct draft draft = {0};
    const struct lent *lent = &process->lents[number];
    if (!lent->known || lent->size < REGION_BYTES) {
        draft_region(&draft, process, number, REGION_BYTES, 0);
        draft_send(process, &draft, false);
    }
    draft_reference(&draft, id, number, 1 + id % REGION_BYTES);
    draft_send(process, &draft, false);
    return true;
}

static void skip(struct process *process, uint32_t count)
{
    struct draft draft = {0};
    draft_skipped(&draft, count);
    draft_send(process, &draft, false);
}

/* The next `most` items at most, of what it has read; and what was taken back, if that is next. */
static void answer(struct process *process, unsigned most)
{
    size_t at = process->first_question;
    while (at < process->question_count && most && process->questions[at].end <= process->read) {
        struct draft draft = {0};
        const struct question *first = &process->questions[at];
        const struct work *work = work_of(first);
        uint32_t count = claim_some(process, at, most);
        if (!count) {
            skip(process, 1);
            return;
        }
        at += count;
        most -= count;
        if (count == 1 && !first->in_run && first->id % 4 == 3 && lend_reply(process, first->id))
            return; /* whether it is free afterwards, the parent has to say */
        if (first->in_place && first->in_run)
            write_results(process, first, count);
        if (first->in_run)
            draft_results(&draft, first->id, count, work && !first->in_place ? work->job.result_size : 0, 0);
        else if (replies_in_transit(first) && good_reply_size(first))
            draft_in_transit(&draft, process, first, 0, good_reply_size(first));
        else if (count > 1 || (first->id % 2 && goes_with_others(first)))
            draft_replies(&draft, first->id, count, 0);
        else
            draft_result(&draft, first->id, first->id % 9 * 11, 0);
        draft_send(process, &draft, false);
    }
    if (at == process->question_count && process->to_skip && most && process->read == process->asked.size)
        skip(process, process->to_skip < most ? (uint32_t)process->to_skip : most);
}

void tamper(struct process *process, uint64_t word)
{
    if (!process->claims.page)
        return;
    process->tampered = true;
    memcpy(process->claims.page, &word, sizeof word);
}

/* If all that it has said was heard. */
void do_next(struct process *process, unsigned most)
{
    struct draft draft = {0};
    read_requests(process, SIZE_MAX);
    process->room = SIZE_MAX;
    if (process->outbox.size || process->exited)
        return;
    if (process->dismissed_at && process->read >= process->dismissed_at) {
        die(process, (struct child_exit){.known = true});
    } else if (process->stage == HELLO_DUE) {
        draft_hello(&draft);
        draft_send(process, &draft, false);
    } else if (process->stage == READY_DUE) {
        draft.header = (struct wire_header){.type = WIRE_READY};
        draft_send(process, &draft, false);
    } else {
        answer(process, most);
    }
}

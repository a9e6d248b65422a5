/* sched_broadcast: who owes the broadcast, and when it has ended.
 *
 * A slot that takes part owes it until its worker has run it, has died of it, or is gone; then whoever is started in
 * its place takes part in turn. While a slot owes it nothing else is sent there (see sched_note_capacity), so what was
 * submitted later comes later on every worker. It has ended when nobody owes it and somebody has run it.
 * Must not know: other jobs. */
#include "bits.h"
#include "sched_inner.h"

/* Who starts when it has failed already does without: it would be killed by what has killed others. */
void sched_take_part(struct sched *sched, struct sched_slot *slot)
{
    if (!sched->broadcast || sched->broadcast->failed || slot->owes)
        return;
    slot->owes = true;
    sched->broadcast->unended_count++;
    sched->unended_items++;
}

/* Workers that are replaced during a broadcast owe it again. With workers that wear out fast it would never end, so
 * when it was run twice as often as there are workers, those that are worn wait until it has ended. */
bool sched_must_not_wear_out(const struct sched *sched)
{
    return sched->broadcast && sched->broadcast->run_count >= 2 * (uint64_t)sched->config.workers;
}

/* Nobody owes it and nobody has run it: it waits for a worker. */
bool sched_broadcast_is_stranded(const struct sched *sched)
{
    return sched->broadcast && !sched->broadcast->unended_count;
}

/* It ends when nobody owes it and somebody has run it, or nobody ever will. */
static void end_broadcast_if_due(struct sched *sched)
{
    struct job *job = sched->broadcast;
    if (!job || job->unended_count || (!job->run_count && !sched->refusal))
        return;
    sched->broadcast = NULL;
    sched_note_ended(sched, job);
    sched_wind_down(sched);
    for (unsigned i = 0; i < sched->slot_count; i++)
        sched_replace_if_worn(sched, &sched->slots[i]);
}

void sched_end_one_part(struct sched *sched, bool has_run)
{
    sched->broadcast->unended_count--;
    sched->broadcast->run_count += has_run;
    sched->broadcast->left_count += !has_run && sched->refusal;
    sched->unended_items--;
    end_broadcast_if_due(sched);
}

void sched_end_part(struct sched *sched, struct sched_slot *slot, bool has_run)
{
    slot->owes = false;
    slot->broadcast.count = 0;
    sched_note_capacity(sched, slot);
    sched_end_one_part(sched, has_run);
}

/* What is left of its part in the broadcast when a worker is gone, or on its way out. */
void sched_leave_broadcast(struct sched *sched, struct sched_slot *slot)
{
    if (slot->owes && !slot->broadcast.count)
        sched_end_part(sched, slot, false);
}

/* Those that have not been sent it. */
void sched_refuse_broadcast(struct sched *sched)
{
    for (unsigned i = 0; sched->broadcast && i < sched->slot_count; i++) {
        sched_leave_broadcast(sched, &sched->slots[i]);
        bit_set(sched->owing, i, false);
    }
    end_broadcast_if_due(sched);
}

void sched_broadcast(struct sched *sched, struct job *job)
{
    job->unended_count = 0; /* counted as workers take part */
    sched->broadcast = job;
    sched_ask(sched, QUESTION_STARTS); /* there may be nobody to run it */
    for (unsigned i = 0; i < sched->slot_count && !sched->refusal; i++) {
        struct sched_slot *slot = &sched->slots[i];
        if (slot->state == SLOT_READY || (slot->state == SLOT_STARTING && !slot->unwanted))
            sched_take_part(sched, slot);
        sched_note_capacity(sched, slot);
    }
    end_broadcast_if_due(sched);
}

bool sched_next_part(struct sched *sched, struct sched_effect *effect)
{
    unsigned i = sched->broadcast ? bit_first(sched->owing, sched->slot_count) : SCHED_NO_SLOT;
    if (i == SCHED_NO_SLOT)
        return false;
    struct sched_slot *slot = &sched->slots[i];
    slot->broadcast = (struct span){.job = sched->broadcast, .first = i, .count = 1};
    sched->broadcast->spans_out++;
    sched->busy_count += !slot->flight.head;
    flight_append(&slot->flight, &slot->broadcast);
    sched_note_capacity(sched, slot);
    sched_ask(sched, QUESTION_STARTS); /* one less is idle */
    *effect = (struct sched_effect){
        .kind = SCHED_SEND, .slot = i, .span = &slot->broadcast, .job = sched->broadcast, .stepwise = true};
    return true;
}

/* parent_check: what holds between two operations, whatever workers say. */
#include "parent_world.h"

static void check_scheduler(void)
{
    const struct sched *sched = &world.loop.sched;
    unsigned counted[SLOT_STATE_COUNT] = {0};
    for (unsigned i = 0; i < sched->slot_count; i++)
        counted[sched_state(sched, i)]++;
    for (unsigned i = 0; i < SLOT_STATE_COUNT; i++)
        REQUIRE(counted[i] == sched->state_count[i]);
    uint64_t wake_ns = sched_wake_ns(sched), trim_ns = world.loop.trim_ns;
    wake_ns = wake_ns < trim_ns ? wake_ns : trim_ns;
    REQUIRE(wake_ns == SCHED_NEVER || world.timer_ns == wake_ns || world.now_ns >= wake_ns);
}

/* Who is being killed is not listened to, so some of what is believed may not have been told. */
static bool all_keep_the_protocol(void)
{
    for (unsigned i = 0; i < world.process_count; i++) {
        const struct process *process = &world.processes[i];
        if (process->exists && (process->garbage || process->declined || process->hung_up || process->signalled))
            return false;
    }
    return !world.any_exit && !world.was_scarce;
}

/* What was submitted has ended, with success or without, or is on its way. */
static void check_counts(bool driven)
{
    const struct loop_counts *counts = &world.loop.counts;
    uint64_t unended = 0, out = 0, in = 0;
    for (unsigned i = 0; i < MAX_WORKS; i++) {
        const struct work *work = &world.works[i];
        if (work->exists && work->kind != WORK_BROADCAST)
            unended += work->kind == WORK_TASK ? 1 : work->job.unended_count;
    }
    REQUIRE(counts->submitted == counts->succeeded + counts->failed + counts->canceled + unended);
    REQUIRE(counts->succeeded == world.succeeded || world.was_scarce);
    loop_add_bytes(&world.loop, &out, &in);
    REQUIRE(out == world.written + world.carried_out && in <= world.said + world.carried_in);
    REQUIRE(in == world.believed || !driven || !all_keep_the_protocol());
}

/* Of the parent's memory for what was lent to it; a task that is kept has a text, too. */
static size_t count_lent(void)
{
    size_t count = 0;
    for (unsigned i = 0; i < MAX_KEPT; i++)
        count += world.kept[i].task ? 4 : 0;
    for (unsigned i = 0; i < world.process_count; i++)
        for (unsigned k = 0; world.processes[i].exists && k < BORROW_REGIONS; k++)
            count += world.processes[i].lents[k].known;
    return count;
}

static void check_memory(void)
{
    size_t live = loop_live_count(&world.loop);
    size_t works = 0;
    for (unsigned i = 0; i < MAX_WORKS; i++)
        works += world.works[i].exists ? world.works[i].count : 0;
    REQUIRE(world.allocations < 64 + live * 8 + works * 4 + count_lent() + 6 * world.loop.setup.functions.count);
}

static void check_output(const struct process *process, unsigned slot)
{
    const struct peer *peer = &world.loop.peers[slot];
    enum slot_state state = sched_state(&world.loop.sched, slot);
    REQUIRE(peer->chan.put_bytes == process->asked.size && peer->chan.sent_bytes == process->written);
    if (state == SLOT_DYING)
        REQUIRE(!chan_has_output(&peer->chan));
    else if (!process->hung_up)
        REQUIRE(chan_has_output(&peer->chan) == (process->written < process->asked.size));
    if (chan_has_output(&peer->chan)) /* or a function's name, whose span there was no memory for */
        REQUIRE(peer->watches_output || world.was_scarce);
}

/* A worker is as well off as its behaviour lets it be. */
static void check_process(const struct process *process, bool driven)
{
    unsigned slot = slot_of(process);
    REQUIRE(slot != SCHED_NO_SLOT);
    enum slot_state state = sched_state(&world.loop.sched, slot);
    if (process->garbage)
        REQUIRE(state == SLOT_DYING);
    if (driven && is_overdue(process))
        REQUIRE(state == SLOT_DYING || state == SLOT_CLOSED);
    if (state == SLOT_DYING)
        REQUIRE(deserves_death(process));
    if (sched_verdict(&world.loop.sched, slot) == POOL_EPROTO)
        REQUIRE(process->garbage || process->declined || process->hung_up || world.was_scarce);
    check_output(process, slot);
}

void check_world(bool driven)
{
    unsigned live = 0;
    bury_reaped();
    look_at_works();
    check_scheduler();
    check_counts(driven);
    check_memory();
    for (unsigned i = 0; i < world.process_count; i++) {
        if (!world.processes[i].exists)
            continue;
        check_process(&world.processes[i], driven);
        live++;
    }
    REQUIRE(live == loop_live_count(&world.loop));
}

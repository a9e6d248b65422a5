/* fuzz_parent: a pool whose workers are the fuzzer. The whole of the parent's side runs: loop, scheduler, peers,
 * channels and decoder, over real pipes and a real epoll; the backend makes pipes instead of processes, and what goes
 * through these, when a process ends, what time it is, which start, write or allocation fails, is the input's to say
 * (fuzz_parent.h). Whatever it says:
 *
 *   - Every item ends exactly once; all of them when the pool is closed and its workers are dead, and when they are
 *     honest.
 *   - An item that succeeded has the result that the one worker sent, or lent, to whom it had been given last, for as
 *     long as it is kept. A second reader, written from the protocol's description, reads what the parent reads and
 *     keeps count. What it takes for garbage ends the worker; what it takes for right does not.
 *   - What the worker reads is what was put into its stream, to the byte; nothing of what has ended is still to be
 *     sent.
 *   - What a worker has begun is not taken back from it; and while it has to step over what was, it is sent nothing to
 *     run.
 *   - What travels by memory is where the stream says, as long as it is under way, and nothing else is; when all are
 *     out of work that memory is given up.
 *   - Memory that a worker lends it is given back once, when nothing holds it any more.
 *   - No allocation is larger than what has arrived, or was submitted, accounts for.
 *   - No deadline passes unnoticed, nobody is killed without a reason, the timer is set, nothing spins.
 *   - At the end no fd and no memory is left.
 *
 * Nothing depends on time or chance. FUZZ_TRACE=1 in the environment shows what an input does. parent_world.h lists the
 * rooms; they are included below, so that a target is one file for the build, and the functions that they replace are
 * named here for the linker (-Wl,--wrap):
 * __wrap_callable_describe __wrap_callable_generation __wrap_callable_library_id __wrap_callable_name __wrap_calloc
 * __wrap_chan_put __wrap_chan_put_parts __wrap_clock_gettime __wrap_epoll_ctl __wrap_free __wrap_lane_is_stretched
 * __wrap_malloc __wrap_mmap __wrap_munmap __wrap_peer_abandon_memory __wrap_peer_put_span __wrap_peer_take_back
 * __wrap_poll __wrap_read __wrap_readv __wrap_realloc __wrap_strdup __wrap_timerfd_create __wrap_timerfd_settime
 * __wrap_write __wrap_writev */
#include "fd.h"
#include "parent_world.h"
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>

enum {
    QUIET_PASSES = 64,
    TEASED_PASSES = 8,
    LAST_ROUNDS = 4000,
    MAX_FDS = 640,
    MANY_WORKERS = 33,
    FIRST_FUNCTIONS = 70
};
enum { MOST_SAID = 1 << 20 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct {
    const uint8_t *at;
    size_t left;
} program;

static uint8_t take(void)
{
    if (!program.left)
        return 0;
    program.left--;
    return *program.at++;
}

/* Stands in where there is none. */
static struct process nobody;

static struct process *take_process(void)
{
    unsigned choice = take(), live = 0;
    nobody = (struct process){.exited = true, .hung_up = true, .request_fd = -1, .reply_fd = -1, .socket_fd = -1};
    for (unsigned i = 0; i < world.process_count; i++)
        live += world.processes[i].exists;
    choice = live ? choice % live : 0;
    for (unsigned i = 0; i < world.process_count; i++)
        if (world.processes[i].exists && choice-- == 0)
            return &world.processes[i];
    return &nobody;
}

static struct work *take_work(void)
{
    unsigned choice = take(), live = 0;
    for (unsigned i = 0; i < MAX_WORKS; i++)
        live += world.works[i].exists;
    choice = live ? choice % live : 0;
    for (unsigned i = 0; i < MAX_WORKS; i++)
        if (world.works[i].exists && choice-- == 0)
            return &world.works[i];
    return NULL;
}

/* ---- driving ---- */

/* A pipe that has room, and takes nothing: the loop is called again and again for it. */
static bool is_teased(void)
{
    for (unsigned i = 0; i < world.process_count; i++)
        if (world.processes[i].exists && world.processes[i].room != SIZE_MAX)
            return true;
    return false;
}

static void pump_all(void)
{
    for (unsigned i = 0; i < world.process_count; i++)
        if (world.processes[i].exists && !world.processes[i].holds)
            pump(&world.processes[i], SIZE_MAX);
}

/* Until there is nothing to do. */
static void drive(void)
{
    struct epoll_event events[LOOP_EVENTS];
    unsigned most = is_teased() ? TEASED_PASSES : QUIET_PASSES, passes = 0;
    int count;
    do {
        pump_all();
        count = loop_wait(&world.loop, events, 0);
        loop_handle(&world.loop, events, count);
        bury_reaped();
    } while (count && ++passes < most);
    REQUIRE(!count || most == TEASED_PASSES);
}

/* ---- operations: time and work ---- */

static void op_drive(void)
{
    drive();
}

static void op_time(void)
{
    uint8_t amount = take();
    if (amount == 255)
        pass_time_until_wanted();
    else
        pass_time(UINT64_C(1000) << (amount % 40));
}

static void op_map(void)
{
    struct map_wish wish = {.flags = take()};
    wish.count = take();
    wish.item_size = take();
    wish.result_size = take();
    wish.timeout_ms = take();
    wish.chunk_size = take();
    wish.function = take();
    give_map(&wish);
}

static void op_task(void)
{
    struct task_wish wish = {.flags = take()};
    wish.size = take();
    wish.timeout_ms = take();
    wish.function = take();
    give_task(&wish);
}

static void op_broadcast(void)
{
    uint8_t size = take(), function = take();
    give_broadcast(size, function);
}

static void op_crowd(void)
{
    uint8_t count = take(), function = take();
    give_crowd(count, function);
}

static void op_cancel(void)
{
    struct work *work = take_work();
    if (work)
        cancel_work(work);
}

static void op_shutdown(void)
{
    enum pool_shutdown_mode mode = (enum pool_shutdown_mode)(take() % (POOL_KILL + 1));
    char text[300];
    world.mode = !world.closing || mode > world.mode ? mode : world.mode;
    world.closing = true;
    loop_shutdown(&world.loop, mode);
    loop_describe_rest(&world.loop, text, sizeof text);
    REQUIRE(!*text == !loop_live_count(&world.loop));
}

static void op_wake(void)
{
    loop_wake(&world.loop);
}

/* ---- operations: what workers do ---- */

static void op_next(void)
{
    struct process *process = take_process();
    uint8_t items = take();
    do_next(process, items ? items : 1);
}

static void change(struct draft *draft, uint8_t field, uint8_t value)
{
    struct wire_header *header = &draft->header;
    uint32_t step = value < 128 ? value : UINT32_MAX - 255 + value; /* -128 to 127 */
    switch (field) {
    case FIELD_ID:
        header->id += (uint64_t)(int32_t)step;
        break;
    case FIELD_COUNT:
        header->count += step;
        break;
    case FIELD_FUNCTION:
        header->function += step;
        break;
    case FIELD_BODY:
        header->body_bytes += (uint64_t)(int32_t)step;
        break;
    case FIELD_BODY_POWER:
        header->body_bytes = UINT64_C(1) << (value % 64);
        break;
    case FIELD_CODE:
        header->code = (int32_t)step;
        break;
    case FIELD_TYPE:
        header->type = value;
        break;
    case FIELD_FLAGS:
        header->flags ^= value;
        break;
    case FIELD_EXTRA:
        header->extra = UINT64_MAX >> (value % 64);
        break;
    case FIELD_RAW_BODY:
        if (draft->body.size)
            draft->body.data[value % draft->body.size] ^= 0x81;
        break;
    case FIELD_HUGE_ID:
        header->id = UINT64_MAX >> (value % 64);
        break;
    case FIELD_HUGE_COUNT:
        header->count = UINT32_MAX >> (value % 32);
        break;
    default:
        break;
    }
}

/* As it should be in a frame. */
static size_t size_of_result(const struct question *head, size_t size)
{
    const struct work *work = head ? work_of(head) : NULL;
    if (!work)
        return size % 64;
    return head->in_run && head->in_place ? 0 : work->job.result_size;
}

/* A lie unless it is 0 bytes beside the place, and fits. */
static void draft_lie_in_transit(struct draft *draft, struct process *process, uint8_t items, size_t size)
{
    static const struct question none;
    const struct question *head = has_questions(process) ? head_of(process) : &none;
    size_t beside = (size_t)(int8_t)items * 64;
    if (size == size_of(255))
        size = head->results_size;
    else if (size == size_of(254))
        size = head->results_size + 1;
    draft_in_transit(draft, process, head, beside, size);
}

/* What would be right to say about the items that are due, as far as there are any. */
static void draft_saying(struct draft *draft, struct process *process, uint8_t saying, uint8_t items, size_t size,
                         unsigned how)
{
    const struct question *head = has_questions(process) ? head_of(process) : NULL;
    uint64_t id = head ? head->id : 0, left = head ? left_in_span(process) : 1;
    uint32_t count = items < left ? items : (uint32_t)left;
    count = count ? count : 1;
    if (saying == SAYING_ANSWER)
        saying = head && head->in_run ? SAYING_RESULTS : SAYING_RESULT;
    switch (saying) {
    case SAYING_HELLO:
        draft_hello(draft);
        break;
    case SAYING_READY:
        draft->header = (struct wire_header){.type = WIRE_READY};
        break;
    case SAYING_RESULT:
        draft_result(draft, id, size, how);
        break;
    case SAYING_RESULTS:
        if (head && head->in_run && head->in_place)
            write_results(process, head, count);
        draft_results(draft, id, count, size_of_result(head, size), how);
        break;
    case SAYING_IN_TRANSIT:
        draft_lie_in_transit(draft, process, items, size);
        break;
    case SAYING_REPLIES:
        draft_replies(draft, id, items, size);
        break;
    case SAYING_SKIPPED:
        draft_skipped(draft, items);
        break;
    case SAYING_REGION:
        draft_region(draft, process, items, size, how);
        break;
    case SAYING_REFERENCE:
        draft_reference(draft, id, items, size);
        break;
    case SAYING_REFUSAL:
        draft_error(draft, 0, 0, how);
        break;
    default:
        draft_error(draft, id, count, how);
        break;
    }
    if (how & HOW_WORN)
        draft->header.flags |= WIRE_WORN;
}

static void op_say(void)
{
    struct process *process = take_process();
    uint8_t saying = take(), items = take(), how = take(), size = take(), field = take(), value = take();
    struct draft draft = {0};
    field %= PARENT_FIELDS;
    if (process->exited || process->hung_up || world.said > MOST_SAID)
        return;
    draft_saying(&draft, process, saying % PARENT_SAYINGS, items, size_of(size), how);
    draft.header.body_bytes = draft.body.size;
    change(&draft, field, value);
    draft.body.size -= how & HOW_CUT && draft.body.size ? 1 : 0;
    process->holds |= (how & HOW_HELD) != 0;
    size_t at = process->outbox.size;
    draft_send(process, &draft, true);
    if (field == FIELD_RAW_HEADER)
        process->outbox.data[at + value % WIRE_HEADER_BYTES] ^= (uint8_t)(1 + value / WIRE_HEADER_BYTES);
}

static void op_raw(void)
{
    struct process *process = take_process();
    uint8_t wanted = take();
    size_t count = wanted < program.left ? wanted : program.left;
    say(process, program.at, count);
    program.at += count;
    program.left -= count;
}

static void op_deliver(void)
{
    struct process *process = take_process();
    uint8_t count = take();
    if (count == 255)
        process->holds = false;
    pump(process, count == 255 ? SIZE_MAX : count);
}

static void op_read(void)
{
    struct process *process = take_process();
    uint8_t count = take();
    read_requests(process, count == 255 ? SIZE_MAX : count);
    process->room = count == 255 ? SIZE_MAX : process->room;
}

static void op_hang_up(void)
{
    struct process *process = take_process();
    process->hung_up = true;
    fd_close(&process->reply_fd);
}

static void op_exit(void)
{
    struct process *process = take_process();
    uint8_t how = take();
    struct child_exit outcome = {.known = true};
    pump(process, how & EXIT_ALL_SAID ? SIZE_MAX : 0);
    switch ((how & ~(unsigned)EXIT_ALL_SAID) % PARENT_EXITS) {
    case EXIT_CODE:
        outcome.exit_code = how;
        break;
    case EXIT_UNKNOWN:
        process->habits |= HABIT_UNKNOWN;
        break;
    case EXIT_EXPLAINED:
        process->explains = true;
        break;
    case EXIT_KEEPS_PIPE:
        process->habits |= HABIT_KEEPS_PIPE;
        break;
    default:
        outcome.signal = SIGSEGV;
        break;
    }
    die(process, outcome);
}

static void op_habits(void)
{
    struct process *process = take_process();
    process->habits = take();
}

static void op_habits_from_now(void)
{
    world.habits = take();
}

static void op_room(void)
{
    struct process *process = take_process();
    process->room = take();
}

static void op_move(void)
{
    struct process *process = take_process();
    if (process->exited)
        return;
    process->moves = true;
    signal_fd(process->exit_fd);
}

static void op_nudge(void)
{
    struct process *process = take_process();
    if (!process->exited)
        signal_fd(process->exit_fd);
}

static void op_tamper(void)
{
    struct process *process = take_process();
    uint64_t word = 0;
    for (unsigned i = 0; i < 8; i++)
        word |= (uint64_t)take() << (8 * i);
    tamper(process, word);
}

static void op_spoil(void)
{
    struct process *process = take_process();
    uint8_t at = take(), size = take(), value = take();
    spoil(process, at, size_of(size), value);
}

static void op_free(void)
{
    struct kept *kept = &world.kept[take() % MAX_KEPT];
    if (kept->task)
        free_kept(kept);
}

/* ---- operations: what the system does ---- */

static void op_refuse(void)
{
    world.refusal = (enum parent_refusal)(take() % PARENT_REFUSALS);
}

static void op_scarce(void)
{
    world.scarce_after = take();
    world.scarce_count = take();
}

static void do_operation(uint8_t op)
{
    static const struct {
        void (*perform)(void);
        const char *name;
    } operations[PARENT_OPS] = {
        [OP_DRIVE] = {op_drive, "drive"},
        [OP_TIME] = {op_time, "time"},
        [OP_MAP] = {op_map, "map"},
        [OP_TASK] = {op_task, "task"},
        [OP_BROADCAST] = {op_broadcast, "broadcast"},
        [OP_CANCEL] = {op_cancel, "cancel"},
        [OP_NEXT] = {op_next, "next"},
        [OP_SAY] = {op_say, "say"},
        [OP_RAW] = {op_raw, "raw"},
        [OP_DELIVER] = {op_deliver, "deliver"},
        [OP_READ] = {op_read, "read"},
        [OP_HANG_UP] = {op_hang_up, "hang up"},
        [OP_EXIT] = {op_exit, "exit"},
        [OP_HABITS] = {op_habits, "habits"},
        [OP_HABITS_FROM_NOW] = {op_habits_from_now, "habits from now"},
        [OP_REFUSE] = {op_refuse, "refuse"},
        [OP_ROOM] = {op_room, "room"},
        [OP_SCARCE] = {op_scarce, "scarce"},
        [OP_SHUTDOWN] = {op_shutdown, "shutdown"},
        [OP_MOVE] = {op_move, "move"},
        [OP_NUDGE] = {op_nudge, "nudge"},
        [OP_WAKE] = {op_wake, "wake"},
        [OP_CROWD] = {op_crowd, "crowd"},
        [OP_TAMPER] = {op_tamper, "tamper"},
        [OP_FREE] = {op_free, "free"},
        [OP_SPOIL] = {op_spoil, "spoil"},
    };
    bool driven = !(op & PARENT_UNDRIVEN);
    unsigned number = (op & ~(unsigned)PARENT_UNDRIVEN) % PARENT_OPS;
    trace("%s\n", operations[number].name);
    operations[number].perform();
    if (driven)
        drive();
    check_world(driven);
}

/* ---- how a life begins ---- */

static bool make_loop(void)
{
    const uint8_t *setup = world.setup;
    unsigned flags = setup[SETUP_FLAGS];
    world.config = (struct sched_config){
        .workers = setup[SETUP_WORKERS] == 255 ? MANY_WORKERS : setup[SETUP_WORKERS] % 4 + 1u,
        .cpus = setup[SETUP_WORKERS] == 255 ? 0 : setup[SETUP_WORKERS] / 4 % 8,
        .restarts = flags & PARENT_RESTARTS,
        .wears_out = setup[SETUP_TASKS] || flags & PARENT_WEARS_OUT,
        .max_tasks_per_worker = setup[SETUP_TASKS],
        .max_attempts = setup[SETUP_ATTEMPTS] % 4 + 1u,
        .start_timeout_ns = (setup[SETUP_START_10MS] + 1u) * UINT64_C(10000000),
        .kill_grace_ns = setup[SETUP_GRACE_MS] * UINT64_C(1000000),
    };
    world.max_result_bytes = setup[SETUP_REPLY_64] == 255 ? UINT64_C(1) << 40 : setup[SETUP_REPLY_64] * UINT64_C(64);
    fake_backend.capabilities =
        (flags & PARENT_NEEDS_INIT ? BACKEND_NEEDS_INIT : 0u) | (flags & PARENT_RESTARTS ? BACKEND_RESTARTS : 0u);
    uint8_t *config = own(30, 1); /* any body will do */
    struct loop_options options = {.sched = world.config,
                                   .backend = &fake_backend,
                                   .backend_state = &world,
                                   .config = config,
                                   .config_size = 30,
                                   .max_result_bytes = world.max_result_bytes};
    world.scarce_after = setup[SETUP_SCARCE] - 1u;
    world.scarce_count = setup[SETUP_SCARCE] > 0;
    int rc = loop_init(&world.loop, &options);
    world.allocations += !rc; /* the loop's from now on */
    if (!rc)
        return true;
    REQUIRE(world.was_scarce && !world.closed_backends && !world.allocations);
    disown(config);
    return false;
}

static void take_functions(void)
{
    char text[256];
    uint32_t number;
    for (uintptr_t i = 0; world.setup[SETUP_FLAGS] & PARENT_MANY_FUNCTIONS && i < FIRST_FUNCTIONS; i++)
        (void)loop_number(&world.loop, (callable_fn *)(1000 + i), &number, text);
}

/* As pool_create does it; false: the pool would not have come to be. */
static bool boot(void)
{
    struct loop *loop = &world.loop;
    if (world.setup[SETUP_FLAGS] & PARENT_NO_BOOT)
        return true;
    loop_boot(loop);
    if (!loop->start_refused)
        return true;
    if (!(world.setup[SETUP_FLAGS] & PARENT_ADAPTS) || !loop_live_count(loop))
        return false;
    sched_limit_workers(&loop->sched, loop_live_count(loop));
    return true;
}

/* ---- how it ends ---- */

static bool all_work_ended(void)
{
    for (unsigned i = 0; i < MAX_WORKS; i++)
        if (world.works[i].exists)
            return false;
    return true;
}

/* Nothing is in the way any more. */
static void relieve(void)
{
    world.scarce_count = 0;
    world.habits &= HABIT_MAPS;
    world.refusal = REFUSAL_NONE;
    for (unsigned i = 0; i < world.process_count; i++) {
        struct process *process = &world.processes[i];
        process->room = SIZE_MAX;
        process->holds = false;
        if (process->exists && !process->named)
            signal_fd(process->exit_fd);
    }
}

/* Whether a process can go on as a good worker: nothing that it has begun to say is unfinished. */
static bool is_sane(const struct process *process)
{
    bool finished = process->heard_at == process->heard.size && !process->in_frame;
    return finished && !process->garbage && !process->declined && !process->hung_up && !process->signalled &&
           !process->tampered;
}

static bool all_sane(void)
{
    for (unsigned i = 0; i < world.process_count; i++)
        if (world.processes[i].exists && (!is_sane(&world.processes[i]) || world.processes[i].outbox.size))
            return false;
    return true;
}

static void go_on_honestly(void)
{
    for (unsigned i = 0; i < world.process_count; i++) {
        struct process *process = &world.processes[i];
        if (!process->exists || (process->outbox.size && !process->signalled))
            continue;
        if (!process->named)
            signal_fd(process->exit_fd);
        if (is_sane(process))
            do_next(process, UINT32_MAX);
        else
            die(process, (struct child_exit){.known = true, .exit_code = 1});
    }
}

/* Until nothing moves any more; only then time passes. */
static void round_of_honesty(void)
{
    uint64_t moved;
    do {
        moved = world.said + world.read + world.written;
        go_on_honestly();
        drive();
        check_world(true);
    } while (world.said + world.read + world.written != moved);
    pass_time_until_wanted();
    drive();
    check_world(true);
}

/* The pool is still of use. */
static void do_one_more_job(void)
{
    unsigned rounds = 0;
    trace("one more job\n");
    world.submitted = 0;
    give_map(&(struct map_wish){.count = 7, .item_size = 3, .result_size = 5});
    give_task(&(struct task_wish){.size = 9});
    give_broadcast(3, 1);
    uint64_t succeeded = world.loop.counts.succeeded;
    while (!all_work_ended() && ++rounds < LAST_ROUNDS)
        round_of_honesty();
    REQUIRE(all_work_ended() && !world.loop.broken);
    REQUIRE(world.loop.counts.succeeded == succeeded + 8);
}

/* Of those who have nothing to do for long enough. Not while one is about to start: that would be too long for it. */
static void rest(void)
{
    enum { PAUSES = 4 };
    for (unsigned i = 0; i < PAUSES; i++) {
        if (!all_sane() || world.loop.sched.state_count[SLOT_STARTING])
            return;
        pass_time(UINT64_C(1100000000));
        drive();
        check_world(true);
    }
    for (unsigned i = 0; i < world.loop.sched.slot_count; i++)
        if (!sched_busy_count(&world.loop.sched) && sched_state(&world.loop.sched, i) == SLOT_READY)
            REQUIRE(!world.loop.peers[i].transit.memory || world.was_scarce);
}

static void shut_down(void)
{
    unsigned rounds = 0;
    world.closing = true;
    loop_shutdown(&world.loop, POOL_DRAIN);
    while (!loop_is_down(&world.loop) && ++rounds < LAST_ROUNDS)
        round_of_honesty();
    REQUIRE(loop_is_down(&world.loop) && all_work_ended());
}

static void end_honestly(void)
{
    unsigned rounds = 0;
    trace("all are honest from now on\n");
    relieve();
    drive();
    while (!(all_work_ended() && all_sane()) && ++rounds < LAST_ROUNDS)
        round_of_honesty();
    REQUIRE(all_work_ended());
    if (!world.closing && !world.loop.broken)
        rest();
    if (!world.closing && !world.loop.broken)
        do_one_more_job();
    shut_down();
}

static void end_by_death(void)
{
    trace("all die\n");
    relieve();
    world.refuses_all = world.closing = true;
    loop_shutdown(&world.loop, POOL_DRAIN);
    for (unsigned round = 0; round < LAST_ROUNDS && !(loop_is_down(&world.loop) && all_work_ended()); round++) {
        for (unsigned i = 0; i < world.process_count; i++)
            if (world.processes[i].exists)
                die(&world.processes[i], (struct child_exit){.known = true, .signal = SIGKILL});
        drive();
        check_world(true);
        pass_time_until_wanted();
        drive();
        check_world(true);
    }
    REQUIRE(loop_is_down(&world.loop) && all_work_ended());
}

static void clear(bool abandons)
{
    world.clearing = true;
    world.scarce_count = 0;
    if (abandons) {
        void *staging = world.loop.staging;
        size_t staging_size = world.loop.sched.slot_count * CHAN_STAGING_BYTES;
        loop_abandon(&world.loop);
        munmap(staging, staging_size); /* a forked child would not have had it */
        for (unsigned i = 0; i < world.process_count; i++)
            world.processes[i].reaped = true;
    } else {
        loop_clear(&world.loop);
        loop_clear(&world.loop);
    }
    REQUIRE(world.closed_backends == 1);
    bury_reaped();
    for (unsigned i = 0; i < world.process_count; i++)
        REQUIRE(!world.processes[i].exists);
    discard_works();
    REQUIRE(world.allocations == 0 && world.mappings == 0);
}

static void end_life(void)
{
    unsigned ending = world.setup[SETUP_ENDING] % PARENT_ENDINGS;
    if (ending == ENDING_HONEST)
        end_honestly();
    else if (ending == ENDING_DEATH)
        end_by_death();
    clear(ending == ENDING_ABANDON);
}

static void live(const uint8_t *data)
{
    world.setup = data;
    world.now_ns = UINT64_C(1000000000);
    if (!make_loop())
        return;
    take_functions();
    bool booted = boot();
    check_world(false);
    while (booted && program.left)
        do_operation(take());
    end_life();
}

/* The kernel says POLLNVAL for those that are not open, and nothing else is asked for. */
static void list_fds(struct pollfd fds[MAX_FDS])
{
    for (int i = 0; i < MAX_FDS && !fds[MAX_FDS - 1].fd; i++)
        fds[i].fd = i;
    REQUIRE(poll(fds, MAX_FDS, 0) >= 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct pollfd before[MAX_FDS], after[MAX_FDS];
    if (size < PARENT_SETUP_BYTES)
        return 0;
    program.at = data + PARENT_SETUP_BYTES;
    program.left = size - PARENT_SETUP_BYTES;
    unsigned used = world.process_count;
    memset(&world, 0, offsetof(struct world, processes) + used * sizeof world.processes[0]);
    world.process_count = 0;
    list_fds(before);
    in_world = true;
    live(data);
    in_world = false;
    list_fds(after);
    REQUIRE(!memcmp(before, after, sizeof before));
    return 0;
}

#include "parent_check.c"
#include "parent_process.c"
#include "parent_reader.c"
#include "parent_said.c"
#include "parent_sent.c"
#include "parent_transit.c"
#include "parent_work.c"
#include "parent_worker.c"
#include "parent_world.c"

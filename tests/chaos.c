/* chaos: the library under everything at once, at random.
 *
 *     chaos [--seconds N] [--seed S] [START METHOD...]
 *
 * For each start method a host process does rounds for N seconds (20). In a round there are one or two pools with
 * options at random, and a few threads that call whatever the API has: tasks with and without deadlines, cancelled and
 * freed at any time, maps, streams, broadcasts, event loops, shutdowns. What is submitted behaves, fails, crashes,
 * hangs, stops itself, writes garbage into its reply pipe, or leaves a child behind that holds the pipes; and a hand
 * from outside kills and stops workers and servers meanwhile. Every result is checked against what must or may come of
 * it (chaos_model.c), every task is handed out once and none is lost. When a round is over its pools are gone, and so
 * is everything that they had: fds, threads, children, memory.
 *
 * The seed fixes what the threads do, not when. It is printed, with how much there was of what; the last line is
 * `N passed, N failed`, in rounds. CHAOS_PATIENCE=N multiplies the time that a host may stand still (sanitizers, slow
 * machines).
 *
 * Workers of `fork` are forked by a process with threads here. That is for no program to imitate: it works because what
 * these workers call is safe after fork in every C library that the tests run on. */
#include "chaos.h"
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <malloc.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { CALLERS = 5, THREADS = CALLERS + 2, STANDSTILL_MS = 60000, VANISH_MS = 10000, WARM_UP_ROUNDS = 4 };
enum { ROOM_TO_GROW_BYTES = 512 << 10 };

static const char *const start_methods[] = {"fork", "spawn", "forkserver"};
enum { START_METHODS = sizeof start_methods / sizeof *start_methods };

static const char *start_method;
static unsigned seconds = 20, patience = 1;
static uint64_t seed;

/* What the runner sees of the host. */
static struct shared {
    _Atomic uint64_t rounds;
    atomic_bool failed;
    _Atomic uint64_t counts[COUNT_COUNT];
    _Atomic uintptr_t doing[THREADS]; /* a text of this program, at the same address in runner and host */
} * shared;

/* ---- what others call ---- */

void chaos_failed(const char *format, ...)
{
    if (atomic_exchange(&shared->failed, true))
        for (;;)
            pause(); /* another thread is at it: the first one counts */
    va_list arguments;
    va_start(arguments, format);
    printf("FAILED  %s, round %" PRIu64 ": ", start_method, shared->rounds);
    vprintf(format, arguments);
    printf("\n");
    va_end(arguments);
    fflush(stdout);
    _exit(1);
}

static _Thread_local unsigned thread_index;

void note_doing(const char *what)
{
    shared->doing[thread_index] = (uintptr_t)what;
}

void count_up(enum count what, uint64_t by)
{
    shared->counts[what] += by;
}

/* ---- pools ---- */

static unsigned choose(struct dice *dice, unsigned one, unsigned other)
{
    return dice_one_in(dice, 2) ? one : other;
}

static void choose_options(struct arena *arena, struct dice *dice)
{
    struct pool_options *options = &arena->options;
    *options = (struct pool_options)POOL_OPTIONS_INIT;
    options->backend = start_method;
    options->workers = 1 + dice_below(dice, MAX_WORKERS);
    options->initializer = take_seat;
    options->finalizer = leave_seat;
    options->arg = &arena->address;
    options->arg_size = sizeof arena->address;
    options->progress_thread = (int)dice_below(dice, 2);
    options->max_tasks_per_worker = dice_one_in(dice, 3) ? 3 + dice_below(dice, 50) : 0;
    options->max_worker_bytes = dice_one_in(dice, 12) ? 1 << 20 : 0; /* worn out from the first task on */
    options->max_attempts = arena->attempts = dice_one_in(dice, 3) ? 3 : 1;
    options->max_bytes_in_flight = dice_one_in(dice, 3) ? 200000 : 0;
    options->soft_kill_grace_ms = dice_one_in(dice, 3) ? -1 : (int64_t)choose(dice, 5, 100);
    bool wears_out = options->max_tasks_per_worker || options->max_worker_bytes;
    arena->may_lose_server =
        !strcmp(start_method, "forkserver") && options->workers <= 2 && !wears_out && dice_one_in(dice, 2);
}

static void open_arena(struct arena *arena, unsigned index, struct board_address address, struct dice *dice)
{
    memset(arena, 0, sizeof *arena);
    arena->index = index;
    arena->address = address;
    arena->address.pool = index;
    memset(board->seats[index], 0, sizeof board->seats[index]);
    choose_options(arena, dice);
    pthread_mutex_init(&arena->broadcasting, NULL);
    pthread_rwlock_init(&arena->handing_out, NULL);
    int rc = pool_create(&arena->options, &arena->pool);
    if (rc)
        chaos_failed("pool_create is %d (%s): %s", rc, pool_strerror(rc), pool_message());
    count_up(COUNT_POOLS, 1);
}

static void take_all(struct arena *arena)
{
    while (!take_next(arena, POOL_FOREVER))
        continue;
    expect_all_ended(arena);
}

static void check_numbers(struct arena *arena)
{
    struct pool_stats stats = POOL_STATS_INIT;
    pool_stats(arena->pool, &stats);
    uint64_t ended = stats.succeeded + stats.failed + stats.canceled;
    if (stats.submitted != ended || stats.submitted < arena->accepted ||
        stats.submitted > arena->accepted + arena->streamed)
        chaos_failed("%" PRIu64 " items were submitted and %" PRIu64 " have ended, of %" PRIu64 " and up to %" PRIu64
                     " of streams",
                     stats.submitted, ended, arena->accepted, arena->streamed);
    if (stats.workers || stats.busy)
        chaos_failed("%u workers are there after a shutdown", stats.workers);
}

static void shut_down(struct arena *arena, enum pool_shutdown_mode mode, int64_t timeout_ms)
{
    if (arena->shut < 1 + (int)mode)
        arena->shut = 1 + (int)mode;
    int rc = pool_shutdown(arena->pool, mode, timeout_ms);
    if (rc && (rc != POOL_PENDING || timeout_ms == POOL_FOREVER))
        chaos_failed("pool_shutdown is %d (%s): %s", rc, pool_strerror(rc), pool_message());
    count_up(COUNT_SHUTDOWNS, 1);
}

static void close_arena(struct arena *arena)
{
    int rc = pool_destroy(arena->pool);
    if (rc)
        chaos_failed("pool_destroy is %d (%s)", rc, pool_strerror(rc));
    pthread_mutex_destroy(&arena->broadcasting);
    pthread_rwlock_destroy(&arena->handing_out);
}

/* ---- threads ---- */

struct round {
    struct arena arenas[POOLS];
    unsigned pools, callers;
    struct dice dice, hand_dice;
    atomic_bool calls_end, hand_rests;
};

struct caller {
    struct round *round;
    unsigned index;
    struct dice dice;
};

static void submit(struct arena *arena, struct dice *dice)
{
    for (unsigned left = 1 + dice_below(dice, 8); left; left--)
        submit_at_random(arena, dice, false);
}

static void look(struct arena *arena, struct dice *dice)
{
    look_at_numbers(arena);
    look_at_random(arena, dice);
}

static const struct call {
    const char *name;
    void (*run)(struct arena *arena, struct dice *dice);
    unsigned weight;
} calls[] = {
    {"submit", submit, 30},
    {"wait", wait_at_random, 25},
    {"next", next_at_random, 25},
    {"cancel", cancel_at_random, 4},
    {"free", free_at_random, 12},
    {"look", look, 10},
    {"map", map_at_random, 3},
    {"map_bytes", map_bytes_at_random, 3},
    {"stream", stream_at_random, 2},
    {"broadcast", broadcast_at_random, 2},
    {"event loop", loop_for_a_while, 2},
};

static const struct call *choose_call(struct dice *dice)
{
    unsigned sum = 0;
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++)
        sum += calls[i].weight;
    unsigned cast = dice_below(dice, sum);
    const struct call *call = calls;
    while (cast >= call->weight)
        cast -= call++->weight;
    return call;
}

static void *call_at_random(void *arg)
{
    struct caller *caller = arg;
    struct round *round = caller->round;
    thread_index = 1 + caller->index;
    while (!round->calls_end) {
        const struct call *call = choose_call(&caller->dice);
        note_doing(call->name);
        call->run(&round->arenas[dice_below(&caller->dice, round->pools)], &caller->dice);
    }
    note_doing("ended");
    return NULL;
}

/* Ends what would not end, and strikes now and then. */
static void *lay_hand_on(void *arg)
{
    struct round *round = arg;
    struct dice *dice = &round->hand_dice;
    bool gentle = dice_one_in(dice, 4);
    thread_index = CALLERS + 1;
    while (!round->hand_rests) {
        note_doing("cancel what is endless");
        cancel_endless(1 + dice_below(dice, 3));
        note_doing("strike");
        if (!gentle && dice_one_in(dice, 4))
            strike_at_random(&round->arenas[dice_below(dice, round->pools)], dice);
        pause_us(dice_below(dice, 10000));
    }
    note_doing("ended");
    return NULL;
}

/* ---- a round ---- */

static void start_thread(pthread_t *thread, void *(*run)(void *), void *arg)
{
    int error = pthread_create(thread, NULL, run, arg);
    if (error)
        chaos_failed("no thread: %s", strerror(error));
}

/* While everybody goes on calling. */
static void shut_down_under_load(struct round *round)
{
    for (unsigned i = 0; i < round->pools; i++) {
        struct arena *arena = &round->arenas[i];
        enum pool_shutdown_mode mode = (enum pool_shutdown_mode)dice_below(&round->dice, 4);
        shut_down(arena, mode, dice_one_in(&round->dice, 2) ? 0 : dice_below(&round->dice, 50));
        if (mode < POOL_KILL && dice_one_in(&round->dice, 2))
            shut_down(arena, mode + 1, 0);
        shut_down(arena, POOL_DRAIN, POOL_FOREVER);
    }
}

static void end_calls(struct round *round, pthread_t callers[CALLERS], pthread_t hand)
{
    round->calls_end = true;
    note_doing("join the callers");
    for (unsigned i = 0; i < round->callers; i++)
        pthread_join(callers[i], NULL);
    round->hand_rests = true;
    note_doing("join the hand");
    pthread_join(hand, NULL);
    cancel_endless(RECORDS);
}

static void end_pools(struct round *round, bool at_once)
{
    for (unsigned i = 0; i < round->pools && !at_once; i++) {
        note_doing("take all");
        take_all(&round->arenas[i]);
        note_doing("shut down");
        shut_down(&round->arenas[i], POOL_DRAIN, POOL_FOREVER);
        check_numbers(&round->arenas[i]);
    }
    for (unsigned i = 0; i < round->pools; i++) {
        note_doing("destroy");
        close_arena(&round->arenas[i]);
    }
    note_doing("look at what is left");
    finish_records();
}

static void play(struct round *round, struct board_address address)
{
    pthread_t callers[CALLERS], hand;
    struct caller caller[CALLERS];
    struct dice *dice = &round->dice;
    round->pools = 1 + dice_below(dice, POOLS);
    round->callers = 1 + dice_below(dice, CALLERS);
    note_doing("create");
    for (unsigned i = 0; i < round->pools; i++)
        open_arena(&round->arenas[i], i, address, dice);
    round->hand_dice.state = dice_next(dice);
    start_thread(&hand, lay_hand_on, round);
    for (unsigned i = 0; i < round->callers; i++) {
        caller[i] = (struct caller){round, i, {dice_next(dice)}};
        start_thread(&callers[i], call_at_random, &caller[i]);
    }
    note_doing("let them call");
    pause_us(20000 + dice_below(dice, 1000000));
    note_doing("shut down under load");
    if (dice_one_in(dice, 3))
        shut_down_under_load(round);
    end_calls(round, callers, hand);
    end_pools(round, dice_one_in(dice, 4));
}

/* ---- the host ---- */

static unsigned count_entries(const char *path)
{
    unsigned count = 0;
    DIR *folder = opendir(path);
    if (!folder)
        chaos_failed("cannot list %s", path);
    for (struct dirent *entry = readdir(folder); entry; entry = readdir(folder))
        count += entry->d_name[0] != '.';
    closedir(folder);
    return count;
}

static void await_none(const char *what, bool (*is_left)(void))
{
    for (uint64_t since_ms = now_ms(); is_left(); pause_us(500))
        if (now_ms() > since_ms + (uint64_t)VANISH_MS * patience)
            chaos_failed("%s is left", what);
}

static bool keeper_is_left(void)
{
    return board->keepers > 0;
}

static bool thread_is_left(void)
{
    return count_entries("/proc/self/task") > 1; /* one that was joined may show for a moment */
}

static bool is_mapped(const char *name)
{
    char line[512];
    bool found = false;
    FILE *maps = fopen("/proc/self/maps", "re");
    if (!maps)
        chaos_failed("cannot read the maps");
    while (!found && fgets(line, sizeof line, maps))
        found = strstr(line, name);
    fclose(maps);
    return found;
}

static size_t bytes_in_use(void)
{
#ifdef __GLIBC__
    struct mallinfo2 info = mallinfo2();
    return info.uordblks + info.hblkhd;
#else
    return 0;
#endif
}

static void expect_nothing_left(unsigned fds_before)
{
    static size_t most_bytes;
    note_doing("look for what is left");
    board->rounds++;
    await_none("a keeper of pipes", keeper_is_left);
    await_none("a thread", thread_is_left);
    unsigned fds = count_entries("/proc/self/fd");
    if (fds != fds_before)
        chaos_failed("%u fds are open that were %u", fds, fds_before);
    int rc = waitpid(-1, NULL, WNOHANG);
    if (rc != -1 || errno != ECHILD)
        chaos_failed("a child is left: waitpid gave %d", rc);
    if (is_mapped("pool-buffer") || is_mapped("pool-reply"))
        chaos_failed("memory that was shared with workers is still mapped");
    size_t bytes = bytes_in_use();
    if (shared->rounds < WARM_UP_ROUNDS)
        most_bytes = bytes > most_bytes ? bytes : most_bytes;
    else if (bytes > most_bytes + ROOM_TO_GROW_BYTES)
        chaos_failed("%zu bytes of memory are in use that were %zu", bytes, most_bytes);
}

static noreturn void be_host(void)
{
    setsid();
    struct board_address address = make_board();
    unsigned fds = count_entries("/proc/self/fd");
    for (uint64_t begin_ms = now_ms(); now_ms() < begin_ms + (uint64_t)seconds * 1000; shared->rounds++) {
        static struct round round;
        memset(&round, 0, sizeof round);
        round.dice.state = mix(seed + shared->rounds);
        forget_records();
        forget_killed();
        start_numbering();
        play(&round, address);
        expect_nothing_left(fds);
    }
    _exit(0);
}

/* ---- the runner ---- */

static bool stands_still(uint64_t *rounds, uint64_t *since_ms)
{
    if (shared->rounds != *rounds) {
        *rounds = shared->rounds;
        *since_ms = now_ms();
    }
    return now_ms() > *since_ms + (uint64_t)STANDSTILL_MS * patience;
}

/* false: it does not end, nor begin another round. */
static bool ends_in_time(pid_t pid)
{
    int fd = (int)syscall(SYS_pidfd_open, pid, 0), ready = 0;
    uint64_t rounds = 0, since_ms = now_ms();
    while (ready != 1 && !stands_still(&rounds, &since_ms))
        ready = poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, 500);
    close(fd);
    return ready == 1;
}

static void tell_what_it_does(void)
{
    printf("FAILED  %s, round %" PRIu64 ": the host hangs:", start_method, shared->rounds);
    for (unsigned i = 0; i < THREADS; i++)
        if (shared->doing[i])
            printf(" %s;", (const char *)shared->doing[i]);
    printf("\n");
}

static bool nothing_outlives_host(void)
{
    for (uint64_t since_ms = now_ms(); now_ms() < since_ms + (uint64_t)VANISH_MS * patience; pause_us(1000)) {
        pid_t pid;
        while ((pid = waitpid(-1, NULL, WNOHANG)) > 0)
            continue;
        if (pid < 0)
            return true;
    }
    printf("FAILED  %s: a process outlives the host\n", start_method);
    return false;
}

static void tell_counts(void)
{
    static const char *const names[COUNT_COUNT] = {
        [COUNT_TASKS] = "tasks",         [COUNT_MAPS] = "maps",
        [COUNT_MAP_ITEMS] = "map items", [COUNT_STREAMS] = "streams",
        [COUNT_STREAM_ITEMS] = "items",  [COUNT_BROADCASTS] = "broadcasts",
        [COUNT_CANCELS] = "cancelled",   [COUNT_SUCCEEDED] = "succeeded",
        [COUNT_FAILED] = "failed",       [COUNT_CRASHED] = "crashed",
        [COUNT_TIMED_OUT] = "timed out", [COUNT_CANCELED] = "ended cancelled",
        [COUNT_GARBAGE] = "garbage",     [COUNT_KILLED] = "workers killed",
        [COUNT_STOPPED] = "stopped",     [COUNT_SERVERS_KILLED] = "servers killed",
        [COUNT_SHUTDOWNS] = "shutdowns", [COUNT_POOLS] = "pools",
        [COUNT_BUFFERS] = "buffers",     [COUNT_LENT] = "looks at lent replies"};
    printf("%-10s %" PRIu64 " rounds:", start_method, shared->rounds);
    for (unsigned i = 0; i < COUNT_COUNT; i++)
        printf(" %" PRIu64 " %s%s", shared->counts[i], names[i], i + 1 < COUNT_COUNT ? "," : "\n");
}

static bool run_host(unsigned method_index)
{
    int status = 0;
    start_method = start_methods[method_index];
    memset(shared, 0, sizeof *shared);
    fflush(stdout);
    pid_t pid = fork();
    if (!pid)
        be_host();
    bool in_time = ends_in_time(pid);
    if (!in_time)
        tell_what_it_does();
    if (!in_time || shared->failed)
        kill(-pid, SIGKILL);
    waitpid(pid, &status, 0);
    if (in_time && status && !shared->failed)
        printf("FAILED  %s: the host ended with wait status %#x\n", start_method, (unsigned)status);
    bool good = nothing_outlives_host() && in_time && !status;
    if (!good)
        kill(-pid, SIGKILL);
    tell_counts();
    return good;
}

static int run_hosts(unsigned wanted)
{
    uint64_t passed = 0;
    unsigned failed = 0;
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0}); /* the crashes are meant */
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED)
        return 2;
    printf("seed %" PRIu64 "\n", seed);
    for (unsigned i = 0; i < START_METHODS; i++) {
        if (wanted && !(wanted & 1u << i))
            continue;
        failed += !run_host(i);
        passed += shared->rounds;
    }
    printf("%" PRIu64 " passed, %u failed\n", passed, failed);
    return failed != 0;
}

static int complain(const char *program, const char *what)
{
    fprintf(stderr, "%s: %s\nusage: %s [--seconds N] [--seed S] [START METHOD...]\n", program, what, program);
    return 2;
}

int main(int argc, char **argv)
{
    unsigned wanted = 0;
    pool_init();
    const char *asked = getenv("CHAOS_PATIENCE");
    patience = asked && atoi(asked) > 0 ? (unsigned)atoi(asked) : 1;
    seed = now_ms() ^ (uint64_t)getpid() << 32;
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";
        unsigned method = 0;
        while (method < START_METHODS && strcmp(argv[i], start_methods[method]) != 0)
            method++;
        if (method < START_METHODS)
            wanted |= 1u << method;
        else if (!strcmp(argv[i], "--seconds") && (seconds = (unsigned)strtoul(value, NULL, 10)) > 0)
            i++;
        else if (!strcmp(argv[i], "--seed") && *value)
            seed = strtoull(argv[++i], NULL, 10);
        else
            return complain(argv[0], argv[i]);
    }
    return run_hosts(wanted);
}

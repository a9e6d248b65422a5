/* chaos_deeds: what a worker does with an order (see chaos.h). Before anything else it notes on the board that it has
 * begun; what it does then is a function of the order alone, which the host computes as well. */
#include "chaos.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* ---- numbers ---- */

uint64_t mix(uint64_t number)
{
    number = (number ^ number >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    number = (number ^ number >> 27) * UINT64_C(0x94d049bb133111eb);
    return number ^ number >> 31;
}

uint64_t dice_next(struct dice *dice)
{
    dice->state += UINT64_C(0x9e3779b97f4a7c15);
    return mix(dice->state);
}

unsigned dice_below(struct dice *dice, unsigned below)
{
    return (unsigned)(dice_next(dice) % below);
}

bool dice_one_in(struct dice *dice, unsigned count)
{
    return dice_below(dice, count) == 0;
}

uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

void pause_us(unsigned us)
{
    nanosleep(&(struct timespec){.tv_sec = us / 1000000, .tv_nsec = (long)(us % 1000000) * 1000}, NULL);
}

/* ---- what host and worker both compute ---- */

uint64_t order_sum(const struct order *order)
{
    return mix(order->seed + mix(order->number) + mix(((uint64_t)order->deed << 32) + order->size));
}

void fill(void *bytes, size_t size, uint64_t seed)
{
    unsigned char *at = bytes;
    for (size_t i = 0; i < size; i++)
        at[i] = (unsigned char)(seed >> (i % 7 * 8)) ^ (unsigned char)(i + i / 253);
}

bool is_filled(const void *bytes, size_t size, uint64_t seed)
{
    const unsigned char *at = bytes;
    for (size_t i = 0; i < size; i++)
        if (at[i] != ((unsigned char)(seed >> (i % 7 * 8)) ^ (unsigned char)(i + i / 253)))
            return false;
    return true;
}

bool deed_is_endless(enum deed deed)
{
    return deed == HANGS || deed == HANGS_ON || deed == STOPS_ITSELF;
}

bool deed_succeeds(enum deed deed)
{
    return deed == BEHAVES || deed == BEHAVES_AT_A_COST || deed == LEAVES_KEEPER;
}

int deed_code(uint64_t seed)
{
    return 1 + (int)(seed % 100);
}

bool order_is_lent(const struct order *order)
{
    return order->seed >> 32 & 1;
}

bool deed_kills(enum deed deed, uint64_t seed, int *signal_out, int *exit_code_out)
{
    *signal_out = deed == SEGFAULTS ? SIGSEGV : deed == ABORTS ? SIGABRT : deed == KILLS_ITSELF ? SIGKILL : 0;
    *exit_code_out = *signal_out ? -1 : deed_code(seed);
    return *signal_out || deed == EXITS || deed == QUITS;
}

/* ---- the board ---- */

struct board *board;

struct seat_taken {
    struct board *board;
    unsigned pool;
};

struct board_address make_board(void)
{
    int fd = memfd_create("chaos-board", MFD_CLOEXEC);
    board = MAP_FAILED;
    if (fd >= 0 && !ftruncate(fd, sizeof *board))
        board = mmap(NULL, sizeof *board, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (board == MAP_FAILED)
        chaos_failed("no board: %s", strerror(errno));
    return (struct board_address){.host = getpid(), .fd = fd};
}

int take_seat(const void *arg, size_t arg_size, void **state_out)
{
    struct board_address address;
    char path[64];
    if (arg_size != sizeof address)
        return pool_call_fail(NULL, 1, "an argument of %zu bytes", arg_size);
    memcpy(&address, arg, sizeof address);
    snprintf(path, sizeof path, "/proc/%d/fd/%d", address.host, address.fd);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    struct seat_taken *seat = malloc(sizeof *seat);
    void *memory = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof *board, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (memory == MAP_FAILED || !seat)
        return pool_call_fail(NULL, 2, "no board at %s: %s", path, strerror(errno));
    close(fd);
    *seat = (struct seat_taken){memory, address.pool};
    *state_out = seat;
    return 0;
}

void leave_seat(void *state)
{
    struct seat_taken *seat = state;
    munmap(seat->board, sizeof *seat->board);
    free(seat);
}

static void note_begun(const struct seat_taken *taken, uint32_t number)
{
    struct seat *seat = &taken->board->seats[taken->pool][pool_worker_id() % MAX_WORKERS];
    taken->board->pids[number % ORDERS] = getpid();
    taken->board->begun[number % ORDERS]++;
    seat->parent = getppid();
    seat->pid = getpid();
    seat->orders++;
}

/* ---- misdeeds ---- */

enum { REPLY_PIPE = 4 };

/* Not by fork(), at which the library lets go of the pipes. It outlives the worker, but not the round. */
static void leave_keeper(struct board *shared)
{
    enum { LONGEST_MS = 60000 };
    uint64_t round = shared->rounds, until_ms = now_ms() + LONGEST_MS;
    if (syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL))
        return;
    shared->keepers++;
    while (shared->rounds == round && now_ms() < until_ms)
        pause_us(1000);
    shared->keepers--;
    syscall(SYS_exit_group, 0);
}

static void babble(uint64_t seed)
{
    unsigned char garbage[160];
    size_t size = 1 + seed % sizeof garbage;
    for (size_t i = 0; i < size; i++)
        garbage[i] = (unsigned char)(mix(seed + i) | 0x80);
    if (write(REPLY_PIPE, garbage, size) != (ssize_t)size)
        _exit(1);
}

static void crash(int number)
{
    signal(number, SIG_DFL);
    raise(number);
}

static void hang(void)
{
    for (;;)
        pause();
}

/* In the middle of a computation, as far as anybody can see. */
static void work_for(unsigned us)
{
    struct timespec begin, now;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    do
        clock_gettime(CLOCK_MONOTONIC, &now);
    while ((now.tv_sec - begin.tv_sec) * 1000000 + (now.tv_nsec - begin.tv_nsec) / 1000 < (long)us);
}

static void misbehave(const struct order *order, struct board *shared)
{
    switch ((enum deed)order->deed) {
    case BEHAVES_AT_A_COST:
        work_for((unsigned)(order->seed % 800));
        break;
    case LEAVES_KEEPER:
        leave_keeper(shared);
        break;
    case SEGFAULTS:
        crash(SIGSEGV);
        break;
    case ABORTS:
        signal(SIGABRT, SIG_DFL);
        abort();
    case EXITS:
        exit(deed_code(order->seed));
    case QUITS:
        _exit(deed_code(order->seed));
    case KILLS_ITSELF:
        kill(getpid(), SIGKILL);
        hang();
        break;
    case BABBLES:
        babble(order->seed);
        break;
    case HANGS_ON:
        signal(SIGTERM, SIG_IGN);
        hang();
        break;
    case HANGS:
        hang();
        break;
    case STOPS_ITSELF:
        for (;;)
            raise(SIGSTOP); /* SIGCONT comes with SIGTERM */
    default:
        break;
    }
}

/* ---- what workers run ---- */

static uint64_t told;

static int check_fds(struct pool_call *call, const struct order *order)
{
    for (uint32_t i = 0; i < order->fd_count; i++) {
        uint64_t content = 0;
        if (pread(pool_call_fd(call, i), &content, sizeof content, 0) != sizeof content)
            return pool_call_fail(call, 1000, "fd %u cannot be read: %s", i, strerror(errno));
        if (content != order->seed + i)
            return pool_call_fail(call, 1001, "fd %u is another", i);
    }
    return pool_call_fd(call, order->fd_count) == -1 ? 0 : pool_call_fail(call, 1002, "an fd too many");
}

static int make_reply(struct pool_call *call, const struct order *order)
{
    size_t size = order->deed == OVERDOES ? SIZE_MAX / 4 : sizeof(struct reply) + order->size;
    struct reply *reply = order_is_lent(order) ? pool_call_reply_shared(call, size) : pool_call_reply(call, size);
    if (!reply)
        return order->deed == OVERDOES ? 0 : pool_call_fail(call, 1003, "no memory for %zu bytes", size);
    *reply = (struct reply){order_sum(order), told, pool_item_index(), getpid(), pool_worker_id()};
    fill(reply + 1, order->size, order->seed + 1);
    return 0;
}

int do_order(struct pool_call *call)
{
    size_t size;
    struct order order;
    struct seat_taken *seat = pool_call_state(call);
    const char *input = pool_call_input(call, &size);
    if (size < sizeof order)
        return pool_call_fail(call, 1004, "an order of %zu bytes", size);
    memcpy(&order, input, sizeof order);
    note_begun(seat, order.number);
    if (size != sizeof order + order.size || !is_filled(input + sizeof order, order.size, order.seed))
        return pool_call_fail(call, 1005, "the order has changed on its way");
    misbehave(&order, seat->board);
    if (order.deed == FAILS)
        return pool_call_fail(call, deed_code(order.seed), "order %u fails", order.number);
    int rc = check_fds(call, &order);
    return rc ? rc : make_reply(call, &order);
}

int do_endless_order(struct pool_call *call)
{
    return do_order(call);
}

int do_order_item(const void *item, void *result, void *state)
{
    struct seat_taken *seat = state;
    struct order order;
    memcpy(&order, item, sizeof order);
    note_begun(seat, order.number);
    misbehave(&order, seat->board);
    if (order.deed == FAILS)
        return deed_code(order.seed);
    uint64_t sum = order_sum(&order) + pool_item_index();
    memcpy(result, &sum, sizeof sum);
    return 0;
}

int hear_broadcast(struct pool_call *call)
{
    size_t size;
    const void *input = pool_call_input(call, &size);
    if (size != sizeof told)
        return pool_call_fail(call, 1006, "a broadcast of %zu bytes", size);
    memcpy(&told, input, sizeof told);
    return 0;
}

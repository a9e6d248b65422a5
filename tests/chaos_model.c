/* chaos_model: what may come of an order, and nothing else may (see chaos.h).
 *
 * As tight as can be said from outside. An order that behaves ends with 0 and the right bytes. It may instead have been
 * cancelled, if somebody tried; or lost with its worker, if that very worker was killed from outside while the order
 * was its last chance: max_attempts deaths, or one that must not be run twice. What crashes does so with its own signal
 * or code. Nothing is blamed for its neighbour. */
#include "chaos.h"
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

/* ---- those that were killed ---- */

enum { MAX_KILLED = 1 << 14 };

static _Atomic int32_t killed[MAX_KILLED];
static atomic_uint killed_count;

void note_killed(pid_t pid)
{
    unsigned i = killed_count++;
    if (i >= MAX_KILLED)
        chaos_failed("more were killed than can be remembered");
    killed[i] = pid;
}

bool was_killed(pid_t pid)
{
    unsigned count = killed_count;
    for (unsigned i = 0; i < count && i < MAX_KILLED; i++)
        if (killed[i] == pid)
            return true;
    return false;
}

void forget_killed(void)
{
    killed_count = 0;
}

/* ---- numbers of orders ---- */

static atomic_uint next_number;

uint32_t new_order_number(void)
{
    return next_number++;
}

bool orders_are_used_up(void)
{
    return next_number > ORDERS - 4096;
}

void start_numbering(void)
{
    unsigned count = next_number;
    for (unsigned i = 0; i < count && i < ORDERS; i++) {
        board->begun[i] = 0;
        board->pids[i] = 0;
    }
    next_number = 0;
}

/* ---- what deeds there are ---- */

struct order make_order(struct dice *dice, bool may_be_endless, uint32_t most_bytes)
{
    struct order order = {.seed = dice_next(dice), .number = new_order_number(), .deed = BEHAVES};
    unsigned cast = dice_below(dice, 1000);
    if (cast < 250)
        order.deed = BEHAVES_AT_A_COST;
    else if (cast < 300)
        order.deed = FAILS;
    else if (cast < 340)
        order.deed = SEGFAULTS + dice_below(dice, KILLS_ITSELF - SEGFAULTS + 1);
    else if (cast < 350)
        order.deed = BABBLES;
    else if (cast < 355)
        order.deed = LEAVES_KEEPER;
    else if (cast < 375 && may_be_endless)
        order.deed = HANGS + dice_below(dice, STOPS_ITSELF - HANGS + 1);
    /* Mostly small ones. */
    if (most_bytes)
        order.size = (uint32_t)(dice_next(dice) % most_bytes >> dice_below(dice, 20));
    return order;
}

void count_status(int status)
{
    static const struct {
        int status;
        enum count count;
    } counts[] = {{0, COUNT_SUCCEEDED},
                  {POOL_ETASK, COUNT_FAILED},
                  {POOL_ECRASH, COUNT_CRASHED},
                  {POOL_ETIMEOUT, COUNT_TIMED_OUT},
                  {POOL_ECANCELED, COUNT_CANCELED},
                  {POOL_EPROTO, COUNT_GARBAGE}};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
        if (counts[i].status == status)
            count_up(counts[i].count, 1);
}

/* ---- what is allowed ---- */

static noreturn void complain(const struct expectation *expected, int status, const char *why)
{
    static const char *const deeds[DEED_COUNT] = {"behaves",
                                                  "behaves at a cost",
                                                  "leaves a keeper",
                                                  "fails",
                                                  "segfaults",
                                                  "aborts",
                                                  "exits",
                                                  "quits",
                                                  "kills itself",
                                                  "babbles",
                                                  "overdoes",
                                                  "hangs",
                                                  "hangs after SIGTERM",
                                                  "stops itself"};
    const struct order *order = expected->order;
    chaos_failed("order %u of pool %u, which %s%s%s%s, ended with %d (%s): %s; begun %u times, last by %d%s",
                 order->number, expected->arena->index, deeds[order->deed],
                 expected->at_most_once ? ", at most once" : "", expected->has_deadline ? ", has a deadline" : "",
                 expected->may_be_canceled ? ", was cancelled" : "", status, pool_strerror(status), why,
                 board->begun[order->number % ORDERS], board->pids[order->number % ORDERS],
                 was_killed(board->pids[order->number % ORDERS]) ? " (killed)" : "");
}

#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition))                                                                                              \
            complain(expected, status, #condition);                                                                    \
    } while (0)

/* Nothing is tried again any more. */
static bool pool_gives_up(const struct expectation *expected)
{
    return expected->arena->shut > 1 + POOL_DRAIN;
}

static bool cancellation_is_due(const struct expectation *expected)
{
    return expected->may_be_canceled || pool_gives_up(expected);
}

/* It has killed as many workers as it may. */
static bool is_at_last_chance(const struct expectation *expected, uint64_t attempts)
{
    return expected->at_most_once || attempts >= expected->arena->attempts || pool_gives_up(expected);
}

static void check_begun(const struct expectation *expected, int status)
{
    unsigned begun = board->begun[expected->order->number % ORDERS];
    CHECK(begun <= 1 || !expected->at_most_once);
    /* What was sent may be lost with its worker before that could begin it. */
    CHECK(begun >= 1 || status == POOL_ECANCELED || status == POOL_ECRASH || status == POOL_ETIMEOUT);
}

/* The status against the deed, as far as it is known without the worker's own story. */
static void check_status(const struct expectation *expected, int status)
{
    enum deed deed = (enum deed)expected->order->deed;
    int unused;
    check_begun(expected, status);
    switch (status) {
    case 0:
        CHECK(deed_succeeds(deed));
        break;
    case POOL_ETASK:
        CHECK(deed == FAILS);
        break;
    case POOL_ECRASH:
        CHECK(deed_kills(deed, 0, &unused, &unused) || expected->arena->kills);
        break;
    case POOL_ETIMEOUT:
        CHECK(deed_is_endless(deed) && expected->has_deadline);
        break;
    case POOL_ECANCELED:
        CHECK(cancellation_is_due(expected));
        break;
    case POOL_EPROTO:
        CHECK(deed == BABBLES);
        break;
    default:
        CHECK(status == -EMSGSIZE && deed == OVERDOES);
        break;
    }
}

/* ---- results in full ---- */

static void check_reply(const struct expectation *expected, const struct pool_result *result)
{
    int status = result->status;
    struct reply reply;
    CHECK(result->data_size == sizeof reply + expected->order->size);
    memcpy(&reply, result->data, sizeof reply);
    CHECK(reply.sum == order_sum(expected->order));
    CHECK(is_filled((const char *)result->data + sizeof reply, expected->order->size, expected->order->seed + 1));
    CHECK(reply.told >= expected->told && reply.told <= expected->arena->telling);
    CHECK(reply.pid == result->worker_pid || !result->worker_pid);
    CHECK(reply.worker_id == result->worker_id || !result->worker_pid);
    CHECK(reply.index == expected->index || expected->index == UINT64_MAX);
    CHECK((uintptr_t)result->data % 16 == 0);
    count_up(COUNT_LENT, order_is_lent(expected->order));
}

/* The deaths of an order that is at its last chance, by a hand from outside. */
static bool was_lost_from_outside(const struct expectation *expected, const struct pool_result *result)
{
    bool untold = expected->arena->server_was_killed && !result->signal && result->exit_code == -1;
    return was_killed(result->worker_pid) && (result->signal == SIGKILL || untold) &&
           is_at_last_chance(expected, result->attempts);
}

/* The order does not kill, and nobody killed its worker. */
static noreturn void complain_of_death(const struct expectation *expected, const struct pool_result *result)
{
    char why[1024];
    snprintf(why, sizeof why, "signal %d, exit code %d, worker %u, pid %d%s, attempt %u of %u; \"%.800s\"",
             result->signal, result->exit_code, result->worker_id, (int)result->worker_pid,
             was_killed(result->worker_pid) ? " (killed)" : "", result->attempts, expected->arena->attempts,
             result->message);
    complain(expected, result->status, why);
}

static void check_crash(const struct expectation *expected, const struct pool_result *result)
{
    int status = result->status, signal, exit_code;
    if (was_lost_from_outside(expected, result))
        return;
    if (!deed_kills((enum deed)expected->order->deed, expected->order->seed, &signal, &exit_code))
        complain_of_death(expected, result);
    bool told = result->signal == signal && result->exit_code == exit_code;
    bool untold = expected->arena->server_was_killed && !result->signal && result->exit_code == -1;
    CHECK(told || untold);
    CHECK(is_at_last_chance(expected, result->attempts));
}

void check_result(const struct expectation *expected, const struct pool_result *result)
{
    int status = result->status;
    unsigned begun = board->begun[expected->order->number % ORDERS];
    check_status(expected, status);
    CHECK(result->message);
    CHECK(result->attempts >= begun);
    CHECK(result->attempts || (result->worker_id == POOL_NOT_A_WORKER && !result->worker_pid));
    CHECK(!result->attempts || result->worker_id < expected->arena->options.workers);
    CHECK(!status || (!result->data && !result->data_size));
    CHECK(status == POOL_ETASK ? result->code == deed_code(expected->order->seed) : !result->code);
    CHECK(status != POOL_ETASK || strstr(result->message, "fails"));
    if (!status)
        check_reply(expected, result);
    else if (status == POOL_ECRASH)
        check_crash(expected, result);
}

void check_item(const struct expectation *expected, int status, int code, uint64_t sum)
{
    int signal, exit_code;
    uint32_t number = expected->order->number % ORDERS;
    bool crashes = deed_kills((enum deed)expected->order->deed, expected->order->seed, &signal, &exit_code);
    check_status(expected, status);
    CHECK(status == POOL_ETASK ? code == deed_code(expected->order->seed) : !code);
    CHECK(status || sum == order_sum(expected->order) + expected->index);
    if (status != POOL_ECRASH || crashes)
        return;
    /* Whoever began it last was killed; or one that had not come to note it down, having read it. */
    CHECK(was_killed(board->pids[number]) || !expected->at_most_once || !board->begun[number]);
    /* Where it babbles its workers end of that as well, all but the last. */
    uint64_t own = expected->order->deed == BABBLES && board->begun[number] ? board->begun[number] - 1 : 0;
    /* Of a map that was stopped nothing is tried again. */
    CHECK(expected->arena->kills &&
          (is_at_last_chance(expected, expected->arena->kills + own) || expected->may_be_canceled));
}

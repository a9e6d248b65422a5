/* sim: what the rooms of the simulator share. See simulator.c.
 *
 *   simulator.c   virtual time, the order of things, the command line
 *   sim_host.c    who submits, cancels and shuts down, and carries out what the engine wants
 *   sim_plan.c    what a seed means: settings, jobs, the fate of each item
 *   sim_worker.c  processes: what they do with what they are sent, and how they end. The truth
 *   sim_model.c   what the engine has to do with slots, worked out anew from what it was told
 *   sim_items.c   the same for items, jobs and the broadcast
 *   sim_judge.c   whether that is what it does */
#ifndef PROCPOOL_TESTS_SIM_H
#define PROCPOOL_TESTS_SIM_H

#include "lane.h"
#include "sched.h"
#include <stdbool.h>
#include <stdint.h>

enum { SIM_MAX_JOBS = 12, SIM_MAX_WORKERS = 6, SIM_MAX_SLOTS = 12, SIM_MAX_RUNS = 16, SIM_MAX_REPORTS = 16 };
enum { SIM_MAX_CANCELS = 24, SIM_MAX_SHUTDOWNS = 3 };
enum { SIM_ALWAYS = 255 };

#define SIM_NEVER UINT64_MAX
#define SIM_US    UINT64_C(1000)
#define SIM_MS    UINT64_C(1000000)
#define SIM_S     UINT64_C(1000000000)
/* The longest that a frame takes to reach a worker, and a report to be written. Far below every deadline. */
#define SIM_LATENCY_NS (50 * SIM_US)
#define SIM_WRITE_NS   (100 * SIM_US)
/* Documented bounds of the engine: after which an item may never end, and what is behind it is not left to its worker;
 * where it is of long ones; and the next of those. */
#define SIM_LONG_NS  (2 * SIM_MS)
#define SIM_LATE_NS  (4 * SIM_MS)
#define SIM_STUCK_NS (32 * SIM_MS)
/* That much is worth to be done elsewhere. */
#define SIM_WORTH_NS (50 * SIM_US)
/* And what goes by itself, so that it need not go through a pipe. */
#define SIM_LARGE_BYTES (UINT64_C(48) << 10)

/* ---- chance ---- */

struct sim_random {
    uint64_t state;
};
uint64_t sim_random(struct sim_random *random);
uint64_t sim_between(struct sim_random *random, uint64_t least, uint64_t most);
bool sim_chance(struct sim_random *random, unsigned of, unsigned in); /* `of` times in `in` */

/* ---- items and jobs ---- */

enum sim_fate {
    FATE_FINE,
    FATE_FAILS,   /* returns a code */
    FATE_KILLS,   /* its worker dies in it */
    FATE_HANGS,   /* never ends; only where it has a deadline, or will be cancelled */
    FATE_SLOW,    /* ends, but past its deadline; only where it has one */
    FATE_GARBAGE, /* something that is not the protocol goes down the pipe */
    FATE_CLOSES,  /* the reply pipe is closed */
    FATE_COUNT
};

enum sim_item_state {
    ITEM_NONE, /* not submitted; of a broadcast: its slot owes it nothing */
    ITEM_PENDING,
    ITEM_IN_FLIGHT,
    ITEM_FAILING, /* blamed, which is about to be told */
    ITEM_DOOMED,  /* ends without being run, which is about to be told */
    ITEM_ENDED,
    ITEM_STATE_COUNT
};

struct sim_item {
    uint64_t duration_ns;
    uint64_t timeout_ns; /* 0: none */
    uint64_t submit_at;  /* of a lane */
    uint64_t stamp;      /* when it was submitted, among all that was */
    uint64_t number;     /* tasks that were submitted before it */
    uint64_t began_ns;   /* truth */
    unsigned begun;      /* truth: runs */
    uint8_t fate;
    uint8_t offences;      /* how many runs still show its fate */
    uint8_t state;         /* enum sim_item_state */
    uint8_t attempts;      /* deaths for which it is certainly to blame, by what the engine knows */
    uint8_t unlucky;       /* of these, deaths that it had no part in: the worker died by itself */
    uint8_t unread_deaths; /* of workers that had not read it */
    uint8_t slot;          /* where it is in flight, or was blamed */
    bool excused;          /* it may end without being run */
    bool doubted;          /* may have killed a worker: has to be sent stepwise, and otherwise need not */
    int status;            /* how it ended, or will: 0, 1 (its own code) or POOL_E… */
};

struct sim_job {
    unsigned number;
    struct job *job;   /* freed when its end is told; NULL before it is submitted, and then */
    struct lane *lane; /* the same, of a lane */
    struct sim_item *items;
    struct pool_bytes *inputs;
    struct job_item **heads; /* of a lane: malloc'd while the item has not ended */
    struct job given;        /* what it is submitted as; of a lane: count is what is planned */
    uint64_t submit_at, cancel_at, retire_at;
    struct sim_cancel {
        uint64_t at, item;
    } cancels[SIM_MAX_CANCELS];
    unsigned cancel_count;
    uint64_t count; /* items that were submitted */
    uint64_t stamp;
    bool submitted, retired, ended, told; /* every item has ended; and SCHED_END_JOB was given */
    int cancel_status;
    uint64_t in_state[ITEM_STATE_COUNT], unended;
    uint64_t front;         /* none below is pending */
    uint64_t ran;           /* of a broadcast: workers that ran it */
    bool failed;            /* of a broadcast: for one of them, so that who starts from then on does without */
    uint64_t large_replies; /* in a row, so far: each payload is replied to with as much as it is */
    unsigned unsent_slots;  /* of a broadcast: bits of those that could not be sent it */
};

/* ---- workers: the truth ---- */

enum sim_say { SAY_READY, SAY_FAILED, SAY_ENDED, SAY_SKIPPED, SAY_GARBAGE, SAY_EOF, SAY_GONE, SAY_EXITED };

struct sim_report {
    struct sim_job *job;
    uint64_t first, count, failures, elapsed_ns;
    bool worn;
};

struct sim_message {
    enum sim_say say;
    uint64_t at_ns; /* readable from then on */
    struct sim_report report;
};

struct sim_run {
    struct sim_job *job;
    uint64_t first, count;
    uint64_t start; /* where it began */
    bool stepwise, stop;
    uint64_t position; /* in the stream to the worker: what it has read when it can begin the first item */
};

enum sim_phase {
    WORKER_DEAD,
    WORKER_BOOTING,
    WORKER_IDLE,
    WORKER_RUNNING,
    WORKER_WRITING,
    WORKER_STUCK,
    WORKER_ENDING
};

struct sim_worker {
    bool exists; /* until its exit was told */
    unsigned process, slot;
    enum sim_phase phase;
    uint64_t act_at, die_at;
    bool ignores_sigterm, pipe_closed, pipe_kept; /* kept: a grandchild holds it, so there is no end of file */
    bool refreshed, dismissed;
    unsigned knows; /* bits of broadcasts that it has run, or that had ended when it was started (afresh) */

    struct sim_run inbox[SIM_MAX_RUNS];
    unsigned inbox_count;
    struct sim_run run; /* what is left of the one it is at */
    uint64_t sent_position, read_position;
    bool read_is_known; /* to the host, when it is gone */
    bool read_was_told;
    uint64_t flushed_ns;
    uint64_t to_skip;                           /* items behind all of these that were taken back */
    struct sim_report reports[SIM_MAX_REPORTS]; /* not written yet */
    unsigned report_count;

    struct sim_message *said; /* [said_first, said_end) not told yet */
    size_t said_first, said_end, said_room;

    bool cut_off;                /* killed since nothing could be sent to it, whatever it had still to say */
    bool killed, by_itself;      /* was sent a signal; had trouble of its own */
    struct sim_job *culprit_job; /* the item that misbehaved first; NULL: none did */
    uint64_t culprit;
};

/* ---- slots: what the engine was told and has said ---- */

struct sim_flight {
    struct sim_job *job;
    uint64_t first, count, cost_ns;
    size_t bytes;
    uint64_t position;
    bool stepwise, doubted;
};

struct sim_slot {
    enum slot_state state;
    bool ready, unwanted, worn, useful, has_ended, numbered, renewing, cut_off, dismissed;
    bool leaves; /* its place is another's, though its end is not known yet */
    unsigned number;
    bool fails_along; /* another start failed, and counted, while this one was under way; none has succeeded since */
    int verdict;
    uint64_t due_ns, tasks_left;
    uint64_t moved_ns; /* when it came to the item that it is at */
    struct sim_flight flights[SIM_MAX_RUNS];
    unsigned flight_count;
    uint64_t taken;   /* items that were taken back, and not said to have been stepped over */
    uint64_t sent_ns; /* when it was sent something last */
    bool asked;       /* for what it has not begun, and nothing has changed since */
    bool is_stalled;  /* it has been at one item for long: may be asked */
    /* what has to come with the next effects */
    int signal;
    bool refresh, dismiss, take;
    struct sim_job *fail_job;
    uint64_t fail_item;
    int fail_status;
    unsigned fail_attempts;
};

struct sim_totals {
    uint64_t events, effects, items, deaths, blamed, doubted, unread, timeouts, garbage, canceled, refused, unsent,
        refreshed, dismissed, broken, tasks, task_kills, broadcasts, no_memory, asked, taken, shutdowns[4];
};

struct sim {
    uint64_t seed;
    bool trace;
    struct sim_random random;
    uint64_t now_ns;
    struct sched sched;

    /* the plan */
    struct sched_config config;
    bool boots, waits_for_boot, adapts, closes_early, sleepy;
    unsigned whims, shortage; /* in 1000: tasks cancelled at any moment; calls of malloc that fail */
    unsigned start_trouble, refusals, own_deaths, unsent; /* in 100 */
    unsigned losses;                                      /* of all workers at once, in 1000 */
    unsigned trouble_left;                                /* deaths of workers by themselves are bounded */
    struct sim_job jobs[SIM_MAX_JOBS];
    unsigned job_count;
    struct sim_shutdown {
        uint64_t at;
        enum pool_shutdown_mode mode;
    } shutdowns[SIM_MAX_SHUTDOWNS];
    unsigned shutdown_count; /* those left */

    /* the host */
    uint64_t base_ns; /* the plan's zero; SIM_NEVER: not yet */
    uint64_t sleeps_until_ns;
    uint64_t steps, step_limit;
    bool submitted_any, closing;
    bool memory_is_short, memory_was_refused; /* from now on; since effects were last taken */
    uint64_t refused_ns;                      /* when memory was refused last: what needs it is tried again */
    uint64_t stamp, task_number;
    unsigned next_process;
    struct sim_worker workers[SIM_MAX_SLOTS];

    /* the model */
    struct sim_slot slots[SIM_MAX_SLOTS];
    unsigned failed_starts, starts_owed;
    uint64_t next_start_ns;
    bool was_lost, broken, break_told, ever_ready;
    enum pool_shutdown_mode mode;
    int refusal;
    uint64_t unended;          /* items of all jobs */
    struct sim_job *broadcast; /* the one that has not ended */
    struct sched_counts counts;

    struct sim_totals totals;
};

/* Prints what is wrong, the seed and how to replay it, and ends the program. */
_Noreturn void sim_fail(const struct sim *sim, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* A line of the trace, if there is one. */
void sim_trace(const struct sim *sim, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* sim_plan.c */
void sim_plan(struct sim *sim);
void sim_plan_clear(struct sim *sim);
const char *sim_fate_name(enum sim_fate fate);

/* sim_worker.c */
void sim_worker_start(struct sim *sim, unsigned slot);
/* Gives the position of what is sent. */
uint64_t sim_worker_send(struct sim *sim, unsigned slot, struct sim_run run);
/* The last items of at most `most` that were sent and that it has not begun: it will not. How many. */
uint64_t sim_worker_take_back(struct sim *sim, unsigned slot, uint64_t most);
void sim_worker_signal(struct sim *sim, unsigned slot, int signal);
void sim_worker_refresh(struct sim *sim, unsigned slot);
void sim_worker_dismiss(struct sim *sim, unsigned slot);
uint64_t sim_worker_next_ns(const struct sim_worker *worker); /* when it does something next */
void sim_worker_act(struct sim *sim, struct sim_worker *worker);
/* What can be read of it now, without taking it; NULL. */
struct sim_message *sim_worker_heard(const struct sim *sim, const struct sim_worker *worker);
void sim_worker_clear(struct sim_worker *worker);

/* sim_host.c */
void host_follow_plan(struct sim *sim);
void host_have_a_whim(struct sim *sim);       /* perhaps cancel a task */
uint64_t host_plan_ns(const struct sim *sim); /* when there is something to do by the plan */
bool host_is_done(const struct sim *sim);     /* every job has ended, and that was told */
void host_perform(struct sim *sim, const struct sched_effect *effect);
void host_ended(struct sim *sim, struct sim_worker *worker, const struct sim_report *report);
void host_clear(struct sim *sim);

/* sim_model.c, sim_items.c: events, told to them when they are told to the engine */
void model_begin(struct sim *sim);
void model_boot(struct sim *sim);
void model_limit(struct sim *sim, unsigned workers);
void model_submit(struct sim *sim, struct sim_job *job);
void model_add(struct sim *sim, struct sim_job *lane);
void model_retire(struct sim *sim, struct sim_job *lane);
void model_broadcast(struct sim *sim, struct sim_job *job);
void model_cancel(struct sim *sim, struct sim_job *job, int status);
void model_cancel_item(struct sim *sim, struct sim_job *lane, uint64_t i);
void model_shutdown(struct sim *sim, enum pool_shutdown_mode mode);
void model_refused(struct sim *sim, unsigned slot);
void model_put_off(struct sim *sim, unsigned slot);
void model_said(struct sim *sim, unsigned slot, enum sim_say say);
void model_ended(struct sim *sim, unsigned slot, const struct sim_report *report);
void model_sent(struct sim *sim, unsigned slot, uint64_t position);
void model_unsent(struct sim *sim, unsigned slot, int status);
void model_taken_back(struct sim *sim, unsigned slot, uint64_t items);
void model_skipped(struct sim *sim, unsigned slot, uint64_t items);
void model_unreachable(struct sim *sim, unsigned slot);
void model_lose(struct sim *sim);
void model_exited(struct sim *sim, const struct sim_worker *worker);
void model_expire(struct sim *sim);

/* of sim_items.c, for sim_model.c and sim_judge.c */
struct sim_job *model_find_job(const struct sim *sim, const struct job *job);
bool model_is_live(const struct sim_job *job, uint64_t i); /* submitted and not ended */
void model_move(struct sim *sim, struct sim_job *job, uint64_t i, enum sim_item_state from, enum sim_item_state to);
void model_end_item(struct sim *sim, struct sim_job *job, uint64_t i, enum sim_item_state from, int status);
void model_end_if_over(struct sim *sim, struct sim_job *job);
void model_note_ended(struct sim *sim, struct sim_job *job); /* the same, when an item has */
void model_cancel_job(struct sim *sim, struct sim_job *job, int status);
void model_refuse(struct sim *sim, int status);
/* Those of a flight's items that have not ended go back to their job. */
void model_put_back(struct sim *sim, const struct sim_flight *flight, bool doubted);
void model_doom(struct sim *sim, struct sim_job *job, uint64_t i, enum sim_item_state from, int status);
/* The broadcast: a slot owes it from now on; its part ends; what it owes and was not sent it owes no more. */
void model_take_part(struct sim *sim, unsigned slot);
void model_end_part(struct sim *sim, unsigned slot, enum sim_item_state from, bool has_run);
void model_leave_broadcast(struct sim *sim, unsigned slot);
bool model_owes(const struct sim *sim, unsigned slot);
bool model_is_stranded(const struct sim *sim);
void model_end_broadcast_if_due(struct sim *sim);

/* of sim_model.c, for sim_items.c and sim_judge.c */
void model_wind_down(struct sim *sim);
/* Items at the end that may be taken back, by what is known here; and what they cost. */
uint64_t model_takeable(const struct sim_slot *slot, uint64_t *cost_ns_out);
bool model_has_gap(const struct sim_slot *slot);
/* Of what can be taken from it: the next item, since it is long. */
bool model_may_keep_one(const struct sim_slot *slot);
/* Nothing that workers say may be told now: one has a task that was cancelled. */
bool model_wants_effects(const struct sim *sim);
void model_end_taking(struct sim *sim, unsigned slot);
/* When it is asked for them though nobody is without work. */
uint64_t model_stalls_ns(const struct sim_slot *slot);
/* A task that was cancelled is there: it is taken back, or the worker is killed for it. */
void model_take_for_task(struct sim *sim, unsigned slot, const struct sim_job *lane, uint64_t i);
void model_await_ready(struct sim *sim, struct sim_slot *slot);
void model_arm_deadline(struct sim *sim, struct sim_slot *slot);
void model_replace_if_worn(struct sim *sim, unsigned slot);
bool model_may_wear_out(const struct sim *sim);
unsigned model_count(const struct sim *sim, enum slot_state state);

/* sim_judge.c */
void judge_effect(struct sim *sim, const struct sched_effect *effect);
void judge_step(const struct sim *sim);  /* after every step */
void judge_quiet(const struct sim *sim); /* when no effect is left */
void judge_end(const struct sim *sim);   /* when the last worker is gone */

#endif

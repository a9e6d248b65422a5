/* parent_world: what the rooms of fuzz_parent share.
 *
 *   fuzz_parent.c      the operations of an input, and how a life ends
 *   fuzz_parent.h      the form of an input
 *   parent_world.c     memory and time, which are the input's to say
 *   parent_process.c   what stands in for processes: the backend, what they are asked, their ends
 *   parent_sent.c      what the parent puts into the stream to each
 *   parent_said.c      what they say
 *   parent_worker.c    a good worker
 *   parent_transit.c   memory by which what is large travels to them and back
 *   parent_reader.c    what the parent hears, read by the protocol's description
 *   parent_work.c      maps, tasks and broadcasts: what is known of them, and whether they end as they may
 *   parent_check.c     what holds between two operations */
#ifndef PROCPOOL_TESTS_PARENT_WORLD_H
#define PROCPOOL_TESTS_PARENT_WORLD_H

#include "backend.h"
#include "borrow.h"
#include "claims.h"
#include "fuzz_parent.h"
#include "loop.h"
#include "procpool.h"
#include "transit.h"

/* What the linker puts in another function's place is declared nowhere. */
#pragma GCC diagnostic ignored "-Wmissing-prototypes"

enum { MAX_PROCESSES = 96, MAX_WORKS = 24, MAX_REPLAYS = 16, MAX_KEPT = 8 };
enum { FIRST_REPLY_BYTES = 1 << 20, PEER_BYTES = 160 << 10 }; /* what a worker may cost before it has sent anything */

/* An assertion that stays in every build. */
#define REQUIRE(condition) ((condition) ? (void)0 : give_up(#condition, __FILE__, __LINE__))
_Noreturn void give_up(const char *what, const char *file, int line);
void trace(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* ---- memory of the world's own: it neither fails nor counts ---- */

struct bytes {
    uint8_t *data;
    size_t size, capacity;
};
void bytes_append(struct bytes *bytes, const void *data, size_t size);
void bytes_clear(struct bytes *bytes);
/* Zeroed, of exactly this size. */
void *own(size_t count, size_t size);
void disown(void *memory);
/* Memory for one entry more than count. */
void *own_more(void *memory, size_t count, size_t *room, size_t size);

/* ---- work ---- */

enum fate { ITEM_WAITS, ITEM_IS_AWAY, ITEM_SUCCEEDED, ITEM_FAILED };

/* What is known of an item. */
struct item {
    enum fate fate;
    unsigned process; /* that has it */
    unsigned times_sent;
    int status, code;
    uint64_t run_ns;
    size_t reply_at, reply_size;
};

/* A task that holds a region which a process has lent. serial 0: none. */
struct holding {
    unsigned process, number, serial;
};

enum work_kind { WORK_MAP, WORK_TASK, WORK_BROADCAST };

struct work {
    bool exists;
    enum work_kind kind;
    unsigned serial;
    struct job job; /* of a map or broadcast */
    struct pool_task *task;
    uint64_t number, count, timeout_ns;
    bool stops, canceled, settled, has_fds, is_kept;
    struct holding holding;
    uint8_t *items;
    struct pool_bytes *inputs;
    struct item *items_known;
    struct bytes replies; /* of items that succeeded */
    int failure;          /* of a broadcast: that of the lowest of the slots whose workers told one */
    unsigned failed_slot;
};

/* A task that has ended and was not freed; its reply must stay as it is. */
struct kept {
    struct pool_task *task; /* NULL: no such */
    struct bytes reply;
    struct holding holding;
};

/* ---- processes ---- */

/* With a region comes a message. */
struct message {
    uint64_t number;
    size_t size; /* of the memory */
    unsigned fd_count, serial;
    bool can_shrink;
};

/* What the parent knows of a region. What is there is a function of its serial. */
struct lent {
    bool known, has_fd, held;
    bool untold; /* it is not held any more, and the process was not told so */
    size_t size;
    unsigned serial;
};

/* What is taken of the memory by which what is large travels, for all items of a frame: of both halves. */
struct room {
    size_t at, size; /* 0: none */
};

struct places {
    bool has_items, has_results;
    struct wire_reference items, results;
    struct room room;
};

/* An item that a process was asked to run and has not answered. */
struct question {
    unsigned work, serial;
    uint64_t index, id;
    uint64_t end; /* of its frame in the stream to the process */
    unsigned span;
    bool in_run;
    bool may_go; /* it came after the page, with this ticket */
    bool claimed;
    uint32_t ticket;
    struct room room;
    bool in_place; /* its result is, or may be, in that memory */
    size_t results_at, results_size, items_at, items_size;
};

/* Memory of a work that the channel was lent until its bytes are written. */
struct loan {
    unsigned work, serial;
    uint64_t end;
};

enum stage { HELLO_DUE, READY_DUE, WORKS };

struct process {
    bool exists, exited, reaped;
    struct child_exit how;
    bool explains, signalled, moves, named;
    pid_t pid;
    unsigned habits, kills;
    int request_fd, reply_fd, socket_fd;    /* its own ends */
    int put_fd, heard_fd, exit_fd, life_fd; /* the parent's */
    size_t room;                            /* how much its request pipe takes */
    uint64_t since_ns;                      /* it was started, or told to start afresh or to end; or its head is due */

    struct bytes asked; /* all that was put into the stream to it */
    size_t written, read;
    struct question *questions;
    size_t first_question, question_count, question_room;
    struct loan *loans;
    size_t loan_count, loan_room;
    const struct span *putting; /* the span that is being put */
    unsigned span_count, replays_due, replays_told;
    unsigned broadcast;     /* the last that it has run, or was told in its greeting */
    size_t dismissed_at;    /* 0: not */
    uint64_t fd_numbers[8]; /* of the last tasks with fds */
    unsigned fd_tasks, fd_received;

    struct claims claims; /* mapped as soon as its message is received */
    unsigned page_at;     /* the place of that message among all with fds, from 1 on; 0: there was none */
    uint32_t tickets;
    uint64_t to_skip; /* items behind all questions that were taken back */
    bool tampered;    /* with the page */

    struct transit transit; /* mapped as soon as its message is received */
    unsigned transit_at;    /* the place of that message, from 1 on; 0: there is none */
    size_t transit_bytes;   /* of its halves */
    bool spoiled;           /* the process wrote to it as it should not */

    struct bytes outbox; /* said, but not delivered */
    size_t outbox_at;
    bool holds, hung_up;
    struct message *messages;
    size_t message_count, message_room;

    /* the reader */
    struct bytes heard;
    size_t heard_at;
    bool in_frame;
    struct wire_header header;
    enum stage stage;
    bool declined, garbage;
    size_t messages_heard;
    struct lent lents[BORROW_REGIONS];
    bool announced; /* a region, which the next answer has to be about */
};

/* ---- the world ---- */

struct replay {
    uint32_t function;
    unsigned serial;
    struct bytes input;
};

struct world {
    struct loop loop;
    const uint8_t *setup;
    struct sched_config config;
    uint64_t max_result_bytes;

    uint64_t now_ns;
    int timer_fd;
    uint64_t timer_ns; /* 0: not set */

    unsigned habits; /* of processes to come */
    enum parent_refusal refusal;
    bool refuses_all;
    uint64_t next_number, next_index;
    unsigned next_serial, next_pid, next_answer;
    struct replay replays[MAX_REPLAYS];
    unsigned replay_count;
    bool closing, clearing, broadcasting;
    enum pool_shutdown_mode mode;
    unsigned closed_backends;

    unsigned scarce_after, scarce_count;
    bool was_scarce; /* some allocation has failed, which excuses much */
    bool any_exit, any_fds;
    size_t allocations, mappings;
    size_t said, submitted;           /* bytes, of all processes and works */
    uint64_t carried_out, carried_in; /* bytes that did not go through pipes */
    uint64_t believed;                /* bytes of whole frames, with what they carried */
    uint64_t written, read;           /* by the parent; by processes */
    uint64_t succeeded;

    struct work works[MAX_WORKS];
    struct kept kept[MAX_KEPT];
    struct process processes[MAX_PROCESSES];
    unsigned process_count; /* those behind were never used */
};

extern struct world world;
extern _Thread_local bool in_world; /* what is replaced by the linker is itself outside */

/* parent_world.c */
bool is_scarce(void); /* the system refuses memory now */
void signal_fd(int fd);
void pass_time(uint64_t ns);
void pass_time_until_wanted(void);

/* parent_process.c */
extern struct backend fake_backend;
unsigned number_of(const struct process *process);
unsigned slot_of(const struct process *process); /* SCHED_NO_SLOT while it is being adopted */
/* By one of the parent's fds. A process that was reaped has them until it is buried. */
#define PROCESS_BY(member, fd) find_process(fd, offsetof(struct process, member))
struct process *find_process(int fd, size_t offset);
struct process *process_that_is_heard(int fd);
bool has_questions(const struct process *process);
struct question *head_of(const struct process *process);
/* NULL: the work has ended without it. */
struct work *work_of(const struct question *question);
/* The item of a question that is still to be answered; NULL: it has ended. */
struct item *item_of(const struct process *process, const struct question *question);
uint64_t left_in_span(const struct process *process);
void die(struct process *process, struct child_exit how);
void bury_reaped(void);
bool is_overdue(const struct process *process);
bool deserves_death(const struct process *process);

/* parent_sent.c */
void note_frame(struct process *process, const struct wire_header *header, const void *start, size_t start_size,
                const void *rest);
ssize_t __real_write(int fd, const void *bytes, size_t size); /* past what is recorded */

/* parent_said.c */
void pump(struct process *process, size_t most); /* deliver what it has said */
void say(struct process *process, const void *bytes, size_t size);
void read_requests(struct process *process, size_t most);

/* A frame in the making. */
struct draft {
    struct wire_header header;
    struct bytes body;
};
void draft_hello(struct draft *draft);
void draft_reply(struct draft *draft, size_t size);
void draft_result(struct draft *draft, uint64_t id, size_t size, unsigned how);
void draft_results(struct draft *draft, uint64_t id, uint32_t count, size_t result_size, unsigned how);
void draft_replies(struct draft *draft, uint64_t id, uint32_t count, size_t size);
void draft_error(struct draft *draft, uint64_t id, uint32_t count, unsigned how);
void draft_skipped(struct draft *draft, uint32_t count);
void draft_region(struct draft *draft, struct process *process, uint64_t number, size_t size, unsigned how);
void draft_reference(struct draft *draft, uint64_t id, uint64_t number, size_t size);
void fill_lent(uint8_t *bytes, size_t size, unsigned serial);
void draft_send(struct process *process, struct draft *draft, bool as_it_is);

/* parent_worker.c */
void do_next(struct process *process, unsigned most); /* as a good worker does */
void tamper(struct process *process, uint64_t word);

/* parent_transit.c */
void note_transit(struct process *process, const struct wire_header *header);
void receive_transit(struct process *process, int fd);
struct places places_of(const struct process *process, const struct wire_header *header, const uint8_t *start);
void note_places(struct question *question, const struct places *places, const struct wire_header *header, uint32_t i);
void check_item_in_transit(const struct process *process, const struct question *question);
const uint8_t *results_of(const struct process *process, const struct question *question);
void write_results(struct process *process, const struct question *first, uint32_t count);
void draft_in_transit(struct draft *draft, struct process *process, const struct question *question, size_t beside,
                      size_t size);
bool replies_in_transit(const struct question *question);
size_t good_reply_size(const struct question *question);
void spoil(struct process *process, uint8_t at, size_t size, uint8_t value);

/* parent_reader.c */
void hear(struct process *process, const void *bytes, size_t size);

/* parent_work.c */
struct map_wish {
    uint8_t flags, count, item_size, result_size, timeout_ms, chunk_size, function;
};
struct task_wish {
    uint8_t flags, size, timeout_ms, function;
};
size_t size_of(uint8_t code);
void give_map(const struct map_wish *wish);
void give_task(const struct task_wish *wish);
void give_broadcast(uint8_t size, uint8_t function);
void give_crowd(uint8_t count, uint8_t function);
void cancel_work(struct work *work);
struct work *work_of_item(const struct span *span, uint64_t i);
void settle_broadcasts(void);
void look_at_works(void);
void free_kept(struct kept *kept);
void discard_works(void);

/* parent_check.c */
void check_world(bool driven); /* driven: nothing is left that the parent could have seen */

#endif

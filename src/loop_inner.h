/* loop_inner: what the rooms of the loop share. See loop.h for what it does.
 *
 *   loop.c          passes over what has happened, effects
 *   loop_life.c     the loop itself, from its beginning to its end
 *   loop_workers.c  one worker's fds, from its start to its end
 *   loop_glance.c   a quick look at the busy workers alone
 *   loop_items.c    what became of items
 *   loop_lost.c     fds that the program has closed
 *
 * Nobody else includes this. */
#ifndef PROCPOOL_LOOP_INNER_H
#define PROCPOOL_LOOP_INNER_H

#include "loop.h"

enum { WHAT_BYTES = 1400 }; /* "worker 3 (pid 4711) ..." fits LOOP_TEXT_BYTES with it */

/* What an epoll event is about: this and the slot are its data, below what tells that it is this loop's. */
enum { ABOUT_REPLIES, ABOUT_REQUESTS, ABOUT_EXIT, ABOUT_END, ABOUT_TIME, ABOUT_WAKE, ABOUT_BITS = 3 };

static inline uint64_t loop_tag(const struct loop *loop)
{
    return (uint64_t)(uintptr_t)loop << 28 & ~(uint64_t)UINT32_MAX;
}

/* ---- loop_workers.c ---- */

int loop_watch(const struct loop *loop, int fd, unsigned slot, unsigned about, uint32_t events);
void loop_watch_exit(struct loop *loop, unsigned slot);
void loop_flush_requests(struct loop *loop, unsigned slot);
void loop_stop_writing(struct loop *loop, unsigned slot);
/* Starts that follow one another are done together; before anything else is done they must be. */
void loop_plan_start(struct loop *loop, const struct sched_effect *effect);
void loop_start_planned(struct loop *loop);
/* It has said something. */
void loop_hear(struct loop *loop, unsigned slot);
/* Only what was received already, if that came with all there was. */
void loop_take_replies(struct loop *loop, unsigned slot);
void loop_look_at_exit(struct loop *loop, unsigned slot);
void loop_note_end(struct loop *loop, unsigned slot);
void loop_discard(struct loop *loop, struct backend_child *child);

/* ---- loop_glance.c ---- */

/* Those that have written nothing since all of it was read need not be looked at. */
void loop_skip_quiet(struct loop *loop, struct loop_glance *glance);
void loop_take_glanced(struct loop *loop, const struct loop_glance *glance);
/* Whether there is nothing else to look at for now. */
bool loop_glance_suffices(const struct loop *loop, const struct loop_glance *glance);

/* ---- loop_lost.c ---- */

/* Whether what tells of each worker's words and of its end is open still. */
bool loop_can_hear(const struct loop *loop);
/* Give up all workers and break the pool. Nobody reads what workers say meanwhile. */
void loop_lose(struct loop *loop);
/* Wait for those that have been given up so; for each at most a moment. */
void loop_reap_lost(struct loop *loop);

/* ---- loop_items.c ---- */

/* What became of an item that failed. */
struct failure {
    int status, code;
    const struct peer *peer; /* whose doing it was; NULL: nobody's */
    const char *what;        /* in words; after "worker 1 (pid 4711) " where there is a peer */
};

void loop_fail_task(struct loop *loop, const struct job *job, uint64_t i, const struct failure *failure,
                    uint64_t run_ns);
void loop_take_items(struct loop *loop, unsigned slot, enum peer_news news, const struct peer_report *report);
void loop_fail_items(struct loop *loop, const struct sched_effect *effect);
void loop_end_job(struct loop *loop, const struct sched_effect *effect);

#endif

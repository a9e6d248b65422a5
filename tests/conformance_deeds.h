/* conformance_deeds: tasks that do as they are told: end, fail, wait at a gate, run for ever, resist; and threads that
 * call the pool.
 *
 * With them a case brings a pool into the state that it wants to look at, without a guess at times: a deed has begun
 * when the board says so, and one that waits at the gate ends when the case opens it. A *scene* is a pool of such
 * workers. All of them are ready when it is made, have an initializer and a finalizer, and are known by pid. */
#ifndef CONFORMANCE_DEEDS_H
#define CONFORMANCE_DEEDS_H

#include "conformance_numbered.h"
#include <pthread.h>

enum deed {
    DEED_ENDS,
    DEED_FAILS, /* with code DEED_CODE */
    DEED_CRASHES,
    DEED_WAITS_AT_GATE,
    DEED_NEVER_ENDS,
    DEED_IGNORES_SIGTERM, /* and never ends */
    DEED_NOTES_SIGTERM,   /* never ends but by it */
};

enum { DEED_CODE = 7 };

/* The input of do_deed, at its beginning, and an item of do_deed_item. Both give the id back. */
struct deed_input {
    int deed;
    unsigned id; /* board->runs and board->pids go by it */
};

int do_deed(struct pool_call *call);
int do_deed_item(const void *item, void *result, void *state);

/* Counters of the board. */
enum {
    DEEDS_BEGUN = 50,
    DEEDS_GATE, /* 1: open */
    DEEDS_SIGTERMS,
    WORKERS_INITIALIZED,
    WORKERS_FINALIZED,
    WORKERS_MET
};

/* ---- scenes ---- */

enum { SCENE_WORKERS = 8 };

struct scene {
    struct board *board;
    struct pool *pool;
    unsigned workers;
    pid_t pids[SCENE_WORKERS]; /* as they were when it was made */
};

struct pool_options scene_options(unsigned workers);
struct scene make_scene(unsigned workers);
struct scene make_scene_with(const struct pool_options *options);

/* Wait until so many deeds have begun since the scene was made. */
void await_begun(const struct scene *scene, uint64_t count);
void open_gate(const struct scene *scene);

struct pool_task *submit_deed(const struct scene *scene, enum deed deed, unsigned id);
struct pool_task *submit_deed_with(const struct scene *scene, enum deed deed, unsigned id,
                                   const struct pool_task_options *options);
/* One such deed for every worker, with ids from 0; returns when all have begun. */
void occupy(const struct scene *scene, enum deed deed, struct pool_task *tasks_out[]);

/* QUEUED deeds that end, with ids from QUEUED_ID, behind what the workers are busy with. */
enum { QUEUED = 30, QUEUED_ID = 1000 };
void queue_deeds(const struct scene *scene, struct pool_task *tasks_out[QUEUED]);

/* Of a task that has ended; and the same after a wait, and then the task is freed. */
int status_of(const struct pool_task *task);
int take_status(struct pool_task *task);
void free_tasks(struct pool_task *const tasks[], size_t count);

/* Whether none of the workers that the scene began with is there any more. */
bool workers_are_gone(const struct scene *scene);

/* Destroy a pool that has been shut down: there is no worker any more. */
void close_scene(struct scene *scene);

/* ---- callers: threads that make one call ---- */

struct caller {
    pthread_t thread;
    int (*call)(void *arg);
    void *arg;
    _Atomic pid_t id;
    atomic_bool has_returned;
    int result;
};

void start_caller(struct caller *caller, int (*call)(void *arg), void *arg);
/* Wait until its thread sleeps: in the call, if that is one that waits. */
void await_sleep(struct caller *caller);
/* Wait for its end: what the call returned. */
int end_of_caller(struct caller *caller);

/* A call that waits for a task: its status. */
int wait_for_ever(void *task);

#endif

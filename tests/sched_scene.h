/* sched_scene: what the stories about the scheduler are told with. Each is what the engine is told and what it answers,
 * in plain words; the simulator (simulator.c) looks at all the others.
 *
 * Build: cc -Iinclude -Isrc tests/test_sched_jobs.c tests/sched_scene.c src/sched*.c src/flight.c src/chunk.c src/job.c
 * src/lane.c src/slot.c -lcmocka */
#ifndef SCHED_SCENE_H
#define SCHED_SCENE_H

#include "lane.h"
#include "sched.h"

#define MS UINT64_C(1000000)
#define S  UINT64_C(1000000000)

enum { LOG_BYTES = 4096, MOST_TASKS = 16 };

struct scene {
    struct sched sched;
    struct job a, b, all;
    struct lane *lane;
    struct job_item tasks[MOST_TASKS];
    uint64_t task_number;
    char log[LOG_BYTES];
};

extern const struct sched_config plain;

/* All effects that there are now, "; " between them. */
void expect(struct scene *scene, const char *expected);

void open_scene(struct scene *scene, struct sched_config config);
/* A pool of one worker, or two, that are ready. */
void open_ready(struct scene *scene, struct sched_config config);
void close_scene(struct scene *scene);
/* The clock stands at ns, and all that was to be read is read. */
void at(struct scene *scene, uint64_t ns);

struct job job_of(uint64_t count, uint64_t chunk_size);
void submit(struct scene *scene, struct job *job, struct job given);
void ended(struct scene *scene, unsigned slot, uint64_t items);
void one_failed(struct scene *scene, unsigned slot, uint64_t items);
/* Its process, and nobody knows how. */
void is_gone(struct scene *scene, unsigned slot);

/* One worker, which is at task 1 of 12 and has those up to 5, to be reported one by one. */
void open_at_tasks(struct scene *scene);

void open_lane(struct scene *scene, unsigned kind);
void add_task(struct scene *scene, uint64_t timeout_ns);
void add_tasks(struct scene *scene, unsigned count);
void task_took(struct scene *scene, unsigned slot, uint64_t task, uint64_t ns);
void task_ended(struct scene *scene, unsigned slot, uint64_t task);
void cancel_task(struct scene *scene, uint64_t task);

void broadcast(struct scene *scene);

#endif

/* child_inner: what the two files of child share. See child.h for what they do.
 *
 *   child.c          the state of a new process, and the mark by which a fresh image knows what it is
 *   child_restart.c  the way back to that state, by exec in place
 *
 * Nobody else includes this. */
#ifndef PROCPOOL_CHILD_INNER_H
#define PROCPOOL_CHILD_INNER_H

#include "child.h"

/* Where the executable's fd stands until child_adopt closes it: behind the others. It outlives exec since tools that
 * exec themselves and then load the program (valgrind) need it there. */
int child_exe_place(enum child_role role);

/* Of every signal but those that libc uses between its threads. */
void child_set_dispositions(void (*handler)(int));

/* What it was before it was raised. */
void child_lower_oom_score(void);

/* Exec what stands at child_exe_place with the child's fds. Returns only on failure, a negative errno. */
int child_execute(const struct child_plan *plan);

#endif

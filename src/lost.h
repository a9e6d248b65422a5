/* lost: to end children whose fds may be another's by now.
 *
 * Where the program has closed fds that it had not opened, a number of the library's is closed, or stands for some file
 * of the program's. Then a child is not to be signalled by its pidfd, and nothing is to be closed on trust. Mostly that
 * is not needed: with its lifeline closed the kernel has killed the child.
 * Must not know: pools, start methods. */
#ifndef PROCPOOL_LOST_H
#define PROCPOOL_LOST_H

#include <sys/types.h>

/* Kill process pid: as a child of this process, or by closing its lifeline, if this fd is seen to lead there; -1 in any
 * case. What is nobody's child and just starts, or another user's, cannot be seen: it ends with this process. */
void lost_end(pid_t pid, int *lifeline_fd);

/* Collect its status if it is a child of this process; waits a moment for its end. */
void lost_reap(pid_t pid);

#endif

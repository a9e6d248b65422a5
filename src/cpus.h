/* cpus: how many CPUs this process may use.
 *
 * The smaller of two bounds: the CPUs it may be scheduled on (affinity), and the CPU time that its control group and
 * every group above may spend per period (the quota of a container: 2.5 CPUs are rounded up to 3).
 *
 * What the kernel says about cgroups is text. The functions that take it apart are pure over that text and give
 * "no limit" for whatever they do not understand: a wrong guess must never be worse than not asking.
 * Must not know: pools. */
#ifndef PROCPOOL_CPUS_H
#define PROCPOOL_CPUS_H

#include <stdbool.h>
#include <stddef.h>

/* At least 1. Reads /proc and /sys; may block as long as these do. */
unsigned cpus_available(void);

/* The first bound alone, by one system call: for who cannot wait for files to be read. At least 1. */
unsigned cpus_of_affinity(void);

/* ---- the parts, for tests --------------------------------------------------------------------------------------- */

enum cpus_cgroup_version { CPUS_CGROUP_V1 = 1, CPUS_CGROUP_V2 = 2 };

/* The directory of a process's own group, as far as it is visible here. */
struct cpus_cgroup {
    char path[4096];
    size_t mount_size; /* that much of path is the mount point: the topmost group to be looked at */
};

/* cgroups: the text of /proc/PID/cgroup. mounts: that of /proc/PID/mountinfo. False when there is no such hierarchy,
 * for version 1 one with the cpu controller. */
bool cpus_find_cgroup(const char *cgroups, const char *mounts, enum cpus_cgroup_version version,
                      struct cpus_cgroup *cgroup_out);

/* "QUOTA PERIOD" in microseconds, as in cpu.max: CPUs, rounded up. 0: no limit ("max", -1, or nothing sensible). */
unsigned cpus_of_quota(const char *text);

/* The smallest quota of the group and those above it, in either version; reads the files below the mount points that
 * the texts name. 0: no limit. */
unsigned cpus_of_cgroups(const char *cgroups, const char *mounts);

#endif

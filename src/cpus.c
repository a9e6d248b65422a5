/* cpus: by affinity and by cgroup quota. See cpus.h, cgroups(7), proc(5). */
#include "cpus.h"
#include <errno.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- affinity ---------------------------------------------------------------------------------------------------- */

/* The kernel refuses a set smaller than its own, whose size it does not tell. */
unsigned cpus_of_affinity(void)
{
    enum { FIRST_SET_CPUS = 1024, LAST_SET_CPUS = 1 << 20 };
    for (size_t set_cpus = FIRST_SET_CPUS; set_cpus <= LAST_SET_CPUS; set_cpus *= 2) {
        cpu_set_t *set = CPU_ALLOC(set_cpus);
        if (!set)
            break;
        size_t size = CPU_ALLOC_SIZE(set_cpus);
        int error = sched_getaffinity(0, size, set) == 0 ? 0 : errno;
        int count = error ? 0 : CPU_COUNT_S(size, set);
        CPU_FREE(set);
        if (count > 0)
            return (unsigned)count;
        if (error != EINVAL)
            break;
    }
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    return online > 0 ? (unsigned)online : 1;
}

/* ---- text -------------------------------------------------------------------------------------------------------- */

/* A piece of a text that is not terminated by a zero. */
struct piece {
    const char *at;
    size_t size;
};

/* What comes before the first of the separators or the end of the line; *at moves behind one separator, never to the
 * next line. */
static struct piece next_field(const char **at, char separator)
{
    const char ends[] = {separator, '\n', '\0'};
    struct piece field = {.at = *at, .size = strcspn(*at, ends)};
    *at += field.size;
    if (**at == separator)
        (*at)++;
    return field;
}

static struct piece rest_of_line(const char **at)
{
    return next_field(at, '\n');
}

static bool equals(struct piece piece, const char *text)
{
    return piece.size == strlen(text) && memcmp(piece.at, text, piece.size) == 0;
}

/* Whether "cpuacct,cpu" has the item "cpu". */
static bool has_item(struct piece list, const char *item)
{
    for (size_t start = 0; start < list.size;) {
        struct piece rest = {.at = list.at + start, .size = list.size - start};
        const char *comma = memchr(rest.at, ',', rest.size);
        if (comma)
            rest.size = (size_t)(comma - rest.at);
        if (equals(rest, item))
            return true;
        start += rest.size + 1;
    }
    return false;
}

static bool is_octal(const char *digits)
{
    return digits[0] >= '0' && digits[0] <= '3' && digits[1] >= '0' && digits[1] <= '7' && digits[2] >= '0' &&
           digits[2] <= '7';
}

/* mountinfo writes blanks and backslashes in paths as \040 and the like. The result is never longer than the piece. */
static size_t unescape(struct piece piece, char *text_out)
{
    size_t length = 0;
    for (size_t i = 0; i < piece.size; i++) {
        const char *at = piece.at + i;
        bool is_escape = *at == '\\' && piece.size - i > 3 && is_octal(at + 1);
        text_out[length++] = is_escape ? (char)((at[1] - '0') * 64 + (at[2] - '0') * 8 + (at[3] - '0')) : *at;
        i += is_escape ? 3 : 0;
    }
    text_out[length] = '\0';
    return length;
}

/* ---- where the group is ------------------------------------------------------------------------------------------ */

/* "0::/user.slice/session" in version 2, "4:cpu,cpuacct:/docker/12ab" in version 1. */
static bool find_group(const char *cgroups, enum cpus_cgroup_version version, struct piece *group_out)
{
    for (const char *at = cgroups; *at;) {
        struct piece number = next_field(&at, ':');
        struct piece controllers = next_field(&at, ':');
        struct piece group = rest_of_line(&at);
        bool matches =
            version == CPUS_CGROUP_V2 ? equals(number, "0") && controllers.size == 0 : has_item(controllers, "cpu");
        if (matches && group.size > 0 && group.at[0] == '/') {
            *group_out = group;
            return true;
        }
    }
    return false;
}

struct mount {
    struct piece root, point; /* escaped */
};

/* "36 35 0:31 /docker/12ab /sys/fs/cgroup/cpu rw,nosuid shared:17 - cgroup cgroup rw,cpu,cpuacct": the directory `root`
 * of the hierarchy is seen at `point`. */
static bool parse_mount(const char **at, enum cpus_cgroup_version version, struct mount *mount_out)
{
    struct piece id = next_field(at, ' '), parent = next_field(at, ' '), device = next_field(at, ' ');
    struct piece root = next_field(at, ' '), point = next_field(at, ' '), field = next_field(at, ' ');
    while (field.size > 0 && !equals(field, "-"))
        field = next_field(at, ' ');
    struct piece type = next_field(at, ' '), source = next_field(at, ' '), options = rest_of_line(at);
    bool is_complete = id.size > 0 && parent.size > 0 && device.size > 0 && root.size > 0 && point.size > 0 &&
                       source.size > 0 && root.at[0] == '/' && point.at[0] == '/';
    *mount_out = (struct mount){root, point};
    if (version == CPUS_CGROUP_V2)
        return is_complete && equals(type, "cgroup2");
    return is_complete && equals(type, "cgroup") && has_item(options, "cpu");
}

/* The part of the group's path below the mounted directory; NULL when it is not below. Paths with ".." lead out of the
 * cgroup namespace of this process. */
static const char *below(const char *group, const char *root)
{
    size_t root_length = strcmp(root, "/") == 0 ? 0 : strlen(root);
    if (strncmp(group, "/..", 3) == 0 || strncmp(group, root, root_length) != 0)
        return NULL;
    const char *rest = group + root_length;
    if (strcmp(rest, "/") == 0)
        return "";
    return *rest == '/' || *rest == '\0' ? rest : NULL;
}

static bool join(const char *point, const char *rest, struct cpus_cgroup *cgroup_out)
{
    int length = snprintf(cgroup_out->path, sizeof cgroup_out->path, "%s%s", point, rest);
    cgroup_out->mount_size = strlen(point);
    return length > 0 && (size_t)length < sizeof cgroup_out->path;
}

/* A mount that shows the group is preferred; with none the mount point itself is the nearest group that can be seen:
 * that is so in a container whose group is named from the outside. */
bool cpus_find_cgroup(const char *cgroups, const char *mounts, enum cpus_cgroup_version version,
                      struct cpus_cgroup *cgroup_out)
{
    enum { TEXT_BYTES = sizeof cgroup_out->path };
    char group[TEXT_BYTES], root[TEXT_BYTES], point[TEXT_BYTES];
    struct piece group_piece;
    struct mount mount;
    bool found = false;
    if (!find_group(cgroups, version, &group_piece) || group_piece.size >= sizeof group)
        return false;
    memcpy(group, group_piece.at, group_piece.size);
    group[group_piece.size] = '\0';
    for (const char *at = mounts; *at;) {
        if (!parse_mount(&at, version, &mount) || mount.root.size >= sizeof root || mount.point.size >= sizeof point)
            continue;
        unescape(mount.root, root);
        unescape(mount.point, point);
        const char *rest = below(group, root);
        if (rest && join(point, rest, cgroup_out))
            return true;
        if (!found)
            found = join(point, "", cgroup_out);
    }
    return found;
}

/* ---- quotas ------------------------------------------------------------------------------------------------------ */

unsigned cpus_of_quota(const char *text)
{
    char *end;
    long long quota_us = strtoll(text, &end, 10);
    long long period_us = strtoll(end, NULL, 10);
    if (quota_us <= 0 || period_us <= 0)
        return 0;
    long long count = (quota_us - 1) / period_us + 1;
    return count < UINT_MAX ? (unsigned)count : UINT_MAX;
}

/* The content of a file, malloc'd; NULL when it cannot be read or is empty. */
static char *read_text(const char *path)
{
    FILE *file = fopen(path, "re");
    if (!file)
        return NULL;
    char *text = NULL;
    size_t room = 0;
    if (getdelim(&text, &room, '\0', file) <= 0) {
        free(text);
        text = NULL;
    }
    fclose(file);
    return text;
}

static char *read_in(const char *directory, const char *name)
{
    char path[PATH_MAX + NAME_MAX];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    return read_text(path);
}

static unsigned quota_v2(const char *directory)
{
    char *text = read_in(directory, "cpu.max");
    unsigned count = text ? cpus_of_quota(text) : 0;
    free(text);
    return count;
}

static unsigned quota_v1(const char *directory)
{
    char *quota = read_in(directory, "cpu.cfs_quota_us"), *period = read_in(directory, "cpu.cfs_period_us");
    char text[64] = "";
    if (quota && period)
        snprintf(text, sizeof text, "%s %s", quota, period);
    free(quota);
    free(period);
    return cpus_of_quota(text);
}

/* 0 counts as no limit. */
static unsigned smaller_limit(unsigned a, unsigned b)
{
    return a != 0 && (b == 0 || a < b) ? a : b;
}

static unsigned quota_of_group(const char *cgroups, const char *mounts, enum cpus_cgroup_version version)
{
    struct cpus_cgroup cgroup;
    unsigned limit = 0;
    if (!cpus_find_cgroup(cgroups, mounts, version, &cgroup))
        return 0;
    for (;;) {
        limit = smaller_limit(limit, version == CPUS_CGROUP_V2 ? quota_v2(cgroup.path) : quota_v1(cgroup.path));
        char *last = strrchr(cgroup.path, '/');
        if (!last || (size_t)(last - cgroup.path) < cgroup.mount_size)
            return limit;
        *last = '\0';
    }
}

unsigned cpus_of_cgroups(const char *cgroups, const char *mounts)
{
    return smaller_limit(quota_of_group(cgroups, mounts, CPUS_CGROUP_V1),
                         quota_of_group(cgroups, mounts, CPUS_CGROUP_V2));
}

unsigned cpus_available(void)
{
    char *cgroups = read_text("/proc/thread-self/cgroup"), *mounts = read_text("/proc/thread-self/mountinfo");
    unsigned limit = cgroups && mounts ? cpus_of_cgroups(cgroups, mounts) : 0;
    free(cgroups);
    free(mounts);
    return smaller_limit(cpus_of_affinity(), limit);
}

/* cpus: texts of the kernel as they look on various machines, and groups as folders below /tmp. */
#include "cpus.h"

#include <limits.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- quotas ------------------------------------------------------------------------------------------------------ */

static void quotas_are_rounded_up(void **state)
{
    (void)state;
    assert_int_equal(cpus_of_quota("100000 100000\n"), 1);
    assert_int_equal(cpus_of_quota("100001 100000\n"), 2);
    assert_int_equal(cpus_of_quota("250000 100000\n"), 3);
    assert_int_equal(cpus_of_quota("1000 100000\n"), 1);
    assert_int_equal(cpus_of_quota("800000\n 100000\n"), 8);
    assert_int_equal(cpus_of_quota("9223372036854775807 1"), UINT_MAX);
}

static void what_is_no_quota_is_no_limit(void **state)
{
    (void)state;
    static const char *const texts[] = {"max 100000\n", "-1\n 100000\n", "",          "\n",
                                        "100000",       "100000 0",      "100000 -5", "0 100000",
                                        "garbage",      "5garbage 3",    "100000 max"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        assert_int_equal(cpus_of_quota(texts[i]), 0);
}

/* ---- where the group is ------------------------------------------------------------------------------------------ */

static const char V1_MOUNTS[] =
    "22 28 0:20 / /sys rw,nosuid shared:7 - sysfs sysfs rw\n"
    "31 23 0:28 / /sys/fs/cgroup ro,nosuid shared:9 - tmpfs tmpfs ro,mode=755\n"
    "33 31 0:30 / /sys/fs/cgroup/cpuset rw shared:11 - cgroup cgroup rw,cpuset\n"
    "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:10 - cgroup cgroup rw,cpu,cpuacct\n";
static const char V2_MOUNTS[] = "22 28 0:20 / /sys rw - sysfs sysfs rw\n"
                                "30 22 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";

static void assert_group(const char *cgroups, const char *mounts, enum cpus_cgroup_version version, const char *mount,
                         const char *path)
{
    struct cpus_cgroup cgroup;
    assert_true(cpus_find_cgroup(cgroups, mounts, version, &cgroup));
    assert_string_equal(cgroup.path, path);
    assert_int_equal(cgroup.mount_size, strlen(mount));
}

static void assert_no_group(const char *cgroups, const char *mounts, enum cpus_cgroup_version version)
{
    struct cpus_cgroup cgroup;
    assert_false(cpus_find_cgroup(cgroups, mounts, version, &cgroup));
}

static void the_group_is_found_in_version_2(void **state)
{
    (void)state;
    assert_group("0::/user.slice/a b/x:y\n", V2_MOUNTS, CPUS_CGROUP_V2, "/sys/fs/cgroup",
                 "/sys/fs/cgroup/user.slice/a b/x:y");
    assert_group("0::/\n", V2_MOUNTS, CPUS_CGROUP_V2, "/sys/fs/cgroup", "/sys/fs/cgroup");
    assert_no_group("0::/user.slice\n", V2_MOUNTS, CPUS_CGROUP_V1);
}

static void the_group_is_found_in_version_1(void **state)
{
    (void)state;
    static const char cgroups[] = "12:cpuset:/wrong\n9:name=systemd:/wrong\n4:cpuacct,cpu:/docker/12ab\n0::/wrong\n";
    assert_group(cgroups, V1_MOUNTS, CPUS_CGROUP_V1, "/sys/fs/cgroup/cpu,cpuacct",
                 "/sys/fs/cgroup/cpu,cpuacct/docker/12ab");
    assert_no_group(cgroups, V1_MOUNTS, CPUS_CGROUP_V2);
    assert_no_group("12:cpuset:/x\n11:cpuacct:/x\n", V1_MOUNTS, CPUS_CGROUP_V1);
}

/* A container without a cgroup namespace: it sees only its own part, and its group is named from the outside. */
static void the_mounted_part_is_taken_off_the_groups_path(void **state)
{
    (void)state;
    static const char mounts[] = "1 2 0:9 /docker/12ab /sys/fs/cgroup ro shared:1 master:2 - cgroup2 cgroup rw\n";
    assert_group("0::/docker/12ab\n", mounts, CPUS_CGROUP_V2, "/sys/fs/cgroup", "/sys/fs/cgroup");
    assert_group("0::/docker/12ab/job/1\n", mounts, CPUS_CGROUP_V2, "/sys/fs/cgroup", "/sys/fs/cgroup/job/1");
    assert_group("0::/docker/12abc/job\n", mounts, CPUS_CGROUP_V2, "/sys/fs/cgroup", "/sys/fs/cgroup");
    assert_group("0::/elsewhere\n", mounts, CPUS_CGROUP_V2, "/sys/fs/cgroup", "/sys/fs/cgroup");
}

static void a_group_outside_of_the_namespace_counts_as_its_root(void **state)
{
    (void)state;
    assert_group("0::/../../other\n", V2_MOUNTS, CPUS_CGROUP_V2, "/sys/fs/cgroup", "/sys/fs/cgroup");
    assert_group("0::/job\n", "1 2 0:9 /../.. /mnt/cg rw - cgroup2 none rw\n", CPUS_CGROUP_V2, "/mnt/cg", "/mnt/cg");
}

static void the_mount_that_shows_the_group_is_preferred(void **state)
{
    (void)state;
    static const char mounts[] = "1 2 0:9 /elsewhere /mnt/a rw - cgroup2 none rw\n"
                                 "2 2 0:9 /here /mnt/b\\040\\134c rw - cgroup2 none rw\n";
    assert_group("0::/here/x\n", mounts, CPUS_CGROUP_V2, "/mnt/b \\c", "/mnt/b \\c/x");
    assert_group("0::/nowhere\n", mounts, CPUS_CGROUP_V2, "/mnt/a", "/mnt/a");
}

static void texts_that_make_no_sense_name_no_group(void **state)
{
    (void)state;
    static const char *const texts[] = {"",
                                        "\n",
                                        "\n\n\n",
                                        "garbage",
                                        "0:",
                                        "0::",
                                        "0::\n",
                                        "0::relative\n",
                                        ":::::\n",
                                        "1 2 3 4 5 6 7 - cgroup2",
                                        "1 2 0:9 / / rw - ",
                                        "1 2 0:9 / / rw -\n",
                                        "-\n - - -",
                                        "1 2 0:9 relative / rw - cgroup2 none rw\n",
                                        "\\",
                                        "1 2 0:9 /\\04 /\\777 - "};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        for (int version = CPUS_CGROUP_V1; version <= CPUS_CGROUP_V2; version++) {
            assert_no_group(texts[i], V2_MOUNTS, (enum cpus_cgroup_version)version);
            assert_no_group("0::/a\n1:cpu:/a\n", texts[i], (enum cpus_cgroup_version)version);
        }
    }
}

static void paths_without_end_name_no_group(void **state)
{
    (void)state;
    enum { LONG = 100000 };
    char *text = malloc(LONG + 100);
    assert_non_null(text);
    int start = sprintf(text, "0::/");
    memset(text + start, 'x', LONG);
    text[start + LONG] = '\0';
    assert_no_group(text, V2_MOUNTS, CPUS_CGROUP_V2);
    text[start + 4096 - 10] = '\0'; /* fits by itself, but not behind the mount point */
    struct cpus_cgroup cgroup;
    if (cpus_find_cgroup(text, V2_MOUNTS, CPUS_CGROUP_V2, &cgroup))
        assert_string_equal(cgroup.path, "/sys/fs/cgroup");
    free(text);
}

static void random_text_never_crashes(void **state)
{
    (void)state;
    static const char alphabet[] = "0123 /\\:\n-,abcgroup2";
    uint32_t seed = 1;
    for (int round = 0; round < 20000; round++) {
        char text[200] = "0::/a\n1:cpu:/a\n";
        for (size_t i = 0; i < sizeof text - 1; i++) {
            seed = seed * 1664525 + 1013904223;
            text[i] = alphabet[(seed >> 8) % (sizeof alphabet - 1)];
        }
        struct cpus_cgroup cgroup;
        (void)cpus_find_cgroup(text, V2_MOUNTS, CPUS_CGROUP_V2, &cgroup);
        (void)cpus_find_cgroup("0::/a\n", text, CPUS_CGROUP_V2, &cgroup);
        (void)cpus_find_cgroup("1:cpu:/a\n", text, CPUS_CGROUP_V1, &cgroup);
        (void)cpus_of_quota(text);
    }
}

/* ---- groups within groups ---------------------------------------------------------------------------------------- */

struct tree {
    char root[64];
    char mounts[512];
};

static int set_up(void **state)
{
    struct tree *tree = calloc(1, sizeof *tree);
    if (!tree)
        return -1;
    strcpy(tree->root, "/tmp/test_cpus.XXXXXX");
    *state = tree;
    return mkdtemp(tree->root) ? 0 : -1;
}

static int tear_down(void **state)
{
    static const char *const paths[] = {"v1/a/b/cpu.cfs_quota_us",
                                        "v1/a/b/cpu.cfs_period_us",
                                        "v1/a/b",
                                        "v1/a",
                                        "v1",
                                        "v2/a/b/cpu.max",
                                        "v2/a/cpu.max",
                                        "v2/cpu.max",
                                        "cpu.max",
                                        "v2/a/b",
                                        "v2/a",
                                        "v2",
                                        ""};
    struct tree *tree = *state;
    char path[PATH_MAX];
    int result = 0;
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        snprintf(path, sizeof path, "%s/%s", tree->root, paths[i]);
        result = remove(path);
    }
    free(tree);
    return result;
}

static void make_groups(struct tree *tree, const char *top)
{
    static const char *const below[] = {"", "/a", "/a/b"};
    char path[PATH_MAX];
    for (size_t i = 0; i < sizeof below / sizeof *below; i++) {
        snprintf(path, sizeof path, "%s/%s%s", tree->root, top, below[i]);
        assert_int_equal(mkdir(path, 0700), 0);
    }
    snprintf(tree->mounts, sizeof tree->mounts,
             "1 2 0:1 / %s/v2 rw - cgroup2 none rw\n2 2 0:1 / %s/v1 rw - cgroup none rw,cpu\n", tree->root, tree->root);
}

static void write_limit(const struct tree *tree, const char *name, const char *text)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", tree->root, name);
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    fputs(text, file);
    assert_int_equal(fclose(file), 0);
}

static void the_smallest_quota_of_the_group_and_its_ancestors_holds(void **state)
{
    struct tree *tree = *state;
    static const char cgroups[] = "0::/a/b\n";
    make_groups(tree, "v2");
    assert_int_equal(cpus_of_cgroups(cgroups, tree->mounts), 0);
    write_limit(tree, "cpu.max", "100000 100000\n"); /* above the mount point: not a group */
    assert_int_equal(cpus_of_cgroups(cgroups, tree->mounts), 0);
    write_limit(tree, "v2/cpu.max", "900000 100000\n");
    assert_int_equal(cpus_of_cgroups(cgroups, tree->mounts), 9);
    write_limit(tree, "v2/a/b/cpu.max", "500000 100000\n");
    assert_int_equal(cpus_of_cgroups(cgroups, tree->mounts), 5);
    write_limit(tree, "v2/a/cpu.max", "150000 100000\n");
    assert_int_equal(cpus_of_cgroups(cgroups, tree->mounts), 2);
    assert_int_equal(cpus_of_cgroups("0::/\n", tree->mounts), 9);
    write_limit(tree, "v2/a/cpu.max", "max 100000\n");
    assert_int_equal(cpus_of_cgroups(cgroups, tree->mounts), 5);
    assert_int_equal(cpus_of_cgroups("0::/a/removed\n", tree->mounts), 9);
}

static void version_1_has_quota_and_period_in_two_files(void **state)
{
    struct tree *tree = *state;
    static const char cgroups[] = "3:cpuacct,cpu:/a/b\n0::/\n";
    make_groups(tree, "v1");
    write_limit(tree, "v1/a/b/cpu.cfs_quota_us", "350000\n");
    assert_int_equal(cpus_of_cgroups(cgroups, tree->mounts), 0);
    write_limit(tree, "v1/a/b/cpu.cfs_period_us", "100000\n");
    assert_int_equal(cpus_of_cgroups(cgroups, tree->mounts), 4);
    write_limit(tree, "v1/a/b/cpu.cfs_quota_us", "-1\n");
    assert_int_equal(cpus_of_cgroups(cgroups, tree->mounts), 0);
}

static void with_both_versions_the_smaller_quota_holds(void **state)
{
    struct tree *tree = *state;
    static const char cgroups[] = "3:cpu:/a/b\n0::/a\n";
    make_groups(tree, "v1");
    make_groups(tree, "v2");
    write_limit(tree, "v1/a/b/cpu.cfs_quota_us", "350000\n");
    write_limit(tree, "v1/a/b/cpu.cfs_period_us", "100000\n");
    write_limit(tree, "v2/a/cpu.max", "300000 100000\n");
    assert_int_equal(cpus_of_cgroups(cgroups, tree->mounts), 3);
    write_limit(tree, "v2/a/cpu.max", "max 100000\n");
    assert_int_equal(cpus_of_cgroups(cgroups, tree->mounts), 4);
}

/* ---- this machine ------------------------------------------------------------------------------------------------ */

static void at_least_one_cpu_is_available(void **state)
{
    (void)state;
    assert_in_range(cpus_available(), 1, 1 << 20);
}

/* In a child, since the affinity is the process's. */
static void affinity_limits_the_cpus(void **state)
{
    (void)state;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        cpu_set_t set, one;
        CPU_ZERO(&set);
        CPU_ZERO(&one);
        if (sched_getaffinity(0, sizeof set, &set) != 0)
            _exit(0); /* more than 1024 CPUs */
        size_t cpu = 0;
        while (!CPU_ISSET(cpu, &set))
            cpu++;
        CPU_SET(cpu, &one);
        _exit(sched_setaffinity(0, sizeof one, &one) == 0 && cpus_available() != 1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(quotas_are_rounded_up),
        cmocka_unit_test(what_is_no_quota_is_no_limit),
        cmocka_unit_test(the_group_is_found_in_version_2),
        cmocka_unit_test(the_group_is_found_in_version_1),
        cmocka_unit_test(the_mounted_part_is_taken_off_the_groups_path),
        cmocka_unit_test(a_group_outside_of_the_namespace_counts_as_its_root),
        cmocka_unit_test(the_mount_that_shows_the_group_is_preferred),
        cmocka_unit_test(texts_that_make_no_sense_name_no_group),
        cmocka_unit_test(paths_without_end_name_no_group),
        cmocka_unit_test(random_text_never_crashes),
        cmocka_unit_test_setup_teardown(the_smallest_quota_of_the_group_and_its_ancestors_holds, set_up, tear_down),
        cmocka_unit_test_setup_teardown(version_1_has_quota_and_period_in_two_files, set_up, tear_down),
        cmocka_unit_test_setup_teardown(with_both_versions_the_smaller_quota_holds, set_up, tear_down),
        cmocka_unit_test(at_least_one_cpu_is_available),
        cmocka_unit_test(affinity_limits_the_cpus),
    };
    return cmocka_run_group_tests_name("cpus", tests, NULL, NULL);
}

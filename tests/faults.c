/* faults: every call into the system that the library makes fails once, in turn.
 *
 *     faults [--smoke] [--list] [--scenario S] [--function F] [--nth N] [--lasting] [START METHOD...]
 *
 * For each start method, scenario (faults_scenarios.c) and fault (faults_system.c): in a first run the Nth call fails
 * with N = 1, in the next with N = 2, and so on until a run has passed without meeting its fault. Faults that can last
 * (no memory, no fds, no processes any more; reads and writes that are always interrupted or cut short) are tried once
 * more like that: from the Nth call on. Each run has a host process of its own, in which nothing may be left in the
 * end: no fd, no thread, no child, no allocation, and nobody who outlives it. A run that does not end is one that
 * fails.
 *
 * All of it takes long: `faults` by hand, before a release, or `ctest -C long -R faults`. --smoke takes a few N of each
 * fault, spread evenly over the calls that a run without a fault has made, others for each start method. What fails is
 * printed with the options that run it alone. The last line is `N passed, N failed`.
 *
 * FAULTS_PATIENCE=N multiplies the time that a run may take (sanitizers, slow machines).
 *
 * The runner has one thread and makes no pool, so that every host starts from the same state. It is a subreaper: what a
 * host leaves behind becomes its child and is found. */
#include "faults.h"
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* A run takes no longer than it would to give a worker up that does not start (start_timeout_ms is 30,000): that is no
 * way out. */
enum { RUN_MS = 20000, VANISH_MS = 5000, REPORT_BYTES = 2048, MOST_RUNS = 5000, SMOKE_PICKS = 2 };

static const char *const start_methods[] = {"fork", "spawn", "forkserver"};
enum { START_METHODS = sizeof start_methods / sizeof *start_methods };

const char *start_method;
const struct fault_plan *plan;

/* What runner and host share. */
static struct shared {
    struct fault_plan plan;
    atomic_bool failed;
    char text[REPORT_BYTES];
} * shared;

static struct {
    bool smoke, lasting;
    const char *scenario;
    enum fault fault;
    uint64_t nth;
    int patience;
} asked = {.patience = 1};

static unsigned passed, failed;

/* ---- in the host ---- */

void scenario_failed(const char *format, ...)
{
    faults_end();
    if (!atomic_exchange(&shared->failed, true)) {
        va_list arguments;
        va_start(arguments, format);
        vsnprintf(shared->text, sizeof shared->text, format, arguments);
        va_end(arguments);
    }
    _exit(1);
}

uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

void be_patient(uint64_t since_ms, const char *what)
{
    if (now_ms() > since_ms + RUN_MS / 2)
        scenario_failed("waited in vain for %s", what);
    nanosleep(&(struct timespec){.tv_nsec = 500000}, NULL);
}

static unsigned count_entries(const char *path)
{
    unsigned count = 0;
    DIR *folder = opendir(path);
    if (!folder)
        scenario_failed("cannot list %s", path);
    for (struct dirent *entry = readdir(folder); entry; entry = readdir(folder))
        count += entry->d_name[0] != '.';
    closedir(folder);
    return count;
}

static void expect_nothing_left(unsigned fds_before)
{
    size_t size = 0;
    uintptr_t caller = 0;
    size_t allocations = faults_live_allocations(&size, &caller);
    if (allocations)
        scenario_failed("%zu allocations are left, one of %zu bytes made at %#" PRIxPTR, allocations, size, caller);
    unsigned fds = count_entries("/proc/self/fd");
    if (fds != fds_before)
        scenario_failed("%u fds are open that were %u", fds, fds_before);
    int rc = waitpid(-1, NULL, WNOHANG);
    if (rc != -1 || errno != ECHILD)
        scenario_failed("a child is left: waitpid gave %d", rc);
    /* A thread that was joined may show for a moment. */
    for (uint64_t since_ms = now_ms(); count_entries("/proc/self/task") > 1;)
        be_patient(since_ms, "the end of all threads");
}

static noreturn void be_host(const struct scenario *scenario)
{
    setsid();
    unsigned fds = count_entries("/proc/self/fd");
    faults_begin(&shared->plan);
    scenario->run();
    faults_end();
    expect_nothing_left(fds);
    _exit(0);
}

/* ---- the runner: one run ---- */

struct run {
    const struct scenario *scenario;
    enum fault fault;
    uint64_t nth;
    bool lasting;
};

/* Wait for the end of the host; false: it does not come. */
static bool ends_in_time(pid_t pid)
{
    int fd = (int)syscall(SYS_pidfd_open, pid, 0);
    int ready = poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, RUN_MS * asked.patience);
    close(fd);
    return ready == 1;
}

/* Reap whatever the host has left behind; false: something lives on. */
static bool nothing_outlives_host(void)
{
    pid_t pid = 0;
    for (uint64_t since_ms = now_ms(); now_ms() < since_ms + VANISH_MS;) {
        while ((pid = waitpid(-1, NULL, WNOHANG)) > 0)
            continue;
        if (pid < 0)
            return true;
        nanosleep(&(struct timespec){.tv_nsec = 500000}, NULL);
    }
    return false;
}

/* By pid: what is of the host's session, and what became our child since its parent is gone. */
static void end_survivors(pid_t host)
{
    char path[64], text[4096] = "";
    kill(-host, SIGKILL);
    snprintf(path, sizeof path, "/proc/%d/task/%d/children", (int)getpid(), (int)getpid());
    do {
        FILE *children = fopen(path, "re");
        if (!children || !fgets(text, sizeof text, children))
            text[0] = '\0';
        if (children)
            fclose(children);
        for (char *at = text, *end; *at; at = end + (*end == ' ')) {
            long pid = strtol(at, &end, 10);
            if (pid > 0)
                kill((pid_t)pid, SIGKILL);
        }
    } while (waitpid(-1, NULL, 0) > 0);
}

static void report_failure(const struct run *run, const char *what)
{
    const struct fault_plan *done = &shared->plan;
    failed++;
    printf("FAILED  %s\n", what);
    if (done->has_happened)
        printf("        the fault: %s at %#" PRIxPTR " (addr2line -fie faults %#" PRIxPTR ")\n",
               fault_forms[run->fault].name, done->caller, done->caller);
    printf("        again: faults --scenario %s", run->scenario->name);
    if (run->fault != NO_FAULT)
        printf(" --function %s --nth %" PRIu64 "%s", fault_forms[run->fault].name, run->nth,
               run->lasting ? " --lasting" : "");
    printf(" %s\n", start_method);
}

static bool judge(const struct run *run, bool in_time, int status, bool clean)
{
    char text[128];
    if (shared->failed)
        report_failure(run, shared->text);
    else if (!in_time)
        report_failure(run, "it hangs");
    else if (status) {
        snprintf(text, sizeof text, "the host ended with wait status %#x", (unsigned)status);
        report_failure(run, text);
    } else if (!clean)
        report_failure(run, "a process outlives the host");
    else
        passed++;
    return in_time && !status && clean && !shared->failed;
}

static bool perform(const struct run *run)
{
    memset(shared, 0, sizeof *shared);
    shared->plan.fault = run->fault;
    shared->plan.nth = run->nth;
    shared->plan.lasting = run->lasting;
    fflush(stdout);
    pid_t pid = fork();
    if (!pid)
        be_host(run->scenario);
    bool in_time = ends_in_time(pid);
    if (!in_time)
        kill(-pid, SIGKILL);
    int status = 0;
    waitpid(pid, &status, 0);
    bool clean = nothing_outlives_host();
    if (!clean)
        end_survivors(pid);
    return judge(run, in_time, status, clean);
}

/* ---- the runner: all runs ---- */

/* Until a run has not met its fault, or too many have failed to learn anything from more. */
static void run_every(struct run run)
{
    enum { ENOUGH = 5 };
    unsigned failures = 0;
    for (run.nth = 1; run.nth <= MOST_RUNS && failures < ENOUGH; run.nth++) {
        failures += !perform(&run);
        if (!shared->plan.has_happened)
            return;
    }
}

/* A few out of `total`, others for each start method. */
static void run_some(struct run run, uint64_t total, unsigned method_index)
{
    enum { SHARES = SMOKE_PICKS * START_METHODS };
    uint64_t last = 0;
    for (unsigned i = 0; i < SMOKE_PICKS; i++) {
        run.nth = 1 + total * (i * START_METHODS + method_index) / SHARES;
        if (run.nth != last)
            perform(&run);
        last = run.nth;
    }
}

static void run_at_places(struct run run, uint64_t total, unsigned method_index)
{
    if (asked.smoke)
        run_some(run, total, method_index);
    else
        run_every(run);
}

/* Groups are for what lasts: once is what each of their members does. */
static void run_fault(struct run run, uint64_t total, unsigned method_index)
{
    if (run.fault > FAULT_PROCESSES)
        run_at_places(run, total, method_index);
    run.lasting = true;
    if (fault_forms[run.fault].traits & LASTS)
        run_at_places(run, total, method_index);
}

static void run_scenario(const struct scenario *scenario, unsigned method_index)
{
    uint64_t totals[FAULT_COUNT], start_ms = now_ms();
    unsigned failed_before = failed, passed_before = passed;
    struct run run = {.scenario = scenario, .fault = NO_FAULT};
    if (!perform(&run))
        return; /* it fails by itself, whatever the faults */
    for (int fault = 0; fault < FAULT_COUNT; fault++)
        totals[fault] = shared->plan.counts[fault];
    for (run.fault = NO_FAULT + 1; run.fault < FAULT_COUNT; run.fault++)
        if (totals[run.fault] && (asked.fault == NO_FAULT || asked.fault == run.fault))
            run_fault(run, totals[run.fault], method_index);
    printf("%-10s %-20s %5u passed, %u failed (%" PRIu64 " ms)\n", start_method, scenario->name, passed - passed_before,
           failed - failed_before, now_ms() - start_ms);
}

static void run_method(unsigned method_index)
{
    start_method = start_methods[method_index];
    for (const struct scenario *scenario = scenarios; scenario->name; scenario++) {
        if (asked.scenario && strcmp(asked.scenario, scenario->name) != 0)
            continue;
        struct run single = {scenario, asked.fault, asked.nth, asked.lasting};
        if (asked.nth) {
            bool good = perform(&single);
            printf("%s %s: %s, the fault has %shappened\n", start_method, scenario->name, good ? "passed" : "failed",
                   shared->plan.has_happened ? "" : "not ");
        } else {
            run_scenario(scenario, method_index);
        }
    }
}

/* ---- the command line ---- */

static int list(void)
{
    printf("scenarios:");
    for (const struct scenario *scenario = scenarios; scenario->name; scenario++)
        printf(" %s", scenario->name);
    printf("\nfunctions:");
    for (int fault = NO_FAULT + 1; fault < FAULT_COUNT; fault++)
        printf(" %s", fault_forms[fault].name);
    printf("\n");
    return 0;
}

static int complain(const char *program, const char *what)
{
    fprintf(
        stderr,
        "%s: %s\nusage: %s [--smoke] [--list] [--scenario S] [--function F] [--nth N] [--lasting] [START METHOD...]\n",
        program, what, program);
    return 2;
}

static bool is_scenario(const char *name)
{
    const struct scenario *scenario = scenarios;
    while (scenario->name && strcmp(scenario->name, name) != 0)
        scenario++;
    return scenario->name;
}

static int run_methods(unsigned wanted)
{
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0}); /* the crashes are meant */
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED)
        return 2;
    plan = &shared->plan;
    for (unsigned i = 0; i < START_METHODS; i++)
        if (!wanted || wanted & 1u << i)
            run_method(i);
    printf("%u passed, %u failed\n", passed, failed);
    return failed != 0;
}

int main(int argc, char **argv)
{
    unsigned wanted = 0;
    pool_init();
    const char *patience = getenv("FAULTS_PATIENCE");
    asked.patience = patience && atoi(patience) > 0 ? atoi(patience) : 1;
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";
        unsigned method = 0;
        while (method < START_METHODS && strcmp(argv[i], start_methods[method]) != 0)
            method++;
        if (method < START_METHODS)
            wanted |= 1u << method;
        else if (!strcmp(argv[i], "--list"))
            return list();
        else if (!strcmp(argv[i], "--smoke"))
            asked.smoke = true;
        else if (!strcmp(argv[i], "--lasting"))
            asked.lasting = true;
        else if (!strcmp(argv[i], "--scenario") && is_scenario(value))
            asked.scenario = argv[++i];
        else if (!strcmp(argv[i], "--function") && (asked.fault = fault_named(value)) != NO_FAULT)
            i++;
        else if (!strcmp(argv[i], "--nth") && (asked.nth = strtoull(value, NULL, 10)) > 0)
            i++;
        else
            return complain(argv[0], argv[i]);
    }
    if (asked.nth && (asked.fault == NO_FAULT || !asked.scenario))
        return complain(argv[0], "--nth needs --scenario and --function");
    return run_methods(wanted);
}

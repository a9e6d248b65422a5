/* parent_world: memory, time and names, as the loop under test sees them.
 *
 * Functions of the C library, and those of the library that would look at this program, are replaced by the linker
 * (-Wl,--wrap): all that is called __wrap_... here and in the other rooms. Allocations are counted, may fail when the
 * input says so, and must not be larger than what has arrived accounts for. Time passes only when the input says so. */
#include "parent_world.h"
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/timerfd.h>
#include <time.h>

struct world world;
_Thread_local bool in_world;

void give_up(const char *what, const char *file, int line)
{
    fprintf(stderr, "%s:%d: this does not hold: %s\n", file, line, what);
    abort();
}

void trace(const char *format, ...)
{
    static int wanted = -1;
    if (wanted < 0)
        wanted = getenv("FUZZ_TRACE") != NULL;
    if (!wanted)
        return;
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
}

/* ---- the world's own memory ---- */

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *memory, size_t size);
void __real_free(void *memory);
char *__real_strdup(const char *text);
int __real_epoll_ctl(int epoll_fd, int operation, int fd, struct epoll_event *event);

void *own(size_t count, size_t size)
{
    void *memory = __real_calloc(count ? count : 1, size ? size : 1);
    REQUIRE(memory);
    return memory;
}

void disown(void *memory)
{
    __real_free(memory);
}

static void *own_again(void *memory, size_t size)
{
    memory = __real_realloc(memory, size);
    REQUIRE(memory);
    return memory;
}

void *own_more(void *memory, size_t count, size_t *room, size_t size)
{
    if (count < *room)
        return memory;
    *room = *room * 2 + 16;
    return own_again(memory, *room * size);
}

void bytes_append(struct bytes *bytes, const void *data, size_t size)
{
    if (bytes->capacity - bytes->size < size) {
        bytes->capacity = (bytes->size + size) * 2;
        bytes->data = own_again(bytes->data, bytes->capacity);
    }
    if (size)
        memcpy(bytes->data + bytes->size, data, size);
    bytes->size += size;
}

void bytes_clear(struct bytes *bytes)
{
    __real_free(bytes->data);
    *bytes = (struct bytes){0};
}

/* ---- memory of the library ---- */

bool is_scarce(void)
{
    if (!in_world || !world.scarce_count)
        return false;
    if (world.scarce_after) {
        world.scarce_after--;
        return false;
    }
    world.scarce_count--;
    world.was_scarce = true;
    trace("  no memory\n");
    errno = ENOMEM;
    return true;
}

/* Buffers grow as bytes arrive, never by what a header claims. */
static void check_demand(size_t size)
{
    if (in_world)
        REQUIRE(size <= FIRST_REPLY_BYTES + 1 || size <= 4 * (world.said + world.submitted) + PEER_BYTES);
}

static void *count_allocation(void *memory)
{
    world.allocations += in_world && memory;
    return memory;
}

void *__wrap_malloc(size_t size)
{
    check_demand(size);
    return is_scarce() ? NULL : count_allocation(__real_malloc(size));
}

void *__wrap_calloc(size_t count, size_t size)
{
    check_demand(count * size);
    return is_scarce() ? NULL : count_allocation(__real_calloc(count, size));
}

void *__wrap_realloc(void *memory, size_t size)
{
    check_demand(size);
    if (is_scarce())
        return NULL;
    void *moved = __real_realloc(memory, size);
    return memory ? moved : count_allocation(moved);
}

/* What comes in is read into this, whatever it is. */
static bool is_staging(size_t size)
{
    size_t workers = world.config.workers, slots = size / CHAN_STAGING_BYTES;
    return size % CHAN_STAGING_BYTES == 0 && (slots == workers + 1 || slots == 2 * workers);
}

void *__real_mmap(void *address, size_t size, int protection, int flags, int fd, off_t offset);
int __real_munmap(void *address, size_t size);

void *__wrap_mmap(void *address, size_t size, int protection, int flags, int fd, off_t offset)
{
    if (in_world && is_staging(size) && is_scarce())
        return MAP_FAILED;
    void *memory = __real_mmap(address, size, protection, flags, fd, offset);
    world.mappings += in_world && memory != MAP_FAILED;
    return memory;
}

int __wrap_munmap(void *address, size_t size)
{
    int rc = __real_munmap(address, size);
    world.mappings -= in_world && !rc;
    return rc;
}

char *__wrap_strdup(const char *text)
{
    return is_scarce() ? NULL : count_allocation(__real_strdup(text));
}

void __wrap_free(void *memory)
{
    world.allocations -= in_world && memory;
    __real_free(memory);
}

/* The kernel may have no memory either. */
int __wrap_epoll_ctl(int epoll_fd, int operation, int fd, struct epoll_event *event)
{
    if (operation == EPOLL_CTL_ADD && is_scarce()) {
        errno = ENOMEM;
        return -1;
    }
    return __real_epoll_ctl(epoll_fd, operation, fd, event);
}

/* ---- time ---- */

int __real_clock_gettime(clockid_t clock, struct timespec *time_out);
int __real_timerfd_create(int clock, int flags);
int __real_timerfd_settime(int fd, int flags, const struct itimerspec *when, struct itimerspec *before_out);
int __real_poll(struct pollfd *fds, nfds_t count, int timeout_ms);

int __wrap_clock_gettime(clockid_t clock, struct timespec *time_out)
{
    if (!in_world || clock != CLOCK_MONOTONIC)
        return __real_clock_gettime(clock, time_out);
    *time_out = (struct timespec){.tv_sec = (time_t)(world.now_ns / 1000000000u),
                                  .tv_nsec = (long)(world.now_ns % 1000000000u)};
    return 0;
}

int __wrap_timerfd_create(int clock, int flags)
{
    if (!in_world)
        return __real_timerfd_create(clock, flags);
    world.timer_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return world.timer_fd;
}

void signal_fd(int fd)
{
    REQUIRE(eventfd_write(fd, 1) == 0);
}

static void look_at_timer(void)
{
    if (!world.timer_ns || world.now_ns < world.timer_ns)
        return;
    world.timer_ns = 0;
    signal_fd(world.timer_fd);
}

int __wrap_timerfd_settime(int fd, int flags, const struct itimerspec *when, struct itimerspec *before_out)
{
    eventfd_t expired;
    if (!in_world)
        return __real_timerfd_settime(fd, flags, when, before_out);
    REQUIRE(fd == world.timer_fd && flags == TFD_TIMER_ABSTIME);
    (void)eventfd_read(fd, &expired);
    world.timer_ns = (uint64_t)when->it_value.tv_sec * 1000000000u + (uint64_t)when->it_value.tv_nsec;
    look_at_timer();
    return 0;
}

/* Nothing happens while it waits. */
int __wrap_poll(struct pollfd *fds, nfds_t count, int timeout_ms)
{
    return __real_poll(fds, count, in_world ? 0 : timeout_ms);
}

void pass_time(uint64_t ns)
{
    world.now_ns += ns;
    look_at_timer();
}

void pass_time_until_wanted(void)
{
    uint64_t wake_ns = sched_wake_ns(&world.loop.sched);
    if (wake_ns != SCHED_NEVER && wake_ns > world.now_ns)
        pass_time(wake_ns - world.now_ns);
}

/* ---- what would look at this program: its identity, and its functions, which are numbers here ---- */

size_t __wrap_callable_library_id(uint8_t *bytes)
{
    static const uint8_t id[] = "bfuzz";
    memcpy(bytes, id, sizeof id);
    return sizeof id;
}

int __wrap_callable_describe(callable_fn *fn, uint8_t *bytes, size_t *size_out, char *message)
{
    uintptr_t number = (uintptr_t)fn;
    (void)message;
    memcpy(bytes, &number, sizeof number);
    *size_out = sizeof number;
    return 0;
}

void __wrap_callable_name(callable_fn *fn, char *text_out, size_t text_size)
{
    snprintf(text_out, text_size, "function %lu", (unsigned long)(uintptr_t)fn);
}

uint64_t __wrap_callable_generation(void)
{
    return 1;
}

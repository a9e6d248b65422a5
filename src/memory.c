/* memory: see memory.h. What keeps it from shrinking are the seals of a memfd. */
#include "memory.h"
#include "fd.h"
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

enum { TMPFS_TYPE = 0x01021994 }; /* TMPFS_MAGIC of <linux/magic.h>, which does not come with every libc */

int memory_check_limit(size_t size)
{
    int errno_before = errno;
    struct rlimit limit;
    int rc = (int)fd_outcome(getrlimit(RLIMIT_FSIZE, &limit), errno_before);
    return rc ? rc : size > limit.rlim_cur ? -EFBIG : 0;
}

static int fix_size(int fd, size_t size)
{
    int errno_before = errno;
    int rc = (int)fd_outcome(ftruncate(fd, (off_t)size), errno_before);
    return rc ? rc : (int)fd_outcome(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL), errno_before);
}

int memory_create(const char *name, size_t size)
{
    int rc = size > SIZE_MAX / 2 ? -ENOMEM : memory_check_limit(size); /* it has a sign where a file's size is told */
    int errno_before = errno;
    int fd = rc ? rc : fd_take_above_stdio(memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING));
    fd_restore_errno(errno_before);
    if (fd < 0)
        return fd;
    rc = fix_size(fd, size);
    if (rc)
        fd_close(&fd);
    return rc ? rc : fd;
}

/* Of huge pages there may be too few when they are first touched; they are another file system's. */
bool memory_is_safe(int fd, size_t size)
{
    struct stat status;
    struct statfs system;
    int errno_before = errno, seals = fcntl(fd, F_GET_SEALS);
    bool sealed = seals >= 0 && seals & F_SEAL_SHRINK;
    bool is_safe = sealed && !fstatfs(fd, &system) && system.f_type == TMPFS_TYPE && !fstat(fd, &status) &&
                   (uint64_t)status.st_size >= size;
    fd_restore_errno(errno_before);
    return is_safe;
}

int memory_map(int fd, size_t size, int protection, void **data_out)
{
    int errno_before = errno;
    void *data = mmap(NULL, size, protection, MAP_SHARED, fd, 0);
    int rc = (int)fd_outcome(data == MAP_FAILED ? -1 : 0, errno_before);
    if (!rc)
        *data_out = data;
    return rc;
}

int memory_map_alone(int fd, size_t size, int protection, void **data_out)
{
    int errno_before = errno;
    void *data;
    int rc = memory_map(fd, size, protection, &data);
    if (rc)
        return rc;
    rc = (int)fd_outcome(madvise(data, size, MADV_DONTFORK), errno_before);
    if (rc)
        munmap(data, size);
    else
        *data_out = data;
    return rc;
}

/* A file system and a clock that fail on demand: preload it, then call faulty_disk_set from the process.

   Counts the operations that change something below one folder (writes, flushes, renames, creations and
   removals), or reads there. From a given operation on it makes them fail, kills the process, or turns the clock back. Half of
   a failing write is written. Linux only. benchmarks/faults.py builds and drives it. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { WRITE = 1, SYNC = 2, RENAME = 4, CREATE = 8, REMOVE = 16, READ = 32 };
enum { KILL = -1, CLOCK = -2 }; /* what happens instead of an error number */

static char folder[PATH_MAX];
static long first, every, back;
static int kinds, effect;
static _Atomic long *counter; /* shared with the parent, which reads it after the process has died */

__attribute__((constructor)) static void share_counter(void) {
    counter = mmap(NULL, sizeof *counter, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
}

/* Operations of `of_kinds` below `below` are counted from 1; number `nth` and every `step`-th after it (0: no
   other) fail with the error `what`, or have that effect. */
void faulty_disk_set(const char *below, int of_kinds, long nth, long step, int what) {
    *counter = 0;
    first = nth, every = step, kinds = of_kinds, effect = what, back = 0;
    snprintf(folder, sizeof folder, "%s", below);
}

long faulty_disk_count(void) { return *counter; }

static int below(int at, const char *path) {
    char base[PATH_MAX], link[64];
    if (path && *path == '/') return !strncmp(path, folder, strlen(folder));
    if (at == AT_FDCWD) return path && getcwd(base, sizeof base) && !strncmp(base, folder, strlen(folder));
    snprintf(link, sizeof link, "/proc/self/fd/%d", at);
    ssize_t length = readlink(link, base, sizeof base - 1);
    if (length < 0) return 0;
    base[length] = 0;
    return !strncmp(base, folder, strlen(folder));
}

/* Whether this operation fails; errno is set then. */
static int fails(int kind, int at, const char *path) {
    if (!*folder || !(kind & kinds)) return 0;
    int saved = errno, ours = below(at, path);
    errno = saved;
    if (!ours) return 0;
    long number = ++*counter;
    if (!first || number < first) return 0;
    if (number > first && (!every || (number - first) % every)) return 0;
    if (effect == CLOCK) return back = 3600, 0;
    errno = effect;
    return 1;
}

static int strike(void) {
    if (effect == KILL) kill(getpid(), SIGKILL);
    return -1;
}

#define REAL(name) ((__typeof__(name) *)real(#name))
static void *real(const char *name) { return dlsym(RTLD_NEXT, name); }

ssize_t write(int file, const void *data, size_t size) {
    if (!fails(WRITE, file, NULL)) return REAL(write)(file, data, size);
    int error = errno;
    if (size > 1 && REAL(write)(file, data, size / 2) < 0) return strike();
    return errno = error, strike();
}
ssize_t read(int file, void *data, size_t size) {
    return fails(READ, file, NULL) ? strike() : REAL(read)(file, data, size);
}
ssize_t pread64(int file, void *data, size_t size, off64_t at) {
    return fails(READ, file, NULL) ? strike() : REAL(pread64)(file, data, size, at);
}
ssize_t writev(int file, const struct iovec *parts, int count) {
    return fails(WRITE, file, NULL) ? strike() : REAL(writev)(file, parts, count);
}
ssize_t pwrite64(int file, const void *data, size_t size, off64_t at) {
    return fails(WRITE, file, NULL) ? strike() : REAL(pwrite64)(file, data, size, at);
}
int ftruncate64(int file, off64_t size) {
    return fails(WRITE, file, NULL) ? strike() : REAL(ftruncate64)(file, size);
}
int truncate64(const char *path, off64_t size) {
    return fails(WRITE, AT_FDCWD, path) ? strike() : REAL(truncate64)(path, size);
}
int fsync(int file) { return fails(SYNC, file, NULL) ? strike() : REAL(fsync)(file); }
int fdatasync(int file) { return fails(SYNC, file, NULL) ? strike() : REAL(fdatasync)(file); }
int chmod(const char *path, mode_t mode) {
    return fails(CREATE, AT_FDCWD, path) ? strike() : REAL(chmod)(path, mode);
}
int fchmod(int file, mode_t mode) { return fails(CREATE, file, NULL) ? strike() : REAL(fchmod)(file, mode); }
int mkdir(const char *path, mode_t mode) {
    return fails(CREATE, AT_FDCWD, path) ? strike() : REAL(mkdir)(path, mode);
}
int mkdirat(int at, const char *path, mode_t mode) {
    return fails(CREATE, at, path) ? strike() : REAL(mkdirat)(at, path, mode);
}
int rename(const char *from, const char *to) {
    return fails(RENAME, AT_FDCWD, to) ? strike() : REAL(rename)(from, to);
}
int renameat(int at, const char *from, int to_at, const char *to) {
    return fails(RENAME, to_at, to) ? strike() : REAL(renameat)(at, from, to_at, to);
}
int link(const char *from, const char *to) {
    return fails(CREATE, AT_FDCWD, to) ? strike() : REAL(link)(from, to);
}
int unlink(const char *path) { return fails(REMOVE, AT_FDCWD, path) ? strike() : REAL(unlink)(path); }
int rmdir(const char *path) { return fails(REMOVE, AT_FDCWD, path) ? strike() : REAL(rmdir)(path); }
int unlinkat(int at, const char *path, int flags) {
    return fails(REMOVE, at, path) ? strike() : REAL(unlinkat)(at, path, flags);
}

#define OPEN(name, at_declared, at, at_passed)                                      \
    int name(at_declared const char *path, int flags, ...) {                        \
        va_list more;                                                               \
        va_start(more, flags);                                                      \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, mode_t) : 0;     \
        va_end(more);                                                               \
        if ((flags & O_ACCMODE) != O_RDONLY && fails(CREATE, at, path)) return strike(); \
        return REAL(name)(at_passed path, flags, mode);                             \
    }
#define NOTHING
#define AT_DECLARED int at,
#define AT_PASSED at,
OPEN(open, NOTHING, AT_FDCWD, NOTHING)
OPEN(open64, NOTHING, AT_FDCWD, NOTHING)
OPEN(openat, AT_DECLARED, at, AT_PASSED)
OPEN(openat64, AT_DECLARED, at, AT_PASSED)

int clock_gettime(clockid_t clock, struct timespec *now) {
    int result = REAL(clock_gettime)(clock, now);
    if (!result && clock == CLOCK_REALTIME) now->tv_sec -= back;
    return result;
}
int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    int result = ((int (*)(struct timeval *, void *))real("gettimeofday"))(now, zone);
    if (!result) now->tv_sec -= back;
    return result;
}
time_t time(time_t *out) {
    time_t now = REAL(time)(NULL) - back;
    return out ? *out = now : now;
}

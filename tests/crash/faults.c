/* Makes one system call that would change a folder fail, or kill the process there; loaded with LD_PRELOAD. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[PATH_MAX];
static long fault, calls;
static int error, lasting;

/* From now on, call number `nth` (from 1) on `path` or below fails with `errno_value`, or kills the process if that is
   0; with `stays`, so does every later one. 0 only counts. */
void fault_arm(const char *path, long nth, int errno_value, int stays) {
    snprintf(folder, sizeof folder, "%s", path);
    fault = nth, error = errno_value, lasting = stays, calls = 0;
}

long fault_calls(void) { return calls; }

static int due(const char *path) {
    size_t length = strlen(folder);
    if (!length || strncmp(path, folder, length) || (path[length] && path[length] != '/')) return 0;
    calls++;
    if (!fault || (lasting ? calls < fault : calls != fault)) return 0;
    if (!error) kill(getpid(), SIGKILL);
    errno = error;
    return 1;
}

static int due_at(int directory, const char *path) {
    if (*path == '/' || directory == AT_FDCWD) return due(path);
    char link[64], whole[2 * PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", directory);
    ssize_t length = readlink(link, whole, PATH_MAX);
    if (length < 0) return 0;
    snprintf(whole + length, sizeof whole - length, "%s%s", *path ? "/" : "", path);
    return due(whole);
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define WRITES(flags) ((flags) & (O_WRONLY | O_RDWR | O_CREAT))

#define OPEN(name)                                                              \
    int name(const char *path, int flags, ...) {                                \
        va_list more;                                                           \
        va_start(more, flags);                                                  \
        mode_t mode = va_arg(more, mode_t);                                     \
        va_end(more);                                                           \
        return WRITES(flags) && due(path) ? -1 : REAL(name)(path, flags, mode); \
    }
OPEN(open)
OPEN(open64)

#define OPENAT(name)                                                                                     \
    int name(int directory, const char *path, int flags, ...) {                                          \
        va_list more;                                                                                    \
        va_start(more, flags);                                                                           \
        mode_t mode = va_arg(more, mode_t);                                                              \
        va_end(more);                                                                                    \
        return WRITES(flags) && due_at(directory, path) ? -1 : REAL(name)(directory, path, flags, mode); \
    }
OPENAT(openat)
OPENAT(openat64)

/* A disk that becomes full takes a part of what is written before it says so. */
ssize_t write(int file, const void *content, size_t size) {
    if (!due_at(file, "")) return REAL(write)(file, content, size);
    if (error == ENOSPC && size > 1) REAL(write)(file, content, size / 2);
    errno = error;
    return -1;
}

int fsync(int file) { return due_at(file, "") ? -1 : REAL(fsync)(file); }
int flock(int file, int operation);
int flock(int file, int operation) { return due_at(file, "") ? -1 : REAL(flock)(file, operation); }
int mkdir(const char *path, mode_t mode) { return due(path) ? -1 : REAL(mkdir)(path, mode); }
int rmdir(const char *path) { return due(path) ? -1 : REAL(rmdir)(path); }
int unlink(const char *path) { return due(path) ? -1 : REAL(unlink)(path); }
int unlinkat(int directory, const char *path, int flags) {
    return due_at(directory, path) ? -1 : REAL(unlinkat)(directory, path, flags);
}
int rename(const char *source, const char *target) { return due(source) ? -1 : REAL(rename)(source, target); }

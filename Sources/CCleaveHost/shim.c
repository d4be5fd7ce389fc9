#define _GNU_SOURCE
#include "cleave_host.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/perf_event.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif
// The page size of MAP_HUGETLB and MFD_HUGETLB is its logarithm at bit 26 of the flags.
enum { PAGE_SHIFT_POSITION = 26 };

int cleave_errno(void) { return errno; }

void cleave_error_words(int code, char *text, size_t byte_count) {
    char scratch[128];
    const char *words = strerror_r(code, scratch, sizeof scratch);
    snprintf(text, byte_count, "%s", words);
}

int cleave_thread_id(void) { return (int)syscall(SYS_gettid); }

int cleave_current_cpu(void) { return sched_getcpu(); }

int cleave_affinity_get(pid_t thread_id, uint8_t *bits, size_t byte_count) {
    memset(bits, 0, byte_count);
    // The raw call: it takes masks wider than cpu_set_t.
    long filled = syscall(SYS_sched_getaffinity, thread_id, byte_count, bits);
    return filled < 0 ? -errno : 0;
}

// Builds the mask of one CPU; `set` must be freed with CPU_FREE.
static cpu_set_t *single_cpu(int cpu, size_t *byte_count) {
    cpu_set_t *set = CPU_ALLOC((size_t)cpu + 1);
    if (set == NULL) {
        return NULL;
    }
    *byte_count = CPU_ALLOC_SIZE((size_t)cpu + 1);
    CPU_ZERO_S(*byte_count, set);
    CPU_SET_S((size_t)cpu, *byte_count, set);
    return set;
}

int cleave_affinity_set(int cpu) {
    size_t byte_count = 0;
    if (cpu < 0) {
        return -EINVAL;
    }
    cpu_set_t *set = single_cpu(cpu, &byte_count);
    if (set == NULL) {
        return -ENOMEM;
    }
    int result = sched_setaffinity(0, byte_count, set) == 0 ? 0 : -errno;
    CPU_FREE(set);
    return result;
}

int cleave_affinity_set_mask(const uint8_t *bits, size_t byte_count) {
    return syscall(SYS_sched_setaffinity, 0, byte_count, bits) < 0 ? -errno : 0;
}

int cleave_thread_set_name(const char *name) { return -pthread_setname_np(pthread_self(), name); }

int cleave_thread_get_name(char *name, size_t byte_count) {
    return -pthread_getname_np(pthread_self(), name, byte_count);
}

int cleave_thread_start(
    pthread_t *thread, int cpu, void *(*body)(void *), void *argument) {
    pthread_attr_t attributes;
    size_t byte_count = 0;
    cpu_set_t *set = NULL;
    int result = pthread_attr_init(&attributes);
    if (result != 0) {
        return -result;
    }
    if (cpu >= 0) {
        set = single_cpu(cpu, &byte_count);
        result = set == NULL ? ENOMEM : pthread_attr_setaffinity_np(&attributes, byte_count, set);
    }
    if (result == 0) {
        // A program's signal handlers run on its own threads, not on ours; faults stay deliverable.
        sigset_t blocked, before;
        sigfillset(&blocked);
        sigdelset(&blocked, SIGSEGV);
        sigdelset(&blocked, SIGBUS);
        sigdelset(&blocked, SIGFPE);
        sigdelset(&blocked, SIGILL);
        sigdelset(&blocked, SIGTRAP);
        pthread_sigmask(SIG_SETMASK, &blocked, &before);
        // The affinity is applied before `body`; a refused one leaves no thread behind.
        result = pthread_create(thread, &attributes, body, argument);
        pthread_sigmask(SIG_SETMASK, &before, NULL);
    }
    if (set != NULL) {
        CPU_FREE(set);
    }
    pthread_attr_destroy(&attributes);
    return -result;
}

int cleave_memfd(const char *name, size_t byte_count, int page_shift) {
    unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
    if (page_shift != 0) {
        flags |= MFD_HUGETLB | ((unsigned)page_shift << PAGE_SHIFT_POSITION);
    }
    int fd = memfd_create(name, flags);
    if (fd < 0) {
        return -errno;
    }
    // Sealed so that the receiver of the descriptor cannot shrink the memory under our feet.
    if (ftruncate(fd, (off_t)byte_count) != 0
        || fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
        int error = errno;
        close(fd);
        return -error;
    }
    return fd;
}

void *cleave_reserve(size_t byte_count) {
    void *address = mmap(
        NULL, byte_count, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return address == MAP_FAILED ? NULL : address;
}

int cleave_map_at(void *address, size_t byte_count, int fd, int page_shift) {
    int flags = MAP_FIXED_NOREPLACE;
    if (fd >= 0) {
        flags |= MAP_SHARED;
    } else {
        flags |= MAP_PRIVATE | MAP_ANONYMOUS;
        if (page_shift != 0) {
            flags |= MAP_HUGETLB | (page_shift << PAGE_SHIFT_POSITION);
        }
    }
    void *got = mmap(address, byte_count, PROT_READ | PROT_WRITE, flags, fd, 0);
    if (got == MAP_FAILED) {
        return -errno;
    }
    if (got != address) {
        // Kernels before 4.17 take the address as a hint.
        munmap(got, byte_count);
        return -EEXIST;
    }
    return 0;
}

int cleave_advise_huge(void *address, size_t byte_count, int wanted) {
    int advice = wanted ? MADV_HUGEPAGE : MADV_NOHUGEPAGE;
    return madvise(address, byte_count, advice) == 0 ? 0 : -errno;
}

int cleave_populate(void *address, size_t byte_count) {
    while (madvise(address, byte_count, MADV_POPULATE_WRITE) != 0) {
        if (errno != EINTR && errno != EAGAIN) {
            return -errno;
        }
    }
    return 0;
}

void cleave_touch(void *address, size_t byte_count, size_t page_byte_count) {
    volatile char *bytes = address;
    for (size_t offset = 0; offset < byte_count; offset += page_byte_count) {
        bytes[offset] = 0;
    }
}

int cleave_eventfd(void) {
    int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

int cleave_wait_set_open(int *timer) {
    const int set = epoll_create1(EPOLL_CLOEXEC);
    if (set < 0) {
        return -errno;
    }
    const int clock = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    const int added = clock < 0 ? -errno : cleave_wait_set_add(set, clock);
    if (added < 0) {
        if (clock >= 0) {
            close(clock);
        }
        close(set);
        return added;
    }
    *timer = clock;
    return set;
}

int cleave_wait_set_add(int set, int fd) {
    struct epoll_event event = {.events = EPOLLIN};
    return epoll_ctl(set, EPOLL_CTL_ADD, fd, &event) == 0 ? 0 : -errno;
}

void cleave_wait_set_remove(int set, int fd) {
    struct epoll_event event = {.events = 0};
    epoll_ctl(set, EPOLL_CTL_DEL, fd, &event);
}

void cleave_wait_set_arm(int timer, uint64_t nanoseconds) {
    const uint64_t second = 1000000000;
    // What has expired before does not count any more once the time is set anew.
    const struct itimerspec time = {
        .it_value = {
            .tv_sec = (time_t)(nanoseconds / second), .tv_nsec = (long)(nanoseconds % second)}};
    timerfd_settime(timer, TFD_TIMER_ABSTIME, &time, NULL);
}

int cleave_event_wait(int fd, int other_fd, uint64_t nanoseconds) {
    // poll ignores negative descriptors.
    struct pollfd entries[2] = {{.fd = fd, .events = POLLIN}, {.fd = other_fd, .events = POLLIN}};
    const struct timespec limit = {
        .tv_sec = (time_t)(nanoseconds / 1000000000u),
        .tv_nsec = (long)(nanoseconds % 1000000000u)};
    return ppoll(entries, 2, &limit, NULL) > 0;
}

int cleave_perf_open(uint32_t type, uint64_t config) {
    struct perf_event_attr attributes = {
        .type = type,
        .size = sizeof attributes,
        .config = config,
        .read_format = PERF_FORMAT_TOTAL_TIME_ENABLED | PERF_FORMAT_TOTAL_TIME_RUNNING,
        .disabled = 1,
        .inherit = 1,
        .exclude_kernel = 1,
        .exclude_hv = 1};
    long fd = syscall(SYS_perf_event_open, &attributes, 0, -1, -1, PERF_FLAG_FD_CLOEXEC);
    return fd < 0 ? -errno : (int)fd;
}

void cleave_perf_start(int fd) {
    ioctl(fd, PERF_EVENT_IOC_RESET, 0);
    ioctl(fd, PERF_EVENT_IOC_ENABLE, 0);
}

void cleave_perf_stop(int fd) { ioctl(fd, PERF_EVENT_IOC_DISABLE, 0); }

int cleave_perf_read(int fd, struct cleave_perf_reading *reading) {
    ssize_t count = read(fd, reading, sizeof *reading);
    return count == (ssize_t)sizeof *reading ? 0 : count < 0 ? -errno : -EIO;
}

// Lock-free atomics: a handler may store them and any thread may read.
static int stop_signal;
static unsigned stop_grace_milliseconds;

// Milliseconds of the monotonic clock at which the first signal came; 0 before.
static long long stop_time;

static long long monotonic_milliseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

// As if the signal had not been caught, so that whoever started this sees which one it was.
static void end_by(int signal_number) {
    signal(signal_number, SIG_DFL);
    sigset_t own;
    sigemptyset(&own);
    sigaddset(&own, signal_number);
    pthread_sigmask(SIG_UNBLOCK, &own, NULL);
    raise(signal_number);
}

static void remember_stop(int signal_number) {
    const int saved = errno;
    const long long now = monotonic_milliseconds();
    long long first = 0;
    if (!__atomic_compare_exchange_n(&stop_time, &first, now, 0, __ATOMIC_RELAXED,
                                     __ATOMIC_RELAXED)) {
        // `timeout` sends one to its child and one to the group: both are one request.
        if (now - first > 100) {
            end_by(signal_number);
        }
        errno = saved;
        return;
    }
    __atomic_store_n(&stop_signal, signal_number, __ATOMIC_RELAXED);
    const unsigned grace = __atomic_load_n(&stop_grace_milliseconds, __ATOMIC_RELAXED);
    const struct itimerval limit = {
        .it_value = {.tv_sec = grace / 1000, .tv_usec = (suseconds_t)(grace % 1000) * 1000}};
    setitimer(ITIMER_REAL, &limit, NULL);
    errno = saved;
}

static void end_grace(int signal_number) {
    const int stop = __atomic_load_n(&stop_signal, __ATOMIC_RELAXED);
    end_by(stop == 0 ? signal_number : stop);
}

int cleave_stop_signal_catch(unsigned grace_milliseconds) {
    __atomic_store_n(&stop_grace_milliseconds, grace_milliseconds, __ATOMIC_RELAXED);
    struct sigaction action = {.sa_handler = remember_stop};
    struct sigaction alarm = {.sa_handler = end_grace};
    sigemptyset(&alarm.sa_mask);
    if (sigaction(SIGALRM, &alarm, NULL) != 0) {
        return -errno;
    }
    sigemptyset(&action.sa_mask);
    if (sigaction(SIGTERM, &action, NULL) != 0 || sigaction(SIGINT, &action, NULL) != 0) {
        return -errno;
    }
    // A terminal that closes asks for the same, unless whoever started this wants it ignored.
    struct sigaction hangup;
    if (sigaction(SIGHUP, NULL, &hangup) == 0 && hangup.sa_handler != SIG_IGN &&
        sigaction(SIGHUP, &action, NULL) != 0) {
        return -errno;
    }
    // The process that started this one may have blocked them.
    sigset_t wanted;
    sigemptyset(&wanted);
    sigaddset(&wanted, SIGTERM);
    sigaddset(&wanted, SIGINT);
    sigaddset(&wanted, SIGALRM);
    return -pthread_sigmask(SIG_UNBLOCK, &wanted, NULL);
}

int cleave_stop_signal(void) { return __atomic_load_n(&stop_signal, __ATOMIC_RELAXED); }

// By the signal's number.
static int requests[32];

static void remember_request(int signal_number) {
    __atomic_store_n(&requests[signal_number % 32], 1, __ATOMIC_RELAXED);
}

int cleave_request_signal_catch(int signal_number) {
    struct sigaction action = {.sa_handler = remember_request};
    sigemptyset(&action.sa_mask);
    if (sigaction(signal_number, &action, NULL) != 0) {
        return -errno;
    }
    sigset_t wanted;
    sigemptyset(&wanted);
    sigaddset(&wanted, signal_number);
    return -pthread_sigmask(SIG_UNBLOCK, &wanted, NULL);
}

int cleave_request_signal_take(int signal_number) {
    return __atomic_exchange_n(&requests[signal_number % 32], 0, __ATOMIC_RELAXED);
}

int cleave_cpu_brand(char *text, size_t byte_count) {
    if (byte_count < 49) {
        return 0;
    }
#if defined(__x86_64__)
    unsigned words[12];
    for (unsigned leaf = 0; leaf < 3; leaf++) {
        unsigned *out = words + 4 * leaf;
        if (!__get_cpuid(0x80000002u + leaf, out, out + 1, out + 2, out + 3)) {
            return 0;
        }
    }
    memcpy(text, words, sizeof words);
    text[48] = 0;
    return 1;
#else
    (void)text;
    return 0;
#endif
}

int cleave_counter_is_invariant(void) {
#if defined(__x86_64__)
    unsigned a, b, c, d;
    return __get_cpuid(0x80000007u, &a, &b, &c, &d) && (d & (1u << 8)) != 0;
#else
    return 1;
#endif
}

uint64_t cleave_counter_stated_hertz(void) {
#if defined(__aarch64__)
    uint64_t hertz;
    __asm__ volatile("mrs %0, cntfrq_el0" : "=r"(hertz));
    return hertz;
#else
    return 0;
#endif
}

int cleave_hypervisor(char *name, size_t byte_count) {
    if (byte_count < 13) {
        return 0;
    }
    name[0] = 0;
#if defined(__x86_64__)
    unsigned a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || (c & (1u << 31)) == 0) {
        return 0;
    }
    __cpuid(0x40000000u, a, b, c, d);
    memcpy(name, &b, 4);
    memcpy(name + 4, &c, 4);
    memcpy(name + 8, &d, 4);
    name[12] = 0;
    return 1;
#else
    return 0;
#endif
}

const char *cleave_compiler(void) { return __VERSION__; }

// Whether a descriptor without a file type is an eventfd.
static int is_eventfd(int fd) {
    char path[64], target[32];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    const ssize_t length = readlink(path, target, sizeof target);
    if (length >= 0) {
        static const char name[] = "anon_inode:[eventfd]";
        return length == sizeof name - 1 && memcmp(target, name, sizeof name - 1) == 0;
    }
    // Without procfs: of these descriptors only an eventfd takes 8 bytes that add nothing.
    const uint64_t nothing = 0;
    return write(fd, &nothing, sizeof nothing) == sizeof nothing;
}

static int find_notification_kind(int fd, int *kind) {
    struct stat status;
    if (fstat(fd, &status) != 0) {
        return -errno;
    }
    if (S_ISFIFO(status.st_mode)) {
        *kind = CLEAVE_NOTIFICATION_PIPE;
        return 0;
    }
    if (S_ISSOCK(status.st_mode)) {
        int type = 0, listens = 0;
        socklen_t size = sizeof type;
        if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) != 0) {
            return -errno;
        }
        size = sizeof listens;
        if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) != 0) {
            return -errno;
        }
        *kind = CLEAVE_NOTIFICATION_SOCKET;
        return type == SOCK_STREAM && !listens ? 0 : -EPROTOTYPE;
    }
    *kind = CLEAVE_NOTIFICATION_EVENTFD;
    return (status.st_mode & S_IFMT) == 0 && is_eventfd(fd) ? 0 : -EPROTOTYPE;
}

int cleave_notification_open(int fd, int writes, int *kind) {
    const int flags = fcntl(fd, F_GETFL);
    if (flags < 0) {
        return -errno;
    }
    // A descriptor that only names a file cannot be asked for anything else.
    const int mode = flags & O_ACCMODE;
    if ((flags & O_PATH) != 0 || mode == (writes ? O_RDONLY : O_WRONLY)) {
        return -EACCES;
    }
    const int result = find_notification_kind(fd, kind);
    if (result < 0) {
        return result;
    }
    const int own = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    if (own < 0) {
        return -errno;
    }
    // Sockets get the flag with each message.
    if (*kind != CLEAVE_NOTIFICATION_SOCKET && (flags & O_NONBLOCK) == 0 &&
        fcntl(own, F_SETFL, flags | O_NONBLOCK) != 0) {
        const int code = errno;
        close(own);
        return -code;
    }
    return own;
}

// A pipe has no flag against SIGPIPE: it is blocked in this thread, and consumed if it was raised.
static ssize_t write_to_pipe(int fd, const void *bytes, size_t byte_count) {
    sigset_t pipe_signal, before, pending;
    sigemptyset(&pipe_signal);
    sigaddset(&pipe_signal, SIGPIPE);
    sigpending(&pending);
    pthread_sigmask(SIG_BLOCK, &pipe_signal, &before);
    const ssize_t written = write(fd, bytes, byte_count);
    const int code = errno;
    if (written < 0 && code == EPIPE && sigismember(&pending, SIGPIPE) == 0) {
        const struct timespec now = {0, 0};
        while (sigtimedwait(&pipe_signal, NULL, &now) < 0 && errno == EINTR) {
        }
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    errno = code;
    return written;
}

static ssize_t send_once(int fd, int kind) {
    const uint64_t one = 1;
    switch (kind) {
    case CLEAVE_NOTIFICATION_PIPE: return write_to_pipe(fd, &one, sizeof one);
    case CLEAVE_NOTIFICATION_SOCKET:
        return send(fd, &one, sizeof one, MSG_DONTWAIT | MSG_NOSIGNAL);
    default: return write(fd, &one, sizeof one);
    }
}

int cleave_notification_send(int fd, int kind) {
    ssize_t sent;
    do {
        sent = send_once(fd, kind);
    } while (sent < 0 && errno == EINTR);
    // Full: notifications wait that the peer has not taken, so this one is not lost.
    return sent > 0 || errno == EAGAIN || errno == EWOULDBLOCK;
}

int cleave_notification_drain(int fd, int kind) {
    // A peer that writes as fast as this reads does not keep it here for ever.
    enum { MAXIMUM_READS = 256 };
    unsigned char bytes[512];
    int any = 0;
    for (int reads = 0; reads < MAXIMUM_READS; reads++) {
        const ssize_t got = kind == CLEAVE_NOTIFICATION_SOCKET
            ? recv(fd, bytes, sizeof bytes, MSG_DONTWAIT)
            : read(fd, bytes, sizeof bytes);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        any |= got > 0;
        // An eventfd gives 8 bytes, and one read clears it.
        if (got < (ssize_t)sizeof bytes) {
            break;
        }
    }
    return any;
}

static int unix_address(const char *path, struct sockaddr_un *address) {
    memset(address, 0, sizeof *address);
    address->sun_family = AF_UNIX;
    if (strlen(path) >= sizeof address->sun_path) {
        return -ENAMETOOLONG;
    }
    strcpy(address->sun_path, path);
    return 0;
}

// A socket for `path`, whose address it fills in.
static int unix_socket(const char *path, struct sockaddr_un *address) {
    const int named = unix_address(path, address);
    if (named < 0) {
        return named;
    }
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    return fd < 0 ? -errno : fd;
}

// `fd` if `done` is not 0, otherwise errno, with `fd` closed.
static int unix_result(int fd, int done) {
    if (done) {
        return fd;
    }
    const int code = errno;
    close(fd);
    return -code;
}

int cleave_unix_listen(const char *path, int mode) {
    struct sockaddr_un address;
    const int fd = unix_socket(path, &address);
    if (fd < 0) {
        return fd;
    }
    // Nobody can connect before it listens, so nobody can with another mode.
    return unix_result(
        fd,
        bind(fd, (const struct sockaddr *)&address, sizeof address) == 0
            && (mode < 0 || chmod(path, (mode_t)mode) == 0) && listen(fd, 8) == 0);
}

int cleave_unix_connect(const char *path) {
    struct sockaddr_un address;
    const int fd = unix_socket(path, &address);
    if (fd < 0) {
        return fd;
    }
    return unix_result(
        fd, connect(fd, (const struct sockaddr *)&address, sizeof address) == 0);
}

int cleave_unix_accept(int fd) {
    int connection;
    do {
        connection = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    } while (connection < 0 && (errno == EINTR || errno == ECONNABORTED));
    return connection < 0 ? -errno : connection;
}

int cleave_unix_identify(const char *path, uint64_t identity[2]) {
    struct stat status;
    if (lstat(path, &status) != 0) {
        return -errno;
    }
    identity[0] = status.st_dev;
    identity[1] = status.st_ino;
    return S_ISSOCK(status.st_mode);
}

int cleave_unix_adopt(int fd) {
    struct sockaddr_un peer;
    socklen_t size = sizeof peer;
    int type = 0;
    socklen_t type_size = sizeof type;
    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &type_size) != 0) {
        return -errno;
    }
    if (getpeername(fd, (struct sockaddr *)&peer, &size) != 0) {
        return -errno;
    }
    if (type != SOCK_STREAM || peer.sun_family != AF_UNIX) {
        return -EPROTOTYPE;
    }
    const int own = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    if (own < 0) {
        return -errno;
    }
    const int flags = fcntl(own, F_GETFL);
    if (flags < 0 || fcntl(own, F_SETFL, flags | O_NONBLOCK) != 0) {
        const int code = errno;
        close(own);
        return -code;
    }
    return own;
}

int cleave_unix_take_listener(int fd, char *path, size_t byte_count) {
    struct sockaddr_un own;
    socklen_t size = sizeof own;
    int type = 0, listens = 0;
    socklen_t word = sizeof type;
    if (getsockname(fd, (struct sockaddr *)&own, &size) != 0 ||
        getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &word) != 0 ||
        getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &word) != 0) {
        return -errno;
    }
    if (type != SOCK_STREAM || own.sun_family != AF_UNIX) {
        return -EPROTOTYPE;
    }
    if (!listens) {
        return -EINVAL;
    }
    const int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0 ||
        fcntl(fd, F_SETFD, FD_CLOEXEC) != 0) {
        return -errno;
    }
    // The kernel ends the name with a 0, unless it fills its place.
    const size_t offset = offsetof(struct sockaddr_un, sun_path);
    const size_t length = size > offset ? strnlen(own.sun_path, size - offset) : 0;
    if (length >= byte_count) {
        return -ENAMETOOLONG;
    }
    memcpy(path, own.sun_path, length);
    path[length] = 0;
    return 0;
}

int cleave_notify_manager(const char *path, const char *state) {
    if (path[0] != '/' && path[0] != '@') {
        return 0;
    }
    struct sockaddr_un address;
    const int named = unix_address(path, &address);
    if (named < 0) {
        return named;
    }
    const size_t size = offsetof(struct sockaddr_un, sun_path) + strlen(path);
    if (path[0] == '@') {
        address.sun_path[0] = 0;
    }
    const int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return -errno;
    }
    const ssize_t sent = sendto(
        fd, state, strlen(state), MSG_NOSIGNAL | MSG_DONTWAIT, (const struct sockaddr *)&address,
        (socklen_t)size);
    const int code = errno;
    close(fd);
    return sent < 0 ? -code : 0;
}

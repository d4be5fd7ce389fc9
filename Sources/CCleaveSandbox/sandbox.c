// The filter is a program for the kernel's BPF machine: a list of system calls that are allowed,
// some for certain arguments only. It is made here rather than by a library, as it is a page of
// code, and as the programs need nothing beyond libc and libnuma where they run.
//
//   a call on the list                    is carried out
//   clone3, whose arguments lie in
//     memory and cannot be judged         ENOSYS: libc falls back to clone
//   another architecture's call           ends the process at once
//   all else                              SIGSYS, whose handler says which one it was
//
// What the kernel finds to be allowed whatever its arguments it remembers in a bitmap, so those
// cost nothing. The list says for each call which part of the program needs it.
#define _GNU_SOURCE
#include "cleave_sandbox.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/if_tun.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef PR_SET_VMA
#define PR_SET_VMA 0x53564d41
#endif
// Newer libc asks by it whether a descriptor is a terminal. The kernel's header that names it and
// libc's own exclude each other.
#define TERMINAL_SETTINGS UINT64_C(0x802c542a)

#if defined(__x86_64__)
enum { ARCHITECTURE = AUDIT_ARCH_X86_64 };
#elif defined(__aarch64__)
enum { ARCHITECTURE = AUDIT_ARCH_AARCH64 };
#else
enum { ARCHITECTURE = 0 };
#endif

// Allowed whatever the arguments.
static const int allowed[] = {
    // Descriptors of all kinds: kicks, calls, sockets, files.
    SYS_read, SYS_write, SYS_readv, SYS_writev, SYS_pread64, SYS_pwrite64, SYS_preadv, SYS_pwritev,
    SYS_close, SYS_lseek, SYS_fcntl, SYS_dup, SYS_dup3, SYS_fstat, SYS_fstatfs, SYS_pipe2,
    SYS_eventfd2, SYS_ppoll, SYS_pselect6, SYS_epoll_create1, SYS_epoll_ctl, SYS_epoll_pwait,
    SYS_timerfd_create, SYS_timerfd_settime, SYS_timerfd_gettime,
    // Sockets: vhost-user, control, metrics, the service manager.
    SYS_connect, SYS_bind, SYS_listen, SYS_accept, SYS_accept4, SYS_shutdown, SYS_sendto,
    SYS_recvfrom, SYS_sendmsg, SYS_recvmsg, SYS_sendmmsg, SYS_recvmmsg, SYS_getsockname,
    SYS_getpeername, SYS_getsockopt, SYS_setsockopt,
    // Memory: guests' regions, arenas, the heap.
    SYS_munmap, SYS_mremap, SYS_madvise, SYS_brk, SYS_memfd_create, SYS_ftruncate,
    SYS_fallocate, SYS_msync,
    // NUMA: where pages lie and are to lie.
    SYS_mbind, SYS_get_mempolicy, SYS_set_mempolicy, SYS_getcpu,
    // Threads: those of the switch, and those that end and start while it runs.
    SYS_futex, SYS_set_robust_list, SYS_gettid, SYS_exit, SYS_sched_yield, SYS_sched_setaffinity,
    SYS_sched_getaffinity, SYS_sched_getparam, SYS_sched_getscheduler,
    SYS_sched_get_priority_max, SYS_sched_get_priority_min,
#ifdef SYS_rseq
    SYS_rseq,
#endif
    // Signals: requests of the operator, memory that its guest took away, the end.
    SYS_rt_sigaction, SYS_rt_sigprocmask, SYS_rt_sigreturn, SYS_rt_sigtimedwait,
    SYS_rt_sigsuspend, SYS_sigaltstack, SYS_signalfd4, SYS_setitimer, SYS_getitimer,
    SYS_restart_syscall, SYS_exit_group,
    // Time, and facts of the process.
    SYS_clock_gettime, SYS_clock_getres, SYS_clock_nanosleep, SYS_nanosleep, SYS_gettimeofday,
    SYS_getpid, SYS_getppid, SYS_getuid, SYS_geteuid, SYS_getgid, SYS_getegid, SYS_getrusage,
    SYS_getrandom, SYS_sysinfo, SYS_uname, SYS_umask,
    // Files by name: configuration, facts of the machine, captures, text for a collector, and the
    // files of sockets. Rights of the user, not this list, say which ones.
    SYS_openat, SYS_newfstatat, SYS_statx, SYS_statfs, SYS_faccessat, SYS_faccessat2,
    SYS_readlinkat, SYS_getdents64, SYS_getcwd, SYS_unlinkat, SYS_renameat, SYS_renameat2,
    SYS_fchmod, SYS_fchmodat, SYS_fsync, SYS_fdatasync, SYS_flock,
#if defined(__x86_64__)
    // The same by the older calls that this architecture has, too.
    SYS_open, SYS_stat, SYS_lstat, SYS_access, SYS_readlink, SYS_unlink, SYS_rename, SYS_chmod,
    SYS_poll, SYS_select, SYS_epoll_wait, SYS_dup2, SYS_pipe, SYS_time,
#endif
};

enum { VALUE_LIMIT = 16 };

// Allowed if an argument, seen through a mask, is one of some values.
struct condition {
    int number, argument;
    uint64_t mask;
    int value_count;
    uint64_t values[VALUE_LIMIT];
};

enum {
    OTHER_SPACES = CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER |
                   CLONE_NEWPID | CLONE_NEWNET
};
#define WHOLE UINT64_MAX
#define LOW UINT64_C(0xffffffff)

static const struct condition conditions[] = {
    // A thread of this process, and nothing else.
    {SYS_clone, 0, (unsigned)(CLONE_THREAD | OTHER_SPACES), 1, {CLONE_THREAD}},
    // No code but what is there.
    {SYS_mmap, 2, PROT_EXEC, 1, {0}},
    {SYS_mprotect, 2, PROT_EXEC, 1, {0}},
    // What ports are made of.
    {SYS_socket, 0, LOW, 4, {AF_UNIX, AF_INET, AF_INET6, AF_PACKET}},
    {SYS_socketpair, 0, LOW, 1, {AF_UNIX}},
    // A terminal's width; how much there is to read; interfaces that a port opens.
    {SYS_ioctl, 1, LOW, 13,
     {TCGETS, TERMINAL_SETTINGS, TIOCGWINSZ, FIONREAD, FIONBIO, TUNSETIFF, TUNGETIFF,
      TUNSETVNETHDRSZ, TUNSETVNETLE, TUNSETOFFLOAD, SIOCGIFINDEX, SIOCSIFMTU, SIOCGIFMTU}},
    // Names of threads and of memory.
    {SYS_prctl, 0, LOW, 3, {PR_SET_NAME, PR_GET_NAME, PR_SET_VMA}},
    // Limits are read, not set.
    {SYS_prlimit64, 2, WHOLE, 1, {0}},
    // Pages of this process.
    {SYS_move_pages, 0, LOW, 1, {0}},
};

enum { CONDITION_COUNT = sizeof conditions / sizeof conditions[0] };
enum { ALLOWED_COUNT = sizeof allowed / sizeof allowed[0] };

// MARK: The filter

enum { INSTRUCTION_LIMIT = 640 };

struct program {
    struct sock_filter instructions[INSTRUCTION_LIMIT];
    unsigned count;
};

static void add(struct program *program, struct sock_filter instruction) {
    if (program->count < INSTRUCTION_LIMIT) {
        program->instructions[program->count] = instruction;
    }
    program->count += 1;
}

static void load(struct program *program, size_t offset) {
    add(program, (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)offset));
}

static void answer(struct program *program, uint32_t action) {
    add(program, (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, action));
}

// Goes on with the next instruction if the loaded word is `value`, otherwise leaves out `count`.
static void unless_equal(struct program *program, uint32_t value, unsigned count) {
    add(program, (struct sock_filter)BPF_JUMP(
        BPF_JMP | BPF_JEQ | BPF_K, value, 0, (uint8_t)count));
}

static void mask(struct program *program, uint32_t bits) {
    add(program, (struct sock_filter)BPF_STMT(BPF_ALU | BPF_AND | BPF_K, bits));
}

// Both architectures are little-endian: the lower half of an argument comes first.
static size_t argument_offset(int argument) {
    return offsetof(struct seccomp_data, args) + sizeof(uint64_t) * (size_t)argument;
}

static void add_condition(struct program *program, const struct condition *one, uint32_t denial) {
    // Seven instructions for a value, and the last answer.
    unless_equal(program, (uint32_t)one->number, (unsigned)(7 * one->value_count + 1));
    for (int index = 0; index < one->value_count; index += 1) {
        const uint64_t value = one->values[index];
        load(program, argument_offset(one->argument));
        mask(program, (uint32_t)one->mask);
        unless_equal(program, (uint32_t)value, 4);
        load(program, argument_offset(one->argument) + sizeof(uint32_t));
        mask(program, (uint32_t)(one->mask >> 32));
        unless_equal(program, (uint32_t)(value >> 32), 1);
        answer(program, SECCOMP_RET_ALLOW);
    }
    answer(program, denial);
}

static void make(struct program *program, uint32_t denial) {
    load(program, offsetof(struct seccomp_data, arch));
    unless_equal(program, ARCHITECTURE, 1);
    add(program, (struct sock_filter)BPF_STMT(BPF_JMP | BPF_JA, 1));
    answer(program, SECCOMP_RET_KILL_PROCESS);
    load(program, offsetof(struct seccomp_data, nr));
    for (int index = 0; index < ALLOWED_COUNT; index += 1) {
        unless_equal(program, (uint32_t)allowed[index], 1);
        answer(program, SECCOMP_RET_ALLOW);
    }
#ifdef SYS_clone3
    unless_equal(program, SYS_clone3, 1);
    answer(program, SECCOMP_RET_ERRNO | ENOSYS);
#endif
    const struct condition own = {SYS_tgkill, 0, LOW, 1, {(uint64_t)getpid()}};
    add_condition(program, &own, denial);
    for (int index = 0; index < CONDITION_COUNT; index += 1) {
        add_condition(program, &conditions[index], denial);
    }
    answer(program, denial);
}

// MARK: What is said of a call that is not allowed

enum { TEXT_LIMIT = 512 };
static char text_before[TEXT_LIMIT], text_after[TEXT_LIMIT];

static size_t append(char *line, size_t at, const char *text) {
    const size_t count = strlen(text);
    memcpy(line + at, text, count);
    return at + count;
}

// In a signal handler: no allocation, no stdio.
static void say_and_end(int signal_number, siginfo_t *info, void *context) {
    (void)context;
    char line[2 * TEXT_LIMIT + 16];
    char digits[12];
    size_t first = sizeof digits - 1;
    digits[first] = 0;
    unsigned number = (unsigned)info->si_syscall;
    do {
        digits[--first] = (char)('0' + number % 10);
        number /= 10;
    } while (number != 0);
    size_t count = append(line, 0, text_before);
    count = append(line, count, digits + first);
    count = append(line, count, text_after);
    // Nothing is left to do if nobody takes it.
    const ssize_t written = write(STDERR_FILENO, line, count);
    (void)written;
    // Not by the filter's own hand: whoever started this sees the same signal.
    signal(signal_number, SIG_DFL);
    sigset_t own;
    sigemptyset(&own);
    sigaddset(&own, signal_number);
    pthread_sigmask(SIG_UNBLOCK, &own, NULL);
    raise(signal_number);
}

int cleave_sandbox_enter(enum cleave_sandbox_mode mode, const char *before, const char *after) {
    if (ARCHITECTURE == 0) {
        return -ENOSYS;
    }
    snprintf(text_before, sizeof text_before, "%s", before);
    snprintf(text_after, sizeof text_after, "%s", after);
    static struct program program;
    program.count = 0;
    make(&program, mode == CLEAVE_SANDBOX_LOG ? SECCOMP_RET_LOG : SECCOMP_RET_TRAP);
    if (program.count > INSTRUCTION_LIMIT) {
        return -E2BIG;
    }
    struct sigaction action = {.sa_sigaction = say_and_end, .sa_flags = SA_SIGINFO | SA_NODEFER};
    sigemptyset(&action.sa_mask);
    if (sigaction(SIGSYS, &action, NULL) != 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
        return -errno;
    }
    const struct sock_fprog filter = {
        .len = (unsigned short)program.count, .filter = program.instructions};
    const long result = syscall(
        SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &filter);
    // A positive result is the thread that has a filter which no other has.
    return result < 0 ? -errno : result > 0 ? -EBUSY : 0;
}

#define _GNU_SOURCE
#include "host_process.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

int cleave_test_spawn(
    char *const words[], char *const environment[], int input, int output, int errors) {
    // Out of the way of 0 to 2, which they might be themselves.
    const int own[3] = {
        fcntl(input, F_DUPFD_CLOEXEC, 3), fcntl(output, F_DUPFD_CLOEXEC, 3),
        fcntl(errors, F_DUPFD_CLOEXEC, 3)};
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    for (int place = 0; place < 3; place++) {
        posix_spawn_file_actions_adddup2(&actions, own[place], place);
    }
    posix_spawn_file_actions_addclosefrom_np(&actions, 3);
    pid_t identifier = 0;
    const int result = posix_spawn(&identifier, words[0], &actions, NULL, words, environment);
    posix_spawn_file_actions_destroy(&actions);
    for (int place = 0; place < 3; place++) {
        if (own[place] >= 0) {
            close(own[place]);
        }
    }
    return result == 0 ? identifier : -result;
}

int cleave_test_await(int identifier) {
    int status = 0;
    while (waitpid(identifier, &status, 0) < 0) {
        if (errno != EINTR) {
            return -errno;
        }
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static int ask(int request, int thread_id, void *address, void *data) {
    return ptrace(request, thread_id, address, data) == -1 ? -errno : 0;
}

// The next stop of the thread; 0, or a negated errno.
static int await_stop(int thread_id, int *status) {
    while (waitpid(thread_id, status, __WALL) < 0) {
        if (errno != EINTR) {
            return -errno;
        }
    }
    return WIFSTOPPED(*status) ? 0 : -ESRCH;
}

int cleave_test_freeze(int thread_id) {
    int result = ask(PTRACE_SEIZE, thread_id, NULL, (void *)(long)PTRACE_O_TRACESYSGOOD);
    if (result == 0) {
        result = ask(PTRACE_INTERRUPT, thread_id, NULL, NULL);
    }
    int status = 0;
    return result == 0 ? await_stop(thread_id, &status) : result;
}

int cleave_test_thaw(int thread_id) { return ask(PTRACE_DETACH, thread_id, NULL, NULL); }

// Of a thread that has stopped at the entry of a call.
static int set_call(int thread_id, int number) {
#if defined(__x86_64__)
    const size_t place = offsetof(struct user, regs.orig_rax);
    return ask(PTRACE_POKEUSER, thread_id, (void *)place, (void *)(long)number);
#elif defined(__aarch64__)
    struct iovec value = {&number, sizeof number};
    return ask(PTRACE_SETREGSET, thread_id, (void *)NT_ARM_SYSTEM_CALL, &value);
#else
    (void)thread_id, (void)number;
    return -ENOSYS;
#endif
}

int cleave_test_inject(int thread_id, int number) {
    int result = cleave_test_freeze(thread_id);
    int status = 0;
    // On to the next entry of a call.
    while (result == 0 && (status >> 8) != (SIGTRAP | 0x80)) {
        result = ask(PTRACE_SYSCALL, thread_id, NULL, NULL);
        if (result == 0) {
            result = await_stop(thread_id, &status);
        }
    }
    // The stop may be the end of the call in which it was interrupted: the next one is an entry.
    struct __ptrace_syscall_info information = {0};
    while (result == 0) {
        if (ptrace(PTRACE_GET_SYSCALL_INFO, thread_id, sizeof information, &information) < 0) {
            return -errno;
        }
        if (information.op == PTRACE_SYSCALL_INFO_ENTRY) {
            break;
        }
        result = ask(PTRACE_SYSCALL, thread_id, NULL, NULL);
        if (result == 0) {
            result = await_stop(thread_id, &status);
        }
    }
    if (result == 0) {
        result = set_call(thread_id, number);
    }
    return result == 0 ? cleave_test_thaw(thread_id) : result;
}

int cleave_test_start_program(void) { return SYS_execve; }

int cleave_test_manager(const char *path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    const int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return -errno;
    }
    const int on = 1;
    if (setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof on) != 0 ||
        bind(fd, (const struct sockaddr *)&address, sizeof address) != 0) {
        const int code = errno;
        close(fd);
        return -code;
    }
    return fd;
}

int cleave_test_hear(int fd, char *text, int byte_count, int *process) {
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(struct ucred))];
    } control;
    struct iovec piece = {.iov_base = text, .iov_len = (size_t)byte_count};
    struct msghdr message = {
        .msg_iov = &piece, .msg_iovlen = 1, .msg_control = &control,
        .msg_controllen = sizeof control};
    const ssize_t count = recvmsg(fd, &message, 0);
    if (count < 0) {
        return -errno;
    }
    const struct cmsghdr *const header = CMSG_FIRSTHDR(&message);
    if (header == NULL || header->cmsg_type != SCM_CREDENTIALS) {
        return -EPROTO;
    }
    struct ucred sender;
    memcpy(&sender, CMSG_DATA(header), sizeof sender);
    *process = sender.pid;
    return (int)count;
}

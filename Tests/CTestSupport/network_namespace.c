#define _GNU_SOURCE
#include "cleave_test_network.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

int cleave_test_enter_network(void) {
    const int before = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
    if (before < 0) {
        return -errno;
    }
    if (unshare(CLONE_NEWNET) != 0) {
        const int code = errno;
        close(before);
        return -code;
    }
    return before;
}

int cleave_test_leave_network(int before) {
    const int result = setns(before, CLONE_NEWNET) == 0 ? 0 : -errno;
    close(before);
    return result;
}

int cleave_test_shell(const char *command) {
    const int status = system(command);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

int cleave_test_observe(const char *interface) {
    const int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    const int on = 1;
    struct sockaddr_ll address = {
        .sll_family = AF_PACKET,
        .sll_protocol = htons(ETH_P_ALL),
        .sll_ifindex = (int)if_nametoindex(interface)};
    if (fd < 0) {
        return -errno;
    }
    if (setsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, &on, sizeof on) != 0 ||
        bind(fd, (const struct sockaddr *)&address, sizeof address) != 0) {
        const int code = errno;
        close(fd);
        return -code;
    }
    return fd;
}

int cleave_test_allow_network(int is_allowed) {
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2];
    if (syscall(SYS_capget, &header, data) != 0) {
        return -errno;
    }
    const unsigned bits = 1u << CAP_NET_ADMIN | 1u << CAP_NET_RAW;
    data[0].effective = is_allowed ? data[0].effective | bits : data[0].effective & ~bits;
    return syscall(SYS_capset, &header, data) == 0 ? 0 : -errno;
}

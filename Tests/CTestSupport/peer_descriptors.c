#define _GNU_SOURCE
#include "peer_descriptors.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

int peer_eventfd(unsigned value) { return eventfd(value, 0); }

int peer_memfd(void) { return memfd_create("peer", 0); }

int peer_timerfd(void) { return timerfd_create(CLOCK_MONOTONIC, 0); }

int peer_epoll(void) { return epoll_create1(0); }

int peer_signalfd(void) {
    sigset_t none;
    sigemptyset(&none);
    return signalfd(-1, &none, 0);
}

int peer_path(void) { return open("/", O_PATH); }

int peer_send(
    int socket, const void *bytes, unsigned long byte_count, const int *descriptors, int count) {
    enum { MOST = 253 };
    union {
        struct cmsghdr header;
        unsigned char bytes[CMSG_SPACE(MOST * sizeof(int))];
    } control;
    if (count < 1 || count > MOST) {
        return -1;
    }
    const unsigned long size = (unsigned long)count * sizeof(int);
    struct iovec piece = {.iov_base = (void *)bytes, .iov_len = byte_count};
    struct msghdr message = {
        .msg_iov = &piece,
        .msg_iovlen = 1,
        .msg_control = &control,
        .msg_controllen = CMSG_SPACE(size)};
    control.header.cmsg_level = SOL_SOCKET;
    control.header.cmsg_type = SCM_RIGHTS;
    control.header.cmsg_len = CMSG_LEN(size);
    memcpy(CMSG_DATA(&control.header), descriptors, size);
    return sendmsg(socket, &message, MSG_NOSIGNAL) == (long)byte_count ? 0 : -1;
}

int peer_sealable(unsigned long byte_count) {
    const int fd = memfd_create("peer", MFD_ALLOW_SEALING);
    return fd >= 0 && ftruncate(fd, (off_t)byte_count) == 0 ? fd : -1;
}

int peer_punch(int fd, unsigned long offset, unsigned long byte_count) {
    return fallocate(
        fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)byte_count);
}

// What vhost-user needs of the system: messages with descriptors, and memory from another process.
#define _GNU_SOURCE
#include "cleave_socket.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

enum { HUGETLBFS = 0x958458f6 };

// Room for the descriptors of a message and for one foreign block.
union control {
    struct cmsghdr header;
    unsigned char bytes[CMSG_SPACE(CLEAVE_MAXIMUM_DESCRIPTORS * sizeof(int)) + CMSG_SPACE(16)];
};

// Takes over the descriptors of one block; those for which there is no room are closed.
static void take_block(
    struct cmsghdr *block, int *descriptors, struct cleave_received *received) {
    const size_t byte_count = block->cmsg_len - CMSG_LEN(0);
    received->block_count++;
    for (size_t offset = 0; offset + sizeof(int) <= byte_count; offset += sizeof(int)) {
        int fd;
        memcpy(&fd, CMSG_DATA(block) + offset, sizeof fd);
        if (received->descriptor_count < CLEAVE_MAXIMUM_DESCRIPTORS) {
            descriptors[received->descriptor_count++] = fd;
        } else {
            close(fd);
            received->is_truncated = 1;
        }
    }
}

int cleave_socket_receive(
    int socket, void *bytes, size_t byte_count, int *descriptors,
    struct cleave_received *received) {
    union control control;
    struct iovec piece = {.iov_base = bytes, .iov_len = byte_count};
    struct msghdr message = {
        .msg_iov = &piece,
        .msg_iovlen = 1,
        .msg_control = &control,
        .msg_controllen = sizeof control};
    ssize_t got;
    memset(received, 0, sizeof *received);
    do {
        got = recvmsg(socket, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    } while (got < 0 && errno == EINTR);
    if (got < 0) {
        return -errno;
    }
    received->is_truncated = (message.msg_flags & MSG_CTRUNC) != 0;
    for (struct cmsghdr *block = CMSG_FIRSTHDR(&message); block != NULL;
         block = CMSG_NXTHDR(&message, block)) {
        if (block->cmsg_level == SOL_SOCKET && block->cmsg_type == SCM_RIGHTS) {
            take_block(block, descriptors, received);
        }
    }
    return (int)got;
}

int cleave_socket_send(
    int socket, const void *bytes, size_t byte_count, const int *descriptors,
    int descriptor_count) {
    union control control;
    struct iovec piece = {.iov_base = (void *)bytes, .iov_len = byte_count};
    struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1};
    if (descriptor_count < 0 || descriptor_count > CLEAVE_MAXIMUM_DESCRIPTORS) {
        return -EINVAL;
    }
    if (descriptor_count > 0) {
        const size_t size = (size_t)descriptor_count * sizeof(int);
        memset(&control, 0, sizeof control);
        control.header.cmsg_level = SOL_SOCKET;
        control.header.cmsg_type = SCM_RIGHTS;
        control.header.cmsg_len = CMSG_LEN(size);
        memcpy(CMSG_DATA(&control.header), descriptors, size);
        message.msg_control = &control;
        message.msg_controllen = CMSG_SPACE(size);
    }
    ssize_t sent;
    do {
        sent = sendmsg(socket, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    } while (sent < 0 && errno == EINTR);
    return sent < 0 ? -errno : (int)sent;
}

int cleave_socket_check(int fd) {
    int type = 0, listens = 0;
    socklen_t size = sizeof type;
    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) != 0 || type != SOCK_STREAM) {
        return -EPROTOTYPE;
    }
    size = sizeof listens;
    if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) != 0 || listens) {
        return -EPROTOTYPE;
    }
    return 0;
}

int cleave_descriptor_duplicate(int fd) {
    const int own = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    return own < 0 ? -errno : own;
}

int cleave_socket_wait(int fd, int writes, int milliseconds) {
    struct pollfd entry = {.fd = fd, .events = writes ? POLLOUT : POLLIN};
    return poll(&entry, 1, milliseconds) > 0;
}

int cleave_stream_wait(int fd, int events, int wake, int64_t nanoseconds) {
    const int both = CLEAVE_STREAM_WRITABLE | CLEAVE_STREAM_ENDED;
    const short asked = (short)((events & CLEAVE_STREAM_WRITABLE ? POLLOUT : 0)
                                | (events & CLEAVE_STREAM_ENDED ? POLLRDHUP : 0));
    struct pollfd entries[2] = {
        {.fd = events & both ? fd : -1, .events = asked}, {.fd = wake, .events = POLLIN}};
    const struct timespec most = {
        .tv_sec = nanoseconds / 1000000000, .tv_nsec = nanoseconds % 1000000000};
    if (ppoll(entries, 2, nanoseconds < 0 ? NULL : &most, NULL) <= 0) {
        return 0;
    }
    const short found = entries[0].revents;
    return (found & (POLLOUT | POLLERR | POLLHUP) ? CLEAVE_STREAM_WRITABLE : 0)
        | (found & (POLLRDHUP | POLLERR | POLLHUP) ? CLEAVE_STREAM_ENDED : 0)
        | (entries[1].revents ? CLEAVE_STREAM_WOKEN : 0);
}

int cleave_file_map(
    int fd, uint64_t offset, uint64_t byte_count, struct cleave_file_mapping *mapping) {
    struct stat status;
    struct statfs system;
    if (fstat(fd, &status) != 0 || fstatfs(fd, &system) != 0) {
        return -errno;
    }
    if (!S_ISREG(status.st_mode)) {
        return -EPROTOTYPE;
    }
    const uint64_t size = (uint64_t)status.st_size;
    if (byte_count == 0 || offset > size || byte_count > size - offset) {
        return -ERANGE;
    }
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    if ((unsigned long)system.f_type == HUGETLBFS && system.f_bsize > 0) {
        page = (uint64_t)system.f_bsize;
    }
    // Refused for files that cannot be sealed or not any more: the guard catches those.
    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK);
    const uint64_t skipped = offset & (page - 1);
    // A file's size is below 2^63, so neither sum can overflow.
    const uint64_t mapped = (skipped + byte_count + page - 1) & ~(page - 1);
    void *base = mmap(
        NULL, mapped, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd,
        (off_t)(offset - skipped));
    if (base == MAP_FAILED) {
        return -errno;
    }
    mapping->base = base;
    mapping->mapped_byte_count = mapped;
    mapping->page_byte_count = page;
    mapping->skipped_byte_count = skipped;
    mapping->file_device = status.st_dev;
    mapping->file_number = status.st_ino;
    return 0;
}

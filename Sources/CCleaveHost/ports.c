#define _GNU_SOURCE
#include "cleave_ports.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

// Kernel 6.2; the headers of the build may be older.
#ifndef TUN_F_USO4
#define TUN_F_USO4 0x20
#define TUN_F_USO6 0x40
#endif
#ifndef PACKET_FANOUT_FLAG_IGNORE_OUTGOING
#define PACKET_FANOUT_FLAG_IGNORE_OUTGOING 0x4000
#endif

enum {
    TAP_HEADER_BYTE_COUNT = 12,
    // Frames that wait at a packet socket, with what the kernel keeps beside them: a few dozen
    // large ones. The usual 208 KiB hold three.
    PACKET_WAITING_BYTE_COUNT = 4 << 20
};

static int name_request(const char *name, struct ifreq *request) {
    memset(request, 0, sizeof *request);
    const size_t length = strlen(name);
    if (length == 0 || length >= IFNAMSIZ) {
        return -ENAMETOOLONG;
    }
    memcpy(request->ifr_name, name, length);
    return 0;
}

static int close_with(int fd, int code) {
    close(fd);
    return -code;
}

int cleave_tap_open(const char *name, int is_multi_queue, int *offloads) {
    struct ifreq request;
    const int named = name_request(name, &request);
    if (named < 0) {
        return named;
    }
    const int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0) {
        return -errno;
    }
    request.ifr_flags = (short)(IFF_TAP | IFF_NO_PI | IFF_VNET_HDR);
    if (is_multi_queue) {
        request.ifr_flags |= (short)IFF_MULTI_QUEUE;
    }
    int header_byte_count = TAP_HEADER_BYTE_COUNT;
    int is_little = 1;
    if (ioctl(fd, TUNSETIFF, &request) != 0 ||
        ioctl(fd, TUNSETVNETHDRSZ, &header_byte_count) != 0 ||
        ioctl(fd, TUNSETVNETLE, &is_little) != 0) {
        return close_with(fd, errno);
    }
    const unsigned long tso = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN;
    if (ioctl(fd, TUNSETOFFLOAD, tso | TUN_F_USO4 | TUN_F_USO6) == 0) {
        *offloads = CLEAVE_TAP_CHECKSUM | CLEAVE_TAP_TSO | CLEAVE_TAP_USO;
    } else if (ioctl(fd, TUNSETOFFLOAD, tso) == 0) {
        *offloads = CLEAVE_TAP_CHECKSUM | CLEAVE_TAP_TSO;
    } else if (ioctl(fd, TUNSETOFFLOAD, 0ul) == 0) {
        *offloads = 0;
    } else {
        return close_with(fd, errno);
    }
    return fd;
}

int cleave_tap_check(int fd, const char *name) {
    struct ifreq request = {0};
    int header_byte_count = 0;
    if (ioctl(fd, TUNGETIFF, &request) != 0 ||
        ioctl(fd, TUNGETVNETHDRSZ, &header_byte_count) != 0) {
        return -errno;
    }
    const int wanted = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
    return (request.ifr_flags & (wanted | IFF_TUN)) == wanted &&
                   header_byte_count == TAP_HEADER_BYTE_COUNT &&
                   strncmp(request.ifr_name, name, sizeof request.ifr_name) == 0
               ? 0
               : -EINVAL;
}

int cleave_interface_set_mtu(const char *name, int mtu) {
    struct ifreq request;
    const int named = name_request(name, &request);
    if (named < 0) {
        return named;
    }
    const int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return -errno;
    }
    request.ifr_mtu = mtu;
    const int result = ioctl(fd, SIOCSIFMTU, &request) == 0 ? 0 : -errno;
    close(fd);
    return result;
}

static int set_on(int fd, int option) {
    const int on = 1;
    return setsockopt(fd, SOL_PACKET, option, &on, sizeof on);
}

int cleave_packet_open(const char *name, int is_promiscuous) {
    struct ifreq request;
    const int named = name_request(name, &request);
    if (named < 0) {
        return named;
    }
    // Protocol 0: nothing comes in before the socket is bound to its interface.
    const int fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return -errno;
    }
    if (ioctl(fd, SIOCGIFINDEX, &request) != 0) {
        return close_with(fd, errno);
    }
    const int index = request.ifr_ifindex;
    if (set_on(fd, PACKET_VNET_HDR) != 0 || set_on(fd, PACKET_AUXDATA) != 0) {
        return close_with(fd, errno);
    }
#ifdef PACKET_IGNORE_OUTGOING
    // Kernels before 4.20 do not know it: what is outgoing is then passed over one by one.
    set_on(fd, PACKET_IGNORE_OUTGOING);
#endif
    const int waiting = PACKET_WAITING_BYTE_COUNT;
    if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &waiting, sizeof waiting) != 0) {
        // Without CAP_NET_ADMIN as much as net.core.rmem_max allows.
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &waiting, sizeof waiting);
    }
    struct sockaddr_ll address = {
        .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL), .sll_ifindex = index};
    if (bind(fd, (const struct sockaddr *)&address, sizeof address) != 0) {
        return close_with(fd, errno);
    }
    const struct packet_mreq membership = {.mr_ifindex = index, .mr_type = PACKET_MR_PROMISC};
    if (is_promiscuous && setsockopt(fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &membership,
                                     sizeof membership) != 0) {
        return close_with(fd, errno);
    }
    return fd;
}

int cleave_packet_check(int fd, const char *name) {
    int type = 0;
    int has_header = 0;
    socklen_t type_size = sizeof type;
    socklen_t header_size = sizeof has_header;
    struct sockaddr_ll address = {0};
    socklen_t size = sizeof address;
    if (getsockname(fd, (struct sockaddr *)&address, &size) != 0 ||
        getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &type_size) != 0) {
        return -errno;
    }
    if (address.sll_family != AF_PACKET || type != SOCK_RAW) {
        return -EINVAL;
    }
    if (getsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, &has_header, &header_size) != 0) {
        return -errno;
    }
    const unsigned index = if_nametoindex(name);
    return has_header && index > 0 && (unsigned)address.sll_ifindex == index ? 0 : -EINVAL;
}

int cleave_packet_share(int fd, int group) {
    const int flags = PACKET_FANOUT_HASH | PACKET_FANOUT_FLAG_IGNORE_OUTGOING;
    const int unique = group < 0 ? PACKET_FANOUT_FLAG_UNIQUEID : 0;
    const int number = group < 0 ? 0 : group;
    const int wanted = number | (flags | unique) << 16;
    if (setsockopt(fd, SOL_PACKET, PACKET_FANOUT, &wanted, sizeof wanted) != 0) {
        return -errno;
    }
    int got = 0;
    socklen_t byte_count = sizeof got;
    if (getsockopt(fd, SOL_PACKET, PACKET_FANOUT, &got, &byte_count) != 0) {
        return -errno;
    }
    return got & 0xffff;
}

int64_t cleave_packet_lost(int fd) {
    struct tpacket_stats counts;
    socklen_t byte_count = sizeof counts;
    if (getsockopt(fd, SOL_PACKET, PACKET_STATISTICS, &counts, &byte_count) != 0) {
        return -errno;
    }
    return counts.tp_drops;
}

ssize_t cleave_packet_read(
    int fd, void *header, size_t header_byte_count, void *frame, size_t frame_byte_count,
    struct cleave_vlan_tag *tag) {
    struct iovec parts[2] = {{header, header_byte_count}, {frame, frame_byte_count}};
    union {
        struct cmsghdr head;
        char bytes[CMSG_SPACE(sizeof(struct tpacket_auxdata))];
    } control;
    struct sockaddr_ll source;
    struct msghdr message;
    ssize_t got;
    do {
        memset(&message, 0, sizeof message);
        message.msg_name = &source;
        message.msg_namelen = sizeof source;
        message.msg_iov = parts;
        message.msg_iovlen = 2;
        message.msg_control = &control;
        message.msg_controllen = sizeof control;
        got = recvmsg(fd, &message, MSG_TRUNC);
    } while ((got < 0 && errno == EINTR) || (got >= 0 && source.sll_pkttype == PACKET_OUTGOING));
    tag->protocol = 0;
    tag->control = 0;
    if (got < 0) {
        return -errno;
    }
    const struct cmsghdr *note = CMSG_FIRSTHDR(&message);
    if (note != NULL && note->cmsg_level == SOL_PACKET && note->cmsg_type == PACKET_AUXDATA) {
        struct tpacket_auxdata data;
        memcpy(&data, CMSG_DATA(note), sizeof data);
        if (data.tp_status & TP_STATUS_VLAN_VALID) {
            const int has_protocol = data.tp_status & TP_STATUS_VLAN_TPID_VALID;
            tag->protocol = has_protocol ? data.tp_vlan_tpid : ETH_P_8021Q;
            tag->control = data.tp_vlan_tci;
        }
    }
    return got;
}

ssize_t cleave_frame_read(
    int fd, void *header, size_t header_byte_count, void *frame, size_t frame_byte_count) {
    const struct iovec parts[2] = {{header, header_byte_count}, {frame, frame_byte_count}};
    ssize_t got;
    do {
        got = readv(fd, parts, 2);
    } while (got < 0 && errno == EINTR);
    return got < 0 ? -errno : got;
}

ssize_t cleave_frame_write(int fd, const struct iovec *parts, int count) {
    ssize_t done;
    do {
        done = writev(fd, parts, count);
    } while (done < 0 && errno == EINTR);
    return done < 0 ? -errno : done;
}

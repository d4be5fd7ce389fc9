// Kernel interfaces that carry frames after a virtio-net header. Every int result is 0 (or a
// value) on success and a negated errno on failure. Descriptors are non-blocking and close-on-exec.
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

// MARK: TAP

/// Bits of a TAP queue's offloads: what the kernel may hand out unfinished.
enum { CLEAVE_TAP_CHECKSUM = 1, CLEAVE_TAP_TSO = 2, CLEAVE_TAP_USO = 4 };

/// Opens a queue of the TAP device `name` (at most 15 bytes), and creates the device if there is
/// none. It carries Ethernet frames after a virtio-net header of 12 little-endian bytes. All
/// settings are made: a persistent device keeps those of its last owner.
/// `offloads`: set to what the kernel grants.
/// -EINVAL: it is no TAP device, or has been made with another `is_multi_queue`.
int cleave_tap_open(const char *name, int is_multi_queue, int *offloads);

/// Whether `fd` is a queue of the TAP device `name` with such frames: 0, or -EINVAL, or the -errno
/// of a descriptor of another kind.
int cleave_tap_check(int fd, const char *name);

/// Whether `fd` is a packet socket as `cleave_packet_open` makes it, at the interface `name`: 0, or
/// -EINVAL, or the -errno of a descriptor of another kind.
int cleave_packet_check(int fd, const char *name);

/// Sets the largest IP packet of an interface.
int cleave_interface_set_mtu(const char *name, int mtu);

// MARK: AF_PACKET

/// Opens a packet socket for everything that comes in at the interface `name`. Frames have a
/// virtio-net header of 10 bytes in front, in native order.
/// -ENODEV: there is no such interface.
int cleave_packet_open(const char *name, int is_promiscuous);

/// Joins the group `group` of sockets that share what comes in, by flow; a negative one makes a new
/// group. Returns the group.
int cleave_packet_share(int fd, int group);

/// Frames that came in since the last call and were lost, because too many waited already.
int64_t cleave_packet_lost(int fd);

/// The tag that the kernel has taken out of a frame; both 0 for none.
struct cleave_vlan_tag {
    uint16_t protocol, control;
};

/// Reads the next frame that came in; what the host sends itself is passed over.
/// Returns bytes of header and frame, which may be more than there was room for: the frame is cut.
ssize_t cleave_packet_read(
    int fd, void *header, size_t header_byte_count, void *frame, size_t frame_byte_count,
    struct cleave_vlan_tag *tag);

// MARK: both

/// Reads one frame: returns bytes of header and frame. A frame that is too long is cut.
ssize_t cleave_frame_read(
    int fd, void *header, size_t header_byte_count, void *frame, size_t frame_byte_count);

/// Writes one frame in parts, its header first.
ssize_t cleave_frame_write(int fd, const struct iovec *parts, int count);

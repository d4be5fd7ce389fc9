// Descriptors of kinds that Swift's Glibc module leaves out, for tests of what a peer may pass.
#pragma once

/// An eventfd whose readers and writers block.
int peer_eventfd(unsigned value);
int peer_memfd(void);
int peer_timerfd(void);
int peer_epoll(void);
int peer_signalfd(void);
/// A descriptor that only names a file.
int peer_path(void);

/// Sends bytes with any number of descriptors, up to 253; 0 or -1.
int peer_send(
    int socket, const void *bytes, unsigned long byte_count, const int *descriptors, int count);

/// A file that is only memory, of `byte_count` bytes, which may be sealed but is not.
int peer_sealable(unsigned long byte_count);
/// Takes the memory of a range of a file away; 0 or -1.
int peer_punch(int fd, unsigned long offset, unsigned long byte_count);

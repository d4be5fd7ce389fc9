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

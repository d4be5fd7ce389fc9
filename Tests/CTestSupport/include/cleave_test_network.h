// Networks of a test's own.
#pragma once

/// Gives the calling thread an empty network of its own, which ends with its last user. A
/// descriptor of the network before, or a negated errno.
int cleave_test_enter_network(void);

/// Goes back to the network before, and closes its descriptor.
int cleave_test_leave_network(int before);

/// Runs a command of the shell in the calling thread's network; its exit status, or -1.
int cleave_test_shell(const char *command);

/// A packet socket that sees what passes at `interface`, and sends there: 10 bytes of virtio-net
/// header in native order, then the frame. A descriptor, or a negated errno.
int cleave_test_observe(const char *interface);

/// Takes from the calling thread what only administrators of networks may do, or gives it back. 0,
/// or a negated errno.
int cleave_test_allow_network(int is_allowed);

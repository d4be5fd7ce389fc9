// A filter of system calls for a program that has opened what it needs.
#pragma once

#include <stddef.h>
#include <stdint.h>

/// What becomes of a system call that is not on the list.
enum cleave_sandbox_mode {
    /// The process ends by SIGSYS, after a line on standard error that names the call.
    CLEAVE_SANDBOX_END,
    /// The call is carried out, and the kernel's log names it.
    CLEAVE_SANDBOX_LOG
};

/// Puts all threads of the process, and all that they will start, under the filter, for good. No
/// program that they would start may gain rights any more (no_new_privs).
/// `before`, `after`: what surrounds the call's number in the line; at most 511 bytes each, the
/// rest is cut. One thread at a time.
/// 0, or -errno: -ENOSYS or -EINVAL if the kernel has no such filters; -EBUSY if another thread has
/// a filter of its own.
int cleave_sandbox_enter(enum cleave_sandbox_mode mode, const char *before, const char *after);

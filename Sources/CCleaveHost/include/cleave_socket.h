// Messages with descriptors over a stream socket, and memory that another process shares. Results
// as in cleave_system.h: 0 or a value, or a negated errno.
#pragma once

#include <stddef.h>
#include <stdint.h>

/// Most descriptors that a message may carry.
enum { CLEAVE_MAXIMUM_DESCRIPTORS = 8 };

/// What came with the bytes that were read.
struct cleave_received {
    /// Descriptors received, close-on-exec; the caller closes them.
    int descriptor_count;
    /// Blocks of descriptors: each was sent by a call of its own.
    int block_count;
    /// Not 0: descriptors were lost, because more came than a message may carry or than this
    /// process may open.
    int is_truncated;
};

/// Reads up to `byte_count` bytes, without waiting. 0 is the end of the stream.
/// `descriptors` has room for CLEAVE_MAXIMUM_DESCRIPTORS. Unknown ancillary data is ignored.
int cleave_socket_receive(
    int socket, void *bytes, size_t byte_count, int *descriptors, struct cleave_received *received);

/// Writes up to `byte_count` bytes, with descriptors beside the first, without waiting and without
/// SIGPIPE. The number of bytes written: the descriptors went with them.
int cleave_socket_send(
    int socket, const void *bytes, size_t byte_count, const int *descriptors, int descriptor_count);

/// 0 if `fd` is a stream socket that does not listen, else -EPROTOTYPE.
int cleave_socket_check(int fd);

/// A close-on-exec duplicate.
int cleave_descriptor_duplicate(int fd);

/// Waits until `fd` is readable (or writable if `writes` is not 0) or `milliseconds` have passed:
/// 1 when it is, or when it is broken, else 0.
int cleave_socket_wait(int fd, int writes, int milliseconds);

/// What `cleave_stream_wait` waits for, and what it found.
enum {
    CLEAVE_STREAM_WRITABLE = 1,
    /// The other side has ended its half of the stream, or is gone.
    CLEAVE_STREAM_ENDED = 2,
    /// `wake` is readable.
    CLEAVE_STREAM_WOKEN = 4
};

/// Waits for `events` at the stream socket `fd`, and at the descriptor `wake`, for at most
/// `nanoseconds`; for ever if negative. With no events it waits at `wake` alone.
int cleave_stream_wait(int fd, int events, int wake, int64_t nanoseconds);

/// A piece of a file that is mapped.
struct cleave_file_mapping {
    /// First mapped byte, at or before the one asked for.
    void *base;
    /// Bytes mapped from there on, whole pages.
    size_t mapped_byte_count;
    /// Bytes of a page of the file: 4096, or those of a huge page.
    size_t page_byte_count;
    /// Bytes from `base` to the one asked for.
    size_t skipped_byte_count;
    /// Which file it is.
    uint64_t file_device, file_number;
};

/// Maps `byte_count` bytes of a regular file from `offset` on, shared, to read and write, and seals
/// the file against shrinking where it allows that.
/// -EPROTOTYPE: no regular file. -ERANGE: the range passes the file's end. -EACCES: not open to
/// read and write.
int cleave_file_map(
    int fd, uint64_t offset, uint64_t byte_count, struct cleave_file_mapping *mapping);

// MARK: memory whose file may be cut short by somebody else: touching it then raises SIGBUS.

/// Handles SIGBUS from now on, for ranges that are guarded; others go to the handler before it.
/// Once per process, however often it is called.
int cleave_guard_install(void);

/// Guards a mapping: the first touch of a page that is lost puts private zero pages in place of
/// that page and of those after it. An index, or -ENOSPC when there are too many.
int cleave_guard_add(void *base, size_t byte_count, size_t page_byte_count);

/// Ends it. Nobody may touch the range any more.
void cleave_guard_remove(int index);

/// Whether a page of it was lost.
int cleave_guard_was_hit(int index);

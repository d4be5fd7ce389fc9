// System calls for the control path. Every int result is 0 (or a value) on success and a
// negated errno on failure, so that no caller reads errno after the fact.
#pragma once

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/// errno of the calling thread's last failed C call.
int cleave_errno(void);

/// The system's words for an errno, such as "Invalid argument".
void cleave_error_words(int code, char *text, size_t byte_count);

// MARK: threads

/// Kernel id of the calling thread.
int cleave_thread_id(void);

/// CPU that the calling thread runs on now.
int cleave_current_cpu(void);

/// Fills `bits` (bit n of byte n / 8 = CPU n) with the affinity mask of `thread_id`; 0 = caller.
int cleave_affinity_get(pid_t thread_id, uint8_t *bits, size_t byte_count);

/// Restricts the calling thread to one CPU.
int cleave_affinity_set(int cpu);

/// Restricts the calling thread to the CPUs of a mask, as `cleave_affinity_get` fills one.
int cleave_affinity_set_mask(const uint8_t *bits, size_t byte_count);

/// Names the calling thread; longer than 15 bytes is -ERANGE.
int cleave_thread_set_name(const char *name);

/// Reads the calling thread's name; `byte_count` of at least 16.
int cleave_thread_get_name(char *name, size_t byte_count);

/// Starts a joinable thread that never runs outside `cpu` (any CPU when negative) and handles no
/// signals but those of its own faults.
int cleave_thread_start(
    pthread_t *thread, int cpu, void *(*body)(void *), void *argument);

// MARK: memory. page_shift: 0 for the kernel's base pages, 21 for 2 MiB, 30 for 1 GiB.

/// Creates a close-on-exec memfd of exactly `byte_count` bytes whose size is sealed.
int cleave_memfd(const char *name, size_t byte_count, int page_shift);

/// Reserves address space without memory; NULL when there is none.
void *cleave_reserve(size_t byte_count);

/// Maps zeroed memory (of `fd`, shared, when not negative) at exactly `address`, which must be
/// unmapped: -EEXIST when somebody else took it meanwhile.
int cleave_map_at(void *address, size_t byte_count, int fd, int page_shift);

/// Asks for transparent huge pages in the range, or forbids them when `wanted` is 0.
int cleave_advise_huge(void *address, size_t byte_count, int wanted);

/// Faults every page in for writing; reports lack of memory instead of raising SIGBUS. -EINVAL on
/// kernels before 5.14.
int cleave_populate(void *address, size_t byte_count);

/// Writes one zero byte per `page_byte_count`: pre-faults fresh, zeroed memory on old kernels.
void cleave_touch(void *address, size_t byte_count, size_t page_byte_count);

// MARK: events

/// Creates a non-blocking, close-on-exec eventfd.
int cleave_eventfd(void);

/// A descriptor that is readable while one of those that were added to it is, or once a time has
/// come: close-on-exec. `timer` is set to the one that `cleave_wait_set_arm` takes; the caller
/// closes both.
int cleave_wait_set_open(int *timer);

/// Adds `fd`, or takes it out; 0, or -errno.
int cleave_wait_set_add(int set, int fd);
void cleave_wait_set_remove(int set, int fd);

/// The time, by CLOCK_MONOTONIC in nanoseconds; 0 for never.
void cleave_wait_set_arm(int timer, uint64_t nanoseconds);

/// Waits until one of two descriptors (negative ones are left out) is readable or `nanoseconds`
/// have passed: 1 when one is, else 0; an interrupted wait counts as passed.
int cleave_event_wait(int fd, int other_fd, uint64_t nanoseconds);

// MARK: performance counters

/// A counter's value, and the nanoseconds that it was enabled and that it really counted.
struct cleave_perf_reading {
    uint64_t value, enabled, running;
};

/// Opens a stopped counter of the calling thread and of those that it starts later, without the
/// kernel's part. `type` and `config` are those of perf_event_attr. A descriptor, or -errno.
int cleave_perf_open(uint32_t type, uint64_t config);

/// Counts from 0, or stops.
void cleave_perf_start(int fd);
void cleave_perf_stop(int fd);

/// Reads a counter together with those of threads that have ended.
int cleave_perf_read(int fd, struct cleave_perf_reading *reading);

// MARK: signals

/// From now on the first SIGTERM or SIGINT is remembered instead of ending the process, which then
/// has `grace_milliseconds` to end by itself: after that the signal ends it after all, and so does
/// a second one, 100 milliseconds after the first or later. Call it before there are threads: they
/// inherit that the signals are not blocked.
int cleave_stop_signal_catch(unsigned grace_milliseconds);

/// The signal that was remembered, 0 for none.
int cleave_stop_signal(void);

/// From now on a signal, of number 1 to 31, is remembered instead of ending the process.
int cleave_request_signal_catch(int signal_number);

/// Whether that signal came since this was asked last.
int cleave_request_signal_take(int signal_number);

// MARK: processor facts

/// Writes the processor's brand string (49 bytes at most); 0 where the processor has none.
int cleave_cpu_brand(char *text, size_t byte_count);

/// Whether the cycle counter runs at one rate in every power state.
int cleave_counter_is_invariant(void);

/// Nominal rate of the cycle counter where the architecture states it (arm64), otherwise 0.
uint64_t cleave_counter_stated_hertz(void);

/// Whether a hypervisor announces itself; its 12-byte signature goes to `name` (13 bytes at least).
int cleave_hypervisor(char *name, size_t byte_count);

/// Which C compiler built this, for machine reports.
const char *cleave_compiler(void);

// MARK: descriptors by which driver and device notify each other

/// What such a descriptor is: values of 8 bytes are written to it and read from it.
enum cleave_notification_kind {
    CLEAVE_NOTIFICATION_EVENTFD,
    CLEAVE_NOTIFICATION_PIPE,
    CLEAVE_NOTIFICATION_SOCKET
};

/// Duplicates a peer's descriptor, close-on-exec, and finds its kind. An eventfd or a pipe is made
/// non-blocking, which its other holders see.
/// `writes`: not 0 for one that is written to. `kind`: set on success.
/// -EPROTOTYPE: it is no eventfd, pipe or stream socket, or the socket listens. -EACCES: it is not
/// open in that direction.
int cleave_notification_open(int fd, int writes, int *kind);

/// Whether the other side was notified, or has a notification that it has not taken yet. Neither
/// blocks nor raises SIGPIPE.
int cleave_notification_send(int fd, int kind);

/// Clears what was sent; does not block. Returns whether there was something.
int cleave_notification_drain(int fd, int kind);

// MARK: unix stream sockets, non-blocking and close-on-exec

/// Listens at `path` (at most 107 bytes), which must not exist yet. `mode`: the permissions of the
/// socket's file; below 0 for those that the process gives its files.
int cleave_unix_listen(const char *path, int mode);

/// Connects to whoever listens at `path`. -ECONNREFUSED: nobody does any more.
int cleave_unix_connect(const char *path);

/// The next connection, or -EAGAIN.
int cleave_unix_accept(int fd);

/// Makes a listening unix stream socket that was handed over non-blocking and close-on-exec, and
/// tells the path that it is bound to; "" for one without a file. `path` has 108 bytes or more.
/// 0, or -ENOTSOCK, -EPROTOTYPE if it is another kind of socket, -EINVAL if it does not listen.
int cleave_unix_take_listener(int fd, char *path, size_t byte_count);

/// Tells the service manager that listens at `path`, a value of $NOTIFY_SOCKET, how things are,
/// such as "READY=1". 0, also if the value names no unix socket; or -errno.
int cleave_notify_manager(const char *path, const char *state);

/// A duplicate of a connected unix stream socket, or -ENOTSOCK, -EPROTOTYPE, -ENOTCONN.
int cleave_unix_adopt(int fd);

/// Whether `path` is a socket: 1, 0 for anything else, or -errno; `identity` tells one file from
/// its successor of the same name.
int cleave_unix_identify(const char *path, uint64_t identity[2]);

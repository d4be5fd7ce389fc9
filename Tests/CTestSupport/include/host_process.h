// What a test does to another process: stops one of its threads, has it make a system call, hears
// what it tells its service manager. All calls for one thread come from one thread.
#pragma once

/// Starts a program with these words, the first of which is its path, and these NAME=VALUE, both
/// ended by NULL; its standard input, output and error are these descriptors, and it has no others.
/// Its identifier, or a negated errno. Any thread, also one that ends before the program does: a
/// Process of Foundation's keeps the run loop of its thread, and ends this process at its own end
/// if that thread is no more.
int cleave_test_spawn(
    char *const words[], char *const environment[], int input, int output, int errors);

/// Waits until it has ended. Its exit code, or the negated number of the signal that ended it.
int cleave_test_await(int identifier);

/// Stops one thread while the others of its process go on. 0, or a negated errno.
int cleave_test_freeze(int thread_id);

/// Lets it go on. 0, or a negated errno.
int cleave_test_thaw(int thread_id);

/// Has a thread make system call `number` in place of the next one that it makes, with that one's
/// arguments. 0, or a negated errno; -ENOSYS on an architecture where that is not known.
int cleave_test_inject(int thread_id, int number);

/// The number of the system call that becomes another program (execve).
int cleave_test_start_program(void);

/// A datagram socket at `path`, to be the service manager. A descriptor, or a negated errno.
int cleave_test_manager(const char *path);

/// The next datagram there, and the process that sent it: its length, or -errno, -EAGAIN if there
/// is none.
int cleave_test_hear(int fd, char *text, int byte_count, int *process);

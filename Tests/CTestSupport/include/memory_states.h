// Every state that memory goes through while a thread runs: what is left of it if the process is
// killed between any two instructions.
#pragma once

#include <stddef.h>

/// Watches two areas from now on, each at the start of a page that holds nothing else and at most
/// as large as that. Each state, from the one now on, is copied to `states`: `first_count` bytes
/// and `second_count` bytes, one after the other, up to `capacity` times.
///
/// Only the calling thread may write there until `memory_states_end`, which it has to call. One
/// thread at a time watches; others wait.
/// 0, or -ENOTSUP on other processors than x86-64.
int memory_states_begin(
    void *first, size_t first_count, void *second, size_t second_count, void *states,
    size_t capacity);

/// Ends that. How many states there were, or -ENOSPC if there was no room for all.
long memory_states_end(void);

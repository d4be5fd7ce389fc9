// Counts what the hot loop must not do: allocate, free, retain, release.
//
// Linked into an executable of its own (hot-loop-probe): this puts
// definitions of its own before malloc's and the Swift runtime's.
#ifndef CLEAVE_RUNTIME_COUNTS_H
#define CLEAVE_RUNTIME_COUNTS_H

#include <stdbool.h>
#include <stdint.h>

/// Calls since the start of the process, in threads that are not exempt.
struct cleave_runtime_counts {
    uint64_t allocations;
    uint64_t frees;
    uint64_t retains;
    uint64_t releases;
};

/// Stops or resumes counting for the calling thread.
void cleave_runtime_counts_exempt(bool exempt);

struct cleave_runtime_counts cleave_runtime_counts_read(void);

#endif

// The table behind the handles of cleave.h, private to the library and not installed: zeroed
// memory at a constant address, so that a call on a packet path finds its slot without asking
// whether anything was set up yet.
#pragma once

#include <stdint.h>

enum {
    CLEAVE_SLOT_BITS = 14,
    CLEAVE_SLOT_COUNT = 1 << CLEAVE_SLOT_BITS,
    CLEAVE_SLOT_BYTES = 64
};

extern unsigned char cleave_slot_memory[];

/// The slot that the lower bits of a handle name; always there, whatever the handle is.
static inline void *cleave_slot(uint64_t handle) {
    return cleave_slot_memory + (handle & (CLEAVE_SLOT_COUNT - 1)) * CLEAVE_SLOT_BYTES;
}

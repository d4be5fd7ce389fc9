// The table behind the handles of cleave.h, private to the library and not installed: zeroed memory
// at a constant address, so that a call on a packet path finds its cell without asking whether
// anything was set up yet.
#pragma once

#include <stdint.h>

enum {
    CLEAVE_SLOT_BITS = 14,
    CLEAVE_SLOT_COUNT = 1 << CLEAVE_SLOT_BITS,
    CLEAVE_SLOT_BYTES = 64
};

extern unsigned char cleave_slot_memory[];

/// The cell that the lower bits of a handle name; it always exists, whatever the handle is.
static inline void *cleave_slot(uint64_t handle) {
    return cleave_slot_memory + (handle & (CLEAVE_SLOT_COUNT - 1)) * CLEAVE_SLOT_BYTES;
}

/// The cells that may be given out; under the lock.
struct cleave_slot_supply {
    uint64_t unused; /* slots from this one on were never given out */
    uint64_t free;   /* the first slot that came back, plus 1; each names the next one */
};
struct cleave_slot_supply *cleave_slots_supply(void);

/// The lock of the table.
void cleave_slots_lock(void);
void cleave_slots_unlock(void);

/// Around calls that make, find or end something: a fork waits for those of other threads, a second
/// at most, so that in the child no lock is taken and nothing half made. The child gets an empty
/// table.
void cleave_call_begin(void);
void cleave_call_end(void);

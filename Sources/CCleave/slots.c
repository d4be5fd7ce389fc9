#include "cleave_slots.h"

#include "cleave.h"

// A slot is a cache line: two threads on two handles do not meet. Pages that no handle was made
// in are never touched.
__attribute__((aligned(64), visibility("hidden")))
unsigned char cleave_slot_memory[CLEAVE_SLOT_COUNT * CLEAVE_SLOT_BYTES];

_Static_assert(sizeof(void *) == 8, "handles have 64 bits");
_Static_assert(sizeof(cleave_packet) == 40, "packets are read word by word");
_Static_assert(offsetof(cleave_packet, cookie) == 14, "the first words are those of a reference");
_Static_assert(offsetof(cleave_packet, net_flags) == 16, "then offloads");
_Static_assert(offsetof(cleave_packet, more_count) == 30, "and the number of further segments");
_Static_assert(offsetof(cleave_packet, more) == 32, "and where they are");
_Static_assert(sizeof(cleave_ref) == 16 && offsetof(cleave_ref, cookie) == 14,
    "a reference is used where it lies");
_Static_assert(sizeof(cleave_segment) == 16, "segments are read word by word");

#include "instruction_count.h"

// `.ci/with-headers` tells every build; one that is not told looks for itself.
#ifndef CLEAVE_HAS_CALLGRIND
#if __has_include(<valgrind/callgrind.h>)
#define CLEAVE_HAS_CALLGRIND 1
#else
#define CLEAVE_HAS_CALLGRIND 0
#endif
#endif

#if CLEAVE_HAS_CALLGRIND
#include <valgrind/callgrind.h>
#endif

void cleave_count_toggle(void) {
#ifdef CALLGRIND_TOGGLE_COLLECT
    CALLGRIND_TOGGLE_COLLECT;
#endif
}

void cleave_count_dump(const char *name) {
#ifdef CALLGRIND_DUMP_STATS_AT
    CALLGRIND_DUMP_STATS_AT(name);
#else
    (void)name;
#endif
}

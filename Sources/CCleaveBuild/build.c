// A source of its own: what changes with every commit has this one compiled, and nothing else.
#include "cleave_build.h"

#include <stddef.h>

#define NAME_OF(text) #text
#define NAME(macro) NAME_OF(macro)

const char *cleave_build_version(void) { return "0.2.0"; }

const char *cleave_build_commit(void) {
#ifdef CLEAVE_COMMIT
    return NAME(CLEAVE_COMMIT);
#else
    return NULL;
#endif
}

int cleave_build_dirty(void) {
#ifdef CLEAVE_DIRTY
    return CLEAVE_DIRTY;
#else
    return -1;
#endif
}

const char *cleave_build_march(void) {
// By what the compiler may use, as -march may have come from anywhere.
#if defined(__x86_64__)
#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__)
    return "x86-64-v4";
#elif defined(__AVX2__) && defined(__BMI2__) && defined(__FMA__)
    return "x86-64-v3";
#elif defined(__SSE4_2__) && defined(__POPCNT__)
    return "x86-64-v2";
#else
    return "x86-64";
#endif
#elif defined(__aarch64__)
    return "armv8-a";
#else
    return "unknown";
#endif
}

// Single instructions, as static inlines so that the hot path pays no call.
#pragma once

#include <stdint.h>
#include <time.h>

/// Cycles of the constant-rate counter: TSC on x86-64, the virtual counter on arm64, otherwise
/// nanoseconds of CLOCK_MONOTONIC. Not ordered against surrounding loads and stores.
static inline uint64_t cleave_cycles(void) {
#if defined(__x86_64__)
    return __builtin_ia32_rdtsc();
#elif defined(__aarch64__)
    uint64_t count;
    __asm__ volatile("mrs %0, cntvct_el0" : "=r"(count));
    return count;
#else
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
#endif
}

/// Tells the core that this is a spin loop.
static inline void cleave_pause(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/// Starts loading the line at `address` for reading; never faults.
static inline void cleave_prefetch_read(const void *address) {
    __builtin_prefetch(address, 0, 3);
}

/// Starts loading the line at `address` for writing, taking it from other cores; never faults.
/// The builtin means that too, but for x86-64 in general it becomes a load for reading, and the
/// store would have to ask again. Processors without the instruction pass over it.
static inline void cleave_prefetch_write(const void *address) {
#if defined(__x86_64__)
    __asm__ volatile("prefetchw %0" : : "m"(*(const char *)address));
#else
    __builtin_prefetch(address, 1, 3);
#endif
}

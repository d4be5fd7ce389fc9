#pragma once
// What a ring must offer to be measured, and the run that measures it: one producer thread and
// one consumer thread, started together. Written in C so that rings in Swift and in C++ stand
// behind the same calls.
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/// The element moved: 16 bytes, as large as a packet reference. `check` is ~sequence.
typedef struct ring_element {
    uint64_t sequence;
    uint64_t check;
} ring_element;

/// What a consumer saw.
typedef struct ring_tally {
    uint64_t sequence_sum;  ///< sum of all sequence, mod 2^64
    uint64_t check_sum;     ///< sum of all check, mod 2^64
    uint64_t disorder;      ///< elements out of order or torn (counted in a verifying run only)
} ring_tally;

/// One end's work: move `count` elements, a multiple of `burst`, in bursts of 1 to 64.
typedef struct ring_job {
    void *ring;
    uint64_t count;
    uint32_t burst;
    bool yields;  ///< both ends share one CPU: give it away instead of spinning
    bool verify;  ///< compare every element with what was sent
} ring_job;

typedef struct ring_contender {
    const char *name;
    void *(*create)(uint32_t capacity);
    void (*destroy)(void *ring);
    void (*produce)(const ring_job *job);
    void (*consume)(const ring_job *job, ring_tally *tally);
} ring_contender;

/// Moves the elements between a thread on `producer_cpu` and one on `consumer_cpu`.
///
/// Time runs from the moment both threads are ready until the consumer has the last element.
/// Returns 0, or an errno value when a thread could not be made or pinned.
int ring_bench_run(const ring_contender *contender, const ring_job *job, int producer_cpu,
                   int consumer_cpu, ring_tally *tally, double *seconds);

/// CPUs this process may run on, lowest first, at most `limit`. Returns how many there are.
int ring_bench_cpus(int *cpus, int limit);

/// Waits a moment for the other end.
static inline void ring_bench_idle(bool yields) {
    if (yields) {
        sched_yield();
        return;
    }
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

#ifdef __cplusplus
}
#endif

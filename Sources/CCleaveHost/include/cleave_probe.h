// Static probes (USDT): places that bpftrace, perf and gdb can attach to in a running process.
//
// A probe is one nop and a note in the program that says which registers hold its arguments.
// Without semaphores: those would cost a load and a branch per probe so as to spare work on
// arguments, and here every argument is a value that the caller has in hand anyway. Registers or
// constants only (`nr`): a memory operand could name a place that has moved by the time of a trace.
//
// Without Debian's systemtap-sdt-dev all of them are empty. `.ci/with-headers` tells every build
// whether it is there; one that is not told looks for itself.
#pragma once

#ifndef CLEAVE_HAS_SDT
#if __has_include(<sys/sdt.h>)
#define CLEAVE_HAS_SDT 1
#else
#define CLEAVE_HAS_SDT 0
#endif
#endif

#if CLEAVE_HAS_SDT && (defined(__x86_64__) || defined(__aarch64__))
#define STAP_SDT_ARG_CONSTRAINT nr
#include <sys/sdt.h>
#define CLEAVE_HAS_PROBES 1
#endif

#include <stdint.h>

#ifndef CLEAVE_HAS_PROBES
#define CLEAVE_HAS_PROBES 0
#define DTRACE_PROBE2(provider, name, a, b) ((void)(a), (void)(b))
#define DTRACE_PROBE3(provider, name, a, b, c) ((void)(a), (void)(b), (void)(c))
#define DTRACE_PROBE4(provider, name, a, b, c, d) ((void)(a), (void)(b), (void)(c), (void)(d))
#endif

/// Whether this build has probes.
static inline int cleave_has_probes(void) { return CLEAVE_HAS_PROBES; }

/// A burst was published; also one that delivered nothing.
/// - rq: identifies the RQ: an address, the same for its whole life.
/// - refs: references done with; packets, buffers: delivered, and what they took.
static inline void cleave_probe_burst(
    const void *rq, uint64_t refs, uint64_t packets, uint64_t buffers) {
    DTRACE_PROBE4(cleave, burst, rq, refs, packets, buffers);
}

/// A packet that could have been split is placed whole: number of the `FallbackReason`.
static inline void cleave_probe_fallback(const void *rq, uint64_t reason) {
    DTRACE_PROBE2(cleave, fallback, rq, reason);
}

/// A packet is dropped: number of the `DropReason`.
static inline void cleave_probe_drop(const void *rq, uint64_t reason) {
    DTRACE_PROBE2(cleave, drop, rq, reason);
}

/// The driver broke the virtqueue: number of the `QueueFault`.
static inline void cleave_probe_queue_broken(const void *rq, uint64_t fault) {
    DTRACE_PROBE2(cleave, queue_broken, rq, fault);
}

/// Slots of a header queue were claimed for a burst.
/// - header_queue: identifies it: the address of its first slot.
/// - free: slots that were free just before.
static inline void cleave_probe_claim(
    const void *header_queue, uint64_t wanted, uint64_t claimed, uint64_t free) {
    DTRACE_PROBE4(cleave, claim, header_queue, wanted, claimed, free);
}

/// A burst found no free slot at all.
static inline void cleave_probe_header_queue_empty(const void *header_queue, uint64_t wanted) {
    DTRACE_PROBE2(cleave, header_queue_empty, header_queue, wanted);
}

/// The driver moved the tail to an impossible value, or returned a slot that does not exist.
/// - position: the device's head, or the slot's position in the return ring; free-running.
static inline void cleave_probe_header_queue_broken(const void *header_queue, uint64_t position) {
    DTRACE_PROBE2(cleave, header_queue_broken, header_queue, position);
}

/// A header queue starts over.
/// - claimed: slots claimed since it was made.
static inline void cleave_probe_reset(const void *header_queue, uint64_t claimed) {
#if CLEAVE_HAS_PROBES
    // gdb finds no probe without the section that their notes count from, which nothing else keeps
    // when the linker drops what is not referred to.
    extern const char cleave_probe_base __asm__("_.stapsdt.base")
        __attribute__((visibility("hidden")));
    __asm__ volatile("" ::"r"(&cleave_probe_base));
#endif
    DTRACE_PROBE2(cleave, reset, header_queue, claimed);
}

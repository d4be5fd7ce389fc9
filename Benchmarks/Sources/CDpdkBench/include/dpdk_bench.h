#pragma once
// What the shared object with DPDK in it offers to the harness: DPDK's vhost library and libcleave
// as device of equal virtqueues, with DPDK's own virtio-user as their driver.
//
// Every function that returns int returns 0, or -1 with a sentence in `dpdk_bench_error`.
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/// Two virtio-user ports of the same shape: the first one's device is DPDK's vhost library, the
/// second one's control plane is too, but its device is libcleave.
typedef struct dpdk_pair dpdk_pair;

/// Packets to carry: one set of bytes for both contenders.
typedef struct dpdk_sources dpdk_sources;

/// A receive queue of libcleave over a guest in this process that is not DPDK's.
typedef struct dpdk_guest dpdk_guest;

typedef struct dpdk_shape {
    bool packed;
    bool mergeable;
    bool checksums;  ///< what the drivers send leaves its TCP checksum to the device
    uint32_t ring_size;
    uint32_t buffer_bytes;  ///< of a posted receive buffer
    uint32_t packet_bytes;  ///< of the largest packet
} dpdk_shape;

/// What one run cost on the device's side.
typedef struct dpdk_tally {
    uint64_t cycles;
    uint64_t packets;
    uint64_t bursts;
    uint64_t damaged;  ///< packets that arrived otherwise than sent; only a verifying run looks
} dpdk_tally;

/// Where a guest's virtqueue and header queue lie, as `cleave_rq_create` wants to know it.
typedef struct dpdk_guest_layout {
    bool packed;
    bool mergeable;
    uint32_t ring_size;
    uint32_t slot_size, slot_count;  ///< 0: without a header queue, packets are placed whole
    bool places_tiny_packets;        ///< packets that fit a slot go there entirely
    uint64_t guest_base;
    void *memory;
    uint64_t memory_bytes;
    void *descriptor_area, *driver_area, *device_area;
    void *slots, *control;
    uint16_t base;  ///< where the device goes on
} dpdk_guest_layout;

/// The guest's turn: takes the `count` packets that were sent from number `first` on, and posts
/// their buffers again.
typedef void (*dpdk_guest_turn)(void *context, uint32_t first, uint32_t count);

const char *dpdk_bench_error(void);
/// Version of DPDK, and of libcleave and its build.
const char *dpdk_bench_versions(void);

/// Starts DPDK's environment on `cpu` with memory of 4 KiB pages.
int dpdk_bench_start(int cpu, uint32_t megabytes, const char *directory);

dpdk_pair *dpdk_pair_create(const dpdk_shape *shape);
void dpdk_pair_destroy(dpdk_pair *pair);

/// `count` TCP packets, a multiple of 32, in an order that no prefetcher guesses.
dpdk_sources *dpdk_sources_create(uint32_t packet_bytes, uint32_t count);
void dpdk_sources_destroy(dpdk_sources *sources);
/// Packet `index` in the order of sending.
const void *dpdk_sources_packet(const dpdk_sources *sources, uint32_t index);
/// The next 32 packets: number of the first.
uint32_t dpdk_sources_next(dpdk_sources *sources);

/// Bursts of 32 through `rte_vhost_enqueue_burst`.
int dpdk_run_enqueue(
    dpdk_pair *pair, dpdk_sources *sources, uint32_t bursts, bool verify, dpdk_tally *tally);
/// Bursts of 32 through `cleave_rq_enqueue_refs`.
/// - from_mbufs: packets are described anew for each call, from mbufs, and that is timed too.
int dpdk_run_cleave_enqueue(
    dpdk_pair *pair, dpdk_sources *sources, uint32_t bursts, bool from_mbufs, bool verify,
    dpdk_tally *tally);

/// `packets` through the enqueue of either from this thread, with the driver on a thread of its
/// own on `driver_cpu`.
int dpdk_run_threads(
    dpdk_pair *pair, dpdk_sources *sources, bool uses_cleave, int driver_cpu, uint64_t packets,
    double *packets_per_second);

/// Turns packets into those that a guest sends: from now on for the two functions below only.
void dpdk_sources_release(dpdk_sources *sources);
/// Takes back what the drivers' transmit rings still hold of them; before they are destroyed.
int dpdk_sources_reclaim(dpdk_sources *sources, dpdk_pair *pair);
/// Bursts of 32 through `rte_vhost_dequeue_burst`, into mbufs.
int dpdk_run_dequeue(
    dpdk_pair *pair, dpdk_sources *sources, uint32_t bursts, bool verify, dpdk_tally *tally);
/// Bursts of 32 through `cleave_txq_dequeue_burst` into mbufs of the same pool, and
/// `cleave_txq_complete`; allocating and copying is timed too.
int dpdk_run_cleave_dequeue(
    dpdk_pair *pair, dpdk_sources *sources, uint32_t bursts, bool verify, dpdk_tally *tally);

dpdk_guest *dpdk_guest_create(const dpdk_guest_layout *layout);
/// Ends the use of the virtqueue.
/// Returns where it can be resumed.
uint16_t dpdk_guest_destroy(dpdk_guest *guest);
/// As `dpdk_run_cleave_enqueue`, prepared packets; `turn` is the driver.
int dpdk_run_guest_enqueue(
    dpdk_guest *guest, dpdk_sources *sources, uint32_t bursts, dpdk_guest_turn turn,
    void *context, dpdk_tally *tally);

#ifdef __cplusplus
}
#endif

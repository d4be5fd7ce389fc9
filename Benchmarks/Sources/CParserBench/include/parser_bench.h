#pragma once
// What the shared object with DPDK's parser in it offers to the harness.
#include <stdint.h>

/// Version of DPDK.
typedef const char *(*parser_bench_version)(void);

/// Describes `count` frames in mbufs, in the order in which they will be parsed.
/// Returns NULL without memory.
typedef void *(*parser_bench_describe)(
    const void *const *frames, const uint32_t *byte_counts, uint32_t count);
typedef void (*parser_bench_forget)(void *packets);

/// Parses `count` of the frames from number `first` on by `rte_net_get_ptype`, all layers.
/// - lengths: bytes of each frame's headers up to the end of TCP or UDP; 0 for another frame.
typedef void (*parser_bench_parse)(
    void *packets, uint32_t first, uint32_t count, uint16_t *lengths);

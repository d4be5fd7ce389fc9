#pragma once
// Shared by the parts of the shared object behind dpdk_bench.h.
#include <cleave.h>
#include <rte_mbuf.h>

#include "dpdk_bench.h"

enum { BURST = 32 };

/// One virtio-user port with the vhost device that its socket led to.
struct endpoint {
    char path[96];
    char name[32];
    int vid;
    uint16_t port;
    bool is_registered, has_port;
};

struct dpdk_pair {
    dpdk_shape shape;
    struct rte_mempool *pool;         // of the guests' drivers
    struct rte_mempool *device_pool;  // of the devices, for what they dequeue
    struct endpoint dpdk, cleave;
    cleave_memory *memory;
    cleave_rq *rq;
    cleave_txq *txq;
};

struct dpdk_sources {
    struct rte_mempool *pool;
    uint32_t packet_bytes, count, next;
    struct rte_mbuf **mbufs;
    cleave_ref *packets;
};

/// The one context of this process.
extern cleave_context *vhost_context;

/// Keeps a sentence for `dpdk_bench_error`.
/// - Returns: -1.
int vhost_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
/// The same for a result of libcleave on `handle`.
int vhost_fail_cleave(const char *what, int result, const void *handle);

/// The guest's memory as vhost mapped it.
cleave_memory *vhost_memory(int vid);

// Throughput over two cores: the device on the caller's, the driver on a thread of its own. Both
// contenders meet the same virtio-user code; what differs is the device's call.
#include <pthread.h>
#include <rte_cycles.h>
#include <rte_ethdev.h>
#include <rte_lcore.h>
#include <rte_pause.h>
#include <rte_vhost.h>
#include <sched.h>
#include <stdatomic.h>

#include "vhost.h"

struct driver {
    uint16_t port;
    int cpu;
    _Atomic bool is_ready, failed, stop;
    _Atomic uint64_t received;
};

// Receives and frees until told to stop. Registered, so that its mempool cache works as an lcore's.
static void *drive(void *argument) {
    struct driver *driver = argument;
    cpu_set_t cpus;
    CPU_ZERO(&cpus);
    CPU_SET(driver->cpu, &cpus);
    if (pthread_setaffinity_np(pthread_self(), sizeof cpus, &cpus) != 0 ||
        rte_thread_register() != 0) {
        atomic_store(&driver->failed, true);
        atomic_store(&driver->is_ready, true);
        return NULL;
    }
    atomic_store(&driver->is_ready, true);
    uint64_t received = 0;
    while (!atomic_load_explicit(&driver->stop, memory_order_relaxed)) {
        struct rte_mbuf *mbufs[BURST];
        const uint16_t got = rte_eth_rx_burst(driver->port, 0, mbufs, BURST);
        if (got == 0) continue;
        rte_pktmbuf_free_bulk(mbufs, got);
        received += got;
        atomic_store_explicit(&driver->received, received, memory_order_release);
    }
    rte_thread_unregister();
    return NULL;
}

// One burst; what found no buffer is sent again.
static int place(dpdk_pair *pair, dpdk_sources *sources, uint32_t first, bool uses_cleave) {
    if (!uses_cleave) {
        return rte_vhost_enqueue_burst(pair->dpdk.vid, 0, sources->mbufs + first, BURST);
    }
    uint32_t events = 0;
    return cleave_rq_enqueue_refs(pair->rq, sources->packets + first, BURST, &events);
}

int dpdk_run_threads(
    dpdk_pair *pair, dpdk_sources *sources, bool uses_cleave, int driver_cpu, uint64_t packets,
    double *packets_per_second) {
    struct driver driver = {
        .port = uses_cleave ? pair->cleave.port : pair->dpdk.port, .cpu = driver_cpu};
    pthread_t thread;
    if (pthread_create(&thread, NULL, drive, &driver) != 0) return vhost_fail("no thread");
    while (!atomic_load(&driver.is_ready)) rte_pause();
    const uint64_t limit = 20 * rte_get_tsc_hz();
    const uint64_t start = rte_rdtsc();
    uint64_t placed = 0;
    int result = atomic_load(&driver.failed) ? vhost_fail("CPU %d cannot be used", driver_cpu) : 0;
    while (result == 0 && placed < packets) {
        const uint32_t first = dpdk_sources_next(sources);
        const int count = place(pair, sources, first, uses_cleave);
        if (count < 0) result = vhost_fail("a burst was refused (%d)", count);
        if (rte_rdtsc() - start > limit) result = vhost_fail("two threads: too slow");
        placed += count > 0 ? (uint64_t)count : 0;
    }
    while (result == 0 && atomic_load(&driver.received) < placed) {
        if (rte_rdtsc() - start > limit) result = vhost_fail("two threads: packets were lost");
    }
    const uint64_t cycles = rte_rdtsc() - start;
    *packets_per_second = (double)placed * (double)rte_get_tsc_hz() / (double)cycles;
    atomic_store(&driver.stop, true);
    pthread_join(thread, NULL);
    return result;
}

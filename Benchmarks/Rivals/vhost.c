// DPDK's environment, pairs of ports, and packets; the runs are in vhost_runs.c.
#include "vhost.h"

#include <dlfcn.h>
#include <rte_bus_vdev.h>
#include <rte_eal.h>
#include <rte_ethdev.h>
#include <rte_vhost.h>
#include <rte_version.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

cleave_context *vhost_context;
static char error_text[512];
static char socket_directory[64];
static unsigned endpoint_count;

const char *dpdk_bench_error(void) { return error_text; }

int vhost_fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(error_text, sizeof error_text, format, arguments);
    va_end(arguments);
    return -1;
}

int vhost_fail_cleave(const char *what, int result, const void *handle) {
    char text[256];
    if (cleave_last_error(handle, text, sizeof text) < 0) text[0] = 0;
    return vhost_fail("%s: %s: %s", what, cleave_strerror(result), text);
}

// For which processors the loader's choice of libcleave was built.
static const char *cleave_build(void) {
    Dl_info info;
    if (dladdr((const void *)(uintptr_t)&cleave_version, &info) == 0) return "unknown";
    return strstr(info.dli_fname, "x86-64-v3") != NULL ? "x86-64-v3" : "baseline";
}

const char *dpdk_bench_versions(void) {
    static char text[128];
    snprintf(text, sizeof text, "%s, libcleave %s (%s)", rte_version(), cleave_version(),
             cleave_build());
    return text;
}

int dpdk_bench_start(int cpu, uint32_t megabytes, const char *directory) {
    // EAL and vhost write now and then: what was printed before comes out before.
    setvbuf(stdout, NULL, _IOLBF, 0);
    char lcores[32], memory[32], prefix[48];
    snprintf(lcores, sizeof lcores, "0@%d", cpu);
    snprintf(memory, sizeof memory, "%u", megabytes);
    snprintf(prefix, sizeof prefix, "cleave%d", (int)getpid());
    snprintf(socket_directory, sizeof socket_directory, "%s", directory);
    char *arguments[] = {"dpdk-bench",     "--lcores",      lcores,   "-m",
                         memory,           "--no-huge",     "--no-pci", "--no-telemetry",
                         "--iova-mode=va", "--file-prefix", prefix,   "--log-level=error"};
    const int count = sizeof arguments / sizeof arguments[0];
    if (rte_eal_init(count, arguments) < 0) {
        return vhost_fail("rte_eal_init: %s", rte_strerror(rte_errno));
    }
    const int result = cleave_context_create(NULL, &vhost_context);
    return result < 0 ? vhost_fail("cleave_context_create: %s", cleave_strerror(result)) : 0;
}

// ---- Devices: rte_vhost tells of one by its socket's path --------------------------------------

enum { MAXIMUM_DEVICES = 64 };
static struct {
    char path[96];
    _Atomic int vid;  // -1 until it is ready
} devices[MAXIMUM_DEVICES];

static int new_device(int vid) {
    char path[96];
    if (rte_vhost_get_ifname(vid, path, sizeof path) != 0) return -1;
    for (int i = 0; i < MAXIMUM_DEVICES; i++) {
        if (strcmp(devices[i].path, path) == 0) atomic_store(&devices[i].vid, vid);
    }
    return 0;
}

static void destroy_device(int vid) { (void)vid; }

static const struct rte_vhost_device_ops device_callbacks = {
    .new_device = new_device,
    .destroy_device = destroy_device,
};

static int wait_for_device(unsigned number) {
    for (int i = 0; i < 5000; i++) {
        const int vid = atomic_load(&devices[number].vid);
        if (vid >= 0) return vid;
        usleep(1000);
    }
    return -1;
}

static int open_port(struct endpoint *end, const dpdk_shape *shape, struct rte_mempool *pool) {
    char options[256];
    snprintf(options, sizeof options,
             "path=%s,queues=1,queue_size=%u,mrg_rxbuf=%d,in_order=0,packed_vq=%d,"
             "mac=02:00:00:00:00:01",
             end->path, shape->ring_size, shape->mergeable, shape->packed);
    if (rte_vdev_init(end->name, options) != 0) return vhost_fail("%s: cannot be made", end->name);
    end->has_port = true;
    if (rte_eth_dev_get_port_by_name(end->name, &end->port) != 0) {
        return vhost_fail("%s: no port", end->name);
    }
    struct rte_eth_conf config = {0};
    if (shape->checksums) config.txmode.offloads = RTE_ETH_TX_OFFLOAD_TCP_CKSUM;
    if (rte_eth_dev_configure(end->port, 1, 1, &config) != 0 ||
        rte_eth_rx_queue_setup(end->port, 0, shape->ring_size, SOCKET_ID_ANY, NULL, pool) != 0 ||
        rte_eth_tx_queue_setup(end->port, 0, shape->ring_size, SOCKET_ID_ANY, NULL) != 0 ||
        rte_eth_dev_start(end->port) != 0) {
        return vhost_fail("%s: cannot be started", end->name);
    }
    return 0;
}

static int open_endpoint(
    struct endpoint *end, const dpdk_shape *shape, struct rte_mempool *pool) {
    const unsigned number = endpoint_count++ % MAXIMUM_DEVICES;
    snprintf(end->path, sizeof end->path, "%s/%u", socket_directory, number);
    snprintf(end->name, sizeof end->name, "net_virtio_user%u", number);
    snprintf(devices[number].path, sizeof devices[number].path, "%s", end->path);
    atomic_store(&devices[number].vid, -1);
    unlink(end->path);
    // The way without the older flags: it is the faster one.
    if (rte_vhost_driver_register(
            end->path, shape->checksums ? RTE_VHOST_USER_NET_COMPLIANT_OL_FLAGS : 0) != 0 ||
        rte_vhost_driver_callback_register(end->path, &device_callbacks) != 0 ||
        rte_vhost_driver_start(end->path) != 0) {
        return vhost_fail("%s: cannot listen", end->path);
    }
    end->is_registered = true;
    if (open_port(end, shape, pool) != 0) return -1;
    end->vid = wait_for_device(number);
    if (end->vid < 0) return vhost_fail("%s: the device did not get ready", end->path);
    rte_vhost_enable_guest_notification(end->vid, 0, 0);
    rte_vhost_enable_guest_notification(end->vid, 1, 0);
    return 0;
}

static void close_endpoint(struct endpoint *end) {
    if (end->has_port) {
        rte_eth_dev_stop(end->port);
        rte_eth_dev_close(end->port);
        rte_vdev_uninit(end->name);
    }
    if (end->is_registered) rte_vhost_driver_unregister(end->path);
}

// ---- libcleave in the place of the data plane ------------------------------------------------

cleave_memory *vhost_memory(int vid) {
    struct rte_vhost_memory *table = NULL;
    cleave_memory *memory = NULL;
    cleave_region regions[64];
    if (rte_vhost_get_mem_table(vid, &table) != 0 || table->nregions > 64) {
        vhost_fail("no memory table");
        free(table);
        return NULL;
    }
    for (uint32_t i = 0; i < table->nregions; i++) {
        const struct rte_vhost_mem_region *from = &table->regions[i];
        regions[i] = (cleave_region){from->guest_phys_addr, from->size,
                                     (void *)(uintptr_t)from->host_user_addr, 0};
    }
    cleave_memory_config config = {sizeof config, table->nregions, regions, NULL};
    const int result = cleave_memory_create(vhost_context, &config, &memory);
    free(table);
    if (result < 0) vhost_fail_cleave("cleave_memory_create", result, vhost_context);
    return memory;
}

// The guest's receive queue is the first vring, its transmit queue the second.
static int attach_cleave(dpdk_pair *pair) {
    struct rte_vhost_vring receive, transmit;
    cleave_rq_config rq = {.struct_size = sizeof rq};
    cleave_txq_config txq = {.struct_size = sizeof txq};
    const int vid = pair->cleave.vid;
    pair->memory = vhost_memory(vid);
    if (pair->memory == NULL) return -1;
    if (rte_vhost_get_vhost_vring(vid, 0, &receive) != 0 ||
        rte_vhost_get_vhost_vring(vid, 1, &transmit) != 0 ||
        rte_vhost_get_vring_base(vid, 0, &rq.last_avail, &rq.last_used) != 0 ||
        rte_vhost_get_vring_base(vid, 1, &txq.last_avail, &txq.last_used) != 0 ||
        rte_vhost_get_negotiated_features(vid, &rq.features) != 0) {
        return vhost_fail("no virtqueues");
    }
    rq.size = receive.size;
    rq.burst = BURST;
    rq.descriptor_area = receive.desc;
    rq.driver_area = receive.avail;
    rq.device_area = receive.used;
    int result = cleave_rq_create(pair->memory, &rq, &pair->rq);
    if (result < 0) return vhost_fail_cleave("cleave_rq_create", result, pair->memory);
    txq.features = rq.features;
    txq.size = transmit.size;
    txq.descriptor_area = transmit.desc;
    txq.driver_area = transmit.avail;
    txq.device_area = transmit.used;
    result = cleave_txq_create(pair->memory, &txq, &pair->txq);
    return result < 0 ? vhost_fail_cleave("cleave_txq_create", result, pair->memory) : 0;
}

dpdk_pair *dpdk_pair_create(const dpdk_shape *shape) {
    static unsigned number;
    char name[32];
    dpdk_pair *pair = calloc(1, sizeof *pair);
    if (pair == NULL) return NULL;
    pair->shape = *shape;
    snprintf(name, sizeof name, "guest%u", number++);
    // virtio-user posts the room behind the headroom, and 12 bytes of it for the net header.
    const uint32_t room = RTE_PKTMBUF_HEADROOM + shape->buffer_bytes - 12;
    pair->pool = rte_pktmbuf_pool_create(
        name, 6 * shape->ring_size + 2048, 64, 0, (uint16_t)room, SOCKET_ID_ANY);
    snprintf(name, sizeof name, "device%u", number - 1);
    pair->device_pool = rte_pktmbuf_pool_create(
        name, 1024, 256, 0, (uint16_t)(RTE_PKTMBUF_HEADROOM + shape->packet_bytes), SOCKET_ID_ANY);
    if (pair->pool == NULL || pair->device_pool == NULL) {
        vhost_fail("no memory for receive buffers: %s", rte_strerror(rte_errno));
    } else if (open_endpoint(&pair->dpdk, shape, pair->pool) == 0 &&
               open_endpoint(&pair->cleave, shape, pair->pool) == 0 && attach_cleave(pair) == 0) {
        return pair;
    }
    dpdk_pair_destroy(pair);
    return NULL;
}

void dpdk_pair_destroy(dpdk_pair *pair) {
    if (pair == NULL) return;
    cleave_rq_destroy(pair->rq);
    cleave_txq_destroy(pair->txq);
    cleave_memory_destroy(pair->memory);
    close_endpoint(&pair->dpdk);
    close_endpoint(&pair->cleave);
    rte_mempool_free(pair->pool);
    rte_mempool_free(pair->device_pool);
    free(pair);
}

// ---- Packets -----------------------------------------------------------------------------------

// Ethernet, IPv4, TCP, and a pattern that tells packets apart.
static void fill_frame(unsigned char *frame, uint32_t byte_count, uint32_t number) {
    static const unsigned char headers[54] = {
        2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 6, 0, 0, 10,
        0, 0, 1, 10, 0, 0, 2, 4, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 16};
    memcpy(frame, headers, sizeof headers);
    frame[16] = (unsigned char)((byte_count - 14) >> 8);
    frame[17] = (unsigned char)(byte_count - 14);
    memcpy(frame + 38, &number, 4);
    for (uint32_t i = 54; i < byte_count; i++) frame[i] = (unsigned char)(number + 7 * i);
}

static void describe(dpdk_sources *sources) {
    // Fisher and Yates with a fixed seed: runs compare.
    uint64_t state = 88172645463325252u;
    for (uint32_t i = sources->count - 1; i > 0; i--) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        const uint32_t other = (uint32_t)(state % (i + 1));
        struct rte_mbuf *swapped = sources->mbufs[i];
        sources->mbufs[i] = sources->mbufs[other];
        sources->mbufs[other] = swapped;
    }
    for (uint32_t i = 0; i < sources->count; i++) {
        sources->packets[i] = (cleave_ref){
            .data = rte_pktmbuf_mtod(sources->mbufs[i], void *), .length = sources->packet_bytes};
    }
}

dpdk_sources *dpdk_sources_create(uint32_t packet_bytes, uint32_t count) {
    static unsigned number;
    char name[32];
    dpdk_sources *sources = calloc(1, sizeof *sources);
    if (sources == NULL) return NULL;
    sources->packet_bytes = packet_bytes;
    sources->count = count;
    snprintf(name, sizeof name, "sources%u", number++);
    const uint32_t room = (RTE_PKTMBUF_HEADROOM + packet_bytes + 63) & ~63u;
    sources->pool = rte_pktmbuf_pool_create(name, count, 0, 0, (uint16_t)room, SOCKET_ID_ANY);
    sources->mbufs = calloc(count, sizeof *sources->mbufs);
    sources->packets = calloc(count, sizeof *sources->packets);
    if (sources->pool == NULL || sources->mbufs == NULL || sources->packets == NULL ||
        rte_pktmbuf_alloc_bulk(sources->pool, sources->mbufs, count) != 0) {
        vhost_fail("no memory for %u packets: %s", count, rte_strerror(rte_errno));
        dpdk_sources_destroy(sources);
        return NULL;
    }
    for (uint32_t i = 0; i < count; i++) {
        char *frame = rte_pktmbuf_append(sources->mbufs[i], (uint16_t)packet_bytes);
        fill_frame((unsigned char *)frame, packet_bytes, i);
    }
    describe(sources);
    return sources;
}

void dpdk_sources_destroy(dpdk_sources *sources) {
    if (sources == NULL) return;
    rte_mempool_free(sources->pool);
    free(sources->mbufs);
    free(sources->packets);
    free(sources);
}

// The pool has no caches and hands out what was freed longest ago: in this order, over and over.
void dpdk_sources_release(dpdk_sources *sources) {
    rte_pktmbuf_free_bulk(sources->mbufs, sources->count);
}

const void *dpdk_sources_packet(const dpdk_sources *sources, uint32_t index) {
    return sources->packets[index].data;
}

uint32_t dpdk_sources_next(dpdk_sources *sources) {
    const uint32_t first = sources->next;
    sources->next = first + BURST == sources->count ? 0 : first + BURST;
    return first;
}

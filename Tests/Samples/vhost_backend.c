/* A vhost-user network backend: DPDK's rte_vhost as control plane (sockets, negotiation, memory,
 * ring addresses), libcleave as data plane in the place of rte_vhost_enqueue_burst and
 * rte_vhost_dequeue_burst. What guests send comes back to them (an echo), headers swapped.
 *
 *   cc vhost_backend.c -o vhost_backend $(pkg-config --cflags --libs libdpdk) -lcleave
 *   ./vhost_backend SOCKET [EAL options]
 *
 * Any vhost-user front end connects to SOCKET: QEMU, DPDK's virtio-user. Ends on SIGINT, SIGTERM.
 */
#include <cleave.h>
#include <rte_eal.h>
#include <rte_ether.h>
#include <rte_vhost.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BURST = 32, QUEUES = 2, FRAME_BYTES = 65589, MAXIMUM_REGIONS = 64 };

/* One guest: what libcleave was handed of it. */
struct guest {
    int vid;
    cleave_memory *memory;
    cleave_rq *rq;   /* vring 0: the guest receives, we enqueue */
    cleave_txq *txq; /* vring 1: the guest transmits, we dequeue */
    uint64_t echoed;
};

static cleave_context *cleave;
static struct guest guest;
/* rte_vhost calls back on its own thread. It announces a guest by `offered`, asks for it back by
 * `wanted`; the data path answers in between two bursts. */
static _Atomic int offered = -1;
static _Atomic int wanted_back;
static volatile sig_atomic_t stopping;

static void log_line(void *user, int level, const char *message) {
    (void)user;
    fprintf(stderr, "libcleave %d: %s\n", level, message);
}

static int report(const char *what, int result, const void *handle) {
    char text[256];
    if (result >= 0) return 0;
    if (handle == NULL || cleave_last_error(handle, text, sizeof text) < 0) text[0] = 0;
    fprintf(stderr, "%s: %s: %s\n", what, cleave_strerror(result), text);
    return -1;
}

/* ---- The hand-over ------------------------------------------------------------------------- */

static int attach_memory(struct guest *g) {
    struct rte_vhost_memory *table = NULL;
    cleave_region regions[MAXIMUM_REGIONS];
    cleave_memory_config config = {.struct_size = sizeof config, .regions = regions};
    if (rte_vhost_get_mem_table(g->vid, &table) != 0) return -1;
    for (uint32_t i = 0; i < table->nregions && i < MAXIMUM_REGIONS; i++) {
        const struct rte_vhost_mem_region *from = &table->regions[i];
        regions[i] = (cleave_region){.guest_address = from->guest_phys_addr,
                                     .size = from->size,
                                     .host = (void *)(uintptr_t)from->host_user_addr};
        config.region_count = i + 1;
    }
    free(table);
    return report("memory", cleave_memory_create(cleave, &config, &g->memory), cleave);
}

static int attach_queues(struct guest *g) {
    struct rte_vhost_vring ring;
    cleave_rq_config rq = {.struct_size = sizeof rq, .burst = BURST, .flags = CLEAVE_RQ_CALL_FD};
    cleave_txq_config txq = {.struct_size = sizeof txq, .flags = CLEAVE_TXQ_CALL_FD};

    if (rte_vhost_get_negotiated_features(g->vid, &rq.features) != 0 ||
        rte_vhost_get_vhost_vring(g->vid, 0, &ring) != 0 ||
        rte_vhost_get_vring_base(g->vid, 0, &rq.last_avail, &rq.last_used) != 0) {
        return -1;
    }
    rq.size = ring.size;
    rq.descriptor_area = ring.desc;
    rq.driver_area = ring.avail;
    rq.device_area = ring.used;
    rq.call_fd = ring.callfd;
    if (ring.callfd < 0) rq.flags = 0;
    if (report("rq", cleave_rq_create(g->memory, &rq, &g->rq), g->memory) != 0) return -1;

    if (rte_vhost_get_vhost_vring(g->vid, 1, &ring) != 0 ||
        rte_vhost_get_vring_base(g->vid, 1, &txq.last_avail, &txq.last_used) != 0) {
        return -1;
    }
    txq.features = rq.features;
    txq.size = ring.size;
    txq.descriptor_area = ring.desc;
    txq.driver_area = ring.avail;
    txq.device_area = ring.used;
    txq.call_fd = ring.callfd;
    if (ring.callfd < 0) txq.flags = 0;
    return report("txq", cleave_txq_create(g->memory, &txq, &g->txq), g->memory);
}

/* Gives the rings back: rte_vhost learns where they stand, for whoever resumes them. */
static void detach(struct guest *g) {
    uint16_t base;
    if (cleave_rq_stop(g->rq, &base) == 0) rte_vhost_set_vring_base(g->vid, 0, base, base);
    if (cleave_txq_stop(g->txq, &base) == 0) rte_vhost_set_vring_base(g->vid, 1, base, base);
    cleave_rq_destroy(g->rq);
    cleave_txq_destroy(g->txq);
    cleave_memory_destroy(g->memory);
    if (g->vid >= 0) printf("guest gone, %llu packets echoed\n", (unsigned long long)g->echoed);
    *g = (struct guest){.vid = -1};
}

/* ---- rte_vhost's callbacks, on its thread -------------------------------------------------- */

static int new_device(int vid) {
    rte_vhost_enable_guest_notification(vid, 0, 0);
    rte_vhost_enable_guest_notification(vid, 1, 0);
    atomic_store(&offered, vid);
    return 0;
}

/* Behind this call rte_vhost unmaps the guest's memory: wait until nobody uses it. */
static void destroy_device(int vid) {
    (void)vid;
    atomic_store(&wanted_back, 1);
    while (atomic_load(&wanted_back) && !stopping) usleep(100);
}

static const struct rte_vhost_device_ops callbacks = {
    .new_device = new_device,
    .destroy_device = destroy_device,
};

static void stop(int signal_number) {
    (void)signal_number;
    stopping = 1;
}

/* ---- The data path ------------------------------------------------------------------------- */

/* Copies a packet out of guest memory, which the guest may change meanwhile. */
static uint32_t copy_out(unsigned char *frame, const cleave_packet *packet) {
    uint32_t length = packet->length;
    memcpy(frame, packet->data, length);
    for (int i = 0; i < packet->more_count; i++) {
        memcpy(frame + length, packet->more[i].data, packet->more[i].length);
        length += packet->more[i].length;
    }
    return length;
}

static void echo(struct guest *g) {
    static unsigned char frames[BURST][FRAME_BYTES];
    cleave_packet packets[BURST];
    const int count = cleave_txq_dequeue_burst(g->txq, packets, BURST, NULL);
    if (count <= 0) return;
    for (int i = 0; i < count; i++) {
        struct rte_ether_addr address;
        const uint32_t length = copy_out(frames[i], &packets[i]);
        struct rte_ether_hdr *header = (struct rte_ether_hdr *)frames[i];
        address = header->src_addr;
        header->src_addr = header->dst_addr;
        header->dst_addr = address;
        packets[i] = (cleave_packet){.data = frames[i], .length = length};
    }
    cleave_txq_complete(g->txq, (uint32_t)count, NULL);
    /* What the guest has no buffers for is lost, as on a wire. */
    const int done = cleave_rq_enqueue_burst(g->rq, packets, (uint32_t)count, NULL);
    if (done > 0) g->echoed += (uint64_t)done;
}

int main(int argc, char **argv) {
    if (argc < 2) {
        fprintf(stderr, "usage: %s SOCKET [EAL options]\n", argv[0]);
        return 2;
    }
    const char *path = argv[1];
    /* EAL sees its options behind a program name. */
    argv[1] = argv[0];
    if (rte_eal_init(argc - 1, argv + 1) < 0) return 1;
    cleave_context_config config = {.struct_size = sizeof config, .log = log_line};
    if (report("context", cleave_context_create(&config, &cleave), NULL) != 0) return 1;
    guest.vid = -1;
    /* Whoever started us may have blocked them. */
    sigset_t ending;
    sigemptyset(&ending);
    sigaddset(&ending, SIGINT);
    sigaddset(&ending, SIGTERM);
    pthread_sigmask(SIG_UNBLOCK, &ending, NULL);
    signal(SIGINT, stop);
    signal(SIGTERM, stop);
    if (rte_vhost_driver_register(path, 0) != 0 ||
        /* Packets are not to be segmented or checksummed by us. */
        rte_vhost_driver_disable_features(path, 1ull << 0 | 1ull << 11 | 1ull << 12 | 1ull << 14) ||
        rte_vhost_driver_callback_register(path, &callbacks) != 0 ||
        rte_vhost_driver_start(path) != 0) {
        fprintf(stderr, "%s: cannot listen\n", path);
        return 1;
    }
    printf("listening at %s\n", path);
    fflush(stdout);
    while (!stopping) {
        const int vid = atomic_exchange(&offered, -1);
        if (vid >= 0) {
            guest.vid = vid;
            if (attach_memory(&guest) != 0 || attach_queues(&guest) != 0) detach(&guest);
        }
        if (atomic_load(&wanted_back)) {
            detach(&guest);
            atomic_store(&wanted_back, 0);
        }
        if (guest.txq != NULL) echo(&guest);
    }
    detach(&guest);
    rte_vhost_driver_unregister(path);
    cleave_context_destroy(cleave);
    rte_eal_cleanup();
    return 0;
}

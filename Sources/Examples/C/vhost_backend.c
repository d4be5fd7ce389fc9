/* A vhost-user network backend: DPDK's rte_vhost as control plane (sockets, negotiation, memory,
 * ring addresses), libcleave as data plane in the place of rte_vhost_enqueue_burst and
 * rte_vhost_dequeue_burst. Every queue pair returns what the guest sends on it, addresses swapped.
 *
 *   cc vhost_backend.c -o vhost_backend $(pkg-config --cflags --libs libdpdk) -lcleave
 *   ./vhost_backend SOCKET [EAL options]
 *
 * Any vhost-user front end connects to SOCKET, several at a time: QEMU, DPDK's virtio-user. Ends on
 * SIGINT, SIGTERM.
 */
#include <cleave.h>
#include <pthread.h>
#include <rte_eal.h>
#include <rte_ether.h>
#include <rte_vhost.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    BURST = 32,
    FRAME_BYTES = CLEAVE_MAX_PACKET_BYTES,
    MAXIMUM_REGIONS = 64,
    MAXIMUM_GUESTS = 16,
    /* What rte_vhost 22.11 tells every front end that asks; it cannot be made to tell fewer. */
    MAXIMUM_PAIRS = 128,
    MAXIMUM_RINGS = 2 * MAXIMUM_PAIRS
};

/* ---- What is offered ----------------------------------------------------------------------- */

/* rte_vhost offers more than this, because it keeps the rest inside its own enqueue and dequeue,
 * which nobody calls here. These lists name what is served, and all else is withdrawn, so a later
 * rte_vhost with further offers does not make this program promise them. */
#define BIT(number) (1ull << (number))

/* The channel by which a back end asks its front end; DPDK gave it another name later. */
#ifdef VHOST_USER_PROTOCOL_F_BACKEND_REQ
enum { BACKEND_REQ = VHOST_USER_PROTOCOL_F_BACKEND_REQ };
#else
enum { BACKEND_REQ = VHOST_USER_PROTOCOL_F_SLAVE_REQ };
#endif

static const uint64_t served_features =
    /* libcleave obeys these. */
    BIT(VIRTIO_F_VERSION_1) | BIT(VIRTIO_F_RING_PACKED) | BIT(VIRTIO_F_IN_ORDER) |
    BIT(VIRTIO_F_ANY_LAYOUT) | BIT(VIRTIO_RING_F_INDIRECT_DESC) | BIT(VIRTIO_RING_F_EVENT_IDX) |
    BIT(VIRTIO_NET_F_MRG_RXBUF) |
    /* This program serves all pairs. The front end adds the control queue that sets their number:
     * QEMU and virtio-user do, virtio_uml does not (withdraw MQ and RING_PACKED for that one). */
    BIT(VIRTIO_NET_F_MQ) |
    /* rte_vhost answers. */
    BIT(VHOST_USER_F_PROTOCOL_FEATURES);

static const uint64_t served_protocol_features =
    BIT(VHOST_USER_PROTOCOL_F_MQ) | BIT(VHOST_USER_PROTOCOL_F_REPLY_ACK) |
    BIT(VHOST_USER_PROTOCOL_F_STATUS) | BIT(BACKEND_REQ);

static int limit_offers(const char *path) {
    uint64_t protocol = 0;
    uint32_t pairs = 0;
    if (rte_vhost_driver_get_queue_num(path, &pairs) != 0 || pairs > MAXIMUM_PAIRS) return -1;
    if (rte_vhost_driver_get_protocol_features(path, &protocol) != 0) return -1;
    protocol &= served_protocol_features;
    if (rte_vhost_driver_set_protocol_features(path, protocol) != 0) return -1;
    /* Not set_features: with it rte_vhost no longer takes the device for a network card. */
    return rte_vhost_driver_disable_features(path, ~served_features);
}

/* ---- Guests -------------------------------------------------------------------------------- */

/* One connection: what rte_vhost said of it, and what libcleave was handed of it. */
struct guest {
    bool running;              /* between new_device and destroy_device */
    bool ready[MAXIMUM_RINGS]; /* has addresses and descriptors, and is enabled */
    uint16_t ring_count;       /* no ring from here on was ever ready */
    cleave_memory *memory;     /* NULL: the data path has nothing to do here */
    cleave_rq *rq[MAXIMUM_PAIRS];   /* ring 2n: the guest receives, we enqueue */
    cleave_txq *txq[MAXIMUM_PAIRS]; /* ring 2n+1: the guest transmits, we dequeue */
    unsigned long long echoed;
};

static cleave_context *cleave;
/* By rte_vhost's number for the connection: it always gives the lowest that is free. */
static struct guest guests[MAXIMUM_GUESTS];
/* Guards `guests`: the data path holds it for one pass over all guests, a callback while it changes
 * one. Who holds it calls nothing of rte_vhost that takes a ring's lock, because rte_vhost holds
 * those when it calls back. */
static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;
static atomic_int callbacks_waiting;
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

static void start_ring(int vid, uint16_t index) {
    struct guest *g = &guests[vid];
    struct rte_vhost_vring ring;
    uint64_t features;
    uint16_t base, used;
    if (rte_vhost_get_negotiated_features(vid, &features) != 0 ||
        rte_vhost_get_vhost_vring(vid, index, &ring) != 0 ||
        rte_vhost_get_vring_base(vid, index, &base, &used) != 0) {
        fprintf(stderr, "ring %u of guest %d: rte_vhost does not know it\n", index, vid);
        return;
    }
    /* `used` is not looked at. The protocol carries one position of a packed ring, that of `base`;
     * whoever stopped the ring had no buffers out, so the other one is the same. */
    if (index % 2 == 0) {
        const cleave_rq_config config = {
            .struct_size = sizeof config,
            .flags = ring.callfd < 0 ? 0 : CLEAVE_RQ_CALL_FD,
            .features = features,
            .size = ring.size,
            .burst = BURST,
            .descriptor_area = ring.desc,
            .driver_area = ring.avail,
            .device_area = ring.used,
            .last_avail = base,
            .last_used = base,
            .call_fd = ring.callfd,
        };
        report("rq", cleave_rq_create(g->memory, &config, &g->rq[index / 2]), g->memory);
    } else {
        const cleave_txq_config config = {
            .struct_size = sizeof config,
            .flags = ring.callfd < 0 ? 0 : CLEAVE_TXQ_CALL_FD,
            .features = features,
            .size = ring.size,
            .descriptor_area = ring.desc,
            .driver_area = ring.avail,
            .device_area = ring.used,
            .last_avail = base,
            .last_used = base,
            .call_fd = ring.callfd,
        };
        report("txq", cleave_txq_create(g->memory, &config, &g->txq[index / 2]), g->memory);
    }
}

/* Tells rte_vhost where the ring is, for whoever resumes it: us, or the next backend. */
static void stop_ring(int vid, uint16_t index) {
    cleave_rq **rq = &guests[vid].rq[index / 2];
    cleave_txq **txq = &guests[vid].txq[index / 2];
    uint16_t base = 0;
    if (index % 2 == 0 && *rq != NULL) {
        if (cleave_rq_stop(*rq, &base) == 0) rte_vhost_set_vring_base(vid, index, base, base);
        cleave_rq_destroy(*rq);
        *rq = NULL;
    }
    if (index % 2 == 1 && *txq != NULL) {
        if (cleave_txq_stop(*txq, &base) == 0) rte_vhost_set_vring_base(vid, index, base, base);
        cleave_txq_destroy(*txq);
        *txq = NULL;
    }
}

/* Takes guest memory, and every ring that is ready, into use. */
static void attach(int vid) {
    struct guest *g = &guests[vid];
    struct rte_vhost_memory *table = NULL;
    cleave_region regions[MAXIMUM_REGIONS];
    cleave_memory_config config = {.struct_size = sizeof config, .regions = regions};
    if (rte_vhost_get_mem_table(vid, &table) != 0) return;
    for (uint32_t i = 0; i < table->nregions && i < MAXIMUM_REGIONS; i++) {
        const struct rte_vhost_mem_region *from = &table->regions[i];
        regions[i] = (cleave_region){.guest_address = from->guest_phys_addr,
                                     .size = from->size,
                                     .host = (void *)(uintptr_t)from->host_user_addr};
        config.region_count = i + 1;
    }
    free(table);
    if (report("memory", cleave_memory_create(cleave, &config, &g->memory), cleave) != 0) return;
    for (uint16_t index = 0; index < g->ring_count; index++) {
        if (g->ready[index]) start_ring(vid, index);
    }
}

/* After this nobody touches the guest's memory. */
static void detach(int vid) {
    struct guest *g = &guests[vid];
    for (uint16_t index = 0; index < g->ring_count; index++) stop_ring(vid, index);
    cleave_memory_destroy(g->memory);
    g->memory = NULL;
}

/* ---- rte_vhost's callbacks, on its thread -------------------------------------------------- */

static void take_turn(void) {
    atomic_fetch_add(&callbacks_waiting, 1);
    pthread_mutex_lock(&turn);
    atomic_fetch_sub(&callbacks_waiting, 1);
}

static int new_device(int vid) {
    take_turn();
    guests[vid].running = true;
    attach(vid);
    pthread_mutex_unlock(&turn);
    return 0;
}

/* After this call rte_vhost unmaps guest memory, or tells the front end where its rings are. */
static void destroy_device(int vid) {
    struct guest *g = &guests[vid];
    take_turn();
    detach(vid);
    g->running = false;
    printf("guest gone, %llu packets echoed\n", g->echoed);
    g->echoed = 0;
    pthread_mutex_unlock(&turn);
}

/* A ring comes and goes on its own: the front end enables and disables pairs. With a new call or
 * kick descriptor it goes for a moment, too, before rte_vhost closes the old one. So every queue is
 * made with the call descriptor that holds, and no disabled ring gets packets. */
static int vring_state_changed(int vid, uint16_t index, int enable) {
    struct guest *g = &guests[vid];
    take_turn();
    g->ready[index] = enable;
    if (index >= g->ring_count) g->ring_count = (uint16_t)(index + 1);
    stop_ring(vid, index);
    if (enable && g->memory != NULL) start_ring(vid, index);
    pthread_mutex_unlock(&turn);
    return 0;
}

/* Messages that change a running guest's memory or rings without a callback: rte_vhost keeps its
 * own data path off by locks, and ours is told by this alone. */
enum { RESET_OWNER = 4, SET_MEM_TABLE = 5, SET_VRING_NUM = 8, SET_VRING_BASE = 10 };

/* A vhost-user message begins with the number of its request. */
static uint32_t request_of(const void *message) {
    uint32_t request;
    memcpy(&request, message, sizeof request);
    return request;
}

static bool changes_rings(const void *message) {
    const uint32_t request = request_of(message);
    return request == RESET_OWNER || request == SET_MEM_TABLE ||
           (request >= SET_VRING_NUM && request <= SET_VRING_BASE);
}

static enum rte_vhost_msg_result before_message(int vid, void *message) {
    if (changes_rings(message)) {
        take_turn();
        detach(vid);
        /* rte_vhost forgets all rings then, and calls back for none. */
        if (request_of(message) == RESET_OWNER) {
            memset(guests[vid].ready, 0, sizeof guests[vid].ready);
        }
        pthread_mutex_unlock(&turn);
    }
    return RTE_VHOST_MSG_RESULT_NOT_HANDLED; /* rte_vhost goes on with it */
}

static enum rte_vhost_msg_result after_message(int vid, void *message) {
    if (changes_rings(message)) {
        take_turn();
        if (guests[vid].running) attach(vid);
        pthread_mutex_unlock(&turn);
    }
    return RTE_VHOST_MSG_RESULT_NOT_HANDLED;
}

static const struct rte_vhost_user_extern_ops message_callbacks = {
    .pre_msg_handle = before_message,
    .post_msg_handle = after_message,
};

static int new_connection(int vid) {
    if (vid >= MAXIMUM_GUESTS) return -1;
    take_turn();
    guests[vid] = (struct guest){0};
    pthread_mutex_unlock(&turn);
    return rte_vhost_extern_callback_register(vid, &message_callbacks, NULL);
}

/* No features_changed: the one feature that may change while rings run is VHOST_F_LOG_ALL, and
 * rte_vhost refuses that, because it is not offered. */
static const struct rte_vhost_device_ops callbacks = {
    .new_connection = new_connection,
    .new_device = new_device,
    .destroy_device = destroy_device,
    .vring_state_changed = vring_state_changed,
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

/* Returns what one pair's guest has sent. What the guest has no buffers for, or no ring that is
 * enabled, is lost, as on a wire. */
static int echo(cleave_txq *txq, cleave_rq *rq) {
    static unsigned char frames[BURST][FRAME_BYTES];
    cleave_packet packets[BURST];
    uint32_t events; /* for drivers without a call descriptor, and those poll */
    const int count = cleave_txq_dequeue_burst(txq, packets, BURST, &events);
    if (count <= 0) return 0;
    for (int i = 0; i < count; i++) {
        struct rte_ether_addr address;
        const uint32_t length = copy_out(frames[i], &packets[i]);
        struct rte_ether_hdr *header = (struct rte_ether_hdr *)frames[i];
        address = header->src_addr;
        header->src_addr = header->dst_addr;
        header->dst_addr = address;
        packets[i] = (cleave_packet){.data = frames[i], .length = length};
    }
    cleave_txq_complete(txq, (uint32_t)count, &events);
    if (rq == NULL) return 0;
    const int done = cleave_rq_enqueue_burst(rq, packets, (uint32_t)count, &events);
    return done > 0 ? done : 0;
}

static void pass(void) {
    for (int vid = 0; vid < MAXIMUM_GUESTS; vid++) {
        struct guest *g = &guests[vid];
        if (g->memory == NULL) continue;
        for (int pair = 0; pair < (g->ring_count + 1) / 2; pair++) {
            if (g->txq[pair] == NULL) continue;
            g->echoed += (unsigned)echo(g->txq[pair], g->rq[pair]);
        }
    }
}

int main(int argc, char **argv) {
    if (argc < 2) {
        fprintf(stderr, "usage: %s SOCKET [EAL options]\n", argv[0]);
        return 2;
    }
    const char *path = argv[1];
    /* EAL sees its options after a program name. */
    argv[1] = argv[0];
    if (rte_eal_init(argc - 1, argv + 1) < 0) return 1;
    cleave_context_config config = {.struct_size = sizeof config, .log = log_line};
    if (report("context", cleave_context_create(&config, &cleave), NULL) != 0) return 1;
    /* Whoever started us may have blocked them. */
    sigset_t ending;
    sigemptyset(&ending);
    sigaddset(&ending, SIGINT);
    sigaddset(&ending, SIGTERM);
    pthread_sigmask(SIG_UNBLOCK, &ending, NULL);
    signal(SIGINT, stop);
    signal(SIGTERM, stop);
    if (rte_vhost_driver_register(path, 0) != 0 || limit_offers(path) != 0 ||
        rte_vhost_driver_callback_register(path, &callbacks) != 0 ||
        rte_vhost_driver_start(path) != 0) {
        fprintf(stderr, "%s: cannot listen\n", path);
        return 1;
    }
    printf("listening at %s\n", path);
    fflush(stdout);
    while (!stopping) {
        /* A mutex alone would come back here at once, and callbacks might wait for ever. */
        while (atomic_load(&callbacks_waiting) > 0) sched_yield();
        pthread_mutex_lock(&turn);
        pass();
        pthread_mutex_unlock(&turn);
    }
    /* Calls destroy_device for every guest that is left. */
    rte_vhost_driver_unregister(path);
    cleave_context_destroy(cleave);
    rte_eal_cleanup();
    return 0;
}

// The timed loops. Only the device's call is timed: a burst of 32 between two reads of the TSC;
// the driver's turn in between is the same virtio-user code for both.
#include "vhost.h"

#include <rte_cycles.h>
#include <rte_ethdev.h>
#include <rte_memcpy.h>
#include <rte_vhost.h>
#include <stdlib.h>
#include <string.h>

// Bytes of a received packet, over all its buffers, against those sent.
static bool is_intact(const struct rte_mbuf *received, const cleave_ref *sent) {
    const unsigned char *expected = sent->data;
    if (received->pkt_len != sent->length) return false;
    for (; received != NULL; received = received->next) {
        if (memcmp(rte_pktmbuf_mtod(received, const void *), expected, received->data_len) != 0) {
            return false;
        }
        expected += received->data_len;
    }
    return true;
}

// The driver's turn: takes `count` packets and lets virtio-user post buffers again.
static int receive(
    uint16_t port, const cleave_ref *sent, uint32_t count, bool verify, dpdk_tally *tally) {
    struct rte_mbuf *received[BURST];
    uint32_t done = 0;
    for (unsigned attempt = 0; done < count; attempt++) {
        if (attempt == 1000) {
            return vhost_fail("port %u: %u of %u packets arrived", port, done, count);
        }
        const uint16_t got = rte_eth_rx_burst(port, 0, received, (uint16_t)(count - done));
        for (uint16_t i = 0; verify && i < got; i++) {
            if (!is_intact(received[i], &sent[done + i])) tally->damaged++;
        }
        rte_pktmbuf_free_bulk(received, got);
        done += got;
    }
    return 0;
}

static int add(dpdk_tally *tally, uint64_t cycles, int count) {
    if (count <= 0) return vhost_fail("no packet was placed (%d)", count);
    tally->cycles += cycles;
    tally->packets += (uint64_t)count;
    tally->bursts++;
    return 0;
}

int dpdk_run_enqueue(
    dpdk_pair *pair, dpdk_sources *sources, uint32_t bursts, bool verify, dpdk_tally *tally) {
    const int vid = pair->dpdk.vid;
    for (uint32_t burst = 0; burst < bursts; burst++) {
        const uint32_t first = dpdk_sources_next(sources);
        const uint64_t start = rte_rdtsc();
        const int count = rte_vhost_enqueue_burst(vid, 0, sources->mbufs + first, BURST);
        const uint64_t end = rte_rdtsc();
        if (add(tally, end - start, count) != 0 ||
            receive(pair->dpdk.port, sources->packets + first, (uint32_t)count, verify, tally) !=
                0) {
            return -1;
        }
    }
    return 0;
}

// What an embedder with mbufs does before every call.
static inline void describe(cleave_ref *packets, struct rte_mbuf *const *mbufs) {
    for (int i = 0; i < BURST; i++) {
        const struct rte_mbuf *mbuf = mbufs[i];
        packets[i] = (cleave_ref){
            .data = rte_pktmbuf_mtod(mbuf, const void *), .length = mbuf->data_len};
        // One segment each; a chain would go through cleave_rq_enqueue_burst.
        if (mbuf->nb_segs != 1) packets[i].data = NULL;
    }
}

int dpdk_run_cleave_enqueue(
    dpdk_pair *pair, dpdk_sources *sources, uint32_t bursts, bool from_mbufs, bool verify,
    dpdk_tally *tally) {
    cleave_ref described[BURST];
    for (uint32_t burst = 0; burst < bursts; burst++) {
        const uint32_t first = dpdk_sources_next(sources);
        uint32_t events = 0;
        const uint64_t start = rte_rdtsc();
        cleave_ref *packets = sources->packets + first;
        if (from_mbufs) {
            describe(described, sources->mbufs + first);
            packets = described;
        }
        const int count = cleave_rq_enqueue_refs(pair->rq, packets, BURST, &events);
        const uint64_t end = rte_rdtsc();
        if (add(tally, end - start, count) != 0 ||
            receive(pair->cleave.port, sources->packets + first, (uint32_t)count, verify, tally) !=
                0) {
            return -1;
        }
    }
    return 0;
}

// ---- What a guest sends ------------------------------------------------------------------------

// The driver's turn: sends 32 packets. `sent` says where their bytes are; they stay there a while.
static int transmit(
    const dpdk_shape *shape, uint16_t port, const dpdk_sources *sources, const void **sent) {
    struct rte_mbuf *mbufs[BURST];
    if (rte_pktmbuf_alloc_bulk(sources->pool, mbufs, BURST) != 0) {
        return vhost_fail("no packet to send is left");
    }
    for (int i = 0; i < BURST; i++) {
        mbufs[i]->data_len = (uint16_t)sources->packet_bytes;
        mbufs[i]->pkt_len = sources->packet_bytes;
        if (shape->checksums) {
            mbufs[i]->ol_flags |= RTE_MBUF_F_TX_IPV4 | RTE_MBUF_F_TX_TCP_CKSUM;
            mbufs[i]->l2_len = 14;
            mbufs[i]->l3_len = 20;
        }
        sent[i] = rte_pktmbuf_mtod(mbufs[i], const void *);
    }
    const uint16_t count = rte_eth_tx_burst(port, 0, mbufs, BURST);
    if (count == BURST) return 0;
    rte_pktmbuf_free_bulk(mbufs + count, BURST - count);
    return vhost_fail("port %u sent %u of %u packets", port, count, BURST);
}

// Whether a packet says that its checksum is left to whoever sends it on.
static bool asks_for_checksum(const struct rte_mbuf *received) {
    return (received->ol_flags & RTE_MBUF_F_RX_L4_CKSUM_MASK) == RTE_MBUF_F_RX_L4_CKSUM_NONE;
}

static void finish(
    const dpdk_shape *shape, struct rte_mbuf **received, int count, const dpdk_sources *sources,
    const void *const *sent, bool verify, dpdk_tally *tally) {
    for (int i = 0; verify && i < count; i++) {
        const cleave_ref packet = {.data = sent[i], .length = sources->packet_bytes};
        if (!is_intact(received[i], &packet) ||
            asks_for_checksum(received[i]) != shape->checksums) {
            tally->damaged++;
        }
    }
    rte_pktmbuf_free_bulk(received, (unsigned)count);
}

int dpdk_run_dequeue(
    dpdk_pair *pair, dpdk_sources *sources, uint32_t bursts, bool verify, dpdk_tally *tally) {
    const int vid = pair->dpdk.vid;
    for (uint32_t burst = 0; burst < bursts; burst++) {
        struct rte_mbuf *received[BURST];
        const void *sent[BURST];
        if (transmit(&pair->shape, pair->dpdk.port, sources, sent) != 0) return -1;
        const uint64_t start = rte_rdtsc();
        const int count = rte_vhost_dequeue_burst(vid, 1, pair->device_pool, received, BURST);
        const uint64_t end = rte_rdtsc();
        if (add(tally, end - start, count) != 0) return -1;
        if (count != BURST) return vhost_fail("rte_vhost took %d packets", count);
        finish(&pair->shape, received, count, sources, sent, verify, tally);
    }
    return 0;
}

// The segments behind the first, as far as there is room: `length` bytes are there already.
// Returns how many there are then.
static uint32_t append_more(struct rte_mbuf *mbuf, const cleave_packet *packet, uint32_t length) {
    const uint32_t room = rte_pktmbuf_tailroom(mbuf);
    for (int k = 0; k < packet->more_count && length < room; k++) {
        const uint32_t left = room - length;
        const uint32_t part = packet->more[k].length < left ? packet->more[k].length : left;
        rte_memcpy(rte_pktmbuf_mtod_offset(mbuf, void *, length), packet->more[k].data, part);
        length += part;
    }
    return length;
}

// What replaces rte_vhost_dequeue_burst in a program that wants mbufs.
static inline int dequeue(dpdk_pair *pair, struct rte_mbuf **mbufs) {
    cleave_packet packets[BURST];
    const int count = cleave_txq_dequeue_burst(pair->txq, packets, BURST, NULL);
    if (count <= 0) return count;
    if (rte_pktmbuf_alloc_bulk(pair->device_pool, mbufs, (unsigned)count) != 0) return -1;
    for (int i = 0; i < count; i++) {
        const cleave_packet *packet = &packets[i];
        // Lengths are the guest's: no more than there is room for.
        const uint32_t room = rte_pktmbuf_tailroom(mbufs[i]);
        uint32_t length = packet->length < room ? packet->length : room;
        rte_memcpy(rte_pktmbuf_mtod(mbufs[i], void *), packet->data, length);
        if (packet->net_flags != 0) mbufs[i]->ol_flags |= RTE_MBUF_F_RX_L4_CKSUM_NONE;
        if (unlikely(packet->more_count > 0)) length = append_more(mbufs[i], packet, length);
        mbufs[i]->data_len = (uint16_t)length;
        mbufs[i]->pkt_len = length;
    }
    const int result = cleave_txq_complete(pair->txq, (uint32_t)count, NULL);
    return result < 0 ? result : count;
}

int dpdk_run_cleave_dequeue(
    dpdk_pair *pair, dpdk_sources *sources, uint32_t bursts, bool verify, dpdk_tally *tally) {
    for (uint32_t burst = 0; burst < bursts; burst++) {
        struct rte_mbuf *received[BURST];
        const void *sent[BURST];
        if (transmit(&pair->shape, pair->cleave.port, sources, sent) != 0) return -1;
        const uint64_t start = rte_rdtsc();
        const int count = dequeue(pair, received);
        const uint64_t end = rte_rdtsc();
        if (add(tally, end - start, count) != 0) return -1;
        if (count != BURST) return vhost_fail("libcleave took %d packets", count);
        finish(&pair->shape, received, count, sources, sent, verify, tally);
    }
    return 0;
}

// A transmit ring lets go of a packet only when it needs its place: others take all places.
int dpdk_sources_reclaim(dpdk_sources *sources, dpdk_pair *pair) {
    dpdk_sources others = {.pool = pair->pool, .packet_bytes = 64};
    dpdk_tally tally = {0};
    const uint32_t bursts = 2 * pair->shape.ring_size / BURST;
    if (dpdk_run_dequeue(pair, &others, bursts, false, &tally) != 0 ||
        dpdk_run_cleave_dequeue(pair, &others, bursts, false, &tally) != 0) {
        return -1;
    }
    const unsigned missing = sources->count - rte_mempool_avail_count(sources->pool);
    if (missing == 0) return 0;
    // Rings refer to them: the pool has to stay.
    sources->pool = NULL;
    return vhost_fail("%u packets did not come back from the transmit rings", missing);
}

// ---- libcleave over a guest that is not DPDK's --------------------------------------------------

struct dpdk_guest {
    cleave_memory *memory;
    cleave_header_queue *headers;
    cleave_rq *rq;
};

static int attach_guest(dpdk_guest *guest, const dpdk_guest_layout *layout) {
    cleave_region region = {layout->guest_base, layout->memory_bytes, layout->memory, 0};
    cleave_memory_config table = {sizeof table, 1, &region, NULL};
    int result = cleave_memory_create(vhost_context, &table, &guest->memory);
    if (result < 0) return vhost_fail_cleave("cleave_memory_create", result, vhost_context);
    cleave_rq_config config = {
        .struct_size = sizeof config,
        .features = 1ull << 32 | (layout->packed ? 1ull << 34 : 0) |
                    (layout->mergeable ? 1ull << 15 : 0),
        .size = layout->ring_size,
        .burst = BURST,
        .descriptor_area = layout->descriptor_area,
        .driver_area = layout->driver_area,
        .device_area = layout->device_area,
        .last_avail = layout->base,
        .last_used = layout->base,
    };
    if (layout->slot_count > 0) {
        cleave_header_queue_config headers = {
            .struct_size = sizeof headers,
            .slot_size = layout->slot_size,
            .slot_count = layout->slot_count,
            .slots = layout->slots,
            .control = layout->control,
        };
        result = cleave_header_queue_create(guest->memory, &headers, &guest->headers);
        if (result < 0) {
            return vhost_fail_cleave("cleave_header_queue_create", result, guest->memory);
        }
        config.method = CLEAVE_METHOD_D;
        config.report = CLEAVE_REPORT_USED_LENGTH;
        config.header_queue = guest->headers;
        if (layout->places_tiny_packets) config.flags |= CLEAVE_RQ_TINY;
    }
    result = cleave_rq_create(guest->memory, &config, &guest->rq);
    return result < 0 ? vhost_fail_cleave("cleave_rq_create", result, guest->memory) : 0;
}

dpdk_guest *dpdk_guest_create(const dpdk_guest_layout *layout) {
    dpdk_guest *guest = calloc(1, sizeof *guest);
    if (guest == NULL) return NULL;
    if (attach_guest(guest, layout) == 0) return guest;
    dpdk_guest_destroy(guest);
    return NULL;
}

uint16_t dpdk_guest_destroy(dpdk_guest *guest) {
    uint16_t base = 0;
    if (guest == NULL) return base;
    cleave_rq_stop(guest->rq, &base);
    cleave_rq_destroy(guest->rq);
    cleave_header_queue_destroy(guest->headers);
    cleave_memory_destroy(guest->memory);
    free(guest);
    return base;
}

int dpdk_run_guest_enqueue(
    dpdk_guest *guest, dpdk_sources *sources, uint32_t bursts, dpdk_guest_turn turn,
    void *context, dpdk_tally *tally) {
    for (uint32_t burst = 0; burst < bursts; burst++) {
        const uint32_t first = dpdk_sources_next(sources);
        uint32_t events = 0;
        const uint64_t start = rte_rdtsc();
        const int count =
            cleave_rq_enqueue_refs(guest->rq, sources->packets + first, BURST, &events);
        const uint64_t end = rte_rdtsc();
        if (add(tally, end - start, count) != 0) return -1;
        turn(context, first, (uint32_t)count);
    }
    return 0;
}

/* A guest for Sources/Examples/C/vhost_backend.c: DPDK's virtio-user sends packets of many sizes on
 * every queue pair and expects each back on the same pair, its Ethernet addresses swapped.
 *
 *   echo_front_end SOCKET PAIRS packed_vq=0|1,in_order=0|1 [EAL options] */
#include <rte_bus_vdev.h>
#include <rte_eal.h>
#include <rte_ethdev.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { ROUNDS = 200, BURST = 16, RING = 256 };

static struct rte_mempool *pool;
static uint16_t port;

static uint16_t length_of(unsigned round, unsigned i) {
    /* Up to 8 KiB: received over several buffers, sent as chains. */
    return (uint16_t)(60 + (round * 131 + i * 977) % 8000);
}

static void fill(unsigned char *frame, uint16_t length, unsigned number) {
    memset(frame, 0x02, 6);
    memset(frame + 6, 0x04, 6);
    frame[12] = 0x88;
    frame[13] = 0xb5;
    for (uint16_t i = 14; i < length; i++) frame[i] = (unsigned char)(number * 7 + i * 3);
}

static struct rte_mbuf *make(const unsigned char *frame, uint16_t length) {
    struct rte_mbuf *mbuf = rte_pktmbuf_alloc(pool);
    struct rte_mbuf *last = mbuf;
    uint16_t done = 0;
    while (mbuf != NULL) {
        const uint16_t room = rte_pktmbuf_tailroom(last);
        const uint16_t part = (uint16_t)(length - done) < room ? (uint16_t)(length - done) : room;
        memcpy(rte_pktmbuf_mtod(last, void *), frame + done, part);
        last->data_len = part;
        done = (uint16_t)(done + part);
        if (done == length) break;
        last->next = rte_pktmbuf_alloc(pool);
        last = last->next;
        if (last == NULL) return NULL;
        mbuf->nb_segs++;
    }
    if (mbuf != NULL) mbuf->pkt_len = length;
    return mbuf;
}

static int round_trip(uint16_t pair, unsigned round) {
    static unsigned char frames[BURST][9000];
    struct rte_mbuf *mbufs[BURST], *received[BURST];
    unsigned got = 0;
    for (unsigned i = 0; i < BURST; i++) {
        fill(frames[i], length_of(round, i), round * BURST + i);
        mbufs[i] = make(frames[i], length_of(round, i));
        if (mbufs[i] == NULL) return -1;
    }
    if (rte_eth_tx_burst(port, pair, mbufs, BURST) != BURST) return -1;
    /* Ten seconds for what takes microseconds. */
    for (unsigned wait = 0; got < BURST && wait < 100000; wait++) {
        const uint16_t count =
            rte_eth_rx_burst(port, pair, received, (uint16_t)(BURST - got));
        for (uint16_t k = 0; k < count; k++, got++) {
            unsigned char scratch[9000];
            unsigned char *frame = frames[got];
            const unsigned char *data = rte_pktmbuf_read(received[k], 0, received[k]->pkt_len,
                                                         scratch);
            memset(frame, 0x04, 6);
            memset(frame + 6, 0x02, 6);
            if (received[k]->pkt_len != length_of(round, got) || data == NULL ||
                memcmp(data, frame, received[k]->pkt_len) != 0) {
                fprintf(stderr, "packet %u of round %u came back damaged\n", got, round);
                return -1;
            }
            rte_pktmbuf_free(received[k]);
        }
        if (count == 0) usleep(100);
    }
    if (got < BURST) {
        fprintf(stderr, "%u of %u packets came back on pair %u in round %u\n", got, BURST, pair,
                round);
    }
    return got == BURST ? 0 : -1;
}

static int start_pair(uint16_t pair) {
    return rte_eth_rx_queue_setup(port, pair, RING, SOCKET_ID_ANY, NULL, pool) != 0 ||
           rte_eth_tx_queue_setup(port, pair, RING, SOCKET_ID_ANY, NULL) != 0;
}

int main(int argc, char **argv) {
    char options[256];
    struct rte_eth_conf config = {0};
    if (argc < 4) return 2;
    const uint16_t pairs = (uint16_t)atoi(argv[2]);
    /* virtio-user needs a control queue for more than one pair, and serves it itself. */
    snprintf(options, sizeof options,
             "path=%s,queues=%u,cq=%d,queue_size=%d,mrg_rxbuf=1,mac=02:00:00:00:00:01,%s", argv[1],
             pairs, pairs > 1, RING, argv[3]);
    argv[3] = argv[0];
    if (rte_eal_init(argc - 3, argv + 3) < 0) return 1;
    pool = rte_pktmbuf_pool_create("front", 4096, 64, 0, 2048 + 128, SOCKET_ID_ANY);
    config.rxmode.mtu = 9000;
    config.txmode.offloads = RTE_ETH_TX_OFFLOAD_MULTI_SEGS;
    config.rxmode.offloads = RTE_ETH_RX_OFFLOAD_SCATTER;
    if (pool == NULL || rte_vdev_init("net_virtio_user0", options) != 0 ||
        rte_eth_dev_get_port_by_name("net_virtio_user0", &port) != 0 ||
        rte_eth_dev_configure(port, pairs, pairs, &config) != 0) {
        fprintf(stderr, "no port\n");
        return 1;
    }
    for (uint16_t pair = 0; pair < pairs; pair++) {
        if (start_pair(pair) != 0) return 1;
    }
    if (rte_eth_dev_start(port) != 0) return 1;
    for (unsigned round = 0; round < ROUNDS; round++) {
        for (uint16_t pair = 0; pair < pairs; pair++) {
            if (round_trip(pair, round) != 0) return 1;
        }
    }
    printf("%d packets came back intact on each of %u pairs\n", ROUNDS * BURST, pairs);
    rte_eth_dev_stop(port);
    rte_eth_dev_close(port);
    return 0;
}

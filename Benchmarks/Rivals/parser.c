// DPDK's header parser behind the calls of parser_bench.h. It needs no started environment.
#include "parser_bench.h"

#include <rte_mbuf.h>
#include <rte_net.h>
#include <rte_version.h>
#include <stdlib.h>

#define EXPORTED __attribute__((visibility("default")))

EXPORTED const char *parser_rival_version(void) { return rte_version(); }

EXPORTED void *parser_rival_describe(
    const void *const *frames, const uint32_t *byte_counts, uint32_t count) {
    struct rte_mbuf *packets = aligned_alloc(64, sizeof *packets * count);
    if (packets == NULL) return NULL;
    for (uint32_t i = 0; i < count; i++) {
        packets[i] = (struct rte_mbuf){
            .buf_addr = (void *)(uintptr_t)frames[i],
            .buf_len = (uint16_t)byte_counts[i],
            .data_len = (uint16_t)byte_counts[i],
            .pkt_len = byte_counts[i],
            .nb_segs = 1,
        };
    }
    return packets;
}

EXPORTED void parser_rival_forget(void *packets) { free(packets); }

EXPORTED void parser_rival_parse(
    void *packets, uint32_t first, uint32_t count, uint16_t *lengths) {
    const struct rte_mbuf *mbufs = packets;
    for (uint32_t i = 0; i < count; i++) {
        struct rte_net_hdr_lens lens;
        uint32_t type = rte_net_get_ptype(&mbufs[first + i], &lens, RTE_PTYPE_ALL_MASK);
        uint32_t transport = type & RTE_PTYPE_L4_MASK;
        int known = transport == RTE_PTYPE_L4_TCP || transport == RTE_PTYPE_L4_UDP;
        lengths[i] = known ? (uint16_t)(lens.l2_len + lens.l3_len + lens.l4_len) : 0;
    }
}

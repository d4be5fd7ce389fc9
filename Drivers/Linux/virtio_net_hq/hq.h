/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * A virtio-net device with a header queue as its driver keeps it: main.c drives it, memory.c has
 * the memory that payload arrives in.
 */
#ifndef HQ_H
#define HQ_H

#include <linux/netdevice.h>
#include <linux/rtnetlink.h>
#include <linux/scatterlist.h>
#include <linux/skbuff.h>
#include <linux/version.h>
#include <linux/virtio.h>
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 6, 0)
#include <net/page_pool/helpers.h>
#else
#include <net/page_pool.h>
#endif

/* Linux 6.12 and later have memory that the kernel cannot read. Before, all are pages. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 12, 0)
#define netmem_ref struct page *
#define netmem_address(page) page_address(page)
#define page_pool_alloc_netmems(pool, gfp) page_pool_alloc_pages(pool, gfp)
#define page_pool_put_full_netmem(pool, page, direct) page_pool_put_full_page(pool, page, direct)
#define skb_add_rx_frag_netmem(skb, i, page, at, len, size) \
	skb_add_rx_frag(skb, i, page, at, len, size)
#define skb_frags_readable(skb) true
#elif LINUX_VERSION_CODE < KERNEL_VERSION(6, 14, 0)
#define page_pool_alloc_netmems(pool, gfp) page_pool_alloc_netmem(pool, gfp)
#endif

/*
 * Index of the slot, length of headers, length of a buffer, num_buffers, offloads: bad ones. Memory
 * that the kernel cannot read got what the kernel has to read.
 */
#define HQ_COUNTERS(X) \
	X(rx_packets) X(rx_bytes) X(rx_split) X(rx_whole) X(rx_bad_slot) X(rx_bad_header) \
	X(rx_bad_length) X(rx_bad_buffers) X(rx_bad_offload) X(rx_buffers_missing) X(rx_no_skb) \
	X(rx_unreadable) X(rx_no_page) X(rx_slots_returned) X(tx_packets) X(tx_bytes) \
	X(tx_dropped) X(tx_stopped)
#define X(name) HQ_##name,
enum hq_counter { HQ_COUNTERS(X) HQ_COUNT };
#undef X

/* Descriptors that the largest packet needs: its header, its linear part, its fragments. */
#define HQ_TX_ROOM (MAX_SKB_FRAGS + 2)

/* Receive and transmit queue of one number. */
struct hq_pair {
	struct hq *hq;
	struct virtqueue *rx, *tx;
	struct napi_struct rx_napi, tx_napi;
	struct page_pool *pool;
	/* Pages of the ring while the device still has them and the ring is gone. */
	netmem_ref *unposted;
	unsigned int unposted_size, unposted_count;
	bool starved;			/* the ring is to be filled as soon as there is memory */
	/* Buffers at least, the same when the device gave its slots up, and one lap of the ring. */
	unsigned int harvested, mark, lap;
	unsigned int returning;		/* slots that this poll gives back */
	u16 slots[NAPI_POLL_WEIGHT];
	struct scatterlist sg[HQ_TX_ROOM];
	/* rx: written by NAPI alone; tx: under the queue's lock. */
	u64 count[HQ_COUNT];
};

struct hq {
	struct virtio_device *vdev;
	struct net_device *dev;
	struct virtqueue *control, *headers;
	unsigned int max_pairs, active_pairs;
	/* Under hq_lock(): the device has its queues; NAPI is enabled; the slots came back. */
	bool ready, open, returned;

	/* The area of slots. It stays where it is as long as the driver is bound. */
	struct hq_words *words;
	void *area;
	__le32 *ring;
	unsigned int slot_count, slot_shift, lap_shift, area_order, ring_order, set_ups;
	atomic_t next;			/* position of the return ring that nobody has taken */

	struct delayed_work refill, set_up;
	struct work_struct config_changed;
	struct hq_pair pairs[];
};

/* What a descriptor of the ring says is its physical address: the kernel need not read there. */
static inline struct page *hq_ring_page(netmem_ref page)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 12, 0)
	if (netmem_is_net_iov(page))
		return pfn_to_page(PHYS_PFN(page_pool_get_dma_addr_netmem(page)));
	return netmem_to_page(page);
#else
	return page;
#endif
}

/*
 * For everything but packets. From Linux 6.15 on a device whose queues can be bound has a lock of
 * its own, and binding takes that one alone.
 */
static inline void hq_lock(struct hq *hq)
{
	rtnl_lock();
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 15, 0)
	netdev_lock(hq->dev);
#endif
}

static inline void hq_unlock(struct hq *hq)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 15, 0)
	netdev_unlock(hq->dev);
#endif
	rtnl_unlock();
}
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 15, 0)
#define napi_enable(napi) napi_enable_locked(napi)
#define napi_disable(napi) napi_disable_locked(napi)
#endif

/* main.c. Under hq_lock(). */
bool hq_splits(struct hq *hq);
bool hq_pending(struct hq *hq);
void hq_go_down(struct hq *hq);
int hq_begin_anew(struct hq *hq);

/* memory.c */
int hq_make_pool(struct hq *hq, unsigned int index);
void hq_allow_binding(struct hq *hq);

#endif

// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * virtio-net with a header queue: packet headers arrive in a slot of one area that is set up once
 * and shared by all receive queues, payload arrives alone at the start of pages of its own.
 *
 * The protocol is HeaderQueueProtocol.md of Cleave. Of it this driver uses
 *   set-up by virtqueue   one chain on the queue behind the control queue; the device keeps it
 *   report usedLength     bit 31 of a used length: split; bits 30..16: the slot; 15..0: the bytes
 *   return ring           slots go back by index, in any order: see hq_return_slots()
 * A packet that the device does not split is an ordinary packet of virtio-net with mergeable
 * buffers. That is how all of them arrive until the device has taken the chain, or if it refuses.
 *
 * The device is not trusted. Every number that it writes is read once and checked before use, each
 * refusal is counted by its reason (ethtool -S), and a packet that is refused costs only itself.
 */
#include <linux/ethtool.h>
#include <linux/ethtool_netlink.h>
#include <linux/etherdevice.h>
#include <linux/module.h>
#include <linux/virtio_config.h>
#include <linux/virtio_net.h>
#include "hq.h"

/* VIRTIO_NET_F_HEADER_QUEUE, experimental: free in virtio 1.4. */
#define HQ_FEATURE 58

enum {
	HQ_MAX_PAIRS = 128,		/* bits of the mask of receive queues */
	HQ_MIN_SLOTS = 128,
	HQ_MAX_SLOTS = 32768,		/* bits 30..16 of a used length */
	HQ_MAX_BUFFERS = 17,		/* pages of a packet of 64 KiB that was not split */
	HQ_COPY = 128,			/* bytes of a packet that was not split, copied as headers */
	HQ_RETRY = HZ / 20,		/* until receive rings are filled again */
	HQ_SET_UP_RETRY = HZ / 10,	/* until slots are offered: ten times a second at most */
	HQ_RETURN_RING = 1,		/* slot_return of the request */
	HQ_USED_LENGTH = 2,		/* report of the request */
	HQ_REFUSED = 2,			/* status; 0: works, 1: broken, packets arrive whole */
	HQ_PENDING = 4,			/* status until the device takes the slots */
};
#define HQ_SPLIT BIT(31)		/* in a used length */
#define HQ_POSTED BIT(31)		/* in an entry of the return ring, above the lap */
#define HQ_NET_HEADER sizeof(struct virtio_net_hdr_mrg_rxbuf)
static_assert(HQ_MAX_BUFFERS <= MAX_SKB_FRAGS && PAGE_SIZE == 4096);
static_assert(BITS_PER_LONG == 64);	/* counters are read while they are written */

static unsigned int slot_size = 128;
module_param(slot_size, uint, 0444);
MODULE_PARM_DESC(slot_size, "bytes of a header slot, made a power of two from 64 to 1024");
static unsigned int slots;
module_param(slots, uint, 0444);
MODULE_PARM_DESC(slots, "header slots, made a power of two from 128 to 32768; 0: one a buffer");

/* One page that both sides write: control words, request, and buffers of control commands. */
struct hq_words {
	__le32 tail;			/* not used with a return ring */
	u8 driver_line[124];
	__le32 head;			/* device: entries of the return ring that it took */
	__le32 status;			/* device */
	__le32 reason;			/* device: why it refused */
	u8 device_line[116];
	struct hq_request {
		__le32 slot_size, slot_count;
		__le16 slot_return, report;
		__le32 reserved;
		__le64 rq_mask[2];
	} request;
	struct virtio_net_ctrl_hdr command;
	struct virtio_net_ctrl_mq pairs;
	virtio_net_ctrl_ack answer;
};
#define HQ_CONTROL_WORDS offsetof(struct hq_words, request)
static_assert(HQ_CONTROL_WORDS == 256 && sizeof(struct hq_request) == 32);
static_assert(offsetof(struct hq_words, head) == 128);

#define X(name) #name,
static const char *const hq_counter_names[] = { HQ_COUNTERS(X) };
#undef X
static const char *const hq_word_names[] = {
	"header_slots", "header_slots_given", "header_slots_taken", "header_status", "header_set_ups",
};

/* ---- Header slots ---- */

/*
 * Gives the slots of a poll back. Position p of the ring is entry p mod count and carries the lap
 * p / count, so the device knows which entries are new. Each RQ takes as many positions as it has
 * slots and writes them when it likes: no RQ waits for another, and an RQ whose CPU is busy holds
 * no slots but its own. That is why this driver uses the ring: with a tail one late RQ keeps the
 * slots of all. And a device that names a slot twice only cheats itself, since nothing here counts
 * on slots being different.
 */
static void hq_return_slots(struct hq_pair *pair)
{
	struct hq *hq = pair->hq;
	u32 position = atomic_fetch_add_relaxed(pair->returning, &hq->next);
	unsigned int i;

	for (i = 0; i < pair->returning; i++, position++) {
		u32 lap = position >> hq->lap_shift & 0x7fff;
		__le32 entry = cpu_to_le32(HQ_POSTED | lap << 16 | pair->slots[i]);

		/* After the headers were read: the device may write the slot once it sees this. */
		virt_store_release(&hq->ring[position & (hq->slot_count - 1)], entry);
	}
	pair->count[HQ_rx_slots_returned] += pair->returning;
	pair->returning = 0;
}

/*
 * Offers the area: request, control words, slots, ring. Nothing may refer to slots when it is
 * called: at the beginning, or after every receive queue was found empty.
 */
static int hq_offer_slots(struct hq *hq)
{
	struct scatterlist request, words, area, ring, *sgs[] = { &request, &words, &area, &ring };
	unsigned int i, n = hq->max_pairs;
	int err;

	memset(hq->words, 0, HQ_CONTROL_WORDS);
	hq->words->status = cpu_to_le32(HQ_PENDING);
	for (i = 0; i < hq->slot_count; i++)
		hq->ring[i] = cpu_to_le32(HQ_POSTED | i);
	atomic_set(&hq->next, hq->slot_count);
	hq->words->request = (struct hq_request) {
		.slot_size = cpu_to_le32(slot_size), .slot_count = cpu_to_le32(hq->slot_count),
		.slot_return = cpu_to_le16(HQ_RETURN_RING), .report = cpu_to_le16(HQ_USED_LENGTH),
		.rq_mask[0] = cpu_to_le64(GENMASK_ULL(min(n, 64u) - 1, 0)),
		.rq_mask[1] = cpu_to_le64(n > 64 ? GENMASK_ULL(n - 65, 0) : 0),
	};
	sg_init_one(&request, &hq->words->request, sizeof(hq->words->request));
	sg_init_one(&words, hq->words, HQ_CONTROL_WORDS);
	sg_init_one(&area, hq->area, hq->slot_count << hq->slot_shift);
	sg_init_one(&ring, hq->ring, hq->slot_count * sizeof(*hq->ring));
	err = virtqueue_add_sgs(hq->headers, sgs, 1, 3, hq, GFP_KERNEL);
	hq->set_ups += !err;
	virtqueue_kick(hq->headers);
	return err;
}

static u32 hq_status(struct hq *hq)
{
	return le32_to_cpu(READ_ONCE(hq->words->status));
}

bool hq_splits(struct hq *hq)
{
	return hq->ready && !hq_status(hq);
}

/* The device has the request and has not looked at it. */
bool hq_pending(struct hq *hq)
{
	return hq->ready && hq_status(hq) == HQ_PENDING;
}

/* From the page allocator: physically contiguous, as one descriptor wants it. */
static int hq_alloc_slots(struct hq *hq, unsigned int wanted)
{
	gfp_t gfp = GFP_KERNEL | __GFP_ZERO | __GFP_COMP | __GFP_NOWARN;
	unsigned int count = clamp_t(unsigned int, wanted, HQ_MIN_SLOTS, HQ_MAX_SLOTS);

	slot_size = roundup_pow_of_two(clamp(slot_size, 64u, 1024u));
	hq->words = (void *)get_zeroed_page(GFP_KERNEL);
	for (count = roundup_pow_of_two(count); count >= HQ_MIN_SLOTS && !hq->area; count /= 2) {
		hq->slot_count = count;
		hq->area_order = get_order(count * slot_size);
		hq->area = (void *)__get_free_pages(gfp, hq->area_order);
	}
	hq->slot_shift = ilog2(slot_size);
	hq->lap_shift = ilog2(hq->slot_count);
	hq->ring_order = get_order(hq->slot_count * sizeof(*hq->ring));
	hq->ring = (void *)__get_free_pages(gfp, hq->ring_order);
	return hq->words && hq->area && hq->ring ? 0 : -ENOMEM;
}

/* ---- Receive ---- */

/* Posts pages until the ring is full, or tries again later if memory runs out. */
static void hq_refill(struct hq_pair *pair)
{
	struct virtqueue *vq = pair->rx;
	struct scatterlist sg;
	bool added = false;

	WRITE_ONCE(pair->starved, false);
	sg_init_table(&sg, 1);
	while (vq->num_free) {
		netmem_ref page = page_pool_alloc_netmems(pair->pool, GFP_ATOMIC | __GFP_NOWARN);

		if (page)
			sg_set_page(&sg, hq_ring_page(page), PAGE_SIZE, 0);
		if (!page || virtqueue_add_inbuf(vq, &sg, 1, (__force void *)page, GFP_ATOMIC)) {
			if (page)
				page_pool_put_full_netmem(pair->pool, page, false);
			pair->count[HQ_rx_no_page]++;
			WRITE_ONCE(pair->starved, true);
			schedule_delayed_work(&pair->hq->refill, HQ_RETRY);
			break;
		}
		added = true;
	}
	if (added)
		virtqueue_kick(vq);
}

static void hq_poll_all(struct hq *hq)
{
	unsigned int i;

	local_bh_disable();
	for (i = 0; i < hq->max_pairs; i++)
		napi_schedule(&hq->pairs[i].rx_napi);
	local_bh_enable();
}

static void hq_refill_starved(struct work_struct *work)
{
	hq_poll_all(container_of(to_delayed_work(work), struct hq, refill));
}

static netmem_ref hq_take(struct virtqueue *vq, u32 *len)
{
	return (__force netmem_ref)virtqueue_get_buf(vq, len);
}

static void hq_receive(struct hq_pair *pair, netmem_ref page, u32 len)
{
	struct virtio_net_hdr_mrg_rxbuf net;
	unsigned int linear, buffers = 1, at = 0, slot = len >> 16 & 0x7fff;
	bool split = len & HQ_SPLIT;
	struct hq *hq = pair->hq;
	struct sk_buff *skb = NULL;
	enum hq_counter why;
	const u8 *from;

	if (split) {
		len &= 0xffff;
		why = HQ_rx_bad_slot;
		if (slot >= hq->slot_count)
			goto drop;
		from = hq->area + (slot << hq->slot_shift);
		pair->slots[pair->returning++] = slot;
	} else {
		/* How many buffers it has is unreadable, too: each of them is dropped here. */
		why = HQ_rx_unreadable;
		from = netmem_address(page);
		if (unlikely(!from))
			goto drop;
		why = HQ_rx_bad_length;
		if (len < HQ_NET_HEADER + ETH_HLEN || len > PAGE_SIZE)
			goto drop;
		at = HQ_NET_HEADER;
		len -= at;
	}
	/* A copy: the device may go on writing there. */
	memcpy(&net, from, sizeof(net));
	barrier();
	buffers = le16_to_cpu((__force __le16)net.num_buffers);
	linear = split ? le16_to_cpu((__force __le16)net.hdr.hdr_len) : min_t(u32, len, HQ_COPY);
	why = HQ_rx_bad_header;
	if (linear < ETH_HLEN || linear > (split ? slot_size - HQ_NET_HEADER : HQ_COPY))
		goto drop;
	why = HQ_rx_bad_buffers;
	if (!buffers || buffers > HQ_MAX_BUFFERS)
		goto drop;
	why = HQ_rx_no_skb;
	skb = napi_alloc_skb(&pair->rx_napi, max_t(unsigned int, linear, HQ_COPY));
	if (unlikely(!skb))
		goto drop;
	skb_put_data(skb, from + HQ_NET_HEADER, linear);
	skb_mark_for_recycle(skb);
	if (!split) {
		at += linear;
		len -= linear;
	}
	for (;;) {
		why = HQ_rx_bad_length;
		if (unlikely(len > PAGE_SIZE - at))
			goto drop;
		if (len)
			skb_add_rx_frag_netmem(skb, skb_shinfo(skb)->nr_frags, page, at, len,
					       PAGE_SIZE);
		else
			page_pool_put_full_netmem(pair->pool, page, true);
		page = 0;
		if (!--buffers)
			break;
		/* The device reports all buffers of a packet together. */
		why = HQ_rx_buffers_missing;
		page = hq_take(pair->rx, &len);
		if (unlikely(!page))
			goto drop;
		at = 0;
	}
	why = HQ_rx_bad_offload;
	if (unlikely(virtio_net_hdr_to_skb(skb, &net.hdr, true)))
		goto drop;
	if (net.hdr.flags & VIRTIO_NET_HDR_F_DATA_VALID && skb->ip_summed != CHECKSUM_PARTIAL)
		skb->ip_summed = CHECKSUM_UNNECESSARY;
	why = HQ_rx_unreadable;
	if (unlikely(!skb_frags_readable(skb)) && skb->ip_summed == CHECKSUM_NONE)
		goto drop;
	pair->count[split ? HQ_rx_split : HQ_rx_whole]++;
	pair->count[HQ_rx_packets]++;
	pair->count[HQ_rx_bytes] += skb->len;
	if (pair->rx->index / 2 < READ_ONCE(hq->dev->real_num_rx_queues))
		skb_record_rx_queue(skb, pair->rx->index / 2);
	skb->protocol = eth_type_trans(skb, hq->dev);
	napi_gro_receive(&pair->rx_napi, skb);
	return;
drop:
	/* With its further buffers, of which there are no more than the device has reported. */
	pair->count[why]++;
	while (page) {
		page_pool_put_full_netmem(pair->pool, page, true);
		page = buffers > 1 ? hq_take(pair->rx, &len) : 0;
		buffers--;
	}
	dev_kfree_skb_any(skb);
}

static void hq_reclaim(struct hq_pair *pair, int budget)
{
	struct sk_buff *skb;
	unsigned int len;

	while ((skb = virtqueue_get_buf(pair->tx, &len)))
		napi_consume_skb(skb, budget);
}

static void hq_schedule(struct virtqueue *vq, struct napi_struct *napi)
{
	if (napi_schedule_prep(napi)) {
		virtqueue_disable_cb(vq);
		__napi_schedule(napi);
	}
}

static void hq_queue_done(struct virtqueue *vq)
{
	struct hq *hq = vq->vdev->priv;
	struct hq_pair *pair = &hq->pairs[vq->index / 2];

	hq_schedule(vq, vq->index % 2 ? &pair->tx_napi : &pair->rx_napi);
}

static int hq_poll_rx(struct napi_struct *napi, int budget)
{
	struct hq_pair *pair = container_of(napi, struct hq_pair, rx_napi);
	struct netdev_queue *queue = netdev_get_tx_queue(pair->hq->dev, pair->tx->index / 2);
	int done = 0, most = min(budget, NAPI_POLL_WEIGHT);
	struct virtqueue *vq = pair->rx;
	unsigned int len, opaque;
	netmem_ref page;

	/* What was sent meanwhile is known without an interrupt. */
	if (!netif_tx_queue_stopped(queue) && __netif_tx_trylock(queue)) {
		hq_reclaim(pair, budget);
		__netif_tx_unlock(queue);
	}
	/* A look of netpoll, that wants no packets. */
	if (!budget)
		return 0;
	while (done < most && (page = hq_take(vq, &len))) {
		hq_receive(pair, page, len);
		done++;
	}
	if (pair->returning)
		hq_return_slots(pair);
	/* Not the ring of a pair that was never used: it has no buffers, and gets none. */
	if (READ_ONCE(pair->starved) ||
	    (done && vq->num_free * 4 >= virtqueue_get_vring_size(vq)))
		hq_refill(pair);
	/* A ring that was found empty is worth a lap. */
	/* After the slots that were given back, for the one who gives all of them anew. */
	smp_store_release(&pair->harvested, pair->harvested + (done == most ? done : pair->lap));
	if (done == most)
		return budget;
	opaque = virtqueue_enable_cb_prepare(vq);
	if (!napi_complete_done(napi, done))
		virtqueue_disable_cb(vq);
	else if (unlikely(virtqueue_poll(vq, opaque)))
		hq_schedule(vq, napi);
	return done;
}

/* ---- Transmit ---- */

static int hq_poll_tx(struct napi_struct *napi, int budget)
{
	struct hq_pair *pair = container_of(napi, struct hq_pair, tx_napi);
	struct netdev_queue *queue = netdev_get_tx_queue(pair->hq->dev, pair->tx->index / 2);
	struct virtqueue *vq = pair->tx;
	unsigned int opaque;
	bool completed;

	__netif_tx_lock(queue, smp_processor_id());
	virtqueue_disable_cb(vq);
	hq_reclaim(pair, budget);
	if (vq->num_free >= HQ_TX_ROOM)
		netif_tx_wake_queue(queue);
	opaque = virtqueue_enable_cb_prepare(vq);
	completed = napi_complete_done(napi, 0);
	if (!completed)
		virtqueue_disable_cb(vq);
	__netif_tx_unlock(queue);
	if (completed && virtqueue_poll(vq, opaque))
		hq_schedule(vq, napi);
	return 0;
}

/* The network header goes in front of the packet if there is room, else beside it. */
static int hq_add_packet(struct hq_pair *pair, struct sk_buff *skb)
{
	bool push = !skb_header_cloned(skb) && skb_headroom(skb) >= HQ_NET_HEADER &&
		    IS_ALIGNED((unsigned long)skb->data, 2);
	void *net = push ? (void *)skb->data - HQ_NET_HEADER : (void *)skb->cb;
	int n;

	memset(net, 0, HQ_NET_HEADER);
	if (virtio_net_hdr_from_skb(skb, net, true, false, 0))
		return -EPROTO;
	sg_init_table(pair->sg, HQ_TX_ROOM);
	if (push) {
		__skb_push(skb, HQ_NET_HEADER);
		n = skb_to_sgvec(skb, pair->sg, 0, skb->len);
		__skb_pull(skb, HQ_NET_HEADER);
	} else {
		sg_set_buf(pair->sg, net, HQ_NET_HEADER);
		n = skb_to_sgvec(skb, pair->sg + 1, 0, skb->len);
		n += n > 0;
	}
	return n < 0 ? n : virtqueue_add_outbuf(pair->tx, pair->sg, n, skb, GFP_ATOMIC);
}

static netdev_tx_t hq_xmit(struct sk_buff *skb, struct net_device *dev)
{
	unsigned int index = skb_get_queue_mapping(skb), bytes = skb->len;
	struct netdev_queue *queue = netdev_get_tx_queue(dev, index);
	struct hq_pair *pair = &((struct hq *)netdev_priv(dev))->pairs[index];

	virtqueue_disable_cb(pair->tx);
	hq_reclaim(pair, 0);
	skb_tx_timestamp(skb);
	if (unlikely(hq_add_packet(pair, skb))) {
		pair->count[HQ_tx_dropped]++;
		dev_kfree_skb_any(skb);
	} else {
		pair->count[HQ_tx_packets]++;
		pair->count[HQ_tx_bytes] += bytes;
	}
	if (pair->tx->num_free < HQ_TX_ROOM) {
		netif_tx_stop_queue(queue);
		pair->count[HQ_tx_stopped]++;
	}
	if (!virtqueue_enable_cb_delayed(pair->tx))
		hq_schedule(pair->tx, &pair->tx_napi);
	if (!netdev_xmit_more() || netif_xmit_stopped(queue))
		virtqueue_kick(pair->tx);
	return NETDEV_TX_OK;
}

/* ---- Control ---- */

/* Sets how many pairs the device uses. Under hq_lock(), so there is one command at a time. */
static int hq_command_pairs(struct hq *hq, unsigned int n)
{
	struct scatterlist command, pairs, answer, *sgs[] = { &command, &pairs, &answer };
	struct hq_words *words = hq->words;
	unsigned long end = jiffies + 5 * HZ;
	unsigned int len;
	int err;

	/* A command that was given up is over when it is answered: the device has its buffers. */
	virtqueue_get_buf(hq->control, &len);
	if (hq->control->num_free < virtqueue_get_vring_size(hq->control))
		return -EBUSY;
	words->command.class = VIRTIO_NET_CTRL_MQ;
	words->command.cmd = VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET;
	words->pairs.virtqueue_pairs = cpu_to_virtio16(hq->vdev, n);
	words->answer = VIRTIO_NET_ERR;
	sg_init_one(&command, &words->command, sizeof(words->command));
	sg_init_one(&pairs, &words->pairs, sizeof(words->pairs));
	sg_init_one(&answer, &words->answer, sizeof(words->answer));
	err = virtqueue_add_sgs(hq->control, sgs, 2, 1, hq, GFP_KERNEL);
	if (err)
		return err;
	virtqueue_kick(hq->control);
	while (!virtqueue_get_buf(hq->control, &len)) {
		if (time_after(jiffies, end)) {
			netdev_err(hq->dev, "the device does not answer its control queue\n");
			return -ETIMEDOUT;
		}
		usleep_range(100, 1000);
	}
	return READ_ONCE(words->answer) == VIRTIO_NET_OK ? 0 : -EIO;
}

/* What a device is told at first, and again when another one has taken over. */
static int hq_begin(struct hq *hq)
{
	int err = hq_offer_slots(hq);

	if (!err && virtio_has_feature(hq->vdev, VIRTIO_NET_F_MQ))
		err = hq_command_pairs(hq, hq->active_pairs);
	return err;
}

/*
 * Whether all was harvested that the device had reported when it gave the slots up. Two laps: a
 * poll that found the ring empty may have looked before.
 */
static bool hq_harvested(struct hq *hq)
{
	unsigned int i;

	for (i = 0; i < hq->max_pairs; i++)
		if (smp_load_acquire(&hq->pairs[i].harvested) - hq->pairs[i].mark <
		    2 * hq->pairs[i].lap)
			return false;
	return true;
}

/*
 * The chain came back: the device refused it, or it stopped (a VMM that pauses the guest, or goes
 * on with another back-end). It splits no more, so what is in the rings are the last packets that
 * have slots; after them the device is told everything anew. While the interface is down nobody
 * harvests, so this waits for it to be opened.
 */
static void hq_set_up_again(struct work_struct *work)
{
	struct hq *hq = container_of(to_delayed_work(work), struct hq, set_up);
	unsigned int len, i;

	hq_lock(hq);
	/* An answer that came too late: the device may have done what the driver gave up. */
	if (hq->ready && virtqueue_get_buf(hq->control, &len))
		hq_command_pairs(hq, hq->active_pairs);
	if (hq->open && virtqueue_get_buf(hq->headers, &len)) {
		hq->returned = true;
		for (i = 0; i < hq->max_pairs; i++)
			hq->pairs[i].mark = READ_ONCE(hq->pairs[i].harvested);
		if (hq_status(hq) == HQ_REFUSED)
			netdev_warn(hq->dev, "the device refuses the header queue, reason %u\n",
				    le32_to_cpu(READ_ONCE(hq->words->reason)));
	}
	if (hq->open && hq->returned && hq_status(hq) != HQ_REFUSED) {
		hq->returned = !hq_harvested(hq);
		if (hq->returned) {
			hq_poll_all(hq);
			schedule_delayed_work(&hq->set_up, 1);
		} else {
			hq_begin(hq);
		}
	}
	hq_unlock(hq);
}

/* The chain of the slots came back, or an answer came. */
static void hq_set_up_later(struct virtqueue *vq)
{
	/* Delayed: a device that returns each chain at once gets no more than these. */
	schedule_delayed_work(&((struct hq *)vq->vdev->priv)->set_up, HQ_SET_UP_RETRY);
}

static void hq_config_work(struct work_struct *work)
{
	struct hq *hq = container_of(work, struct hq, config_changed);
	u16 status = VIRTIO_NET_S_LINK_UP;

	hq_lock(hq);
	if (hq->ready && virtio_has_feature(hq->vdev, VIRTIO_NET_F_STATUS))
		virtio_cread(hq->vdev, struct virtio_net_config, status, &status);
	if (status & VIRTIO_NET_S_LINK_UP)
		netif_carrier_on(hq->dev);
	else
		netif_carrier_off(hq->dev);
	hq_unlock(hq);
}

static void hq_config_changed(struct virtio_device *vdev)
{
	schedule_work(&((struct hq *)vdev->priv)->config_changed);
}

/* ---- Queues of the device ---- */

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 11, 0)
struct virtqueue_info { const char *name; vq_callback_t *callback; };

static int hq_find_vqs(struct virtio_device *vdev, unsigned int count, struct virtqueue **vqs,
		       struct virtqueue_info *info)
{
	const char **names = kcalloc(2 * count, sizeof(*names), GFP_KERNEL);
	vq_callback_t **done = (vq_callback_t **)(names + count);
	int i, err;

	if (!names)
		return -ENOMEM;
	for (i = 0; i < count; i++) {
		names[i] = info[i].name;
		done[i] = info[i].callback;
	}
	err = virtio_find_vqs(vdev, count, vqs, done, names, NULL);
	kfree(names);
	return err;
}
#else
#define hq_find_vqs(vdev, count, vqs, info) virtio_find_vqs(vdev, count, vqs, info, NULL)
#endif

/* Place for the pages of a receive ring while it is taken down, when nothing is to be allocated. */
static int hq_make_unposted(struct hq_pair *pair)
{
	unsigned int size = virtqueue_get_vring_size(pair->rx);

	if (size > pair->unposted_size) {
		kvfree(pair->unposted);
		pair->unposted = kvcalloc(size, sizeof(*pair->unposted), GFP_KERNEL);
		pair->unposted_size = pair->unposted ? size : 0;
	}
	return pair->unposted ? 0 : -ENOMEM;
}

/* The device works from here on. Buffers are posted when the interface is opened. */
static int hq_find_queues(struct hq *hq)
{
	unsigned int rings = 2 * hq->max_pairs, i;
	struct virtqueue_info *info = kcalloc(rings + 2, sizeof(*info), GFP_KERNEL);
	struct virtqueue **vqs = kcalloc(rings + 2, sizeof(*vqs), GFP_KERNEL);
	int err = info && vqs ? 0 : -ENOMEM;

	for (i = 0; i < hq->max_pairs && !err; i++)
		err = hq_make_pool(hq, i);
	if (err)
		goto free;
	for (i = 0; i < rings; i++) {
		info[i].name = i % 2 ? "output" : "input";
		info[i].callback = hq_queue_done;
	}
	info[rings].name = "control";
	info[rings].callback = hq_set_up_later;
	info[rings + 1].name = "headers";
	info[rings + 1].callback = hq_set_up_later;
	err = hq_find_vqs(hq->vdev, rings + 2, vqs, info);
	if (err)
		goto free;
	for (i = 0; i < hq->max_pairs; i++) {
		hq->pairs[i].rx = vqs[2 * i];
		hq->pairs[i].tx = vqs[2 * i + 1];
		/* Beside the ring, what a poll had harvested before anybody counted. */
		hq->pairs[i].lap = virtqueue_get_vring_size(vqs[2 * i]) + NAPI_POLL_WEIGHT;
	}
	hq->control = vqs[rings];
	hq->headers = vqs[rings + 1];
	hq->returned = false;
	/* From here on hq_reset_device() takes back what was made. */
	hq->ready = true;
	for (i = 0; i < hq->max_pairs && !err; i++)
		err = hq_make_unposted(&hq->pairs[i]);
	if (!err)
		virtio_device_ready(hq->vdev);
free:
	kfree(vqs);
	kfree(info);
	return err;
}

/*
 * Afterwards the device knows nothing, and everything that it had is the driver's. A back-end of
 * User-Mode Linux is told of the end of the queues alone: until then it writes to the pages and
 * reads the packets, which therefore are freed afterwards.
 */
static void hq_reset_device(struct hq *hq)
{
	struct sk_buff_head unsent;
	unsigned int i, k;
	void *buf;

	if (!hq->ready)
		return;
	hq->ready = false;
	virtio_reset_device(hq->vdev);
	__skb_queue_head_init(&unsent);
	for (i = 0; i < hq->max_pairs; i++) {
		struct hq_pair *pair = &hq->pairs[i];

		pair->unposted_count = 0;
		while ((buf = virtqueue_detach_unused_buf(pair->rx)))
			pair->unposted[pair->unposted_count++] = (__force netmem_ref)buf;
		while ((buf = virtqueue_detach_unused_buf(pair->tx)))
			__skb_queue_tail(&unsent, buf);
	}
	virtqueue_detach_unused_buf(hq->headers);
	virtqueue_detach_unused_buf(hq->control);
	hq->vdev->config->del_vqs(hq->vdev);
	for (i = 0; i < hq->max_pairs; i++)
		for (k = 0; k < hq->pairs[i].unposted_count; k++)
			page_pool_put_full_netmem(hq->pairs[i].pool, hq->pairs[i].unposted[k],
						  false);
	while ((buf = __skb_dequeue(&unsent)))
		dev_kfree_skb_any(buf);
}

/* All pairs: packets may be on their way to a queue that is no longer used. */
static int hq_open(struct net_device *dev)
{
	struct hq *hq = netdev_priv(dev);
	unsigned int i;

	if (!hq->ready)
		return -ENODEV;
	for (i = 0; i < hq->max_pairs; i++) {
		struct hq_pair *pair = &hq->pairs[i];

		WRITE_ONCE(pair->starved, i < hq->active_pairs);
		napi_enable(&pair->rx_napi);
		napi_enable(&pair->tx_napi);
		/* Buffers are posted, and work is done that was announced before. */
		local_bh_disable();
		hq_schedule(pair->rx, &pair->rx_napi);
		hq_schedule(pair->tx, &pair->tx_napi);
		local_bh_enable();
	}
	hq->open = true;
	schedule_work(&hq->config_changed);
	schedule_delayed_work(&hq->set_up, HQ_SET_UP_RETRY);
	return 0;
}

static int hq_stop(struct net_device *dev)
{
	struct hq *hq = netdev_priv(dev);
	unsigned int i;

	for (i = 0; hq->open && i < hq->max_pairs; i++) {
		napi_disable(&hq->pairs[i].rx_napi);
		napi_disable(&hq->pairs[i].tx_napi);
	}
	hq->open = false;
	return 0;
}

/* Under hq_lock(). What the interface is set to stays, its packets do not. */
void hq_go_down(struct hq *hq)
{
	netif_device_detach(hq->dev);
	/* First, as it wakes queues of packets; then none is in hq_xmit, nor will be. */
	hq_stop(hq->dev);
	netif_tx_disable(hq->dev);
	hq_reset_device(hq);
}

static int hq_come_up(struct hq *hq)
{
	/* Slots before buffers, so that a device that takes its queues in order splits all. */
	int err = hq_find_queues(hq) ?: hq_begin(hq);

	/* hq_set_up_again() sees to an answer that comes late, as from a back-end that restarts. */
	if (err == -ETIMEDOUT)
		err = 0;
	if (!err && netif_running(hq->dev))
		err = hq_open(hq->dev);
	if (!err) {
		netif_device_attach(hq->dev);
	} else {
		netdev_err(hq->dev, "the device does not start again: error %d\n", err);
		hq_reset_device(hq);
	}
	return err;
}

/*
 * A device that was reset has forgotten what it agreed on. A back-end of User-Mode Linux has not,
 * since that tells it nothing of a reset; and at a second agreement it would leave out the bit by
 * which rings are enabled and disabled.
 */
static int hq_negotiate_again(struct virtio_device *vdev)
{
	int err;

	if (IS_ENABLED(CONFIG_UML))
		return 0;
	/* It may not have been: a beginning that failed early leaves what was agreed on before. */
	virtio_reset_device(vdev);
	virtio_add_status(vdev, VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
	err = vdev->config->finalize_features(vdev);
	if (err)
		return err;
	virtio_add_status(vdev, VIRTIO_CONFIG_S_FEATURES_OK);
	return vdev->config->get_status(vdev) & VIRTIO_CONFIG_S_FEATURES_OK ? 0 : -ENODEV;
}

/* After hq_go_down(). */
int hq_begin_anew(struct hq *hq)
{
	return hq_negotiate_again(hq->vdev) ?: hq_come_up(hq);
}

/* ---- ethtool ---- */

static void hq_get_ringparam(struct net_device *dev, struct ethtool_ringparam *ring,
			     struct kernel_ethtool_ringparam *kernel, struct netlink_ext_ack *ack)
{
	struct hq *hq = netdev_priv(dev);

	if (!hq->ready)
		return;
	ring->rx_max_pending = ring->rx_pending = virtqueue_get_vring_size(hq->pairs[0].rx);
	ring->tx_max_pending = ring->tx_pending = virtqueue_get_vring_size(hq->pairs[0].tx);
	kernel->rx_buf_len = PAGE_SIZE;
	kernel->tcp_data_split = hq_splits(hq) ? ETHTOOL_TCP_DATA_SPLIT_ENABLED :
						 ETHTOOL_TCP_DATA_SPLIT_DISABLED;
}

static void hq_get_channels(struct net_device *dev, struct ethtool_channels *channels)
{
	struct hq *hq = netdev_priv(dev);

	channels->max_combined = hq->max_pairs;
	channels->combined_count = hq->active_pairs;
}

static int hq_set_channels(struct net_device *dev, struct ethtool_channels *channels)
{
	unsigned int n = channels->combined_count, i;
	struct hq *hq = netdev_priv(dev);
	int err;

	if (!n || channels->rx_count || channels->tx_count || !hq->ready)
		return -EINVAL;
	if (n == hq->active_pairs)
		return 0;
	/* Buffers first: the device may use the queue before it has answered. */
	for (i = hq->active_pairs; i < n; i++)
		WRITE_ONCE(hq->pairs[i].starved, true);
	hq_poll_all(hq);
	err = hq_command_pairs(hq, n);
	if (err)
		return err;
	hq->active_pairs = n;
	return netif_set_real_num_queues(dev, n, n);
}

/* A reset is the way back for a header queue that broke. */
static int hq_ethtool_reset(struct net_device *dev, u32 *flags)
{
	struct hq *hq = netdev_priv(dev);

	hq_go_down(hq);
	*flags = 0;
	return hq_begin_anew(hq);
}

static int hq_get_sset_count(struct net_device *dev, int set)
{
	struct hq *hq = netdev_priv(dev);

	return set != ETH_SS_STATS ? -EOPNOTSUPP :
		ARRAY_SIZE(hq_word_names) + hq->max_pairs * HQ_COUNT;
}

static void hq_get_strings(struct net_device *dev, u32 set, u8 *data)
{
	struct hq *hq = netdev_priv(dev);
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(hq_word_names); i++)
		ethtool_sprintf(&data, "%s", hq_word_names[i]);
	for (i = 0; i < hq->max_pairs * HQ_COUNT; i++)
		ethtool_sprintf(&data, "%s_%u", hq_counter_names[i % HQ_COUNT], i / HQ_COUNT);
}

static void hq_get_stats(struct net_device *dev, struct ethtool_stats *stats, u64 *data)
{
	struct hq *hq = netdev_priv(dev);
	unsigned int i;

	*data++ = hq->slot_count;
	*data++ = (u32)atomic_read(&hq->next);
	*data++ = le32_to_cpu(READ_ONCE(hq->words->head));
	*data++ = hq_status(hq);
	*data++ = hq->set_ups;
	for (i = 0; i < hq->max_pairs * HQ_COUNT; i++)
		*data++ = READ_ONCE(hq->pairs[i / HQ_COUNT].count[i % HQ_COUNT]);
}

static const struct ethtool_ops hq_ethtool_ops = {
#ifdef ETHTOOL_OP_NEEDS_RTNL_GLINK	/* Linux 7.3: the others run under the device's lock alone */
	.op_needs_rtnl = ETHTOOL_OP_NEEDS_RTNL_GLINK | ETHTOOL_OP_NEEDS_RTNL_SCHANNELS,
#endif
	.get_link = ethtool_op_get_link,
	.get_ts_info = ethtool_op_get_ts_info,
	.get_ringparam = hq_get_ringparam,
	.get_channels = hq_get_channels,
	.set_channels = hq_set_channels,
	.reset = hq_ethtool_reset,
	.get_sset_count = hq_get_sset_count,
	.get_strings = hq_get_strings,
	.get_ethtool_stats = hq_get_stats,
};

static void hq_get_stats64(struct net_device *dev, struct rtnl_link_stats64 *stats)
{
	struct hq *hq = netdev_priv(dev);
	unsigned int i, c;

	for (i = 0; i < hq->max_pairs; i++) {
		const u64 *count = hq->pairs[i].count;

		stats->rx_packets += READ_ONCE(count[HQ_rx_packets]);
		stats->rx_bytes += READ_ONCE(count[HQ_rx_bytes]);
		for (c = HQ_rx_bad_slot; c <= HQ_rx_buffers_missing; c++)
			stats->rx_errors += READ_ONCE(count[c]);
		stats->rx_dropped += READ_ONCE(count[HQ_rx_no_skb]) +
				     READ_ONCE(count[HQ_rx_unreadable]);
		stats->tx_packets += READ_ONCE(count[HQ_tx_packets]);
		stats->tx_bytes += READ_ONCE(count[HQ_tx_bytes]);
		stats->tx_dropped += READ_ONCE(count[HQ_tx_dropped]);
	}
}

static const struct net_device_ops hq_netdev_ops = {
	.ndo_open = hq_open,
	.ndo_stop = hq_stop,
	.ndo_start_xmit = hq_xmit,
	.ndo_get_stats64 = hq_get_stats64,
	.ndo_set_mac_address = eth_mac_addr,
	.ndo_validate_addr = eth_validate_addr,
	.ndo_features_check = passthru_features_check,
};

/* ---- Life of a device ---- */

static void hq_describe(struct hq *hq)
{
	struct virtio_device *vdev = hq->vdev;
	struct net_device *dev = hq->dev;
	u8 address[ETH_ALEN] = { 0 };
	u16 mtu = 0;

	dev->netdev_ops = &hq_netdev_ops;
	dev->ethtool_ops = &hq_ethtool_ops;
	dev->needed_headroom = HQ_NET_HEADER;
	dev->priv_flags |= IFF_UNICAST_FLT | IFF_LIVE_ADDR_CHANGE;
	if (virtio_has_feature(vdev, VIRTIO_NET_F_CSUM)) {
		dev->hw_features = NETIF_F_HW_CSUM | NETIF_F_SG;
		if (virtio_has_feature(vdev, VIRTIO_NET_F_HOST_TSO4))
			dev->hw_features |= NETIF_F_TSO;
		if (virtio_has_feature(vdev, VIRTIO_NET_F_HOST_TSO6))
			dev->hw_features |= NETIF_F_TSO6;
	}
	dev->vlan_features = dev->hw_features;
	dev->features = dev->hw_features | NETIF_F_HIGHDMA;
	if (virtio_has_feature(vdev, VIRTIO_NET_F_GUEST_CSUM))
		dev->features |= NETIF_F_RXCSUM;

	if (virtio_has_feature(vdev, VIRTIO_NET_F_MAC))
		virtio_cread_bytes(vdev, offsetof(struct virtio_net_config, mac), address,
				   ETH_ALEN);
	if (is_valid_ether_addr(address))
		eth_hw_addr_set(dev, address);
	else
		eth_hw_addr_random(dev);
	dev->min_mtu = ETH_MIN_MTU;
	dev->max_mtu = ETH_MAX_MTU;
	if (virtio_has_feature(vdev, VIRTIO_NET_F_MTU))
		virtio_cread(vdev, struct virtio_net_config, mtu, &mtu);
	if (mtu >= ETH_MIN_MTU)
		dev->mtu = dev->max_mtu = mtu;
}

/* Of a device that was reset. */
static void hq_free(struct hq *hq)
{
	unsigned int i;

	cancel_delayed_work_sync(&hq->set_up);
	cancel_delayed_work_sync(&hq->refill);
	cancel_work_sync(&hq->config_changed);
	for (i = 0; i < hq->max_pairs; i++) {
		page_pool_destroy(hq->pairs[i].pool);
		kvfree(hq->pairs[i].unposted);
	}
	free_page((unsigned long)hq->words);
	free_pages((unsigned long)hq->area, hq->area_order);
	free_pages((unsigned long)hq->ring, hq->ring_order);
	free_netdev(hq->dev);
}

/*
 * Without the header queue, or with one that this driver cannot use, the device is what any
 * virtio-net device is, and belongs to virtio_net: the bus asks it next.
 */
static int hq_leave(struct virtio_device *vdev, const char *why)
{
	dev_info(&vdev->dev, "left to virtio_net: %s\n", why);
	virtio_reset_device(vdev);
	return -ENODEV;
}

static int hq_probe(struct virtio_device *vdev)
{
	struct net_device *dev;
	unsigned int i;
	u16 max_pairs = 1;
	struct hq *hq;
	int err;

	if (!virtio_has_feature(vdev, HQ_FEATURE))
		return hq_leave(vdev, "no header queue is offered");
	if (!virtio_has_feature(vdev, VIRTIO_F_VERSION_1) ||
	    !virtio_has_feature(vdev, VIRTIO_NET_F_MRG_RXBUF) ||
	    !virtio_has_feature(vdev, VIRTIO_NET_F_CTRL_VQ))
		return hq_leave(vdev, "a header queue without the features that it depends on");
	/* Slots are read while the device writes others beside them: no bounce buffer can do that. */
	if (virtio_has_feature(vdev, VIRTIO_F_ACCESS_PLATFORM))
		return hq_leave(vdev, "a header queue behind an IOMMU or bounce buffers");
	/* A device beside the CPUs' coherent memory: barriers among CPUs do not reach it. */
	if (virtio_has_feature(vdev, VIRTIO_F_ORDER_PLATFORM))
		return hq_leave(vdev, "a header queue that needs the platform's memory barriers");
	if (virtio_has_feature(vdev, VIRTIO_NET_F_MQ))
		virtio_cread(vdev, struct virtio_net_config, max_virtqueue_pairs, &max_pairs);
	if (!max_pairs || max_pairs > HQ_MAX_PAIRS)
		return hq_leave(vdev, "a number of queue pairs that a header queue cannot have");

	dev = alloc_etherdev_mqs(struct_size(hq, pairs, max_pairs), max_pairs, max_pairs);
	if (!dev)
		return -ENOMEM;
	hq = netdev_priv(dev);
	hq->vdev = vdev;
	hq->dev = dev;
	hq->max_pairs = max_pairs;
	hq->active_pairs = min_t(unsigned int, max_pairs, num_online_cpus());
	vdev->priv = hq;
	SET_NETDEV_DEV(dev, &vdev->dev);
	INIT_DELAYED_WORK(&hq->refill, hq_refill_starved);
	INIT_DELAYED_WORK(&hq->set_up, hq_set_up_again);
	INIT_WORK(&hq->config_changed, hq_config_work);
	hq_describe(hq);
	netif_carrier_off(dev);
	hq_allow_binding(hq);
	for (i = 0; i < max_pairs; i++) {
		hq->pairs[i].hq = hq;
		netif_napi_add(dev, &hq->pairs[i].rx_napi, hq_poll_rx);
		netif_napi_add_tx(dev, &hq->pairs[i].tx_napi, hq_poll_tx);
	}
	rtnl_lock();
	err = hq_find_queues(hq) ?:
	      (virtqueue_get_vring_size(hq->pairs[0].tx) < HQ_TX_ROOM ? -EINVAL : 0) ?:
	      hq_alloc_slots(hq, slots ?: max_pairs * virtqueue_get_vring_size(hq->pairs[0].rx)) ?:
	      hq_begin(hq) ?: netif_set_real_num_queues(dev, hq->active_pairs, hq->active_pairs) ?:
	      register_netdevice(dev);
	if (err)
		hq_reset_device(hq);
	rtnl_unlock();
	if (err)
		hq_free(hq);
	return err;
}

static void hq_remove(struct virtio_device *vdev)
{
	struct hq *hq = vdev->priv;

	/* Before the memory goes that applications have bound. */
	hq_lock(hq);
	hq_go_down(hq);
	hq_unlock(hq);
	unregister_netdev(hq->dev);
	hq_free(hq);
}

static int __maybe_unused hq_freeze(struct virtio_device *vdev)
{
	hq_lock(vdev->priv);
	hq_go_down(vdev->priv);
	hq_unlock(vdev->priv);
	return 0;
}

static int __maybe_unused hq_restore(struct virtio_device *vdev)
{
	int err;

	hq_lock(vdev->priv);
	err = hq_come_up(vdev->priv);
	hq_unlock(vdev->priv);
	return err;
}

static const unsigned int hq_features[] = {
	VIRTIO_NET_F_CSUM, VIRTIO_NET_F_GUEST_CSUM, VIRTIO_NET_F_MTU, VIRTIO_NET_F_MAC,
	VIRTIO_NET_F_GUEST_TSO4, VIRTIO_NET_F_GUEST_TSO6, VIRTIO_NET_F_HOST_TSO4,
	VIRTIO_NET_F_HOST_TSO6, VIRTIO_NET_F_MRG_RXBUF, VIRTIO_NET_F_STATUS, VIRTIO_NET_F_CTRL_VQ,
	VIRTIO_NET_F_MQ, HQ_FEATURE,
};

/* No MODULE_DEVICE_TABLE: the module is loaded on purpose, not with every virtio-net device. */
static const struct virtio_device_id hq_ids[] = { { VIRTIO_ID_NET, VIRTIO_DEV_ANY_ID }, { 0 } };

static struct virtio_driver hq_driver = {
	.driver.name = KBUILD_MODNAME,
	.driver.owner = THIS_MODULE,
	.feature_table = hq_features,
	.feature_table_size = ARRAY_SIZE(hq_features),
	.id_table = hq_ids,
	.probe = hq_probe,
	.remove = hq_remove,
	.config_changed = hq_config_changed,
#ifdef CONFIG_PM_SLEEP
	.freeze = hq_freeze,
	.restore = hq_restore,
#endif
};
module_virtio_driver(hq_driver);
MODULE_DESCRIPTION("virtio-net with a header queue");
MODULE_LICENSE("Dual MIT/GPL");

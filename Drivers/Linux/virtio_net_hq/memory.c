// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * The memory that payload arrives in: each receive queue has a page pool. Since Linux 6.12 an
 * application may bind memory to a queue: of a device, a dma-buf (device memory TCP), or since 6.15
 * its own (zero-copy receive of io_uring). Then the pool hands that out, payload arrives there, and
 * no kernel reads it. A header queue is what makes that possible: all that the kernel has to read
 * is in the slots.
 *
 * Linux gives a queue other memory by stopping it. A virtio device can stop one queue only with
 * RING_RESET, which no VMM has that lets the header queue through: so the device begins anew.
 */
#include "hq.h"
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 12, 0)
#include <linux/dma-mapping.h>
#include <linux/ethtool_netlink.h>
#include <net/netdev_queues.h>
#include <net/netdev_rx_queue.h>

static bool hq_is_bound(struct hq *hq, unsigned int index)
{
	return __netif_get_rx_queue(hq->dev, index)->mp_params.mp_priv;
}
#endif

static struct page_pool *hq_new_pool(struct hq *hq, unsigned int index)
{
	struct page_pool_params params = {
		.pool_size = 256, .nid = NUMA_NO_NODE, .dev = &hq->vdev->dev,
		.dma_dir = DMA_FROM_DEVICE,
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 8, 0)
		.napi = &hq->pairs[index].rx_napi, .netdev = hq->dev,
#endif
	};

#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 12, 0)
	params.queue_idx = index;
	/* Pages need no mapping: without ACCESS_PLATFORM a device has physical addresses. */
	if (hq_is_bound(hq, index)) {
		params.flags = PP_FLAG_DMA_MAP | PP_FLAG_DMA_SYNC_DEV |
			       PP_FLAG_ALLOW_UNREADABLE_NETMEM;
		params.max_len = PAGE_SIZE;
	}
#endif
	return page_pool_create(&params);
}

/* Unless it has one. */
int hq_make_pool(struct hq *hq, unsigned int index)
{
	struct page_pool *pool = hq->pairs[index].pool ?: hq_new_pool(hq, index);

	if (IS_ERR(pool))
		return PTR_ERR(pool);
	hq->pairs[index].pool = pool;
	return 0;
}

#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 12, 0)
/* What Linux keeps of a queue while it changes it. */
struct hq_memory { struct page_pool *pool; };

#if LINUX_VERSION_CODE >= KERNEL_VERSION(7, 0, 0)
#define HQ_CONFIG struct netdev_queue_config *config,
#else
#define HQ_CONFIG
#endif

static int hq_memory_alloc(struct net_device *dev, HQ_CONFIG void *memory, int index)
{
	struct hq *hq = netdev_priv(dev);
	struct page_pool *pool;
	int tries, err;

	/* A device that began anew a moment ago takes the slots a moment later. */
	for (tries = 0; tries < 200 && hq_is_bound(hq, index) && hq_pending(hq); tries++)
		usleep_range(500, 1000);
	/* Whole packets would all be dropped. */
	if (hq_is_bound(hq, index) && !hq_splits(hq))
		return -EOPNOTSUPP;
	pool = hq_new_pool(hq, index);
	if (IS_ERR(pool))
		return PTR_ERR(pool);
	/*
	 * From Linux 6.15 on no queue of an interface that is down is stopped or started: what is
	 * freed next is what is found here.
	 */
	if (LINUX_VERSION_CODE >= KERNEL_VERSION(6, 15, 0) && !netif_running(dev)) {
		hq_go_down(hq);
		swap(pool, hq->pairs[index].pool);
		err = hq_begin_anew(hq);
		if (err) {
			swap(pool, hq->pairs[index].pool);
			page_pool_destroy(pool);
			return err;
		}
	}
	((struct hq_memory *)memory)->pool = pool;
	return 0;
}

static void hq_memory_free(struct net_device *dev, void *memory)
{
	page_pool_destroy(((struct hq_memory *)memory)->pool);
}

static int hq_queue_stop(struct net_device *dev, void *memory, int index)
{
	struct hq *hq = netdev_priv(dev);

	hq_go_down(hq);
	/* NAPI goes on with another pool. */
	if (hq->pairs[index].pool)
		page_pool_disable_direct_recycling(hq->pairs[index].pool);
	((struct hq_memory *)memory)->pool = hq->pairs[index].pool;
	hq->pairs[index].pool = NULL;
	return 0;
}

static int hq_queue_start(struct net_device *dev, HQ_CONFIG void *memory, int index)
{
	struct hq *hq = netdev_priv(dev);
	int err;

	hq->pairs[index].pool = ((struct hq_memory *)memory)->pool;
	err = hq_begin_anew(hq);
	/* It is freed, maybe while NAPI runs again, and the next beginning makes another. */
	if (err) {
		page_pool_disable_direct_recycling(hq->pairs[index].pool);
		hq->pairs[index].pool = NULL;
	}
	return err;
}

static const struct netdev_queue_mgmt_ops hq_queue_ops = {
	.ndo_queue_mem_size = sizeof(struct hq_memory),
	.ndo_queue_mem_alloc = hq_memory_alloc,
	.ndo_queue_mem_free = hq_memory_free,
	.ndo_queue_start = hq_queue_start,
	.ndo_queue_stop = hq_queue_stop,
};

void hq_allow_binding(struct hq *hq)
{
	hq->dev->queue_mgmt_ops = &hq_queue_ops;
	/* A dma-buf is mapped for the parent of the network device, by physical addresses. */
	dma_coerce_mask_and_coherent(&hq->vdev->dev, DMA_BIT_MASK(64));
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 14, 0)
	/* What Linux wants to have been asked for: here it is never off by request. */
	hq->dev->cfg->hds_config = ETHTOOL_TCP_DATA_SPLIT_ENABLED;
#endif
}
#else
void hq_allow_binding(struct hq *hq)
{
}
#endif

/* The two front-ends between which a switch is measured: DPDK's virtio-user ports A and B on one
 * thread, which sends a burst at A and takes what came at B. One thread, since two testpmd on one
 * CPU would take turns of milliseconds, and a ring of 256 packets is full after microseconds.
 *   front-ends [EAL OPTION...] -- SECONDS PACKET-BYTES
 * The first two ports are A and B. Prints one line: packets that came each second, and how many
 * sent, came, and came damaged. Each frame has its length in its last bytes, checked when it comes.
 * With one port nothing is sent: it takes what a generator behind it sends, and checks the length.
 * Exit status 0 measured, 1 failed, with the reason. */
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <rte_cycles.h>
#include <rte_eal.h>
#include <rte_ethdev.h>
#include <rte_ether.h>
#include <rte_mbuf.h>

enum { BURST = 32, RING = 256, BUFFERS = 4096, HEADERS = 14, LARGEST = 9014 };

static void fail(const char *what)
{
	fprintf(stderr, "front-ends: %s\n", what);
	exit(1);
}

static void set_up(uint16_t port, struct rte_mempool *pool, uint32_t bytes)
{
	struct rte_eth_conf conf = { 0 };
	struct rte_eth_dev_info info;

	if (rte_eth_dev_info_get(port, &info) != 0)
		fail("cannot ask the port");
	if (strcmp(info.driver_name, "net_virtio_user") != 0)
		fail("the ports are not virtio-user");
	conf.rxmode.mtu = bytes > 1514 ? 9000 : 1500;
	if (rte_eth_dev_configure(port, 1, 1, &conf) != 0)
		fail("cannot configure the port");
	if (rte_eth_rx_queue_setup(port, 0, RING, SOCKET_ID_ANY, NULL, pool) != 0 ||
	    rte_eth_tx_queue_setup(port, 0, RING, SOCKET_ID_ANY, NULL) != 0)
		fail("cannot set up the queues");
	if (rte_eth_dev_start(port) != 0)
		fail("cannot start the port: is there a back-end?");
}

/* From A's address to B's, or the other way: what a learning switch needs to know both. */
static struct rte_mbuf *frame(struct rte_mempool *pool, int from, uint32_t bytes, uint32_t number)
{
	static const uint8_t addresses[2][6] = { { 2, 0, 0, 0, 0, 0xa }, { 2, 0, 0, 0, 0, 0xb } };
	struct rte_mbuf *packet = rte_pktmbuf_alloc(pool);
	uint8_t *data;

	if (!packet)
		return NULL;
	data = rte_pktmbuf_mtod(packet, uint8_t *);
	memcpy(data, addresses[!from], 6);
	memcpy(data + 6, addresses[from], 6);
	data[12] = 0x88;
	data[13] = 0xb5;
	memcpy(data + HEADERS, &number, sizeof number);
	memcpy(data + bytes - sizeof bytes, &bytes, sizeof bytes);
	packet->data_len = packet->pkt_len = bytes;
	return packet;
}

static int is_right(struct rte_mbuf *packet, uint32_t bytes, int is_ours)
{
	uint32_t found;

	if (packet->pkt_len != bytes || packet->data_len != bytes)
		return 0;
	if (!is_ours)
		return 1;
	memcpy(&found, rte_pktmbuf_mtod(packet, uint8_t *) + bytes - sizeof found, sizeof found);
	return found == bytes;
}

int main(int argc, char **argv)
{
	uint64_t sent = 0, came = 0, damaged = 0, start = 0, end = 0, now, warm;
	uint32_t number = 0, bytes;
	struct rte_mbuf *burst[BURST];
	struct rte_mempool *pool;
	int used = rte_eal_init(argc, argv);
	double seconds;
	int ports;

	if (used < 0)
		fail("cannot start DPDK");
	if (argc - used != 3)
		fail("usage: front-ends [EAL OPTION...] -- SECONDS PACKET-BYTES");
	seconds = atof(argv[used + 1]);
	bytes = atoi(argv[used + 2]);
	if (seconds <= 0 || bytes < 60 || bytes > LARGEST)
		fail("seconds above 0, packets of 60 to 9014 bytes");
	ports = rte_eth_dev_count_avail();
	if (ports < 1 || ports > 2)
		fail("one or two virtio-user ports are needed");
	pool = rte_pktmbuf_pool_create("packets", BUFFERS, 128, 0, bytes > 1514 ? 9728 : 2176,
	                               SOCKET_ID_ANY);
	if (!pool)
		fail("no memory for packets");
	for (int port = 0; port < ports; port++)
		set_up(port, pool, bytes);

	/* A switch that learns hears both sides once. */
	for (int side = 1; ports == 2 && side >= 0; side--) {
		burst[0] = frame(pool, side, bytes, 0);
		if (!burst[0] || rte_eth_tx_burst(side, 0, burst, 1) != 1)
			fail("the first packet cannot be sent");
		rte_delay_ms(20);
		for (int port = 0; port < 2; port++) {
			uint16_t count = rte_eth_rx_burst(port, 0, burst, BURST);
			rte_pktmbuf_free_bulk(burst, count);
		}
	}
	/* The clock starts half a second after the first packet came: a switch may need a while. */
	now = rte_rdtsc();
	warm = now + 20 * rte_get_tsc_hz();
	for (;;) {
		uint16_t count, done;

		now = rte_rdtsc();
		if (!start && now > warm) {
			if (!came)
				fail("no packet came within 20 s");
			sent = came = damaged = 0;
			start = now;
			end = start + (uint64_t)(seconds * rte_get_tsc_hz());
		}
		if (start && now > end)
			break;
		for (count = 0; ports == 2 && count < BURST; count++) {
			burst[count] = frame(pool, 0, bytes, number++);
			if (!burst[count])
				break;
		}
		done = count ? rte_eth_tx_burst(0, 0, burst, count) : 0;
		sent += done;
		if (done < count)
			rte_pktmbuf_free_bulk(burst + done, count - done);
		count = rte_eth_rx_burst(ports - 1, 0, burst, BURST);
		for (int i = 0; i < count; i++)
			damaged += !is_right(burst[i], bytes, ports == 2);
		if (!came && count)
			warm = rte_rdtsc() + rte_get_tsc_hz() / 2;
		came += count;
		rte_pktmbuf_free_bulk(burst, count);
	}
	seconds = (double)(now - start) / rte_get_tsc_hz();
	printf("result %.0f packets/s, sent %" PRIu64 ", came %" PRIu64 ", damaged %" PRIu64 "\n",
	       came / seconds, sent, came, damaged);
	fflush(stdout);
	for (int port = 0; port < ports; port++)
		rte_eth_dev_stop(port);
	rte_eal_cleanup();
	if (damaged)
		fail("packets came damaged");
	if (!came)
		fail("no packet came");
	return 0;
}

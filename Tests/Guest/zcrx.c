/* A receiver of io_uring's zero-copy receive (Linux 7.3): binds memory of its own to a receive
 * queue and takes connections until the payload of one arrives there without a copy. Its bytes go
 * to standard output, in their order. What other queues receive the kernel copies to that memory:
 * such a connection is read and left out.
 *   zcrx DEVICE QUEUE PORT
 * The last line of standard error counts the bytes of that connection: those that came into the
 * memory, and those that the kernel copied. The end of the program unbinds the queue.
 *   cc -static -O2 -o zcrx zcrx.c */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/io_uring.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Of Linux 7.3: linux/io_uring.h and linux/io_uring/zcrx.h. */
enum { RECV_ZC = 58, RECV_MULTI = 2, REGION_USER = 1, WITH_STATISTICS = 1 };
enum { REGISTER_QUEUE = 32, REGISTER_CONTROL = 36 };
struct completion { uint64_t user; int32_t result; uint32_t flags; uint64_t offset, padding; };
struct refill { uint64_t offset; uint32_t length, padding; };
struct region { uint64_t address, size; uint32_t flags, id; uint64_t map_offset, reserved[4]; };
struct area { uint64_t address, length, token; uint32_t flags, dmabuf; uint64_t reserved[2]; };
struct statistics { uint64_t count, bytes; };
struct events { uint64_t user; uint32_t types, flags; uint64_t statistics, reserved[9]; };
struct queue {
	uint32_t device, queue, entries, flags;
	uint64_t area, region;
	struct { uint32_t head, tail, refills, reserved; uint64_t reserved2[2]; } offsets;
	uint32_t id, buffer_length;
	uint64_t events, reserved[2];
};
struct control { uint32_t id, flush; uint64_t reserved[8]; };
static const uint64_t AREA_MASK = ~((UINT64_C(1) << 48) - 1);

enum { MEMORY = 16 << 20, REFILLS = 4096, REGION = (REFILLS * sizeof(struct refill)) + 8192 };

static char *memory;
/* The ring of requests and completions. */
static int ring;
static struct io_uring_sqe *requests;
static uint32_t *request_tail, *request_array, request_mask;
static uint32_t *completion_head, *completion_tail, completion_mask;
static struct completion *completions;
/* The ring by which memory goes back, and what the kernel had to copy. */
static struct queue bound;
static struct area area;
static struct refill *refills;
static uint32_t *refill_tail;
static volatile struct statistics *copied;

static void fail(const char *what)
{
	fprintf(stderr, "%s: %s\n", what, strerror(errno));
	exit(1);
}

static void *map(size_t size, int flags, int file, off_t offset)
{
	void *at = mmap(NULL, size, PROT_READ | PROT_WRITE, flags, file, offset);

	if (at == MAP_FAILED)
		fail("mmap");
	return at;
}

static void make_ring(void)
{
	struct io_uring_params parameters = {
		.flags = IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_SINGLE_ISSUER |
			 IORING_SETUP_CQE32 | IORING_SETUP_CQSIZE,
		.cq_entries = 4096,
	};
	size_t size, array;
	char *at;

	ring = syscall(SYS_io_uring_setup, 8, &parameters);
	if (ring < 0)
		fail("io_uring_setup");
	/* One mapping for both rings: the array of requests comes after the completions. */
	size = parameters.cq_off.cqes + parameters.cq_entries * sizeof(struct completion);
	array = parameters.sq_off.array + parameters.sq_entries * sizeof(uint32_t);
	at = map(size > array ? size : array, MAP_SHARED, ring, IORING_OFF_SQ_RING);
	request_tail = (uint32_t *)(at + parameters.sq_off.tail);
	request_array = (uint32_t *)(at + parameters.sq_off.array);
	request_mask = parameters.sq_entries - 1;
	completion_head = (uint32_t *)(at + parameters.cq_off.head);
	completion_tail = (uint32_t *)(at + parameters.cq_off.tail);
	completion_mask = parameters.cq_entries - 1;
	completions = (struct completion *)(at + parameters.cq_off.cqes);
	requests = map(parameters.sq_entries * sizeof *requests, MAP_SHARED, ring, IORING_OFF_SQES);
}

static void bind_queue(const char *device, uint32_t queue)
{
	int own = MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE;
	char *at = map(REGION, own, -1, 0);
	struct region region = { .address = (uintptr_t)at, .size = REGION, .flags = REGION_USER };
	struct events events = { .flags = WITH_STATISTICS, .statistics = REGION - 4096 };

	memory = map(MEMORY, own, -1, 0);
	area = (struct area) { .address = (uintptr_t)memory, .length = MEMORY };
	bound = (struct queue) {
		.device = if_nametoindex(device), .queue = queue, .entries = REFILLS,
		.area = (uintptr_t)&area, .region = (uintptr_t)&region,
		.events = (uintptr_t)&events,
	};
	if (syscall(SYS_io_uring_register, ring, REGISTER_QUEUE, &bound, 1))
		fail("the memory cannot be bound to the queue");
	refill_tail = (uint32_t *)(at + bound.offsets.tail);
	refills = (struct refill *)(at + bound.offsets.refills);
	copied = (struct statistics *)(at + events.statistics);
}

static void request(int peer)
{
	uint32_t tail = *request_tail, index = tail & request_mask;

	requests[index] = (struct io_uring_sqe) {
		.opcode = RECV_ZC, .fd = peer, .ioprio = RECV_MULTI, .splice_fd_in = bound.id,
	};
	request_array[index] = index;
	__atomic_store_n(request_tail, tail + 1, __ATOMIC_RELEASE);
}

static void give_back(const struct completion *one)
{
	uint32_t tail = *refill_tail;

	refills[tail % REFILLS] = (struct refill) {
		.offset = (one->offset & ~AREA_MASK) | area.token, .length = one->result,
	};
	__atomic_store_n(refill_tail, tail + 1, __ATOMIC_RELEASE);
}

/* What is copied takes memory that the kernel does not look for in the ring by itself. */
static void take_back(void)
{
	struct control control = { .id = bound.id };

	if (syscall(SYS_io_uring_register, ring, REGISTER_CONTROL, &control, 0))
		fail("the kernel takes no memory back");
}

/* Whether the connection came without a copy. */
static int receive(int peer)
{
	uint64_t came = 0, parts = 0, before = copied->bytes;
	uint32_t submit = 1;
	int all = 0, over = 0;

	request(peer);
	while (!over) {
		uint32_t head = *completion_head;

		if (syscall(SYS_io_uring_enter, ring, submit, 1, IORING_ENTER_GETEVENTS, NULL,
			    0) < 0)
			fail("io_uring_enter");
		submit = 0;
		for (; head != __atomic_load_n(completion_tail, __ATOMIC_ACQUIRE); head++) {
			struct completion *one = &completions[head & completion_mask];
			size_t length = one->result;

			errno = -one->result;
			if (one->result < 0)
				fail("receiving");
			/* The first bytes say which queue the connection meets. */
			if (!came)
				all = copied->bytes == before;
			if (all && length &&
			    !fwrite(memory + (one->offset & ~AREA_MASK), length, 1, stdout))
				fail("standard output");
			came += length;
			if (length) {
				parts++;
				give_back(one);
			}
			if (!(one->flags & IORING_CQE_F_MORE)) {
				over = !length;
				if (!over) {
					request(peer);
					submit = 1;
				}
			}
		}
		__atomic_store_n(completion_head, head, __ATOMIC_RELEASE);
		if (!all)
			take_back();
	}
	before = copied->bytes - before;
	fprintf(stderr, "device %lu copied %lu parts %lu\n", came - before, before, parts);
	return came && all;
}

int main(int count, char **words)
{
	struct sockaddr_in6 address = { .sin6_family = AF_INET6, .sin6_addr = in6addr_any };
	int listener, peer, came = 0;

	if (count != 4) {
		fprintf(stderr, "zcrx DEVICE QUEUE PORT\n");
		return 2;
	}
	make_ring();
	bind_queue(words[1], atoi(words[2]));
	address.sin6_port = htons(atoi(words[3]));
	listener = socket(AF_INET6, SOCK_STREAM, 0);
	if (bind(listener, (void *)&address, sizeof address) || listen(listener, 1))
		fail("listening");
	while (!came) {
		peer = accept(listener, NULL, NULL);
		if (peer < 0)
			fail("accept");
		came = receive(peer);
		close(peer);
	}
	return fflush(stdout) ? 1 : 0;
}

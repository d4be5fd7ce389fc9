/* A receiver of device memory TCP (Linux 6.12): binds memory of its own, as a dma-buf, to a receive
 * queue and takes connections until the payload of one arrives there. Its bytes go to standard
 * output, in their order. Connections that other queues receive are read and left out.
 *   devmem DEVICE QUEUE PORT
 * The last line of standard error counts the bytes of that connection: those that came into the
 * memory, and those that the kernel copied. The end of the program unbinds the queue.
 *   cc -static -O2 -o devmem devmem.c */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/dma-buf.h>
#include <linux/genetlink.h>
#include <linux/netlink.h>
#include <linux/udmabuf.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

/* Of Linux 6.12: asm-generic/socket.h, linux/socket.h, linux/uio.h, linux/netdev.h. */
enum { DEVMEM_LINEAR = 78, DEVMEM_DMABUF = 79, DEVMEM_DONTNEED = 80 };
enum { SOCK_DEVMEM = 0x2000000 };
struct fragment { uint64_t offset; uint32_t size, token, dmabuf, flags; };
struct token { uint32_t start, count; };
enum { BIND_RX = 13, DMABUF_DEVICE = 1, DMABUF_QUEUES = 2, DMABUF_FD = 3 };
enum { QUEUE_ID = 1, QUEUE_TYPE = 3 };

enum { MEMORY = 16 << 20, PLAIN = 1 << 16 };

static void fail(const char *what)
{
	fprintf(stderr, "%s: %s\n", what, strerror(errno));
	exit(1);
}

/* A message of generic netlink, with room for the attributes that are wanted here. */
struct message {
	struct nlmsghdr netlink;
	struct genlmsghdr generic;
	char attributes[4096];
};

static struct nlattr *add(struct message *to, int type, const void *bytes, size_t count)
{
	struct nlattr *at = (void *)((char *)to + NLMSG_ALIGN(to->netlink.nlmsg_len));

	at->nla_type = type;
	at->nla_len = NLA_HDRLEN + count;
	if (count)
		memcpy((char *)at + NLA_HDRLEN, bytes, count);
	to->netlink.nlmsg_len = (char *)at - (char *)to + NLA_ALIGN(at->nla_len);
	return at;
}

static struct message begin(int family, int command, int version)
{
	struct message one = { 0 };

	one.netlink.nlmsg_len = NLMSG_LENGTH(GENL_HDRLEN);
	one.netlink.nlmsg_type = family;
	one.netlink.nlmsg_flags = NLM_F_REQUEST;
	one.generic.cmd = command;
	one.generic.version = version;
	return one;
}

/* Sends a request; its answer takes its place. */
static void ask(int netlink, struct message *one, const char *what)
{
	if (send(netlink, one, one->netlink.nlmsg_len, 0) < 0 ||
	    recv(netlink, one, sizeof *one, 0) < 0)
		fail(what);
	if (one->netlink.nlmsg_type == NLMSG_ERROR) {
		errno = -((struct nlmsgerr *)&one->generic)->error;
		fail(what);
	}
}

/* The number of the family `netdev`. */
static int family(int netlink)
{
	struct message one = begin(GENL_ID_CTRL, CTRL_CMD_GETFAMILY, 1);
	char *at, *end;

	add(&one, CTRL_ATTR_FAMILY_NAME, "netdev", 7);
	ask(netlink, &one, "no netlink family netdev");
	end = (char *)&one + one.netlink.nlmsg_len;
	for (at = one.attributes; at < end; at += NLA_ALIGN(((struct nlattr *)at)->nla_len))
		if (((struct nlattr *)at)->nla_type == CTRL_ATTR_FAMILY_ID)
			return *(uint16_t *)(at + NLA_HDRLEN);
	errno = ENOENT;
	fail("the netlink family netdev has no number");
	return 0;
}

/* The memory, as a dma-buf and as this program reads it. */
static char *make_memory(int *dmabuf)
{
	struct udmabuf_create create = { .size = MEMORY };
	int device = open("/dev/udmabuf", O_RDWR);
	char *memory;

	create.memfd = memfd_create("payload", MFD_ALLOW_SEALING);
	if (device < 0 || ftruncate(create.memfd, MEMORY) ||
	    fcntl(create.memfd, F_ADD_SEALS, F_SEAL_SHRINK))
		fail("/dev/udmabuf, or memory for it");
	*dmabuf = ioctl(device, UDMABUF_CREATE, &create);
	memory = mmap(NULL, MEMORY, PROT_READ, MAP_SHARED, create.memfd, 0);
	if (*dmabuf < 0 || memory == MAP_FAILED)
		fail("a dma-buf");
	return memory;
}

/* The socket stays open: the binding ends with it. */
static void bind_queue(const char *device, uint32_t queue, uint32_t dmabuf)
{
	int netlink = socket(AF_NETLINK, SOCK_RAW, NETLINK_GENERIC);
	uint32_t index = if_nametoindex(device), receive = 0;
	struct message one = begin(family(netlink), BIND_RX, 1);
	struct nlattr *queues;

	add(&one, DMABUF_DEVICE, &index, sizeof index);
	add(&one, DMABUF_FD, &dmabuf, sizeof dmabuf);
	queues = add(&one, DMABUF_QUEUES | NLA_F_NESTED, NULL, 0);
	add(&one, QUEUE_ID, &queue, sizeof queue);
	add(&one, QUEUE_TYPE, &receive, sizeof receive);
	queues->nla_len = (char *)&one + one.netlink.nlmsg_len - (char *)queues;
	ask(netlink, &one, "the memory cannot be bound to the queue");
}

static void put(const char *bytes, size_t count)
{
	if (fwrite(bytes, 1, count, stdout) != count)
		fail("standard output");
}

static void synchronize(int dmabuf, uint64_t flags)
{
	struct dma_buf_sync sync = { .flags = flags | DMA_BUF_SYNC_READ };

	if (ioctl(dmabuf, DMA_BUF_IOCTL_SYNC, &sync))
		fail("synchronizing the dma-buf");
}

/* Whether the connection came into the memory. */
static int receive(int peer, const char *memory, int dmabuf)
{
	static char plain[PLAIN], control[1 << 16];
	uint64_t device = 0, copied = 0, parts = 0;

	for (;;) {
		struct iovec vector = { plain, sizeof plain };
		struct msghdr message = {
			.msg_iov = &vector, .msg_iovlen = 1,
			.msg_control = control, .msg_controllen = sizeof control,
		};
		ssize_t left = recvmsg(peer, &message, SOCK_DEVMEM), at = 0;
		struct cmsghdr *each;

		if (left < 0)
			fail("recvmsg");
		if (left == 0)
			break;
		for (each = CMSG_FIRSTHDR(&message); each; each = CMSG_NXTHDR(&message, each)) {
			struct fragment *fragment = (void *)CMSG_DATA(each);
			struct token token = { fragment->token, 1 };

			if (each->cmsg_level != SOL_SOCKET)
				continue;
			left -= fragment->size;
			if (each->cmsg_type == DEVMEM_LINEAR) {
				put(plain + at, fragment->size);
				at += fragment->size;
				copied += fragment->size;
			}
			if (each->cmsg_type != DEVMEM_DMABUF)
				continue;
			if (fragment->offset + fragment->size > MEMORY) {
				errno = ERANGE;
				fail("a fragment beyond the memory");
			}
			synchronize(dmabuf, DMA_BUF_SYNC_START);
			put(memory + fragment->offset, fragment->size);
			synchronize(dmabuf, DMA_BUF_SYNC_END);
			device += fragment->size;
			parts++;
			if (setsockopt(peer, SOL_SOCKET, DEVMEM_DONTNEED, &token,
				       sizeof token) != 1)
				fail("giving memory back");
		}
		/* What another queue received, or what no control message tells of. */
		if (device)
			put(plain + at, left);
		copied += left;
	}
	fprintf(stderr, "device %lu copied %lu parts %lu\n", device, copied, parts);
	return device > 0;
}

int main(int count, char **words)
{
	struct sockaddr_in6 address = { .sin6_family = AF_INET6, .sin6_addr = in6addr_any };
	int listener, dmabuf, peer, came = 0;
	char *memory;

	if (count != 4) {
		fprintf(stderr, "devmem DEVICE QUEUE PORT\n");
		return 2;
	}
	memory = make_memory(&dmabuf);
	bind_queue(words[1], atoi(words[2]), dmabuf);
	address.sin6_port = htons(atoi(words[3]));
	listener = socket(AF_INET6, SOCK_STREAM, 0);
	if (bind(listener, (void *)&address, sizeof address) || listen(listener, 1))
		fail("listening");
	while (!came) {
		peer = accept(listener, NULL, NULL);
		if (peer < 0)
			fail("accept");
		came = receive(peer, memory, dmabuf);
		close(peer);
	}
	return fflush(stdout) ? 1 : 0;
}

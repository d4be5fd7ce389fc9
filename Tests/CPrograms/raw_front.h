/* A vhost-user front end and its guest, down to the messages: two queue pairs, one buffer per
 * packet, and a position of its own in every ring, which outlives a connection. */
#ifndef RAW_FRONT_H
#define RAW_FRONT_H
#include <linux/vhost_types.h>
#include <linux/virtio_net.h>
#include <linux/virtio_ring.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define BIT(number) (1ull << (number))
#define CHECK(condition, ...) \
    if (!(condition)) (fprintf(stderr, "line %d: ", __LINE__), fprintf(stderr, __VA_ARGS__), \
                       fputc('\n', stderr), exit(1))

enum { GET_FEATURES = 1, SET_FEATURES, SET_OWNER, SET_MEM_TABLE = 5, SET_NUM = 8, SET_ADDR,
       SET_BASE, GET_BASE, SET_KICK, SET_CALL, GET_PROTOCOL = 15, SET_PROTOCOL, GET_QUEUE_NUM,
       SET_ENABLE };
enum { RINGS = 4, SIZE = 8, POSTED = 4, REGION = 1 << 20, BUFFER = 2048, NET_HEADER = 12,
       FRAME = 200, PATIENCE = 10000, QUIET = 100, /* both in milliseconds */
       PAIRS_TOLD = 128 };

static const uint64_t served = BIT(15) | BIT(22) | BIT(27) | BIT(28) | BIT(29) | BIT(30) | BIT(32) |
                               BIT(34) | BIT(35);
static const uint64_t served_protocol = BIT(0) | BIT(3) | BIT(5) | BIT(16);
static const char *path;
static bool packed;
static unsigned second = 2; /* number of the first ring of the second pair */

/* Where a ring's parts lie, from its first byte on. */
enum { AVAIL = 1024, USED = 2048, BUFFERS = 4096, SPAN = BUFFERS + SIZE * BUFFER };

struct ring {
    unsigned char *base;
    uint16_t next;   /* posted so far; its place is the remainder by SIZE */
    uint16_t seen;   /* found used so far */
    int call;
};

struct front {
    int socket;
    /* Guest addresses are offsets here, from GUEST on: two regions, one after the other. */
    unsigned char *memory;
    int files[2];
    int region_count;
    struct ring ring[RINGS];
    unsigned char number; /* of the last packet sent */
};
enum { GUEST = 1 << 24 };

/* ---- vhost-user ---------------------------------------------------------------------------- */

struct memory_table {
    uint32_t count, padding;
    struct { uint64_t guest, size, user, offset; } region[2];
};
struct message {
    uint32_t request, flags, size;
    union {
        uint64_t u64;
        struct vhost_vring_state state;
        struct vhost_vring_addr addr;
        struct memory_table memory;
    } __attribute__((packed));
} __attribute__((packed));
enum { HEADER = 12, VERSION = 1, NEED_REPLY = 8 };

/* Sends a request and returns the payload of the reply: its own, or 0 if the backend did it. */
static uint64_t ask(struct front *f, struct message m, const int *files, int count) {
    const bool has_reply = m.request == GET_FEATURES || m.request == GET_PROTOCOL ||
                           m.request == GET_QUEUE_NUM || m.request == GET_BASE;
    char control[CMSG_SPACE(2 * sizeof(int))] = {0};
    struct iovec part = {&m, HEADER + m.size};
    struct msghdr header = {.msg_iov = &part, .msg_iovlen = 1};
    m.flags = VERSION | (has_reply ? 0 : NEED_REPLY);
    if (count > 0) {
        header.msg_control = control;
        header.msg_controllen = CMSG_SPACE((size_t)count * sizeof(int));
        struct cmsghdr *c = CMSG_FIRSTHDR(&header);
        *c = (struct cmsghdr){CMSG_LEN((size_t)count * sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
        memcpy(CMSG_DATA(c), files, (size_t)count * sizeof(int));
    }
    CHECK(sendmsg(f->socket, &header, MSG_NOSIGNAL) > 0, "request %u: not sent", m.request);
    struct pollfd wait = {.fd = f->socket, .events = POLLIN};
    const uint32_t request = m.request;
    CHECK(poll(&wait, 1, PATIENCE) == 1 && recv(f->socket, &m, HEADER + 8, MSG_WAITALL) > HEADER,
          "request %u: no reply", request);
    return m.u64;
}

static uint64_t get(struct front *f, uint32_t request) {
    return ask(f, (struct message){.request = request}, NULL, 0);
}

static uint64_t set(struct front *f, uint32_t request, uint64_t value) {
    return ask(f, (struct message){.request = request, .size = 8, .u64 = value}, NULL, 0);
}

/* The backend's number of a ring of ours. */
static unsigned number_of(unsigned index) { return index < 2 ? index : second + index - 2; }

static uint64_t set_ring(struct front *f, uint32_t request, unsigned index, unsigned number) {
    const struct vhost_vring_state state = {number_of(index), number};
    const uint64_t reply =
        ask(f, (struct message){.request = request, .size = 8, .state = state}, NULL, 0);
    if (request == GET_BASE) return reply >> 32;
    CHECK(reply == 0, "request %u for ring %u is refused", request, index);
    return 0;
}

/* The reply to a request comes before rings change; the reply to a second one comes after. */
static void enable(struct front *f, unsigned index, unsigned on) {
    set_ring(f, SET_ENABLE, index, on);
    get(f, GET_FEATURES);
}

static void set_call(struct front *f, unsigned index, int file) {
    const int none = 1 << 8;
    const struct message m = {
        .request = SET_CALL, .size = 8, .u64 = number_of(index) | (file < 0 ? none : 0)};
    CHECK(ask(f, m, &file, file >= 0) == 0, "call descriptor %u is refused", index);
    get(f, GET_FEATURES);
}

/* Regions in an order that moves the first where the backend maps them one after the other. */
static uint64_t set_memory(struct front *f) {
    struct message m = {.request = SET_MEM_TABLE, .size = sizeof(struct memory_table)};
    int files[2];
    m.memory.count = (uint32_t)f->region_count;
    for (int i = 0; i < f->region_count; i++) {
        const int k = f->region_count - 1 - i;
        const uint64_t at = (uint64_t)k * REGION;
        m.memory.region[i].guest = GUEST + at;
        m.memory.region[i].size = REGION;
        m.memory.region[i].user = (uint64_t)(uintptr_t)f->memory + at;
        m.memory.region[i].offset = 0;
        files[i] = f->files[k];
    }
    return ask(f, m, files, f->region_count);
}

/* ---- The guest ----------------------------------------------------------------------------- */

static uint64_t guest_address(const struct front *f, const void *at) {
    return GUEST + (uint64_t)((const unsigned char *)at - f->memory);
}

static unsigned char *buffer(struct front *f, struct ring *r, unsigned place) {
    /* With two regions buffers lie in the second. */
    return r->base + BUFFERS + place * BUFFER + (f->region_count - 1) * REGION;
}

static void post(struct front *f, struct ring *r, uint32_t length, bool writable) {
    const uint16_t place = r->next % SIZE;
    const uint64_t address = guest_address(f, buffer(f, r, place));
    const bool lap = r->next / SIZE % 2 == 0;
    r->next++;
    if (packed) {
        struct vring_packed_desc *d = (struct vring_packed_desc *)r->base + place;
        d->addr = address;
        d->len = length;
        d->id = place;
        __atomic_store_n(&d->flags, (writable ? 2 : 0) | (lap ? BIT(7) : BIT(15)),
                         __ATOMIC_RELEASE);
    } else {
        struct vring_avail *avail = (struct vring_avail *)(r->base + AVAIL);
        ((struct vring_desc *)r->base)[place] =
            (struct vring_desc){address, length, writable ? 2 : 0, 0};
        avail->ring[place] = place;
        __atomic_store_n(&avail->idx, r->next, __ATOMIC_RELEASE);
    }
}

/* Buffers are used in the order in which they were posted. Returns the oldest, or NULL. */
static unsigned char *take(struct front *f, struct ring *r) {
    const uint16_t place = r->seen % SIZE;
    if (packed) {
        struct vring_packed_desc *d = (struct vring_packed_desc *)r->base + place;
        const uint16_t flags = __atomic_load_n(&d->flags, __ATOMIC_ACQUIRE);
        const bool lap = r->seen / SIZE % 2 == 0;
        if (!!(flags & BIT(7)) != lap || !!(flags & BIT(15)) != lap) return NULL;
    } else {
        const struct vring_used *used = (struct vring_used *)(r->base + USED);
        if (__atomic_load_n(&used->idx, __ATOMIC_ACQUIRE) == r->seen) return NULL;
    }
    r->seen++;
    return buffer(f, r, place);
}

static void fill(struct front *f) {
    for (unsigned i = 0; i < RINGS; i += 2) {
        while ((uint16_t)(f->ring[i].next - f->ring[i].seen) < POSTED) {
            post(f, &f->ring[i], BUFFER, true);
        }
    }
}

static void send_packet(struct front *f, unsigned pair) {
    struct ring *r = &f->ring[2 * pair + 1];
    while (take(f, r) != NULL) continue;
    CHECK((uint16_t)(r->next - r->seen) < SIZE, "pair %u: the backend takes no packets", pair);
    unsigned char *at = buffer(f, r, r->next % SIZE);
    memset(at, 0, NET_HEADER);
    memset(at + NET_HEADER, ++f->number, FRAME);
    memset(at + NET_HEADER, 0x0a + (int)pair, 6);
    post(f, r, NET_HEADER + FRAME, false);
}

/* Whether the packet sent last comes back on a pair. */
static bool comes_back(struct front *f, unsigned pair, int milliseconds) {
    struct ring *r = &f->ring[2 * pair];
    for (int i = 0; i < 10 * milliseconds; i++) {
        const unsigned char *at = take(f, r);
        if (at == NULL) {
            usleep(100);
            continue;
        }
        fill(f);
        at += NET_HEADER;
        if (at[12] == f->number && at[FRAME - 1] == f->number && at[6] == 0x0a + pair) return true;
    }
    return false;
}

static void exchange(struct front *f, unsigned count) {
    for (unsigned i = 0; i < count; i++) {
        for (unsigned pair = 0; pair < RINGS / 2; pair++) {
            send_packet(f, pair);
            CHECK(comes_back(f, pair, PATIENCE), "packet %u of pair %u did not come back", i, pair);
        }
    }
}

/* ---- Life of a connection ------------------------------------------------------------------ */

static void boot(struct front *f) {
    *f = (struct front){.region_count = 1};
    f->memory = mmap(NULL, 2 * REGION, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (int i = 0; i < 2; i++) {
        f->files[i] = memfd_create("guest", 0);
        CHECK(f->files[i] >= 0 && ftruncate(f->files[i], REGION) == 0 &&
                  mmap(f->memory + i * REGION, REGION, PROT_READ | PROT_WRITE,
                       MAP_SHARED | MAP_FIXED, f->files[i], 0) != MAP_FAILED,
              "no memory");
    }
    for (unsigned i = 0; i < RINGS; i++) {
        f->ring[i].base = f->memory + i * SPAN;
        f->ring[i].call = eventfd(0, EFD_NONBLOCK);
    }
    fill(f);
}

static void open_socket(struct front *f) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    f->socket = socket(AF_UNIX, SOCK_STREAM, 0);
    CHECK(connect(f->socket, (struct sockaddr *)&address, sizeof address) == 0, "no backend");
}

/* A packed ring's position: offset, and the lap's number from its first bit. */
static unsigned position(uint16_t count) {
    return packed ? count % SIZE | (count / SIZE % 2 == 0 ? 0x8000u : 0) : count;
}

static void join(struct front *f) {
    open_socket(f);
    const uint64_t wanted =
        BIT(15) | BIT(22) | BIT(30) | BIT(32) | (packed ? BIT(34) : 0);
    get(f, GET_FEATURES);
    get(f, GET_PROTOCOL);
    ask(f, (struct message){.request = SET_PROTOCOL, .size = 8, .u64 = BIT(0) | BIT(3)}, NULL, 0);
    CHECK(set(f, SET_OWNER, 0) == 0 && set(f, SET_FEATURES, wanted) == 0 && set_memory(f) == 0,
          "the backend refuses features or memory");
    for (unsigned i = 0; i < RINGS; i++) {
        struct ring *r = &f->ring[i];
        const uint64_t at = (uint64_t)(uintptr_t)r->base;
        const struct vhost_vring_addr address = {number_of(i), 0, at, at + USED, at + AVAIL, 0};
        const struct message addresses = {
            .request = SET_ADDR, .size = sizeof address, .addr = address};
        const struct message kick = {.request = SET_KICK, .size = 8, .u64 = number_of(i)};
        set_call(f, i, r->call);
        set_ring(f, SET_NUM, i, SIZE);
        set_ring(f, SET_BASE, i, position(r->seen));
        /* Nobody reads the kick descriptor. */
        CHECK(ask(f, addresses, NULL, 0) == 0 && ask(f, kick, &r->call, 1) == 0, "ring %u", i);
        enable(f, i, 1);
    }
}

/* Every packet came back, and a backend completes what it took before that: every sent buffer is
 * used. */
static void reap(struct front *f) {
    for (unsigned i = 1; i < RINGS; i += 2) {
        while (take(f, &f->ring[i]) != NULL) continue;
    }
}

static void leave(struct front *f) {
    reap(f);
    close(f->socket);
}

#endif

/* The smallest use of libcleave: a guest of 1 MiB that lives in this process, one split virtqueue
 * with one posted buffer, one packet. A real backend gets memory and ring addresses from its
 * control plane, and its guest posts the buffers.
 *
 *   cc minimal.c -lcleave && ./a.out */
#include <cleave.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RING = 8, BUFFER = 2048, GUEST_BYTES = 1 << 20, NET_HEADER = 12 };
static const uint64_t GUEST_BASE = 0x80000000;

/* A split virtqueue of RING entries as virtio lays it out. */
struct ring {
    struct {
        uint64_t address;
        uint32_t length;
        uint16_t flags, next;
    } descriptors[RING];
    struct {
        uint16_t flags, index, entries[RING], event;
    } avail;
    struct {
        uint16_t flags, index;
        struct {
            uint32_t id, length;
        } entries[RING];
        uint16_t event;
    } used;
    unsigned char buffer[BUFFER];
};

static void check(const char *what, int result, const void *handle) {
    char text[256];
    if (result >= 0) return;
    if (cleave_last_error(handle, text, sizeof text) < 0) text[0] = 0;
    fprintf(stderr, "%s: %s: %s\n", what, cleave_strerror(result), text);
    exit(1);
}

static void log_line(void *user, int level, const char *message) {
    (void)user;
    fprintf(stderr, "libcleave %d: %s\n", level, message);
}

int main(void) {
    /* The guest's memory, and its driver's ring with one device-writable buffer posted. */
    static unsigned char guest[GUEST_BYTES + 4096];
    struct ring *ring = (struct ring *)(((uintptr_t)guest + 4095) & ~(uintptr_t)4095);
    ring->descriptors[0].address = GUEST_BASE + offsetof(struct ring, buffer);
    ring->descriptors[0].length = BUFFER;
    ring->descriptors[0].flags = 2; /* WRITE */
    ring->avail.entries[0] = 0;
    ring->avail.index = 1;

    /* What a control plane knows: regions, ring addresses, features. */
    cleave_context_config callbacks = CLEAVE_INIT(cleave_context_config);
    callbacks.log = log_line;
    cleave_context *cleave;
    check("context", cleave_context_create(&callbacks, &cleave), NULL);

    cleave_region region = {GUEST_BASE, GUEST_BYTES, ring, 0};
    cleave_memory_config table = CLEAVE_INIT(cleave_memory_config);
    table.region_count = 1;
    table.regions = &region;
    cleave_memory *memory;
    check("memory", cleave_memory_create(cleave, &table, &memory), cleave);

    cleave_rq_config config = CLEAVE_INIT(cleave_rq_config);
    config.features = CLEAVE_F_VERSION_1 | CLEAVE_F_MRG_RXBUF;
    config.size = RING;
    config.descriptor_area = ring->descriptors;
    config.driver_area = &ring->avail;
    config.device_area = &ring->used;
    cleave_rq *rq;
    check("queue", cleave_rq_create(memory, &config, &rq), memory);

    /* The data path. */
    unsigned char frame[60] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1, 8, 6};
    cleave_packet packet;
    memset(&packet, 0, sizeof packet);
    packet.data = frame;
    packet.length = sizeof frame;
    uint32_t events = 0;
    int done = cleave_rq_enqueue_burst(rq, &packet, 1, &events);
    check("enqueue", done, rq);
    if (events & CLEAVE_EVENT_CALL) puts("the guest wants to be called: write to its eventfd");

    /* What the guest's driver sees. */
    printf("%d packet, used index %u, %u bytes: %s\n", done, ring->used.index,
           ring->used.entries[0].length,
           memcmp(ring->buffer + NET_HEADER, frame, sizeof frame) == 0 ? "intact" : "damaged");
    int intact = done == 1 && ring->used.index == 1;

    check("destroy", cleave_rq_destroy(rq), rq);
    check("destroy", cleave_memory_destroy(memory), memory);
    check("destroy", cleave_context_destroy(cleave), cleave);
    return intact ? 0 : 1;
}

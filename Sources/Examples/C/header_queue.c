/* Headers in slots, payload alone on its page: an RQ that is linked to a header queue. Shows where
 * the parts of a packet are, that a packet which cannot be split arrives whole, and how the driver
 * gives slots back. The guest lives in this process; a real backend gets memory and addresses from
 * its control plane, and its guest's driver does what "the driver" does here.
 *
 *   cc header_queue.c -lcleave && ./a.out */
#include <cleave.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RING = 8, PAGE = 4096, SLOTS = 4, SLOT_BYTES = 128, NET_HEADER = 12 };
static const uint64_t GUEST_BASE = 0x80000000;

/* Guest memory: a page for each buffer, then the slots, the control words of the header queue, and
 * a split virtqueue as virtio lays it out. */
struct guest {
    unsigned char pages[RING][PAGE];
    unsigned char slots[SLOTS][SLOT_BYTES];
    struct {
        uint32_t tail, unused[31];       /* the driver's word */
        uint32_t head, status, rest[30]; /* the device's */
    } control;
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
};

static void check(const char *what, int result, const void *handle) {
    char text[256];
    if (result >= 0) return;
    if (cleave_last_error(handle, text, sizeof text) < 0) text[0] = 0;
    fprintf(stderr, "%s: %s: %s\n", what, cleave_strerror(result), text);
    exit(1);
}

/* The driver posts every page, and gives all slots at once: the tail counts slots given. */
static struct guest *start_driver(void) {
    static unsigned char memory[sizeof(struct guest) + PAGE];
    struct guest *guest = (struct guest *)(((uintptr_t)memory + PAGE - 1) & ~(uintptr_t)(PAGE - 1));
    for (uint16_t i = 0; i < RING; i++) {
        guest->descriptors[i].address = GUEST_BASE + i * PAGE;
        guest->descriptors[i].length = PAGE;
        guest->descriptors[i].flags = 2; /* WRITE */
        guest->avail.entries[i] = i;
    }
    guest->avail.index = RING;
    guest->control.tail = SLOTS;
    return guest;
}

/* What the driver sees of a packet in one buffer. Returns whether a slot has its headers. */
static int show(const struct guest *guest, int entry) {
    uint32_t length = guest->used.entries[entry].length;
    const unsigned char *page = guest->pages[guest->used.entries[entry].id];
    if (length >> 31 == 0) {
        printf("whole: %u bytes in the page, %d of them the net header\n", (unsigned)length,
               NET_HEADER);
        return 0;
    }
    uint32_t slot = length >> 16 & 0x7fff, bytes = length & 0xffff;
    /* In the slot: the net header, whose hdr_len (bytes 2 and 3) says how long the headers are. */
    const unsigned char *net = guest->slots[slot];
    printf("split: slot %u has %d bytes of headers, the page begins with the payload: %.*s\n",
           (unsigned)slot, net[2] | net[3] << 8, (int)bytes, (const char *)page);
    return 1;
}

int main(void) {
    struct guest *guest = start_driver();
    cleave_context *cleave;
    check("context", cleave_context_create(NULL, &cleave), NULL);
    cleave_region region = {GUEST_BASE, sizeof *guest, guest, 0};
    cleave_memory_config table = CLEAVE_INIT(cleave_memory_config);
    table.region_count = 1;
    table.regions = &region;
    cleave_memory *memory;
    check("memory", cleave_memory_create(cleave, &table, &memory), cleave);

    /* The header queue that the driver laid out. Any number of RQs of this guest may share it. */
    cleave_header_queue_config slots = CLEAVE_INIT(cleave_header_queue_config);
    slots.slot_size = SLOT_BYTES;
    slots.slot_count = SLOTS;
    slots.slots = guest->slots;
    slots.control = &guest->control;
    cleave_header_queue *headers;
    check("header queue", cleave_header_queue_create(memory, &slots, &headers), memory);

    /* The RQ: method D, the header queue, and how the driver is told of a slot. */
    cleave_rq_config config = CLEAVE_INIT(cleave_rq_config);
    config.features = CLEAVE_F_VERSION_1 | CLEAVE_F_MRG_RXBUF;
    config.size = RING;
    config.method = CLEAVE_METHOD_D;
    config.report = CLEAVE_REPORT_USED_LENGTH;
    config.header_queue = headers;
    config.descriptor_area = guest->descriptors;
    config.driver_area = &guest->avail;
    config.device_area = &guest->used;
    cleave_rq *rq;
    check("queue", cleave_rq_create(memory, &config, &rq), memory);

    /* A UDP datagram over IPv4, and an ARP request, which is never split. */
    static const unsigned char udp[] =
        "\2\0\0\0\0\1\2\0\0\0\0\2\x08\0"
        "\x45\0\0\x21\0\0\0\0\x40\x11\0\0\xc0\0\2\1\xc0\0\2\2"
        "\x9c\x40\x13\x89\0\x0d\0\0hello";
    static const unsigned char arp[60] = "\377\377\377\377\377\377\2\0\0\0\0\2\x08\6";
    cleave_packet packets[2];
    memset(packets, 0, sizeof packets);
    packets[0].data = udp;
    packets[0].length = sizeof udp - 1; /* without the final NUL */
    packets[1].data = arp;
    packets[1].length = sizeof arp;
    int done = cleave_rq_enqueue_burst(rq, packets, 2, NULL);
    check("enqueue", done, rq);

    uint32_t returned = 0;
    for (int entry = 0; entry < guest->used.index; entry++) returned += show(guest, entry);

    /* The driver has read the headers: it moves the tail past the slots that are free again, and
     * posts no header buffer. (On another CPU than the device's: a store with release order.) */
    cleave_header_queue_status status = CLEAVE_INIT(cleave_header_queue_status);
    check("status", cleave_header_queue_get_status(headers, &status), headers);
    int before = (int)status.free;
    guest->control.tail += returned;
    check("status", cleave_header_queue_get_status(headers, &status), headers);
    printf("free slots: %d of %d, and %d after the return of %u\n", before, SLOTS,
           (int)status.free, (unsigned)returned);

    /* Why packets of a queue that splits came whole. */
    cleave_counters counters = CLEAVE_INIT(cleave_counters);
    check("counters", cleave_rq_get_counters(rq, &counters), rq);
    for (uint32_t i = 0; cleave_fallback_name(i) != NULL; i++) {
        if (counters.fallback[i] > 0) {
            printf("whole by %s: %u\n", cleave_fallback_name(i), (unsigned)counters.fallback[i]);
        }
    }

    /* Children before their parents. */
    check("destroy", cleave_rq_destroy(rq), rq);
    check("destroy", cleave_header_queue_destroy(headers), headers);
    check("destroy", cleave_memory_destroy(memory), memory);
    check("destroy", cleave_context_destroy(cleave), cleave);
    return done == 2 && returned == 1 && status.free == SLOTS ? 0 : 1;
}

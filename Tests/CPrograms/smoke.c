/* Everything of cleave.h that can be tested from C: sizes, every function, every kind of refusal.
 * Includes nothing of Cleave but cleave.h; compiled as C and as C++, by every compiler at hand. */
#define _POSIX_C_SOURCE 200809L
#include <cleave.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "guest.h"

/* A negative array size if the layout changes from the published one. */
#define SAME(name, left, right) typedef char name[(left) == (right) ? 1 : -1]
SAME(packet_size, sizeof(cleave_packet), 40);
SAME(packet_length, offsetof(cleave_packet, length), 8);
SAME(packet_flags, offsetof(cleave_packet, flags), 12);
SAME(packet_gso, offsetof(cleave_packet, gso_type), 17);
SAME(packet_hash, offsetof(cleave_packet, hash_value), 24);
SAME(packet_more, offsetof(cleave_packet, more), 32);
SAME(segment_size, sizeof(cleave_segment), 16);
SAME(completion_size, sizeof(cleave_completion), 4);
SAME(region_size, sizeof(cleave_region), 32);
SAME(context_size, sizeof(cleave_context_config), 40);
SAME(memory_size, sizeof(cleave_memory_config), 24);
SAME(header_queue_size, sizeof(cleave_header_queue_config), 56);
SAME(status_size, sizeof(cleave_header_queue_status), 32);
SAME(rq_size, sizeof(cleave_rq_config), 96);
SAME(rq_areas, offsetof(cleave_rq_config, descriptor_area), 32);
SAME(rq_indices, offsetof(cleave_rq_config, last_avail), 56);
SAME(rq_header_queue, offsetof(cleave_rq_config, header_queue), 72);
SAME(txq_size, sizeof(cleave_txq_config), 72);
SAME(txq_counters_size, sizeof(cleave_txq_counters), 184);
SAME(engine_size, sizeof(cleave_engine_config), 32);
SAME(vhost_size, sizeof(cleave_vhost_config), 80);
SAME(vhost_event_size, sizeof(cleave_vhost_event), 56);
SAME(vhost_status_size, sizeof(cleave_vhost_status), 72);
SAME(counters_size, sizeof(cleave_counters), 400);
SAME(counters_dropped, offsetof(cleave_counters, dropped), 240);

static unsigned char memory_bytes[sizeof(struct guest) + 4096];

static struct guest *fresh_guest(void) {
    struct guest *guest =
        (struct guest *)(((uintptr_t)memory_bytes + 4095) & ~(uintptr_t)4095);
    post(guest, BUFFER, 2); /* WRITE */
    return guest;
}

/* Ethernet, IPv4, UDP, then 100 bytes. */
static void fill_frame(unsigned char *frame) {
    static const unsigned char headers[42] = {2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0,
                                              0, 128, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0,
                                              0, 2, 4, 0, 8, 0, 0, 108, 0, 0};
    int i;
    memcpy(frame, headers, sizeof headers);
    for (i = 42; i < 142; i++) frame[i] = (unsigned char)i;
}

static int log_count;
static void log_line(void *user, int level, const char *message) {
    (void)level;
    if (user == &log_count && message[0] != 0) log_count++;
}
static int allocated, released;
static void *allocate(void *user, size_t size, size_t alignment, int node) {
    (void)user;
    (void)node;
    /* As aligned_alloc, which C99 lacks: the block's start is kept in front. */
    unsigned char *block = (unsigned char *)malloc(size + alignment + sizeof(void *));
    if (block == NULL) return NULL;
    unsigned char *place = (unsigned char *)(((uintptr_t)block + sizeof(void *) + alignment - 1) &
                                             ~(uintptr_t)(alignment - 1));
    memcpy(place - sizeof(void *), &block, sizeof block);
    allocated++;
    return place;
}
static void release(void *user, void *memory, size_t size) {
    unsigned char *block;
    (void)user;
    (void)size;
    memcpy(&block, (unsigned char *)memory - sizeof(void *), sizeof block);
    free(block);
    released++;
}

static cleave_rq_config rq_config(struct guest *guest) {
    cleave_rq_config config = CLEAVE_INIT(cleave_rq_config);
    config.features = CLEAVE_F_VERSION_1 | CLEAVE_F_MRG_RXBUF;
    config.size = RING;
    config.descriptor_area = guest->table;
    config.driver_area = guest->avail;
    config.device_area = guest->used;
    return config;
}

static void queue_level(cleave_memory *memory, struct guest *guest, cleave_header_queue *headers) {
    unsigned char frame[142];
    cleave_segment tail;
    cleave_packet packets[2];
    cleave_counters counters;
    cleave_rq_config config = rq_config(guest);
    cleave_rq *rq = NULL;
    uint32_t events = 0;
    uint16_t base = 0;
    int i;

    config.method = CLEAVE_METHOD_D;
    config.report = CLEAVE_REPORT_USED_LENGTH;
    config.header_queue = headers;
    EXPECT(cleave_rq_create(memory, &config, &rq), 0);
    fill_frame(frame);
    tail.data = frame + 20;
    tail.length = sizeof frame - 20;
    tail.reserved = 0;
    memset(packets, 0, sizeof packets);
    packets[0].data = frame;
    packets[0].length = sizeof frame;
    packets[1].data = frame;
    packets[1].length = 20;
    packets[1].more = &tail;
    packets[1].more_count = 1;
    EXPECT(cleave_rq_enqueue_burst(rq, packets, 2, &events), 2);
    EXPECT(events, CLEAVE_EVENT_CALL);
    EXPECT(((uint16_t *)guest->used)[1], 2);
    for (i = 0; i < 2; i++) {
        uint32_t id, length;
        memcpy(&id, (unsigned char *)guest->used + 4 + 8 * i, 4);
        memcpy(&length, (unsigned char *)guest->used + 8 + 8 * i, 4);
        EXPECT(id, (unsigned)i);
        EXPECT(length, 1u << 31 | (unsigned)i << 16 | 100);
        EXPECT(memcmp(guest->buffers[i], frame + 42, 100), 0);
        EXPECT(memcmp(guest->slots + 128 * i + 12, frame, 42), 0);
    }
    EXPECT(cleave_header_queue_destroy(headers), -EBUSY);
    memset(&counters, 0, sizeof counters);
    counters.struct_size = sizeof counters;
    EXPECT(cleave_rq_get_counters(rq, &counters), 0);
    EXPECT(counters.packets, 2);
    EXPECT(counters.split, 2);
    EXPECT(counters.bytes, 284);
    /* Segmentation that the driver did not agree to. */
    packets[0].gso_type = 1;
    EXPECT(cleave_rq_enqueue_burst(rq, packets, 1, &events), 1);
    EXPECT(packets[0].flags, CLEAVE_PACKET_DROPPED);
    packets[0].gso_type = 0;
    packets[0].data = NULL;
    EXPECT(cleave_rq_enqueue_burst(rq, packets, 1, &events), -EINVAL);
    EXPECT(cleave_rq_stop(rq, &base), 0);
    EXPECT(base, 2);
    EXPECT(cleave_rq_stop(rq, &base), -ESHUTDOWN);
    EXPECT(cleave_rq_enqueue_burst(rq, packets, 1, &events), -ESHUTDOWN);
    EXPECT(cleave_rq_destroy(rq), 0);
    EXPECT(cleave_rq_destroy(rq), -EBADF);
    EXPECT(cleave_rq_enqueue_burst(rq, packets, 1, &events), -EBADF);
}

/* The guest's buffers as readable ones: a packet after its net header, then a broken one. */
static void transmit(cleave_memory *memory, struct guest *guest) {
    cleave_txq_config config;
    cleave_txq_counters counters;
    cleave_packet packets[4];
    cleave_txq *txq = NULL;
    uint32_t events = 0;
    uint16_t base = 0;
    int i;

    for (i = 0; i < 3; i++) {
        const uint64_t rest = 12 + 142;
        memcpy(guest->table + 16 * i + 8, &rest, 8);
        fill_frame(guest->buffers[i] + 12);
    }
    guest->buffers[1][1] = 1; /* GSO that was not negotiated */
    guest->buffers[2][0] = 1; /* NEEDS_CSUM */
    guest->buffers[2][6] = 34;
    guest->buffers[2][8] = 6;
    guest->avail[1] = 3;
    memset(&config, 0, sizeof config);
    config.struct_size = sizeof config;
    config.features = 1ull << 32 | 1;
    config.size = RING;
    config.descriptor_area = guest->table;
    config.driver_area = guest->avail;
    config.device_area = guest->used;
    EXPECT(cleave_txq_create(memory, &config, &txq), 0);
    EXPECT(cleave_txq_set_kicks(txq, 1), 0);
    EXPECT(guest->used[0] & 1, 0);
    EXPECT(cleave_txq_set_kicks(txq, 0), 0);
    EXPECT(guest->used[0] & 1, 1); /* NO_NOTIFY */
    EXPECT(cleave_txq_dequeue_burst(txq, packets, 4, &events), 2);
    EXPECT(packets[0].data == guest->buffers[0] + 12, 1);
    EXPECT(packets[0].length, 142);
    EXPECT(packets[0].more_count, 0);
    EXPECT(packets[0].net_flags, 0);
    EXPECT(packets[1].data == guest->buffers[2] + 12, 1);
    EXPECT(packets[1].net_flags, 1);
    EXPECT(packets[1].csum_start, 34);
    EXPECT(packets[1].csum_offset, 6);
    EXPECT(((uint16_t *)guest->used)[1], 0);
    EXPECT(cleave_txq_stop(txq, &base), -EBUSY);
    EXPECT(cleave_txq_complete(txq, 3, &events), -EINVAL);
    EXPECT(cleave_txq_complete(txq, 1, &events), 0);
    EXPECT(events, CLEAVE_EVENT_CALL);
    EXPECT(((uint16_t *)guest->used)[1], 2);
    EXPECT(cleave_txq_complete(txq, 1, &events), 0);
    EXPECT(((uint16_t *)guest->used)[1], 3);
    memset(&counters, 0, sizeof counters);
    counters.struct_size = sizeof counters;
    EXPECT(cleave_txq_get_counters(txq, &counters), 0);
    EXPECT(counters.packets, 2);
    EXPECT(counters.bytes, 284);
    EXPECT(counters.dropped[3], 1);
    EXPECT(strcmp(cleave_txq_drop_name(3), "badOffload"), 0);
    EXPECT(cleave_txq_stop(txq, &base), 0);
    EXPECT(base, 3);
    EXPECT(cleave_txq_dequeue_burst(txq, packets, 4, &events), -ESHUTDOWN);
    EXPECT(cleave_txq_destroy(txq), 0);
    EXPECT(cleave_txq_destroy(txq), -EBADF);
}

static int event_count, last_event;
static void on_event(void *user, const cleave_vhost_event *event) {
    EXPECT(user == &event_count, 1);
    EXPECT(event->struct_size, sizeof *event);
    EXPECT(event->rq == NULL && event->txq == NULL && event->kick_fd == -1, 1);
    event_count++;
    last_event = (int)event->kind;
}

/* A front end comes, asks for the features, is answered, and goes. */
static void vhost_level(cleave_context *context) {
    static const uint32_t get_features[3] = {1, 1, 0}; /* request, version, no payload */
    uint32_t answer[5] = {0, 0, 0, 0, 0};
    uint64_t features;
    cleave_vhost_config config = CLEAVE_INIT(cleave_vhost_config);
    cleave_vhost_status status = CLEAVE_INIT(cleave_vhost_status);
    cleave_vhost *vhost = NULL;
    struct pollfd wait;
    char text[256];
    int ends[2];

    EXPECT(cleave_vhost_create(context, &config, &vhost), -EINVAL);
    EXPECT(cleave_last_error(context, text, sizeof text) > 10, 1);
    EXPECT(strcmp(text, "config->event is NULL"), 0);
    config.event = on_event;
    config.user = &event_count;
    config.flags = CLEAVE_VHOST_SOCKET_FD | CLEAVE_VHOST_MAC;
    config.mac[0] = 2;
    config.mtu = 1500;
    config.offloads = CLEAVE_F_CSUM;
    EXPECT(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    config.socket_fd = ends[0];
    EXPECT(cleave_vhost_create(context, &config, &vhost), 0);
    wait.fd = cleave_vhost_get_fd(vhost);
    wait.events = POLLIN;
    EXPECT(poll(&wait, 1, 10000), 1);
    EXPECT(cleave_vhost_poll(vhost), 1);
    EXPECT(event_count, 1);
    EXPECT(last_event, CLEAVE_VHOST_CONNECTED);
    EXPECT(poll(&wait, 1, 0), 0);
    EXPECT(write(ends[1], get_features, sizeof get_features), sizeof get_features);
    EXPECT(poll(&wait, 1, 10000), 1);
    EXPECT(cleave_vhost_poll(vhost), 1);
    EXPECT(read(ends[1], answer, sizeof answer), sizeof answer);
    memcpy(&features, answer + 3, sizeof features);
    EXPECT(answer[2], 8);
    EXPECT((features & CLEAVE_F_VERSION_1) != 0, 1);
    EXPECT((features & CLEAVE_F_CSUM) != 0, 1);
    EXPECT((features & CLEAVE_F_GUEST_CSUM) == 0, 1);
    EXPECT(cleave_vhost_get_status(vhost, &status), 0);
    EXPECT(status.connected, 1);
    EXPECT(status.messages, 1);
    EXPECT(status.pairs, 1);
    EXPECT(status.queues, 0);
    EXPECT(cleave_vhost_describe(vhost, text, sizeof text) > 10, 1);
    EXPECT(strstr(text, "messages 1") != NULL, 1);
    close(ends[1]);
    EXPECT(poll(&wait, 1, 10000), 1);
    EXPECT(cleave_vhost_poll(vhost), -ESHUTDOWN);
    EXPECT(event_count, 2);
    EXPECT(last_event, CLEAVE_VHOST_DISCONNECTED);
    EXPECT(cleave_vhost_destroy(vhost), 0);
    EXPECT(cleave_vhost_poll(vhost), -EBADF);
    EXPECT(close(ends[0]), -1); /* it was the library's */
}

static void engine_level(cleave_memory *memory, struct guest *guest) {
    unsigned char frame[142];
    cleave_packet packet;
    cleave_completion completion;
    cleave_rq_config queue = rq_config(guest);
    cleave_engine_config config;
    cleave_engine *engine = NULL;
    cleave_lane *lane = NULL;
    uint16_t base = 0;

    memset(&config, 0, sizeof config);
    config.struct_size = sizeof config;
    config.queue_count = 1;
    config.queues = &queue;
    EXPECT(cleave_engine_create(memory, &config, &engine), 0);
    EXPECT(cleave_engine_get_lane(engine, 1, &lane), -EINVAL);
    EXPECT(cleave_engine_get_lane(engine, 0, &lane), 0);
    fill_frame(frame);
    memset(&packet, 0, sizeof packet);
    packet.data = frame;
    packet.length = sizeof frame;
    packet.cookie = 77;
    EXPECT(cleave_lane_submit(lane, &packet, 1), 1);
    EXPECT(cleave_lane_turn(lane), 1);
    EXPECT(cleave_lane_reap(lane, &completion, 1), 1);
    EXPECT(completion.cookie, 77);
    EXPECT(completion.flags, 0);
    EXPECT(memcmp(guest->buffers[0] + 12, frame, sizeof frame), 0);
    EXPECT(cleave_engine_start(engine), 0);
    EXPECT(cleave_engine_start(engine), -EBUSY);
    EXPECT(cleave_lane_turn(lane), -EBUSY);
    EXPECT(cleave_lane_submit(lane, &packet, 1), 1);
    EXPECT(cleave_engine_drain(engine, 60000), 0);
    EXPECT(cleave_engine_stop(engine), 0);
    EXPECT(cleave_lane_reap(lane, &completion, 1), 1);
    EXPECT(cleave_lane_get_base(lane, &base), 0);
    EXPECT(base, 2);
    EXPECT(cleave_engine_destroy(engine), 0);
    EXPECT(cleave_lane_submit(lane, &packet, 1), -EBADF);
}

int main(void) {
    struct guest *guest = fresh_guest();
    cleave_context_config callbacks;
    cleave_region region;
    cleave_memory_config table;
    cleave_header_queue_config slots;
    cleave_header_queue_status status;
    cleave_context *context = NULL;
    cleave_memory *memory = NULL, *second = NULL;
    cleave_header_queue *headers = NULL;
    cleave_rq *rq = NULL;
    char text[64];
    uint32_t base = 0;
    void *host = NULL;

    EXPECT(cleave_abi_version(), (CLEAVE_ABI_MAJOR << 16 | CLEAVE_ABI_MINOR));
    EXPECT(strncmp(cleave_version(), "0.", 2), 0);
    EXPECT(cleave_drop_name(0) != NULL, 1);
    EXPECT(cleave_drop_name(16) == NULL, 1);
    EXPECT(cleave_context_create(NULL, NULL), -EINVAL);
    memset(&callbacks, 0, sizeof callbacks);
    EXPECT(cleave_context_create(&callbacks, &context), -EINVAL);
    callbacks.struct_size = sizeof callbacks;
    callbacks.log_level = CLEAVE_LOG_INFO;
    callbacks.user = &log_count;
    callbacks.log = log_line;
    callbacks.allocate = allocate;
    callbacks.release = release;
    EXPECT(cleave_context_create(&callbacks, &context), 0);
    region.guest_address = BASE;
    region.size = sizeof *guest;
    region.host = guest;
    region.reserved = 0;
    table.struct_size = sizeof table;
    table.region_count = 0;
    table.regions = &region;
    table.same_guest_as = NULL;
    EXPECT(cleave_memory_create(context, &table, &memory), -EINVAL);
    EXPECT(cleave_last_error(context, text, sizeof text) > 10, 1);
    EXPECT(strncmp(text, "config->region_count is 0", 25), 0);
    table.region_count = 1;
    EXPECT(cleave_memory_create((cleave_context *)(void *)guest, &table, &memory), -EBADF);
    EXPECT(cleave_memory_create(context, &table, &memory), 0);
    EXPECT(cleave_memory_translate(memory, BASE + 5, 7, &host), 0);
    EXPECT((char *)host == (char *)guest + 5, 1);
    EXPECT(cleave_memory_translate(memory, BASE + 5, sizeof *guest, &host), -EINVAL);
    table.same_guest_as = memory;
    EXPECT(cleave_memory_create(context, &table, &second), 0);
    EXPECT(cleave_memory_destroy(second), 0);
    EXPECT(cleave_rq_create(memory, NULL, &rq), -EINVAL);
    EXPECT(cleave_context_destroy(context), -EBUSY);
    memset(&slots, 0, sizeof slots);
    slots.struct_size = sizeof slots;
    slots.slot_size = 128;
    slots.slot_count = RING;
    slots.slots = guest->slots;
    slots.control = guest->control;
    EXPECT(cleave_header_queue_create(memory, &slots, &headers), 0);
    queue_level(memory, guest, headers);
    status.struct_size = sizeof status;
    EXPECT(cleave_header_queue_get_status(headers, &status), 0);
    EXPECT(status.claimed, 2);
    EXPECT(status.free, RING - 2);
    EXPECT(cleave_header_queue_reset(headers), 0);
    EXPECT(cleave_header_queue_get_status(headers, &status), 0);
    EXPECT(status.claimed, 2);
    EXPECT(status.free, 0);
    EXPECT(status.duplicates, 0);
    EXPECT(cleave_header_queue_get_base(headers, &base), 0);
    EXPECT(base, RING); /* a reset goes to the tail */
    EXPECT(cleave_header_queue_destroy(headers), 0);
    guest = fresh_guest();
    engine_level(memory, guest);
    guest = fresh_guest();
    transmit(memory, guest);
    vhost_level(context);
    EXPECT(cleave_memory_destroy(memory), 0);
    EXPECT(cleave_context_destroy(context), 0);
    EXPECT(log_count > 0, 1);
    EXPECT(allocated > 0, 1);
    EXPECT(allocated, released);
    if (failures == 0) printf("smoke: everything holds, libcleave %s\n", cleave_version());
    return failures != 0;
}

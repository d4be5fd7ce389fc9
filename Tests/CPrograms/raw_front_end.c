/* Asks of Sources/Examples/C/vhost_backend.c what QEMU may ask of a backend at any time, and
 * virtio-user does not.
 *
 *   raw_front_end SOCKET PACKED(0|1) CASE        the cases are at the end
 *
 * Prints "CASE: good", or what was wrong. */
#include "raw_front.h"

static void check_offers(struct front *f) {
    open_socket(f);
    const uint64_t features = get(f, GET_FEATURES), protocol = get(f, GET_PROTOCOL);
    for (unsigned i = 0; i < 64; i++) {
        if (features & ~served & BIT(i)) fprintf(stderr, "feature %u is offered\n", i);
        if (protocol & ~served_protocol & BIT(i)) fprintf(stderr, "protocol %u is offered\n", i);
    }
    CHECK(features == served && protocol == served_protocol,
          "offers are %#llx and %#llx", (unsigned long long)features, (unsigned long long)protocol);
    CHECK(get(f, GET_QUEUE_NUM) == PAIRS_TOLD, "number of pairs");
}

/* A front end that begins to migrate gets a refusal. */
static void check_log(struct front *f) {
    join(f);
    exchange(f, 3);
    CHECK(set(f, SET_FEATURES, BIT(15) | BIT(22) | BIT(26) | BIT(30) | BIT(32) |
                                   (packed ? BIT(34) : 0)) != 0,
          "VHOST_F_LOG_ALL is taken, and nothing logged");
    exchange(f, 3);
}

/* Packets on both pairs, more than once around the rings. */
static void check_pairs(struct front *f) {
    join(f);
    exchange(f, 5 * SIZE + 3);
}

/* The second pair is the last that the backend offers. */
static void check_last_pair(struct front *f) {
    second = 2 * (PAIRS_TOLD - 1);
    check_pairs(f);
}

static void check_disabled(struct front *f) {
    join(f);
    exchange(f, SIZE + 3);
    for (unsigned index = 2; index < RINGS; index++) {
        enable(f, index, 0);
        send_packet(f, 1);
        CHECK(!comes_back(f, 1, QUIET), "disabled ring %u is served", index);
        send_packet(f, 0);
        CHECK(comes_back(f, 0, PATIENCE), "pair 0 stands still, too");
        enable(f, index, 1);
        exchange(f, SIZE + 3);
    }
}

static void check_call(struct front *f) {
    join(f);
    exchange(f, SIZE + 3);
    const int old = f->ring[0].call, new = eventfd(0, EFD_NONBLOCK);
    uint64_t count = 0;
    set_call(f, 0, new);
    while (read(old, &count, sizeof count) > 0) continue;
    exchange(f, 1);
    usleep(1000 * QUIET);
    CHECK(read(new, &count, sizeof count) > 0, "the new call descriptor is silent");
    CHECK(read(old, &count, sizeof count) < 0, "the old call descriptor is written");
    set_call(f, 0, -1);
    exchange(f, SIZE + 3);
}

static void check_memory(struct front *f) {
    join(f);
    exchange(f, SIZE + 3);
    /* Waiting buffers are posted anew, in a region that the backend learns of next. */
    for (unsigned i = 0; i < RINGS; i += 2) f->ring[i].next = f->ring[i].seen;
    f->region_count = 2;
    fill(f);
    CHECK(set_memory(f) == 0, "the new table is refused");
    exchange(f, 2 * SIZE + 3);
}

/* Leaves with the rings' positions and returns with them; then leaves without notice. */
static void check_return(struct front *f) {
    join(f);
    exchange(f, SIZE + 3);
    for (unsigned i = 0; i < RINGS; i++) {
        const unsigned base = (unsigned)set_ring(f, GET_BASE, i, 0);
        reap(f);
        CHECK(base == position(f->ring[i].seen), "ring %u stands at %#x, not at %#x", i,
              position(f->ring[i].seen), base);
    }
    leave(f);
    for (unsigned i = 0; i < 3; i++) {
        join(f);
        exchange(f, SIZE + 3);
        leave(f);
    }
    join(f);
    exchange(f, SIZE + 3);
}

/* One guest comes and goes beside another. */
static void check_guests(struct front *f) {
    struct front other;
    boot(&other);
    join(f);
    exchange(f, 3);
    for (unsigned i = 0; i < 3; i++) {
        join(&other);
        exchange(&other, 3);
        exchange(f, 3);
        leave(&other);
        exchange(f, 3);
    }
}

int main(int argc, char **argv) {
    static const struct {
        const char *name;
        void (*check)(struct front *);
    } cases[] = {
        {"offers", check_offers}, {"log", check_log},       {"pairs", check_pairs},
        {"last", check_last_pair}, {"disabled", check_disabled}, {"call", check_call},
        {"memory", check_memory}, {"return", check_return}, {"guests", check_guests},
    };
    struct front front;
    if (argc != 4) return 2;
    path = argv[1];
    packed = argv[2][0] == '1';
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        if (strcmp(cases[i].name, argv[3]) != 0) continue;
        boot(&front);
        cases[i].check(&front);
        printf("%s: good\n", argv[3]);
        return 0;
    }
    return 2;
}

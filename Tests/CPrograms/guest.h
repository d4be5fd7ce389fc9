/* Common parts of the C programs that try the library: how they complain, and a guest's memory.
 * Nothing of Cleave's but cleave.h is used; C99 and C++11. */
#ifndef GUEST_H
#define GUEST_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

static int failures;

static void expect(
    const char *file, int line, const char *what, long long got, long long wanted) {
    if (got == wanted) return;
    fprintf(stderr, "%s:%d: %s is %lld, not %lld\n", file, line, what, got, wanted);
    failures++;
}
#define EXPECT(expression, wanted) expect(__FILE__, __LINE__, #expression, (expression), (wanted))

enum { RING = 8, BUFFER = 2048 };
static const uint64_t BASE = 1ull << 32;

/* A split virtqueue, its buffers and a header queue, from guest address BASE on. */
struct guest {
    unsigned char table[16 * RING];
    uint16_t avail[3 + RING];
    unsigned char padding[4096 - 16 * RING - 2 * (3 + RING)];
    uint32_t used[2 + 2 * RING];
    unsigned char padding2[1024 - 4 * (2 + 2 * RING)];
    unsigned char slots[RING * 128];
    uint32_t control[64];
    unsigned char buffers[RING][BUFFER];
};

/* Starts over: all buffers are posted, `length` bytes of each, with the flags of a descriptor; all
 * slots are given. */
static void post(struct guest *guest, uint32_t length, uint64_t flags) {
    int i;
    memset(guest, 0, sizeof *guest);
    for (i = 0; i < RING; i++) {
        const uint64_t address = BASE + offsetof(struct guest, buffers) + (uint64_t)i * BUFFER;
        const uint64_t rest = length | flags << 32;
        memcpy(guest->table + 16 * i, &address, 8);
        memcpy(guest->table + 16 * i + 8, &rest, 8);
        guest->avail[2 + i] = (uint16_t)i;
    }
    guest->avail[1] = RING;
    guest->control[0] = RING;
}

#endif

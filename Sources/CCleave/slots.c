#include "cleave_slots.h"

#include <pthread.h>
#include <stddef.h>
#include <string.h>
#include <time.h>

#include "cleave.h"

// A cell is a cache line: two threads on two handles do not contend. Pages in which no handle was
// made are never touched.
__attribute__((aligned(64), visibility("hidden")))
unsigned char cleave_slot_memory[CLEAVE_SLOT_COUNT * CLEAVE_SLOT_BYTES];

static struct cleave_slot_supply supply;

__attribute__((visibility("hidden"))) struct cleave_slot_supply *cleave_slots_supply(void) {
    return &supply;
}

static pthread_mutex_t slots_mutex = PTHREAD_MUTEX_INITIALIZER;

__attribute__((visibility("hidden"))) void cleave_slots_lock(void) {
    pthread_mutex_lock(&slots_mutex);
}

__attribute__((visibility("hidden"))) void cleave_slots_unlock(void) {
    pthread_mutex_unlock(&slots_mutex);
}

// Under the mutex: threads inside calls, and forks that wait for them.
static unsigned calling_threads, waiting_forks;
static pthread_cond_t calls_changed = PTHREAD_COND_INITIALIZER;
// Calls of this thread, nested: callbacks may call.
static __thread unsigned call_depth;

__attribute__((visibility("hidden"))) void cleave_call_begin(void) {
    if (call_depth++ > 0) {
        return;
    }
    pthread_mutex_lock(&slots_mutex);
    while (waiting_forks > 0) {
        pthread_cond_wait(&calls_changed, &slots_mutex);
    }
    calling_threads++;
    pthread_mutex_unlock(&slots_mutex);
}

__attribute__((visibility("hidden"))) void cleave_call_end(void) {
    if (--call_depth > 0) {
        return;
    }
    pthread_mutex_lock(&slots_mutex);
    calling_threads--;
    if (waiting_forks > 0) {
        pthread_cond_broadcast(&calls_changed);
    }
    pthread_mutex_unlock(&slots_mutex);
}

// Takes the mutex and keeps it across the fork.
static void before_fork(void) {
    const unsigned own = call_depth > 0;
    struct timespec limit;
    clock_gettime(CLOCK_REALTIME, &limit);
    limit.tv_sec += 1;
    pthread_mutex_lock(&slots_mutex);
    waiting_forks++;
    while (calling_threads > own &&
           pthread_cond_timedwait(&calls_changed, &slots_mutex, &limit) == 0) {
    }
}

static void after_fork_in_parent(void) {
    waiting_forks--;
    pthread_cond_broadcast(&calls_changed);
    pthread_mutex_unlock(&slots_mutex);
}

// Offset of a cell's generation: the only thing that a child keeps, so that no handle of its
// parent's is ever one of its own.
enum { GENERATION_OFFSET = 24 };

// The child has none of the other threads, so it gives up all objects and the memory they take.
static void after_fork_in_child(void) {
    for (uint64_t number = 0; number < supply.unused; number++) {
        unsigned char *slot = cleave_slot(number);
        uint64_t generation;
        memcpy(&generation, slot + GENERATION_OFFSET, sizeof generation);
        memset(slot, 0, CLEAVE_SLOT_BYTES);
        memcpy(slot + GENERATION_OFFSET, &generation, sizeof generation);
    }
    supply = (struct cleave_slot_supply){0, 0};
    calling_threads = call_depth > 0;
    waiting_forks = 0;
    pthread_cond_init(&calls_changed, NULL);
    pthread_mutex_unlock(&slots_mutex);
}

__attribute__((constructor)) static void watch_for_forks(void) {
    pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
}

_Static_assert(sizeof(void *) == 8, "handles have 64 bits");
_Static_assert(sizeof(cleave_packet) == 40, "packets are read word by word");
_Static_assert(offsetof(cleave_packet, cookie) == 14, "the first words are those of a reference");
_Static_assert(offsetof(cleave_packet, net_flags) == 16, "then offloads");
_Static_assert(offsetof(cleave_packet, more_count) == 30, "and the number of further segments");
_Static_assert(offsetof(cleave_packet, more) == 32, "and where they are");
_Static_assert(sizeof(cleave_ref) == 16 && offsetof(cleave_ref, cookie) == 14,
    "a reference is used where it lies");
_Static_assert(sizeof(cleave_segment) == 16, "segments are read word by word");

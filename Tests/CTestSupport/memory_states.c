#define _GNU_SOURCE
#include "memory_states.h"

#include <errno.h>

#if defined(__x86_64__)

#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

enum { PAGE = 4096, TRAP_FLAG = 0x100 };

static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;
static struct {
    char *areas[2];
    size_t counts[2];
    char *states;
    size_t count, capacity;
    int is_full;
    struct sigaction fault_before, trap_before;
} watch;

static size_t state_size(void) { return watch.counts[0] + watch.counts[1]; }

static void protect(int access) {
    mprotect(watch.areas[0], PAGE, access);
    mprotect(watch.areas[1], PAGE, access);
}

static void take(void) {
    if (watch.count == watch.capacity) {
        watch.is_full = 1;
        return;
    }
    char *const place = watch.states + watch.count * state_size();
    memcpy(place, watch.areas[0], watch.counts[0]);
    memcpy(place + watch.counts[0], watch.areas[1], watch.counts[1]);
    watch.count++;
}

// A store to a watched page: it is done by itself, with a trap after it.
static void fault(int number, siginfo_t *info, void *context) {
    (void)number;
    const char *const address = info->si_addr;
    for (int index = 0; index < 2; index++) {
        if (address >= watch.areas[index] && address < watch.areas[index] + PAGE) {
            protect(PROT_READ | PROT_WRITE);
            ((ucontext_t *)context)->uc_mcontext.gregs[REG_EFL] |= TRAP_FLAG;
            return;
        }
    }
    // Somebody else's: it faults again, and is treated as ever.
    sigaction(SIGSEGV, &watch.fault_before, NULL);
}

static void trap(int number, siginfo_t *info, void *context) {
    (void)number, (void)info;
    const char *const last = watch.states + (watch.count - 1) * state_size();
    if (memcmp(last, watch.areas[0], watch.counts[0]) != 0
        || memcmp(last + watch.counts[0], watch.areas[1], watch.counts[1]) != 0) {
        take();
    }
    protect(PROT_READ);
    ((ucontext_t *)context)->uc_mcontext.gregs[REG_EFL] &= ~TRAP_FLAG;
}

static void handle(
    int number, void (*handler)(int, siginfo_t *, void *), struct sigaction *before) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = handler;
    action.sa_flags = SA_SIGINFO;
    sigaction(number, &action, before);
}

int memory_states_begin(
    void *first, size_t first_count, void *second, size_t second_count, void *states,
    size_t capacity) {
    pthread_mutex_lock(&turn);
    watch.areas[0] = first;
    watch.areas[1] = second;
    watch.counts[0] = first_count;
    watch.counts[1] = second_count;
    watch.states = states;
    watch.capacity = capacity;
    watch.count = 0;
    watch.is_full = 0;
    take();
    handle(SIGSEGV, fault, &watch.fault_before);
    handle(SIGTRAP, trap, &watch.trap_before);
    protect(PROT_READ);
    return 0;
}

long memory_states_end(void) {
    protect(PROT_READ | PROT_WRITE);
    sigaction(SIGTRAP, &watch.trap_before, NULL);
    sigaction(SIGSEGV, &watch.fault_before, NULL);
    const long count = watch.is_full ? -ENOSPC : (long)watch.count;
    pthread_mutex_unlock(&turn);
    return count;
}

#else

int memory_states_begin(
    void *first, size_t first_count, void *second, size_t second_count, void *states,
    size_t capacity) {
    (void)first, (void)first_count, (void)second, (void)second_count, (void)states;
    (void)capacity;
    return -ENOTSUP;
}

long memory_states_end(void) { return -ENOTSUP; }

#endif

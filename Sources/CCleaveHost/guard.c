// Survives memory that another process takes away: a file that is cut short under a mapping raises
// SIGBUS in whoever touches it, and ends the process unless somebody handles that.
//
// The table is read by a signal handler while other threads change it, so it is lock-free. A
// guarded range stays where it is until it is removed, and whoever removes it has seen to it that
// no thread touches it any more: an entry that a fault refers to does not change meanwhile.
#define _GNU_SOURCE
#include "cleave_socket.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>

enum { GUARD_COUNT = 4096 };
// `base` of an entry that is free, and of one that is being filled; no mapping begins there.
enum { FREE = 0, CLAIMED = 1 };

struct guard {
    uintptr_t base;
    size_t byte_count, page_byte_count;
    int was_hit;
};

static struct guard guards[GUARD_COUNT];
// Entries that were ever in use: the handler looks no further.
static int guard_limit;
static int install_state;
static struct sigaction previous;

// Puts zero pages from the lost page to the end of its range: when a file is cut, all that lay
// behind is lost, and a mapping for each page would soon be more than a process may have.
static int replace_lost(struct guard *guard, uintptr_t address) {
    const uintptr_t base = __atomic_load_n(&guard->base, __ATOMIC_ACQUIRE);
    if (base <= CLAIMED || address < base || address - base >= guard->byte_count) {
        return 0;
    }
    const uintptr_t page = address & ~((uintptr_t)guard->page_byte_count - 1);
    const size_t left = guard->byte_count - (page - base);
    void *got = mmap(
        (void *)page, left, PROT_READ | PROT_WRITE,
        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
    if (got == MAP_FAILED) {
        return 0;
    }
    __atomic_store_n(&guard->was_hit, 1, __ATOMIC_RELEASE);
    return 1;
}

static void pass_on(int number, siginfo_t *info, void *context) {
    if ((previous.sa_flags & SA_SIGINFO) != 0) {
        previous.sa_sigaction(number, info, context);
    } else if (previous.sa_handler != SIG_DFL && previous.sa_handler != SIG_IGN) {
        previous.sa_handler(number);
    } else {
        // The touch is tried again and ends the process, as it would have without this handler.
        signal(number, SIG_DFL);
    }
}

static void handle_bus_error(int number, siginfo_t *info, void *context) {
    const int before = errno;
    const int limit = __atomic_load_n(&guard_limit, __ATOMIC_ACQUIRE);
    int is_replaced = 0;
    for (int index = 0; index < limit && !is_replaced; index++) {
        // A positive code: the kernel says where. kill() carries no address.
        is_replaced = info->si_code > 0 && replace_lost(&guards[index], (uintptr_t)info->si_addr);
    }
    if (!is_replaced) {
        pass_on(number, info, context);
    }
    errno = before;
}

int cleave_guard_install(void) {
    enum { NOT_YET, BEGUN, DONE };
    int expected = NOT_YET;
    if (!__atomic_compare_exchange_n(
            &install_state, &expected, BEGUN, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
        // Another thread does it: two system calls, and then this one may rely on it.
        while (__atomic_load_n(&install_state, __ATOMIC_ACQUIRE) == BEGUN) {
            sched_yield();
        }
        return __atomic_load_n(&install_state, __ATOMIC_ACQUIRE) == DONE ? 0 : -EAGAIN;
    }
    // What to pass on to must be known before the first signal can arrive.
    int result = sigaction(SIGBUS, NULL, &previous);
    if (result == 0) {
        struct sigaction action = {
            .sa_sigaction = handle_bus_error, .sa_flags = SA_SIGINFO | SA_ONSTACK};
        sigemptyset(&action.sa_mask);
        result = sigaction(SIGBUS, &action, NULL);
    }
    const int code = errno;
    __atomic_store_n(&install_state, result == 0 ? DONE : NOT_YET, __ATOMIC_RELEASE);
    return result == 0 ? 0 : -code;
}

int cleave_guard_add(void *base, size_t byte_count, size_t page_byte_count) {
    for (int index = 0; index < GUARD_COUNT; index++) {
        struct guard *guard = &guards[index];
        uintptr_t expected = FREE;
        if (!__atomic_compare_exchange_n(
                &guard->base, &expected, CLAIMED, 0, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED)) {
            continue;
        }
        guard->byte_count = byte_count;
        guard->page_byte_count = page_byte_count;
        __atomic_store_n(&guard->was_hit, 0, __ATOMIC_RELAXED);
        __atomic_store_n(&guard->base, (uintptr_t)base, __ATOMIC_RELEASE);
        int limit = __atomic_load_n(&guard_limit, __ATOMIC_RELAXED);
        while (limit <= index && !__atomic_compare_exchange_n(
            &guard_limit, &limit, index + 1, 0, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED)) {
        }
        return index;
    }
    return -ENOSPC;
}

void cleave_guard_remove(int index) {
    __atomic_store_n(&guards[index].base, (uintptr_t)FREE, __ATOMIC_RELEASE);
}

int cleave_guard_was_hit(int index) {
    return __atomic_load_n(&guards[index].was_hit, __ATOMIC_ACQUIRE);
}

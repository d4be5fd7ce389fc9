#define _GNU_SOURCE
#include "runtime_counts.h"

#include <dlfcn.h>
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>

static uint64_t allocations, frees, retains, releases;
static _Thread_local bool is_exempt;

static inline void note(uint64_t *count) {
    if (!is_exempt) __atomic_fetch_add(count, 1, __ATOMIC_RELAXED);
}

void cleave_runtime_counts_exempt(bool exempt) { is_exempt = exempt; }

struct cleave_runtime_counts cleave_runtime_counts_read(void) {
    return (struct cleave_runtime_counts){
        .allocations = __atomic_load_n(&allocations, __ATOMIC_RELAXED),
        .frees = __atomic_load_n(&frees, __ATOMIC_RELAXED),
        .retains = __atomic_load_n(&retains, __ATOMIC_RELAXED),
        .releases = __atomic_load_n(&releases, __ATOMIC_RELAXED),
    };
}

// An executable's own definition of these comes before the runtime's, as with malloc below.
// Swift expects most registers to survive a call of them.
#define KEEP_REGISTERS __attribute__((preserve_most))

static void *resolve(void **next, const char *name) {
    void *found = __atomic_load_n(next, __ATOMIC_RELAXED);
    if (found) return found;
    found = dlsym(RTLD_NEXT, name);
    if (!found) abort();
    __atomic_store_n(next, found, __ATOMIC_RELAXED);
    return found;
}

#define COUNT_CALLS(name, count)                                                   \
    static void *next_##name;                                                      \
    KEEP_REGISTERS void *name(void *object) {                                      \
        note(&count);                                                              \
        return ((void *(*)(void *))resolve(&next_##name, #name))(object);          \
    }

#define COUNT_CALLS_N(name, count)                                                 \
    static void *next_##name;                                                      \
    KEEP_REGISTERS void *name(void *object, uint32_t n) {                          \
        note(&count);                                                              \
        return ((void *(*)(void *, uint32_t))resolve(&next_##name, #name))(object, n); \
    }

COUNT_CALLS(swift_retain, retains)
COUNT_CALLS(swift_release, releases)
COUNT_CALLS(swift_bridgeObjectRetain, retains)
COUNT_CALLS(swift_bridgeObjectRelease, releases)
COUNT_CALLS_N(swift_retain_n, retains)
COUNT_CALLS_N(swift_release_n, releases)

// Sanitizers bring a malloc of their own.
#if defined(__has_feature)
#if __has_feature(thread_sanitizer) || __has_feature(address_sanitizer)
#define CLEAVE_SANITIZED 1
#endif
#endif

#if defined(__GLIBC__) && !defined(CLEAVE_SANITIZED)
extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);
extern void __libc_free(void *);

void *malloc(size_t size) {
    note(&allocations);
    return __libc_malloc(size);
}

void *calloc(size_t count, size_t size) {
    note(&allocations);
    return __libc_calloc(count, size);
}

void *realloc(void *block, size_t size) {
    note(&allocations);
    return __libc_realloc(block, size);
}

void *memalign(size_t alignment, size_t size) {
    note(&allocations);
    return __libc_memalign(alignment, size);
}

void *aligned_alloc(size_t alignment, size_t size) { return memalign(alignment, size); }

int posix_memalign(void **block, size_t alignment, size_t size) {
    void *result = memalign(alignment, size);
    if (!result) return ENOMEM;
    *block = result;
    return 0;
}

void free(void *block) {
    if (block) note(&frees);
    __libc_free(block);
}
#endif

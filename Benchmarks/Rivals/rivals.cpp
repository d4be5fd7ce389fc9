// The rings that ours is compared with, behind the calls of ring_bench.h. Each is left out when
// its headers are not installed. Built into a shared object of its own, so that every rival gets
// the compiler and the flags its package asks for.
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <new>
#include <optional>

#include "ring_bench.h"

#if __has_include(<rte_ring_elem.h>)
#define HAVE_RTE_RING 1
#include <rte_ring.h>
#include <rte_ring_elem.h>
#endif
#if __has_include(<boost/lockfree/spsc_queue.hpp>)
#define HAVE_BOOST 1
#include <boost/lockfree/spsc_queue.hpp>
#endif

namespace {

constexpr uint32_t maxBurst = 64;
constexpr uint32_t fixedCapacity = 1024;

// Fills a burst, then hands it over; on a full ring the rest of the burst is tried again.
template <class Ring>
void produce(const ring_job *job) {
    Ring &ring = *static_cast<Ring *>(job->ring);
    ring_element burst[maxBurst];
    for (uint64_t sequence = 0; sequence < job->count; sequence += job->burst) {
        for (uint32_t i = 0; i < job->burst; i++) burst[i] = {sequence + i, ~(sequence + i)};
        uint32_t sent = ring.push(burst, job->burst);
        while (sent < job->burst) {
            ring_bench_idle(job->yields);
            sent += ring.push(burst + sent, job->burst - sent);
        }
    }
}

template <class Ring, bool verify>
void take(const ring_job *job, ring_tally *tally) {
    Ring &ring = *static_cast<Ring *>(job->ring);
    ring_element burst[maxBurst];
    ring_tally seen = {0, 0, 0};
    uint64_t done = 0;
    while (done < job->count) {
        const uint32_t count = ring.pop(burst, job->burst);
        if (count == 0) ring_bench_idle(job->yields);
        for (uint32_t i = 0; i < count; i++) {
            seen.sequence_sum += burst[i].sequence;
            seen.check_sum += burst[i].check;
            if (verify && (burst[i].sequence != done + i || burst[i].check != ~(done + i))) {
                seen.disorder++;
            }
        }
        done += count;
    }
    *tally = seen;
}

template <class Ring>
void consume(const ring_job *job, ring_tally *tally) {
    job->verify ? take<Ring, true>(job, tally) : take<Ring, false>(job, tally);
}

template <class Ring>
void *create(uint32_t capacity) {
    void *memory = std::aligned_alloc(128, (sizeof(Ring) + 127) & ~size_t{127});
    return memory == nullptr ? nullptr : new (memory) Ring(capacity);
}

template <class Ring>
void destroy(void *ring) {
    static_cast<Ring *>(ring)->~Ring();
    std::free(ring);
}

template <class Ring>
constexpr ring_contender contender(const char *name) {
    return {name, create<Ring>, destroy<Ring>, produce<Ring>, consume<Ring>};
}

// The same design as ours, in plain C++: published indices 128 bytes apart, each end with its
// own index and the other's as last seen.
class PlainRing {
public:
    explicit PlainRing(uint32_t capacity)
        : slots(static_cast<ring_element *>(
              std::aligned_alloc(128, (capacity * sizeof(ring_element) + 127) & ~size_t{127}))),
          mask(capacity - 1) {
        if (slots == nullptr) std::abort();
    }
    ~PlainRing() { std::free(slots); }

    uint32_t push(const ring_element *elements, uint32_t count) {
        if (mask + 1 - (writer.own - writer.other) < count) {
            writer.other = head.value.load(std::memory_order_acquire);
        }
        const uint32_t free = mask + 1 - (writer.own - writer.other);
        const uint32_t taken = count < free ? count : free;
        if (taken == 0) return 0;
        const uint32_t start = writer.own & mask;
        const uint32_t first = taken < mask + 1 - start ? taken : mask + 1 - start;
        std::memcpy(slots + start, elements, first * sizeof(ring_element));
        std::memcpy(slots, elements + first, (taken - first) * sizeof(ring_element));
        writer.own += taken;
        tail.value.store(writer.own, std::memory_order_release);
        return taken;
    }

    uint32_t pop(ring_element *elements, uint32_t count) {
        if (reader.other - reader.own < count) {
            reader.other = tail.value.load(std::memory_order_acquire);
        }
        const uint32_t ready = reader.other - reader.own;
        const uint32_t taken = count < ready ? count : ready;
        if (taken == 0) return 0;
        const uint32_t start = reader.own & mask;
        const uint32_t first = taken < mask + 1 - start ? taken : mask + 1 - start;
        std::memcpy(elements, slots + start, first * sizeof(ring_element));
        std::memcpy(elements + first, slots, (taken - first) * sizeof(ring_element));
        reader.own += taken;
        head.value.store(reader.own, std::memory_order_release);
        return taken;
    }

private:
    struct alignas(128) Published {
        std::atomic<uint32_t> value{0};
    };
    struct alignas(128) End {
        uint32_t own = 0;
        uint32_t other = 0;
    };
    ring_element *const slots;
    const uint32_t mask;
    Published tail, head;
    End writer, reader;
};

#if HAVE_RTE_RING
// Single producer, single consumer, over memory of our own: no DPDK environment is started.
class RteRing {
public:
    explicit RteRing(uint32_t capacity) {
        const ssize_t size = rte_ring_get_memsize_elem(sizeof(ring_element), capacity);
        if (size < 0) std::abort();
        ring = static_cast<rte_ring *>(
            std::aligned_alloc(128, (static_cast<size_t>(size) + 127) & ~size_t{127}));
        if (ring == nullptr ||
            rte_ring_init(ring, "bench", capacity, RING_F_SP_ENQ | RING_F_SC_DEQ) != 0) {
            std::abort();
        }
    }
    ~RteRing() { std::free(ring); }
    uint32_t push(const ring_element *elements, uint32_t count) {
        return rte_ring_sp_enqueue_burst_elem(ring, elements, sizeof *elements, count, nullptr);
    }
    uint32_t pop(ring_element *elements, uint32_t count) {
        return rte_ring_sc_dequeue_burst_elem(ring, elements, sizeof *elements, count, nullptr);
    }

private:
    rte_ring *ring;
};
#endif

#if HAVE_BOOST
// Its capacity may be set at run time or, somewhat faster, be a constant.
template <class... Options>
class BoostQueue {
public:
    explicit BoostQueue(uint32_t capacity) {
        if constexpr (sizeof...(Options) == 0) queue.emplace(capacity);
        if constexpr (sizeof...(Options) != 0) queue.emplace();
    }
    uint32_t push(const ring_element *elements, uint32_t count) {
        return static_cast<uint32_t>(queue->push(elements, count));
    }
    uint32_t pop(ring_element *elements, uint32_t count) {
        return static_cast<uint32_t>(queue->pop(elements, count));
    }

private:
    std::optional<boost::lockfree::spsc_queue<ring_element, Options...>> queue;
};
#endif

constexpr ring_contender rivals[] = {
#if HAVE_RTE_RING
    contender<RteRing>("rte_ring (DPDK, SP/SC)"),
#endif
#if HAVE_BOOST
    contender<BoostQueue<>>("boost::lockfree::spsc_queue"),
#endif
    contender<PlainRing>("plain C++ twin of ours"),
#if HAVE_BOOST
    // The last: given only for the one capacity it is compiled for.
    contender<BoostQueue<boost::lockfree::capacity<fixedCapacity>>>("boost, constant capacity"),
#endif
};

}  // namespace

extern "C" __attribute__((visibility("default"))) const ring_contender *ring_bench_rivals(
    uint32_t capacity, uint32_t *count) {
    *count = sizeof rivals / sizeof rivals[0];
#if HAVE_BOOST
    if (capacity != fixedCapacity) --*count;
#else
    (void)capacity;
#endif
    return rivals;
}

/// Names what was not there when this was built; empty when all were.
extern "C" __attribute__((visibility("default"))) const char *ring_bench_absent(void) {
    return ""
#if !HAVE_RTE_RING
           "rte_ring is left out: libdpdk-dev is not installed.\n"
#endif
#if !HAVE_BOOST
           "boost::lockfree::spsc_queue is left out: libboost-dev is not installed.\n"
#endif
        ;
}

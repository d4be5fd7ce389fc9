// libcleave from C++: handles that destroy themselves, errors as exceptions, and a header queue.
// The guest lives in this process; a real backend gets its memory from its control plane.
//
//   c++ -std=c++17 raii.cpp -lcleave && ./a.out
#include <cleave.h>

#include <array>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace cleave {

// The sentence that the library kept on `handle`, after the word for the result.
class error : public std::runtime_error {
public:
    error(int result, const void *handle)
        : std::runtime_error(std::string(cleave_strerror(result)) + ": " + sentence(handle)) {}

private:
    static std::string sentence(const void *handle) {
        std::array<char, 256> text{};
        return cleave_last_error(handle, text.data(), text.size()) < 0 ? "" : text.data();
    }
};

inline int check(int result, const void *handle = nullptr) {
    if (result < 0) throw error(result, handle);
    return result;
}

// A handle is a token that a destroy function ends: exactly what unique_ptr is for.
template <auto destroy>
struct destroyer {
    template <class Handle>
    void operator()(Handle *handle) const noexcept {
        destroy(handle);
    }
};
using context = std::unique_ptr<cleave_context, destroyer<cleave_context_destroy>>;
using memory = std::unique_ptr<cleave_memory, destroyer<cleave_memory_destroy>>;
using header_queue =
    std::unique_ptr<cleave_header_queue, destroyer<cleave_header_queue_destroy>>;
using rq = std::unique_ptr<cleave_rq, destroyer<cleave_rq_destroy>>;

// Calls a create function on `parent`; structures say their size here, once.
template <class Owner, class Parent, class Config>
Owner create(
    int (*function)(Parent *, const Config *, typename Owner::pointer *), Parent *parent,
    Config config) {
    config.struct_size = sizeof config;
    typename Owner::pointer handle = nullptr;
    check(function(parent, &config, &handle), parent);
    return Owner(handle);
}

}  // namespace cleave

namespace {

constexpr std::uint64_t guestBase = 1ull << 32;
constexpr std::uint32_t ringSize = 4, slotSize = 128, bufferSize = 4096;

// Guest memory: a split virtqueue, a header queue, and buffers of a page each.
struct alignas(4096) Guest {
    struct Descriptor {
        std::uint64_t address;
        std::uint32_t length;
        std::uint16_t flags, next;
    };
    std::array<Descriptor, ringSize> descriptors{};
    struct {
        std::uint16_t flags, index, entries[ringSize], event;
    } avail{};
    struct {
        std::uint16_t flags, index;
        struct {
            std::uint32_t id, length;
        } entries[ringSize];
        std::uint16_t event;
    } used{};
    alignas(128) std::array<std::array<unsigned char, slotSize>, ringSize> slots{};
    alignas(128) std::array<std::uint32_t, 64> control{};
    alignas(4096) std::array<std::array<unsigned char, bufferSize>, ringSize> buffers{};

    // What its driver does: posts every buffer, gives every slot.
    Guest() {
        const auto offset = reinterpret_cast<unsigned char *>(&buffers) -
                            reinterpret_cast<unsigned char *>(this);
        for (std::uint16_t i = 0; i < ringSize; i++) {
            descriptors[i] = {guestBase + offset + i * bufferSize, bufferSize, 2, 0};
            avail.entries[i] = i;
        }
        avail.index = ringSize;
        control[0] = ringSize;
    }
};

std::vector<unsigned char> udpFrame(std::size_t payload) {
    std::vector<unsigned char> frame = {2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0, 0, 0,
                                        0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 4, 0,
                                        8, 0, 0, 0, 0, 0};
    frame[17] = static_cast<unsigned char>(28 + payload);
    frame[39] = static_cast<unsigned char>(8 + payload);
    for (std::size_t i = 0; i < payload; i++) frame.push_back(static_cast<unsigned char>(i));
    return frame;
}

int run() {
    auto guest = std::make_unique<Guest>();
    cleave_context *handle = nullptr;
    cleave::check(cleave_context_create(nullptr, &handle));
    const cleave::context context(handle);

    // Declared in the order in which they depend on each other: destroyed the other way round.
    const cleave_region region = {guestBase, sizeof(Guest), guest.get(), 0};
    const auto memory = cleave::create<cleave::memory>(
        cleave_memory_create, context.get(), cleave_memory_config{0, 1, &region, nullptr});

    cleave_header_queue_config slots{};
    slots.slot_size = slotSize;
    slots.slot_count = ringSize;
    slots.slots = guest->slots.data();
    slots.control = guest->control.data();
    const auto headers =
        cleave::create<cleave::header_queue>(cleave_header_queue_create, memory.get(), slots);

    cleave_rq_config config{};
    config.features = CLEAVE_F_VERSION_1 | CLEAVE_F_MRG_RXBUF;
    config.size = ringSize;
    config.method = CLEAVE_METHOD_D;
    config.report = CLEAVE_REPORT_USED_LENGTH;
    config.header_queue = headers.get();
    config.descriptor_area = guest->descriptors.data();
    config.driver_area = &guest->avail;
    config.device_area = &guest->used;
    const auto rq = cleave::create<cleave::rq>(cleave_rq_create, memory.get(), config);

    const auto frame = udpFrame(100);
    cleave_packet packet{};
    packet.data = frame.data();
    packet.length = static_cast<std::uint32_t>(frame.size());
    cleave::check(cleave_rq_enqueue_burst(rq.get(), &packet, 1, nullptr), rq.get());

    // Headers lie in the slot after 12 bytes of virtio-net header, payload alone on its page. The
    // length says so by bit 31, and the slot by the 15 bits below.
    const auto length = guest->used.entries[0].length;
    const auto slot = length >> 16 & 0x7fff;
    const bool split = guest->used.index == 1 && length >> 31 == 1 && slot == 0 &&
                       std::memcmp(guest->slots[slot].data() + 12, frame.data(), 42) == 0 &&
                       std::memcmp(guest->buffers[0].data(), frame.data() + 42, 100) == 0;
    std::printf("headers in slot %u, %u bytes of payload at the start of a page: %s\n", slot,
                length & 0xffff, split ? "intact" : "damaged");

    // What cannot be comes as an exception that says why.
    try {
        config.size = 3;
        cleave::create<cleave::rq>(cleave_rq_create, memory.get(), config);
    } catch (const cleave::error &refusal) {
        std::printf("refused: %s\n", refusal.what());
        return split ? 0 : 1;
    }
    return 1;
}

}  // namespace

int main() {
    try {
        return run();
    } catch (const std::exception &failure) {
        std::fprintf(stderr, "%s\n", failure.what());
        return 1;
    }
}

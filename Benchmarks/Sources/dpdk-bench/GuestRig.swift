import CDpdkBench
import CleaveGuestDriver
import CleaveHost
import CleaveVirtioNet
import Glibc

/// A guest with Cleave's own driver, and libcleave as its device: what method D is measured on,
/// since no other driver knows header queues.
///
/// Its memory is of 4 KiB pages and shared, as DPDK's is, and its buffers lie as far apart as
/// virtio-user's, which are pieces of mbufs: exactly a page apart, all would share one set of the
/// first-level cache.
final class GuestRig {
    /// An mbuf, its headroom and its pool's header, in front of each buffer.
    private static let mbufByteCount = 320
    /// Slots for the packets that are on their way, not for a whole ring: a burst, and room for the
    /// tail to move in steps.
    private static let slotCount = 128
    private static let slotByteCount = 128
    /// Bytes of a packet that fits a slot, after its net header.
    static let tinyByteCount = slotByteCount - 12

    let driver: RxDriver
    let space: GuestSpace
    let headerQueue: DriverHeaderQueue?
    private let placesTinyPackets: Bool
    private var guest: OpaquePointer?
    /// What a verifying run looks at.
    private var sources: OpaquePointer?
    private var damagedCount = 0
    private var missingCount = 0

    init(
        _ shape: Shape, largestPacket: Int, splits: Bool, placesTinyPackets: Bool = false,
        bufferByteCount: Int = 4096 + mbufByteCount
    ) throws {
        self.placesTinyPackets = placesTinyPackets
        let buffers: BufferShape =
            shape.isMergeable
            ? .mergeable(bufferByteCount: bufferByteCount)
            : .single(packetByteCount: largestPacket + Self.mbufByteCount)
        var configuration = RxDriverConfiguration(
            ringSize: shape.ringSize, ring: shape.ring, shape: buffers,
            method: splits ? .headerQueue(.usedLength) : .whole)
        space = try GuestSpace(
            byteCount: configuration.guestByteCount + 128 * shape.ringSize + 65536, pages: .small,
            shared: true)
        headerQueue =
            splits
            ? try DriverHeaderQueue(
                slotSize: Self.slotByteCount, slotCount: Self.slotCount, in: space) : nil
        configuration.headerQueue = headerQueue
        driver = try RxDriver(configuration, in: space)
        base = driver.virtqueue.base
        try attach(shape)
        driver.refill()
    }

    deinit { detach() }

    /// Where the device goes on.
    var base: UInt16

    /// Ends libcleave's use of the ring, which may go on elsewhere then.
    func detach() {
        if let guest { base = dpdk_guest_destroy(guest) }
        guest = nil
    }

    /// Makes libcleave the device, from `base` on.
    func attach(_ shape: Shape) throws {
        func host(_ address: GuestAddress) -> UnsafeMutableRawPointer? {
            space.memory.translate(address, byteCount: 1)
        }
        let ring = driver.virtqueue
        var layout = dpdk_guest_layout(
            packed: shape.ring == .packed, mergeable: shape.isMergeable,
            ring_size: UInt32(shape.ringSize),
            slot_size: UInt32(headerQueue?.layout.slotSize ?? 0),
            slot_count: UInt32(headerQueue?.layout.slotCount ?? 0),
            places_tiny_packets: placesTinyPackets,
            guest_base: GuestSpace.guestBase.rawValue, memory: space.arena.base,
            memory_bytes: UInt64(space.arena.byteCount),
            descriptor_area: host(ring.descriptorArea), driver_area: host(ring.driverArea),
            device_area: host(ring.deviceArea),
            slots: headerQueue.flatMap { host($0.layout.base) },
            control: headerQueue.flatMap { host($0.layout.control) }, base: base)
        guest = dpdk_guest_create(&layout)
        if guest == nil { throw Failure.ofRival }
    }

    /// Bursts through `cleave_rq_enqueue_refs`.
    func run(_ sources: OpaquePointer, bursts: UInt32, _ tally: inout dpdk_tally) -> Int32 {
        let result = dpdk_run_guest_enqueue(
            guest, sources, bursts,
            { context, first, count in
                guard let context else { return }
                // SAFETY: the pointer passed below, for the length of the call.
                Unmanaged<GuestRig>.fromOpaque(context)._withUnsafeGuaranteedRef {
                    $0.takeTurn(Int(first), Int(count))
                }
            }, Unmanaged.passUnretained(self).toOpaque(), &tally)
        // Lost packets would make the device look fast.
        return missingCount == 0 ? result : -1
    }

    /// Takes packets and posts their buffers again.
    func takeTurn(_ first: Int, _ count: Int) {
        var done = 0
        for _ in 0..<1000 where done < count {
            let harvested = driver.harvest()
            if sources != nil { compare(first + done) }
            done += harvested
            driver.finish()
        }
        driver.refill()
        missingCount += count - done
    }

    /// Carries some bursts and compares every byte.
    func verify(_ sources: OpaquePointer, bursts: UInt32) throws {
        self.sources = sources
        defer { self.sources = nil }
        var tally = dpdk_tally()
        try check(run(sources, bursts: bursts, &tally))
        guard damagedCount == 0, driver.fault == .none else {
            throw Failure("\(damagedCount) packets were damaged; driver: \(driver.fault.name)")
        }
    }

    private func compare(_ first: Int) {
        for (index, packet) in driver.packets.enumerated() {
            guard let sent = dpdk_sources_packet(sources, UInt32(first + index)) else { continue }
            var offset = Int(packet.headerLength)
            var isIntact = headerQueue == nil || packet.isSplit
            isIntact = isIntact && memcmp(packet.headers, sent, offset) == 0
            let last = Int(packet.firstPiece) + Int(packet.pieceCount)
            for piece in driver.pieces[Int(packet.firstPiece)..<last] {
                let byteCount = Int(piece.byteCount)
                isIntact = isIntact && memcmp(piece.pointer, sent + offset, byteCount) == 0
                offset += byteCount
            }
            if !isIntact { damagedCount += 1 }
        }
    }
}

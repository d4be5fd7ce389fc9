import CCleave
import CleaveGuestDriver
import CleaveHost
import CleaveTestSupport
import CleaveVirtioNet
import Glibc
import Testing

/// All tests of the C functions: one after the other, since there is one table of handles.
@Suite("C functions", .serialized) struct CFunctions {}

/// Handles come typed as in C.
typealias Handle = OpaquePointer

/// The sentence about the last failure on a handle.
func lastError(_ handle: Handle?) -> String {
    var text = [CChar](repeating: 0, count: 512)
    guard let handle, cleave_last_error(UnsafeRawPointer(handle), &text, text.count) >= 0 else {
        return ""
    }
    return String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
}

/// Owns what a C call made until the test ends.
func made(_ create: (UnsafeMutablePointer<Handle?>) -> Int32) throws -> Handle {
    var handle: Handle?
    let result = create(&handle)
    try #require(result == 0, "result \(result)")
    return try #require(handle)
}

/// A guest with Cleave's driver, and the C functions as its device.
final class CRig {
    let space: GuestSpace
    /// One for each RQ that a test may make.
    let drivers: [RxDriver]
    var driver: RxDriver { drivers[0] }
    let context: Handle
    let memory: Handle
    private(set) var headerQueue: Handle?
    private(set) var rq: Handle?
    /// For the first driver.
    var config = cleave_rq_config()

    static let features: UInt64 = 1 << 32

    /// - Parameter context: nil for one of its own.
    init(
        ring: RingFormat = .split, size: Int = 16, method: RxMethod = .whole,
        shape: BufferShape = .mergeable(bufferByteCount: 2048), slotReturn: SlotReturn = .tail,
        drivers driverCount: Int = 1, context callbacks: cleave_context_config? = nil,
        pages: PagePreference = .automatic
    ) throws {
        var configuration = RxDriverConfiguration(
            ringSize: size, ring: ring, shape: shape, method: method)
        let space = try GuestSpace(
            byteCount: driverCount * (configuration.guestByteCount + 512) + 128 * 64 + 65536,
            pages: pages)
        let slots =
            try method.needsHeaderQueue
            ? DriverHeaderQueue(
                slotSize: 128, slotCount: 64, slotReturn: slotReturn, rqCount: driverCount,
                groupSize: 4, in: space)
            : nil
        configuration.headerQueue = slots
        drivers = try (0..<driverCount).map { [configuration] number in
            var configuration = configuration
            configuration.returnRing = slotReturn == .groups ? number : 0
            return try RxDriver(configuration, in: space)
        }
        self.space = space
        let context = try made { handle in
            guard var callbacks else { return cleave_context_create(nil, handle) }
            return cleave_context_create(&callbacks, handle)
        }
        self.context = context
        memory = try made { handle in
            var region = Self.region(space)
            return withUnsafePointer(to: &region) { regions in
                var table = cleave_memory_config(
                    struct_size: UInt32(MemoryLayout<cleave_memory_config>.size), region_count: 1,
                    regions: regions, same_guest_as: nil)
                return cleave_memory_create(context, &table, handle)
            }
        }
        if let slots { headerQueue = try makeHeaderQueue(slots.layout) }
        config = config(0)
        for driver in drivers { driver.refill() }
    }

    deinit {
        // The second destroy is refused and harmless.
        for handle in [rq] where handle != nil { cleave_rq_destroy(handle) }
        cleave_header_queue_destroy(headerQueue)
        cleave_memory_destroy(memory)
        cleave_context_destroy(context)
    }

    static func region(_ space: GuestSpace) -> cleave_region {
        cleave_region(
            guest_address: GuestSpace.guestBase.rawValue, size: UInt64(space.arena.byteCount),
            host: space.arena.base, reserved: 0)
    }

    func host(_ address: GuestAddress) -> UnsafeMutableRawPointer? {
        space.memory.translate(address, byteCount: 1)
    }

    private func makeHeaderQueue(_ layout: HeaderQueueLayout) throws -> Handle {
        var config = cleave_header_queue_config()
        config.struct_size = UInt32(MemoryLayout<cleave_header_queue_config>.size)
        config.slot_size = UInt32(layout.slotSize)
        config.slot_count = UInt32(layout.slotCount)
        config.slots = host(layout.base)
        config.control = host(layout.control)
        config.returns = layout.returnRing.flatMap(host)
        config.group_rings = UInt32(layout.groupRingCount)
        config.group_size = layout.groupRingCount > 0 ? UInt32(layout.groupSize) : 0
        return try made { cleave_header_queue_create(memory, &config, $0) }
    }

    /// Configuration of an RQ over driver `number`.
    func config(_ number: Int) -> cleave_rq_config {
        let queue = drivers[number].virtqueue
        let driver = drivers[number].configuration
        var config = cleave_rq_config()
        config.struct_size = UInt32(MemoryLayout<cleave_rq_config>.size)
        config.features =
            Self.features | driver.shape.features.rawValue
            | (driver.ring == .packed ? 1 << 34 : 0)
        config.size = UInt32(driver.ringSize)
        config.descriptor_area = host(queue.descriptorArea)
        config.driver_area = host(queue.driverArea)
        config.device_area = host(queue.deviceArea)
        config.last_avail = queue.base
        config.last_used = queue.base
        config.header_queue = headerQueue
        config.return_ring = UInt32(driver.returnRing)
        let number =
            switch driver.method {
            case .whole: CLEAVE_METHOD_WHOLE
            case .headerDescriptor: CLEAVE_METHOD_A
            case .headerPage: CLEAVE_METHOD_B
            case .alternating: CLEAVE_METHOD_C
            case .headerQueue: CLEAVE_METHOD_D
            }
        config.method = number.rawValue
        if case .headerQueue(let report) = driver.method {
            config.report =
                report == .netHeader
                ? CLEAVE_REPORT_NET_HEADER.rawValue : CLEAVE_REPORT_USED_LENGTH.rawValue
        }
        return config
    }

    /// Makes the RQ from `config`.
    @discardableResult
    func attach() throws -> Handle {
        let handle = try made { cleave_rq_create(memory, &config, $0) }
        rq = handle
        return handle
    }

    var counters: cleave_counters {
        var counters = cleave_counters()
        counters.struct_size = UInt32(MemoryLayout<cleave_counters>.size)
        cleave_rq_get_counters(rq, &counters)
        return counters
    }

    /// Takes the packets that arrived at driver `number`, as bytes.
    func harvest(_ number: Int = 0) -> [[UInt8]] {
        var packets: [[UInt8]] = []
        let driver = drivers[number]
        while driver.harvest() > 0 {
            for packet in driver.packets {
                var bytes = [UInt8](
                    UnsafeRawBufferPointer(
                        start: packet.headers, count: Int(packet.headerLength)))
                let last = Int(packet.firstPiece) + Int(packet.pieceCount)
                for piece in driver.pieces[Int(packet.firstPiece)..<last] {
                    bytes += UnsafeRawBufferPointer(
                        start: piece.pointer, count: Int(piece.byteCount))
                }
                packets.append(bytes)
            }
            driver.finish()
        }
        driver.refill()
        return packets
    }
}

/// Packets in memory that lives as long as the value, cut into segments.
final class PacketSet {
    private(set) var packets: [cleave_packet] = []
    private var blocks: [UnsafeMutableRawPointer] = []
    private var lists: [UnsafeMutablePointer<cleave_segment>] = []

    deinit {
        for block in blocks { block.deallocate() }
        for list in lists { list.deallocate() }
    }

    /// Adds a packet that is cut at `cuts`, ascending offsets inside it.
    func add(_ bytes: [UInt8], cuts: [Int] = [], cookie: UInt16 = 0) {
        let edges = [0] + cuts + [bytes.count]
        var packet = cleave_packet()
        packet.cookie = cookie
        let list = UnsafeMutablePointer<cleave_segment>.allocate(capacity: max(1, cuts.count))
        lists.append(list)
        for number in 0..<edges.count - 1 {
            let part = bytes[edges[number]..<edges[number + 1]]
            let block = UnsafeMutableRawPointer.allocate(
                byteCount: max(1, part.count), alignment: 1)
            block.copyMemory(from: Array(part), byteCount: part.count)
            blocks.append(block)
            if number == 0 {
                packet.data = UnsafeRawPointer(block)
                packet.length = UInt32(part.count)
            } else {
                (list + number - 1).initialize(
                    to: cleave_segment(
                        data: UnsafeRawPointer(block), length: UInt32(part.count), reserved: 0))
            }
        }
        packet.more_count = UInt16(cuts.count)
        packet.more = cuts.isEmpty ? nil : UnsafePointer(list)
        packets.append(packet)
    }
}

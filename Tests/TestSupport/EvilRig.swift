import CleaveVirtioNet

/// One RQ over one evil ring in 256 KiB of guest memory, and the port that feeds it.
///
///     0x10000  ring      0x20000  header queue      0x30000 ... 0x4ffff  data
public final class EvilRig {
    public static let ringAddress: UInt64 = 0x1_0000
    public static let headerAddress: UInt64 = 0x2_0000
    public static let dataAddress: UInt64 = 0x3_0000
    public static let dataByteCount = 0x2_0000

    public let guest: EvilGuest
    public var ring: EvilRing
    public let headers: EvilHeaderQueue?
    public let headerQueue: HeaderQueue?
    public let queue: RxQueue
    public let port = MockPort()
    private let arenas: ArenaSupply

    /// - Parameters:
    ///   - guest: memory that holds the ranges above; all zero if nil.
    ///   - slots: size and count of header slots, of method D; the other methods have none.
    public init(
        size: Int = 8, features: VirtioFeatures = [.mergeableBuffers], method: RxMethod = .whole,
        slots: (size: Int, count: Int)? = nil, burst: Int = 32, shortage: BufferShortage = .wait,
        firstIndex: UInt16 = 0, callDescriptor: Int32 = -1, guest: EvilGuest? = nil,
        arenas: ArenaSupply? = nil
    ) throws {
        self.guest = try guest ?? EvilGuest()
        self.arenas = arenas ?? ArenaSupply(chunk: 1 << 18)
        ring = EvilRing(self.guest, size: size, at: Self.ringAddress, firstIndex: firstIndex)
        var headers: EvilHeaderQueue?
        if let slots, method.needsHeaderQueue {
            headers = EvilHeaderQueue(
                self.guest, slotSize: slots.size, slotCount: slots.count, at: Self.headerAddress)
        }
        self.headers = headers
        let memory = self.guest.memory
        headerQueue = try headers.map { try HeaderQueue($0.layout, memory: memory) }
        queue = try self.arenas.queue(
            RxQueueConfiguration(
                virtqueue: ring.addresses, features: features, memory: memory,
                method: method, headerQueue: headerQueue, burst: burst, shortage: shortage,
                callDescriptor: callDescriptor))
    }

    /// The guest address of a 4 KiB piece of data memory.
    public static func page(_ index: Int) -> UInt64 { dataAddress + UInt64(index) * 4096 }

    /// Posts descriptor `head` as a buffer of `byteCount` bytes in page `head` (modulo 32).
    public func post(_ head: Int, byteCount: Int = 4096) {
        ring.describe(head, Self.page(head % 32), byteCount)
        ring.post(head)
    }

    /// Used entries since the queue's start.
    public var used: [EvilRing.Used] { ring.used(since: ring.firstIndex) }
}

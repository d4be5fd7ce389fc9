import CleaveVirtioNet

/// One RQ over one packed ring, laid out as in `EvilRig`.
public final class PackedRig {
    public let guest: EvilGuest
    public var ring: PackedEvilRing
    public let headers: EvilHeaderQueue?
    public let headerQueue: HeaderQueue?
    public let queue: RxQueue
    public let port = MockPort()
    private let arenas: ArenaSupply

    /// - Parameter start: 0 to 2 x size - 1, see `PackedEvilRing`.
    public init(
        size: Int = 8, features: VirtioFeatures = [.mergeableBuffers], method: RxMethod = .whole,
        slots: (size: Int, count: Int)? = nil, burst: Int = 32, shortage: BufferShortage = .wait,
        start: Int = 0, guest: EvilGuest? = nil, arenas: ArenaSupply? = nil
    ) throws {
        self.guest = try guest ?? EvilGuest()
        self.arenas = arenas ?? ArenaSupply(chunk: 1 << 18)
        ring = PackedEvilRing(self.guest, size: size, at: EvilRig.ringAddress, start: start)
        let memory = self.guest.memory
        var headers: EvilHeaderQueue?
        if let slots, method.needsHeaderQueue {
            headers = EvilHeaderQueue(
                self.guest, slotSize: slots.size, slotCount: slots.count,
                at: EvilRig.headerAddress)
        }
        self.headers = headers
        headerQueue = try headers.map { try HeaderQueue($0.layout, memory: memory) }
        queue = try self.arenas.queue(
            RxQueueConfiguration(
                virtqueue: ring.addresses, features: features, memory: memory, method: method,
                headerQueue: headerQueue, burst: burst, shortage: shortage))
    }

    /// Posts buffer `id` as one descriptor in page `id` (modulo 32).
    public func post(_ id: Int, byteCount: Int = 4096) {
        ring.post([(EvilRig.page(id % 32), byteCount)], id: id)
    }
}

import CleaveHost
import CleaveVirtioNet

/// Which chains a driver posts, and what its ring is made from.
///
/// Descriptors are counted chain after chain. Some of them are for header buffers, which stay with
/// their chain: the first of each (method A, or D with aligned payload), or every other chain
/// (method C).
struct DriverRingGeometry {
    let size: Int
    /// Descriptors of each chain.
    let chainLength: Int
    /// Chains that can be posted at once.
    let chainCount: Int
    let features: VirtioFeatures
    /// The bit of a used entry's length that says that it names a header slot; 0 if none does.
    let slotFlag: UInt32
    /// The first of every so many descriptors is for a header buffer; 0 = none is.
    private let headerStride: Int

    init(_ configuration: RxDriverConfiguration) {
        size = configuration.ringSize
        features = configuration.allFeatures
        slotFlag = configuration.method == .headerQueue(.usedLength) ? UsedLength.splitFlag : 0
        let dataLength = configuration.shape.chainLength
        switch configuration.method {
        case _ where configuration.hasLeadDescriptor:
            chainLength = dataLength + 1
            chainCount = max(0, size) / chainLength
            headerStride = chainLength
        case .alternating:
            chainLength = dataLength
            // An even number, so that small and large buffers alternate across the ring's end too.
            chainCount = max(0, size) / chainLength & ~1
            headerStride = 2
        case .whole, .headerDescriptor, .headerPage, .headerQueue:
            chainLength = dataLength
            chainCount = max(0, size) / chainLength
            headerStride = 0
        }
    }

    /// Of a transmit queue: every chain has the same number of descriptors, or is one reference to
    /// a table.
    init(_ configuration: TxDriverConfiguration) {
        size = configuration.ringSize
        features = configuration.allFeatures
        slotFlag = 0
        chainLength = configuration.usesIndirect ? 1 : configuration.descriptorCount
        chainCount = max(0, size) / max(1, chainLength)
        headerStride = 0
    }

    func check(_ format: RingFormat) throws(SetupError) {
        try VirtqueueAddresses.check(size: size, format)
        guard format != .split || !features.contains(.inOrder) || descriptorCount == size else {
            throw SetupError(
                "IN_ORDER on a split ring of \(size) needs chains that fill it, not \(chainCount) "
                    + "of \(chainLength)")
        }
        guard chainCount > 0 else {
            throw SetupError(
                headerStride == 2
                    ? "small and large buffers alternately do not fit a ring of \(size)"
                    : "a chain of \(chainLength) descriptors does not fit a ring of \(size)")
        }
    }

    /// Whether descriptor `index` is for a header buffer.
    func isHeader(_ index: Int) -> Bool { headerStride > 0 && index % headerStride == 0 }

    var descriptorCount: Int { chainCount * chainLength }
    var headerBufferCount: Int {
        headerStride == 0 ? 0 : descriptorCount / headerStride
    }
}

/// One used entry as the device wrote it; none of it is checked.
struct UsedBuffer: BitwiseCopyable {
    /// Names the chain: chain number x chain length.
    var head: Int
    /// Bytes written.
    var byteCount: Int
    /// Header slot, or -1.
    var slot: Int
    /// All of it was written: `byteCount` means nothing.
    var isFull = false
}

extension UsedBuffer {
    /// The first buffer of a split packet, whose length names a slot.
    @inline(__always)
    init(head: Int, naming length: UInt32) {
        self.init(
            head: head, byteCount: UsedLength.byteCount(length), slot: UsedLength.slot(length))
    }
}

/// With IN_ORDER one used entry may complete several chains, up to the one it names; all but that
/// are full. This gives them one by one.
struct UsedBatch: BitwiseCopyable {
    private let chainCount: Int
    private let chainLength: Int
    /// The chain that was offered longest ago.
    private var next = 0
    /// Chains to give before the batch ends.
    private var left = 0
    private var last = UsedBuffer(head: 0, byteCount: 0, slot: -1)

    init(_ geometry: DriverRingGeometry) {
        chainCount = geometry.chainCount
        chainLength = geometry.chainLength
    }

    @inline(__always) var isEmpty: Bool { left == 0 }

    /// Begins with an entry as the device wrote it.
    mutating func begin(_ entry: UsedBuffer) {
        last = entry
        let chain = entry.head / chainLength
        // A chain that is not there ends the batch at once; the caller refuses it.
        left = chain < chainCount ? (chain - next + chainCount) % chainCount + 1 : 1
    }

    /// The next chain; the batch must not be empty.
    mutating func take() -> UsedBuffer {
        left -= 1
        var used = last
        if left > 0 {
            used.head = next * chainLength
            used.isFull = true
            // The slot belongs to the packet that begins with this chain.
            last.slot = -1
        }
        next = next + 1 == chainCount ? 0 : next + 1
        return used
    }
}

/// The driver side of a virtqueue of either direction, the same verbs for both formats: chains of a
/// fixed length, each named by its number x that length.
///
/// A conforming type is a small value of pointers and cursors. One thread at a time.
protocol DriverRing: BitwiseCopyable {
    /// Descriptors of each chain.
    var chainLength: Int { get }
    /// What the device's queue is made over.
    var addresses: VirtqueueAddresses { get }

    /// Lays the ring over guest memory; nothing is posted yet.
    init(_ geometry: DriverRingGeometry, in space: GuestSpace) throws(SetupError)

    /// Writes descriptor `position` of the chain that is posted next, from the first on, linked to
    /// the next. A chain that is not posted after all may be written over.
    /// - Parameter kind: WRITE for a buffer that the device fills, INDIRECT for a table, or 0 for a
    ///   buffer that it reads.
    mutating func write(
        chain: Int, position: Int, address: GuestAddress, byteCount: Int, kind: UInt16)
    /// Descriptors stay as they were written: a chain may be posted again without writing them.
    static var keepsDescriptors: Bool { get }
    /// An entry's length counts even where the device has nothing to write. In a packed ring it
    /// means nothing then.
    static var namesLength: Bool { get }

    /// Puts the chain just written into the ring; the device sees it after `publish`.
    mutating func post(chain: Int)

    /// Shows the device all posted chains.
    /// - Returns: whether the device wants to be kicked.
    mutating func publish() -> Bool

    /// Reads how much the device has used; once per burst.
    mutating func refresh()

    /// Used entry `offset` of those not released yet, or nil if there are no more. The caller asks
    /// in order, for no more entries than there are chains.
    mutating func used(_ offset: Int) -> UsedBuffer?
    /// The same as the device wrote it, in any order.
    func usedEntry(_ offset: Int) -> UsedBuffer?
    /// Whether IN_ORDER was negotiated, and what is left of the last batch.
    var isInOrder: Bool { get }
    var batch: UsedBatch { get set }

    /// Releases the first `count` used entries.
    mutating func release(_ count: Int)

    /// Asks the device to call, or not to.
    func setInterrupts(_ enabled: Bool)

    /// Checks what holds between two calls, in debug builds: the device has no more than fits the
    /// ring.
    func checkInvariants()
}

extension DriverRing {
    @inline(__always)
    mutating func used(_ offset: Int) -> UsedBuffer? {
        if isInOrder { return usedInBatch(offset) }
        return usedEntry(offset)
    }

    @inline(never)
    private mutating func usedInBatch(_ offset: Int) -> UsedBuffer? {
        if batch.isEmpty {
            guard let entry = usedEntry(offset) else { return nil }
            batch.begin(entry)
        }
        return batch.take()
    }
}

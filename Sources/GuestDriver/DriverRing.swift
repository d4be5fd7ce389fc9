import RxPath

/// What a driver's ring is made from.
struct DriverRingGeometry {
    let size: Int
    /// Descriptors of each chain.
    let chainLength: Int
    let features: VirtioFeatures
    /// Used entries name header slots (`usedElement`).
    let namesSlots: Bool

    init(_ configuration: RxDriverConfiguration) throws(RxPathError) {
        size = configuration.ringSize
        chainLength = configuration.shape.chainLength
        features = configuration.allFeatures
        namesSlots = configuration.method == .headerQueue(.usedElement)
        try VirtqueueAddresses.check(size: size, configuration.ring)
        guard chainLength > 0, chainLength <= size else {
            throw RxPathError(
                "a chain of \(chainLength) descriptors does not fit a ring of \(size)")
        }
    }

    /// Chains that can be posted at once.
    var chainCount: Int { size / chainLength }
}

/// One used entry as the device wrote it; none of it is checked.
struct UsedBuffer: BitwiseCopyable {
    /// What names the chain: chain number x chain length.
    var head: Int
    /// Bytes written.
    var byteCount: Int
    /// Header slot, or -1.
    var slot: Int
}

/// The driver side of a receive virtqueue, the same verbs for both formats: chains of a fixed
/// length, each named by its number x that length.
///
/// A conforming type is a small value of pointers and cursors. One thread at a time.
protocol DriverRing: BitwiseCopyable {
    /// Descriptors of each chain.
    var chainLength: Int { get }
    /// What the device's queue is made over.
    var addresses: VirtqueueAddresses { get }

    /// Lays the ring over guest memory; nothing is posted yet.
    init(_ geometry: DriverRingGeometry, in space: GuestSpace) throws(RxPathError)

    /// Writes descriptor `position` of the chain that is posted next, from the first on:
    /// device-writable, linked to the next. A chain that is not posted after all may be written
    /// over.
    mutating func write(chain: Int, position: Int, address: GuestAddress, byteCount: Int)

    /// Puts the chain just written into the ring; the device sees it after `publish`.
    mutating func post(chain: Int)

    /// Shows the device all posted chains.
    /// - Returns: whether the device wants to be kicked.
    mutating func publish() -> Bool

    /// Learns what the device has used; once per burst.
    mutating func refresh()

    /// Used entry `offset` of those not released yet, or nil if there are no more. The caller asks
    /// in order, for no more entries than there are chains.
    func used(_ offset: Int) -> UsedBuffer?

    /// The first `count` used entries are done with.
    mutating func release(_ count: Int)

    /// Asks the device to call, or not to.
    func setInterrupts(_ enabled: Bool)
}

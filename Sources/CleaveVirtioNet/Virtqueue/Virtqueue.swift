import CleaveHost

/// The device side of a virtqueue as placement sees it, the same verbs for every ring format: it
/// takes buffers, fills used entries, and notifies.
///
/// A conforming type is a small bitwise-copyable value (pointers and cursors): a worker copies it
/// into a local for a burst, so that cursors live in registers although stores to guest memory
/// might alias anything, and writes it back at the end. One thread at a time.
///
/// A burst: `refresh` once; `pop` buffers, `addUsed` each with its length; on a shortfall `rewind`;
/// then `publish` once, and `wantsCall` decides on the one notification.
protocol Virtqueue: AvailableBuffers, UsedEntries, QueueNotification {
    /// Bytes of private memory per entry: a used entry's shadow, and a mark.
    static var shadowEntryByteCount: Int { get }

    /// Activates a queue: checks size, alignment and range of its areas.
    /// - Parameter shadow: `shadowEntryByteCount` zeroed bytes for each of `addresses.size`
    ///   entries, owned by the caller.
    // control path
    init(
        _ addresses: VirtqueueAddresses, features: VirtioFeatures, memory: GuestMemory,
        shadow: UnsafeMutableRawPointer
    ) throws(SetupError)

    /// Marks the pages that bursts write.
    associatedtype Log: WriteLog
    var log: Log { get }

    /// Keeps what the queue writes and holds from now on, if it is of a type that does.
    // control path
    mutating func observe(_ log: PageLog, _ writer: InFlightWriter?)

    /// Why the queue is broken, or `.none`.
    var fault: QueueFault { get set }
    /// Where the device continues, for resuming the queue (`VirtqueueAddresses.base`).
    var base: UInt16 { get }

    /// Puts back the buffers of all shadowed entries from number `usedCount` on. Every buffer
    /// popped since then must have its entry.
    mutating func rewind(toUsed usedCount: Int)

    /// Checks what holds between the passes of a burst, in debug builds: of what this side counts
    /// itself, since what a driver writes is checked in any build.
    func checkInvariants()
}

/// Takes the buffers that the driver posted.
protocol AvailableBuffers: BitwiseCopyable {
    /// Nothing was taken yet in this burst, so all of what a burst may cost is left.
    var isFresh: Bool { get }
    /// Empty descriptors passed over in this burst, in buffers that were not empty altogether; a
    /// buffer that was given back and taken again counts twice.
    var emptyCount: Int { get }

    /// Reads how many buffers the driver has posted, if fewer than `count` are known.
    mutating func refresh(_ count: Int)

    /// Pops the next available buffer (a whole chain, every descriptor of it checked) and appends
    /// its pieces to `segments` as far as the first `need` bytes reach.
    mutating func pop(_ need: Int, _ segments: inout SegmentList) -> BufferFetch

    /// Bytes of the first descriptor of the buffer taken last, empty ones aside.
    var firstDescriptorByteCount: Int { get }

    /// Pops up to `count` buffers and shadows their used entries, in order, as long as each is made
    /// of plain descriptors in the region used last and holds what is needed: the fast path.
    ///
    /// Descriptor i of the run gets `needs[i]` bytes and is segment i of those appended; buffer i
    /// has shadowed entry i.
    /// - Returns: how many; the next one is left to `pop`.
    mutating func popRun<Buffer: RunBuffer>(
        _ needs: UnsafePointer<Int>, count: Int, into segments: inout SegmentList,
        _ buffer: Buffer.Type
    ) -> Int
}

/// Fills used entries, which are shadowed until the burst is published.
protocol UsedEntries: BitwiseCopyable {
    /// Entries in the ring: the most buffers a driver can have posted.
    var size: Int { get }
    /// Used entries shadowed in this burst.
    var usedCount: Int { get }

    /// Shadows the used entry of the buffer taken last: `byteCount` bytes were (will be) written.
    mutating func addUsed(_ byteCount: Int)

    /// The length of the entry shadowed last counts, though it is 0: it is to name a slot.
    mutating func keepEmptyLength()

    /// Names header slots in shadowed used entries.
    associatedtype SlotReport: UsedSlotReport
    var slotReport: SlotReport { get }

    /// Head (split) or buffer id (packed) in shadowed entry `index`; below `size`.
    func head(ofUsed index: Int) -> Int
    /// `size` bytes, all 0.
    var headMarks: UnsafeMutablePointer<UInt8> { get }

    /// Writes the shadowed entries to the used ring and makes them visible at once.
    mutating func publish()
}

/// Suppresses and sends notifications.
protocol QueueNotification: BitwiseCopyable {
    /// Asks the driver to kick when it posts buffers, or not to, between two bursts. After asking,
    /// the next burst sees what was posted before the driver could know.
    func setKicks(enabled wanted: Bool)

    /// Whether the driver asked to be called for what the last `publish` made visible.
    func wantsCall() -> Bool
}

extension Virtqueue where Log == NoLog {
    @inline(__always) var log: NoLog { NoLog() }
    // control path
    mutating func observe(_ log: PageLog, _ writer: InFlightWriter?) {}
}

/// Writes header slots into used entries that are shadowed and not yet published.
protocol UsedSlotReport: BitwiseCopyable {
    /// Names header slot `slot` in the length of shadowed entry `index` (`UsedLength`), which is
    /// at most `UsedLength.byteMask`.
    func attach(slot: UInt32, toUsed index: Int)
}

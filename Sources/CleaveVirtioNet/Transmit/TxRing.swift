import CleaveHost
import CleaveRings

/// The device side of a transmit virtqueue, the same verbs for both ring formats: chains are taken
/// in order and given back in order, with length 0.
///
/// As `Virtqueue`: a value that is copied into a local for a burst.
protocol TxRing: BitwiseCopyable {
    // control path
    init(
        _ addresses: VirtqueueAddresses, features: VirtioFeatures, memory: GuestMemory
    ) throws(SetupError)

    /// Keeps what the queue writes and holds from now on, if it is of a type that does.
    // control path
    mutating func observe(_ log: PageLog, _ writer: InFlightWriter?)

    var fault: QueueFault { get }
    var base: UInt16 { get }

    /// Begins a burst of up to `count` chains.
    mutating func begin(_ count: Int)

    /// Pops chains into `run`, at most `count` of them, for as long as each is one plain descriptor
    /// with a packet in it of a kind that `run` is made of.
    mutating func popRun<Kind: TxRunKind>(_ count: Int, _ run: inout TxRun, _ kind: Kind.Type)

    /// Pops the next chain, whatever it is: every descriptor is checked, and pieces are appended to
    /// a copy of `segments` as far as the first `need` bytes reach.
    mutating func pop(_ need: Int, _ segments: inout SegmentList) -> BufferFetch

    /// The chain taken last, as `addUsed` gives it back.
    var taken: TxChain { get }

    /// Writes the used entry of the chain that was taken longest ago.
    mutating func addUsed(_ chain: TxChain)

    /// The same for `count` chains of a ring of them, from `first` on, for as long as each is
    /// plain (`TxChain.isPlain`).
    /// - Returns: how many.
    mutating func addUsedRun(_ chains: UnsafePointer<TxChain>, mask: Int, first: Int, _ count: Int)
        -> Int

    /// Makes what was used visible at once.
    mutating func publish()

    /// Asks the driver to kick when it posts packets, or not to.
    func setKicks(enabled wanted: Bool)

    /// Whether the driver asked to be called for what the last `publish` made visible.
    func wantsCall() -> Bool

    /// Checks what holds after each burst, in debug builds.
    func checkInvariants()
}

extension TxRing {
    // control path
    mutating func observe(_ log: PageLog, _ writer: InFlightWriter?) {}
}

/// A chain that was taken, for as long as its packet is out: 8 bytes.
///
///     tag 16 | descriptors in the ring, minus one 16 | segments stored 31 | dropped 1
struct TxChain: BitwiseCopyable {
    private(set) var word: UInt64

    @inline(__always)
    init(tag: UInt16, listCount: Int = 1) {
        word = UInt64(tag) | UInt64(truncatingIfNeeded: listCount &- 1) &<< 16
    }

    /// Head, or buffer id.
    @inline(__always) var tag: UInt16 { UInt16(truncatingIfNeeded: word) }
    @inline(__always)
    var listCount: Int { Int(UInt16(truncatingIfNeeded: word &>> 16)) &+ 1 }
    @inline(__always) var storedCount: Int { Int(word &>> 32 & 0x7fff_ffff) }
    @inline(__always) var isDropped: Bool { word &>> 63 != 0 }

    /// One descriptor, no segments stored, not dropped.
    @inline(__always) var isPlain: Bool { word &>> 16 == 0 }

    /// The chain of a packet whose segments take `count` places.
    @inline(__always)
    func storing(_ count: Int) -> TxChain {
        var chain = self
        chain.word |= UInt64(truncatingIfNeeded: count) &<< 32
        return chain
    }

    /// The chain of a packet that is not handed out.
    @inline(__always)
    var dropped: TxChain {
        var chain = self
        chain.word |= 1 &<< 63
        return chain
    }
}

/// The kind of packets in a run, known at compile time: a call in the loop, however rare, costs
/// every packet 4 cycles.
protocol TxRunKind {
    static var isPlain: Bool { get }
}

/// Packets without offloads, all in the region of memory that was used last.
enum PlainPackets: TxRunKind {
    static var isPlain: Bool { true }
}

/// Packets in any region, with any offloads that were negotiated.
enum OffloadPackets: TxRunKind {
    static var isPlain: Bool { false }
}

/// Packets taken in a row, each in one piece with its net header in front.
struct TxRun: BitwiseCopyable {
    private let packets: UnsafeMutablePointer<TxPacket>
    private let chains: UnsafeMutablePointer<TxChain>
    private let chainMask: Int
    private let firstChain: Int
    private let netHeaderByteCount: Int
    private let offloads: TxOffloads
    private(set) var count = 0
    private(set) var byteCount = 0

    /// - Parameters:
    ///   - packets: where the packets go.
    ///   - chains: the ring in which their chains lie while they are out, from `firstChain` on.
    @inline(__always)
    init(
        _ packets: UnsafeMutablePointer<TxPacket>, _ chains: UnsafeMutablePointer<TxChain>,
        mask: Int, firstChain: Int, netHeaderByteCount: Int, offloads: TxOffloads
    ) {
        self.packets = packets
        self.chains = chains
        chainMask = mask
        self.firstChain = firstChain
        self.netHeaderByteCount = netHeaderByteCount
        self.offloads = offloads
    }

    /// Bytes of the shortest packet with its net header.
    @inline(__always)
    var least: UInt32 { UInt32(truncatingIfNeeded: netHeaderByteCount &+ 14) }

    /// Adds the packet in `segment`, of at least `least` bytes, if it is of that kind and not one
    /// to be dropped.
    @inline(__always)
    mutating func add<Kind: TxRunKind>(
        _ segment: Segment, tag: UInt16, _ kind: Kind.Type
    ) -> Bool {
        let length = Int(segment.byteCount) &- netHeaderByteCount
        if length > TxPacket.maximumByteCount { return false }
        var request = TxOffload()
        // flags, gsoType: without them the rest of the header means nothing.
        if segment.pointer.loadUnaligned(as: UInt16.self) != 0 {
            if Kind.isPlain { return false }
            guard let asked = offloads.read(segment.pointer, packetByteCount: length) else {
                return false
            }
            request = asked
        }
        (packets + count).initialize(
            to: TxPacket(segment, after: netHeaderByteCount, offload: request))
        chains[(firstChain &+ count) & chainMask] = TxChain(tag: tag)
        count &+= 1
        byteCount &+= length
        return true
    }
}

extension RegionCache {
    /// `translate`, in the last region alone if a run is of plain packets.
    @inline(__always)
    mutating func translate<Kind: TxRunKind>(
        _ address: UInt64, _ byteCount: UInt32, _ kind: Kind.Type
    ) -> UnsafeMutableRawPointer? {
        Kind.isPlain ? last.translate(address, UInt64(byteCount)) : translate(address, byteCount)
    }
}

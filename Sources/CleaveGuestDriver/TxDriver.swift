// The driver of one transmit queue: copies frames into its buffers and posts them, or posts
// prepared buffers again and again, and takes back what the device has sent.

import CleaveHost
import CleaveVirtioNet

/// What a transmit driver is made from.
public struct TxDriverConfiguration: Sendable {
    /// Descriptors in the ring, 1 to 32768: a power of two if it is split.
    public var ringSize: Int
    public var ring: RingFormat
    /// Features beyond those that the other properties imply.
    public var features: VirtioFeatures
    /// Bytes of a piece: a packet has room for `pieceCount` of them.
    public var bufferByteCount: Int
    /// Pieces of every packet, each a descriptor. A packet that could do with fewer is cut into
    /// as many all the same, so that chains have one length.
    public var pieceCount: Int
    /// The virtio-net header has a descriptor of its own, and is not in front of the first piece.
    public var separatesNetHeader: Bool
    /// A packet takes one descriptor of the ring, which refers to a table (INDIRECT_DESC).
    public var usesIndirect: Bool

    public init(
        ringSize: Int, ring: RingFormat = .split, features: VirtioFeatures = [],
        bufferByteCount: Int = 2048, pieceCount: Int = 1, separatesNetHeader: Bool = false,
        usesIndirect: Bool = false
    ) {
        self.ringSize = ringSize
        self.ring = ring
        self.features = features
        self.bufferByteCount = bufferByteCount
        self.pieceCount = pieceCount
        self.separatesNetHeader = separatesNetHeader
        self.usesIndirect = usesIndirect
    }

    /// All features that the device must be made with.
    public var allFeatures: VirtioFeatures {
        usesIndirect ? features.union(.indirectDescriptors) : features
    }
    /// Descriptors of a packet, wherever they lie.
    var descriptorCount: Int { pieceCount + (separatesNetHeader ? 1 : 0) }
    /// Bytes from one packet's memory to the next: the frame begins on a cache line, and the net
    /// header ends before it.
    var packetStride: Int { Self.headerRoom + pieceCount * bufferByteCount }
    static let headerRoom = 64
    var tableByteCount: Int {
        usesIndirect ? SplitLayout.descriptorByteCount * descriptorCount : 0
    }
    /// Longest frame.
    public var frameByteCount: Int { pieceCount * bufferByteCount }

    /// Guest memory that the driver takes: buffers, tables, and the ring with its alignment.
    public var guestByteCount: Int {
        let packets = DriverRingGeometry(self).chainCount
        return packets * (packetStride + tableByteCount) + 32 * ringSize + 4 * 4096
    }

    func check() throws(SetupError) {
        guard bufferByteCount >= 64, bufferByteCount <= 1 << 20, bufferByteCount % 64 == 0 else {
            throw SetupError(
                "send buffers of \(bufferByteCount) bytes: need a multiple of 64, 64 to 1048576")
        }
        // A piece has at least a byte, and the shortest frame 14.
        guard (1...14).contains(pieceCount) else {
            throw SetupError("packets of \(pieceCount) pieces: need 1 to 14")
        }
        guard !usesIndirect || descriptorCount <= ringSize else {
            throw SetupError(
                "an indirect table of \(descriptorCount) descriptors is longer than the ring of "
                    + "\(ringSize)")
        }
    }
}

/// One frame to be sent.
public struct OutgoingFrame {
    public var pointer: UnsafeRawPointer
    public var byteCount: Int
    /// What the device has to do: NEEDS_CSUM, segmentation. `numBuffers` is sent as 0.
    public var offloads: NetHeader

    public init(
        _ pointer: UnsafeRawPointer, byteCount: Int, offloads: NetHeader = NetHeader(numBuffers: 0)
    ) {
        self.pointer = pointer
        self.byteCount = byteCount
        self.offloads = offloads
    }
}

/// Why a frame was not sent.
@frozen
public enum OutgoingDropReason: UInt8, Sendable, CaseIterable {
    /// Shorter than an Ethernet header.
    case runt
    /// Longer than a packet's buffers.
    case tooLong

    /// The name in reports.
    public var name: String { String(describing: self) }
}

/// What a transmit driver has done since it was made.
public struct TxDriverCounters: Sendable, Equatable {
    /// Packets posted, and bytes of their frames.
    public var packets: UInt64 = 0
    public var bytes: UInt64 = 0
    /// Packets that the device gave back.
    public var reaped: UInt64 = 0
    /// Publishes for which the device wanted a kick.
    public var kicks: UInt64 = 0
    /// Frames that were not sent, by reason.
    public var runts: UInt64 = 0
    public var tooLong: UInt64 = 0

    /// Frames not sent for `reason`.
    public func dropped(_ reason: OutgoingDropReason) -> UInt64 {
        switch reason {
        case .runt: runts
        case .tooLong: tooLong
        }
    }
}

/// The driver of one transmit queue. One thread at a time.
///
/// A round: `reap` takes back what the device has sent, `send` copies frames and posts them. A
/// generator calls `prepare` for each buffer once, and then `post` in the place of `send`.
public final class TxDriver: @unchecked Sendable {
    // SAFETY: documented to be used from one thread at a time.

    public let configuration: TxDriverConfiguration
    /// What the device's queue is made over.
    public var virtqueue: VirtqueueAddresses { operations.addresses }
    private let space: GuestSpace
    private let operations: TxDriverOperations
    private let state: UnsafeMutablePointer<TxDriverState>

    /// Cuts ring, buffers and tables from `space`; nothing is posted yet.
    /// - Throws: `SetupError` if the geometry is invalid or memory runs out.
    public init(_ configuration: TxDriverConfiguration, in space: GuestSpace) throws(SetupError) {
        try configuration.check()
        let geometry = DriverRingGeometry(configuration)
        try geometry.check(configuration.ring)
        let buffers = try space.allocate(
            byteCount: geometry.chainCount * configuration.packetStride, alignment: 4096)
        let tables =
            configuration.usesIndirect
            ? try space.allocate(
                byteCount: geometry.chainCount * configuration.tableByteCount, alignment: 16) : nil
        let state = UnsafeMutablePointer<TxDriverState>.allocate(capacity: 1)
        do {
            operations =
                switch configuration.ring {
                case .split: TxDriverOperations(try SplitDriverRing(geometry, in: space), state)
                case .packed: TxDriverOperations(try PackedDriverRing(geometry, in: space), state)
                }
        } catch {
            state.deallocate()
            throw error
        }
        state.initialize(to: TxDriverState(configuration, geometry, buffers, tables: tables))
        self.configuration = configuration
        self.space = space
        self.state = state
        operations.setInterrupts(false)
    }

    deinit {
        operations.free()
        state.pointee.free()
        state.deallocate()
    }

    /// Packets that the ring holds, each with a buffer of its own.
    public var bufferCount: Int { state.pointee.chainCount }
    /// Buffers that may be posted.
    public var freeCount: Int { state.pointee.freeCount }
    /// Packets that the device has.
    public var postedCount: Int { state.pointee.chainCount - state.pointee.freeCount }

    /// Copies frames into free buffers, oldest first, and posts them. A frame that no buffer holds,
    /// or that is none, is dropped and counted.
    /// - Returns: frames taken, those that were dropped included: fewer than `count` only if there
    ///   is no free buffer for the next one. And whether the device wants a kick.
    public func send(
        _ frames: UnsafePointer<OutgoingFrame>, count: Int
    ) -> (taken: Int, wantsKick: Bool) {
        operations.send(frames, count)
    }

    /// Copies `frame` into buffer `index`, below `bufferCount`, for `post`.
    /// - Throws: `SetupError` if the device has the buffer, or the frame is of an invalid length.
    public func prepare(_ index: Int, _ frame: OutgoingFrame) throws(SetupError) {
        guard (0..<bufferCount).contains(index) else {
            throw SetupError("buffer \(index) is not one of \(bufferCount)")
        }
        guard !state.pointee.isPosted(index) else {
            throw SetupError("buffer \(index) is the device's until it is reaped")
        }
        guard state.pointee.dropReason(frame) == nil else {
            throw SetupError(
                "a frame of \(frame.byteCount) bytes: need 14 to \(configuration.frameByteCount)")
        }
        operations.prepare(index, frame)
    }

    /// Posts up to `count` free buffers, those first that came back first, with the frames that
    /// were last copied into them. Ends before a buffer into which none ever was.
    /// - Returns: packets posted, and whether the device wants a kick.
    public func post(_ count: Int) -> (posted: Int, wantsKick: Bool) { operations.post(count) }

    /// Takes back up to `count` buffers that the device is done with.
    /// - Returns: how many.
    @discardableResult
    public func reap(_ count: Int = .max) -> Int { operations.reap(count) }

    /// Asks the device to call after the next used buffer, or never.
    public func setInterrupts(_ enabled: Bool) { operations.setInterrupts(enabled) }

    /// A snapshot; on the driver's thread.
    public var counters: TxDriverCounters { state.pointee.counters }
    /// The first wrong thing the device said, or `.none`; reaping stops there.
    public var fault: DriverFault { state.pointee.fault }
}

/// The operations of a `TxDriver`, as those of an `RxDriver` are made.
private struct TxDriverOperations {
    let send: (UnsafePointer<OutgoingFrame>, Int) -> (taken: Int, wantsKick: Bool)
    let prepare: (Int, OutgoingFrame) -> Void
    let post: (Int) -> (posted: Int, wantsKick: Bool)
    let reap: (Int) -> Int
    let setInterrupts: (Bool) -> Void
    let addresses: VirtqueueAddresses
    /// Frees the ring's state, after the last use of the others.
    let free: () -> Void

    /// Called with a concrete ring, so that the closures are specialised for it.
    @inline(__always)
    init<Ring: DriverRing>(_ ring: Ring, _ state: UnsafeMutablePointer<TxDriverState>) {
        let memory = UnsafeMutablePointer<Ring>.allocate(capacity: 1)
        memory.initialize(to: ring)
        addresses = ring.addresses
        // Local functions, not closures: profilers show their names.
        func sendFrames(
            _ frames: UnsafePointer<OutgoingFrame>, _ count: Int
        ) -> (taken: Int, wantsKick: Bool) {
            defer { memory.pointee.checkInvariants() }
            return state.pointee.send(frames, count, memory)
        }
        func prepareBuffer(_ index: Int, _ frame: OutgoingFrame) {
            state.pointee.prepare(index, frame, memory)
        }
        func postBuffers(_ count: Int) -> (posted: Int, wantsKick: Bool) {
            defer { memory.pointee.checkInvariants() }
            return state.pointee.post(count, memory)
        }
        func reapBuffers(_ count: Int) -> Int {
            defer { memory.pointee.checkInvariants() }
            return state.pointee.reap(count, memory)
        }
        send = sendFrames
        prepare = prepareBuffer
        post = postBuffers
        reap = reapBuffers
        setInterrupts = { memory.pointee.setInterrupts($0) }
        free = { memory.deallocate() }
    }
}

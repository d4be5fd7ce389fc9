// The driver of one receive queue: posts buffers, harvests packets, checks what the device says,
// retires header slots. Benchmarks, tests and fuzzers all drive the device through it.

import CleaveHost
import CleaveVirtioNet

/// What a driver is made from.
public struct RxDriverConfiguration: Sendable {
    /// Descriptors in the ring, 1 to 32768: a power of two if it is split.
    public var ringSize: Int
    public var ring: RingFormat
    public var shape: BufferShape
    public var method: RxMethod
    /// The queue that its packets' headers come in; shared with the drivers of other RQs. Method D
    /// needs one, the other methods refuse one.
    public var headerQueue: DriverHeaderQueue?
    /// The ring by which this RQ's slots go back, if each RQ has one, from 0 on.
    public var returnRing = 0
    /// Features beyond those that the shape implies.
    public var features: VirtioFeatures
    /// Data buffers beyond those the ring holds, for applications that keep some.
    public var spareBuffers: Int
    /// Most packets harvested at once.
    public var burst: Int
    /// Bytes of the buffers that are meant for headers: the first descriptor of a chain (method A),
    /// every other buffer (method C). A multiple of 64.
    public var headerBufferByteCount: Int
    /// Method D with report `netHeader`: a descriptor of just the bytes that precede a packet's
    /// data, the virtio-net header and the split report, leads each chain, so that payload begins
    /// where its buffer begins. The other methods refuse it.
    public var alignsPayload: Bool

    public init(
        ringSize: Int, ring: RingFormat = .split, shape: BufferShape, method: RxMethod,
        headerQueue: DriverHeaderQueue? = nil, features: VirtioFeatures = [],
        spareBuffers: Int = 0, burst: Int = 32, headerBufferByteCount: Int = 128,
        alignsPayload: Bool = false
    ) {
        self.ringSize = ringSize
        self.ring = ring
        self.shape = shape
        self.method = method
        self.headerQueue = headerQueue
        self.features = features
        self.spareBuffers = spareBuffers
        self.burst = burst
        self.headerBufferByteCount = headerBufferByteCount
        self.alignsPayload = alignsPayload
    }

    /// All features that the device must be made with.
    public var allFeatures: VirtioFeatures { features.union(shape.features) }

    /// Guest memory that the driver takes: buffers, and the ring with its alignment.
    public var guestByteCount: Int { bufferMemoryByteCount + 32 * ringSize + 3 * 4096 }
    /// Guest memory in data buffers.
    public var dataByteCount: Int {
        let geometry = DriverRingGeometry(self)
        let posted = geometry.descriptorCount - geometry.headerBufferCount
        return (posted + spareBuffers) * shape.bufferByteCount
    }
    /// Guest memory in header buffers that are posted among the data buffers: of methods A and C,
    /// and those that align payload.
    public var headerByteCount: Int {
        DriverRingGeometry(self).headerBufferCount * headerBufferStride
    }
    /// Bytes of a descriptor that aligns payload; 0 if there is none.
    var alignmentByteCount: Int {
        guard alignsPayload else { return 0 }
        return NetHeaderLayout(hashReport: allFeatures.contains(.hashReport))
            .byteCountWithSplitReport
    }
    /// Each chain begins with a header buffer.
    var hasLeadDescriptor: Bool { method == .headerDescriptor || alignmentByteCount > 0 }
    /// Bytes from one header buffer to the next.
    var headerBufferStride: Int { alignmentByteCount > 0 ? 64 : headerBufferByteCount }
    var bufferMemoryByteCount: Int { dataByteCount + headerByteCount }

    func check() throws(SetupError) {
        try shape.check()
        guard burst > 0, spareBuffers >= 0 else {
            throw SetupError("driver burst must be positive and spare buffers not negative")
        }
        if method.needsHeaderQueue, headerQueue == nil {
            throw SetupError("method D needs a header queue")
        }
        if !method.needsHeaderQueue, headerQueue != nil {
            throw SetupError(
                "a header queue is given, and method \(method.kind.rawValue) has no slots: "
                    + "method D has")
        }
        if alignsPayload, method != .headerQueue(.netHeader) {
            throw SetupError("alignsPayload needs method D with report netHeader")
        }
        if method.needsMergeableBuffers, !shape.features.contains(.mergeableBuffers) {
            throw SetupError("methods B and C need mergeable buffers")
        }
        guard headerBufferByteCount >= 64, headerBufferByteCount <= 1 << 20,
            headerBufferByteCount % 64 == 0
        else {
            throw SetupError(
                "header buffers of \(headerBufferByteCount) bytes: need a multiple of 64, "
                    + "64 to 1048576")
        }
    }
}

/// The driver of one receive queue. One thread at a time.
///
/// A round: `refill` posts every free buffer, `harvest` finds packets, the application looks at
/// `packets` and `pieces`, `finish` retires slots and takes the buffers back or hands them over.
public final class RxDriver: @unchecked Sendable {
    // SAFETY: documented to be used from one thread at a time.

    public let configuration: RxDriverConfiguration
    /// What the device's queue is made over.
    public var virtqueue: VirtqueueAddresses { operations.addresses }
    private let space: GuestSpace
    private let operations: RxDriverOperations
    let state: UnsafeMutablePointer<RxDriverState>

    /// Cuts ring and buffers from `space`; nothing is posted yet.
    /// - Throws: `SetupError` if the geometry is invalid or memory runs out.
    public init(_ configuration: RxDriverConfiguration, in space: GuestSpace) throws(SetupError) {
        try configuration.check()
        let geometry = DriverRingGeometry(configuration)
        try geometry.check(configuration.ring)
        let buffers = try space.allocate(
            byteCount: configuration.bufferMemoryByteCount, alignment: 4096)
        let state = UnsafeMutablePointer<RxDriverState>.allocate(capacity: 1)
        do {
            operations =
                switch configuration.ring {
                case .split: RxDriverOperations(try SplitDriverRing(geometry, in: space), state)
                case .packed: RxDriverOperations(try PackedDriverRing(geometry, in: space), state)
                }
        } catch {
            state.deallocate()
            throw error
        }
        state.initialize(to: RxDriverState(configuration, geometry, buffers))
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

    /// Posts every free chain for which there are buffers.
    /// - Returns: chains posted, and whether the device wants a kick.
    @discardableResult
    public func refill() -> (posted: Int, wantsKick: Bool) {
        defer { state.pointee.checkInvariants() }
        return operations.refill()
    }

    /// Finds up to a burst of packets. Call `finish` before the next harvest.
    /// - Returns: how many.
    public func harvest() -> Int {
        defer { state.pointee.checkInvariants() }
        return operations.harvest()
    }

    /// The harvested packets.
    public var packets: UnsafeBufferPointer<ReceivedPacket> {
        UnsafeBufferPointer(start: state.pointee.packets, count: state.pointee.packetCount)
    }
    /// The pieces that the packets refer to.
    public var pieces: UnsafeBufferPointer<ReceivedSegment> {
        UnsafeBufferPointer(start: state.pointee.pieces, count: state.pointee.pieceCount)
    }

    /// Retires the harvested packets' slots.
    public func retire() { state.pointee.retire() }

    /// Forgets the harvested packets' slots without retiring them: a reset of the header queue
    /// gives all slots back at once.
    public func forgetSlots() { state.pointee.slotRangeCount = 0 }

    /// Ends the burst: chains are free again, and so are their buffers unless `taking`.
    /// - Parameter taking: the application keeps the buffers, and `giveBack` returns the oldest
    ///   first; spare ones replace them, as far as there are any.
    public func finish(taking: Bool = false) {
        state.pointee.finish(taking: taking)
        state.pointee.checkInvariants()
    }

    /// Returns the `count` buffers that were taken longest ago.
    public func giveBack(_ count: Int) { state.pointee.giveBack(count) }
    /// Buffers that the application holds.
    public var takenCount: Int { state.pointee.takenCount }

    /// Copies the harvested packets' data, one after the other, to `target`.
    /// - Parameters:
    ///   - target: the application's buffer, `byteCount` bytes.
    ///   - byteCount: copying goes on at the start of the buffer when a packet does not fit.
    public func copyOut(to target: UnsafeMutableRawPointer, byteCount: Int) {
        state.pointee.copyOut(to: target, byteCount: byteCount)
    }

    /// Asks the device to call after the next used buffer, or never.
    public func setInterrupts(_ enabled: Bool) { operations.setInterrupts(enabled) }

    /// Packets harvested since creation.
    public var harvestedCount: UInt64 { state.pointee.harvestedCount }
    /// The first wrong thing the device said, or `.none`; harvesting stops there.
    public var fault: DriverFault { state.pointee.fault }
    /// Descriptors posted since creation.
    public var postedDescriptorCount: UInt64 { state.pointee.postedDescriptorCount }
    /// Bytes of the buffers posted since creation.
    public var postedByteCount: UInt64 { state.pointee.postedByteCount }
    /// Header slots retired since creation.
    public var retiredSlotCount: UInt64 { state.pointee.retiredSlotCount }
    /// Bytes between the start of the buffer in which a piece lies and the piece.
    public func bufferOffset(of piece: ReceivedSegment) -> Int {
        state.pointee.bufferOffset(
            of: piece.pointer, dataBuffer: configuration.shape.bufferByteCount,
            headerBuffer: configuration.headerBufferStride)
    }
    /// Buffers used with length 0.
    public var emptyBufferCount: UInt64 { state.pointee.emptyBufferCount }
}

// What the device says of a packet beyond its bytes: read when asked for, so that a harvest pays
// nothing for it.
extension RxDriver {
    /// The virtio-net header of one of `packets`: checksum state, segmentation, hash. Its fields
    /// are unchecked; `hdrLen` is a hint, except for a packet that is split.
    public func netHeader(of packet: ReceivedPacket) -> NetHeader {
        NetHeader(load: packet.netHeader, byteCount: state.pointee.netHeaderByteCount)
    }
}

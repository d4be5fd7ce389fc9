// control path
//
// The virtqueue by which a driver sets its header queue up: it posts one chain, and the device
// keeps that as long as the header queue is in use.
//
// A chain that is kept is not used, so the ring stays where it was: a device that takes the ring
// over, after a change of memory or a restart, finds the chain there again. Later chains wait.

import CleaveHost
import CleaveRings

/// One set-up queue. One thread at a time.
public final class SetupQueue: @unchecked Sendable {
    // SAFETY: documented to be used from one thread at a time.

    /// Pieces of a request's fields and areas: any more is no request.
    private static let maximumSegments = 64

    private let configuration: ControlQueueConfiguration
    private var ring: any ControlRing
    private let log: PageLog?
    private let call: NotificationDescriptor?
    private let segments: UnsafeMutablePointer<Segment>
    /// The chain that was taken last and is not given back.
    private var held: Held?

    private struct Held {
        let chain: ControlChain
        /// 256 bytes to write, if it has them: where a refusal is told.
        let control: UnsafeMutableRawPointer?
    }

    /// Checks a configuration and makes the queue, which asks to be kicked.
    public init(_ configuration: ControlQueueConfiguration) throws(SetupError) {
        self.configuration = configuration
        call = try .given(configuration.callDescriptor, for: .call)
        (ring, log) = try configuration.makeRing()
        segments = .allocate(capacity: Self.maximumSegments)
    }

    deinit { segments.deallocate() }

    /// Takes the next request, unless one is held; it is held until it is refused.
    /// - Returns: the request, with its areas; why it is none, and the caller refuses it; nil if
    ///   there is none.
    public func take() -> Result<HeaderQueueRequest, HeaderQueueRefusal>? {
        guard held == nil, ring.fault == .none else { return nil }
        var list = SegmentList(base: segments, capacity: Self.maximumSegments)
        guard let chain = ring.pop(&list) ?? nextAfterArming(&list) else { return nil }
        var fields: [UInt8] = []
        var areas: [Segment] = []
        var left = chain.readableByteCount
        let isReadable = left == HeaderQueueRequest.byteCount
        for index in 0..<list.count {
            let segment = list.base[index]
            if left <= 0 {
                areas.append(segment)
            } else if isReadable {
                fields += UnsafeRawBufferPointer(
                    start: segment.pointer, count: Int(segment.byteCount))
            }
            left -= Int(segment.byteCount)
        }
        held = Held(chain: chain, control: Self.control(areas.first))
        guard let request = HeaderQueueRequest(fields: fields) else { return .failure(.chain) }
        do throws(HeaderQueueRefusal) { return .success(try place(request, areas)) } catch {
            return .failure(error)
        }
    }

    /// With an event index the driver kicks once for each index that it is shown: it is shown the
    /// next one, and what was posted before it saw that is looked for once.
    private func nextAfterArming(_ list: inout SegmentList) -> ControlChain? {
        ring.setKicks(enabled: true)
        return ring.pop(&list)
    }

    private static func control(_ area: Segment?) -> UnsafeMutableRawPointer? {
        guard let area, area.byteCount >= UInt32(HeaderQueueLayout.controlByteCount),
            UInt(bitPattern: area.pointer) % 4 == 0
        else { return nil }
        return area.pointer
    }

    /// The request with the addresses of its areas, which are as large as its fields say.
    private func place(
        _ request: HeaderQueueRequest, _ areas: [Segment]
    ) throws(HeaderQueueRefusal) -> HeaderQueueRequest {
        let wanted = try request.areaByteCounts()
        guard areas.map({ Int($0.byteCount) }) == wanted else {
            // As many bytes, but otherwise cut: an area over a border between regions.
            let isCut = areas.reduce(0) { $0 + Int($1.byteCount) } == wanted.reduce(0, +)
            throw isCut ? .memory : .chain
        }
        var addresses: [GuestAddress] = []
        for area in areas {
            guard let address = configuration.memory.address(of: area.pointer) else {
                throw .memory
            }
            addresses.append(address)
        }
        var placed = request
        placed.control = addresses[0]
        placed.slots = addresses[1]
        if addresses.count > 2 { placed.returnRing = addresses[2] }
        return placed
    }

    /// Tells the driver why the request that is held is refused, where it can be told, and gives
    /// the chain back.
    /// - Returns: events for the owner.
    public func refuse(_ reason: HeaderQueueRefusal) -> QueueEvents {
        guard let held else { return [] }
        if let control = held.control {
            SharedWord32(control + HeaderQueueLayout.reasonOffset).store(reason.rawValue)
            // [H8 release -> the driver, who may wait for it: the reason]
            SharedWord32(control + HeaderQueueLayout.statusOffset).storeRelease(
                reason == .lost ? HeaderQueueStatus.broken : HeaderQueueStatus.refused)
            log?.mark(
                control + HeaderQueueLayout.headOffset,
                HeaderQueueLayout.controlByteCount - HeaderQueueLayout.headOffset)
        }
        self.held = nil
        // The release of the used index covers both words.
        let wantsCall = ring.use(held.chain, byteCount: 0)
        ring.setKicks(enabled: true)
        guard wantsCall else { return [] }
        guard let call else { return .call }
        return call.sender.send() ? [] : .callLost
    }

    /// Whether a request is held.
    public var isHolding: Bool { held != nil }
    /// Where the queue is resumed: at the chain that is held.
    public var base: UInt16 { ring.base }
    /// Why the driver's virtqueue is broken, or `.none`.
    public var fault: QueueFault { ring.fault }
}

extension GuestMemory {
    /// The guest's address of a byte in one of its regions.
    fileprivate func address(of pointer: UnsafeMutableRawPointer) -> GuestAddress? {
        for index in 0..<regionCount {
            let region = regions[index]
            let address = UInt64(UInt(bitPattern: pointer)) &- region.hostDelta
            if region.translate(address, 1) == pointer { return GuestAddress(address) }
        }
        return nil
    }
}

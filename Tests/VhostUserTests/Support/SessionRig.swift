// A session and a peer that writes to its socket byte by byte.
import CCleaveHost
import CleaveHost
import CleaveTestSupport
import CleaveVirtioNet
import Glibc
import Testing

@testable import CleaveVhostUser

/// Memory of a guest, as a file.
final class SharedMemory {
    static let guestBase: UInt64 = 0x1_0000_0000
    static let userBase: UInt64 = 0x7f00_0000_0000
    static let byteCount = 1 << 20

    let descriptor: Int32

    /// - Parameter sealed: its size cannot change.
    init(byteCount: Int = SharedMemory.byteCount, sealed: Bool = true) {
        if sealed {
            descriptor = cleave_memfd("vhost-user-test", byteCount, 0)
        } else {
            let peers = PeerDescriptors()
            descriptor = dup(peers.memory())
            ftruncate(descriptor, byteCount)
        }
    }

    deinit { close(descriptor) }

    static func region(
        guest: UInt64 = guestBase, size: UInt64 = UInt64(byteCount), user: UInt64 = userBase,
        offset: UInt64 = 0
    ) -> RegionDescription {
        RegionDescription(guestAddress: guest, size: size, userAddress: user, fileOffset: offset)
    }
}

final class SessionRig {
    let device: RecordingDevice
    let session: BackendSession
    private(set) var far: Int32
    let memory = SharedMemory()
    /// An eventfd for kicks and calls.
    let event: Int32
    let clock = Clock()

    final class Clock { var now: UInt64 = 1 }

    init(
        _ device: RecordingDevice = RecordingDevice(),
        protocolFeatures: ProtocolFeatures = .offered, features: UInt64? = 1 << 32
    ) {
        var ends: [Int32] = [0, 0]
        socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0, &ends)
        self.device = device
        far = ends[1]
        event = cleave_eventfd()
        session = BackendSession(
            descriptor: ends[0], device: device, clock: { [clock] in clock.now })
        if !protocolFeatures.isEmpty {
            request(.setProtocolFeatures, PayloadWriter.number(protocolFeatures.rawValue))
        }
        if let features { request(.setFeatures, PayloadWriter.number(features | 1 << 30)) }
        _ = device.take()
    }

    /// A session with all requests that there are.
    /// - Parameter agreed: those that are agreed on; all, by default.
    static func offeringAll(
        _ agreed: ProtocolFeatures = .offered.union(.headerQueue)
    ) -> SessionRig {
        SessionRig(
            RecordingDevice(features: 1 << 32 | 1 << 17 | 1 << 58), protocolFeatures: agreed)
    }

    deinit {
        session.close()
        hangUp()
        close(event)
    }

    func hangUp() {
        if far >= 0 { close(far) }
        far = -1
    }

    // MARK: bytes

    /// Sends bytes as they are.
    @discardableResult
    func send(_ bytes: [UInt8], _ descriptors: [Int32] = []) -> Int {
        Int(cleave_socket_send(far, bytes, bytes.count, descriptors, Int32(descriptors.count)))
    }

    func send(
        _ request: UInt32, _ payload: [UInt8] = [], _ descriptors: [Int32] = [],
        flags: UInt32 = 9
    ) {
        send(Message(request: request, flags: flags, payload: payload).bytes, descriptors)
    }

    /// What arrived from the session, message by message.
    func answers() -> [Message] {
        var bytes: [UInt8] = []
        var piece = [UInt8](repeating: 0, count: 65536)
        while true {
            let count = recv(far, &piece, piece.count, Int32(MSG_DONTWAIT))
            if count <= 0 { break }
            bytes += piece[..<count]
        }
        var messages: [Message] = []
        while bytes.count >= 12 {
            var reader = PayloadReader(bytes)
            let (request, flags) = (reader.next(UInt32.self), reader.next(UInt32.self))
            let size = Int(reader.next(UInt32.self))
            messages.append(
                Message(request: request, flags: flags, payload: Array(bytes[12..<12 + size])))
            bytes.removeFirst(12 + size)
        }
        return messages
    }

    // MARK: outcomes

    /// What became of what was sent: `ok`, `answer` with a payload, `REJ(name)`, `CLOSE(name)`,
    /// `nothing`. Anything else that happened is in it, too, so that no comparison passes over it.
    func outcome(_ send: () -> Void) -> String {
        let before = session.counters
        send()
        let result = session.service()
        let risen = session.counters.filter {
            $0.key != "messages" && $0.value > before[$0.key] ?? 0
        }
        .map(\.key).sorted().joined(separator: " ")
        if result != .open { return "CLOSE(\(risen))" }
        let replies = answers()
        guard let reply = replies.first else {
            return risen.isEmpty ? "nothing" : "silent \(risen)"
        }
        if replies.count > 1 { return "\(replies.count) replies" }
        if reply.flags != 5 { return "flags \(reply.flags)" }
        let isNumber = reply.payload.count == 8
        if !risen.isEmpty {
            let isRefused =
                reply.payload.isEmpty || isNumber && reply.payload != PayloadWriter.number(0)
            return isRefused ? "REJ(\(risen))" : "accepted \(risen)"
        }
        return isNumber && reply.payload == PayloadWriter.number(0) ? "ok" : "answer"
    }

    @discardableResult
    func request(
        _ request: FrontendRequest, _ payload: [UInt8] = [], _ descriptors: [Int32] = [],
        flags: UInt32 = 9
    ) -> String {
        outcome { send(request.rawValue, payload, descriptors, flags: flags) }
    }

    // MARK: what every front-end sends

    @discardableResult
    func setMemory(_ regions: [RegionDescription], _ descriptors: [Int32]? = nil) -> String {
        request(
            .setMemoryTable, Self.table(regions),
            descriptors ?? regions.map { _ in memory.descriptor })
    }

    static func table(_ regions: [RegionDescription], count: Int? = nil) -> [UInt8] {
        var writer = PayloadWriter()
        writer.append(UInt32(count ?? regions.count))
        writer.append(UInt32(0))
        for region in regions { region.append(to: &writer) }
        return writer.bytes
    }

    static func single(_ region: RegionDescription) -> [UInt8] {
        var writer = PayloadWriter()
        writer.append(UInt64(0))
        region.append(to: &writer)
        return writer.bytes
    }

    @discardableResult
    func state(_ kind: FrontendRequest, _ index: UInt32, _ number: UInt32) -> String {
        request(kind, VringState(index: index, number: number).bytes)
    }

    static func address(
        _ index: UInt32, at offset: UInt64 = 0, descriptors: UInt64? = nil,
        driver: UInt64? = nil, device: UInt64? = nil
    ) -> VringAddress {
        let base = SharedMemory.userBase + offset
        return VringAddress(
            index: index, descriptorArea: descriptors ?? base,
            driverArea: driver ?? base + 0x1000, deviceArea: device ?? base + 0x2000)
    }

    @discardableResult
    func setAddress(_ address: VringAddress) -> String {
        request(.setVringAddress, address.bytes)
    }

    @discardableResult
    func setDescriptor(_ kind: FrontendRequest, _ index: UInt64, _ descriptor: Int32?) -> String {
        request(
            kind, PayloadWriter.number(index | (descriptor == nil ? 1 << 8 : 0)),
            descriptor.map { [$0] } ?? [])
    }

    /// Brings one ring to life.
    func startRing(_ index: UInt32 = 0, size: UInt32 = 64, base: UInt32? = nil) {
        if session.table == nil { setMemory([SharedMemory.region()]) }
        state(.setVringNum, index, size)
        if let base { state(.setVringBase, index, base) }
        setAddress(Self.address(index, at: UInt64(index) * 0x4000))
        setDescriptor(.setVringCall, UInt64(index), event)
        setDescriptor(.setVringKick, UInt64(index), event)
        state(.setVringEnable, index, 1)
    }

    func base(of index: UInt32) -> UInt32? {
        send(11, VringState(index: index, number: 0).bytes, flags: 1)
        _ = session.service()
        return answers().first.map { VringState($0.payload).number }
    }
}

import CCleaveHost
import CleaveGuestDriver
import CleaveHost
import CleaveVhostUser
import CleaveVirtioNet
import Glibc
import Testing

/// A guest in this process whose receive queues share a header queue, connected to a port's real
/// socket.
final class SplitGuest {
    /// How the header queue is set up.
    enum Way: CaseIterable {
        /// By messages of the front-end.
        case messages
        /// By a chain in the set-up ring, as a guest's driver does.
        case chain
        /// Not at all.
        case none
    }

    struct Shape {
        var ring = RingFormat.split
        var pairs = 1
        var slotReturn = SlotReturn.tail
        var slotCount = 256
        var report = HeaderReport.usedLength
        var features: VirtioFeatures = []
        var bufferByteCount = 2048
        var ringSize = 64
        /// Longest frame that it sends.
        var sendByteCount = 2048
        var sendFeatures: VirtioFeatures = []
        var setupRingSize = 8
    }

    let shape: Shape
    private(set) var rx: [RxDriver] = []
    private(set) var tx: TxDriver
    private(set) var headers: DriverHeaderQueue
    let space: GuestSpace
    private(set) var setup: SetupRing
    private(set) var front: FrontendSession?
    private let kicks: [LocalGuest.EventDescriptorBox]
    private let calls: [LocalGuest.EventDescriptorBox]

    init(_ shape: Shape) throws {
        self.shape = shape
        space = try GuestSpace(byteCount: 16 << 20, pages: .small, shared: true)
        headers = try Self.headers(shape, space)
        tx = try Self.sender(shape, space)
        setup = try SetupRing(shape.ring, size: shape.setupRingSize, in: space)
        kicks = try (0..<2 * shape.pairs + 2).map { _ in try LocalGuest.EventDescriptorBox() }
        calls = try kicks.map { _ in try LocalGuest.EventDescriptorBox() }
        try makeReceivers()
    }

    private static func headers(
        _ shape: Shape, _ space: GuestSpace
    ) throws -> DriverHeaderQueue {
        try DriverHeaderQueue(
            slotSize: 128, slotCount: shape.slotCount, slotReturn: shape.slotReturn,
            rqCount: shape.pairs, in: space)
    }

    private static func sender(_ shape: Shape, _ space: GuestSpace) throws -> TxDriver {
        try TxDriver(
            TxDriverConfiguration(
                ringSize: 64, ring: shape.ring, features: shape.sendFeatures,
                bufferByteCount: shape.sendByteCount), in: space)
    }

    private func makeReceivers() throws {
        rx = try (0..<shape.pairs).map { pair in
            var configuration = RxDriverConfiguration(
                ringSize: shape.ringSize, ring: shape.ring,
                shape: .mergeable(bufferByteCount: shape.bufferByteCount),
                method: .headerQueue(shape.report), headerQueue: headers,
                features: shape.features)
            configuration.returnRing = shape.slotReturn == .groups ? pair : 0
            return try RxDriver(configuration, in: space)
        }
    }

    /// The driver goes and comes again as under User-Mode Linux: rings are disabled, last first,
    /// and new ones told, over one connection.
    func probeAgain() throws {
        let front = try #require(self.front)
        let rings = [1] + rx.indices.map { 2 * $0 } + [setupRing]
        for index in rings.sorted().reversed() { try front.setEnabled(index, false) }
        headers = try Self.headers(shape, space)
        tx = try Self.sender(shape, space)
        setup = try SetupRing(shape.ring, size: shape.setupRingSize, in: space)
        try makeReceivers()
        try startRings(.chain, bases: nil)
    }

    /// Number of the set-up ring: behind the control queue.
    var setupRing: Int { 2 * shape.pairs + 1 }

    /// Connects to the port that listens at `path`, sets the header queue up, and only then posts
    /// buffers: a packet before that would come without a report.
    /// - Parameters:
    ///   - bases: where the rings go on; nil for fresh ones.
    ///   - patience: nanoseconds that the set-up may take.
    func connect(
        _ path: String, _ way: Way, bases: [UInt16]? = nil, patience: UInt64 = 10_000_000_000
    ) throws {
        let socket = cleave_unix_connect(path)
        try #require(socket >= 0, "\(path): \(socket)")
        let front = FrontendSession(descriptor: socket)
        self.front = front
        var wanted = rx[0].configuration.allFeatures.union(tx.configuration.allFeatures).rawValue
        wanted |= 1 << 32 | 1 << 17 | (shape.ring == .packed ? 1 << 34 : 0)
        wanted |= shape.pairs > 1 ? 1 << 22 : 0
        if way == .chain { wanted |= 1 << 58 }
        try front.handshake(wanting: wanted)
        if way != .none { #expect(front.features == wanted) }
        try sendMemory()
        try startRings(way, bases: bases, patience: patience)
    }

    private func startRings(
        _ way: Way, bases: [UInt16]?, patience: UInt64 = 10_000_000_000
    ) throws {
        let front = try #require(self.front)
        var rings = rx.enumerated().map { (2 * $0, $1.virtqueue) } + [(1, tx.virtqueue)]
        if way == .chain { rings.append((setupRing, setup.addresses)) }
        for (number, (index, virtqueue)) in rings.enumerated() {
            var virtqueue = virtqueue
            if let bases { virtqueue.base = bases[number] }
            try front.setRing(
                index, virtqueue, kick: kicks[index].event.fileDescriptor,
                call: calls[index].event.fileDescriptor)
            try front.setEnabled(index, true)
        }
        if bases == nil {
            if way != .none { headers.expectSetUp() }
            switch way {
            case .messages: try front.setHeaderQueue(request)
            case .chain: postRequest()
            case .none: return
            }
        } else if way == .messages {
            try front.setHeaderQueue(request)
        }
        guard waitUntil(patience, { headers.isWorking }) else {
            throw HostError("header queue", code: 0, "is not set up")
        }
        for driver in rx { driver.refill() }
    }

    var request: HeaderQueueRequest {
        HeaderQueueRequest(headers.layout, report: shape.report, rqs: 0..<shape.pairs)
    }

    /// Ends the device's use of the header queue.
    func stopHeaderQueue(_ way: Way) throws {
        if way == .chain { try enableSetup(false) } else { try front?.stopHeaderQueue() }
    }

    /// Enables the set-up ring, or disables it.
    func enableSetup(_ isEnabled: Bool) throws {
        try front?.setEnabled(setupRing, isEnabled)
    }

    /// Stops one receive ring, and starts it again where it stood.
    func restart(receiver: Int) throws {
        let front = try #require(self.front)
        var virtqueue = rx[receiver].virtqueue
        virtqueue.base = try front.stopRing(2 * receiver, shape.ring)
        try front.setRing(
            2 * receiver, virtqueue, kick: kicks[2 * receiver].event.fileDescriptor,
            call: calls[2 * receiver].event.fileDescriptor)
    }

    /// Starts the control ring.
    func startControl() throws -> SetupRing {
        let control = try SetupRing(shape.ring, in: space)
        let index = 2 * shape.pairs
        try front?.setRing(
            index, control.addresses, kick: kicks[index].event.fileDescriptor,
            call: calls[index].event.fileDescriptor)
        try front?.setEnabled(index, true)
        return control
    }

    /// Tells the device how many pairs are in use.
    /// - Returns: whether it agrees.
    func use(pairs: Int, _ control: SetupRing) throws -> Bool {
        let answer = try space.allocate(byteCount: 1)
        answer.pointer.storeBytes(of: 0xee, as: UInt8.self)
        control.post([4, 0, UInt8(pairs), 0], [(answer.address, 1)])
        kicks[2 * shape.pairs].event.signal()
        return waitUntil { control.isReturned } && answer.pointer.load(as: UInt8.self) == 0
    }

    func send(_ frame: [UInt8], offloads: NetHeader) -> Bool {
        _ = tx.reap()
        return frame.withUnsafeBytes { bytes in
            guard let base = bytes.baseAddress else { return false }
            var one = OutgoingFrame(base, byteCount: bytes.count, offloads: offloads)
            let result = tx.send(&one, count: 1)
            if result.wantsKick { kicks[1].event.signal() }
            return result.taken == 1
        }
    }

    /// Posts the chain for `request` and kicks.
    func postRequest() {
        var areas = [
            (request.control, HeaderQueueLayout.controlByteCount),
            (request.slots, headers.layout.byteCount),
        ]
        if shape.slotReturn != .tail {
            areas.append((request.returnRing, headers.layout.returnByteCount))
        }
        setup.post(request.fields, areas)
        kickSetup()
    }

    func kickSetup() { kicks[setupRing].event.signal() }

    /// Waits for what takes a moment, for a time that only a fault needs.
    func waitUntil(_ patience: UInt64 = 10_000_000_000, _ condition: () -> Bool) -> Bool {
        let end = SystemClock.monotonic + patience
        while !condition() {
            if SystemClock.monotonic > end { return false }
            usleep(500)
        }
        return true
    }

    func sendMemory() throws {
        try #require(front).setMemory([
            SharedRegion(
                guestAddress: GuestSpace.guestBase, byteCount: space.arena.byteCount,
                fileDescriptor: try #require(space.arena.fileDescriptor))
        ])
    }

    /// Stops all rings, and leaves.
    /// - Returns: where they go on.
    func leave(_ way: Way) throws -> [UInt16] {
        let front = try #require(self.front)
        var indices = rx.indices.map { 2 * $0 } + [1]
        if way == .chain { indices.append(setupRing) }
        let bases = try indices.map { try front.stopRing($0, shape.ring) }
        self.front = nil
        return bases
    }

    /// Goes without a word.
    func vanish() { front = nil }

    /// Frames of headers and payload, as they were before the split, by RQ.
    /// - Parameter look: is shown each packet, as long as it is there.
    func receive(_ look: (RxDriver, ReceivedPacket) -> Void = { _, _ in }) -> [[[UInt8]]] {
        rx.map { driver in
            var packets: [[UInt8]] = []
            while driver.harvest() > 0 {
                for packet in driver.packets {
                    look(driver, packet)
                    let first = Int(packet.firstPiece)
                    packets.append(
                        Array(
                            UnsafeRawBufferPointer(
                                start: packet.headers, count: Int(packet.headerLength)))
                            + driver.pieces[first..<first + Int(packet.pieceCount)].flatMap {
                                Array(
                                    UnsafeRawBufferPointer(
                                        start: $0.pointer, count: Int($0.byteCount)))
                            })
                }
                driver.finish()
                driver.refill()
            }
            return packets
        }
    }

    /// What arrives until there are `count` packets or a time is over that only a fault needs.
    func receive(
        atLeast count: Int, _ look: (RxDriver, ReceivedPacket) -> Void = { _, _ in }
    ) -> [[[UInt8]]] {
        var packets = receive(look)
        _ = waitUntil {
            for (rq, more) in receive(look).enumerated() { packets[rq] += more }
            return packets.reduce(0) { $0 + $1.count } >= count
        }
        return packets
    }

    /// The device's head word.
    var head: UInt32 { control(HeaderQueueLayout.headOffset) }

    /// A control word.
    func control(_ offset: Int) -> UInt32 {
        words?.load(fromByteOffset: offset, as: UInt32.self) ?? 0
    }

    func setControl(_ offset: Int, _ value: UInt32) {
        words?.storeBytes(of: value, toByteOffset: offset, as: UInt32.self)
    }

    private var words: UnsafeMutableRawPointer? {
        space.memory.translate(
            headers.layout.control, byteCount: HeaderQueueLayout.controlByteCount)
    }

    /// Whether every slot that the device took has come back, once all packets were harvested, of a
    /// queue that began at 0. With a return ring the device tells what it took when it stops.
    func conservesSlots() -> Bool {
        let retired = rx.reduce(0) { $0 + Int($1.retiredSlotCount) }
        if shape.slotReturn == .ring {
            return headers.isStopped && head == UInt32(truncatingIfNeeded: retired)
                && headers.currentTail == UInt32(truncatingIfNeeded: shape.slotCount + retired)
        }
        if shape.slotReturn == .groups {
            // Of one pair: its ring has all groups from the beginning on.
            let groups = headers.layout.groupCount + retired / headers.groupSize
            return shape.pairs == 1 && headers.currentTail == UInt32(truncatingIfNeeded: groups)
                && headers.waitingSlotCount == retired % headers.groupSize
                && headers.doubleRetireCount == 0
        }
        let groups = retired / headers.groupSize * headers.groupSize
        return head == UInt32(truncatingIfNeeded: retired)
            && headers.currentTail == UInt32(truncatingIfNeeded: shape.slotCount + groups)
            && headers.doubleRetireCount == 0
    }
}

/// A set-up ring as a driver writes it, one chain after the other.
final class SetupRing {
    let addresses: VirtqueueAddresses
    private let descriptors: UnsafeMutableRawPointer
    private let avail: UnsafeMutableRawPointer
    private let used: UnsafeMutableRawPointer
    private let fields: GuestBlock
    private let isPacked: Bool
    private var next = 0
    private var availIndex: UInt16 = 0
    private var first = 0
    private let size: Int

    struct Piece {
        var address: UInt64
        var byteCount: Int
        var isWritable: Bool
    }

    init(_ format: RingFormat, size: Int = 8, in space: GuestSpace) throws {
        self.size = size
        let table = try space.allocate(byteCount: 16 * size, alignment: 4096)
        let avail = try space.allocate(byteCount: 6 + 2 * size)
        let used = try space.allocate(byteCount: 6 + 8 * size)
        fields = try space.allocate(byteCount: 64 * size)
        isPacked = format == .packed
        (descriptors, self.avail, self.used) = (table.pointer, avail.pointer, used.pointer)
        addresses = VirtqueueAddresses(
            format: format, size: size, descriptorArea: table.address,
            driverArea: avail.address, deviceArea: used.address)
    }

    /// Posts a request of these fields and areas.
    func post(_ bytes: [UInt8], _ areas: [(GuestAddress, Int)]) {
        let offset = 64 * (next % size)
        (fields.pointer + offset).copyMemory(from: bytes, byteCount: min(64, bytes.count))
        let address = fields.address.rawValue + UInt64(offset)
        post(
            [Piece(address: address, byteCount: bytes.count, isWritable: false)]
                + areas.map { Piece(address: $0.rawValue, byteCount: $1, isWritable: true) })
    }

    func post(_ pieces: [Piece]) {
        first = next
        // The head last: it makes the chain visible.
        for index in pieces.indices.reversed() {
            let piece = pieces[index]
            let place = (next + index) % size
            let isLast = index + 1 == pieces.count
            var flags = (isLast ? 0 : 1) | (piece.isWritable ? 2 : 0) as UInt16
            let entry = descriptors + 16 * place
            entry.storeBytes(of: piece.address, as: UInt64.self)
            entry.storeBytes(of: UInt32(piece.byteCount), toByteOffset: 8, as: UInt32.self)
            if isPacked {
                flags |= (next + index) / size % 2 == 0 ? 1 << 7 : 1 << 15
                entry.storeBytes(of: 0, toByteOffset: 12, as: UInt16.self)
                entry.storeBytes(of: flags, toByteOffset: 14, as: UInt16.self)
            } else {
                entry.storeBytes(of: flags, toByteOffset: 12, as: UInt16.self)
                entry.storeBytes(
                    of: UInt16((place + 1) % size), toByteOffset: 14, as: UInt16.self)
            }
        }
        if !isPacked {
            avail.storeBytes(
                of: UInt16(next % size), toByteOffset: 4 + 2 * (Int(availIndex) % size),
                as: UInt16.self)
            availIndex &+= 1
            avail.storeBytes(of: availIndex, toByteOffset: 2, as: UInt16.self)
        }
        next += pieces.count
    }

    /// Whether the chain posted last has come back.
    var isReturned: Bool {
        if isPacked {
            let flags = (descriptors + 16 * (first % size)).load(
                fromByteOffset: 14, as: UInt16.self)
            let isFirstLap = first / size % 2 == 0
            return flags & 0x8080 == (isFirstLap ? 0x8080 : 0)
        }
        return used.load(fromByteOffset: 2, as: UInt16.self) == availIndex
    }

    /// Chains posted.
    var postedCount: Int { Int(availIndex) }
}

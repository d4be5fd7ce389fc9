// The control queue: commands in any framing, answers, and drivers that break the rules.
import CleaveHost
import CleaveTestSupport
import CleaveVirtioNet
import Testing

/// A driver that sends commands over either ring format.
private final class ControlRig {
    let guest: EvilGuest
    private(set) var queue: ControlQueue
    private let size = 8
    /// Part of an in-flight region.
    private let region: UnsafeMutableRawPointer
    /// Pages that the queue writes.
    let log: NaiveLog
    private let isPacked: Bool
    private var split: EvilRing
    private var packed: PackedEvilRing
    private var place: Int
    private var usedPlace: Int
    private var usedIndex: UInt16
    private var nextDescriptor = 0
    private var lengths: [Int] = []
    /// What the handler was given, and its answer.
    private(set) var seen: [[UInt8]] = []
    var answer = ControlAnswer.ok

    /// A piece of a chain.
    struct Piece {
        var address: UInt64
        var length: Int
        var flags: UInt16 = 0
    }

    static let answerAddress: UInt64 = 0x4_0000

    /// - Parameter isObserved: the queue logs pages that it writes, and notes what is in flight.
    init(
        _ format: RingFormat, features: VirtioFeatures = .indirectDescriptors,
        firstIndex: UInt16 = 0, isObserved: Bool = false
    ) throws {
        guest = try EvilGuest()
        log = NaiveLog(covering: guest, skew: 5)
        region = .allocate(byteCount: 4096, alignment: 64)
        region.initializeMemory(as: UInt8.self, repeating: 0, count: 4096)
        isPacked = format == .packed
        split = EvilRing(guest, size: size, at: EvilRig.ringAddress, firstIndex: firstIndex)
        packed = PackedEvilRing(guest, size: size, at: 0x1_8000, start: Int(firstIndex) % size)
        place = packed.start
        usedPlace = place
        usedIndex = firstIndex
        let configuration = ControlQueueConfiguration(
            virtqueue: isPacked ? packed.addresses : split.addresses, features: features,
            memory: guest.memory)
        queue = try ControlQueue(configuration)
        if isObserved { try restart() }
    }

    deinit { region.deallocate() }

    /// Another device takes over, which is told the base of the beginning.
    func restart() throws {
        var configuration = queue.configuration
        configuration.virtqueue = isPacked ? packed.addresses : split.addresses
        let record = try InFlightRecord(
            region, capacity: size, resuming: &configuration.virtqueue, in: guest.memory)
        configuration.observation = QueueObservation(
            log: log.dirtyLog(ring: configuration.virtqueue.deviceArea), record: record)
        queue = try ControlQueue(configuration)
    }

    /// A command cut into pieces of these lengths, with a byte for the answer.
    func pieces(_ bytes: [UInt8], _ cuts: [Int]) -> [Piece] {
        guest.write(bytes, at: 0x3_0000)
        guest.put(UInt8(0xee), at: Self.answerAddress)
        var offset = 0
        var list: [Piece] = []
        for length in cuts + [bytes.count - cuts.reduce(0, +)] {
            list.append(Piece(address: 0x3_0000 + UInt64(offset), length: length))
            offset += length
        }
        return list + [Piece(address: Self.answerAddress, length: 1, flags: DescriptorFlags.write)]
    }

    func post(_ pieces: [Piece], id: Int = 3, table: Bool = false) {
        guard table else { return place(pieces, id) }
        for (index, piece) in pieces.enumerated() {
            let next = index + 1 < pieces.count && !isPacked ? DescriptorFlags.next : 0
            let entry = 0x2_0000 + UInt64(16 * index)
            split.describe(at: entry, piece.address, piece.length, piece.flags | next, index + 1)
            if isPacked { guest.put(piece.flags, at: entry + 14) }
        }
        place(
            [Piece(address: 0x2_0000, length: 16 * pieces.count, flags: DescriptorFlags.indirect)],
            id)
    }

    private func place(_ pieces: [Piece], _ id: Int) {
        lengths.append(pieces.count)
        let first = nextDescriptor
        for index in pieces.indices.reversed() {
            let piece = pieces[index]
            let flags = piece.flags | (index + 1 < pieces.count ? DescriptorFlags.next : 0)
            if isPacked {
                packed.describe(place + index, piece.address, piece.length, flags: flags, id: id)
            } else {
                split.describe(
                    (first + index) % size, piece.address, piece.length, flags: flags,
                    next: (first + index + 1) % size)
            }
        }
        nextDescriptor = (first + pieces.count) % size
        place += pieces.count
        if !isPacked { split.post(first) }
    }

    func poll() -> (count: Int, events: QueueEvents) {
        queue.poll { kind, command, data in
            seen.append([kind, command] + data)
            return answer
        }
    }

    /// Lengths of what came back since the last call.
    func takeUsed() -> [Int] {
        var result: [Int] = []
        while let length = lengths.first {
            if isPacked {
                guard let used = packed.used(usedPlace) else { break }
                #expect(used.id == 3 && used.hasWrite == (used.length > 0))
                result.append(used.length)
                usedPlace += length
            } else {
                guard split.usedIndex != usedIndex else { break }
                result.append(Int(split.used(usedIndex).length))
                usedIndex &+= 1
            }
            lengths.removeFirst()
        }
        return result
    }

    var answerByte: UInt8 { guest.number(Self.answerAddress, as: UInt8.self) }
    /// The index at which the device asks to be kicked, and the next one to be posted.
    var availEvent: UInt16 { guest.number(split.usedRing + 4 + UInt64(8 * size), as: UInt16.self) }
    var posted: UInt16 { split.posted }
    func setAvailIndex(_ index: UInt16) { split.setAvailIndex(index) }
    func setInterrupts(_ enabled: Bool) {
        split.setAvailFlags(enabled ? 0 : 1)
        packed.setDriverEvent(0, flags: enabled ? 0 : 1)
    }
}

@Suite("Control queue")
struct ControlQueueTests {
    @Test("With an event index the driver kicks for each command, unless it is not asked to")
    func kicks() throws {
        for firstIndex: UInt16 in [0, 65533] {
            let rig = try ControlRig(
                .split, features: [.indirectDescriptors, .eventIndex], firstIndex: firstIndex)
            for number in 0..<7 {
                // Virtio 1.4, 2.7.10: a driver kicks when it posts the index that it is shown.
                #expect(rig.availEvent == rig.posted, "command \(number)")
                rig.post(rig.pieces([4, 0, 1, 0], []))
                #expect(rig.poll().count == 1)
                #expect(rig.takeUsed() == [1])
            }
            rig.queue.setKicks(enabled: false)
            let shown = rig.availEvent
            rig.post(rig.pieces([4, 0, 1, 0], []))
            #expect(rig.poll().count == 1 && rig.availEvent == shown)
        }
    }

    @Test("Commands arrive in any framing, and are answered", arguments: RingFormat.allCases)
    func framing(format: RingFormat) throws {
        for firstIndex: UInt16 in [0, 5, 65533] {
            let rig = try ControlRig(format, firstIndex: firstIndex)
            let command: [UInt8] = [4, 0, 2, 0, 9, 9]
            var expected: [[UInt8]] = []
            for cuts in [[], [1], [2], [1, 1], [0, 2], [1, 1, 1, 1, 1]] as [[Int]] {
                for table in [false, true] {
                    for answer in [ControlAnswer.ok, ControlAnswer.error] {
                        rig.answer = answer
                        rig.post(rig.pieces(command, cuts), table: table)
                        #expect(rig.poll().count == 1)
                        expected.append(command)
                        #expect(rig.seen == expected, "\(cuts) \(table)")
                        #expect(rig.answerByte == answer)
                        #expect(rig.takeUsed() == [1])
                        #expect(rig.poll().count == 0)
                    }
                }
            }
            #expect(rig.queue.fault == .none && rig.guest.bandsAreIntact)
            #expect(rig.queue.counters.commands == 24 && rig.queue.counters.refused == 12)
        }
    }

    @Test("What is no command is answered, if it can be", arguments: RingFormat.allCases)
    func malformed(format: RingFormat) throws {
        let rig = try ControlRig(format)
        let answer = ControlRig.Piece(
            address: ControlRig.answerAddress, length: 4, flags: DescriptorFlags.write)
        for pieces in [[answer], [ControlRig.Piece(address: 0x3_0000, length: 1), answer]] {
            rig.guest.put(UInt8(0xee), at: ControlRig.answerAddress)
            rig.post(pieces)
            #expect(rig.poll().count == 1 && rig.takeUsed() == [1])
            #expect(rig.answerByte == ControlAnswer.error)
        }
        #expect(rig.queue.counters.runts == 2)
        // 64 KiB are carried out, a byte more is not.
        for (more, answered) in [(0, ControlAnswer.ok), (1, ControlAnswer.error)] {
            rig.post([
                .init(address: 0x3_0000, length: 0x8000), .init(address: 0x3_0000, length: 0x8000),
                .init(address: 0x3_0000, length: more), answer,
            ])
            #expect(rig.poll().count == 1 && rig.takeUsed() == [1])
            #expect(rig.answerByte == answered)
        }
        #expect(rig.queue.counters.tooLong == 1 && rig.seen.count == 1)
        #expect(rig.seen.first?.count == ControlQueue.maximumByteCount)
        // No byte to write: not carried out.
        for pieces in [
            [ControlRig.Piece(address: 0x3_0000, length: 4)],
            [
                .init(address: 0x3_0000, length: 4),
                .init(address: 0x3_0000, length: 0, flags: DescriptorFlags.write),
            ],
        ] {
            rig.post(pieces)
            #expect(rig.poll().count == 1 && rig.takeUsed() == [0])
        }
        #expect(rig.queue.counters.unanswerable == 2 && rig.seen.count == 1)
        #expect(rig.queue.fault == .none)
    }

    @Test(
        "Hostile chains break the queue, and nothing is carried out", arguments: RingFormat.allCases
    )
    func hostile(format: RingFormat) throws {
        let command = ControlRig.Piece(address: 0x3_0000, length: 4)
        let answer = ControlRig.Piece(
            address: ControlRig.answerAddress, length: 1, flags: DescriptorFlags.write)
        let cases: [(String, [ControlRig.Piece], QueueFault)] = [
            ("readable after writable", [command, answer, command], .direction),
            ("command outside", [.init(address: 0x9_0000, length: 4), answer], .range),
            (
                "answer outside",
                [command, .init(address: 0x9_0000, length: 1, flags: DescriptorFlags.write)], .range
            ),
            ("wraps", [.init(address: .max, length: 4), answer], .range),
            (
                "table of 15 bytes",
                [.init(address: 0x2_0000, length: 15, flags: DescriptorFlags.indirect)],
                .indirectLength
            ),
        ]
        for (name, pieces, fault) in cases {
            let rig = try ControlRig(format)
            rig.post(pieces)
            let image = rig.guest.image()
            #expect(rig.poll().count == 0 && rig.queue.fault == fault, "\(name)")
            #expect(rig.poll().count == 0 && rig.seen.isEmpty && image.isUnchanged, "\(name)")
        }
        let plain = try ControlRig(format, features: [])
        plain.post([command, answer], table: true)
        #expect(plain.poll().count == 0 && plain.queue.fault == .indirect)
        // In a table, too, the order counts.
        let mixed = try ControlRig(format)
        mixed.post([answer, command], table: true)
        #expect(mixed.poll().count == 0 && mixed.queue.fault == .direction)
        let other = try ControlRig(format)
        if format == .split {
            other.setAvailIndex(9)
            #expect(other.poll().count == 0 && other.queue.fault == .availJump)
        } else {
            other.post([command, answer], id: 8)
            #expect(other.poll().count == 0 && other.queue.fault == .id)
        }
    }

    @Test(
        "Pages that are written are logged, and another device goes on where the last one was",
        arguments: RingFormat.allCases)
    func observed(format: RingFormat) throws {
        for firstIndex: UInt16 in [0, 5, 65533] {
            let rig = try ControlRig(format, firstIndex: firstIndex, isObserved: true)
            #expect(!rig.log.take().isEmpty)
            for round in 0..<24 {
                rig.post(rig.pieces([3, 0], round % 3 == 0 ? [1] : []), table: round % 2 == 0)
                let image = rig.guest.image()
                #expect(rig.poll().count == 1)
                let marked = rig.log.take()
                // The ring, and the page of the answer.
                #expect(marked == image.changedPages.union([0x40]) && marked.count == 2)
                #expect(rig.takeUsed() == [1])
                if round % 5 == 4 {
                    try rig.restart()
                    _ = rig.log.take()
                }
            }
            #expect(rig.queue.fault == .none && rig.guest.bandsAreIntact)
        }
    }

    @Test("The driver is called if it asks for it", arguments: RingFormat.allCases)
    func calls(format: RingFormat) throws {
        let rig = try ControlRig(format)
        for wanted in [true, false, true] {
            rig.setInterrupts(wanted)
            rig.post(rig.pieces([3, 0], []))
            #expect(rig.poll().events == (wanted ? .call : []))
        }
    }
}

@Suite("Commands of a network device")
struct ControlCommandTests {
    private static let first: [UInt8] = [2, 0, 0, 0, 0, 1]
    private static let second: [UInt8] = [0x33, 0x33, 0, 0, 0, 1]

    @Test("Each command is parsed, and nothing shorter or longer")
    func commands() throws {
        let one = try #require(MACAddress(Self.first))
        let two = try #require(MACAddress(Self.second))
        let cases: [(UInt8, UInt8, [UInt8], ControlCommand)] = [
            (0, 0, [1], .setReceiveMode(.promiscuous, true)),
            (0, 5, [0], .setReceiveMode(.noBroadcast, false)),
            (
                1, 0, [1, 0, 0, 0] + Self.first + [2, 0, 0, 0] + Self.second + Self.first,
                .setAddressTable(unicast: [one], multicast: [two, one])
            ),
            (1, 0, [0, 0, 0, 0, 0, 0, 0, 0], .setAddressTable(unicast: [], multicast: [])),
            (1, 1, Self.second, .setAddress(two)),
            (2, 0, [0xff, 0x0f], .addVLAN(4095)), (2, 1, [1, 0], .removeVLAN(1)),
            (3, 0, [], .acknowledgeAnnouncement),
            (4, 0, [0, 0x80], .setQueuePairs(32768)), (4, 0, [1, 0], .setQueuePairs(1)),
            (5, 0, [1, 2, 3, 4, 5, 6, 7, 8], .setGuestOffloads(0x0807_0605_0403_0201)),
        ]
        for (kind, command, data, expected) in cases {
            #expect(ControlCommand(class: kind, command: command, data: data) == expected)
            #expect(ControlCommand(class: kind, command: command, data: data + [0]) == nil)
            if data.isEmpty { continue }
            #expect(
                ControlCommand(class: kind, command: command, data: Array(data.dropLast())) == nil)
        }
    }

    @Test("Unknown commands and impossible numbers are refused")
    func refused() {
        let cases: [(UInt8, UInt8, [UInt8])] = [
            (0, 6, [1]), (0, 0, [2]), (1, 2, []), (2, 0, [0, 0x10]), (2, 2, [0, 0]),
            (3, 1, []), (4, 0, [0, 0]), (4, 0, [1, 0x80]), (4, 1, []), (5, 1, []), (6, 0, []),
            (255, 255, []),
            // More addresses than there are bytes.
            (1, 0, [255, 255, 255, 255]), (1, 0, [1, 0, 0, 0] + Self.first),
        ]
        for (kind, command, data) in cases {
            #expect(ControlCommand(class: kind, command: command, data: data) == nil)
        }
    }
}

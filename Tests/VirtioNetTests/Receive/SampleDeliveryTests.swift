// Every crafted frame of the catalogue's group E through a queue: split where the parser says so,
// otherwise whole or dropped, and the same bytes at the other end.
import CleaveTestSupport
import CleaveVirtioNet
import Testing

@Suite("Crafted frames through a queue")
struct SampleDeliveryTests {
    private static let methods: [RxMethod] = [
        .whole, .headerQueue(.netHeader), .headerQueue(.usedLength),
    ]

    /// Headers that the method puts into a slot, by the answer written beside the frame.
    private static func expectedHeader(_ sample: Sample, _ method: RxMethod) -> Int {
        method == .whole ? 0 : Int(sample.expected.byteCount)
    }

    /// The bytes that a driver reassembles of the one packet that was delivered.
    private static func reassemble(_ rig: any ReceiveRig, _ method: RxMethod) -> [UInt8] {
        let reports = rig.reports
        var data = reports.flatMap { rig.guest.read(EvilRig.page($0.id), $0.length) }
        switch method {
        case .headerQueue(.usedLength):
            guard let slot = reports.first?.slot, let headers = rig.headers else { break }
            let length = headers.slot(slot, 4)[2...3].reversed().reduce(0) { $0 << 8 | Int($1) }
            return headers.slot(slot, 12 + length).dropFirst(12) + data
        case .headerQueue(.netHeader):
            let tail = data[12..<20].map { Int($0) }
            data.removeFirst(20)
            guard tail[6] == 1, let headers = rig.headers else { return data }
            return headers.slot(tail[0], tail[4] | tail[5] << 8) + data
        default: break
        }
        return Array(data.dropFirst(12))
    }

    private static func check(
        _ sample: Sample, as packet: SourcePacket, format: RingFormat, method: RxMethod,
        guest: EvilGuest, _ arenas: ArenaSupply
    ) {
        let comment = "\(sample.id) \(sample.name), \(method), \(packet.segments.count) segments"
        do {
            // Slots of 1024 bytes hold all but the eight extensions of 2048 bytes.
            let rig = try format.rig(
                size: 32, method: method, slots: (1024, 4), guest: guest, arenas: arenas)
            guest.fill(EvilRig.ringAddress, 0x1000, with: 0)
            for id in 0..<32 { rig.post(id) }
            let count = sample.frame.count
            let isDelivered = (14...65589).contains(count)
            let outcome = rig.port.enqueue([packet], to: rig.queue)
            #expect(outcome.fates == [isDelivered], "\(comment)")
            let counters = rig.queue.counters
            if !isDelivered {
                let reason = count < 14 ? DropReason.runt : .tooLong
                #expect(counters.dropped == [reason: 1] && rig.usedTotal == 0, "\(comment)")
                return
            }
            let header = expectedHeader(sample, method)
            let front = method.namesSlotsInUsedEntries ? 12 : 0
            let isSplit = header > 0 && header + front <= 1024
            let reason: FallbackReason = header > 0 ? .headerTooLong : .notSplittable
            #expect(counters.split == (isSplit ? 1 : 0), "\(comment)")
            #expect(
                counters.fallback == (isSplit || method == .whole ? [:] : [reason: 1]),
                "\(comment)")
            let found = reassemble(rig, method)
            let isSame = found == sample.frame
            #expect(isSame, "\(comment)")
            // No header byte of a split packet is in the data stream.
            let prefix = method == .headerQueue(.netHeader) ? 20 : isSplit ? 0 : 12
            #expect(
                rig.reports.reduce(0) { $0 + $1.length } == count + prefix - (isSplit ? header : 0),
                "\(comment)")
            #expect(guest.bandsAreIntact, "\(comment)")
        } catch { Issue.record("\(comment): \(error)") }
    }

    @Test(
        "E01 to E12: every sample in one piece", arguments: RingFormat.allCases, methods)
    func whole(format: RingFormat, method: RxMethod) throws {
        let guest = try EvilGuest()
        let arenas = ArenaSupply()
        for sample in Sample.all {
            Self.check(
                sample, as: SourcePacket(sample.frame), format: format, method: method,
                guest: guest, arenas)
        }
    }

    @Test(
        "E13: every sample in segments, down to one byte each", arguments: RingFormat.allCases,
        methods)
    func segments(format: RingFormat, method: RxMethod) throws {
        let guest = try EvilGuest()
        let arenas = ArenaSupply()
        var random = SeededRandom(seed: 13)
        for sample in Sample.all where sample.expected.byteCount <= 512 {
            for most in [1, 9, 700] {
                let packet = SourcePacket(sample.frame).scattered(&random, most: most)
                Self.check(sample, as: packet, format: format, method: method, guest: guest, arenas)
            }
        }
    }
}

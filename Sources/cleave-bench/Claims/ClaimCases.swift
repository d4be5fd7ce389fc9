import CleaveBench
import CleaveTraffic
import CleaveVirtioNet

/// The cases that the claims are judged by, each under a name that says what it is. All are
/// measured in one run, interleaved, so that figures of any two compare.
enum ClaimCases {
    /// Payload bytes of a packet that fills a data buffer of 4 KiB.
    static let pagePayload = 4096
    /// Bytes of all headers of generated TCP over IPv4.
    static let headerByteCount = HeaderKind(.tcp, .v4).byteCount
    /// The packet that carries `pagePayload`.
    static let pagePacket = pagePayload + headerByteCount
    /// Packet sizes at which the driver's sides are compared.
    static let driverPackets = [1500, 4096]
    static let sharingRQs = 4
    /// Slots of a queue that must run out: fewer than a burst has packets.
    static let fewSlots = 8

    static var all: [BenchCase] { driver + page + sizes + sharing + slots + shapes + memory }

    // MARK: Names

    /// A method's part of a name: `A`, `D used`.
    static func how(_ method: RxMethod.Kind, _ report: HeaderReport = .usedLength) -> String {
        let report = method == .d ? report.rawValue : nil
        return Comparison.Column(ring: "", method: method.rawValue, report: report).label
    }

    static func driverName(_ how: String, _ packet: Int, _ ring: RingFormat) -> String {
        "driver: \(how) \(packet) \(ring.rawValue)"
    }

    static func pageName(_ how: String, _ consumer: PayloadConsumer, reads: Bool) -> String {
        "page: \(how) \(consumer.rawValue)\(reads ? " read" : "")"
    }

    static func sizeName(_ how: String, _ byteCount: Int) -> String {
        "sizes: \(how) \(byteCount)"
    }

    static func shapeName(_ buffers: BufferKind, _ ring: RingFormat, _ report: HeaderReport)
        -> String
    {
        "shape: \(buffers.rawValue) \(ring.rawValue) \(report.rawValue)"
    }

    static let unaligned = "page: D net"
    static let aligned = "page: D net aligned"
    static let shared = "shared: one queue"
    static let apart = "shared: a queue each"
    static let tiny = "tiny: on"
    static let untouched = "tiny: as it comes"
    static let shortOfSlots = "slots: few"
    static let smallSlots = "slots: small"
    static let twoPages = "memory: 8 KiB packets"
    static let ethernet = "memory: 1500-byte buffers"

    // MARK: Cases

    private static func one(
        _ name: String, _ packet: String, _ change: (inout BenchCase) -> Void = { _ in }
    ) -> BenchCase {
        var one = BenchCase()
        (one.name, one.packet) = (name, packet)
        change(&one)
        return one
    }

    /// Methods and reports that a driver meets.
    private static let hows: [(RxMethod.Kind, HeaderReport)] =
        RxMethod.Kind.allCases.flatMap { method in
            method == .d
                ? [(method, .usedLength), (method, .netHeader)] : [(method, .usedLength)]
        }

    /// What the driver does for a packet.
    static var driver: [BenchCase] {
        RingFormat.allCases.flatMap { ring in
            driverPackets.flatMap { packet in
                hows.map { method, report in
                    one(driverName(how(method, report), packet, ring), "\(packet)") {
                        ($0.method, $0.report, $0.ring) = (method, report, ring)
                    }
                }
            }
        }
    }

    /// Payload of a page: where it lies, and what becomes of it.
    static var page: [BenchCase] {
        let lying = RxMethod.Kind.allCases.map { method in
            one(pageName(how(method), .none, reads: false), "\(pagePacket)") {
                $0.method = method
            }
        }
        let consumed = [PayloadConsumer.copy, .take].flatMap { consumer in
            [false, true].map { reads in
                one(pageName(how(.d), consumer, reads: reads), "\(pagePacket)") {
                    ($0.consumer, $0.readsPayload) = (consumer, reads)
                }
            }
        }
        let reported = [(unaligned, false), (aligned, true)].map { name, aligns in
            one(name, "\(pagePacket)") { ($0.report, $0.alignsPayload) = (.netHeader, aligns) }
        }
        return lying + consumed + reported
    }

    /// Headers of every length over buffers of several.
    static var sizes: [BenchCase] {
        let queue = [64, 256, 4096].map { size in
            one(sizeName(how(.d), size), "594/mixed") { $0.bufferByteCount = size }
        }
        let others = [RxMethod.Kind.a, .c].map { method in
            one(sizeName(how(method), 64), "594/mixed") {
                ($0.method, $0.headerBufferByteCount) = (method, 64)
            }
        }
        return queue + others
    }

    static var sharing: [BenchCase] {
        [(shared, true), (apart, false)].map { name, isShared in
            one(name, "1500") { ($0.rqs, $0.sharedHeaderQueue) = (sharingRQs, isShared) }
        }
    }

    /// Slots used in other ways, too few, and too small.
    static var slots: [BenchCase] {
        [
            one(tiny, "64") { $0.tiny = true }, one(untouched, "64"),
            one(shortOfSlots, "1500") { $0.slots = fewSlots },
            one(smallSlots, "1500") { $0.slotSize = 64 },
        ]
    }

    static let shapeKinds: [BufferKind] = [.mergeable, .chained]

    static var shapes: [BenchCase] {
        shapeKinds.flatMap { buffers in
            RingFormat.allCases.flatMap { ring in
                HeaderReport.allCases.map { report in
                    one(shapeName(buffers, ring, report), "9000") {
                        ($0.buffers, $0.ring, $0.report) = (buffers, ring, report)
                    }
                }
            }
        }
    }

    static var memory: [BenchCase] {
        [
            // Two buffers for each packet, so half as many slots as buffers.
            one(twoPages, "\(2 * pagePayload + headerByteCount)") { $0.slots = $0.ringSize / 2 },
            // The least multiple of 64 that holds 1500 bytes.
            one(ethernet, "1500") { $0.bufferByteCount = 1536 },
        ]
    }
}

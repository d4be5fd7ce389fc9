// One timed pass takes all frames of a mix, in bursts of 32: a frame by itself is too short to be
// timed. Contenders take turns on the same frames; what each reads beside the frames lies in the
// order in which it is read.
import CleaveHost
import CleaveTraffic
@_spi(Measure) import CleaveVirtioNet
import Provenance

/// In which order frames come.
enum Order: String, Encodable, CaseIterable {
    /// The kinds in turn, the same in every pass: what a branch predictor learns.
    case inOrder
    /// Shuffled anew for every pass.
    case random
}

struct Result: Encodable {
    let mix: String
    let order: Order
    let cleave: Figures
    let dpdk: Figures?
    /// Of the medians, Cleave's to DPDK's.
    let ratio: Double?
}

/// One mix in one order under both parsers.
final class Measurement {
    private static let burst = 32
    private let mix: Mix
    private let pool: PacketPool
    private let rival: Rival?
    private let refs: UnsafeMutablePointer<PacketRef>
    private let splits: UnsafeMutablePointer<HeaderSplit>
    private let lengths: UnsafeMutablePointer<UInt16>
    private let count: Int

    init(_ mix: Mix, rival: Rival?) throws {
        self.mix = mix
        self.rival = rival
        pool = try PacketPool(name: mix.name, packets: mix.frames)
        count = pool.count
        refs = .allocate(capacity: count)
        refs.initialize(from: pool.refs.baseAddress!, count: count)
        splits = .allocate(capacity: count)
        splits.initialize(repeating: HeaderSplit(byteCount: 0), count: count)
        lengths = .allocate(capacity: count)
        lengths.initialize(repeating: 0, count: count)
    }

    deinit {
        refs.deallocate()
        splits.deallocate()
        lengths.deallocate()
    }

    /// - Throws: when the parsers do not find the same headers.
    func run(_ order: Order, passes: Int) throws -> Result {
        var random = SystemRandomNumberGenerator()
        var cleave: [Double] = []
        var dpdk: [Double] = []
        for pass in -2..<passes {
            if order == .random {
                var shuffled = UnsafeMutableBufferPointer(start: refs, count: count)
                shuffled.shuffle(using: &random)
            } else {
                refs.update(from: pool.refs.baseAddress!, count: count)
            }
            let packets = try describe()
            defer { if let packets { rival?.forget(packets) } }
            // Who comes second finds the frames nearer.
            var samples = [0.0, 0.0]
            for turn in 0..<2 {
                let isCleave = (turn + pass) & 1 == 0
                samples[isCleave ? 0 : 1] = isCleave ? passOwn() : passRival(packets)
            }
            if pass == -2 { try compare() }
            if pass < 0 { continue }
            cleave.append(samples[0])
            dpdk.append(samples[1])
        }
        let own = Figures(cleave)
        let other = rival == nil ? nil : Figures(dpdk)
        return Result(
            mix: mix.name, order: order, cleave: own, dpdk: other,
            ratio: other.map { own.median / $0.median })
    }

    private func describe() throws -> UnsafeMutableRawPointer? {
        guard let rival else { return nil }
        let frames = (0..<count).map { Optional(refs[$0].pointer) }
        let byteCounts = (0..<count).map { refs[$0].byteCount }
        guard let packets = rival.describe(frames, byteCounts, UInt32(count)) else {
            throw Failure("no memory for \(count) mbufs")
        }
        return packets
    }

    /// - Returns: cycles per packet.
    private func passOwn() -> Double {
        let start = CycleClock.now()
        var first = 0
        while first < count {
            HeaderParser.parse(
                refs + first, count: min(Self.burst, count - first), into: splits + first)
            first += Self.burst
        }
        return Double(CycleClock.now() - start) / Double(count)
    }

    private func passRival(_ packets: UnsafeMutableRawPointer?) -> Double {
        guard let rival, let packets else { return 0 }
        let start = CycleClock.now()
        var first = 0
        while first < count {
            rival.parse(
                packets, UInt32(first), UInt32(min(Self.burst, count - first)), lengths + first)
            first += Self.burst
        }
        return Double(CycleClock.now() - start) / Double(count)
    }

    private func compare() throws {
        for index in 0..<count {
            guard splits[index].isSplittable else {
                throw Failure("\(mix.name): a frame is not split: \(splits[index].reason.name)")
            }
            if rival != nil && splits[index].byteCount != lengths[index] {
                throw Failure(
                    "\(mix.name): \(splits[index].byteCount) bytes of headers, and by DPDK "
                        + "\(lengths[index])")
            }
        }
    }
}

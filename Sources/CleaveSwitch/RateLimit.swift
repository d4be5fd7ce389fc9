// How much may come in at a port. What is beyond is dropped and counted, as Open vSwitch's ingress
// policing does it: a guest that sends too much must not fill queues that others wait in.
//
// One bucket is one word that all threads of a port's queues share: the time at which it would be
// full again if nothing came (GCRA, ITU-T I.371). A packet is admitted if that is no further ahead
// than the depth of the bucket, and moves it on by its own cost. So there is nothing to refill.

import CleaveHost
import CleaveRings

/// How many bits and packets may come in at a port in a second.
public struct RateLimit: Sendable, Equatable {
    /// Bits of Ethernet frames without preamble, check sequence and gap; nil for any number.
    public var bitsPerSecond: Int?
    /// Packets; a packet that is still to be segmented is one. nil for any number.
    public var packetsPerSecond: Int?

    /// The least and most of each.
    public static let bitRange = 1_000...1_000_000_000_000
    public static let packetRange = 1...1_000_000_000
    /// What may come at once, as a part of what may come in a second: one in so many.
    public static let burstDivisor = 10

    public init(bitsPerSecond: Int? = nil, packetsPerSecond: Int? = nil) {
        self.bitsPerSecond = bitsPerSecond
        self.packetsPerSecond = packetsPerSecond
    }

    func check(port: String) throws(SetupError) {
        if let bitsPerSecond, !Self.bitRange.contains(bitsPerSecond) {
            throw SetupError(
                "port \(port): limit of \(bitsPerSecond) bits per second: need 1000 to 10^12")
        }
        if let packetsPerSecond, !Self.packetRange.contains(packetsPerSecond) {
            throw SetupError(
                "port \(port): limit of \(packetsPerSecond) packets per second: need 1 to 10^9")
        }
    }
}

/// The buckets of one port.
final class RateLimiter: Sendable {
    private let bits: TokenBucket?
    private let packets: TokenBucket?
    private let start = CycleClock.now()

    /// - Returns: nil if nothing is limited.
    init?(_ limit: RateLimit) {
        if limit.bitsPerSecond == nil && limit.packetsPerSecond == nil { return nil }
        bits = limit.bitsPerSecond.map { TokenBucket(perSecond: Double($0) / 8, most: 1 << 17) }
        packets = limit.packetsPerSecond.map { TokenBucket(perSecond: Double($0), most: 1) }
    }

    deinit {
        bits?.free()
        packets?.free()
    }

    /// The time, for a burst.
    var now: UInt64 { (CycleClock.now() &- start) &<< TokenBucket.fractionBits }

    /// Whether a packet may come in; it counts then.
    func admits(_ byteCount: Int, at now: UInt64) -> Bool {
        if let packets, !packets.take(1, at: now) { return false }
        if let bits, !bits.take(byteCount, at: now) {
            packets?.giveBack(1)
            return false
        }
        return true
    }
}

/// One word in memory of its own.
struct TokenBucket: Sendable {
    /// Time is in parts of a cycle: it runs for months before it begins anew, and that is allowed.
    static let fractionBits: UInt64 = 8

    // SAFETY: a shared word over memory that lives from `init` to `free`.
    private let full: SharedWord64
    /// Of one token, in 2^-16 cycles.
    private let cost: UInt64
    /// How far ahead `full` may be when a packet comes.
    private let depth: UInt64
    /// How far ahead it is at most; further is the past.
    private let most: UInt64
    /// Tokens that a packet takes at most.
    private let largest: Int

    /// - Parameters:
    ///   - perSecond: tokens.
    ///   - largest: tokens that a packet takes at most.
    ///   - hertz: cycles of the clock in a second.
    init(perSecond: Double, most largest: Int, hertz: Double = CycleClock.hertz) {
        let memory = UnsafeMutableRawPointer.allocate(
            byteCount: CacheLine.byteCount, alignment: CacheLine.byteCount)
        memory.initializeMemory(as: UInt8.self, repeating: 0, count: CacheLine.byteCount)
        full = SharedWord64(memory)
        cost = max(1, UInt64(hertz * 65536 / perSecond))
        depth = (UInt64(hertz) << Self.fractionBits) / UInt64(RateLimit.burstDivisor)
        self.largest = largest
        // A packet may go beyond by its own price.
        most = depth + ((UInt64(largest) * cost) >> 8)
    }

    func free() { full.deallocate() }

    private func price(_ tokens: Int) -> UInt64 {
        (UInt64(truncatingIfNeeded: min(tokens, largest)) &* cost) &>> 8
    }

    /// Takes tokens if the bucket is not empty. Any thread.
    /// - Parameter now: in 2^-8 cycles.
    func take(_ tokens: Int, at now: UInt64) -> Bool {
        let price = price(tokens)
        var found = full.load()
        while true {
            let ahead = found &- now
            let isPast = ahead > most
            if !isPast && ahead > depth { return false }
            // [S3 both ways: what each thread takes is taken once]
            let result = full.compareExchange(
                expected: found, desired: (isPast ? now : found) &+ price)
            if result.exchanged { return true }
            found = result.original
        }
    }

    /// Gives back what was taken for a packet that is dropped after all.
    func giveBack(_ tokens: Int) { full.fetchAdd(0 &- price(tokens)) }
}

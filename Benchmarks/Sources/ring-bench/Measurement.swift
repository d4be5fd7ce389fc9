// Runs, and what they amount to.
import CRingBench
import Glibc

/// Median and spread of one contender at one burst size, in million elements per second.
struct Result: Encodable {
    let ring: String
    let burst: Int
    let median: Double
    let min: Double
    let max: Double
}

/// One set of conditions under which contenders are compared.
struct Bench {
    let capacity: UInt32
    let producerCPU: Int32
    let consumerCPU: Int32

    /// Moves `count` elements once.
    /// - Returns: million elements per second.
    /// - Throws: `Failure` when a thread cannot be pinned, or elements were lost, torn or swapped.
    func run(
        _ contender: ring_contender, count: UInt64, burst: Int, verify: Bool
    ) throws(Failure) -> Double {
        let name = String(cString: contender.name)
        guard let ring = contender.create(capacity) else {
            throw Failure("no memory for \(name)")
        }
        defer { contender.destroy(ring) }
        var job = ring_job(
            ring: ring, count: count, burst: UInt32(burst), yields: producerCPU == consumerCPU,
            verify: verify)
        var contender = contender
        var tally = ring_tally()
        var seconds = 0.0
        let error = ring_bench_run(
            &contender, &job, producerCPU, consumerCPU, &tally, &seconds)
        if error != 0 {
            throw Failure(
                "cannot run on CPUs \(producerCPU) and \(consumerCPU): "
                    + String(cString: strerror(error)))
        }
        let sum = Self.sum(below: count)
        guard tally.sequence_sum == sum, tally.check_sum == 0 &- sum &- count,
            tally.disorder == 0
        else { throw Failure("\(name), burst \(burst): elements lost, torn or out of order") }
        return Double(count) / seconds / 1e6
    }

    /// 0 + 1 + ... + (count - 1) modulo 2^64. The checks, each ~sequence, then sum to
    /// -sum - count.
    static func sum(below count: UInt64) -> UInt64 {
        count % 2 == 0 ? (count / 2) &* (count &- 1) : count &* ((count &- 1) / 2)
    }

    /// Verifies every contender, then measures them in turn, `repeats` times round after one
    /// round of warm-up.
    func compare(
        _ contenders: [ring_contender], burst: Int, count: UInt64, repeats: Int
    ) throws(Failure) -> [Result] {
        for contender in contenders {
            _ = try run(contender, count: count / 8 / 64 * 64, burst: burst, verify: true)
        }
        var rates = [[Double]](repeating: [], count: contenders.count)
        for round in 0...repeats {
            for (index, contender) in contenders.enumerated() {
                let rate = try run(contender, count: count, burst: burst, verify: false)
                if round > 0 { rates[index].append(rate) }
            }
        }
        var results: [Result] = []
        for (contender, rates) in zip(contenders, rates) {
            let sorted = rates.sorted()
            let middle = sorted.count / 2
            let median =
                sorted.count % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
            results.append(
                Result(
                    ring: String(cString: contender.name), burst: burst, median: median,
                    min: sorted[0], max: sorted[sorted.count - 1]))
        }
        return results
    }
}

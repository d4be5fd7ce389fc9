// Parts of the receive path by themselves: rings, header queue, parser, copies, virtqueue. One
// iteration times 32 bursts of 32 by the cycle counter, and reports one burst's share: a packet by
// itself is shorter than reading the counter takes. No thresholds here: cycles are the machine's
// too. Instructions have some: `make count`.
import Benchmark
import CRingBench
import CleaveGuestDriver
import CleaveHost
import CleaveRings
import CleaveTraffic
@_spi(Measure) import CleaveVirtioNet
import Glibc

extension BenchmarkMetric {
    static var cyclesPerBurst: BenchmarkMetric {
        .custom("TSC cycles per burst of 32", polarity: .prefersSmaller, useScalingFactor: false)
    }
}

private let burst = 32
private let bursts = 32

/// Registers a benchmark whose `body` does burst number 0 to 31 of an iteration.
private func time(_ name: String, _ body: @escaping (Int) -> Void) {
    Benchmark(name) { benchmark in
        for _ in benchmark.scaledIterations {
            let start = CycleClock.now()
            for number in 0..<bursts { body(number) }
            let cycles = CycleClock.now() &- start
            benchmark.measurement(.cyclesPerBurst, Int(cycles) / bursts)
        }
    }
}

/// Packets that live as long as the process.
private func pool(_ profiles: [String]) -> PacketPool {
    do {
        let packets = try profiles.map {
            try TrafficProfile.parse($0).packets(count: burst * bursts, flows: 16, seed: 7)
        }
        return try PacketPool(
            name: profiles.joined(separator: ","),
            packets: (0..<burst * bursts).map { packets[$0 % packets.count][$0] })
    } catch { fatalError("\(error)") }
}

private func parsers() {
    let mixes = [
        ("plain", ["128/tcp4", "128/udp4", "128/tcp6", "128/udp6"]),
        ("tagged", ["128/tcp4+vlan", "128/udp6+vlan", "128/tcp6+qinq", "128/udp4+qinq"]),
    ]
    for (name, profiles) in mixes {
        let pool = pool(profiles)
        let refs = pool.refs.baseAddress!
        let splits = UnsafeMutablePointer<HeaderSplit>.allocate(capacity: burst)
        time("parser, \(name): Cleave") { number in
            HeaderParser.parse(refs + number * burst, count: burst, into: splits)
            blackHole(pool)
        }
        let lengths = UnsafeMutablePointer<UInt16>.allocate(capacity: burst)
        if let rival = ParserRival(
            pool.refs.map(\.pointer), byteCounts: pool.refs.map(\.byteCount))
        {
            time("parser, \(name): rte_net_get_ptype") { rival($0 * burst, burst, lengths) }
        }
    }
}

private func copies() {
    for byteCount in [64, 128, 1500] {
        let pool = pool(["\(byteCount)"])
        let refs = pool.refs.baseAddress!
        let target = UnsafeMutableRawPointer.allocate(byteCount: burst * 2048, alignment: 4096)
        time("copy, \(byteCount) B: Cleave") { number in
            CopyKernel.copy(refs + number * burst, count: burst, to: target, stride: 2048)
            blackHole(pool)
        }
        time("copy, \(byteCount) B: memcpy of the C library") { number in
            for index in 0..<burst {
                let ref = refs[number * burst + index]
                memcpy(target + index * 2048, ref.pointer, Int(ref.byteCount))
            }
        }
    }
}

private func headerQueue() throws {
    let space = try GuestSpace(byteCount: 1 << 20)
    let driver = try DriverHeaderQueue(slotSize: 128, slotCount: 256, in: space)
    let device = try HeaderQueue(driver.layout, memory: space.memory)
    time("header queue, claim and retire") { _ in
        let claim = device.claim(burst)
        driver.retire(first: Int(claim.first & 255), count: claim.count)
    }
}

/// What the driver does between two bursts is timed as well, and by itself by `cleave-bench`.
private func virtqueue(_ ring: RingFormat) throws {
    let space = try GuestSpace(byteCount: 4 << 20)
    let driver = try RxDriver(
        RxDriverConfiguration(
            ringSize: 256, ring: ring, shape: .single(packetByteCount: 64), method: .whole),
        in: space)
    let arena = try MemoryArena(
        byteCount: BareVirtqueue.arenaByteCount(size: 256, burst: burst), pages: .small)
    let queue = try BareVirtqueue(
        driver.virtqueue, features: driver.configuration.allFeatures, memory: space.memory,
        burst: burst, in: arena)
    driver.refill()
    Benchmark("virtqueue, \(ring.rawValue), fetch and flush") { benchmark in
        for _ in benchmark.scaledIterations {
            var cycles: UInt64 = 0
            for _ in 0..<bursts {
                let start = CycleClock.now()
                let taken = queue.poll(burst, byteCount: 76)
                cycles &+= CycleClock.now() &- start &- CycleClock.readingCost
                guard taken == burst, driver.harvest() == burst else {
                    return benchmark.error("a burst was not carried")
                }
                driver.finish()
                driver.refill()
            }
            benchmark.measurement(.cyclesPerBurst, Int(cycles) / bursts)
        }
        blackHole(arena)
    }
}

private func rings() {
    let capacity = 1024
    let memory = UnsafeMutableRawPointer.allocate(
        byteCount: SPSCRing<ring_element>.byteCount(capacity: capacity),
        alignment: CacheLine.byteCount)
    let ring = SPSCRing<ring_element>(memory: memory, capacity: capacity)
    let producer = UnsafeMutablePointer<SPSCProducer<ring_element>>.allocate(capacity: 1)
    producer.initialize(to: ring.makeProducer())
    let consumer = UnsafeMutablePointer<SPSCConsumer<ring_element>>.allocate(capacity: 1)
    consumer.initialize(to: ring.makeConsumer())
    let elements = UnsafeMutablePointer<ring_element>.allocate(capacity: burst)
    time("ring, one thread: Cleave") { _ in
        for index in 0..<burst {
            elements[index] = ring_element(sequence: UInt64(index), check: ~UInt64(index))
        }
        _ = producer.pointee.push(elements, count: burst)
        let count = consumer.pointee.pop(into: elements, count: burst)
        var sum: UInt64 = 0
        for index in 0..<count { sum &+= elements[index].sequence &+ elements[index].check }
        blackHole(sum)
    }
    for contender in Rivals.rings(capacity: UInt32(capacity)) {
        guard let rival = contender.create(UInt32(capacity)) else { continue }
        time("ring, one thread: \(String(cString: contender.name))") { _ in
            var job = ring_job(
                ring: rival, count: UInt64(burst), burst: UInt32(burst), yields: false,
                verify: false)
            var tally = ring_tally()
            contender.produce(&job)
            contender.consume(&job, &tally)
            blackHole(tally.sequence_sum)
        }
    }
}

let benchmarks: @Sendable () -> Void = {
    Benchmark.defaultConfiguration = .init(
        metrics: [.cyclesPerBurst], warmupIterations: 20, maxDuration: .milliseconds(500),
        maxIterations: 2000)
    parsers()
    copies()
    rings()
    do {
        try headerQueue()
        for ring in RingFormat.allCases { try virtqueue(ring) }
    } catch { fatalError("\(error)") }
}

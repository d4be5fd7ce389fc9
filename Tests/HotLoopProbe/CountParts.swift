// Parts of the path by themselves, for the instruction counter: what `make bench-micro` times.
import CCleaveTestSupport
import CleaveGuestDriver
import CleaveHost
import CleaveRings
import CleaveTraffic
@_spi(Measure) import CleaveVirtioNet

/// Counts `operation` on items of `kind`, `rounds` bursts of 32, under the name
/// "OPERATION KIND part".
func countPart(
    _ operation: String, _ kind: String, packets: Int, _ burst: () throws -> Void
) rethrows {
    for _ in 0..<16 { try burst() }
    for _ in 0..<packets / 32 {
        cleave_count_toggle()
        try burst()
        cleave_count_toggle()
    }
    cleave_count_dump("\(operation) \(kind) part")
}

/// Parser, copies, header queue, virtqueue and ring, each in bursts of 32.
func countParts(packets: Int) throws {
    for (kind, profile) in [
        ("plain", "64"), ("plain6", "128/udp6"), ("tagged", "128/tcp4+vlan"),
    ] {
        let pool = try PacketPool.load(profile, count: 32, flows: 16)
        let splits = UnsafeMutablePointer<HeaderSplit>.allocate(capacity: 32)
        defer { splits.deallocate() }
        countPart("parse", kind, packets: packets) {
            HeaderParser.parse(pool.refs.baseAddress!, count: 32, into: splits)
        }
    }
    for byteCount in [64, 128, 1500] {
        let pool = try PacketPool.load("\(byteCount)", count: 32, flows: 16)
        let target = UnsafeMutableRawPointer.allocate(byteCount: 32 * 2048, alignment: 4096)
        defer { target.deallocate() }
        countPart("copy", "bytes\(byteCount)", packets: packets) {
            CopyKernel.copy(pool.refs.baseAddress!, count: 32, to: target, stride: 2048)
        }
    }
    try countHeaderQueue(packets: packets)
    for ring in RingFormat.allCases { try countFetch(ring, packets: packets) }
    countRing(packets: packets)
}

private func countHeaderQueue(packets: Int) throws {
    let space = try GuestSpace(byteCount: 1 << 20)
    let driver = try DriverHeaderQueue(slotSize: 128, slotCount: 256, in: space)
    let device = try HeaderQueue(driver.layout, memory: space.memory)
    var lost = 0
    func claim() -> Int {
        let claim = device.claim(32)
        if claim.count != 32 { lost += 1 }
        return Int(claim.first & 255)
    }
    countPart("claim", "tail", packets: packets) { driver.retire(first: claim(), count: 32) }
    guard lost == 0 else { throw ProbeError(description: "\(lost) claims fell short") }
}

private func countFetch(_ ring: RingFormat, packets: Int) throws {
    let space = try GuestSpace(byteCount: 4 << 20)
    let driver = try RxDriver(
        RxDriverConfiguration(
            ringSize: 256, ring: ring, shape: .single(packetByteCount: 64), method: .whole),
        in: space)
    let arena = try MemoryArena(
        byteCount: BareVirtqueue.arenaByteCount(size: 256, burst: 32), pages: .small)
    let queue = try BareVirtqueue(
        driver.virtqueue, features: driver.configuration.allFeatures, memory: space.memory,
        burst: 32, in: arena)
    driver.refill()
    for round in 0..<packets / 32 + 16 {
        let isCounted = round >= 16
        if isCounted { cleave_count_toggle() }
        let taken = queue.poll(32, byteCount: 76)
        if isCounted { cleave_count_toggle() }
        let found = driver.harvest()
        driver.finish()
        driver.refill()
        guard taken == 32, found == 32 else {
            throw ProbeError(description: "fetch \(ring.rawValue): \(taken) taken, \(found) found")
        }
    }
    cleave_count_dump("fetch \(ring.rawValue) part")
}

private func countRing(packets: Int) {
    let memory = UnsafeMutableRawPointer.allocate(
        byteCount: SPSCRing<PacketRef>.byteCount(capacity: 1024), alignment: CacheLine.byteCount)
    defer { memory.deallocate() }
    let ring = SPSCRing<PacketRef>(memory: memory, capacity: 1024)
    var producer = ring.makeProducer()
    var consumer = ring.makeConsumer()
    let refs = UnsafeMutablePointer<PacketRef>.allocate(capacity: 32)
    refs.initialize(repeating: PacketRef(address: 64, byteCount: 64), count: 32)
    defer { refs.deallocate() }
    countPart("ring", "burst", packets: packets) {
        _ = producer.push(refs, count: 32)
        _ = consumer.pop(into: refs, count: 32)
    }
}

// Requests in any order with any numbers, half of them nearly right: nothing crashes, and what a
// session holds at the end goes with it.
import CCleaveHost
import CleaveTestSupport
import CleaveVirtioNet
import Glibc
import Testing

@testable import CleaveVhostUser

@Suite("Anything a front-end may send")
struct AnythingTests {
    /// Numbers that are often wrong by little, and seldom by much.
    private static func number(_ random: inout SeededRandom) -> UInt64 {
        switch random.int(0...5) {
        case 0: random.next()
        case 1: UInt64(random.int(0...4))
        case 2: random.pick([0, 1, 64, 256, 1 << 16, 1 << 32, .max, .max - 4095, 1 << 63])
        case 3: SharedMemory.userBase + UInt64(random.int(0...(2 << 20)))
        case 4: SharedMemory.guestBase + UInt64(random.int(0...512)) * 4096
        default: UInt64(random.int(0...256)) * 4096
        }
    }

    private static func region(_ random: inout SeededRandom) -> RegionDescription {
        var region = SharedMemory.region(
            guest: UInt64(random.int(0...3)) << 28, user: UInt64(random.int(1...3)) << 28)
        if random.chance(10) { region.size = number(&random) }
        if random.chance(4) { region.guestAddress = number(&random) }
        if random.chance(4) { region.userAddress = number(&random) }
        if random.chance(4) { region.fileOffset = number(&random) }
        return region
    }

    private static func payload(
        _ request: FrontendRequest, _ random: inout SeededRandom
    ) -> [UInt8] {
        let ring =
            random.chance(5)
            ? UInt32(truncatingIfNeeded: random.next())
            : UInt32(random.int(0...random.pick([1, 4])))
        switch request {
        case .setMemoryTable:
            let count = random.int(0...random.pick([1, 3, 9]))
            let regions = (0..<count).map { _ in region(&random) }
            return SessionRig.table(regions, count: random.chance(5) ? random.int(0...99) : nil)
        case .addMemoryRegion, .removeMemoryRegion:
            return SessionRig.single(region(&random))
        case .setVringAddress:
            let base = UInt64(random.int(1...3)) << 28
            var address = VringAddress(
                index: ring, descriptorArea: base, driverArea: base + 0x8000,
                deviceArea: base + 0x9000)
            if random.chance(20) { address.descriptorArea = number(&random) }
            if random.chance(20) { address.deviceArea = number(&random) }
            if random.chance(30) { address.flags = VringAddress.logs }
            if random.chance(50) { address.logAddress = number(&random) }
            return address.bytes
        case .setVringNum:
            let size = UInt32(1 << random.int(0...9))
            return VringState(
                index: ring, number: random.chance(80) ? size : UInt32(random.int(0...70000))
            ).bytes
        case .setVringEnable:
            return VringState(index: ring, number: random.chance(70) ? 1 : 0).bytes
        case .setFeatures:
            return PayloadWriter.number(
                random.pick([1 << 32 | 1 << 30, 1 << 34 | 1 << 30, 1 << 32])
                    | random.pick([0, 1 << 26]))
        case .setLogBase where random.chance(97):
            // Of the file that holds guest memory: anybody may write there.
            return PayloadWriter.number(1 << 17)
                + PayloadWriter.number(UInt64(random.int(0...0xe_0000)))
        case .setInFlightDescriptor where random.chance(80):
            var region = InFlightDescription(
                ringCount: random.int(1...4), ringSize: 1 << random.int(5...9))
            (region.byteCount, region.fileOffset) = (1 << 17, UInt64(8 * random.int(0...9)))
            return region.bytes()
        case .setProtocolFeatures:
            return PayloadWriter.number(
                random.pick([
                    ProtocolFeatures.offered.rawValue, 1 << 3,
                    number(&random) & 0x1ffff & ~(1 << 14),
                ]))
        case .setVringKick, .setVringCall, .setVringError:
            return PayloadWriter.number(UInt64(ring) | (random.chance(50) ? 1 << 8 : 0))
        case .setHeaderQueue:
            return (0..<7).flatMap { _ in PayloadWriter.number(number(&random)) }
        default:
            let count = request.shape.payload.lowerBound
            let bytes = (0..<4).flatMap { _ in PayloadWriter.number(number(&random)) }
            return Array(bytes.prefix(count))
        }
    }

    private static func send(_ rig: SessionRig, _ pipe: Int32, _ random: inout SeededRandom) {
        var request = random.pick(FrontendRequest.allCases)
        // Those that end what others have built up come seldom.
        let ends: [FrontendRequest] = [
            .resetDevice, .resetOwner, .setStatus, .getVringBase, .setLogBase,
        ]
        if ends.contains(request), random.chance(90) { request = .setVringKick }
        var bytes = payload(request, &random)
        if random.chance(1) { bytes = random.bytes(random.int(0...400)) }
        var descriptors = Array(
            repeating: rig.memory.descriptor, count: random.int(0...random.pick([0, 1, 3, 8])))
        switch request {
        case .setMemoryTable where random.chance(90):
            var reader = PayloadReader(bytes)
            let count = Int(min(reader.next(UInt32.self), 8))
            descriptors = Array(repeating: rig.memory.descriptor, count: count)
        case .setVringKick, .setVringCall, .setVringError:
            let isPolled = bytes.count > 1 && bytes[1] & 1 != 0
            descriptors = isPolled ? [] : [random.chance(80) ? rig.event : pipe]
        case .addMemoryRegion where random.chance(90), .setLogBase, .setInFlightDescriptor:
            descriptors = [rig.memory.descriptor]
        default: if random.chance(80) { descriptors = [] }
        }
        let number = random.chance(1) ? UInt32(random.int(0...60)) : request.rawValue
        rig.send(
            number, bytes, descriptors, flags: random.chance(99) ? 9 : UInt32(random.int(0...15)))
    }

    @Test(
        "Random requests crash nothing, start rings only in order, and leave nothing",
        arguments: 0..<60)
    func random(_ seed: Int) throws {
        var random = SeededRandom(seed: UInt64(seed))
        let rig = SessionRig.offeringAll()
        let peers = PeerDescriptors()
        let pipe = peers.pipe()
        let identity = try #require(FileIdentity(pipe.writer))
        let memory = try #require(FileIdentity(rig.memory.descriptor))
        var running: Set<String> = []
        for _ in 0..<1500 {
            Self.send(rig, pipe.writer, &random)
            let result = rig.session.service()
            _ = rig.answers()
            for event in rig.device.take() {
                let words = event.split(separator: " ").map(String.init)
                if words[0] == "start" {
                    let isFresh = running.insert(words[1]).inserted
                    #expect(isFresh)
                }
                if words[0] == "stop" {
                    let isKnown = running.remove(words[1]) != nil; #expect(isKnown)
                }
            }
            for setup in rig.device.setups.values {
                #expect(throws: Never.self) { try setup.virtqueue.check(in: setup.memory) }
            }
            if result != .open { break }
        }
        rig.session.close()
        for event in rig.device.take() where event.hasPrefix("stop") {
            running.remove(String(event.dropFirst(5)))
        }
        #expect(running.isEmpty)
        #expect(identity.openCount == 2)
        #expect(memory.openCount == 1)
        #expect(memory.mappingCount == 0)
    }

    @Test("The random requests do start rings")
    func coverage() {
        var random = SeededRandom(seed: 1000)
        let peers = PeerDescriptors()
        let pipe = peers.pipe()
        var starts = 0
        for _ in 0..<30 {
            let rig = SessionRig.offeringAll()
            for _ in 0..<1500 {
                Self.send(rig, pipe.writer, &random)
                if rig.session.service() != .open { break }
                _ = rig.answers()
            }
            starts += rig.device.events.count { $0.hasPrefix("start") }
        }
        #expect(starts > 30)
    }
}

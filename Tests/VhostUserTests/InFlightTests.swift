// The in-flight region between front-end and back-end: who makes it, who keeps it, what is refused.
// Group A of the hostile catalogue, A46.
import CCleaveHost
import CleaveHost
import CleaveTestSupport
import CleaveVirtioNet
import Glibc
import Testing

@testable import CleaveVhostUser

@Suite("In-flight region of a session")
struct InFlightTests {
    private static func payload(
        _ byteCount: UInt64, _ offset: UInt64, rings: UInt16, size: UInt16, padding: Int = 4
    ) -> [UInt8] {
        var description = InFlightDescription(ringCount: Int(rings), ringSize: Int(size))
        description.byteCount = byteCount
        description.fileOffset = offset
        return description.bytes(20 + padding)
    }

    private func set(
        _ rig: SessionRig, _ memory: SharedMemory, _ byteCount: UInt64 = 1 << 16,
        offset: UInt64 = 0, rings: UInt16 = 2, size: UInt16 = 64
    ) -> String {
        rig.request(
            .setInFlightDescriptor, Self.payload(byteCount, offset, rings: rings, size: size),
            [memory.descriptor])
    }

    @Test("A46 Regions that cannot be are refused")
    func refused() {
        let memory = SharedMemory(byteCount: 1 << 16)
        let rig = SessionRig()
        let each = UInt64(InFlightRecord.byteCount(size: 64, .split))
        let cases: [(UInt64, UInt64, UInt16, UInt16)] = [
            (1 << 16, 0, 0, 64), (1 << 16, 0, 5, 64), (1 << 16, 0, 65535, 64),
            (1 << 16, 0, 2, 0), (1 << 16, 0, 2, 32769), (1 << 16, 0, 2, 65535),
            (2 * each - 1, 0, 2, 64), (0, 0, 2, 64), (1 << 16, 4, 2, 64), (1 << 16, 1, 2, 64),
        ]
        for (byteCount, offset, rings, size) in cases {
            let outcome = set(
                rig, memory, byteCount, offset: offset, rings: rings, size: size)
            #expect(outcome == "REJ(inflight)", "\(byteCount) \(offset) \(rings) \(size)")
        }
        #expect(set(rig, memory, 1 << 40, offset: 1 << 16) == "REJ(pastEOF)")
        #expect(set(rig, memory, 1 << 40, offset: .max - 7) == "REJ(pastEOF)")
        let peers = PeerDescriptors()
        let payload = Self.payload(1 << 16, 0, rings: 2, size: 64)
        #expect(rig.request(.setInFlightDescriptor, payload, [peers.event()]) == "REJ(fdType)")
        #expect(rig.request(.setInFlightDescriptor, payload) == "REJ(fds)")
        #expect(rig.request(.setInFlightDescriptor, [1], [memory.descriptor]) == "REJ(size)")
        for (rings, size) in [(0, 64), (5, 64), (2, 0), (2, 40000)] as [(UInt16, UInt16)] {
            let wanted = Self.payload(0, 0, rings: rings, size: size)
            #expect(rig.request(.getInFlightDescriptor, wanted, flags: 1) == "REJ(inflight)")
        }
        #expect(rig.session.inFlight == nil)
        #expect(set(rig, memory, 2 * each) == "ok")
        #expect(set(rig, memory, offset: 8) == "ok")
        #expect(set(rig, memory, offset: (1 << 16) - 8) == "REJ(pastEOF)")
        rig.startRing(0)
        #expect(set(rig, memory) == "REJ(busy)")
        rig.session.close()
        rig.device.setups = [:]
        #expect(FileIdentity(memory.descriptor)?.openCount == 1)
        #expect(FileIdentity(memory.descriptor)?.mappingCount == 0)
    }

    @Test(
        "A46 A region is made on demand, and belongs to the front-end alone", arguments: [20, 24])
    func made(_ payloadByteCount: Int) throws {
        let rig = SessionRig()
        let wanted = Self.payload(
            0, 0, rings: 4, size: 256, padding: payloadByteCount - 20)
        for _ in 0..<3 {
            rig.send(31, wanted, flags: 1)
            #expect(rig.session.service() == .open)
            let connection = Connection(dup(rig.far))
            guard case .message(let answer) = connection.receive() else {
                Issue.record("no answer")
                return
            }
            #expect(answer.payload.count == payloadByteCount)
            let told = InFlightDescription(answer.payload)
            #expect(told.ringCount == 4 && told.ringSize == 256 && told.fileOffset == 0)
            #expect(told.byteCount == UInt64(4 * InFlightRecord.byteCount(size: 256, .split)))
            let file = try #require(answer.descriptors.first)
            var status = stat()
            #expect(fstat(file.fileDescriptor, &status) == 0)
            #expect(UInt64(status.st_size) == told.byteCount)
            // CVE-2020-10726: nothing of it stays here.
            #expect(FileIdentity(file.fileDescriptor)?.openCount == 1)
            #expect(FileIdentity(file.fileDescriptor)?.mappingCount == 0)
        }
    }

    @Test("A split ring goes on at its used index, whatever base it is told")
    func splitBase() throws {
        let rig = SessionRig()
        let memory = SharedMemory(byteCount: 1 << 16)
        rig.setMemory([SharedMemory.region()])
        #expect(set(rig, memory) == "ok")
        rig.startRing(0, base: 5)
        // Nobody had used the region: the front-end is right.
        #expect(rig.device.setups[0]?.virtqueue.base == 5)
        let pages = mmap(
            nil, 1 << 16, PROT_READ | PROT_WRITE, MAP_SHARED, rig.memory.descriptor, 0)
        let used = try #require(pages) + 0x2002
        used.storeBytes(of: 9, as: UInt16.self)
        // The back-end dies; the next one has the region.
        let next = SessionRig()
        var table = SharedMemory.region()
        table.fileOffset = 0
        next.setMemory([table], [rig.memory.descriptor])
        #expect(set(next, memory) == "ok")
        next.startRing(0, base: 5)
        #expect(next.device.setups[0]?.virtqueue.base == 9)
        // Stopped in an orderly way the front-end knows best.
        next.device.positions[0] = 9
        #expect(next.base(of: 0) == 9)
        used.storeBytes(of: 77, as: UInt16.self)
        #expect(next.state(.setVringBase, 0, 11) == "ok")
        #expect(next.setDescriptor(.setVringKick, 0, next.event) == "ok")
        #expect(next.device.setups[0]?.virtqueue.base == 11)
        munmap(pages, 1 << 16)
    }

    @Test("A46 A ring that the region has no part for, or a contradiction in it, breaks that ring")
    func broken() throws {
        let rig = SessionRig()
        let memory = SharedMemory(byteCount: 1 << 16)
        #expect(set(rig, memory, rings: 1, size: 32) == "ok")
        rig.startRing(0, size: 32)
        #expect(rig.device.setups[0] != nil)
        rig.startRing(1, size: 32)
        #expect(rig.session.lastRingError?.contains("has no part for it") == true)
        rig.startRing(2, size: 64)
        #expect(rig.session.counters["broken"] == 2)
        _ = rig.base(of: 0)
        #expect(rig.state(.setVringNum, 0, 64) == "ok")
        #expect(rig.setDescriptor(.setVringKick, 0, rig.event) == "accepted broken")
        #expect(rig.session.lastRingError?.contains("rings of up to 32 descriptors") == true)
        // Version 2.
        let (other, foreign) = (SessionRig(), SharedMemory(byteCount: 1 << 16))
        pwrite(foreign.descriptor, [2] as [UInt8], 1, 8)
        #expect(set(other, foreign) == "ok")
        other.startRing(0)
        #expect(other.session.lastRingError?.contains("version 2") == true)
    }

    @Test("A35 A region that was cut short ends the session, not the process")
    func truncated() {
        let rig = SessionRig()
        let memory = SharedMemory(byteCount: 1 << 16, sealed: false)
        guard set(rig, memory) == "ok", ftruncate(memory.descriptor, 0) == 0 else { return }
        rig.setMemory([SharedMemory.region()])
        rig.state(.setVringNum, 0, 64)
        rig.setAddress(SessionRig.address(0))
        rig.setDescriptor(.setVringKick, 0, rig.event)
        #expect(rig.state(.setVringEnable, 0, 1) == "CLOSE(memoryFault)")
    }
}

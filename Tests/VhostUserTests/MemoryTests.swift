// Guest memory: tables, files, addresses and what the front-end may take away. Group A of the
// hostile catalogue, A29 to A39.
import CCleaveTestSupport
import CleaveHost
import CleaveTestSupport
import CleaveVirtioNet
import Glibc
import Testing

@testable import CleaveVhostUser

@Suite("Memory of a session")
struct MemoryTests {
    private static let page: UInt64 = 4096

    @Test("A29 A30 Regions that are empty or wrap around are refused")
    func region() {
        let rig = SessionRig()
        let size = UInt64(SharedMemory.byteCount)
        let wrong = [
            SharedMemory.region(size: 0),
            SharedMemory.region(guest: UInt64.max - size + 2),
            SharedMemory.region(user: UInt64.max - size + 2),
            SharedMemory.region(offset: UInt64.max - size + 2),
            SharedMemory.region(size: UInt64.max),
            SharedMemory.region(size: 1 << 63),
            SharedMemory.region(offset: 1 << 63),
        ]
        for region in wrong {
            #expect(rig.setMemory([region]) == "REJ(region)", "\(region)")
            let single = SessionRig.single(region)
            #expect(
                rig.request(.addMemoryRegion, single, [rig.memory.descriptor]) == "REJ(region)")
        }
        #expect(rig.session.table == nil)
        #expect(FileIdentity(rig.memory.descriptor)?.openCount == 1)
    }

    @Test("A31 Regions that overlap in guest or front-end addresses are refused")
    func overlap() {
        let rig = SessionRig()
        let half = UInt64(SharedMemory.byteCount / 2)
        let (guest, user) = (SharedMemory.guestBase, SharedMemory.userBase)
        let first = SharedMemory.region(size: half)
        let far: UInt64 = 1 << 40
        for second in [
            first,
            SharedMemory.region(guest: guest + half - 1, size: half, user: user + far),
            SharedMemory.region(guest: guest - half + 1, size: half, user: user + far),
            SharedMemory.region(guest: guest + far, size: half, user: user + half - 1),
            SharedMemory.region(guest: guest + far, size: half, user: user - half + 1),
        ] {
            #expect(rig.setMemory([first, second]) == "REJ(overlap)")
            #expect(rig.setMemory([second, first]) == "REJ(overlap)")
        }
        let beside = SharedMemory.region(guest: guest + half, size: half, user: user + half)
        #expect(rig.setMemory([first, beside]) == "ok")
        // The same range of another file, and another part of the same file.
        let other = SharedMemory()
        let same = SessionRig.single(beside)
        #expect(rig.request(.addMemoryRegion, same, [other.descriptor]) == "REJ(overlap)")
        var moved = beside
        moved.fileOffset = half
        #expect(
            rig.request(.addMemoryRegion, SessionRig.single(moved), [rig.memory.descriptor])
                == "REJ(overlap)")
    }

    @Test("A31 A region that is added again is held twice, and goes when it is removed twice")
    func heldTwice() throws {
        let rig = SessionRig()
        let file = try #require(FileIdentity(rig.memory.descriptor))
        rig.startRing(0)
        let openCount = file.openCount
        _ = rig.device.take()
        let region = SharedMemory.region(guest: 1 << 40, user: 1 << 44)
        let single = SessionRig.single(region)
        #expect(rig.request(.addMemoryRegion, single, [rig.memory.descriptor]) == "ok")
        #expect(rig.device.take() == ["stop 0", "start 0"])
        // QEMU 7.2 does this once for each further queue pair; the rings go on.
        for _ in 0..<3 {
            #expect(rig.request(.addMemoryRegion, single, [rig.memory.descriptor]) == "ok")
        }
        for _ in 0..<3 { #expect(rig.request(.removeMemoryRegion, single) == "ok") }
        #expect(rig.device.take() == [])
        #expect(rig.session.table?.descriptions.count == 2)
        #expect(rig.request(.removeMemoryRegion, single) == "ok")
        #expect(rig.device.take() == ["stop 0", "start 0"])
        #expect(rig.request(.removeMemoryRegion, single) == "REJ(region)")
        #expect(rig.session.table?.descriptions.count == 1)
        #expect(file.openCount == openCount)
    }

    @Test(
        "A32 An offset inside a page is rounded down, and never mapped past",
        arguments: [0, 1, 0xfff, 0x1000, 0x1801] as [UInt64])
    func offset(_ offset: UInt64) throws {
        let rig = SessionRig()
        let size = UInt64(SharedMemory.byteCount) - offset
        var mark: UInt8 = 0xa5
        pwrite(rig.memory.descriptor, &mark, 1, Int(offset))
        #expect(rig.setMemory([SharedMemory.region(size: size, offset: offset)]) == "ok")
        let memory = try #require(rig.session.table?.memory)
        let base = GuestAddress(SharedMemory.guestBase)
        let first = try #require(memory.translate(base, byteCount: Int(size)))
        #expect(first.load(as: UInt8.self) == 0xa5)
        #expect(memory.translate(base, byteCount: Int(size) + 1) == nil)
        #expect(FileIdentity(rig.memory.descriptor)?.mappingCount == 1)
    }

    @Test("A33 Region counts: 0 removes all, more than 8 are refused")
    func count() {
        let rig = SessionRig()
        rig.startRing(0)
        let identity = FileIdentity(rig.memory.descriptor)
        for wrong in [9, 33, 0xffff, 0xffff_ffff] {
            let table = SessionRig.table([SharedMemory.region()], count: wrong)
            let outcome = rig.request(.setMemoryTable, table, [rig.memory.descriptor])
            #expect(outcome == "REJ(tooMany)")
        }
        // As many as it says, and a descriptor for each.
        let short = SessionRig.table([SharedMemory.region()], count: 2)
        #expect(
            rig.request(
                .setMemoryTable, short, [rig.memory.descriptor, rig.memory.descriptor])
                == "REJ(size)")
        #expect(rig.setMemory([SharedMemory.region()], []) == "REJ(fds)")
        #expect(
            rig.setMemory([SharedMemory.region()], [rig.memory.descriptor, rig.memory.descriptor])
                == "REJ(fds)")
        #expect(rig.device.take() == ["start 0"])
        #expect(rig.setMemory([]) == "ok")
        #expect(rig.device.take() == ["stop 0"])
        #expect(rig.session.table == nil)
        // The device has let go of it, too.
        #expect(identity?.mappingCount == 0)
        #expect(rig.setMemory([SharedMemory.region()]) == "ok")
        #expect(rig.device.take() == ["start 0"])
    }

    @Test("A33 Eight regions in one message, 64 by slots")
    func slots() throws {
        let rig = SessionRig()
        func region(_ index: Int) -> RegionDescription {
            SharedMemory.region(
                guest: UInt64(index) << 32, size: Self.page, user: UInt64(index + 1) << 33,
                offset: UInt64(index) * Self.page)
        }
        #expect(rig.setMemory((0..<8).map(region)) == "ok")
        for index in 8..<64 {
            let outcome = rig.request(
                .addMemoryRegion, SessionRig.single(region(index)), [rig.memory.descriptor])
            #expect(outcome == "ok")
        }
        let one = SessionRig.single(region(64))
        #expect(rig.request(.addMemoryRegion, one, [rig.memory.descriptor]) == "REJ(tooMany)")
        rig.send(36)
        _ = rig.session.service()
        #expect(rig.answers().first?.payload == PayloadWriter.number(64))
        let identity = try #require(FileIdentity(rig.memory.descriptor))
        // Beside the guest's own, each region keeps its file open for a process that takes over.
        #expect(identity.openCount == 1 + 64)
        for index in 0..<64 {
            var again = region(index)
            // The offset does not matter, and a descriptor that comes along is closed.
            again.fileOffset = 12345
            let passed = index % 2 == 0 ? [] : [rig.memory.descriptor]
            let outcome = rig.request(.removeMemoryRegion, SessionRig.single(again), passed)
            #expect(outcome == "ok")
        }
        #expect(rig.session.table == nil)
        #expect(identity.mappingCount == 0)
        #expect(identity.openCount == 1)
        #expect(
            rig.request(.removeMemoryRegion, SessionRig.single(region(0))) == "REJ(region)")
    }

    @Test("A34 Memory beyond the end of its file is refused")
    func pastEnd() {
        let rig = SessionRig()
        let size = UInt64(SharedMemory.byteCount)
        #expect(rig.setMemory([SharedMemory.region(size: size + 1)]) == "REJ(pastEOF)")
        #expect(rig.setMemory([SharedMemory.region(size: size, offset: 1)]) == "REJ(pastEOF)")
        #expect(rig.setMemory([SharedMemory.region(size: 1, offset: size)]) == "REJ(pastEOF)")
        #expect(rig.setMemory([SharedMemory.region(size: 1 << 40)]) == "REJ(pastEOF)")
        #expect(rig.setMemory([SharedMemory.region(size: 1, offset: size - 1)]) == "ok")
    }

    @Test("A34 Files that cannot be guest memory are refused")
    func fileKind() throws {
        let rig = SessionRig()
        let peers = PeerDescriptors()
        let readOnly = peers.keep(
            open("/proc/self/fd/\(rig.memory.descriptor)", O_RDONLY | O_CLOEXEC))
        for (name, descriptor) in peers.unfit()
        where name != "a memfd" && FileIdentity(descriptor) != nil {
            let outcome = rig.setMemory([SharedMemory.region()], [descriptor])
            #expect(outcome == "REJ(fdType)", "\(name)")
        }
        #expect(rig.setMemory([SharedMemory.region()], [readOnly]) == "REJ(fdType)")
    }

    @Test("A34 A table that is refused leaves the old one, its rings and no further descriptors")
    func unchanged() throws {
        let rig = SessionRig()
        rig.startRing(0)
        _ = rig.device.take()
        let identity = try #require(FileIdentity(rig.memory.descriptor))
        let good = SharedMemory.region(guest: 0, size: Self.page, user: 0)
        let bad = SharedMemory.region(size: 1 << 40)
        #expect(rig.setMemory([good, bad]) == "REJ(pastEOF)")
        #expect(rig.device.take() == [])
        #expect(rig.session.table?.descriptions == [SharedMemory.region()])
        #expect(identity.mappingCount == 1)
        #expect(identity.openCount == 1 + 1)
    }

    @Test("A35 A file cut short after mapping ends the device, not the process")
    func truncated() throws {
        let rig = SessionRig()
        let file = SharedMemory(sealed: false)
        #expect(rig.setMemory([SharedMemory.region()], [file.descriptor]) == "ok")
        rig.startRing(0)
        let table = try #require(rig.session.table)
        let base = GuestAddress(SharedMemory.guestBase)
        let first = try #require(table.memory.translate(base, byteCount: SharedMemory.byteCount))
        first.storeBytes(of: 7, as: UInt8.self)
        let middle = SharedMemory.byteCount / 2
        #expect(ftruncate(file.descriptor, middle) == 0)
        #expect(!table.mappings.isLost)
        #expect(rig.session.service() == .open)
        // Lost pages read as zeros, and take writes that nobody sees; the others are as before.
        for offset in [SharedMemory.byteCount - 1, middle + 5000, middle] {
            #expect((first + offset).load(as: UInt8.self) == 0)
            (first + offset).storeBytes(of: 9, as: UInt8.self)
            #expect((first + offset).load(as: UInt8.self) == 9)
        }
        #expect(first.load(as: UInt8.self) == 7)
        #expect(table.mappings.isLost)
        _ = rig.device.take()
        #expect(rig.outcome {} == "CLOSE(memoryFault)")
        #expect(rig.device.take() == ["stop 0"])
    }

    @Test("A35 A file that can be sealed cannot be cut short")
    func sealed() {
        let rig = SessionRig()
        let peers = PeerDescriptors()
        let descriptor = peers.keep(peer_sealable(UInt(SharedMemory.byteCount)))
        #expect(rig.setMemory([SharedMemory.region()], [descriptor]) == "ok")
        #expect(ftruncate(descriptor, 4096) == -1)
        #expect(errno == EPERM)
    }

    @Test("A36 A hole punched behind a mapping reads as zeros")
    func hole() throws {
        let rig = SessionRig()
        #expect(rig.setMemory([SharedMemory.region()]) == "ok")
        let memory = try #require(rig.session.table?.memory)
        let first = try #require(
            memory.translate(GuestAddress(SharedMemory.guestBase), byteCount: 4096))
        first.storeBytes(of: 7, as: UInt8.self)
        let isPunched = peer_punch(rig.memory.descriptor, 0, 4096) == 0
        try #require(isPunched)
        #expect(first.load(as: UInt8.self) == 0)
        #expect(rig.session.service() == .open)
    }

    @Test("A37 The same file serves two devices")
    func twoDevices() throws {
        let rigs = [SessionRig(), SessionRig()]
        let file = SharedMemory()
        for rig in rigs {
            #expect(rig.setMemory([SharedMemory.region()], [file.descriptor]) == "ok")
        }
        let identity = try #require(FileIdentity(file.descriptor))
        #expect(identity.mappingCount == 2)
        rigs[0].session.close()
        #expect(identity.mappingCount == 1)
    }

    @Test("A38 A new table stops all rings, and they resume in it where they were")
    func newTable() throws {
        let rig = SessionRig()
        rig.startRing(0, base: 3)
        rig.startRing(1)
        _ = rig.device.take()
        rig.device.positions = [0: 33, 1: 44]
        let old = rig.device.setups[0]?.memory
        #expect(rig.setMemory([SharedMemory.region(guest: 0x9_0000_0000)]) == "ok")
        #expect(rig.device.take() == ["stop 0", "stop 1", "start 0", "start 1"])
        let setup = try #require(rig.device.setups[0])
        #expect(setup.memory !== old)
        #expect(setup.virtqueue.base == 33)
        #expect(setup.virtqueue.descriptorArea == GuestAddress(0x9_0000_0000))
        #expect(FileIdentity(rig.memory.descriptor)?.mappingCount == 1)
    }

    @Test("A38 Memory stays mapped as long as a queue uses it")
    func grace() throws {
        let rig = SessionRig()
        rig.startRing(0)
        let identity = try #require(FileIdentity(rig.memory.descriptor))
        var held: VringSetup? = rig.device.setups[0]
        #expect(held != nil)
        rig.session.close()
        #expect(identity.mappingCount == 1)
        held = nil
        #expect(identity.mappingCount == 0)
    }

    @Test("A39 A region that holds a ring in use stays; another one goes")
    func removal() throws {
        let rig = SessionRig()
        let half = UInt64(SharedMemory.byteCount / 2)
        let first = SharedMemory.region(size: half)
        let second = SharedMemory.region(
            guest: SharedMemory.guestBase + half, size: half, user: SharedMemory.userBase + half,
            offset: half)
        rig.setMemory([first, second])
        rig.startRing(0)
        #expect(
            rig.request(.removeMemoryRegion, SessionRig.single(first)) == "REJ(busy)")
        _ = rig.device.take()
        #expect(rig.request(.removeMemoryRegion, SessionRig.single(second)) == "ok")
        #expect(rig.device.take() == ["stop 0", "start 0"])
        _ = rig.base(of: 0)
        #expect(rig.request(.removeMemoryRegion, SessionRig.single(first)) == "ok")
    }

    @Test("A15 A table that is set 2000 times leaves one mapping and its descriptor")
    func repeated() throws {
        let rig = SessionRig()
        rig.startRing(0)
        let identity = try #require(FileIdentity(rig.memory.descriptor))
        for _ in 0..<2000 {
            rig.setMemory([SharedMemory.region()])
            rig.setDescriptor(.setVringCall, 0, rig.event)
        }
        #expect(identity.openCount == 1 + 1)
        #expect(identity.mappingCount == 1)
    }
}

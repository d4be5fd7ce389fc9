// Rings: what is refused, and when a ring may be used. Group A of the hostile catalogue, A16 to A27
// and A51, A52; and what QEMU, DPDK and User-Mode Linux send.
import CCleaveHost
import CleaveHost
import CleaveTestSupport
import CleaveVirtioNet
import Glibc
import Testing

@testable import CleaveVhostUser

@Suite("Rings of a session")
struct RingTests {
    private static let descriptorRequests: [FrontendRequest] = [
        .setVringKick, .setVringCall, .setVringError,
    ]

    @Test("A16 A descriptor comes if and only if bit 8 is clear", arguments: descriptorRequests)
    func bit8(_ request: FrontendRequest) {
        let rig = SessionRig()
        #expect(rig.request(request, PayloadWriter.number(1 << 8)) == "ok")
        #expect(rig.request(request, PayloadWriter.number(0)) == "REJ(fds)")
        #expect(rig.request(request, PayloadWriter.number(1 << 8), [rig.event]) == "REJ(fds)")
        #expect(rig.request(request, PayloadWriter.number(0), [rig.event]) == "ok")
    }

    @Test(
        "A17 A descriptor that cannot notify is refused and closed", arguments: descriptorRequests)
    func descriptorKind(_ request: FrontendRequest) {
        let rig = SessionRig()
        let peers = PeerDescriptors()
        for (name, descriptor) in peers.unfit() where FileIdentity(descriptor) != nil {
            // A pipe's reading end is what a kick comes through.
            if name == "a pipe's reading end" && request == .setVringKick { continue }
            #expect(rig.setDescriptor(request, 0, descriptor) == "REJ(fdType)", "\(name)")
        }
        let pipe = peers.pipe()
        let fit = request == .setVringKick ? pipe.reader : pipe.writer
        #expect(rig.setDescriptor(request, 0, fit) == "ok")
        #expect(rig.setDescriptor(request, 0, peers.sockets().near) == "ok")
        #expect(rig.setDescriptor(request, 0, peers.event()) == "ok")
    }

    @Test("A17 The connection itself may be passed as a kick, and is only polled")
    func ownSocket() {
        let rig = SessionRig()
        #expect(rig.setDescriptor(.setVringKick, 0, rig.far) == "ok")
        #expect(rig.request(.getFeatures) == "answer")
    }

    @Test(
        "A20 A ring that does not exist is refused, at full width",
        arguments: [
            4, 0x1_00, 0x1_0000, 0x1_0001, 0xffff_ffff,
        ] as [UInt32])
    func index(_ index: UInt32) {
        let rig = SessionRig()
        rig.setMemory([SharedMemory.region()])
        for kind in [
            FrontendRequest.setVringNum, .setVringBase, .setVringEnable, .getVringBase,
        ] { #expect(rig.state(kind, index, 1) == "REJ(index)", "\(kind)") }
        #expect(rig.setAddress(SessionRig.address(index)) == "REJ(index)")
        for kind in Self.descriptorRequests {
            // Bit 8 has a meaning of its own there, and 0x100 is ring 0 without a descriptor.
            if index == 0x100 { continue }
            let payload = PayloadWriter.number(UInt64(index) & ~0x100)
            #expect(rig.request(kind, payload, [rig.event]) == "REJ(index)", "\(kind)")
        }
    }

    @Test("A20 Rings are two for each pair, and one for control if that is offered")
    func ringCount() {
        let plain = SessionRig(RecordingDevice(queuePairLimit: 3))
        #expect(plain.state(.setVringNum, 5, 8) == "ok")
        #expect(plain.state(.setVringNum, 6, 8) == "REJ(index)")
        let control = SessionRig(RecordingDevice(features: 1 << 32 | 1 << 17, queuePairLimit: 3))
        #expect(control.state(.setVringNum, 6, 8) == "ok")
        #expect(control.state(.setVringNum, 7, 8) == "REJ(index)")
        // All that a descriptor's request can name.
        let most = SessionRig(RecordingDevice(queuePairLimit: 1000))
        #expect(most.state(.setVringNum, 255, 8) == "ok")
        #expect(most.state(.setVringNum, 256, 8) == "REJ(index)")
    }

    @Test("A21 Everything of a ring may come before memory, features and owner")
    func anyOrder() throws {
        let rig = SessionRig(features: nil)
        #expect(rig.state(.setVringEnable, 0, 1) == "ok")
        #expect(rig.setDescriptor(.setVringKick, 0, rig.event) == "ok")
        #expect(rig.state(.setVringBase, 0, 9) == "ok")
        #expect(rig.setAddress(SessionRig.address(0)) == "ok")
        #expect(rig.state(.setVringNum, 0, 16) == "ok")
        #expect(rig.setMemory([SharedMemory.region()]) == "ok")
        #expect(rig.device.take() == [])
        #expect(rig.request(.setFeatures, PayloadWriter.number(1 << 32 | 1 << 30)) == "ok")
        #expect(rig.device.take() == ["features \(1 << 32)", "start 0"])
        let setup = try #require(rig.device.setups[0])
        #expect(setup.virtqueue.size == 16)
        #expect(setup.virtqueue.base == 9)
        #expect(setup.virtqueue.descriptorArea == GuestAddress(SharedMemory.guestBase))
        #expect(setup.virtqueue.driverArea == GuestAddress(SharedMemory.guestBase + 0x1000))
        #expect(setup.virtqueue.deviceArea == GuestAddress(SharedMemory.guestBase + 0x2000))
        #expect(setup.features == 1 << 32)
        #expect(setup.kickDescriptor >= 0)
        #expect(setup.callDescriptor == -1)
    }

    @Test("A21 Addresses that prove wrong when the ring starts break it, and it alone")
    func lateTranslation() throws {
        let rig = SessionRig()
        let peers = PeerDescriptors()
        let error = peers.event()
        #expect(rig.setAddress(SessionRig.address(0, descriptors: 16)) == "ok")
        rig.setDescriptor(.setVringError, 0, error)
        rig.state(.setVringNum, 0, 8)
        rig.setDescriptor(.setVringKick, 0, nil)
        rig.state(.setVringEnable, 0, 1)
        // The table is taken, the ring is not.
        let table = SessionRig.table([SharedMemory.region()])
        let outcome = rig.request(.setMemoryTable, table, [rig.memory.descriptor])
        #expect(outcome == "accepted broken")
        var count: UInt64 = 0
        #expect(read(error, &count, 8) == 8)
        #expect(count == 1)
        #expect(rig.session.lastRingError?.contains("ring 0") == true)
        #expect(rig.request(.getStatus) == "answer")
        rig.startRing(1)
        #expect(rig.device.take() == ["start 1"])
        // Told once, and only GET_VRING_BASE clears it.
        rig.session.reportBroken(ring: 0)
        #expect(rig.session.counters["broken"] == 1)
        #expect(rig.setAddress(SessionRig.address(0)) == "ok")
        #expect(rig.device.take() == [])
        #expect(rig.base(of: 0) == 0)
        #expect(rig.setDescriptor(.setVringKick, 0, nil) == "ok")
        #expect(rig.device.take() == ["start 0"])
    }

    @Test("A22 GET_VRING_BASE of a ring that was never set up is 0")
    func neverSetUp() {
        let rig = SessionRig()
        for index in 0..<4 { #expect(rig.base(of: UInt32(index)) == 0) }
        #expect(rig.device.take() == [])
    }

    @Test("A23 Sizes that no ring has are refused")
    func ringSize() {
        let split = SessionRig()
        for size in [0, 3, 24, 32769, 65536, 0x8000_0000, 0xffff_ffff] as [UInt32] {
            #expect(split.state(.setVringNum, 0, size) == "REJ(qsize)", "\(size)")
        }
        for size in [1, 2, 256, 32768] as [UInt32] {
            #expect(split.state(.setVringNum, 0, size) == "ok", "\(size)")
        }
        let packed = SessionRig(features: 1 << 34)
        #expect(packed.state(.setVringNum, 0, 0) == "REJ(qsize)")
        #expect(packed.state(.setVringNum, 0, 3) == "ok")
        #expect(packed.state(.setVringNum, 0, 32769) == "REJ(qsize)")
    }

    @Test("A24 A ring in use keeps size, addresses and base")
    func busy() {
        let rig = SessionRig()
        rig.startRing(0, size: 64, base: 5)
        #expect(rig.device.take() == ["start 0"])
        #expect(rig.state(.setVringNum, 0, 32) == "REJ(busy)")
        #expect(rig.state(.setVringNum, 0, 64) == "ok")
        #expect(rig.state(.setVringBase, 0, 6) == "REJ(busy)")
        #expect(rig.state(.setVringBase, 0, 5) == "ok")
        #expect(rig.setAddress(SessionRig.address(0, at: 0x8000)) == "REJ(busy)")
        #expect(rig.setAddress(SessionRig.address(0)) == "ok")
        #expect(rig.device.take() == [])
    }

    @Test("A25 Misaligned parts of a ring are refused", arguments: RingFormat.allCases)
    func alignment(_ format: RingFormat) {
        let rig = SessionRig(features: format == .packed ? 1 << 34 : 1 << 32)
        let base = SharedMemory.userBase
        for offset in 1..<16 {
            let place = base + UInt64(offset)
            #expect(rig.setAddress(SessionRig.address(0, descriptors: place)) == "REJ(align)")
            let driver = rig.setAddress(SessionRig.address(0, driver: place))
            #expect((driver == "ok") == (offset % (format == .packed ? 4 : 2) == 0))
            let device = rig.setAddress(SessionRig.address(0, device: place))
            #expect((device == "ok") == (offset % 4 == 0))
        }
    }

    @Test("A26 Parts of a ring outside a region, across two, or wrapping around are refused")
    func ringRange() {
        let rig = SessionRig()
        let half = UInt64(SharedMemory.byteCount / 2)
        let user = SharedMemory.userBase
        // Adjacent in the front-end, apart in the guest.
        rig.setMemory([
            SharedMemory.region(size: half),
            SharedMemory.region(guest: 0x5_0000_0000, size: half, user: user + half, offset: half),
        ])
        rig.state(.setVringNum, 0, 256)
        let end = user + 2 * half
        for wrong in [
            0, 16, user - 16, user - 4096, end, end - 16, end - 4096 + 16, user + half - 16,
            UInt64.max - 15, 1 << 63,
        ] {
            let address = SessionRig.address(0, descriptors: wrong)
            #expect(rig.setAddress(address) == "REJ(ringRange)", "\(String(wrong, radix: 16))")
        }
        #expect(rig.setAddress(SessionRig.address(0, driver: end - 512)) == "REJ(ringRange)")
        #expect(rig.setAddress(SessionRig.address(0, device: end - 2048)) == "REJ(ringRange)")
        // The last places that do.
        for right in [user, user + half - 4096, user + half, end - 4096] {
            #expect(rig.setAddress(SessionRig.address(0, descriptors: right)) == "ok")
        }
        #expect(rig.setAddress(SessionRig.address(0, driver: end - 518)) == "ok")
        #expect(rig.setAddress(SessionRig.address(0, device: end - 2056)) == "ok")
    }

    @Test("A27 Parts that overlap each other and other rings are accepted")
    func overlap() {
        let rig = SessionRig()
        rig.setMemory([SharedMemory.region()])
        let base = SharedMemory.userBase
        for index in 0..<4 as Range<UInt32> {
            rig.state(.setVringNum, index, 64)
            let address = SessionRig.address(index, descriptors: base, driver: base, device: base)
            #expect(rig.setAddress(address) == "ok")
            rig.setDescriptor(.setVringKick, UInt64(index), nil)
            #expect(rig.state(.setVringEnable, index, 1) == "ok")
        }
        #expect(rig.device.take() == ["start 0", "start 1", "start 2", "start 3"])
    }

    @Test("A22 A ring's position may be asked for after the reset that stopped it")
    func baseAfterReset() {
        let rig = SessionRig()
        rig.startRing(0, base: 7)
        rig.device.positions = [0: 9]
        // QEMU 7.2, when its guest is paused.
        #expect(rig.request(.setStatus, PayloadWriter.number(0)) == "ok")
        #expect(rig.base(of: 0) == 9)
        // Whatever begins then begins at the start, unless it is told.
        rig.request(.setFeatures, PayloadWriter.number(1 << 32 | 1 << 30))
        rig.startRing(0)
        #expect(rig.device.setups[0]?.virtqueue.base == 0)
    }

    @Test("A51 An owner is set once; RESET_OWNER disables rings only")
    func owner() {
        let rig = SessionRig()
        #expect(rig.request(.setOwner) == "ok")
        #expect(rig.request(.setOwner) == "REJ(owner)")
        rig.startRing(0, base: 3)
        #expect(rig.request(.resetOwner) == "ok")
        #expect(rig.device.take() == ["start 0", "stop 0"])
        #expect(rig.state(.setVringEnable, 0, 1) == "ok")
        #expect(rig.device.take() == ["start 0"])
        #expect(rig.request(.setOwner) == "ok")
    }

    @Test("A52 Status 0 resets rings; a status above 255 is refused")
    func status() {
        let rig = SessionRig()
        rig.startRing(0, base: 3)
        #expect(rig.request(.setStatus, PayloadWriter.number(15)) == "ok")
        for wrong in [256, 1 << 32, UInt64.max] {
            #expect(rig.request(.setStatus, PayloadWriter.number(wrong)) == "REJ(status)")
        }
        rig.send(40)
        _ = rig.session.service()
        #expect(rig.answers().first?.payload == PayloadWriter.number(15))
        rig.session.reportBroken(ring: 0)
        rig.send(40)
        _ = rig.session.service()
        #expect(rig.answers().first?.payload == PayloadWriter.number(15 | 64))
        _ = rig.device.take()
        #expect(rig.request(.setStatus, PayloadWriter.number(0)) == "ok")
        #expect(rig.device.take() == ["stop 0", "features 0"])
        // Where it was can still be asked.
        #expect(rig.base(of: 0) == 3)
        // All of it again: a kick alone does not bring the old ring back.
        #expect(rig.setDescriptor(.setVringKick, 0, rig.event) == "ok")
        #expect(rig.device.take() == [])
    }

    @Test("RESET_DEVICE stops all rings and forgets features")
    func resetDevice() {
        let rig = SessionRig()
        rig.startRing(0)
        rig.startRing(1)
        _ = rig.device.take()
        #expect(rig.request(.resetDevice) == "ok")
        #expect(rig.device.take() == ["stop 0", "stop 1", "features 0"])
        #expect(rig.request(.setFeatures, PayloadWriter.number(1 << 34 | 1 << 30)) == "ok")
    }

    @Test("A ring runs when it is started and enabled, stops at GET_VRING_BASE and resumes there")
    func life() throws {
        let rig = SessionRig()
        rig.startRing(0, base: 7)
        #expect(rig.device.take() == ["start 0"])
        rig.device.positions[0] = 0xfff9
        #expect(rig.base(of: 0) == 0xfff9)
        #expect(rig.device.take() == ["stop 0"])
        // Enabled, but not started.
        #expect(rig.state(.setVringEnable, 0, 1) == "ok")
        #expect(rig.device.take() == [])
        #expect(rig.setDescriptor(.setVringKick, 0, rig.event) == "ok")
        #expect(rig.device.take() == ["start 0"])
        #expect(rig.device.setups[0]?.virtqueue.base == 0xfff9)
        #expect(rig.state(.setVringEnable, 0, 0) == "ok")
        #expect(rig.device.take() == ["stop 0"])
        for wrong in [2, 0xffff_ffff] as [UInt32] {
            #expect(rig.state(.setVringEnable, 0, wrong) == "REJ(value)")
        }
    }

    @Test("Another call or kick descriptor while the ring runs starts it again, an error one not")
    func descriptorChange() throws {
        let rig = SessionRig()
        let peers = PeerDescriptors()
        rig.startRing(0, base: 7)
        rig.device.positions[0] = 20
        _ = rig.device.take()
        let pipe = peers.pipe()
        #expect(rig.setDescriptor(.setVringCall, 0, pipe.writer) == "ok")
        #expect(rig.device.take() == ["stop 0", "start 0"])
        let setup = try #require(rig.device.setups[0])
        #expect(setup.virtqueue.base == 20)
        #expect(FileIdentity(setup.callDescriptor) == FileIdentity(pipe.writer))
        #expect(rig.setDescriptor(.setVringKick, 0, nil) == "ok")
        #expect(rig.device.setups[0]?.kickDescriptor == -1)
        #expect(rig.device.take() == ["stop 0", "start 0"])
        #expect(rig.setDescriptor(.setVringError, 0, pipe.writer) == "ok")
        #expect(rig.device.take() == [])
    }

    @Test("Without bit 30 a kick alone starts a ring")
    func withoutProtocolFeatures() {
        let rig = SessionRig(protocolFeatures: [], features: nil)
        rig.request(.setFeatures, PayloadWriter.number(1 << 32))
        rig.setMemory([SharedMemory.region()])
        rig.state(.setVringNum, 0, 64)
        rig.setAddress(SessionRig.address(0))
        _ = rig.device.take()
        rig.setDescriptor(.setVringKick, 0, rig.event)
        #expect(rig.device.take() == ["start 0"])
    }

    @Test("A ring that was disabled runs once features are agreed on without bit 30")
    func enabledWithoutBit30() {
        let rig = SessionRig()
        rig.startRing(0)
        rig.startRing(1)
        for index in [1, 0] as [UInt32] {
            #expect(rig.state(.setVringEnable, index, 0) == "ok")
        }
        #expect(rig.device.take() == ["start 0", "start 1", "stop 1", "stop 0"])
        // The same features once more change nothing.
        let same = PayloadWriter.number(1 << 32 | 1 << 30)
        #expect(rig.request(.setFeatures, same) == "ok")
        #expect(rig.device.take() == ["features \(1 << 32)"])
        #expect(rig.request(.setFeatures, PayloadWriter.number(1 << 32)) == "ok")
        #expect(rig.device.take() == ["features \(1 << 32)", "start 0", "start 1"])
    }

    @Test("Without bit 30 a ring that RESET_OWNER let rest is started by a kick")
    func ownerWithoutBit30() {
        let rig = SessionRig(protocolFeatures: .acknowledgement, features: nil)
        rig.request(.setFeatures, PayloadWriter.number(1 << 32))
        rig.setMemory([SharedMemory.region()])
        rig.state(.setVringNum, 0, 64)
        rig.setAddress(SessionRig.address(0))
        rig.setDescriptor(.setVringKick, 0, rig.event)
        _ = rig.device.take()
        #expect(rig.request(.resetOwner) == "ok")
        rig.setMemory([SharedMemory.region()])
        #expect(rig.device.take() == ["stop 0"])
        rig.setDescriptor(.setVringKick, 0, rig.event)
        #expect(rig.device.take() == ["start 0"])
    }

    @Test(
        "A packed ring resumes at the used position; DPDK gives only one",
        arguments: [
            (nil, 0x8000), (0x8000_8000, 0x8000), (0x8005_8007, 0x8005), (0x0005_8007, 5),
            (0x8007, 0x8007),
        ] as [(UInt32?, UInt16)])
    func packedBase(_ told: UInt32?, _ expected: UInt16) {
        let rig = SessionRig(features: 1 << 34)
        rig.startRing(0, size: 64, base: told)
        #expect(rig.device.setups[0]?.virtqueue.base == expected)
        #expect(rig.base(of: 0) == UInt32(expected) << 16 | UInt32(expected))
    }

    @Test(
        "A packed ring that begins at base 0 is new unless its first descriptor was used",
        arguments: [
            // Never written; made available in the first round; used in it; made available and
            // used in the second.
            (0, 0x8000), (0x0080, 0x8000), (0x8080, 0), (0x8000, 0), (0x0002, 0x8000),
        ] as [(UInt16, UInt16)])
    func packedBaseZero(_ flags: UInt16, _ expected: UInt16) {
        let rig = SessionRig(features: 1 << 34)
        rig.setMemory([SharedMemory.region()])
        withUnsafeBytes(of: flags.littleEndian) { bytes in
            #expect(pwrite(rig.memory.descriptor, bytes.baseAddress, 2, 14) == 2)
        }
        rig.startRing(0, size: 64, base: 0)
        #expect(rig.device.setups[0]?.virtqueue.base == expected)
    }

    @Test("A packed ring that the device stopped at its start goes on there, and is not new")
    func packedStoppedAtZero() {
        let rig = SessionRig(features: 1 << 34)
        // The first descriptor was never used: it is inside a chain that crossed the ring's end.
        rig.startRing(0, size: 64)
        rig.device.positions[0] = 0
        #expect(rig.state(.setVringEnable, 0, 0) == "ok")
        #expect(rig.state(.setVringEnable, 0, 1) == "ok")
        #expect(rig.device.setups[0]?.virtqueue.base == 0)
        // After the front-end has said so it is.
        #expect(rig.base(of: 0) == 0)
        #expect(rig.state(.setVringBase, 0, 0) == "ok")
        rig.setDescriptor(.setVringKick, 0, rig.event)
        #expect(rig.device.setups[0]?.virtqueue.base == 0x8000)
    }

    @Test("A packed ring's base outside the ring breaks it")
    func packedBaseOutside() {
        let rig = SessionRig(features: 1 << 34)
        rig.startRing(0, size: 64, base: 64)
        #expect(rig.device.take() == [])
        #expect(rig.session.counters["broken"] == 1)
    }

    @Test("A ring that the device cannot run is broken, and the connection goes on")
    func startFails() {
        let rig = SessionRig()
        rig.device.startError = SetupError("no room")
        rig.startRing(0)
        #expect(rig.session.counters["broken"] == 1)
        #expect(rig.session.lastRingError == "ring 0: no room")
        #expect(rig.session.describedState.contains("running none, broken 0"))
        #expect(rig.base(of: 0) == 0)
        #expect(rig.device.take() == ["start 0"])
    }

    @Test("User-Mode Linux: ENABLE 0 is the only stop, and everything comes again after it")
    func userModeLinux() {
        let rig = SessionRig()
        // Room for two regions, one in it.
        let table = SessionRig.table([SharedMemory.region()]) + [UInt8](repeating: 0, count: 32)
        #expect(rig.request(.setMemoryTable, table, [rig.memory.descriptor]) == "ok")
        for round in 0..<3 {
            for index in 0..<2 as Range<UInt32> {
                #expect(rig.setDescriptor(.setVringCall, UInt64(index), rig.event) == "ok")
                #expect(rig.state(.setVringNum, index, 256) == "ok")
                #expect(rig.state(.setVringBase, index, 0) == "ok")
                let place = UInt64(round) * 0x10000 + UInt64(index) * 0x4000
                #expect(rig.setAddress(SessionRig.address(index, at: place)) == "ok")
            }
            for index in 0..<2 as Range<UInt32> {
                #expect(rig.setDescriptor(.setVringKick, UInt64(index), rig.event) == "ok")
                #expect(rig.state(.setVringEnable, index, 1) == "ok")
            }
            #expect(rig.device.take() == ["start 0", "start 1"])
            #expect(rig.device.setups[1]?.virtqueue.base == 0)
            rig.device.positions = [0: 100, 1: 200]
            for index in [1, 0] as [UInt32] {
                #expect(rig.state(.setVringEnable, index, 0) == "ok")
            }
            #expect(rig.device.take() == ["stop 1", "stop 0"])
        }
    }

    @Test("virtio-user of DPDK: a ring that cannot be leaves the others alone")
    func virtioUser() {
        let rig = SessionRig()
        rig.startRing(0)
        rig.startRing(1)
        #expect(rig.state(.setVringNum, 3, 0) == "REJ(qsize)")
        let nowhere = VringAddress(index: 3, descriptorArea: 0, driverArea: 0, deviceArea: 0)
        #expect(rig.setAddress(nowhere) == "ok")
        #expect(rig.setDescriptor(.setVringKick, 3, rig.event) == "ok")
        #expect(rig.state(.setVringEnable, 3, 1) == "ok")
        #expect(rig.device.take() == ["start 0", "start 1"])
    }
}

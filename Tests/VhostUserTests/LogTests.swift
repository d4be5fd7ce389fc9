// The log of written pages as front-ends set it up. Group A of the hostile catalogue, A28, A40 and
// A45.
import CCleaveHost
import CleaveHost
import CleaveTestSupport
import CleaveVirtioNet
import Glibc
import Testing

@testable import CleaveVhostUser

@Suite("Log of written pages over a session")
struct LogTests {
    /// Bytes of a log that reaches the end of `SharedMemory.region()`.
    private static let byteCount =
        Int((SharedMemory.guestBase + UInt64(SharedMemory.byteCount)) / 32768)
    private static let plain: UInt64 = 1 << 32 | 1 << 30
    private static let logging: UInt64 = plain | 1 << 26

    private static func payload(_ byteCount: UInt64, _ offset: UInt64 = 0) -> [UInt8] {
        PayloadWriter.number(byteCount) + PayloadWriter.number(offset)
    }

    private func setLog(
        _ rig: SessionRig, _ memory: SharedMemory, _ byteCount: Int = byteCount,
        offset: UInt64 = 0
    ) -> String {
        rig.request(
            .setLogBase, Self.payload(UInt64(byteCount), offset), [memory.descriptor])
    }

    private func setFeatures(_ rig: SessionRig, _ features: UInt64) -> String {
        rig.request(.setFeatures, PayloadWriter.number(features))
    }

    @Test("A40 LOG_ALL may change while rings run: each goes on where it was")
    func toggled() throws {
        let rig = SessionRig()
        rig.startRing(0, base: 7)
        rig.startRing(1)
        rig.device.positions = [0: 9]
        _ = rig.device.take()
        #expect(setLog(rig, SharedMemory(byteCount: 1 << 18)) == "ok")
        _ = rig.device.take()
        #expect(rig.device.setups[0]?.observation == nil)
        #expect(setFeatures(rig, Self.logging) == "ok")
        #expect(
            rig.device.take()
                == ["stop 0", "stop 1", "features \(1 << 32)", "start 0", "start 1"])
        let setup = try #require(rig.device.setups[0])
        #expect(setup.features == 1 << 32)
        #expect(setup.virtqueue.base == 9)
        let log = try #require(setup.observation?.log)
        #expect(log.logsBuffers && log.ringAddress == nil)
        // The same again changes nothing; another feature beside it is refused as ever.
        #expect(setFeatures(rig, Self.logging) == "ok")
        #expect(rig.device.take() == ["features \(1 << 32)"])
        #expect(setFeatures(rig, Self.logging | 1 << 15) == "REJ(features)")
        #expect(setFeatures(rig, Self.plain) == "ok")
        #expect(rig.device.setups[0]?.observation == nil)
        // It survives no reset.
        #expect(setFeatures(rig, Self.logging) == "ok")
        #expect(rig.request(.resetDevice) == "ok")
        #expect(setFeatures(rig, Self.plain) == "ok")
        rig.startRing(0)
        #expect(rig.device.setups[0]?.observation == nil)
    }

    @Test("LOG_ALL before there is a log: what is written is logged once there is one")
    func lateLog() {
        let rig = SessionRig(features: nil)
        #expect(setFeatures(rig, Self.logging) == "ok")
        rig.startRing(0)
        #expect(rig.device.setups[0] != nil && rig.device.setups[0]?.observation == nil)
        #expect(setLog(rig, SharedMemory(byteCount: 1 << 18)) == "ok")
        #expect(rig.device.setups[0]?.observation?.log?.logsBuffers == true)
    }

    @Test("A28 A ring is logged where its address says, from any time on")
    func ring() throws {
        let rig = SessionRig()
        rig.startRing(0)
        #expect(setLog(rig, SharedMemory(byteCount: 1 << 18)) == "ok")
        _ = rig.device.take()
        var address = SessionRig.address(0)
        address.flags = VringAddress.logs
        address.logAddress = 0x12345
        #expect(rig.setAddress(address) == "ok")
        #expect(rig.device.take() == ["stop 0", "start 0"])
        let log = try #require(rig.device.setups[0]?.observation?.log)
        #expect(!log.logsBuffers && log.ringAddress == GuestAddress(0x12345))
        #expect(rig.setAddress(address) == "ok")
        #expect(rig.device.take() == [])
        // Its last byte has no bit in the log, or its address wraps around.
        for beyond in [UInt64(Self.byteCount) * 32768 - 517, .max] {
            address.logAddress = beyond
            #expect(rig.setAddress(address) == "REJ(log)")
        }
        // The ring itself cannot move.
        address = SessionRig.address(0, at: 0x4000)
        address.flags = VringAddress.logs
        #expect(rig.setAddress(address) == "REJ(busy)")
        #expect(rig.device.take() == [])
        #expect(rig.setAddress(SessionRig.address(0)) == "ok")
        #expect(rig.device.setups[0]?.observation == nil)
    }

    @Test("A45 A log that cannot be used ends the connection: its answer would pass for success")
    func unusable() {
        let file = SharedMemory(byteCount: 1 << 18)
        for (byteCount, offset) in [
            (0, 0), (1 << 18 + 1, 0), (1 << 18, 1), (UInt64.max, 0), (1, UInt64.max),
            // One page of guest memory has no bit.
            (UInt64(Self.byteCount - 1), 0),
        ] as [(UInt64, UInt64)] {
            let rig = SessionRig()
            rig.setMemory([SharedMemory.region()])
            let outcome = rig.request(
                .setLogBase, Self.payload(byteCount, offset), [file.descriptor])
            #expect(outcome == "CLOSE(log)", "\(byteCount) from \(offset)")
        }
        let peers = PeerDescriptors()
        let rig = SessionRig()
        #expect(
            rig.request(.setLogBase, Self.payload(4096), [peers.event()]) == "CLOSE(log)")
        #expect(FileIdentity(file.descriptor)?.openCount == 1)
        #expect(FileIdentity(file.descriptor)?.mappingCount == 0)
        let odd = SessionRig()
        #expect(odd.request(.setLogBase, [1], [file.descriptor]) == "REJ(size)")
        #expect(odd.request(.setLogBase, Self.payload(4096)) == "REJ(fds)")
    }

    @Test("Memory that grows beyond the log breaks the rings that are logged")
    func grown() throws {
        let rig = SessionRig()
        rig.startRing(0)
        let log = SharedMemory(byteCount: 1 << 18)
        #expect(setLog(rig, log) == "ok")
        let device = ObservingDevice()
        // The recording device makes no queue: what one would say is asked here.
        #expect(setFeatures(rig, Self.logging) == "ok")
        let setup = try #require(rig.device.setups[0])
        #expect(device.refusal(of: setup) == nil)
        rig.setMemory([
            SharedMemory.region(),
            SharedMemory.region(
                guest: 2 * SharedMemory.guestBase, user: SharedMemory.userBase + 0x1000_0000),
        ])
        let grown = try #require(rig.device.setups[0])
        #expect(device.refusal(of: grown)?.contains("does not reach the end") == true)
    }

    @Test("A log is replaced, and its memory given back with the session")
    func replaced() {
        let rig = SessionRig()
        rig.startRing(0)
        #expect(setFeatures(rig, Self.logging) == "ok")
        let (first, second) = (
            SharedMemory(byteCount: 1 << 18), SharedMemory(byteCount: 1 << 18)
        )
        let identities = [first, second].map { FileIdentity($0.descriptor) }
        #expect(setLog(rig, first) == "ok")
        #expect(identities.map { $0?.mappingCount } == [1, 0])
        #expect(setLog(rig, second) == "ok")
        #expect(identities.map { $0?.mappingCount } == [0, 1])
        #expect(identities.map { $0?.openCount } == [1, 1 + 1])
        rig.session.close()
        rig.device.setups = [:]
        #expect(identities.map { $0?.mappingCount } == [0, 0])
        #expect(identities.map { $0?.openCount } == [1, 1])
    }

    @Test("A35 A log that was cut short ends the session, not the process")
    func truncated() throws {
        let rig = SessionRig()
        rig.startRing(0)
        let log = SharedMemory(byteCount: 1 << 18, sealed: false)
        #expect(setFeatures(rig, Self.logging) == "ok")
        guard setLog(rig, log) == "ok", ftruncate(log.descriptor, 0) == 0 else {
            // It was sealed on the way in: that is as good.
            return
        }
        let setup = try #require(rig.device.setups[0])
        let queue = ObservingDevice()
        queue.mark(setup)
        #expect(rig.outcome {} == "CLOSE(memoryFault)")
    }

    @Test("SET_LOG_FD takes what can be notified, and gives it up again")
    func logDescriptor() {
        let rig = SessionRig()
        rig.startRing(0)
        let peers = PeerDescriptors()
        let event = peers.event()
        #expect(rig.request(.setLogDescriptor, [], [event]) == "ok")
        #expect(rig.session.logDescriptor != nil)
        #expect(rig.request(.setLogDescriptor, [], [rig.memory.descriptor]) == "REJ(fdType)")
        #expect(rig.session.logDescriptor != nil)
        #expect(rig.request(.setLogDescriptor) == "ok")
        #expect(rig.session.logDescriptor == nil)
        // The guest's own, and that of its one region.
        #expect(FileIdentity(rig.memory.descriptor)?.openCount == 1 + 1)
    }
}

/// Makes queues as a port would.
private final class ObservingDevice {
    private let arenas = ArenaSupply(chunk: 1 << 18)

    private func queue(_ setup: VringSetup) throws -> TxQueue {
        var configuration = TxQueueConfiguration(
            virtqueue: setup.virtqueue, features: [], memory: setup.memory)
        configuration.observation = setup.observation
        return try TxQueue(configuration, in: arenas.arena(configuration.arenaByteCount))
    }

    /// Why no queue can be made; nil if one can.
    func refusal(of setup: VringSetup) -> String? {
        do {
            _ = try queue(setup)
            return nil
        } catch { return "\(error)" }
    }

    /// Writes to the ring, and marks that.
    func mark(_ setup: VringSetup) {
        var logged = setup
        logged.observation?.log?.ringAddress = setup.virtqueue.deviceArea
        _ = refusal(of: logged)
    }
}

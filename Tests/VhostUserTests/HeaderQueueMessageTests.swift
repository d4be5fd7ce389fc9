// Messages of this project's own: a header queue that the front-end sets up.
import CleaveHost
import CleaveTestSupport
import CleaveVirtioNet
import Glibc
import Testing

@testable import CleaveVhostUser

@Suite("Header queue messages")
struct HeaderQueueMessageTests {
    private static let request: HeaderQueueRequest = {
        let layout = HeaderQueueLayout(
            base: GuestAddress(0x1_0000_4000), control: GuestAddress(0x1_0000_2000), slotSize: 256,
            slotCount: 1024, returnRing: GuestAddress(0x1_0000_3000))
        return HeaderQueueRequest(layout, report: .netHeader, rqs: [0, 1, 65, 127])
    }()

    private func number(_ rig: SessionRig, _ request: FrontendRequest) -> UInt64? {
        rig.send(request.rawValue)
        _ = rig.session.service()
        return answer(rig)
    }

    private func answer(_ rig: SessionRig) -> UInt64? {
        guard let payload = rig.answers().first?.payload, payload.count == 8 else { return nil }
        var reader = PayloadReader(payload)
        return reader.next()
    }

    private func set(_ rig: SessionRig, _ request: HeaderQueueRequest = request) -> UInt64? {
        rig.send(0x1000, HeaderQueueMessage.payload(request))
        _ = rig.session.service()
        return answer(rig)
    }

    @Test("Feature and messages are offered with bit 58, and a stock peer never sees them")
    func offered() {
        let plain = SessionRig()
        #expect(number(plain, .getProtocolFeatures).map { $0 >> 17 } == 0)
        let wanted = PayloadWriter.number(ProtocolFeatures.headerQueue.rawValue)
        #expect(plain.request(.setProtocolFeatures, wanted) == "REJ(features)")
        let rig = SessionRig.offeringAll()
        #expect(number(rig, .getProtocolFeatures).map { $0 >> 17 } == 1 << 31)
        #expect((number(rig, .getFeatures) ?? 0) >> 58 & 1 == 1)
    }

    @Test("With bit 58 there is one ring more, and all rings are told")
    func rings() {
        let rig = SessionRig.offeringAll()
        // Two pairs, control, set-up.
        #expect(number(rig, .getQueueNum) == 6)
        #expect(rig.state(.setVringNum, 5, 8) == "ok")
        #expect(rig.state(.setVringNum, 6, 8) == "REJ(index)")
        let most = SessionRig(
            RecordingDevice(features: 1 << 32 | 1 << 17 | 1 << 58, queuePairLimit: 127))
        #expect(most.state(.setVringNum, 255, 8) == "ok")
        #expect(most.state(.setVringNum, 256, 8) == "REJ(index)")
    }

    @Test("A request reaches the device as it was sent, and its answer says what became of it")
    func set() {
        let rig = SessionRig.offeringAll()
        // Without memory there is nothing to set up.
        #expect(set(rig) == 6)
        rig.setMemory([SharedMemory.region()])
        #expect(set(rig) == 0)
        #expect(rig.device.headerQueueRequest == Self.request)
        for reason in HeaderQueueRefusal.allCases {
            rig.device.headerQueueRefusal = reason
            #expect(set(rig) == UInt64(reason.rawValue))
        }
        #expect(rig.session.counters["headerQueue"] == 10)
        #expect(rig.request(.resetHeaderQueue) == "ok")
        #expect(rig.request(.stopHeaderQueue) == "ok")
        #expect(rig.request(.stopHeaderQueue) == "REJ(headerQueue)")
        #expect(rig.request(.resetHeaderQueue) == "REJ(headerQueue)")
        #expect(rig.device.headerQueueEvents == ["set", "reset", "stop", "reset"])
    }

    @Test("A reset of the device and the end of the connection stop it")
    func ends() {
        let rig = SessionRig.offeringAll()
        rig.setMemory([SharedMemory.region()])
        #expect(set(rig) == 0)
        #expect(rig.request(.resetDevice) == "ok")
        #expect(set(rig) == 0)
        rig.session.close()
        #expect(rig.device.headerQueueEvents == ["set", "stop", "set", "stop"])
    }

    @Test("However the memory changes, it stays that of one guest")
    func memory() throws {
        let rig = SessionRig.offeringAll()
        let far = SharedMemory.region(guest: 1 << 40, user: 1 << 40)
        rig.setMemory([SharedMemory.region()])
        rig.setMemory([SharedMemory.region(), far])
        rig.request(.removeMemoryRegion, SessionRig.single(far))
        rig.request(.addMemoryRegion, SessionRig.single(far), [rig.memory.descriptor])
        rig.setMemory([])
        rig.setMemory([SharedMemory.region()])
        let guests = rig.device.guests
        #expect(guests.map { $0 != nil } == [true, true, true, true, false, true])
        let first = try #require(guests[0])
        #expect(guests.allSatisfy { $0 == nil || $0 === first })
        // Another connection is another guest.
        let other = SessionRig()
        other.setMemory([SharedMemory.region()])
        #expect(other.device.guests[0] !== first)
    }
}

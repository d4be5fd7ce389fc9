// Features, the device configuration and the back-end's own requests. Group A of the hostile
// catalogue, A40, A41, A45 to A47.
import CCleaveHost
import CleaveHost
import CleaveTestSupport
import CleaveVirtioNet
import Glibc
import Testing

@testable import CleaveVhostUser

@Suite("Features of a session")
struct FeatureTests {
    private func number(_ rig: SessionRig, _ request: FrontendRequest) -> UInt64? {
        rig.send(request.rawValue)
        _ = rig.session.service()
        guard let payload = rig.answers().first?.payload, payload.count == 8 else { return nil }
        var reader = PayloadReader(payload)
        return reader.next()
    }

    @Test("What is offered: the device's features with bit 30, queue pairs, protocol features")
    func offers() {
        let rig = SessionRig(RecordingDevice(features: 5, queuePairLimit: 3))
        #expect(number(rig, .getFeatures) == 5 | 1 << 30 | 1 << 26)
        #expect(number(rig, .getQueueNum) == 3)
        // MQ, LOG_SHMFD, RARP, REPLY_ACK, MTU, BACKEND_REQ, CONFIG, INFLIGHT_SHMFD, RESET_DEVICE,
        // CONFIGURE_MEM_SLOTS, STATUS
        let bits = [0, 1, 2, 3, 4, 5, 9, 12, 13, 15, 16]
        #expect(number(rig, .getProtocolFeatures) == bits.reduce(0) { $0 | 1 << UInt64($1) })
    }

    @Test("A40 Features that were not offered are refused", arguments: [0, 24, 33, 35, 63])
    func notOffered(_ bit: Int) {
        let rig = SessionRig()
        let value = PayloadWriter.number(1 << 32 | 1 << UInt64(bit))
        #expect(rig.request(.setFeatures, value) == "REJ(features)")
        #expect(rig.session.features == 1 << 32)
    }

    @Test("A40 Features do not change while a ring is in use")
    func changed() {
        let rig = SessionRig()
        rig.startRing(0)
        _ = rig.device.take()
        let same = PayloadWriter.number(1 << 32 | 1 << 30)
        let other = PayloadWriter.number(1 << 32 | 1 << 30 | 1 << 15)
        #expect(rig.request(.setFeatures, same) == "ok")
        #expect(rig.request(.setFeatures, other) == "REJ(features)")
        #expect(rig.request(.setFeatures, PayloadWriter.number(1 << 32)) == "REJ(features)")
        #expect(rig.device.take() == ["features \(1 << 32)"])
        _ = rig.base(of: 0)
        #expect(rig.request(.setFeatures, other) == "ok")
    }

    @Test("A41 In-band notifications without what they need close; with it they are not offered")
    func inband() {
        for value in [1 << 14, 1 << 14 | 1 << 3, 1 << 14 | 1 << 5] as [UInt64] {
            let rig = SessionRig()
            let outcome = rig.request(.setProtocolFeatures, PayloadWriter.number(value))
            #expect(outcome == "CLOSE(inband)")
        }
        let rig = SessionRig()
        let all = PayloadWriter.number(1 << 14 | 1 << 3 | 1 << 5)
        #expect(rig.request(.setProtocolFeatures, all) == "REJ(features)")
    }

    @Test("A45 A46 Without their features the log and the in-flight region are refused")
    func refusedFeatures() {
        let all = SessionRig()
        for bit in [6, 7, 8, 10, 11, 17, 18, 19, 62] as [UInt64] {
            let value = PayloadWriter.number(1 << bit)
            #expect(all.request(.setProtocolFeatures, value) == "REJ(features)", "bit \(bit)")
        }
        let rig = SessionRig(protocolFeatures: .acknowledgement)
        let payload = [UInt8](repeating: 0xff, count: 24)
        for number in [6, 31, 32] as [UInt32] {
            let descriptor = rig.memory.descriptor
            #expect(rig.outcome { rig.send(number, payload, [descriptor]) } == "REJ(feature)")
        }
        #expect(FileIdentity(rig.memory.descriptor)?.openCount == 1)
    }

    // MARK: configuration

    private func read(_ rig: SessionRig, offset: Int, count: Int) -> [UInt8]? {
        let access = ConfigurationAccess(
            offset: offset, bytes: [UInt8](repeating: 0, count: max(0, count)))
        rig.send(24, access.payload, flags: 1)
        _ = rig.session.service()
        guard let payload = rig.answers().first?.payload, !payload.isEmpty else { return nil }
        return ConfigurationAccess(payload).bytes
    }

    @Test("The configuration is read in any piece; what has no value is zero")
    func readConfiguration() {
        let rig = SessionRig()
        let bytes: [UInt8] = [2, 0, 0, 0, 0, 7, 1, 0, 2, 0, 0xdc, 5]
        #expect(read(rig, offset: 0, count: 12) == bytes)
        #expect(read(rig, offset: 6, count: 2) == [1, 0])
        #expect(read(rig, offset: 10, count: 4) == [0xdc, 5, 0, 0])
        #expect(read(rig, offset: 0, count: 256) == bytes + [UInt8](repeating: 0, count: 244))
        #expect(read(rig, offset: 0, count: 0) == nil)
        #expect(read(rig, offset: 1, count: 256) == nil)
        #expect(read(rig, offset: 0xffff_ffff, count: 2) == nil)
        #expect(rig.session.counters["config"] == 3)
        let mtuless = NetConfiguration(mac: [1], linkUp: false, maxQueuePairs: 1)
        #expect(mtuless.bytes == [1, 0, 0, 0, 0, 0, 0, 0, 1, 0])
    }

    @Test("The configuration is written if the device takes it")
    func writeConfiguration() {
        let rig = SessionRig()
        let access = ConfigurationAccess(offset: 0, bytes: [2, 0, 0, 0, 0, 9])
        #expect(rig.request(.setConfiguration, access.payload) == "ok")
        #expect(rig.device.take() == ["write 0 [2, 0, 0, 0, 0, 9]"])
        rig.device.acceptsWrites = false
        #expect(rig.request(.setConfiguration, access.payload) == "REJ(config)")
        #expect(rig.request(.setConfiguration, access.payload + [0]) == "REJ(size)")
        let far = ConfigurationAccess(offset: 255, bytes: [1, 2])
        #expect(rig.request(.setConfiguration, far.payload) == "REJ(config)")
    }

    @Test("MTU and announcements reach the device, an MTU out of range does not")
    func small() {
        let rig = SessionRig()
        for mtu in [68, 1500, 65535] as [UInt64] {
            #expect(rig.request(.setMTU, PayloadWriter.number(mtu)) == "ok")
        }
        for mtu in [0, 67, 65536, UInt64.max] {
            #expect(rig.request(.setMTU, PayloadWriter.number(mtu)) == "REJ(value)")
        }
        #expect(rig.request(.sendRARP, [2, 3, 4, 5, 6, 7, 0, 0]) == "ok")
        #expect(
            rig.device.take()
                == ["MTU 68", "MTU 1500", "MTU 65535", "announce [2, 3, 4, 5, 6, 7]"])
    }

    // MARK: requests of the back-end

    @Test("A change of the configuration is announced on the back-end's own connection")
    func announcement() throws {
        let rig = SessionRig()
        let peers = PeerDescriptors()
        rig.session.announceConfigurationChange()
        let pair = peers.sockets()
        #expect(rig.request(.setBackendRequestDescriptor, [], [pair.near]) == "ok")
        rig.session.announceConfigurationChange()
        var bytes = [UInt8](repeating: 0, count: 64)
        #expect(recv(pair.far, &bytes, 64, Int32(MSG_DONTWAIT)) == 12)
        #expect(Array(bytes.prefix(12)) == [2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0])
        let pipe = peers.pipe()
        #expect(rig.request(.setBackendRequestDescriptor, [], [pipe.reader]) == "REJ(fdType)")
    }

    @Test("A47 A peer that reads no announcements is given up after 5 seconds, the device is not")
    func silentPeer() {
        let rig = SessionRig()
        let peers = PeerDescriptors()
        let pair = peers.sockets()
        let identity = FileIdentity(pair.near)
        #expect(rig.request(.setBackendRequestDescriptor, [], [pair.near]) == "ok")
        #expect(identity?.openCount == 2)
        for _ in 0..<100_000 where rig.session.deadline == nil {
            rig.session.announceConfigurationChange()
        }
        #expect(rig.session.deadline != nil)
        rig.session.announceConfigurationChange()
        rig.clock.now += Connection.patience
        #expect(rig.outcome {} == "silent channel")
        #expect(identity?.openCount == 1)
        #expect(rig.request(.getFeatures) == "answer")
    }
}

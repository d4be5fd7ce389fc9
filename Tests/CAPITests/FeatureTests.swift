import CCleave
import CleaveGuestDriver
import CleaveTestSupport
import CleaveVirtioNet
import Glibc
import Testing

@testable import CleaveCAPI

/// Single bits of a set of features.
private func bits(_ features: VirtioFeatures) -> [VirtioFeatures] {
    (0..<64).map { VirtioFeatures(rawValue: 1 << UInt64($0)) }.filter { features.contains($0) }
}

/// With the bits that virtio 1.4 says that it needs.
private func withNeeded(_ bit: VirtioFeatures) -> VirtioFeatures {
    var features = bit
    if bit == .guestECN { features.insert(.guestTSO4) }
    let segmentation: VirtioFeatures = [
        .guestTSO4, .guestTSO6, .guestUFO, .guestUSO4, .guestUSO6,
    ]
    if !features.isDisjoint(with: segmentation) { features.insert(.guestChecksum) }
    return features
}

/// A packet that may be delivered if `needed` was negotiated, and not without.
private struct Asking: Sendable {
    let needed: VirtioFeatures
    let frame: [UInt8]
    let gsoType: UInt8

    init(_ needed: VirtioFeatures, _ frame: [UInt8], gsoType: Int = 0) {
        self.needed = needed
        self.frame = frame
        self.gsoType = UInt8(gsoType)
    }

    static let all: [Asking] = {
        let payload = TestFrames.payload(200)
        let (tcp4, udp4) = (TestFrames.tcp4(payload), TestFrames.udp4(payload))
        let (tcp6, udp6) = (TestFrames.tcp6(payload), TestFrames.udp6(payload))
        return [
            Asking(.guestChecksum, tcp4),
            Asking(.guestTSO4, tcp4, gsoType: 1), Asking(.guestTSO6, tcp6, gsoType: 4),
            Asking(.guestECN, tcp4, gsoType: 0x81), Asking(.guestUFO, udp4, gsoType: 3),
            Asking(.guestUSO4, udp4, gsoType: 5), Asking(.guestUSO6, udp6, gsoType: 5),
        ]
    }()

    /// The packet in a set: checksum from the end of the IP header on.
    func packet(in set: PacketSet) -> cleave_packet {
        set.add(frame)
        var packet = set.packets[set.packets.count - 1]
        let isIPv6 = frame[12] == 0x86
        let transport = isIPv6 ? frame[20] : frame[23]
        packet.net_flags = UInt8(CLEAVE_NET_NEEDS_CSUM.rawValue)
        packet.csum_start = isIPv6 ? 54 : 34
        packet.csum_offset = transport == 6 ? 16 : 6
        packet.gso_type = gsoType
        packet.gso_size = gsoType == 0 ? 0 : 100
        return packet
    }
}

extension CFunctions {
    @Suite("Features") struct FeatureTests {
        /// How the header classes each bit alone.
        private enum Fate { case obeyed, ignored, refused }

        private static func fate(_ bit: Int) -> Fate {
            let ignored =
                [2, 3, 5, 24, 27, 30, 43] + Array(16...23) + Array(36...41)
                + Array(50...53) + Array(59...63)
            if ignored.contains(bit) { return .ignored }
            let obeyed = [0, 1] + Array(7...15) + [28, 29, 32, 34, 35] + Array(54...57)
            return obeyed.contains(bit) ? .obeyed : .refused
        }

        @Test("Every bit is obeyed, ignored or refused, in both directions and by engines")
        func everyBit() throws {
            for bit in 0..<64 where bit != 34 {
                let rig = try CRig()
                let features =
                    rig.config.features
                    | withNeeded(VirtioFeatures(rawValue: 1 << UInt64(bit))).rawValue
                let wanted = Self.fate(bit) == .refused ? -ENOTSUP : 0
                var handle: Handle?
                var txq = rig.txqConfig
                txq.features = features
                #expect(cleave_txq_create(rig.memory, &txq, &handle) == wanted, "txq, bit \(bit)")
                cleave_txq_destroy(handle)
                rig.config.features = features
                let engine = rig.makeEngine([rig.config])
                #expect(engine.result == wanted, "engine, bit \(bit)")
                cleave_engine_destroy(engine.engine)
                handle = nil
                #expect(
                    cleave_rq_create(rig.memory, &rig.config, &handle) == wanted, "rq, bit \(bit)")
                cleave_rq_destroy(handle)
                if wanted == 0 { continue }
                let text = lastError(rig.memory)
                let named = bit == 26 ? "LOG_ALL" : bit == 33 ? "ACCESS_PLATFORM" : "bit \(bit),"
                #expect(text.contains(named), "\(text)")
            }
        }

        @Test("Without VERSION_1 there is no queue")
        func legacy() throws {
            let rig = try CRig()
            rig.config.features = 0
            var rq: Handle?
            #expect(cleave_rq_create(rig.memory, &rig.config, &rq) == -ENOTSUP)
        }

        @Test("ACCESS_PLATFORM needs the word that addresses are guest physical")
        func accessPlatform() throws {
            let rig = try CRig()
            var txq = rig.txqConfig
            for isPhysical in [false, true] {
                let wanted = isPhysical ? 0 : -ENOTSUP
                rig.config.features |= 1 << 33
                rig.config.flags = isPhysical ? CLEAVE_RQ_IOVA_IS_GUEST_PHYSICAL.rawValue : 0
                txq.features = rig.config.features
                txq.flags = isPhysical ? CLEAVE_TXQ_IOVA_IS_GUEST_PHYSICAL.rawValue : 0
                var (rq, queue): (Handle?, Handle?)
                #expect(cleave_rq_create(rig.memory, &rig.config, &rq) == wanted)
                #expect(cleave_txq_create(rig.memory, &txq, &queue) == wanted)
                cleave_rq_destroy(rq)
                cleave_txq_destroy(queue)
            }
        }

        @Test("Bits from 64 up are named and refused, older structures have none")
        func highWord() throws {
            let rig = try CRig()
            var handle: Handle?
            rig.config.features_high = 1 << 5
            #expect(cleave_rq_create(rig.memory, &rig.config, &handle) == -ENOTSUP)
            #expect(lastError(rig.memory).contains("virtio's bit 69"))
            var txq = rig.txqConfig
            txq.features_high = 1
            #expect(cleave_txq_create(rig.memory, &txq, &handle) == -ENOTSUP)
            #expect(lastError(rig.memory).contains("virtio's bit 64"))
            // As far as minor version 3 knew them.
            (rig.config.struct_size, txq.struct_size) = (88, 64)
            #expect(cleave_rq_create(rig.memory, &rig.config, &handle) == 0)
            #expect(cleave_rq_destroy(handle) == 0)
            #expect(cleave_txq_create(rig.memory, &txq, &handle) == 0)
            #expect(cleave_txq_destroy(handle) == 0)
            let engine = rig.makeEngine([rig.config])
            #expect(engine.result == 0 && cleave_engine_destroy(engine.engine) == 0)
            rig.config.struct_size = 87
            #expect(cleave_rq_create(rig.memory, &rig.config, &handle) == -EINVAL)
        }

        @Test("Every bit that the path knows reaches it")
        func passedOn() throws {
            let rig = try CRig()
            let memory = try #require(MemoryObject.live(rig.memory))
            for bit in bits(.receive) {
                rig.config.features = CRig.features | withNeeded(bit).rawValue
                let plan = try ReceiveQueuePlan(rig.config, memory)
                #expect(plan.configuration.features.isSuperset(of: withNeeded(bit)), "\(bit)")
            }
            for bit in bits(.transmit) {
                var config = rig.txqConfig
                config.features = CRig.features | bit.rawValue
                let (configuration, _) = try transmitPlan(config, memory)
                #expect(configuration.features.contains(bit), "\(bit)")
            }
        }

        /// Delivers `asking` on an RQ, or an engine's, that negotiated `features`.
        /// - Returns: the net header that arrived, if the packet did; and how many were dropped as
        ///   not negotiated.
        private func deliver(
            _ asking: Asking, _ features: VirtioFeatures, _ ring: RingFormat, byEngine: Bool
        ) throws -> (header: NetHeader?, dropped: UInt64) {
            let rig = try CRig(ring: ring)
            rig.config.features |= features.rawValue
            let set = PacketSet()
            var packet = asking.packet(in: set)
            var counters = cleave_counters()
            counters.struct_size = UInt32(MemoryLayout<cleave_counters>.size)
            if byEngine {
                let engine = try #require(rig.makeEngine([rig.config]).engine)
                let lane = try made { cleave_engine_get_lane(engine, 0, $0) }
                #expect(cleave_lane_submit(lane, &packet, 1) == 1)
                #expect(cleave_lane_turn(lane) > 0)
                #expect(cleave_lane_get_counters(lane, &counters) == 0)
                #expect(cleave_engine_destroy(engine) == 0)
            } else {
                let rq = try rig.attach()
                #expect(cleave_rq_enqueue_burst(rq, &packet, 1, nil) == 1)
                counters = rig.counters
            }
            let reason = Int(DropReason.offloadNotNegotiated.rawValue)
            let dropped = withUnsafeBytes(of: counters.dropped) {
                $0.load(fromByteOffset: 8 * reason, as: UInt64.self)
            }
            if rig.driver.harvest() == 0 { return (nil, dropped) }
            return (rig.driver.netHeader(of: rig.driver.packets[0]), dropped)
        }

        @Test(
            "What was negotiated arrives with its fields, what was not is dropped",
            arguments: RingFormat.allCases, [false, true])
        func offloads(ring: RingFormat, byEngine: Bool) throws {
            for asking in Asking.all {
                let needed = withNeeded(asking.needed)
                let (header, dropped) = try deliver(asking, needed, ring, byEngine: byEngine)
                let set = PacketSet()
                let packet = asking.packet(in: set)
                #expect(dropped == 0)
                let arrived = try #require(header, "\(asking.needed)")
                #expect(arrived.flags == packet.net_flags)
                #expect(arrived.csumStart == packet.csum_start)
                #expect(arrived.csumOffset == packet.csum_offset)
                #expect(arrived.gsoType == packet.gso_type)
                #expect(arrived.gsoSize == packet.gso_size)
                // Without the bit, but with everything that it needs.
                let without = try deliver(
                    asking, needed.subtracting(asking.needed), ring, byEngine: byEngine)
                #expect(without.header == nil && without.dropped == 1, "\(asking.needed)")
            }
        }

        @Test("A hash arrives where it was negotiated", arguments: [false, true])
        func hash(isNegotiated: Bool) throws {
            let rig = try CRig()
            // The driver reads headers of 12 bytes: the 8 after them are read as they are.
            if isNegotiated { rig.config.features |= VirtioFeatures.hashReport.rawValue }
            let rq = try rig.attach()
            let set = PacketSet()
            set.add(TestFrames.tcp4([1]))
            var packet = set.packets[0]
            (packet.hash_value, packet.hash_report) = (0x1234_5678, 2)
            #expect(cleave_rq_enqueue_burst(rq, &packet, 1, nil) == 1)
            #expect(rig.driver.harvest() == 1)
            let bytes = rig.driver.packets[0].netHeader
            let value = bytes.loadUnaligned(fromByteOffset: 12, as: UInt32.self)
            #expect((value == 0x1234_5678) == isNegotiated)
        }
    }
}

import CleaveHost
import CleaveVirtioNet

/// What a network device offers to front-ends: the settings that its owner chooses, and what
/// follows from them.
package struct NetOffer: Sendable, Equatable {
    /// 1 to 128.
    package var queuePairs = 1
    /// The guest's address, where the driver does not get one from its VMM; nil: it picks one.
    package var mac: [UInt8]?
    /// Told to the driver, 68 to 65535; nil: nothing is said.
    package var mtu: Int?
    /// Features of the queues. All but HASH_REPORT: nobody here computes hashes.
    package var queueFeatures = VirtioFeatures.receive.union(.transmit).subtracting(.hashReport)
    /// Feature bits that are not offered.
    package var featuresOff: UInt64 = 0
    /// A driver that knows how may have its packets' headers apart: VIRTIO_NET_F_HEADER_QUEUE, an
    /// experimental feature (bit 58), and the control queue that belongs to it.
    package var headerQueue = false

    package init() {}

    /// Those of `queueFeatures` by which packets ask for work that somebody has to do.
    package static let offloads = VirtioFeatures.receive.union(.transmit)
        .subtracting(.ring).subtracting(.mergeableBuffers)

    /// - Throws: what cannot be.
    package func check() throws(SetupError) {
        guard (1...128).contains(queuePairs) else {
            throw SetupError("\(queuePairs) queue pairs: need 1 to 128")
        }
        if headerQueue && queuePairs == 128 {
            throw SetupError(
                "128 queue pairs and a header queue: need 1 to 127, since messages name 256 rings")
        }
        if let mtu, !(68...65535).contains(mtu) {
            throw SetupError("MTU \(mtu): need 68 to 65535")
        }
        if let mac, mac.count != 6 || mac[0] & 1 != 0 || mac.allSatisfy({ $0 == 0 }) {
            throw SetupError("the MAC is not the address of one station")
        }
    }

    /// The feature bits that are offered.
    package var features: UInt64 {
        var bits = queueFeatures.rawValue
        bits |= 1 << 16  // STATUS
        bits |= 1 << 32  // VERSION_1
        bits |= 1 << 34  // RING_PACKED
        bits |= 1 << 40  // RING_RESET
        if mtu != nil { bits |= 1 << 3 }
        if mac != nil { bits |= 1 << 5 }
        // MQ, and the control queue by which a driver says how many pairs it uses. QEMU serves that
        // itself; User-Mode Linux leaves it to the back-end. Messages name 256 rings, so after
        // 128 pairs there is no number left for it.
        if queuePairs > 1 { bits |= 1 << 22 }
        if (queuePairs > 1 || headerQueue) && queuePairs < 128 { bits |= 1 << 17 }
        bits &= ~featuresOff
        if headerQueue && bits & Self.headerQueueNeeds == Self.headerQueueNeeds {
            bits |= 1 << 58 & ~featuresOff
        }
        return bits
    }

    /// What a header queue is offered and used with: VERSION_1, MRG_RXBUF, and the control queue,
    /// after which its set-up ring is.
    private static let headerQueueNeeds: UInt64 = 1 << 15 | 1 << 17 | 1 << 32

    /// The device configuration space.
    package var configuration: NetConfiguration {
        NetConfiguration(
            mac: mac ?? [0, 0, 0, 0, 0, 0], linkUp: true, maxQueuePairs: queuePairs, mtu: mtu)
    }

    /// What a ring is for.
    package enum RingRole: Equatable, Sendable {
        case receive(pair: Int)
        case transmit(pair: Int)
        case control
        /// By which a driver sets its header queue up.
        case headerQueue
    }

    /// What a ring is for by its number; nil for one that is none.
    ///
    /// The control queue is after the pairs of which the driver knows, and without MQ that is one.
    /// A front-end may keep the control queue to itself, with its feature (DPDK's virtio-user
    /// does), and still tell of the ring after all pairs.
    /// - Parameter features: as negotiated.
    package func role(ofRing ring: Int, features: UInt64) -> RingRole? {
        let (controlQueue, multiqueue) = (UInt64(1) << 17, UInt64(1) << 22)
        let knowsPairs = features & multiqueue != 0 || features & controlQueue == 0
        let first = 2 * (knowsPairs ? queuePairs : 1)
        if ring == first { return .control }
        if ring == first + 1 {
            let needed = UInt64(1) << 58 | Self.headerQueueNeeds
            return features & needed == needed ? .headerQueue : nil
        }
        if ring > first { return nil }
        return ring % 2 == 0 ? .receive(pair: ring / 2) : .transmit(pair: ring / 2)
    }
}

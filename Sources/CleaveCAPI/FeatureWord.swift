import CCleave
import CleaveVirtioNet

/// The feature bits that a queue is made with: those obeyed, those that concern others, and those
/// that must not be ignored (virtio 1.4, "Reserved Feature Bits", and "Feature bits" of the network
/// device).
enum FeatureWord {
    private static let logAll = 26
    private static let version1 = 32
    private static let accessPlatform = 33
    private static let ringPacked = 34

    private static func word(_ bits: [Int]) -> UInt64 { bits.reduce(0) { $0 | 1 << UInt64($1) } }

    /// Obeyed in one direction or in both.
    static let obeyed =
        VirtioFeatures.receive.union(.transmit).rawValue | word([version1, ringPacked])

    /// For the control plane, or for steering, alone: CTRL_GUEST_OFFLOADS, MTU, MAC, STATUS to
    /// CTRL_MAC_ADDR, NOTIFY_ON_EMPTY, ANY_LAYOUT, VHOST_USER_F_PROTOCOL_FEATURES, ORDER_PLATFORM
    /// to ADMIN_VQ, SUSPEND, DEVICE_STATS to NOTF_COAL, GUEST_HDRLEN to SPEED_DUPLEX.
    static let ignored = word(
        [2, 3, 5, 24, 27, 30, 43] + Array(16...23) + Array(36...41) + Array(50...53)
            + Array(59...63))

    /// Refuses what this version cannot serve.
    /// - Parameter iovaIsGuestPhysical: the caller says that addresses in descriptors are those of
    ///   the memory table, whatever ACCESS_PLATFORM says.
    static func check(
        _ features: UInt64, high: UInt64, iovaIsGuestPhysical: Bool
    ) throws(Refusal) {
        func has(_ bit: Int) -> Bool { features >> UInt64(bit) & 1 != 0 }
        guard has(version1) else {
            throw .unsupported("features lack VERSION_1: legacy drivers are not served")
        }
        if has(logAll) {
            throw .unsupported("features has VHOST_F_LOG_ALL: writes are not logged")
        }
        if has(accessPlatform) && !iovaIsGuestPhysical {
            throw .unsupported(
                "features has ACCESS_PLATFORM: addresses in descriptors are not translated, and no "
                    + "flag says that they are guest physical ones")
        }
        let unknown = features & ~(obeyed | ignored | word([accessPlatform]))
        if unknown != 0 {
            throw .unsupported(
                "features has bit \(unknown.trailingZeroBitCount), which this version does not know"
            )
        }
        if high != 0 {
            throw .unsupported(
                "features_high has virtio's bit \(64 + high.trailingZeroBitCount), which this "
                    + "version does not serve")
        }
    }

    /// Of checked features, the ring format.
    static func format(_ features: UInt64) -> RingFormat {
        features >> UInt64(ringPacked) & 1 != 0 ? .packed : .split
    }
}

/// Features by the names that QEMU's properties have.
public enum FeatureNames {
    /// Those that can be switched off.
    public static let bits: [String: UInt64] = [
        "csum": 0, "guest_csum": 1, "host_mtu": 3, "mac": 5, "guest_tso4": 7, "guest_tso6": 8,
        "guest_ecn": 9, "guest_ufo": 10, "host_tso4": 11, "host_tso6": 12, "host_ecn": 13,
        "host_ufo": 14, "mrg_rxbuf": 15, "status": 16, "mq": 22, "indirect_desc": 28,
        "event_idx": 29, "packed": 34, "in_order": 35, "queue_reset": 40, "guest_uso4": 54,
        "guest_uso6": 55, "host_uso": 56,
    ]

    /// What else a port may offer.
    private static let others: [String: UInt64] = [
        "ctrl_vq": 17, "guest_announce": 21, "log_all": 26, "protocol_features": 30,
        "version_1": 32, "header_queue": 58,
    ]

    private static let names = Dictionary(
        uniqueKeysWithValues: (Array(bits) + Array(others)).map { ($0.value, $0.key) })

    /// The names of the bits that are set, from the lowest on; `bit 60` for one without a name.
    public static func names(of features: UInt64) -> [String] {
        (0..<64).filter { features >> UInt64($0) & 1 != 0 }.map {
            names[UInt64($0)] ?? "bit \($0)"
        }
    }
}

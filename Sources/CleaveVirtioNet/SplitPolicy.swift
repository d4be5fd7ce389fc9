// control path
import CleaveHost

/// Which packets of a queue that splits stay whole, and how slots of a header queue are filled;
/// fixed when the RQ is made.
public struct SplitPolicy: Sendable, Equatable {
    /// Only packets of more bytes than this are split, the others are placed whole and counted as
    /// `belowThreshold`; 0 = all are split. The meaning of `hds-thresh` in Linux's ethtool. For
    /// every method that splits.
    public var threshold: Int
    /// Packets that fit a slot entirely go there entirely: their `headerLength` is their length,
    /// their data buffer is used with no payload. Precedes `threshold`. Off by default, since
    /// consumers such as io_uring zero-copy receive want payload in data buffers always. Method D
    /// only.
    public var placesTinyPackets: Bool
    /// Bytes after the headers are zeroed up to the next 64-byte boundary of the slot, so that a
    /// driver may read whole cache lines without meeting an earlier packet's bytes. Method D only.
    public var zeroPads: Bool

    public init(threshold: Int = 0, placesTinyPackets: Bool = false, zeroPads: Bool = false) {
        self.threshold = threshold
        self.placesTinyPackets = placesTinyPackets
        self.zeroPads = zeroPads
    }

    /// The largest threshold, the length of the largest packet: with it nothing is split.
    public static let maximumThreshold = BurstLimit.packetByteCount

    /// Checks the values, and that `method` obeys them: what it ignored would go unnoticed.
    func check(for method: RxMethod) throws(SetupError) {
        guard (0...Self.maximumThreshold).contains(threshold) else {
            throw SetupError(
                "split threshold \(threshold) is not between 0 and "
                    + "\(Self.maximumThreshold)")
        }
        if threshold > 0 && method == .whole {
            throw SetupError(
                "split threshold \(threshold): method \(method.kind.rawValue) splits nothing")
        }
        if (placesTinyPackets || zeroPads) && !method.needsHeaderQueue {
            let name = placesTinyPackets ? "placesTinyPackets" : "zeroPads"
            throw SetupError(
                "\(name) is about header slots, and method \(method.kind.rawValue) has none")
        }
    }
}

// control path
import CleaveHost

/// Which packets of a queue with a header queue are split, and how slots are filled; fixed when
/// the RQ is made.
public struct SplitPolicy: Sendable, Equatable {
    /// Only packets of more bytes than this are split, the others are placed whole and counted as
    /// `belowThreshold`; 0 = all are split. The meaning of `hds-thresh` in Linux's ethtool.
    public var threshold: Int
    /// Packets that fit a slot entirely go there entirely: their `headerLength` is their length,
    /// their data buffer is used with no payload. Precedes `threshold`. Off by default, since
    /// consumers such as io_uring zero-copy receive want payload in data buffers always.
    public var placesTinyPackets: Bool
    /// Bytes after the headers are zeroed up to the next 64-byte boundary of the slot, so that a
    /// driver may read whole cache lines without meeting an earlier packet's bytes.
    public var zeroPads: Bool

    public init(threshold: Int = 0, placesTinyPackets: Bool = false, zeroPads: Bool = false) {
        self.threshold = threshold
        self.placesTinyPackets = placesTinyPackets
        self.zeroPads = zeroPads
    }

    /// The largest threshold, the length of the largest packet: with it nothing is split.
    public static let maximumThreshold = BurstLimit.packetByteCount

    func check() throws(SetupError) {
        guard (0...Self.maximumThreshold).contains(threshold) else {
            throw SetupError(
                "split threshold \(threshold) is not between 0 and "
                    + "\(Self.maximumThreshold)")
        }
    }
}

import CleaveHost
import CleaveVirtioNet

/// What the driver posts as one receive buffer.
public enum BufferShape: Sendable, Equatable {
    /// One descriptor per buffer; a packet may span several buffers (MRG_RXBUF).
    case mergeable(bufferByteCount: Int)
    /// A chain of equal descriptors that holds the largest packet; no MRG_RXBUF.
    case chained(bufferByteCount: Int, packetByteCount: Int)
    /// One descriptor that holds the largest packet; no MRG_RXBUF.
    case single(packetByteCount: Int)

    /// Room for what may precede the packet in a data buffer.
    static let prefixByteCount = 28

    /// Bytes of one data buffer; a multiple of 64.
    public var bufferByteCount: Int {
        switch self {
        case .mergeable(let byteCount), .chained(let byteCount, _): byteCount
        case .single(let packet): max(4096, (packet + Self.prefixByteCount + 4095) & ~4095)
        }
    }

    /// Descriptors in a chain.
    public var chainLength: Int {
        switch self {
        case .mergeable, .single: 1
        case .chained(let buffer, let packet):
            max(1, (packet + Self.prefixByteCount + buffer - 1) / buffer)
        }
    }

    /// The feature that goes with the shape.
    public var features: VirtioFeatures {
        if case .mergeable = self { return .mergeableBuffers }
        return []
    }

    /// The name on command lines and in reports.
    public var name: String {
        switch self {
        case .mergeable: "mergeable"
        case .chained: "chained"
        case .single: "single"
        }
    }

    func check() throws(SetupError) {
        guard bufferByteCount >= 64, bufferByteCount <= 1 << 20, bufferByteCount % 64 == 0 else {
            throw SetupError(
                "data buffers of \(bufferByteCount) bytes: need a multiple of 64, 64 to 1048576")
        }
    }
}

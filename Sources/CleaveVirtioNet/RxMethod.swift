// control path

/// Where headers go. A, B and C report a split, or that there is none, in the 8 bytes after the
/// virtio-net header (`SplitReport`, slot 0).
public enum RxMethod: Sendable, Equatable {
    /// No split: packets are placed whole.
    case whole
    /// Method A: into the first descriptor of a chain, whose rest stays unused; payload from the
    /// second on. `used.len` counts the bytes written, not the unused rest.
    case headerDescriptor
    /// Method B: into the first of a packet's buffers, whose rest stays unused; payload from the
    /// second on. Needs MRG_RXBUF, and relaxes its rule that all buffers but the last are full.
    case headerPage
    /// Method C: as B, over small and large buffers that the driver posts alternately. Small ones
    /// that do not hold the rest of a payload are given back within the packet, with length 0.
    /// `headerBufferByteCount`: the size up to which a buffer is a small one.
    case alternating(headerBufferByteCount: Int)
    /// Method D: into the header queue, reported in one of two ways.
    case headerQueue(HeaderReport)

    /// The methods by the names that commands, results and profiles give them.
    public enum Kind: String, Sendable, CaseIterable, Codable {
        /// No split.
        case whole
        /// The first descriptor of a chain.
        case a
        /// The first of a packet's pages.
        case b
        /// Small buffers between the large ones.
        case c
        /// The header queue.
        case d
    }

    public var kind: Kind {
        switch self {
        case .whole: .whole
        case .headerDescriptor: .a
        case .headerPage: .b
        case .alternating: .c
        case .headerQueue: .d
        }
    }

    /// Whether RQs of this method claim slots.
    public var needsHeaderQueue: Bool {
        if case .headerQueue = self { return true }
        return false
    }

    /// Whether a split packet takes several buffers, which only MRG_RXBUF can tell a driver.
    public var needsMergeableBuffers: Bool {
        switch self {
        case .headerPage, .alternating: true
        case .whole, .headerDescriptor, .headerQueue: false
        }
    }

    /// Bytes up to which a buffer is one for headers; 0 for other methods.
    var smallBufferByteCount: Int {
        if case .alternating(let byteCount) = self { return byteCount }
        return 0
    }
}

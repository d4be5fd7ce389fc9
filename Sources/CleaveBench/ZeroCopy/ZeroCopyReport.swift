import CleaveHost

/// What carries packets from the sender's kernel to the receiver's.
public enum ZeroCopyPath: String, Codable, Sendable, CaseIterable {
    /// Two TAP ports of cleave-vhost, between two network namespaces of this kernel.
    case tap
    /// The Linux driver of the header queue in a kernel that is a process (User-Mode Linux).
    case uml
    /// The same driver in a guest of QEMU whose CPUs are emulated.
    case qemu
    /// Any two machines that run commands, such as guests with CPUs of their own.
    case guests

    public var words: String {
        switch self {
        case .tap: "two TAP ports of cleave-vhost, two network namespaces of this kernel"
        case .uml: "virtio_net_hq in User-Mode Linux"
        case .qemu: "virtio_net_hq in QEMU with emulated CPUs"
        case .guests: "two machines that were named"
        }
    }

    /// Why mapping does not compare with copying there; nil where it does.
    public var meaninglessRatio: String? {
        switch self {
        case .tap, .guests: nil
        case .uml:
            "User-Mode Linux asks its host for each page that it maps: only counts mean something "
                + "here, the ratio is meaningless."
        case .qemu:
            "The guests' CPUs are emulated, and a copy and a change of page tables cost what the "
                + "emulator makes of them: only counts mean something here, the ratio is "
                + "meaningless."
        }
    }
}

/// One stream received by copy and one received by mapping, next to each other in time.
public struct ZeroCopyPair: Codable, Sendable, Equatable {
    public var copied: StreamReceipt
    public var mapped: StreamReceipt

    public init(copied: StreamReceipt, mapped: StreamReceipt) {
        (self.copied, self.mapped) = (copied, mapped)
    }

    public subscript(way: ReceiveWay) -> StreamReceipt { way == .copied ? copied : mapped }
}

/// What `zerocopy` found.
public struct ZeroCopyReport: Sendable {
    public var machine: MachineFacts
    public var path: ZeroCopyPath
    /// UTC, by ISO 8601.
    public var started: String
    public var warnings: [String] = []
    /// Payload bytes of each segment; nil where the machines decide.
    public var segmentByteCount: Int?
    public var passByteCount: Int
    public var bufferByteCount: Int
    /// Whether the receiver read every byte in the timed passes.
    public var reads: Bool
    /// The passes that were compared and not timed.
    public var compared: [ReceiveWay: StreamReceipt] = [:]
    public var pairs: [ZeroCopyPair] = []
    /// Why the run ended before all pairs were measured.
    public var interruption: String?

    public init(
        machine: MachineFacts, path: ZeroCopyPath, started: String, segmentByteCount: Int?,
        passByteCount: Int, bufferByteCount: Int, reads: Bool
    ) {
        (self.machine, self.path, self.started) = (machine, path, started)
        (self.segmentByteCount, self.passByteCount) = (segmentByteCount, passByteCount)
        (self.bufferByteCount, self.reads) = (bufferByteCount, reads)
    }

    public var wrongByteCount: Int { compared.values.map(\.wrongBytes).reduce(0, +) }
}

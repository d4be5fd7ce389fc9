/// How many descriptors each buffer of a run has (`Virtqueue.popRun`), known at compile time so
/// that one loop serves both.
protocol RunBuffer {
    static var hasTwoDescriptors: Bool { get }
    /// The length of its used entry says more than bytes, so that it counts although none may have
    /// been written.
    static var namesSlot: Bool { get }
}

/// Plain descriptors.
enum OneDescriptor: RunBuffer {
    @inline(__always) static var hasTwoDescriptors: Bool { false }
}

/// Plain descriptors whose used entries name a header slot in their length.
enum OneNamingDescriptor: RunBuffer {
    @inline(__always) static var hasTwoDescriptors: Bool { false }
    @inline(__always) static var namesSlot: Bool { true }
}

/// Chains of two plain descriptors, each of which holds a part of its own.
enum TwoDescriptors: RunBuffer {
    @inline(__always) static var hasTwoDescriptors: Bool { true }
}

extension RunBuffer {
    @inline(__always) static var namesSlot: Bool { false }
    @inline(__always) static var descriptorCount: Int { hasTwoDescriptors ? 2 : 1 }
}

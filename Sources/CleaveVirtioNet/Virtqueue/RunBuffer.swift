/// How many descriptors each buffer of a run has (`Virtqueue.popRun`), known at compile time so
/// that one loop serves both.
protocol RunBuffer {
    static var hasTwoDescriptors: Bool { get }
}

/// Plain descriptors.
enum OneDescriptor: RunBuffer {
    @inline(__always) static var hasTwoDescriptors: Bool { false }
}

/// Chains of two plain descriptors, each of which holds a part of its own.
enum TwoDescriptors: RunBuffer {
    @inline(__always) static var hasTwoDescriptors: Bool { true }
}

extension RunBuffer {
    @inline(__always) static var descriptorCount: Int { hasTwoDescriptors ? 2 : 1 }
}

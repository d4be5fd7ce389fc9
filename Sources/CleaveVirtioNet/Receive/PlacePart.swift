// What one pass over a placed burst writes. A burst is placed in one pass, or in one for each kind
// of write, so that a profile can tell them apart: the same code, specialised for less.

/// The writes of a pass.
protocol PlacePart {
    /// Slots into shadowed used entries, where the method reports them there.
    static var namesSlots: Bool { get }
    /// Net headers, and packet headers that lie apart.
    static var writesHeaders: Bool { get }
    /// What is left of the packets; and counts what became of them.
    static var writesPayload: Bool { get }
}

/// All of them.
enum WholePlace: PlacePart {
    @inline(__always) static var namesSlots: Bool { true }
    @inline(__always) static var writesHeaders: Bool { true }
    @inline(__always) static var writesPayload: Bool { true }
}

enum SlotNames: PlacePart {
    @inline(__always) static var namesSlots: Bool { true }
    @inline(__always) static var writesHeaders: Bool { false }
    @inline(__always) static var writesPayload: Bool { false }
}

enum HeaderBytes: PlacePart {
    @inline(__always) static var namesSlots: Bool { false }
    @inline(__always) static var writesHeaders: Bool { true }
    @inline(__always) static var writesPayload: Bool { false }
}

/// The last pass. A packet that goes no simple way (several segments, several buffers, offloads)
/// is written here, headers and all but for what stands before them in a slot.
enum PayloadBytes: PlacePart {
    @inline(__always) static var namesSlots: Bool { false }
    @inline(__always) static var writesHeaders: Bool { false }
    @inline(__always) static var writesPayload: Bool { true }
}

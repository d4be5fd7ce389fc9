// A burst placed in passes, one for each kind of write, so that a profile can tell them apart. The
// same code as the one pass, specialised for less.

/// A kind of write.
protocol PlacePart {
    static var namesSlots: Bool { get }
    static var writesHeaders: Bool { get }
    static var writesPayload: Bool { get }
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

/// A method of which `BurstPlan.place` does one part only.
enum OnePart<Base: PlacementMethod, Part: PlacePart>: PlacementMethod {
    typealias Buffer = Base.Buffer
    @inline(__always) static var namesSlots: Bool { Part.namesSlots }
    @inline(__always) static var writesHeaders: Bool { Part.writesHeaders }
    @inline(__always) static var writesPayload: Bool { Part.writesPayload }

    @inline(__always) static var claimsSlots: Bool { Base.claimsSlots }
    @inline(__always) static var listsSlots: Bool { Base.listsSlots }
    @inline(__always) static var leadsWithHeaders: Bool { Base.leadsWithHeaders }
    @inline(__always) static var partsAreBuffers: Bool { Base.partsAreBuffers }
    @inline(__always) static var skipsSmallBuffers: Bool { Base.skipsSmallBuffers }
    @inline(__always) static var reportsInUsedElement: Bool { Base.reportsInUsedElement }
    @inline(__always)
    static func prefixByteCount(split: Bool, netHeader: Int) -> Int {
        Base.prefixByteCount(split: split, netHeader: netHeader)
    }
    @inline(__always)
    static func slotByteCount(headerLength: Int, netHeader: Int) -> Int {
        Base.slotByteCount(headerLength: headerLength, netHeader: netHeader)
    }
}

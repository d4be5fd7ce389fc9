/// Whether the driver asks for calls by an event index, and whether that tells all.
///
/// After a start it does not: whoever served the queue before may have published used entries and
/// stopped, or died, before it called, and a driver that sleeps until one of those would never be
/// called for later ones. So the first publish calls whatever the index is. QEMU, rte_vhost and
/// the kernel's vhost likewise call once when they do not know for what the driver was called last.
///
/// One byte in the place of a flag: a queue's state is kept in registers for a burst, and one more
/// word of it cost 4 instructions for each packet of some methods.
struct CallRule: BitwiseCopyable {
    /// 0 without EVENT_IDX; with it 3 before the first publish, 2 after that, 1 after later ones.
    private var stage: UInt8

    init(_ features: VirtioFeatures) { stage = features.contains(.eventIndex) ? 3 : 0 }

    /// Goes on to a publish of at least one entry. That the driver wants no call at all then, as a
    /// packed ring's can say, makes no difference: it is awake, and looks at the ring before it
    /// sleeps.
    @inline(__always)
    mutating func publish() {
        if stage > 1 { stage &-= 1 }
    }

    @inline(__always) var usesEventIndex: Bool { stage != 0 }
    /// Whether the event index decides on a call for the last publish.
    @inline(__always) var trustsEventIndex: Bool { stage == 1 }
}

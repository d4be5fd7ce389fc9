import Rings

/// What the driver of a split ring says about being called.
enum SplitEvent {
    /// Whether it asked to be called for the used entries from number `from` up to `to`, which were
    /// made visible by a sequential store.
    @inline(__always)
    static func isWanted(
        _ availRing: UnsafeMutableRawPointer, from: UInt16, to: UInt16, size: Int,
        usesEventIndex: Bool
    ) -> Bool {
        if from == to { return false }
        if !usesEventIndex {
            let flags = SharedWord16(availRing + SplitLayout.flagsOffset).loadSequential()  // [V3]
            return flags & availNoInterrupt == 0
        }
        let offset = SplitLayout.usedEventOffset(size: size)
        let event = SharedWord16(availRing + offset).loadSequential()  // [V3]
        return eventCrossed(event: event, from: from, to: to)
    }
}

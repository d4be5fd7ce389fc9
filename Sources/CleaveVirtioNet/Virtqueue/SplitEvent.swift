import CleaveRings

/// What the other side of a split ring says about being notified.
public enum SplitEvent {
    /// Whether the driver asked to be called for the last `count` used entries below number `to`,
    /// which were made visible by a sequential store.
    @inline(__always)
    static func isWanted(
        _ availRing: UnsafeMutableRawPointer, upTo to: UInt16, count: Int, size: Int,
        _ rule: CallRule
    ) -> Bool {
        if count == 0 { return false }
        if !rule.usesEventIndex {
            let flags = SharedWord16(availRing + SplitLayout.flagsOffset).loadSequential()  // [V3]
            return flags & availNoInterrupt == 0
        }
        let offset = SplitLayout.usedEventOffset(size: size)
        let event = SharedWord16(availRing + offset).loadSequential()  // [V3]
        return !rule.trustsEventIndex || isCrossed(event, upTo: to, count: count)
    }

    /// Asks the driver to kick once it has made entry number `index` available, or not to kick.
    /// What it made available before is seen by the next read of `avail.idx`.
    static func setKicks(
        enabled wanted: Bool, usedRing: UnsafeMutableRawPointer,
        availRing: UnsafeMutableRawPointer, at index: UInt16, size: Int
    ) {
        let flags = SharedWord16(usedRing + SplitLayout.flagsOffset)
        if !wanted { return flags.store(usedNoNotify) }
        SharedWord16(usedRing + SplitLayout.availEventOffset(size: size)).store(index)
        flags.storeSequential(0)  // [V3]
        _ = SharedWord16(availRing + SplitLayout.indexOffset).loadSequential()  // [V3]
    }

    /// Whether entry number `event` is one of the last `count` below number `to`, modulo 2^16
    /// (virtio 1.4, "Used Buffer Notification Suppression"; a driver's rule for kicks is the same).
    @inlinable
    public static func isCrossed(_ event: UInt16, upTo to: UInt16, count: Int) -> Bool {
        Int(to &- event &- 1) < count
    }
}

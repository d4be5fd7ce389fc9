// IN_ORDER: one used entry for several buffers (virtio 1.4, "In-order use of descriptors").

extension Virtqueue {
    /// Puts each batch's last entry in the place of its first: that is where a driver looks, and
    /// from its id it knows how far the batch goes. A skipped buffer counts as full, so only full
    /// ones were marked. The first keeps its own header slot.
    ///
    /// The entries between are written all the same, since one copy of all is cheaper than gaps.
    @inline(never)
    func joinBatches() {
        var last = usedCount &- 1
        var index = last
        while index > 0 {
            index &-= 1
            if joinsNext(index) { report(index, as: last) } else { last = index }
        }
    }
}

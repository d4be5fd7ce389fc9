import CleaveTestSupport
import CleaveVirtioNet
import Testing

/// The queue breaks on its next packet, for this reason, without having written anything; from then
/// on it takes and drops everything.
func expectBroken(
    _ rig: any ReceiveRig, _ fault: QueueFault, _ comment: Comment? = nil,
    sourceLocation: SourceLocation = #_sourceLocation
) {
    let image = rig.guest.image()
    let before = rig.queue.counters
    let packet = TestFrames.tcp4(TestFrames.payload(1000))
    let first = rig.enqueue([packet]).result
    #expect(first.consumed == 0 && !first.wantsCall, comment, sourceLocation: sourceLocation)
    let counters = rig.queue.counters
    #expect(counters.fault == fault, comment, sourceLocation: sourceLocation)
    #expect(counters.packets == before.packets, comment, sourceLocation: sourceLocation)
    #expect(counters.droppedTotal == 0, comment, sourceLocation: sourceLocation)
    #expect(image.isUnchanged, comment, sourceLocation: sourceLocation)
    #expect(
        rig.enqueue([packet, packet]).fates == [false, false], comment,
        sourceLocation: sourceLocation)
    #expect(
        rig.queue.counters.dropped == [.queueBroken: 2], comment, sourceLocation: sourceLocation)
    #expect(rig.queue.counters.fault == fault, comment, sourceLocation: sourceLocation)
    #expect(image.isUnchanged, comment, sourceLocation: sourceLocation)
}

/// A packet of 1066 bytes is delivered by the next buffers, which hold these lengths.
func expectDelivered(
    _ rig: any ReceiveRig, _ lengths: [Int] = [1066], _ comment: Comment? = nil,
    sourceLocation: SourceLocation = #_sourceLocation
) {
    let from = rig.usedTotal
    let fates = rig.enqueue([TestFrames.tcp4(TestFrames.payload(1000))]).fates
    #expect(fates == [true], comment, sourceLocation: sourceLocation)
    #expect(
        rig.reports.suffix(rig.usedTotal - from).map(\.length) == lengths, comment,
        sourceLocation: sourceLocation)
    #expect(rig.queue.counters.fault == .none, comment, sourceLocation: sourceLocation)
    #expect(rig.guest.bandsAreIntact, comment, sourceLocation: sourceLocation)
}

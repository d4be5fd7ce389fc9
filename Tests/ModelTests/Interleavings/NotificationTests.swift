import CleaveGuestDriver
import CleaveRings
import Testing

@testable import CleaveVirtioNet

extension Interleavings {
    /// A driver that goes to sleep asks for a call and checks once more; the worker publishes and
    /// checks whether a call is wanted. One of them must see the other [V3].
    @Suite("Notification")
    struct NotificationTests {
        private static let size = 4
        private let space: GuestSpace
        private let addresses: VirtqueueAddresses
        private let areas: [GuestBlock]
        private let shadow: UnsafeMutableRawPointer

        init() throws {
            let space = try GuestSpace(byteCount: 4096)
            let areas = try (0..<3).map { _ in try space.allocate(byteCount: 256) }
            self.space = space
            self.areas = areas
            addresses = VirtqueueAddresses(
                format: .split, size: Self.size, descriptorArea: areas[0].address,
                driverArea: areas[1].address, deviceArea: areas[2].address)
            shadow = try space.allocate(byteCount: 256).pointer
        }

        private func setUp(_ run: ModelRun, features: VirtioFeatures) throws {
            for area in areas {
                area.pointer.initializeMemory(as: UInt8.self, repeating: 0, count: area.byteCount)
            }
            var queue = try SplitVirtqueue(
                addresses, features: features, memory: space.memory, shadow: shadow)
            let usesEventIndex = features.contains(.eventIndex)
            let avail = areas[1].pointer
            let asked =
                avail
                + (usesEventIndex
                    ? SplitLayout.usedEventOffset(size: Self.size) : SplitLayout.flagsOffset)
            let index = areas[2].pointer + SplitLayout.indexOffset
            let event = SharedWord16(asked)
            // The first publish after a start calls whatever the driver says, so it is done before.
            queue.addUsed(60)
            queue.publish()
            // No call now: the event farthest away, or the flag that says so.
            event.store(usesEventIndex ? 0 : availNoInterrupt)
            run.word("used.idx", index)
            run.word("event", asked)
            var isCalled = false
            var sleeps = false
            run.thread("worker") {
                queue.addUsed(60)
                queue.publish()
                isCalled = queue.wantsCall()
            }
            run.thread("driver") {
                event.storeSequential(usesEventIndex ? 1 : 0)
                sleeps = SharedWord16(index).loadSequential() == 1
            }
            run.finally {
                run.check(isCalled || !sleeps, "the driver sleeps, and nobody calls it")
            }
        }

        @Test("A driver that goes to sleep is called", arguments: [[], VirtioFeatures.eventIndex])
        func called(_ features: VirtioFeatures) throws {
            let bounds = Bounds(preemptions: 4, staleReads: 4)
            try expectHolds(bounds) { try setUp($0, features: features) }
            for word in ["used.idx", "event"] {
                try expectFinds(
                    "nobody calls", bounds, without: Weakening(part: .sequential, word: word)
                ) { try setUp($0, features: features) }
            }
        }
    }
}

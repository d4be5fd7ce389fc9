import CleaveTestSupport
import Testing

@testable import CleaveSwitch

/// The window as nobody would write it: each packet with its holders, in a list.
private struct NaiveWindow {
    var packets: [(position: UInt32, holders: Int)] = []

    mutating func change(_ position: UInt32, by amount: Int) {
        guard let index = packets.firstIndex(where: { $0.position == position }) else { return }
        packets[index].holders += amount
    }

    mutating func take() -> Int {
        let count = packets.prefix { $0.holders == 0 }.count
        packets.removeFirst(count)
        return count
    }
}

@Suite("Order of packets that several threads finish")
struct InFlightWindowTests {
    @Test(
        "Packets come back in order, whatever the order in which they are finished",
        arguments: [0, UInt32.max - 100], [32, 64, 256])
    func twin(start: UInt32, capacity: Int) {
        var window = InFlightWindow(capacity: capacity, start: start)
        defer { window.free() }
        var naive = NaiveWindow()
        var random = SeededRandom(seed: UInt64(capacity) + UInt64(start))
        var next = start
        /// Holders that have not finished.
        var holders: [UInt32] = []
        var taken = 0
        var begun = 0
        for _ in 0..<2000 {
            switch random.int(0...3) {
            case 0:
                let count = min(random.int(1...32), window.room)
                if count == 0 { continue }
                window.begin(count)
                for index in 0..<count {
                    let position = next &+ UInt32(index)
                    naive.packets.append((position, 1))
                    for _ in 0..<random.pick([0, 0, 1, 1, 1, 5]) {
                        #expect(window.hold(index) == position)
                        naive.change(position, by: 1)
                        holders.append(position)
                    }
                }
                // The burst lets go of some at once, in one stroke; of the others later.
                var mask = UInt32(truncatingIfNeeded: random.next())
                mask &= UInt32.max >> UInt32(32 - count)
                window.finish(ofBurst: mask)
                for index in 0..<count {
                    let position = next &+ UInt32(index)
                    if mask >> UInt32(index) & 1 != 0 {
                        naive.change(position, by: -1)
                    } else {
                        holders.append(position)
                    }
                }
                next = next &+ UInt32(count)
                begun += count
            case 1, 2:
                for _ in 0..<random.int(0...40) where !holders.isEmpty {
                    let index = random.int(0...holders.count - 1)
                    holders.swapAt(index, holders.count - 1)
                    let position = holders.removeLast()
                    window.finish(position: position)
                    naive.change(position, by: -1)
                }
            default:
                let count = window.take()
                #expect(count == naive.take())
                taken += count
            }
            #expect(window.count == naive.packets.count)
            #expect(window.room == capacity - naive.packets.count)
        }
        for position in holders { window.finish(position: position) }
        taken += window.take()
        #expect(taken == begun && window.count == 0)
        #expect(begun > 10 * capacity)
    }
}

import CleaveGuestDriver
import CleaveHost
import CleaveVirtioNet
import Testing

@testable import CleaveVhostUser

@Suite("The control queue that a port serves")
struct ServedControlQueueTests {
    /// A queue of eight commands, and its driver.
    private final class Rig {
        let space: GuestSpace
        let ring: SetupRing
        let kick: EventDescriptor
        let queue: ServedControlQueue
        let answer: GuestBlock

        init(_ format: RingFormat) throws {
            space = try GuestSpace(byteCount: 1 << 20, pages: .small)
            ring = try SetupRing(format, in: space)
            kick = try EventDescriptor()
            queue = try ServedControlQueue(
                VringSetup(
                    virtqueue: ring.addresses, features: 1 << 32, memory: space.memory,
                    mappings: MappedMemory([]), callDescriptor: -1,
                    kickDescriptor: kick.fileDescriptor), queuePairs: 4)
            answer = try space.allocate(byteCount: 1)
        }

        func post(pairs: UInt8) { ring.post([4, 0, pairs, 0], [(answer.address, 1)]) }

        /// The numbers of pairs that one call of `serve` asks for.
        func serve(isEnough: Bool = false) -> [Int] {
            var asked: [Int] = []
            _ = queue.serve {
                asked.append($0)
                return !isEnough
            }
            return asked
        }
    }

    @Test(
        "Commands behind the bound of one look are served without a kick",
        arguments: RingFormat.allCases)
    func bound(_ format: RingFormat) throws {
        let rig = try Rig(format)
        // As many as the ring holds: without a byte for an answer they are not carried out.
        for _ in 0..<8 { rig.ring.post([4, 0, 2, 0], []) }
        rig.kick.signal()
        #expect(rig.serve() == [] && rig.ring.isReturned && rig.queue.mayHaveMore)
        rig.post(pairs: 2)
        #expect(rig.serve() == [2] && rig.ring.isReturned && !rig.queue.mayHaveMore)
        // That look ended before its bound: what comes now is told by a kick.
        rig.post(pairs: 3)
        #expect(rig.serve() == [])
        rig.kick.signal()
        #expect(rig.serve() == [3])
        #expect(rig.queue.fault == .none)
    }

    // virtio 1.4, "Automatic receive steering in multiqueue mode": no packet comes to a queue above
    // the number once the command is answered.
    @Test(
        "The driver is answered after its pairs are in use, not before",
        arguments: RingFormat.allCases)
    func order(_ format: RingFormat) throws {
        let rig = try Rig(format)
        for round in 0..<20 {
            rig.answer.pointer.storeBytes(of: 0xee, as: UInt8.self)
            rig.post(pairs: UInt8(round % 4 + 1))
            rig.kick.signal()
            var wasAsked = false
            _ = rig.queue.serve { count in
                wasAsked = true
                #expect(count == round % 4 + 1)
                #expect(!rig.ring.isReturned)
                #expect(rig.answer.pointer.load(as: UInt8.self) == 0xee)
                return true
            }
            #expect(wasAsked && rig.ring.isReturned)
            #expect(rig.answer.pointer.load(as: UInt8.self) == ControlAnswer.ok)
        }
    }

    @Test("A command may be the last of its call", arguments: RingFormat.allCases)
    func last(_ format: RingFormat) throws {
        let rig = try Rig(format)
        for pairs in [1, 2, 3] as [UInt8] { rig.post(pairs: pairs) }
        rig.kick.signal()
        for pairs in 1...3 {
            #expect(rig.serve(isEnough: true) == [pairs] && rig.queue.mayHaveMore)
        }
        #expect(rig.serve(isEnough: true) == [] && !rig.queue.mayHaveMore)
    }
}

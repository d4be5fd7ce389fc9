// A buffer is in exactly one place: posted, harvested, with the application, or spare.
import CleaveGuestDriver
import CleaveTestSupport
import CleaveVirtioNet
import Testing

@Suite("Buffers that the application takes")
struct BufferConservationTests {
    /// Where the hand-made device expects every buffer to be, by address.
    private struct Ledger {
        var posted: [PostedChain] = []
        /// With the application, oldest first.
        var taken: [UInt] = []
        var seen: Set<UInt> = []

        static func buffers(_ chain: PostedChain) -> [UInt] {
            chain.pieces.map { UInt(bitPattern: $0.pointer) }
        }

        /// - Returns: whether no buffer of `chains` is posted already or with the application.
        mutating func post(_ chains: [PostedChain]) -> Bool {
            var known = Set(posted.flatMap(Self.buffers)).union(taken)
            for buffer in chains.flatMap(Self.buffers) {
                if !known.insert(buffer).inserted { return false }
                seen.insert(buffer)
            }
            posted += chains
            return true
        }
    }

    @Test(
        "None is lost, none is in two places", arguments: [1, 2, 4, 8, 16, 32, 64], [0, 1, 5, 64])
    func conservation(_ ringSize: Int, _ spares: Int) throws {
        for shape in [
            BufferShape.mergeable(bufferByteCount: 64),
            .chained(bufferByteCount: 64, packetByteCount: 100),
        ] where shape.chainLength <= ringSize {
            let rig = try Rig(ringSize: ringSize, shape: shape, spares: spares)
            let chainCount = ringSize / shape.chainLength
            var random = SeededRandom(seed: UInt64(ringSize * 100 + spares))
            var ledger = Ledger()
            for _ in 0..<60 {
                rig.driver.refill()
                let isPosted = ledger.post(rig.device.takeAll())
                try #require(isPosted, "a buffer is in two places")
                let free = chainCount * shape.chainLength + spares - ledger.taken.count
                #expect(ledger.posted.count <= min(chainCount, free / shape.chainLength))
                try round(rig, &ledger, &random)
                // The driver gives back the oldest first, and no more than there are.
                let back = random.int(0...ledger.taken.count + 1)
                rig.driver.giveBack(back)
                ledger.taken.removeFirst(min(back, ledger.taken.count))
                #expect(rig.driver.takenCount == ledger.taken.count)
            }
            rig.driver.giveBack(.max)
            ledger.taken = []
            rig.driver.refill()
            let isPosted = ledger.post(rig.device.takeAll())
            #expect(isPosted)
            #expect(ledger.posted.count == chainCount)
            #expect(ledger.seen.count <= chainCount * shape.chainLength + spares)
            #expect(rig.driver.fault == .none)
        }
    }

    /// One burst, of which the application keeps all buffers or none.
    private func round(
        _ rig: Rig, _ ledger: inout Ledger, _ random: inout SeededRandom
    ) throws {
        var used: [PostedChain] = []
        for _ in 0..<random.int(0...min(32, ledger.posted.count)) {
            let chain = ledger.posted.remove(at: random.int(0...ledger.posted.count - 1))
            chain.write(netHeaderBytes())
            rig.device.use(chain, byteCount: 12)
            used.append(chain)
        }
        rig.device.publish()
        #expect(rig.driver.harvest() == used.count)
        let starts = rig.driver.packets.map { rig.driver.pieces[Int($0.firstPiece)].pointer - 12 }
        #expect(starts == used.map { UnsafeRawPointer($0.pieces[0].pointer) })
        let takes = random.chance(50)
        rig.driver.finish(taking: takes)
        if takes { ledger.taken += used.flatMap(Ledger.buffers) }
        #expect(rig.driver.takenCount == ledger.taken.count)
    }

    @Test("A chain without buffers does not hold back those behind it that have theirs")
    func noHeadOfLine() throws {
        let rig = try Rig(ringSize: 4, shape: .mergeable(bufferByteCount: 64))
        rig.driver.refill()
        let chains = rig.device.takeAll()
        for taking in [true, false] {
            for chain in chains[taking ? 0..<2 : 2..<4] {
                chain.write(netHeaderBytes())
                rig.device.use(chain, byteCount: 12)
            }
            rig.device.publish()
            #expect(rig.driver.harvest() == 2)
            rig.driver.finish(taking: taking)
        }
        #expect(rig.driver.refill().posted == 2)
        rig.driver.giveBack(2)
        rig.driver.refill()
        #expect(rig.device.availIndex == 8)
    }

    @Test("What was taken keeps its bytes until it is given back")
    func bytesStay() throws {
        let rig = try Rig(ringSize: 2, shape: .mergeable(bufferByteCount: 64), spares: 2)
        rig.driver.refill()
        let first = rig.device.takeAll()
        for chain in first {
            chain.write(netHeaderBytes() + [9, 9, 9])
            rig.device.use(chain, byteCount: 15)
        }
        rig.device.publish()
        #expect(rig.driver.harvest() == 2)
        rig.driver.finish(taking: true)
        #expect(rig.driver.refill().posted == 2)
        for chain in rig.device.takeAll() {
            chain.write([UInt8](repeating: 1, count: 64))
        }
        for chain in first {
            #expect(chain.pieces[0].pointer.load(fromByteOffset: 12, as: UInt8.self) == 9)
        }
    }

    @Test("Copying out starts again at the front when a packet does not fit")
    func copyOut() throws {
        let rig = try Rig(ringSize: 4, shape: .mergeable(bufferByteCount: 64))
        rig.driver.refill()
        for (index, chain) in rig.device.takeAll().enumerated() {
            let payload = [UInt8](repeating: UInt8(index + 1), count: index == 3 ? 40 : 12)
            chain.write(netHeaderBytes() + payload)
            rig.device.use(chain, byteCount: 12 + payload.count)
        }
        rig.device.publish()
        #expect(rig.driver.harvest() == 4)
        var target = [UInt8](repeating: 0, count: 30)
        target.withUnsafeMutableBytes {
            rig.driver.copyOut(to: $0.baseAddress!, byteCount: 30)
        }
        // 1 and 2 side by side, 3 over 1 again, 4 larger than the target and left out.
        #expect(target[..<12] == [UInt8](repeating: 3, count: 12)[...])
        #expect(target[12..<24] == [UInt8](repeating: 2, count: 12)[...])
        #expect(target[24...] == [UInt8](repeating: 0, count: 6)[...])
    }
}

// Rounds of refill, harvest and finish over every small ring and every shape of buffers.
import CleaveGuestDriver
import CleaveTestSupport
import CleaveVirtioNet
import Testing

private let ringSizes = [1, 2, 4, 8, 16, 32, 64]

@Suite("Driver rounds")
struct RoundTests {
    private static func shapes(_ ringSize: Int) -> [BufferShape] {
        let all: [BufferShape] = [
            .mergeable(bufferByteCount: 128), .single(packetByteCount: 200),
            .chained(bufferByteCount: 64, packetByteCount: 30),
            .chained(bufferByteCount: 64, packetByteCount: 100),
            .chained(bufferByteCount: 64, packetByteCount: 150),
        ]
        return all.filter { $0.chainLength <= ringSize }
    }

    /// Uses some of `chains`, in any order, each for one packet or, where they merge, for several.
    /// - Returns: the packets, in the order in which they were used.
    private func deliver(
        _ chains: inout [PostedChain], count: Int, to rig: Rig, _ random: inout SeededRandom
    ) -> [[UInt8]] {
        var packets: [[UInt8]] = []
        var left = min(count, chains.count)
        while left > 0 {
            let merged =
                rig.driver.configuration.shape.name == "mergeable"
                ? min(left, random.int(1...3)) : 1
            left -= merged
            var bytes = netHeaderBytes(numBuffers: merged)
            var packet: [UInt8] = []
            for part in 0..<merged {
                let chain = chains.remove(at: random.int(0...chains.count - 1))
                let room = chain.byteCount - bytes.count
                // All but the last buffer of a packet are full.
                let length = part == merged - 1 ? random.int(0...room) : room
                let payload = random.bytes(length)
                chain.write(bytes + payload)
                rig.device.use(chain, byteCount: bytes.count + length)
                packet += payload
                bytes = []
            }
            packets.append(packet)
        }
        rig.device.publish()
        return packets
    }

    @Test("Every packet comes out as it went in", arguments: ringSizes)
    func rounds(_ ringSize: Int) throws {
        for shape in Self.shapes(ringSize) {
            let rig = try Rig(ringSize: ringSize, shape: shape, burst: 8)
            let chainCount = ringSize / shape.chainLength
            var random = SeededRandom(seed: UInt64(ringSize))
            var chains: [PostedChain] = []
            var waiting: [[UInt8]] = []
            var harvested = 0
            var agree = true
            for round in 0..<40 {
                rig.driver.refill()
                chains += rig.device.takeAll()
                agree = agree && chains.allSatisfy { $0.pieces.count == shape.chainLength }
                if round == 0 { #expect(chains.count == chainCount) }
                waiting += deliver(&chains, count: random.int(0...chainCount), to: rig, &random)
                // Harvest a part now and then, the rest later.
                for _ in 0..<random.int(0...3) {
                    let count = rig.driver.harvest()
                    agree = agree && count == min(8, waiting.count)
                    for packet in rig.driver.packets {
                        agree = agree && !packet.isSplit
                        agree = agree && packet.bytes(rig.driver) == waiting.removeFirst()
                    }
                    harvested += count
                    rig.driver.finish()
                }
            }
            #expect(agree, "ring \(ringSize), \(shape)")
            #expect(rig.driver.fault == .none)
            #expect(rig.driver.harvestedCount == UInt64(harvested))
        }
    }

    @Test("Indices go round 2^16")
    func indexWrap() throws {
        let rig = try Rig(ringSize: 4, shape: .mergeable(bufferByteCount: 64))
        var agree = true
        var number: UInt8 = 0
        for _ in 0..<22_000 {
            rig.driver.refill()
            for chain in rig.device.takeAll().reversed() {
                number &+= 1
                chain.write(netHeaderBytes() + [number])
                rig.device.use(chain, byteCount: 13)
            }
            rig.device.publish()
            let first = number &- 4
            agree = agree && rig.driver.harvest() == 4
            for (offset, packet) in rig.driver.packets.enumerated() {
                agree = agree && packet.bytes(rig.driver) == [first &+ UInt8(offset) &+ 1]
            }
            rig.driver.finish()
        }
        #expect(agree)
        #expect(rig.driver.harvestedCount == 88_000)
    }

    @Test("A refill without free chains posts nothing and kicks nobody")
    func idleRefill() throws {
        let rig = try Rig(ringSize: 8, shape: .mergeable(bufferByteCount: 64))
        #expect(rig.driver.refill() == (8, true))
        #expect(rig.driver.refill() == (0, false))
        #expect(rig.driver.harvest() == 0)
        rig.driver.finish()
        #expect(rig.driver.refill() == (0, false))
        #expect(rig.device.availIndex == 8)
    }

    @Test("A buffer used with length 0 is counted and posted again")
    func emptyBuffer() throws {
        let rig = try Rig(ringSize: 2, shape: .mergeable(bufferByteCount: 64))
        rig.driver.refill()
        let chains = rig.device.takeAll()
        rig.device.use(chains[0], byteCount: 0)
        chains[1].write(netHeaderBytes() + [7])
        rig.device.use(chains[1], byteCount: 13)
        rig.device.publish()
        #expect(rig.driver.harvest() == 1)
        #expect(rig.driver.packets[0].bytes(rig.driver) == [7])
        #expect(rig.driver.emptyBufferCount == 1)
        rig.driver.finish()
        #expect(rig.driver.refill().posted == 2)
        #expect(rig.driver.fault == .none)
    }

    @Test("Every report finds headers and payload", arguments: HeaderReport.allCases, [12, 20])
    func split(_ report: HeaderReport, _ netHeader: Int) throws {
        let rig = try Rig(
            ringSize: 1, shape: .mergeable(bufferByteCount: 128), method: .headerQueue(report),
            features: netHeader == 20 ? .hashReport : [])
        var agree = true
        for round in 0..<40 {
            rig.driver.refill()
            // The longest headers that fit, and the shortest.
            let slot = round % 8
            let room = report == .netHeader ? 64 : 64 - netHeader
            let headers = (0..<(round % 2 == 0 ? room : 1)).map { UInt8($0 + round) }
            let payload = (0..<(round * 2)).map { UInt8($0) }
            let chain = rig.device.takeAll()[0]
            let header = netHeaderBytes(hdrLen: headers.count, count: netHeader)
            if report != .netHeader {
                rig.fillSlot(slot, header + headers)
                chain.write(payload)
                rig.device.use(chain, byteCount: payload.count, slot: slot)
            } else {
                rig.fillSlot(slot, headers)
                let tail = splitReportBytes(slot: UInt32(slot), headerLength: headers.count)
                chain.write(header + tail + payload)
                rig.device.use(chain, byteCount: netHeader + 8 + payload.count)
            }
            rig.device.publish()
            agree = agree && rig.driver.harvest() == 1
            agree = agree && rig.driver.packets.first?.isSplit == true
            agree = agree && rig.driver.packets.first?.bytes(rig.driver) == headers + payload
            rig.driver.finish()
            agree = agree && rig.driver.fault == .none
            guard agree else { break }
        }
        #expect(agree)
        #expect(rig.slots!.currentTail == 8 + 40)
    }
}

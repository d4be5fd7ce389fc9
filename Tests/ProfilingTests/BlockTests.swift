// The shared block: what a queue writes, how an observer reads it, and what the reader refuses.
import CleaveHost
import CleaveProfiling
import CleaveTestSupport
import CleaveVirtioNet
import Testing

/// All tests that switch profiles: one after the other, since attaching finds every queue.
@Suite("Profiles of queues", .serialized) struct QueueProfiles {}

extension QueueProfiles {
    @Suite("Blocks")
    struct BlockTests {
        /// A queue that carried packets while polls were measured.
        private func carry(
            _ method: RxMethod, period: UInt32, bursts: Int, size: Int = 64
        ) throws -> EvilRig {
            let rig = try EvilRig(
                size: size, method: method, slots: method.needsHeaderQueue ? (128, 256) : nil,
                burst: 16)
            let profile = try #require(rig.queue.profile)
            profile.period = period
            for burst in 0..<bursts {
                for index in 0..<16 { rig.post((burst * 16 + index) % 32) }
                let packets = (0..<16).map {
                    TestFrames.tcp4([UInt8](repeating: UInt8($0), count: 90))
                }
                #expect(rig.port.enqueue(packets, to: rig.queue).result.delivered == 16)
                if let headers = rig.headers { headers.setTail(headers.tail &+ 16) }
            }
            return rig
        }

        @Test("Off, nothing is measured", arguments: [RxMethod.whole, .headerQueue(.usedLength)])
        func off(_ method: RxMethod) throws {
            let rig = try carry(method, period: 0, bursts: 100)
            defer { withExtendedLifetime(rig) {} }
            let snapshot = ProfileSnapshot(try #require(rig.queue.profile).block)
            #expect(snapshot.bursts == 0 && snapshot.count(.wholeTurns) == 0)
            #expect(snapshot.cycles.allSatisfy { $0 == 0 })
        }

        @Test(
            "On, polls are measured by stages and as a whole, and what they carried adds up",
            arguments: [RxMethod.whole, .headerQueue(.usedLength), .headerQueue(.netHeader)])
        func on(_ method: RxMethod) throws {
            let rig = try carry(method, period: 1, bursts: 320)
            defer { withExtendedLifetime(rig) {} }
            let profile = try #require(rig.queue.profile)
            let snapshot = ProfileSnapshot(profile.block)
            // Of each row of 32 polls 8 warm up; of the others every second is measured as a whole.
            #expect(
                snapshot.bursts + snapshot.count(.wholeTurns) + snapshot.count(.interrupted) == 240)
            #expect(snapshot.bursts > 60 && snapshot.count(.wholeTurns) > 60)
            #expect(snapshot.packets == snapshot.bursts * 16)
            #expect(snapshot.count(.wholePackets) == snapshot.count(.wholeTurns) * 16)
            #expect(snapshot.count(.references) == snapshot.packets)
            #expect(snapshot.count(.buffers) == snapshot.packets)
            let frame = UInt64(TestFrames.tcp4([UInt8](repeating: 0, count: 90)).count)
            #expect(snapshot.count(.bytes) == snapshot.packets * frame)
            let splits = method != .whole
            #expect(snapshot.count(.splitPackets) == (splits ? snapshot.packets : 0))
            #expect(snapshot.count(.headerBytes) == (splits ? snapshot.packets * 54 : 0))
            #expect(snapshot.label.hasSuffix(", split ring of 64, burst 16"))
            // Every histogram has a value for each poll that has the stage.
            for stage in RxStage.allCases where !RxStage.isPlacing(stage.rawValue) {
                #expect(snapshot.perPacket[stage.rawValue].total == snapshot.bursts, "\(stage)")
                #expect(snapshot.perBurst[stage.rawValue].total == snapshot.bursts, "\(stage)")
            }
            let apart = snapshot.perPacket[RxStage.placePayload.rawValue].total
            #expect(apart + snapshot.perPacket[ProfileBlock.pollRow].total == snapshot.bursts)
            #expect(UInt64(profile.block.readTraces().count) == apart)
            let table = try #require(StageTable(passes: [snapshot]))
            let sum = table.stages.reduce(0) { $0 + $1.cyclesPerPacket.median }
            #expect(abs(sum - table.sum.cyclesPerPacket.median) < 1e-6 * sum)
            // Nothing pulls here, and nothing else copies.
            #expect(snapshot.cycles[RxStage.pull.rawValue] == 0)
            #expect(snapshot.cycles[RxStage.placePayload.rawValue] > 0)
        }

        @Test("One poll in a period is measured, on average")
        func period() throws {
            let rig = try carry(.whole, period: 8, bursts: 32 * 8 * 12)
            defer { withExtendedLifetime(rig) {} }
            let snapshot = ProfileSnapshot(try #require(rig.queue.profile).block)
            // Rows come at random: 12 are expected, each with 24 polls that count.
            let rows = (snapshot.bursts + snapshot.count(.wholeTurns)) / 24
            #expect((4...30).contains(rows), "\(rows)")
        }

        @Test("Traces are the last ones, in order, with every stage")
        func traces() throws {
            let rig = try carry(.headerQueue(.usedLength), period: 1, bursts: 2000)
            defer { withExtendedLifetime(rig) {} }
            let traces = try #require(rig.queue.profile).block.readTraces()
            #expect(traces.count >= ProfileBlock.traceCount - 1)
            for (trace, next) in zip(traces, traces.dropFirst()) {
                #expect(next.number == trace.number + 1)
                #expect(next.start > trace.start)
                #expect(trace.packets == 16 && trace.cycles.count == RxStage.count)
            }
        }

        @Test("A queue's block is accepted; each spoilt word of its header is not")
        func corrupt() throws {
            let rig = try EvilRig()
            defer { withExtendedLifetime(rig) {} }
            let block = try #require(rig.queue.profile).block
            #expect(block.problem(byteCount: ProfileBlock.byteCount) == nil)
            #expect(block.problem(byteCount: ProfileBlock.byteCount - 1) != nil)
            let copy = UnsafeMutableRawPointer.allocate(
                byteCount: ProfileBlock.byteCount, alignment: 128)
            defer { copy.deallocate() }
            let expected = [
                0: "no profile of Cleave", 8: "layout version", 12: "contradicts",
                16: "contradicts",
                24: "contradicts", 28: "contradicts",
            ]
            for (offset, words) in expected {
                for change in [1, 0xff] as [UInt8] {
                    copy.copyMemory(from: block.base, byteCount: ProfileBlock.byteCount)
                    let byte = copy.load(fromByteOffset: offset, as: UInt8.self)
                    copy.storeBytes(of: byte ^ change, toByteOffset: offset, as: UInt8.self)
                    let problem = ProfileBlock(copy).problem(byteCount: ProfileBlock.byteCount)
                    #expect(problem?.contains(words) == true, "\(offset): \(problem ?? "accepted")")
                }
            }
        }

        @Test("Whatever stands behind the header, reading stays within the block")
        func garbage() throws {
            var random = SeededRandom(seed: 11)
            let rig = try EvilRig()
            defer { withExtendedLifetime(rig) {} }
            let block = try #require(rig.queue.profile).block
            for offset in 48..<ProfileBlock.byteCount {
                block.base.storeBytes(
                    of: UInt8.random(in: 0...255, using: &random), toByteOffset: offset,
                    as: UInt8.self)
            }
            #expect(block.problem(byteCount: ProfileBlock.byteCount) == nil)
            #expect(block.readTraces().count <= ProfileBlock.traceCount)
            #expect(block.label.utf8.allSatisfy { (32..<127).contains($0) })
            let snapshot = ProfileSnapshot(block)
            _ = StageTable(passes: [snapshot, snapshot - snapshot, snapshot + snapshot])
            var stacks = FoldedStacks()
            stacks.add(snapshot, under: ["RQ 0"], period: 3)
            #expect(stacks.stacks.count <= RxStage.count + RxWait.count)
        }
    }
}

// Profiles: what their text means, and that every frame they make is a valid one.
import Testing

@testable import CleaveTraffic

@Suite struct TrafficProfileTests {
    func problem(_ text: String) -> String? {
        do throws(TrafficProfileError) {
            _ = try TrafficProfile.parse(text)
            return nil
        } catch {
            #expect(error.description.hasSuffix("understood: " + TrafficProfile.syntax))
            #expect(!error.description.contains("\n"))
            return error.problem
        }
    }

    @Test func namesAreCanonical() throws {
        let spellings = [
            "64": "64", "064": "64", "64/tcp4": "64", "64/UDP4": "64/udp4", "IMIX": "imix",
            "imix/tcp4": "imix", "mixed": "mixed", "imix/mixed": "mixed",
            "1500/mixed": "1500/mixed", "1500/tcp6+ts+vlan": "1500/tcp6+vlan+ts",
            "9000/udp6+qinq": "9000/udp6+qinq", "65535": "65535", "60": "60",
        ]
        for (text, name) in spellings {
            let profile = try TrafficProfile.parse(text)
            #expect(profile.name == name)
            #expect(try TrafficProfile.parse(name) == profile)
        }
        #expect(try TrafficProfile.parse("64").frameByteCount == 64)
        #expect(try TrafficProfile.parse("imix").frameByteCount == nil)
        #expect(HeaderKind.all.count == 18)
        #expect(Set(HeaderKind.all).count == 18)
    }

    @Test func errorsSayWhatIsWrong() {
        #expect(problem("") == "\"\" is not a frame size")
        #expect(problem("big") == "\"big\" is not a frame size")
        #expect(problem("-64") == "\"-64\" is not a frame size")
        #expect(problem("+64") == "\"+64\" is not a frame size")
        #expect(problem("99999999999999999999")?.hasSuffix("is not a frame size") == true)
        #expect(problem("59") == "frame size 59 is not within 60...65535")
        #expect(problem("65536") == "frame size 65536 is not within 60...65535")
        #expect(problem("64/tcp4/udp4") == "more than one \"/\"")
        for kind in [
            "", "tcp5", "tcp", "+vlan", "tcp4+", "udp4+ts", "tcp4+vlan+qinq", "tcp4+ts+ts",
            "tcp4 ", "icmp",
        ] {
            #expect(problem("1500/" + kind) == "\"\(kind)\" is not a header kind")
        }
        #expect(
            problem("64/tcp6") == "a frame of 64 bytes is too small for tcp6, which needs 74")
        #expect(
            problem("imix/tcp6+qinq+ts")
                == "a frame of 64 bytes is too small for tcp6+qinq+ts, which needs 94")
        #expect(problem("62/udp6") == nil)
        #expect(problem("61/udp6") != nil)
    }

    @Test(arguments: HeaderKind.all, [0, 1, 2, 7, 1000, 1500, 9000, 65_535])
    func framesAreValid(_ kind: HeaderKind, _ wanted: Int) throws {
        // Small numbers: bytes of payload after the smallest headers.
        let size = wanted < 60 ? max(60, kind.byteCount + wanted) : wanted
        let profile = try TrafficProfile.parse("\(size)/\(kind)")
        for frame in profile.packets(count: 4, flows: 3, seed: 11) {
            #expect(frame.count == size)
            let facts = try #require(FrameFacts(frame))
            #expect(facts.faults == [])
            #expect(facts.version == kind.network.rawValue)
            #expect(facts.transport == (kind.transport == .tcp ? 6 : 17))
            #expect(facts.tags == [[], [0x8100], [0x88a8, 0x8100]][kind.tags.rawValue])
            #expect(facts.headerByteCount == kind.byteCount)
            // No padding after the datagram: the frame is all headers and payload.
            #expect(facts.payload.count == size - kind.byteCount)
            #expect(facts.options.prefix(4) == (kind.hasTimestamp ? [1, 1, 8, 10] : []))
        }
    }

    @Test func imixKeepsItsProportions() throws {
        let packets = try TrafficProfile.parse("imix").packets(count: 1200, flows: 12, seed: 3)
        let sizes = packets.map(\.count)
        #expect(sizes.count { $0 == 64 } == 700)
        #expect(sizes.count { $0 == 594 } == 400)
        #expect(sizes.count { $0 == 1518 } == 100)
        // Shuffled: no flow is tied to one size.
        for flow in 0..<12 {
            #expect(Set(stride(from: flow, to: 1200, by: 12).map { sizes[$0] }).count == 3)
        }
    }

    @Test func mixedHoldsEveryKindThatFits() throws {
        func shapes(_ text: String) throws -> Set<String> {
            let packets = try TrafficProfile.parse(text).packets(count: 400, flows: 5, seed: 1)
            return Set(
                try packets.map { frame in
                    let facts = try #require(FrameFacts(frame))
                    #expect(facts.faults == [])
                    let shape = [facts.version, facts.transport, facts.options.count]
                    return "\(shape) \(facts.tags)"
                })
        }
        #expect(try shapes("1500/mixed").count == 18)
        #expect(try shapes("mixed").count == 18)
        // tcp4 and udp4 with up to one tag, udp4 with two.
        #expect(try shapes("60/mixed").count == 5)
    }

    @Test func packetsDependOnArgumentsAlone() throws {
        let profile = try TrafficProfile.parse("mixed")
        let packets = profile.packets(count: 100, flows: 7, seed: 5)
        #expect(packets == profile.packets(count: 100, flows: 7, seed: 5))
        #expect(packets != profile.packets(count: 100, flows: 7, seed: 6))
        #expect(profile.packets(count: 0, flows: 1, seed: 1).isEmpty)
        #expect(profile.packets(count: -1, flows: 0, seed: 1).isEmpty)
        #expect(profile.packets(count: 3, flows: 0, seed: 1).count == 3)
    }

    @Test func flowsDifferAndPayloadsDiffer() throws {
        let packets = try TrafficProfile.parse("200").packets(count: 512, flows: 64, seed: 9)
        let facts = try packets.map { try #require(FrameFacts($0)) }
        #expect(Set(facts.map(\.sourcePort)).count == 64)
        #expect(Set(facts.map(\.payload)).count == 512)
        let values = Set(facts.flatMap(\.payload))
        #expect(values.count == 256)
        // TCP sequence numbers run on within a flow.
        #expect(packets[64][38..<42] == [0, 0, 0, 146])
    }

    @Test func moreFlowsThanPorts() throws {
        let packets = try TrafficProfile.parse("60/udp4").packets(
            count: 70_000, flows: 70_000, seed: 1)
        #expect(Set(packets.map { Array($0[26..<36]) }).count == 70_000)
        #expect(FrameFacts(packets[69_999])?.faults == [])
    }
}

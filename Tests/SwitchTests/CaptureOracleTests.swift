import CleaveHost
import CleaveSwitch
import CleaveTestSupport
import Foundation
import Testing

private enum Wireshark {
    static let isThere = ["/usr/bin", "/usr/local/bin"].contains {
        FileManager.default.isExecutableFile(atPath: "\($0)/tshark")
    }
    static let fields = [
        "frame.interface_name", "frame.interface_queue", "frame.packet_flags_direction",
        "frame.len", "frame.cap_len", "frame.time_epoch",
    ].flatMap { ["-e", $0] }
}

@Suite("Captures, read by Wireshark", .enabled(if: Wireshark.isThere, "there is no tshark"))
struct CaptureOracleTests {
    /// What tshark is to say of each packet.
    private func lines(_ stream: CapturedStream) -> [String] {
        stream.packets.map { packet in
            let (seconds, rest) = packet.time.quotientAndRemainder(dividingBy: 1_000_000_000)
            return [
                stream.names[packet.interface], "\(packet.queue ?? 9999)",
                packet.isInbound ? "0x00000001" : "0x00000002", "\(packet.byteCount)",
                "\(packet.bytes.count)", "\(seconds).\("\(rest + 1_000_000_000)".dropFirst())",
            ].joined(separator: "\t")
        }
    }

    private func frames(_ count: Int) -> [[UInt8]] {
        (0..<count).map { number in
            let bytes = TestFrames.udp4(TestFrames.payload(number * 7 % 900, seed: number))
            return Frame.mac(2) + Frame.mac(1) + bytes[12...]
        }
    }

    @Test("A file: port, queue, direction, lengths and time of each packet, and the drops")
    func file() throws {
        let ports = [ScriptedPort("a", queues: 2), ScriptedPort("b", queues: 2)]
        let joined = try ControlledSwitch(ports, wires: [("a", "b")], threads: 2)
        let reader = try CaptureReader()
        try reader.begin()
        var request = CaptureRequest(port: nil)
        request.snapLength = 300
        #expect(joined.capture(request, reader) == nil)
        joined.give([frames(60), frames(50)], to: ports[0])
        joined.give([frames(40), frames(30)], to: ports[1])
        joined.await(ports[0], completed: 110)
        joined.await(ports[1], completed: 70)
        reader.stop()
        let stream = reader.finish()
        joined.end()
        let path = NSTemporaryDirectory() + "cleave-\(UUID().uuidString).pcapng"
        defer { try? FileManager.default.removeItem(atPath: path) }
        try Data(reader.all).write(to: URL(fileURLWithPath: path))
        let output = try ReleaseProgram.output(
            "tshark", ["-n", "-r", path, "-T", "fields"] + Wireshark.fields)
        #expect(stream.packets.count == 360)
        #expect(output.split(separator: "\n").map(String.init) == lines(stream))
        // The file of the statistics is read as well, without a complaint.
        let facts = try ReleaseProgram.output("capinfos", ["-M", path])
        #expect(facts.contains("Number of packets:   360"))
        #expect(facts.contains("Number of stat entries = 1"))
    }

    @Test("Live: tshark says each packet while the capture goes on")
    func live() throws {
        let ports = [ScriptedPort("a"), ScriptedPort("b")]
        let joined = try ControlledSwitch(ports, wires: [("a", "b")])
        let reader = try CaptureReader()
        #expect(joined.capture(CaptureRequest(port: "a"), reader) == nil)
        let tshark = Process()
        tshark.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        tshark.arguments =
            ["tshark", "-n", "-l", "-i", "-", "-T", "fields"] + Wireshark.fields
        let (output, input) = (Pipe(), Pipe())
        tshark.standardInput = input
        tshark.standardOutput = output
        tshark.standardError = FileHandle.nullDevice
        try tshark.run()
        // From the socket into a pipe, as the client does.
        let (from, to) = (reader.near, input.fileHandleForWriting.fileDescriptor)
        signal(SIGPIPE, SIG_IGN)
        let pump = try PinnedThread(name: "pump", cpu: nil) {
            var buffer = [UInt8](repeating: 0, count: 4096)
            while true {
                let count = read(from, &buffer, buffer.count)
                if count <= 0 || write(to, buffer, count) != count { break }
            }
            close(to)
        }
        var seen = Data()
        func lineCount() -> Int { seen.count { $0 == UInt8(ascii: "\n") } }
        for round in 1...3 {
            joined.give([frames(5)], to: ports[0])
            // The capture goes on: tshark is told nothing of an end.
            while lineCount() < 5 * round {
                let more = output.fileHandleForReading.availableData
                try #require(!more.isEmpty, "tshark has ended")
                seen += more
            }
        }
        reader.stop()
        pump.join()
        seen += try output.fileHandleForReading.readToEnd() ?? Data()
        tshark.waitUntilExit()
        joined.end()
        let told = String(decoding: seen, as: UTF8.self).split(separator: "\n")
        #expect(told.count == 15 && tshark.terminationStatus == 0)
        #expect(told.allSatisfy { $0.hasPrefix("a\t0\t0x00000002\t") })
    }
}

// What the two programs of a takeover say to each other, and what is not taken for it.

import CleaveControl
import CleaveHost
import Glibc
import Testing

@testable import CleaveSwitch

@Suite("The conversation of a takeover")
struct HandoverChannelTests {
    /// Both ends; the other one also as a descriptor, to send anything.
    private func ends() throws -> (HandoverChannel, raw: Int32) {
        var ends: [Int32] = [-1, -1]
        try #require(socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0, &ends) == 0)
        return (HandoverChannel(ends[0]), ends[1])
    }

    private func refusal(_ channel: HandoverChannel) -> String {
        do throws(ControlFailure) {
            return try channel.receive(milliseconds: 5000).map { "\($0)" } ?? "nothing"
        } catch { return error.description }
    }

    @Test(
        "A line that is none is named as what it is",
        arguments: [
            ("x\n", "cannot be read"), ("\n", "cannot be read"), ("{}\n", "cannot be read"),
            (#"{"new":{}}"# + "\n", "cannot be read"),
            (#"{"hello":{"format":1}}"# + "\n", "cannot be read"),
            (#"{"offer":{"state":{"ports":[{"name":"a"}]},"descriptorCount":1}}"# + "\n", "state"),
            (
                #"{"position":{"_0":{"stoppedAt":-1,"ports":[],"addresses":[]}}}"# + "\n",
                "cannot be read"
            ),
            (#"{"failed":{"reason":"no memory"}}"# + "\n", "no memory"),
            (#"{"prepared":{}}"#, "gone"), ("", "gone"),
        ])
    func lines(_ line: String, _ words: String) throws {
        let (channel, raw) = try ends()
        let bytes = Array(line.utf8)
        #expect(write(raw, bytes, bytes.count) == bytes.count)
        close(raw)
        let said = refusal(channel)
        #expect(said.contains(words), "\(said)")
    }

    @Test("A line without an end is given up at 16 MiB")
    func endless() throws {
        let (channel, raw) = try ends()
        let writer = try PinnedThread(name: "writer", cpu: nil) {
            let bytes = [UInt8](repeating: UInt8(ascii: " "), count: 1 << 20)
            // Until nobody reads any more.
            for _ in 0..<64 where send(raw, bytes, bytes.count, Int32(MSG_NOSIGNAL)) < 0 { break }
            close(raw)
        }
        #expect(refusal(channel) == "a line has no end")
        channel.closeInput()
        writer.join()
    }

    @Test("More descriptors than go with one call arrive before their message")
    func descriptors() throws {
        var pair: [Int32] = [-1, -1]
        try #require(socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0, &pair) == 0)
        let (old, new) = (HandoverChannel(pair[0]), HandoverChannel(pair[1]))
        let file = try EventDescriptor()
        try old.send(
            .offer(state: SwitchHandover(ports: []), descriptorCount: 300),
            [Int32](repeating: file.fileDescriptor, count: 300), milliseconds: 5000)
        guard case .offer(_, let count)? = try new.receive(milliseconds: 5000) else {
            Issue.record("no offer")
            return
        }
        #expect(count == 300 && new.takeDescriptors().fileDescriptors.count == 300)
        #expect(new.takeDescriptors().fileDescriptors.isEmpty)
    }

    @Test("A message of each kind arrives as it was sent")
    func messages() throws {
        var pair: [Int32] = [-1, -1]
        try #require(socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0, &pair) == 0)
        let (old, new) = (HandoverChannel(pair[0]), HandoverChannel(pair[1]))
        let messages: [HandoverMessage] = [
            .hello(format: 1, version: "x", ports: ["a", "b\n"]), .prepared,
            .serves(nanoseconds: .max, queues: 7), .main(address: "@x", watchdogMicroseconds: nil),
            .main(address: "/run/notify", watchdogMicroseconds: 10_000_000),
        ]
        for message in messages {
            try old.send(message, milliseconds: 1000)
            #expect(try new.receive(milliseconds: 1000) == message)
        }
        #expect(try new.receive(milliseconds: 0) == nil)
        #expect(try old.checkPeer() == getpid())
        // Once nothing more is taken, whoever says something learns it.
        new.closeInput()
        #expect(throws: ControlFailure.self) { try old.send(.prepared, milliseconds: 1000) }
    }
}

// Somebody between the two programs says something else than the old one did: the new one names
// what is wrong and ends, and the old one goes on.

import CCleaveHost
import CleaveControl
import CleaveHost
import CleaveTestSupport
import Foundation
import Glibc
import Testing

@testable import CleavePorts
@testable import CleaveSwitch
@testable import CleaveVhostUser

@Suite("A takeover that somebody meddles with")
struct MeddledTakeoverTests {
    /// What changes on the way from the old program to the new one.
    struct Change: CustomTestStringConvertible, Sendable {
        var words: String
        var offer: @Sendable (inout SwitchHandover, inout Int) -> Void = { _, _ in }
        var position: @Sendable (inout SwitchPosition) -> Void = { _ in }
        var testDescription: String { words }
    }

    static let changes = [
        Change(
            words: "port b: queues is 7 there, and 1 here",
            offer: { state, _ in
                if case .vhostUser(var port) = state.ports[1].state {
                    port.queuePairs = 7
                    state.ports[1].state = .vhostUser(port)
                }
            }),
        Change(
            words: "port a: regions[0].holders: 0",
            offer: { state, _ in
                if case .vhostUser(var port) = state.ports[0].state {
                    port.session?.regions[0].holders = 0
                    state.ports[0].state = .vhostUser(port)
                }
            }),
        Change(
            words: "port c: it was not asked for",
            offer: { state, _ in
                state.ports[0].name = "c"
            }),
        Change(words: " descriptors came, and ", offer: { _, count in count += 1 }),
        Change(words: "belongs to nothing", offer: { state, _ in state.ports.removeLast() }),
        Change(words: "it was told too late", position: { $0.stoppedAt = 0 }),
        Change(words: "it was told too late", position: { $0.stoppedAt += 1 << 60 }),
        Change(words: "ports: 1, and 2 were taken", position: { $0.ports.removeLast() }),
        Change(
            words: "addresses[0]: no address of a port",
            position: {
                $0.addresses = [.init(address: 0x52, port: 9)]
            }),
        Change(
            words: "port b: the position is one of another kind",
            position: {
                $0.ports[1] = .kernel
            }),
        Change(
            words: "port a: rings: ",
            position: { position in
                if case .vhostUser(var port) = position.ports[0] {
                    port.rings.removeLast()
                    position.ports[0] = .vhostUser(port)
                }
            }),
    ]

    /// Stands between the two: a control socket for the new one, a client of the old one.
    private struct Meddler {
        let listener: Int32

        init(_ path: String) throws {
            listener = cleave_unix_listen(path, -1)
            try #require(listener >= 0)
        }

        /// Passes on one conversation, changed.
        /// - Returns: what the new program says at last.
        func pass(_ control: String, _ change: Change) throws -> String {
            defer { close(listener) }
            var client: Int32 = -1
            #expect(
                VhostProcess.waitUntil {
                    client = cleave_unix_accept(listener)
                    return client >= 0
                })
            defer { close(client) }
            let greeting = ControlGreeting(program: "cleave-vhost", version: "x", pid: 4711)
            try say(String(decoding: JSONEncoder().encode(greeting), as: UTF8.self), client)
            var received = cleave_received()
            var numbers = [Int32](repeating: -1, count: Int(CLEAVE_MAXIMUM_DESCRIPTORS))
            var bytes = [UInt8](repeating: 0, count: 4096)
            _ = cleave_socket_wait(client, 0, 20_000)
            _ = cleave_socket_receive(client, &bytes, bytes.count, &numbers, &received)
            try #require(received.descriptor_count == 1)
            let new = HandoverChannel(numbers[0])
            try say(#"{"id":1,"result":{}}"#, client)
            guard case .hello(_, _, let names)? = try new.receive(milliseconds: 20_000) else {
                return "no hello"
            }
            let old = try Pretender(control)
            try old.hello(names)
            do {
                guard
                    case .offer(var state, var count)? = try old.channel.receive(
                        milliseconds: 20_000)
                else { return "no offer" }
                let descriptors = old.channel.takeDescriptors()
                change.offer(&state, &count)
                try new.send(
                    .offer(state: state, descriptorCount: count), descriptors.fileDescriptors,
                    milliseconds: 5000)
                guard case .prepared? = try new.receive(milliseconds: 5000) else {
                    return "not prepared"
                }
                var position = try old.position()
                change.position(&position)
                try new.send(.position(position), milliseconds: 1000)
                _ = try new.receive(milliseconds: 900)
                return "it serves"
            } catch let failure as ControlFailure {
                try old.channel.send(
                    .failed(reason: failure.description), milliseconds: 1000)
                return failure.description
            }
        }

        private func say(_ line: String, _ client: Int32) throws {
            let bytes = Array((line + "\n").utf8)
            try #require(write(client, bytes, bytes.count) == bytes.count)
        }
    }

    @Test("The new one names what is wrong, and guests stay with the old one")
    func changed() throws {
        let program = try VhostProcess()
        try program.start(program.ports("a", "b") + ["--control", program.path("control")])
        let guests = [try LocalGuest(.split), try LocalGuest(.packed)]
        try guests[0].connect(program.path("a"))
        try guests[1].connect(program.path("b"))
        var flow = NumberedFlow()
        func exchange() {
            flow.noteSent(guests[0].sendAll(flow.frames(20, limit: 20)))
            flow.add(guests[1].receive(atLeast: 20))
            #expect(flow.isComplete)
        }
        exchange()
        for change in Self.changes {
            let told = program.errors.count
            let new = try VhostProcess()
            let meddler = try Meddler(new.path("between"))
            try new.launch(program.ports("a", "b") + ["--takeover", new.path("between")])
            let said = try meddler.pass(program.path("control"), change)
            #expect(said.contains(change.words), "\(change.words): \(said)")
            #expect(new.awaitEnd() == 1)
            #expect(
                new.errors.contains(said + "; the other program goes on"),
                "\(change.words): \(new.errors)")
            #expect(
                VhostProcess.waitUntil {
                    program.errors.dropFirst(told).contains("this one goes on")
                })
            exchange()
        }
        #expect(program.end() == 0)
    }
}

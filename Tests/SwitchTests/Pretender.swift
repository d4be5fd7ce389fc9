import CleaveControl
import CleaveHost
import CleaveSwitch
import Glibc
import Testing

/// A new program, as far as the old one sees it.
final class Pretender {
    let channel: HandoverChannel

    init(_ control: String, format: Int = HandoverMessage.format) throws {
        let client = try ControlClient(path: control)
        var ends: [Int32] = [-1, -1]
        try #require(socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0, &ends) == 0)
        channel = HandoverChannel(ends[0])
        defer { close(ends[1]) }
        _ = try client.ask(
            "takeover", ["format": .integer(Int64(format))], descriptors: [ends[1]])
    }

    func hello(_ ports: [String]) throws {
        try channel.send(
            .hello(format: HandoverMessage.format, version: "test", ports: ports),
            milliseconds: 1000)
    }

    func offer() throws -> SwitchHandover {
        guard case .offer(let state, let count)? = try channel.receive(milliseconds: 20_000)
        else { throw HostError("offer", code: 0, "did not come") }
        #expect(channel.takeDescriptors().fileDescriptors.count == count)
        return state
    }

    func position() throws -> SwitchPosition {
        try channel.send(.prepared, milliseconds: 1000)
        guard case .position(let position)? = try channel.receive(milliseconds: 20_000)
        else { throw HostError("position", code: 0, "did not come") }
        return position
    }
}

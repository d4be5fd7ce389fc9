// The program that takes over from another one, while packets flow.

import CCleaveHost
import CleaveControl
import CleaveHost
import CleavePorts
import CleaveProgramSupport
import CleaveSwitch
import CleaveVhostUser
import Glibc

/// The ports of a program that runs, on their way to this one.
final class Takeover {
    private let path: String
    private let channel: HandoverChannel
    private let process: Int32
    private let version: String

    // How long the other program may take, in milliseconds: to say what it has, and to stop.
    private static let offerMilliseconds: Int32 = 10_000
    private static let positionMilliseconds: Int32 = 5000
    /// Nanoseconds after the stop in which queues may be made; the other program waits for twice
    /// as long.
    private static let patience: UInt64 = 500_000_000
    /// How long its end may take: it gives what waits in its other ports up to 200 ms.
    private static let endMilliseconds: Int32 = 10_000

    /// Asks the program whose control socket is at `path`. Nothing of it changes by that.
    init(path: String) throws(Failure) {
        self.path = path
        do throws(ControlFailure) {
            let client = try ControlClient(path: path)
            try HandoverChannel.checkPeer(of: client.fileDescriptor)
            (process, version) = (client.greeting.pid, client.greeting.version)
            var ends: [Int32] = [-1, -1]
            guard socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0, &ends) == 0 else {
                throw ControlFailure("socketpair: \(HostError.words(of: errno))")
            }
            channel = HandoverChannel(ends[0])
            defer { close(ends[1]) }
            _ = fcntl(ends[0], F_SETFD, FD_CLOEXEC)
            _ = fcntl(ends[1], F_SETFD, FD_CLOEXEC)
            _ = try client.ask(
                "takeover", ["format": .integer(Int64(HandoverMessage.format))],
                descriptors: [ends[1]])
        } catch { throw .run("--takeover \(path): \(error)") }
    }

    /// What cannot begin anew beside the other program is refused before that notices anything.
    static func check(_ ports: [any Port]) throws(Failure) {
        for port in ports {
            if let file = port as? PcapPort, let output = file.configuration.output {
                throw .usage(
                    "port \(port.name): --takeover: the capture file \(output) would be emptied "
                        + "while the other program writes it; a port with out= cannot begin anew "
                        + "beside another program")
            }
        }
    }

    /// Gives the ports of a switch, which is not open yet, what the other program has of them. From
    /// now on until the switch serves, front-ends of that one wait.
    func prepare(_ joined: Switch, _ ports: [any Port]) throws(ControlFailure) {
        let wanted = ports.compactMap { ($0 as? any HandoverPort)?.name }
        try channel.send(
            .hello(
                format: HandoverMessage.format, version: VhostProgram.version, ports: wanted),
            milliseconds: Self.offerMilliseconds)
        guard
            case .offer(let state, let count)? = try channel.receive(
                milliseconds: Self.offerMilliseconds)
        else { throw ControlFailure("it does not say what it has") }
        let descriptors = channel.takeDescriptors()
        guard descriptors.fileDescriptors.count == count else {
            throw ControlFailure(
                "\(descriptors.fileDescriptors.count) descriptors came, and \(count) were sent")
        }
        do throws(SetupError) { try joined.take(state, descriptors) } catch {
            throw ControlFailure("\(error)")
        }
    }

    /// Everything is open and held: has the other program stop, and goes on where it stood.
    /// - Returns: what was taken over, for people.
    func switchOver(_ joined: Switch) throws(ControlFailure) -> String {
        try channel.send(.prepared, milliseconds: Self.positionMilliseconds)
        guard
            case .position(let position)? = try channel.receive(
                milliseconds: Self.positionMilliseconds)
        else { throw ControlFailure("it does not stop") }
        // The old one may be about to go on: its guests' memory is not to be touched then.
        guard SystemClock.monotonic &- position.stoppedAt < Self.patience else {
            throw ControlFailure("it was told too late where traffic stopped")
        }
        do throws(SetupError) { try joined.start(at: position) } catch {
            throw ControlFailure("\(error)")
        }
        let queues = joined.takenQueueCount
        let nanoseconds = SystemClock.monotonic &- position.stoppedAt
        // Said, and so done: nothing may fail between the two.
        try channel.send(
            .serves(nanoseconds: nanoseconds, queues: queues), milliseconds: 1000)
        joined.release()
        let pause = SystemClock.monotonic &- position.stoppedAt
        return "took over \(position.ports.count) ports with \(queues) queues from cleave-vhost "
            + "\(version), process \(process); traffic waited for "
            + HandoverText.milliseconds(pause)
    }

    /// This program cannot take over. Everything that it has begun is closed: the other one goes
    /// on.
    func fail(_ reason: String) -> Failure {
        try? channel.send(.failed(reason: reason), milliseconds: 1000)
        return .run("--takeover \(path): \(reason); the other program goes on")
    }

    /// Waits until the other program has let go of what it had beside its ports. Its service
    /// manager may have become this one's before.
    func awaitEnd(_ joined: Switch, _ log: OperatorLog, _ signs: SignsOfLife) {
        let hasEnded = channel.awaitEnd(milliseconds: Self.endMilliseconds) { message in
            if case .main(let address, let microseconds) = message {
                signs.join(address, watchdogMicroseconds: microseconds)
            }
        } waiting: {
            signs.give(joined)
        }
        if !hasEnded {
            log.say(
                LogEntry(
                    "process \(process), whose ports these were, does not end", level: .warning))
        }
        joined.keep()
    }
}

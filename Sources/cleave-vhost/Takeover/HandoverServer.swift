// The program that has the ports, while another one takes them over.
//
//   control thread of the switch     what changes ports; traffic stops and goes on there
//   a thread of its own              what waits for the other program while packets flow

import CleaveControl
import CleaveHost
import CleavePorts
import CleaveSwitch
import CleaveVhostUser
import Glibc

/// Gives the switch's ports to a program that asks for them.
final class HandoverServer: @unchecked Sendable {
    // SAFETY: what changes is guarded by `lock`.

    private let log: OperatorLog
    /// nil: there is no service manager. The control thread's.
    private let signs: SignsOfLife?
    private let lock = Lock()
    private var thread: PinnedThread?
    private var isUnderWay = false
    private var hasEnded = false
    /// Open until this program has let go of everything: by its end the other one knows.
    private var last: HandoverChannel?

    // How long the other program may take, in milliseconds: for what it says first, to prepare
    // while packets flow and front-ends wait, and to begin while all traffic waits.
    private static let helloMilliseconds: Int32 = 2000
    private static let prepareMilliseconds: Int32 = 5000
    private static let beginMilliseconds: Int32 = 1000
    /// How long a program that was too late is waited for.
    private static let endMilliseconds: Int32 = 10_000
    /// How long the service manager may take to hear who is the main process now: it would end the
    /// guests' new program with the old one.
    private static let managerMilliseconds: UInt64 = 5000

    init(_ log: OperatorLog, _ signs: SignsOfLife? = nil) {
        self.log = log
        self.signs = signs
    }

    /// Another program has the ports: this one is to end, and to say nothing to anybody.
    var isHandedOver: Bool { lock.withLock { hasEnded } }

    /// The command of the control socket.
    var command: ControlCommand {
        ControlCommand(
            "takeover",
            help: "Gives the ports to another program of this user; of cleave-vhost --takeover.",
            arguments: [
                .init(
                    "format", .integer, isRequired: true,
                    help: "The version of what is said over the socket that comes along.")
            ]
        ) { [self] call throws(ControlFailure) in
            let format = call.integer("format") ?? 0
            guard format == HandoverMessage.format else {
                throw ControlFailure(
                    "this program hands over in format \(HandoverMessage.format), not \(format)",
                    about: "format")
            }
            guard call.descriptors.count == 1, let socket = call.descriptors[0].take() else {
                throw ControlFailure("expected one descriptor with the request, a stream socket")
            }
            let channel = HandoverChannel(socket)
            let process = try channel.checkPeer()
            try begin(channel, process, call.joined.requests)
            return ["format": .integer(Int64(format))]
        }
    }

    private func begin(
        _ channel: HandoverChannel, _ process: Int32, _ requests: SwitchRequests
    ) throws(ControlFailure) {
        let isFree = lock.withLock {
            defer { isUnderWay = true }
            return !isUnderWay
        }
        guard isFree else { throw ControlFailure("another program takes over already") }
        // The one before has done its work.
        lock.withLock { thread }?.join()
        do throws(HostError) {
            let new = try PinnedThread(name: "cleave-takeover", cpu: nil) { [self] in
                converse(channel, process, requests)
            }
            lock.withLock { thread = new }
        } catch {
            lock.withLock { isUnderWay = false }
            throw ControlFailure("\(error)")
        }
    }

    /// This program has let go of everything.
    func end() { lock.withLock { last = nil } }

    // MARK: Its own thread

    private func converse(
        _ channel: HandoverChannel, _ process: Int32, _ requests: SwitchRequests
    ) {
        do throws(ControlFailure) {
            guard
                case .hello(let format, let version, let names)? = try channel.receive(
                    milliseconds: Self.helloMilliseconds), format == HandoverMessage.format
            else { throw ControlFailure("it did not say what it wants") }
            log.say(LogEntry("cleave-vhost \(version) takes over"))
            let descriptors = HandoverDescriptors()
            let offer = requests.ask { joined in
                Result { () throws(SetupError) in
                    try joined.beginHandover(of: names, descriptors)
                }
            }
            guard let offer else { throw ControlFailure("the switch does not answer") }
            let state: SwitchHandover
            do throws(SetupError) { state = try offer.get() } catch {
                throw ControlFailure("\(error)")
            }
            let list = descriptors.fileDescriptors
            try channel.send(
                .offer(state: state, descriptorCount: list.count), list,
                milliseconds: Self.prepareMilliseconds)
            guard
                case .prepared? = try channel.receive(milliseconds: Self.prepareMilliseconds)
            else {
                throw ControlFailure(
                    "it was not prepared within \(Self.prepareMilliseconds / 1000) s")
            }
            let isTaken = requests.add { [self] joined in
                switchOver(joined, channel, process, names: state.ports.map(\.name))
            }
            if !isTaken { throw ControlFailure("the program is ending") }
        } catch {
            tell(channel, error)
            requests.add { [self] joined in
                joined.cancelHandover()
                finish(error)
            }
        }
    }

    private func tell(_ channel: HandoverChannel, _ failure: ControlFailure) {
        // It may be gone, and knows then.
        try? channel.send(.failed(reason: failure.description), milliseconds: 100)
    }

    // MARK: The control thread

    private func finish(_ failure: ControlFailure?, isOver: Bool = true) {
        if let failure {
            log.say(
                LogEntry(
                    "the other program does not take over; this one goes on", level: .warning,
                    reason: failure.description))
        }
        lock.withLock {
            hasEnded = failure == nil
            isUnderWay = hasEnded || !isOver
        }
    }

    private func switchOver(
        _ joined: Switch, _ channel: HandoverChannel, _ process: Int32, names: [String]
    ) {
        let position: SwitchPosition
        do throws(SetupError) { position = try joined.suspend() } catch {
            let failure = ControlFailure("\(error)")
            tell(channel, failure)
            joined.cancelHandover()
            return finish(failure)
        }
        do throws(Unserved) {
            let (nanoseconds, queues) = try awaitService(channel, position)
            joined.finishHandover()
            giveService(to: process, channel)
            lock.withLock { last = channel }
            log.say(
                LogEntry(
                    "the other program has taken over \(names.count) ports with \(queues) queues; "
                        + "traffic waited for \(HandoverText.milliseconds(nanoseconds))"))
            finish(nil)
        } catch {
            joined.resume()
            let waited = SystemClock.monotonic - position.stoppedAt
            let failure = ControlFailure(
                "\(error.reason); traffic waited for \(HandoverText.milliseconds(waited))")
            finish(failure, isOver: !error.isLate)
            if error.isLate { renewLater(channel, joined.requests, names) }
        }
    }

    /// Makes the other program the main process of this one's service, if there is one. Only now,
    /// as the manager would not take it back: it listens to the main process alone.
    private func giveService(to process: Int32, _ channel: HandoverChannel) {
        guard let message = signs?.message else { return }
        func warn(_ text: String, _ reason: String) {
            log.say(LogEntry(text, level: .warning, reason: reason))
        }
        guard ServiceManager.isOfThisService(process) else {
            return warn(
                "this service ends with this program",
                "process \(process), which has the ports now, is in another control group")
        }
        do throws(HostError) {
            try ServiceManager.giveService(to: process, milliseconds: Self.managerMilliseconds)
        } catch { return warn("this service ends with this program", "\(error)") }
        do throws(ControlFailure) { try channel.send(message, milliseconds: 1000) } catch {
            warn("process \(process) does not hear that it is this service's", "\(error)")
        }
    }

    /// The other program was too late, and may not know it yet: what it writes to guests' memory
    /// before it does is written over once it is gone. Nobody else takes over until then.
    private func renewLater(
        _ channel: HandoverChannel, _ requests: SwitchRequests, _ names: [String]
    ) {
        let thread = try? PinnedThread(name: "cleave-takeover", cpu: nil) { [self] in
            _ = channel.awaitEnd(milliseconds: Self.endMilliseconds)
            requests.add { [self] joined in
                joined.renew(names)
                lock.withLock { isUnderWay = false }
            }
        }
        // The one before has ended, since it left all else to this thread.
        lock.withLock { self.thread = thread }
    }

    /// The other program did not take over.
    private struct Unserved: Error {
        var reason: ControlFailure
        /// It is there, and may learn late that it must not.
        var isLate = false
    }

    /// Tells the position, and waits until the other program says that it serves.
    /// - Throws: if it has not said so, and cannot any more.
    private func awaitService(
        _ channel: HandoverChannel, _ position: SwitchPosition
    ) throws(Unserved) -> (nanoseconds: UInt64, queues: Int) {
        var message: HandoverMessage?
        do throws(ControlFailure) {
            try channel.send(.position(position), milliseconds: Self.beginMilliseconds)
            let end = SystemClock.monotonic + UInt64(Self.beginMilliseconds) * 1_000_000
            repeat {
                signs?.giveWhileHeld()
                message = try channel.receive(milliseconds: 50)
            } while message == nil && SystemClock.monotonic < end
        } catch {
            channel.closeInput()
            throw Unserved(reason: error)
        }
        var isLate = false
        if message == nil {
            // Either it has said it before this, or it never will.
            channel.closeInput()
            isLate = true
            message = try? channel.receive(milliseconds: 0)
        }
        guard case .serves(let nanoseconds, let queues)? = message else {
            channel.closeInput()
            let reason =
                message == nil
                ? "it did not begin within \(Self.beginMilliseconds) ms"
                : "it said something else than that it serves"
            throw Unserved(reason: ControlFailure(reason), isLate: isLate)
        }
        return (nanoseconds, queues)
    }
}

/// Words of both programs.
enum HandoverText {
    static func milliseconds(_ nanoseconds: UInt64) -> String {
        let hundredths = (nanoseconds + 5000) / 10_000
        let fraction = hundredths % 100
        return "\(hundredths / 100).\(fraction < 10 ? "0" : "")\(fraction) ms"
    }
}

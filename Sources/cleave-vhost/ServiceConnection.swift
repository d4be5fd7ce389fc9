import CleaveControl
import CleaveHost
import CleavePorts
import CleaveProgramSupport
import CleaveSwitch

/// What the program and its service manager have to do with each other, beyond "ready".
enum ServiceConnection {
    /// Gives the sockets that the manager hands over to the ports of their names.
    /// - Throws: if there is no such port, or if it cannot use the socket.
    static func giveSockets(to ports: [any Port]) throws(Failure) {
        let sockets: [ServiceManager.Socket]
        do { sockets = try ServiceManager.takeSockets() } catch { throw .run("\(error)") }
        for (index, socket) in sockets.enumerated() {
            guard !sockets[..<index].contains(where: { $0.name == socket.name }) else {
                throw .usage(
                    "the service manager hands over two sockets named \"\(socket.name)\": "
                        + "each needs a FileDescriptorName of its own")
            }
            guard let port = ports.first(where: { $0.name == socket.name }) else {
                throw .usage(
                    "the service manager hands over a socket \"\(socket.name)\", and no port has "
                        + "that name: \(ports.map(\.name).joined(separator: ", "))")
            }
            guard let guest = port as? VhostUserPort else {
                throw .usage(
                    "the service manager hands over a socket \"\(socket.name)\", and the port of "
                        + "that name is no vhost-user port")
            }
            do { try guest.listen(at: socket.descriptor) } catch { throw .usage("\(error)") }
        }
    }

    /// Says that the program ends, if anybody wants to know.
    static func sayStopping(_ log: OperatorLog) {
        do { try ServiceManager.sayStopping() } catch {
            log.say(LogEntry("\(error)", level: .warning))
        }
    }

}

/// The signs of life that the service manager wants. One thread, which is the switch's control
/// thread.
final class SignsOfLife {
    private var watchdog: ServiceManager.Watchdog?
    private let log: OperatorLog

    init(_ log: OperatorLog) throws(HostError) {
        watchdog = try ServiceManager.Watchdog()
        self.log = log
    }

    /// Gives a sign of life if one is due. It says that all switch threads live, too: one
    /// that hangs keeps it from being given.
    func give(_ joined: Switch) {
        guard let watchdog, watchdog.isDue(at: SystemClock.monotonic) else { return }
        joined.awaitThreads(since: watchdog.last)
        give()
    }

    /// The same while all switch threads are held: they have answered.
    func giveWhileHeld() {
        guard let watchdog, watchdog.isDue(at: SystemClock.monotonic) else { return }
        give()
    }

    private func give() {
        do { try watchdog?.signal(at: SystemClock.monotonic) } catch {
            log.say(LogEntry("\(error)", level: .warning))
        }
    }

    // MARK: A service that goes from one program to the next

    /// What the next main process of the service is told.
    var message: HandoverMessage? {
        ServiceManager.address.map {
            .main(address: $0, watchdogMicroseconds: watchdog?.microseconds)
        }
    }

    /// This process is the main one of a service that another one began.
    func join(_ address: String, watchdogMicroseconds: UInt64?) {
        ServiceManager.join(at: address)
        watchdog = watchdogMicroseconds.flatMap { ServiceManager.Watchdog(microseconds: $0) }
    }
}

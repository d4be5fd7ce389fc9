import CCleaveHost
import Glibc

/// The service manager that started this program, systemd or another with its protocol.
package enum ServiceManager {
    /// Says that the program does its work now; nothing if there is no manager.
    package static func sayReady() throws(HostError) { try tell("READY=1") }

    /// Says that it reads its configuration anew; `sayReady` says the end of that.
    package static func sayReloading() throws(HostError) {
        try tell("RELOADING=1\nMONOTONIC_USEC=\(SystemClock.monotonic / 1000)")
    }

    /// Says that the program ends by itself.
    package static func sayStopping() throws(HostError) { try tell("STOPPING=1") }

    /// Tells one or more lines, such as `STATUS=...`; nothing if there is no manager.
    package static func tell(_ state: String) throws(HostError) {
        guard let address else { return }
        let result = cleave_notify_manager(address, state)
        if result < 0 {
            throw HostError("NOTIFY_SOCKET", code: -result, "cannot tell the service manager")
        }
    }

    // MARK: The main process

    /// Where the manager listens to this process, as in $NOTIFY_SOCKET; nil if there is none, or if
    /// another process speaks to it now.
    package static var address: String? { listener.value }

    /// The manager has this process for the main one of a service that another process began.
    package static func join(at address: String) { listener.value = address }

    /// Says that another process is the main one of this service from now on, and is alive. A
    /// manager that listens to the main process alone takes that from this one alone, and nothing
    /// more of it after that: so nothing more is said.
    /// - Parameter milliseconds: how long a manager that does not read may take.
    /// - Throws: if it was not said; this process is the main one still.
    package static func giveService(
        to process: Int32, milliseconds: UInt64
    ) throws(HostError) {
        let end = SystemClock.monotonic + milliseconds * 1_000_000
        while true {
            do throws(HostError) {
                try tell("MAINPID=\(process)\nWATCHDOG=1")
                return listener.value = nil
            } catch {
                // The kernel keeps a few messages that nobody has read, and refuses more.
                guard error.code == EAGAIN, SystemClock.monotonic < end else { throw error }
                usleep(5000)
            }
        }
    }

    /// Whether a process is of the control group that this one is of. A manager takes only such a
    /// process for the main one of a service, unless the superuser says so.
    package static func isOfThisService(_ process: Int32) -> Bool {
        guard process > 0, let own = controlGroups("self") else { return false }
        return controlGroups("\(process)") == own
    }

    private static func controlGroups(_ process: String) -> [UInt8]? {
        let file = open("/proc/\(process)/cgroup", O_RDONLY | O_CLOEXEC)
        guard file >= 0 else { return nil }
        defer { close(file) }
        // A line for each hierarchy, of which there are a dozen at most.
        var bytes = [UInt8](repeating: 0, count: 16384)
        let count = read(file, &bytes, bytes.count)
        return count > 0 ? Array(bytes[..<count]) : nil
    }

    private static let listener = Listener()

    /// A path that the threads of a program share.
    private final class Listener: @unchecked Sendable {
        // SAFETY: guarded by the lock.
        private let lock = Lock()
        private var path = variable("NOTIFY_SOCKET")

        var value: String? {
            get { lock.withLock { path } }
            set { lock.withLock { path = newValue } }
        }
    }

    // MARK: Watchdog

    /// What the manager wants to hear again and again, or else it ends the program and starts it
    /// anew.
    package struct Watchdog {
        /// Nanoseconds between two signs of life: half of what the manager waits for one.
        package let interval: UInt64
        /// When the last one was given, by the monotonic clock.
        package private(set) var last: UInt64

        /// What the environment asks this process for: $WATCHDOG_USEC and, if it is set,
        /// $WATCHDOG_PID; nil if nothing.
        /// - Throws: if that is no number of microseconds.
        package init?(
            now: UInt64 = SystemClock.monotonic, environment: (String) -> String? = variable
        ) throws(HostError) {
            guard let text = environment("WATCHDOG_USEC") else { return nil }
            if let owner = environment("WATCHDOG_PID"), owner != "\(getpid())" { return nil }
            guard let microseconds = UInt64(text), (1...UInt64.max / 1000).contains(microseconds)
            else {
                throw HostError("WATCHDOG_USEC", "\"\(text)\" is no number of microseconds")
            }
            interval = microseconds * 1000 / 2
            last = now
        }

        /// What a manager wants of a service that this process has from another one, which has just
        /// given a sign of life; nil if that is no number of microseconds that can be.
        package init?(microseconds: UInt64, now: UInt64 = SystemClock.monotonic) {
            guard (1...UInt64.max / 1000).contains(microseconds) else { return nil }
            interval = microseconds * 1000 / 2
            last = now
        }

        /// What the manager waits for a sign, in microseconds.
        package var microseconds: UInt64 { interval / 500 }

        /// Whether the next sign is due.
        package func isDue(at now: UInt64) -> Bool { now &- last >= interval }

        /// Gives a sign of life.
        package mutating func signal(at now: UInt64) throws(HostError) {
            last = now
            try ServiceManager.tell("WATCHDOG=1")
        }
    }

    // MARK: Sockets

    /// A socket that the manager made and hands over.
    package struct Socket: Equatable {
        /// Its `FileDescriptorName`; by itself the name of the socket's unit.
        package let name: String
        package let descriptor: Int32
    }

    /// The first of them; the others follow.
    private static let firstSocket: Int32 = 3

    /// What the manager hands over to this process: $LISTEN_PID, $LISTEN_FDS and
    /// $LISTEN_FDNAMES. The variables are removed, so that no child takes them for its own.
    /// - Throws: if what they say cannot be.
    package static func takeSockets() throws(HostError) -> [Socket] {
        let names = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"]
        let result = try sockets(variable)
        for name in names { unsetenv(name) }
        for socket in result { _ = fcntl(socket.descriptor, F_SETFD, FD_CLOEXEC) }
        return result
    }

    package static func sockets(
        _ environment: (String) -> String?
    ) throws(HostError) -> [Socket] {
        guard environment("LISTEN_PID") == "\(getpid())", let text = environment("LISTEN_FDS")
        else { return [] }
        guard let count = Int32(text), (0...1024).contains(count) else {
            throw HostError("LISTEN_FDS", "\"\(text)\" is not a number of sockets")
        }
        let names = environment("LISTEN_FDNAMES")?
            .split(separator: ":", omittingEmptySubsequences: false).map { String($0) }
        if let names, names.count != Int(count) {
            throw HostError("LISTEN_FDNAMES", "\(names.count) names of \(count) sockets")
        }
        return (0..<count).map { index in
            Socket(
                name: names?[Int(index)] ?? "unknown", descriptor: firstSocket + index)
        }
    }

    /// A variable of this process's environment.
    package static func variable(_ name: String) -> String? {
        // SAFETY: nobody changes the environment while the program starts.
        getenv(name).map { String(cString: $0) }
    }
}

// The control socket: clients come and go, ask, and are answered, while packets go by.
//
//   server thread    sockets, lines, checks            this file; on CPUs without a switch thread
//   control thread   what a command does               Switch.requests
//
// A client can cost the server thread time, and the control thread a bounded share of its own: each
// has one request under way, and so many in a second. Nothing here touches what switch threads use.

import CCleaveHost
import CleaveHost
import CleaveSwitch
import CleaveVhostUser
import Glibc

/// What happened at the control socket.
public enum ControlEvent: String, CaseIterable, Sendable {
    /// Clients that connected, and those for whom there was no room.
    case controlClients, controlClientsRefused
    /// Requests that were read, and those that were refused.
    case controlRequests, controlRequestsRefused
    /// Clients that were dropped: for a line that is too long, for many in a row that are no
    /// request, for answers that they did not read, and idle ones that made room for others.
    case controlDroppedLine, controlDroppedGarbage, controlDroppedUnread, controlDroppedIdle
    /// And for descriptors beyond those that may wait, or that this process may have.
    case controlDroppedDescriptors
}

/// Serves commands at a unix socket, on a thread of its own.
public final class ControlServer: @unchecked Sendable {
    // SAFETY: `counts` is guarded by `lock`; `clients` and the endpoint belong to the server
    // thread from `start` to `stop`; the rest is constant.

    /// What one client, and all together, may cost.
    public struct Limits: Sendable {
        /// Most clients at once.
        public var clients = 16
        /// Requests of a client that are served at once, and each second from then on.
        public var burst = 64
        public var perSecond = 200
        /// Nanoseconds that a client may leave an answer unread.
        public var patience: UInt64 = 5_000_000_000
        /// Nanoseconds after which an idle client makes room for another.
        public var idle: UInt64 = 10_000_000_000
        /// Lines in a row that are no request.
        public var garbage = 8

        public init() {}
    }

    public let path: String
    private let greeting: ControlGreeting
    private let commands: [String: ControlCommand]
    private let requests: SwitchRequests
    private let limits: Limits
    private let endpoint: SocketEndpoint
    private let waker: Waker
    private let lock = Lock()
    private var counts: [ControlEvent: UInt64] = [:]
    private var clients: [ControlClientState] = []
    private var thread: PinnedThread?

    /// Wakes the server thread.
    private final class Waker: Sendable {
        let event: EventDescriptor
        let isStopped = StopFlag()
        init() throws(HostError) { event = try EventDescriptor() }
    }

    private final class StopFlag: @unchecked Sendable {
        // SAFETY: guarded by `lock`.
        private let lock = Lock()
        private var value = false
        var isSet: Bool { lock.withLock { value } }
        func set() { lock.withLock { value = true } }
    }

    /// - Parameters:
    ///   - path: of the socket, at most 107 bytes. Its file has mode 0660.
    ///   - commands: no two of one name.
    ///   - requests: of the switch that is served.
    public init(
        path: String, greeting: ControlGreeting, commands: [ControlCommand],
        requests: SwitchRequests, limits: Limits = Limits()
    ) throws(SetupError) {
        guard !path.isEmpty, path.utf8.count <= 107 else {
            throw SetupError(
                "control socket: path of \(path.utf8.count) bytes: need 1 to 107")
        }
        self.path = path
        self.greeting = greeting
        self.commands = Dictionary(uniqueKeysWithValues: commands.map { ($0.name, $0) })
        self.requests = requests
        self.limits = limits
        endpoint = SocketEndpoint(
            path: path, owner: "the control socket", listens: true, mode: 0o660)
        do { waker = try Waker() } catch { throw SetupError("control socket: ", error) }
    }

    /// Listens, and starts the thread.
    /// - Parameter busyCPUs: that the thread keeps off, if there are others.
    /// - Throws: why the path cannot be used; a file whose maker is gone is replaced.
    public func start(busyCPUs: [Int]) throws(SetupError) {
        do {
            try endpoint.open()
            thread = try PinnedThread(name: "cleave-control", cpu: nil) {
                PinnedThread.keepCurrent(off: busyCPUs)
                self.run()
            }
        } catch {
            endpoint.close()
            throw SetupError("control socket: ", error)
        }
    }

    /// Ends all connections and the thread, and removes the socket's file. Before the switch is
    /// closed, or after: a request that is under way is not answered.
    public func stop() {
        waker.isStopped.set()
        waker.event.signal()
        thread?.join()
        thread = nil
    }

    deinit { stop() }

    /// What happened, by the name of a `ControlEvent`. Any thread.
    public var counters: [String: UInt64] {
        lock.withLock {
            Dictionary(
                uniqueKeysWithValues: ControlEvent.allCases.map { ($0.rawValue, counts[$0] ?? 0) })
        }
    }

    private func count(_ event: ControlEvent) {
        lock.withLock { counts[event, default: 0] += 1 }
    }

    // MARK: The thread

    private func run() {
        while !waker.isStopped.isSet {
            wait()
            _ = waker.event.drain()
            let now = SystemClock.monotonic
            accept(now)
            clients.removeAll { client in
                guard let end = serve(client, now) else { return false }
                if let event = end.event { count(event) }
                client.end()
                return true
            }
        }
        for client in clients { client.end() }
        clients = []
        endpoint.close()
    }

    private func wait() {
        var entries = [pollfd(fd: waker.event.fileDescriptor, events: Int16(POLLIN), revents: 0)]
        var deadline = endpoint.deadline ?? .max
        for descriptor in endpoint.descriptors {
            entries.append(pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0))
        }
        for client in clients {
            entries.append(
                pollfd(fd: client.fileDescriptor, events: client.interest, revents: 0))
            if let other = client.deadline(limits) { deadline = min(deadline, other) }
        }
        let now = SystemClock.monotonic
        let left = deadline == .max ? 60_000_000_000 : deadline > now ? deadline - now : 0
        let count = poll(
            &entries, nfds_t(entries.count), Int32(min(60_000, (left + 999_999) / 1_000_000)))
        for (entry, client) in zip(entries.suffix(clients.count), clients) {
            client.ready = count > 0 ? entry.revents : 0
        }
    }

    private func accept(_ now: UInt64) {
        // Bounded: the rest waits in the socket.
        for _ in 0..<limits.clients {
            guard let descriptor = endpoint.accept(isBusy: false) else { return }
            if clients.count >= limits.clients && !makeRoom(now) {
                count(.controlClientsRefused)
                let failure = ControlFailure("\(limits.clients) clients are connected already")
                let line = ControlReply.error(failure, id: .null).bytes
                _ = cleave_socket_send(descriptor, line, line.count, nil, 0)
                close(descriptor)
                continue
            }
            count(.controlClients)
            let waker = waker
            let client = ControlClientState(
                descriptor, now, ControlPeer { waker.event.signal() }, burst: limits.burst)
            if let line = try? JSONValue(greeting).line { client.queue(Array((line + "\n").utf8)) }
            clients.append(client)
        }
    }

    /// Drops the client that has been idle longest.
    /// - Returns: whether there was one that was idle for long.
    private func makeRoom(_ now: UInt64) -> Bool {
        let idle = clients.indices.filter {
            clients[$0].isIdle && now - clients[$0].lastActive >= limits.idle
        }
        guard let index = idle.min(by: { clients[$0].lastActive < clients[$1].lastActive })
        else { return false }
        count(.controlDroppedIdle)
        clients.remove(at: index).end()
        return true
    }

    /// Why a client's connection ends; the event is nil if it went by itself.
    private struct End {
        var event: ControlEvent?
    }

    private func serve(_ client: ControlClientState, _ now: UInt64) -> End? {
        client.collect()
        if client.isOverrun { return End(event: .controlDroppedUnread) }
        if client.ready & Int16(POLLHUP | POLLERR | POLLNVAL) != 0 { return End() }
        if client.ready & Int16(POLLIN) != 0 && !client.read() { return End() }
        client.ready = 0
        if client.hasTooManyDescriptors {
            return lastWords(
                client, now,
                "a request has more than \(ControlClientState.maximumDescriptors) descriptors, or "
                    + "more than this process may have", .controlDroppedDescriptors)
        }
        guard client.write(now) else { return End() }
        client.refill(now, limits)
        while client.isIdle && client.tokens >= 1, let line = client.nextLine() {
            client.tokens -= 1
            client.lastActive = now
            handle(line, client)
            if client.badLines >= limits.garbage {
                return lastWords(
                    client, now, "\(limits.garbage) lines in a row are no request",
                    .controlDroppedGarbage)
            }
            client.collect()
            guard client.write(now) else { return End() }
        }
        if client.isLineTooLong {
            return lastWords(
                client, now,
                "a line is longer than \(ControlProtocol.maximumLineByteCount) bytes",
                .controlDroppedLine)
        }
        if client.hasEnded && client.isIdle && !client.hasLine { return End() }
        if client.isOverdue(now, limits) { return End(event: .controlDroppedUnread) }
        return nil
    }

    private func lastWords(
        _ client: ControlClientState, _ now: UInt64, _ words: String, _ event: ControlEvent
    ) -> End {
        // What was answered before comes first.
        client.collect()
        client.queue(ControlReply.error(ControlFailure(words), id: .null).bytes)
        _ = client.write(now)
        return End(event: event)
    }

    private func handle(_ line: [UInt8], _ client: ControlClientState) {
        count(.controlRequests)
        let descriptors = client.takeDescriptors()
        var id = JSONValue.null
        do throws(ControlFailure) {
            let request: ControlRequest
            do throws(ControlFailure) { request = try ControlRequest(line: line) } catch {
                id = error.id
                client.badLines += 1
                throw error
            }
            client.badLines = 0
            id = request.id
            guard let command = commands[request.command] else {
                let known = commands.keys.sorted().joined(separator: ", ")
                throw ControlFailure(
                    "unknown command (known here: \(known))", about: request.command)
            }
            try command.check(request.arguments)
            try start(command, request, client.peer, descriptors)
        } catch {
            count(.controlRequestsRefused)
            client.peer.answer(.error(error, id: id))
        }
    }

    /// Has the control thread carry a request out.
    private func start(
        _ command: ControlCommand, _ request: ControlRequest, _ peer: ControlPeer,
        _ descriptors: [ControlDescriptor]
    ) throws(ControlFailure) {
        peer.begin()
        let isTaken = requests.add { [weak self] joined in
            let call = ControlCall(
                arguments: request.arguments, joined: joined, peer: peer,
                descriptors: descriptors)
            do throws(ControlFailure) {
                peer.answer(.result(try command.run(call), id: request.id))
            } catch {
                self?.count(.controlRequestsRefused)
                peer.answer(.error(error, id: request.id))
            }
        }
        if !isTaken { throw ControlFailure("the program is ending") }
    }
}

import CCleaveHost
import CleaveHost
import CleaveVhostUser
import Glibc

/// A thread that answers requests, one after another, within bounds that no client can stretch:
/// connections, bytes and time are limited, and no client waits for another one's slow network.
///
/// The answers are made on that thread. It is kept off `busyCPUs` where the process may use others.
package final class HTTPService: @unchecked Sendable {
    // SAFETY: all but the waker and the flag belong to the service's thread once it runs; before
    // and after, to the owner, whom `join` orders behind it.

    package typealias Handler = @Sendable (HTTPRequest) -> HTTPResponse

    /// Where it listens, with the port that it has.
    package let address: ServiceAddress
    private let handler: Handler
    private let limits: Limits
    private let waker: EventDescriptor
    private let lock = Lock()
    private var isStopped = false
    private var thread: PinnedThread?
    /// One of both.
    private let listener: Int32
    private let endpoint: SocketEndpoint?
    private var clients: [Client] = []
    /// No descriptor was left for a connection: until when none is taken.
    private var pausedUntil: UInt64 = 0

    package struct Limits: Sendable {
        package var clients = 16
        /// Seconds for a whole head, from its first byte on, and for taking an answer.
        package var secondsPerRequest = 5.0
        /// Seconds between requests. Prometheus asks once a minute, or more often.
        package var secondsIdle = 120.0

        package init() {}
    }

    private struct Client {
        let descriptor: Int32
        var parser = HTTPParser()
        var output: [UInt8] = []
        var written = 0
        /// Of `written`, where the deadline was last put off.
        var renewed = 0
        /// Ends once `output` is out.
        var isEnding = false
        /// When it has to have done what it is at, in nanoseconds of the monotonic clock.
        var deadline: UInt64
        var isIdle = true
    }

    /// Listens, and starts the thread.
    /// - Parameters:
    ///   - name: the thread's, at most 15 bytes.
    ///   - busyCPUs: CPUs that have other work.
    ///   - handler: answers what is GET or HEAD. On the service's thread.
    package init(
        _ address: ServiceAddress, name: String, busyCPUs: [Int] = [], limits: Limits = Limits(),
        handler: @escaping Handler
    ) throws(SetupError) {
        self.handler = handler
        self.limits = limits
        do { waker = try EventDescriptor() } catch { throw SetupError("\(address): ", error) }
        switch address {
        case .unix(let path):
            let endpoint = SocketEndpoint(
                path: path, owner: "the \(name) socket", listens: true)
            try endpoint.open()
            (self.endpoint, listener, self.address) = (endpoint, -1, address)
        case .tcp(let host, let port):
            (listener, self.address) = try ServiceAddress.listen(host: host, port: port)
            endpoint = nil
        }
        do {
            thread = try PinnedThread(name: name, cpu: nil) { [self] in
                PinnedThread.keepCurrent(off: busyCPUs)
                run()
            }
        } catch {
            closeAll()
            throw SetupError("\(address): ", error)
        }
    }

    /// Ends the connections and the thread.
    package func stop() {
        lock.withLock { isStopped = true }
        waker.signal()
        guard let thread else { return }
        thread.join()
        self.thread = nil
        closeAll()
    }

    private func closeAll() {
        for client in clients { close(client.descriptor) }
        clients = []
        if listener >= 0 { close(listener) }
        endpoint?.close()
    }

    // MARK: The thread

    private func run() {
        while !lock.withLock({ isStopped }) {
            var waits = [pollfd(fd: waker.fileDescriptor, events: Int16(POLLIN), revents: 0)]
            for client in clients {
                let events = client.output.isEmpty ? POLLIN : POLLOUT
                waits.append(pollfd(fd: client.descriptor, events: Int16(events), revents: 0))
            }
            let now = SystemClock.monotonic
            // One that says nothing gives its place to one that comes.
            let hasRoom = clients.count < limits.clients || clients.contains(where: \.isIdle)
            let firstListener = waits.count
            if hasRoom && now >= pausedUntil {
                let descriptors = endpoint?.descriptors ?? [listener]
                waits += descriptors.map { pollfd(fd: $0, events: Int16(POLLIN), revents: 0) }
            }
            let until = clients.map(\.deadline).min() ?? .max
            let left = min(until > now ? until - now : 0, 1_000_000_000)
            _ = poll(&waits, nfds_t(waits.count), Int32((left + 999_999) / 1_000_000))
            waker.drain()
            for index in clients.indices.reversed() where waits[index + 1].revents != 0 {
                if !serve(index) { close(clients.remove(at: index).descriptor) }
            }
            let then = SystemClock.monotonic
            for index in clients.indices.reversed() where then >= clients[index].deadline {
                close(clients.remove(at: index).descriptor)
            }
            if waits[firstListener...].contains(where: { $0.revents != 0 }) { accept() }
        }
    }

    private func accept() {
        // A bound for each round: whoever comes and goes all the time holds up nobody.
        for _ in 0..<limits.clients {
            let idle = clients.firstIndex(where: \.isIdle)
            guard clients.count < limits.clients || idle != nil else { return }
            let descriptor: Int32
            if let endpoint {
                guard let taken = endpoint.accept(isBusy: false) else { return }
                descriptor = taken
            } else {
                descriptor = cleave_unix_accept(listener)
                if descriptor < 0 {
                    // Whatever waits stays, and would wake the thread over and over.
                    if descriptor == -EMFILE || descriptor == -ENFILE {
                        pausedUntil = SystemClock.monotonic + 1_000_000_000
                    }
                    return
                }
            }
            // The one that was there first makes room, once there is somebody to make it for.
            if clients.count >= limits.clients, let idle {
                close(clients.remove(at: idle).descriptor)
            }
            clients.append(
                Client(descriptor: descriptor, deadline: deadline(limits.secondsPerRequest)))
        }
    }

    /// Bytes that a reader takes at least while it has the time of a request.
    private static let partByteCount = 256 * 1024

    private func deadline(_ seconds: Double) -> UInt64 {
        SystemClock.monotonic + UInt64(seconds * 1e9)
    }

    /// Goes on with a client as far as its connection takes and gives bytes, by one request at
    /// most.
    /// - Returns: false if the connection is over.
    private func serve(_ index: Int) -> Bool {
        if clients[index].output.isEmpty && !receive(index) { return false }
        return send(index)
    }

    /// - Returns: false if the peer has gone.
    private func receive(_ index: Int) -> Bool {
        var buffer = [UInt8](repeating: 0, count: 4096)
        let count = recv(
            clients[index].descriptor, &buffer, buffer.count, Int32(MSG_DONTWAIT))
        if count < 0 { return errno == EAGAIN || errno == EINTR }
        if count == 0 { return false }
        if clients[index].isIdle {
            clients[index].isIdle = false
            clients[index].deadline = deadline(limits.secondsPerRequest)
        }
        clients[index].parser.append(buffer[..<count])
        answer(index)
        return true
    }

    /// Answers the next request, if it is all there.
    private func answer(_ index: Int) {
        do throws(HTTPProblem) {
            guard let request = try clients[index].parser.next() else { return }
            clients[index].deadline = deadline(limits.secondsPerRequest)
            clients[index].isEnding = !request.isKeptAlive
            var response = HTTPResponse(refusal: 403, "this host is not meant")
            if request.method != "GET" && request.method != "HEAD" {
                response = HTTPResponse(refusal: 405, "only GET and HEAD are answered")
                response.headers = [("Allow", "GET, HEAD")]
            } else if address.isMeant(by: request) {
                response = handler(request)
            }
            clients[index].output = response.bytes(
                hasBody: request.method != "HEAD", isKeptAlive: request.isKeptAlive)
        } catch {
            clients[index].isEnding = true
            clients[index].output = HTTPResponse(refusal: error.status, error.words)
                .bytes(hasBody: true, isKeptAlive: false)
        }
    }

    /// - Returns: false if the connection is over.
    private func send(_ index: Int) -> Bool {
        let client = clients[index]
        if client.output.isEmpty { return true }
        let count = client.output.withUnsafeBytes { bytes in
            // SAFETY: `written` is less than the count, so there is a base address.
            Glibc.send(
                client.descriptor, bytes.baseAddress! + client.written,
                bytes.count - client.written,
                Int32(MSG_DONTWAIT | MSG_NOSIGNAL))
        }
        if count < 0 { return errno == EAGAIN || errno == EINTR }
        clients[index].written += count
        // A reader that goes on has as long again for each part of a large answer.
        if clients[index].written - client.renewed >= Self.partByteCount {
            clients[index].renewed = clients[index].written
            clients[index].deadline = deadline(limits.secondsPerRequest)
        }
        if clients[index].written < client.output.count { return true }
        if client.isEnding {
            // What it still sends would otherwise have the system forget the answer.
            shutdown(client.descriptor, Int32(SHUT_WR))
            var rest = [UInt8](repeating: 0, count: 65536)
            _ = recv(client.descriptor, &rest, rest.count, Int32(MSG_DONTWAIT))
            return false
        }
        clients[index].output = []
        (clients[index].written, clients[index].renewed) = (0, 0)
        // The next one may have come together with this one.
        answer(index)
        clients[index].isIdle = !clients[index].parser.isWithin && clients[index].output.isEmpty
        if clients[index].isIdle { clients[index].deadline = deadline(limits.secondsIdle) }
        return true
    }
}

import CCleaveHost
import CleaveHost
import Glibc

/// One end of a unix socket by its path: listens for peers, or connects to one, again and again.
/// One thread at a time; nothing here waits.
package final class SocketEndpoint {
    private let path: String
    /// What people call what the socket is of.
    private let owner: String
    /// Whether peers come here; if not, this end goes to its peer.
    private let listens: Bool
    private let mode: Int32?
    private var listener: Int32 = -1
    /// The file that `listener` made, to know it from a successor's.
    private var identity: (UInt64, UInt64) = (0, 0)
    /// A socket that somebody else has made and keeps: its file is theirs.
    private var isLent = false
    /// Client: when to connect next, and how long to wait after the next failure.
    private var nextConnect: UInt64 = 0
    private var backOff = firstBackOff
    /// A connection that was there from the start, until it is taken.
    private var given: Int32 = -1
    private var isOpen = false
    private var isConnected = false
    /// Server: no descriptor was left for a connection; when to try again.
    private var pausedUntil: UInt64?

    private static let firstBackOff: UInt64 = 50_000_000
    private static let longestBackOff: UInt64 = 2_000_000_000

    /// - Parameters:
    ///   - path: of the socket's file.
    ///   - owner: whose it is, for others of this process that want the path: `port a`.
    ///   - listens: whether peers come here; if not, this end goes to its peer.
    ///   - mode: permissions of the socket's file; nil for those that the process gives.
    package init(path: String, owner: String, listens: Bool, mode: Int32? = nil) {
        self.path = path
        self.owner = owner
        self.listens = listens
        self.mode = mode
    }

    /// One connection that is there already, which belongs to this object from now on.
    /// - Throws: if `descriptor` is no unix stream socket.
    package init(connected descriptor: Int32) throws(SetupError) {
        let own = cleave_unix_adopt(descriptor)
        guard own >= 0 else {
            throw SetupError(
                "descriptor \(descriptor) is no connected unix stream socket: "
                    + HostError.words(of: -own))
        }
        // The peer learns of the end of a connection when its last descriptor is closed.
        Glibc.close(descriptor)
        path = ""
        owner = ""
        listens = true
        mode = nil
        given = own
    }

    deinit { close() }

    /// Will listen at a socket that somebody else has made and keeps. Before `open`.
    /// - Throws: if it is no listening unix stream socket, or its file is not the one at the path.
    package func listen(at descriptor: Int32) throws(SetupError) {
        var bound = [CChar](repeating: 0, count: 108)
        let result = cleave_unix_take_listener(descriptor, &bound, bound.count)
        guard result >= 0 else {
            throw SetupError(
                "descriptor \(descriptor) is no listening unix stream socket: \(words(-result))")
        }
        let place = PathText.text(bound.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) })
        var (own, other): ((UInt64, UInt64), (UInt64, UInt64)) = ((0, 0), (0, 0))
        guard Self.identify(path, &own) == 1, Self.identify(place, &other) == 1, own == other
        else {
            let found = place.isEmpty ? "has no file" : "is \(place)"
            throw SetupError("the socket that it was given \(found), and its path is \(path)")
        }
        if listener >= 0 { Glibc.close(listener) }
        listener = descriptor
        isLent = true
    }

    /// Listens, or begins to connect.
    /// - Throws: why the path cannot be used.
    package func open() throws(SetupError) {
        isOpen = true
        nextConnect = 0
        if given >= 0 { return }
        try SocketPlaces.ofProcess.add(
            self, path, owner: owner, listens: listens, isGiven: isLent || isConnected)
        if !listens || isLent { return }
        do throws(SetupError) { try listen() } catch {
            // The path stays free for others.
            SocketPlaces.ofProcess.remove(self)
            throw error
        }
    }

    /// Makes the socket's file, and listens there.
    private func listen() throws(SetupError) {
        var file: (UInt64, UInt64) = (0, 0)
        let found = identify(&file)
        if found == 0 { throw SetupError("\(path) exists and is not a socket") }
        if found == 1 {
            let probe = PathText.withBytes(path) { cleave_unix_connect($0) }
            if probe >= 0 {
                Glibc.close(probe)
                throw SetupError("another process listens at \(path)")
            }
            guard probe == -ECONNREFUSED else {
                throw SetupError("\(path) exists and cannot be used: \(words(-probe))")
            }
            // Whoever made it is gone.
            _ = PathText.withBytes(path) { unlink($0) }
        }
        let result = PathText.withBytes(path) { cleave_unix_listen($0, mode ?? -1) }
        guard result >= 0 else {
            throw SetupError("cannot listen at \(path): \(words(-result))", code: -result)
        }
        listener = result
        _ = identify(&identity)
    }

    private func identify(_ identity: inout (UInt64, UInt64)) -> Int32 {
        Self.identify(path, &identity)
    }

    private static func identify(_ path: String, _ identity: inout (UInt64, UInt64)) -> Int32 {
        var words: [UInt64] = [0, 0]
        let result = PathText.withBytes(path) { cleave_unix_identify($0, &words) }
        identity = (words[0], words[1])
        return result
    }

    private func words(_ code: Int32) -> String { HostError.words(of: code) }

    /// Ends listening, and removes the socket's file if it is still the one that was made.
    package func close() {
        isOpen = false
        SocketPlaces.ofProcess.remove(self)
        if given >= 0 { Glibc.close(given) }
        given = -1
        guard listener >= 0 else { return }
        Glibc.close(listener)
        listener = -1
        if isLent {
            isLent = false
            return
        }
        var file: (UInt64, UInt64) = (0, 0)
        if identify(&file) == 1 && file == identity { _ = PathText.withBytes(path) { unlink($0) } }
    }

    /// The only connection that there will be was taken.
    package var isEnded: Bool { path.isEmpty && given < 0 }

    /// What to wait at.
    package var descriptors: [Int32] { listener >= 0 && pausedUntil == nil ? [listener] : [] }

    /// When to call `accept` without a descriptor's being ready.
    package var deadline: UInt64? {
        if given >= 0 { return 0 }
        if listens { return pausedUntil }
        return isOpen && !isConnected ? nextConnect : nil
    }

    /// The next connection, which is the caller's to close; nil if there is none now.
    /// - Parameter isBusy: the caller has one: a client does not connect then.
    package func accept(isBusy: Bool) -> Int32? {
        guard isOpen else { return nil }
        if given >= 0 {
            defer { given = -1 }
            return given
        }
        if !listens { return isBusy ? nil : connect() }
        if listener < 0 { return nil }
        if let pausedUntil, SystemClock.monotonic < pausedUntil { return nil }
        pausedUntil = nil
        let result = cleave_unix_accept(listener)
        if result == -EMFILE || result == -ENFILE {
            // The connection stays in the queue, so the listener would be ready all the time.
            pausedUntil = SystemClock.monotonic + Self.longestBackOff
        }
        return result >= 0 ? result : nil
    }

    private func connect() -> Int32? {
        let now = SystemClock.monotonic
        if now < nextConnect { return nil }
        let result = PathText.withBytes(path) { cleave_unix_connect($0) }
        if result >= 0 {
            isConnected = true
            backOff = Self.firstBackOff
            return result
        }
        nextConnect = now + backOff
        backOff = min(backOff * 2, Self.longestBackOff)
        return nil
    }

    // MARK: Going to another process

    /// The listening socket, which stays this object's; nil without one.
    package var listening: Int32? { listener >= 0 ? listener : nil }

    /// Whether somebody else has made and keeps the socket's file.
    package var isOfAnother: Bool { isLent }

    /// What tells the file at the path from its successors; nil if there is none.
    package var place: [UInt64]? {
        var file: (UInt64, UInt64) = (0, 0)
        return identify(&file) == 1 ? [file.0, file.1] : nil
    }

    /// Lets go of the socket, and leaves its file to the process that has it, too.
    package func letGo() {
        isLent = true
        close()
    }

    /// Has a connection that another process had: a client does not connect again.
    package func takeConnection() { isConnected = true }

    /// The process that listened here as well has let go: the file is this one's to remove.
    package func keepFile() {
        isLent = false
        _ = identify(&identity)
    }

    /// The connection that `accept` gave is over.
    package func disconnected() {
        isConnected = false
        nextConnect = SystemClock.monotonic + Self.firstBackOff
    }
}

import CCleaveHost
import CleaveHost

/// The paths that sockets of this process have, and whose they are. Whether somebody listens at a
/// path is found out by a connection, which one's own port would take for a front-end.
final class SocketPlaces: @unchecked Sendable {
    // SAFETY: `entries` is guarded by `lock`.

    static let ofProcess = SocketPlaces()

    /// A path, however it is written: its folder's file and its name there. It is known before
    /// there is a file.
    private struct Place: Equatable {
        let folder: [UInt64]
        let name: String

        /// nil if there is no such folder.
        init?(_ path: String) {
            let end = path.lastIndex(of: "/").map { path.index(after: $0) } ?? path.startIndex
            name = String(path[end...])
            var words: [UInt64] = [0, 0]
            // The point at the end has links followed.
            let folder = String(path[..<end]) + "."
            let result = PathText.withBytes(folder) { cleave_unix_identify($0, &words) }
            if result < 0 { return nil }
            self.folder = words
        }
    }

    private struct Entry {
        let place: Place
        let owner: String
        let listens: Bool
    }

    private let lock = Lock()
    private var entries: [ObjectIdentifier: Entry] = [:]

    /// Notes whose a path is.
    /// - Parameters:
    ///   - endpoint: that has it until `remove`.
    ///   - owner: what people call it.
    ///   - isGiven: the socket came from another process, so nobody's path is taken.
    /// - Throws: if another endpoint of this process has the path.
    func add(
        _ endpoint: SocketEndpoint, _ path: String, owner: String, listens: Bool, isGiven: Bool
    ) throws(SetupError) {
        // Without a folder there is no file: that is said where the socket is made.
        guard let place = Place(path) else { return }
        try lock.withLock { () throws(SetupError) in
            let other = entries.first { $0.value.place == place && $0.key != .init(endpoint) }
            if let other = other?.value, !isGiven {
                throw SetupError(
                    "\(other.owner) of this program "
                        + (other.listens ? "listens at" : "connects to") + " \(path)")
            }
            entries[.init(endpoint)] = Entry(place: place, owner: owner, listens: listens)
        }
    }

    func remove(_ endpoint: SocketEndpoint) {
        lock.withLock { _ = entries.removeValue(forKey: .init(endpoint)) }
    }
}

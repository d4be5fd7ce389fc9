import CleaveHost
import CleaveVirtioNet
import Glibc

/// The profiles of another process, mapped: found through its descriptors, read and switched while
/// it runs. The process is neither stopped nor asked.
public final class ProfileAttachment {
    /// One RQ's memory.
    final class Map {
        let block: ProfileBlock
        /// The period before it was attached to.
        let periodBefore: UInt32
        private let byteCount: Int

        /// - Returns: nil if the RQ is just being made, or has gone.
        init?(path: String) throws(SetupError) {
            // By now the path may name anything.
            let descriptor = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK | O_NOCTTY)
            if descriptor < 0 && errno == ENOENT { return nil }
            guard descriptor >= 0 else { throw SetupError(systemWords()) }
            defer { close(descriptor) }
            var status = stat()
            guard fstat(descriptor, &status) == 0 else { throw SetupError(systemWords()) }
            guard status.st_size >= ProfileBlock.byteCount, status.st_size <= 1 << 30 else {
                throw SetupError("\(status.st_size) bytes are no profile")
            }
            // F_GET_SEALS, F_SEAL_SHRINK: without the seal, reading could fault.
            guard fcntl(descriptor, 1034, 0) & 2 != 0 else {
                throw SetupError("its memory could shrink: no profile of Cleave")
            }
            byteCount = Int(status.st_size)
            let base = mmap(
                nil, byteCount, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0)
            guard let base, base != MAP_FAILED else { throw SetupError(systemWords()) }
            block = ProfileBlock(base)
            periodBefore = block.period.load()
            // From here on `deinit` unmaps, whichever way this ends.
            if block.isBlank { return nil }
            if let problem = block.problem(byteCount: byteCount) { throw SetupError(problem) }
        }

        deinit { munmap(block.base, byteCount) }
    }

    public let processID: Int32
    private let maps: [Map]

    /// Maps all profiles of a process.
    /// - Throws: if there is no such process, it may not be looked into, it has no profile, or one
    ///   of another version.
    public init(processID: Int32) throws(SetupError) {
        self.processID = processID
        var maps: [Map] = []
        for path in try Self.paths(processID) {
            do { if let map = try Map(path: path) { maps.append(map) } } catch {
                throw SetupError("process \(processID): \(error)")
            }
        }
        guard !maps.isEmpty else {
            throw SetupError(
                "process \(processID) has no RQ of Cleave, or was built without profiling")
        }
        self.maps = maps.sorted { ($0.block.number ?? .max) < ($1.block.number ?? .max) }
    }

    deinit { restore() }

    /// The RQs' profiles, those with a number first.
    public var blocks: [ProfileBlock] { maps.map(\.block) }

    /// From now on one poll in `period` is measured, unless somebody else had switched it on.
    public func measure(period: UInt32) {
        for map in maps where map.periodBefore == 0 { map.block.period.store(period) }
    }

    /// Puts the periods back as they were.
    public func restore() {
        for map in maps where map.periodBefore == 0 { map.block.period.store(0) }
    }

    /// Whether the process still runs.
    public var isAlive: Bool { kill(processID, 0) == 0 || errno == EPERM }

    /// Paths of the descriptors whose name is that of a profile.
    private static func paths(_ processID: Int32) throws(SetupError) -> [String] {
        let folder = "/proc/\(processID)/fd"
        guard processID > 0, let directory = opendir(folder) else {
            let code = errno
            if processID <= 0 || code == ENOENT {
                throw SetupError("there is no process \(processID)")
            }
            if code == EACCES {
                throw SetupError(
                    "process \(processID) is another user's: attach as that user or as root")
            }
            throw SetupError("\(folder): \(systemWords())")
        }
        defer { closedir(directory) }
        var numbers: [Int] = []
        while let entry = readdir(directory) {
            let name = withUnsafeBytes(of: entry.pointee.d_name) {
                String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
            }
            if let number = Int(name) { numbers.append(number) }
        }
        return numbers.sorted().map { "\(folder)/\($0)" }.filter(isProfile)
    }

    private static func isProfile(_ path: String) -> Bool {
        var bytes = [UInt8](repeating: 0, count: 256)
        let count = readlink(path, &bytes, bytes.count)
        let target = String(decoding: bytes[..<max(0, count)], as: UTF8.self)
        return target.hasPrefix("/memfd:\(ProfileBlock.memoryName)")
    }
}

private func systemWords() -> String { String(cString: strerror(errno)) }

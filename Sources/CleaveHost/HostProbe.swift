// Every question to the machine whose answer decides between paths goes through this value, so that
// a test can imitate a machine without huge pages, with two nodes or without NUMA calls.
import CCleaveHost
import CCleaveNuma
import Glibc

/// Questions to the machine; `live` asks the running one.
struct HostProbe: Sendable {
    /// Whole text of a file, nil when it cannot be read.
    var readText: @Sendable (_ path: String) -> String?
    /// Whether the kernel answers NUMA calls.
    var isNUMAAvailable: @Sendable () -> Bool
    /// Places a range on one node; 0 or an errno.
    var bindToNode: @Sendable (UnsafeMutableRawPointer, _ byteCount: Int, _ node: Int) -> Int32

    static let live = HostProbe(
        readText: { SystemFile.text(at: $0) },
        isNUMAAvailable: { numa_available() >= 0 },
        bindToNode: { bindStrictly($0, byteCount: $1, node: $2) })

    /// First line of a file without surrounding blanks, nil when unreadable.
    func line(_ path: String) -> String? {
        guard let text = readText(path) else { return nil }
        let first = text.split(separator: "\n", maxSplits: 1).first ?? ""
        return first.trimmed
    }

    /// First line of a file as a decimal number.
    func number(_ path: String) -> Int? { line(path).flatMap { Int($0) } }

    /// Bytes of a `Name:   123 kB` field, as in /proc/meminfo; the name may follow a prefix
    /// (`Node 0 MemFree: ...`).
    func kibibyteField(_ name: String, in path: String) -> Int? {
        guard let text = readText(path) else { return nil }
        for line in text.split(separator: "\n") {
            let words = line.split { $0 == " " || $0 == "\t" }
            guard let at = words.firstIndex(where: { $0 == "\(name):" }) else { continue }
            guard at + 1 < words.count, let value = Int(words[at + 1]) else { return nil }
            return value * 1024
        }
        return nil
    }

    private static func bindStrictly(
        _ address: UnsafeMutableRawPointer, byteCount: Int, node: Int
    ) -> Int32 {
        var mask = [UInt](repeating: 0, count: node / UInt.bitWidth + 1)
        mask[node / UInt.bitWidth] |= 1 << UInt(node % UInt.bitWidth)
        // The kernel drops the last bit of the count it is given.
        let bitCount = UInt(mask.count * UInt.bitWidth + 1)
        let result = mbind(address, UInt(byteCount), MPOL_BIND, &mask, bitCount, 0)
        return result == 0 ? 0 : cleave_errno()
    }
}

/// Small files of /proc and /sys, read and written whole.
enum SystemFile {
    /// Text of a file, nil when it cannot be opened or read.
    static func text(at path: String) -> String? {
        let fd = open(path, O_RDONLY | O_CLOEXEC)
        guard fd >= 0 else { return nil }
        defer { close(fd) }
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 16_384)
        while true {
            let count = read(fd, &chunk, chunk.count)
            if count == 0 { return String(decoding: bytes, as: UTF8.self) }
            if count < 0 {
                if cleave_errno() == EINTR { continue }
                return nil
            }
            bytes.append(contentsOf: chunk[0..<count])
        }
    }

    /// Writes `text` in one call; 0 or an errno.
    static func write(_ text: String, to path: String) -> Int32 {
        let fd = open(path, O_WRONLY | O_CLOEXEC)
        guard fd >= 0 else { return cleave_errno() }
        defer { close(fd) }
        let bytes = Array(text.utf8)
        let count = Glibc.write(fd, bytes, bytes.count)
        return count == bytes.count ? 0 : (count < 0 ? cleave_errno() : EIO)
    }
}

extension StringProtocol {
    /// Without blanks, tabs, line ends and NUL bytes at either end.
    var trimmed: String {
        let blank: (Character) -> Bool = { $0.isWhitespace || $0 == "\0" }
        var rest = self[...]
        while let first = rest.first, blank(first) { rest.removeFirst() }
        while let last = rest.last, blank(last) { rest.removeLast() }
        return String(rest)
    }
}

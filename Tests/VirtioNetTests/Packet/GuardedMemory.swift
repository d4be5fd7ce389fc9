// Memory whose last byte is followed by a page that must not be touched: a read past a frame at its
// end kills the test process.
import Glibc

final class GuardedMemory {
    private let base: UnsafeMutableRawPointer
    private let mappedByteCount: Int
    /// One past the last byte that may be touched.
    let end: UnsafeMutableRawPointer
    /// Bytes that may be touched.
    let byteCount: Int

    init(byteCount: Int) {
        let page = Int(sysconf(Int32(_SC_PAGESIZE)))
        self.byteCount = (byteCount + page - 1) / page * page
        mappedByteCount = self.byteCount + page
        guard
            let base = mmap(
                nil, mappedByteCount, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
            base != MAP_FAILED
        else { preconditionFailure("mmap of \(mappedByteCount) bytes: errno \(errno)") }
        self.base = base
        end = base + self.byteCount
        precondition(mprotect(end, page, PROT_NONE) == 0, "mprotect: errno \(errno)")
    }

    /// Whether a write to the bytes is allowed; otherwise it ends the process.
    var isWritable = true {
        didSet {
            let access = isWritable ? PROT_READ | PROT_WRITE : PROT_READ
            precondition(mprotect(base, byteCount, access) == 0, "mprotect: errno \(errno)")
        }
    }

    deinit { munmap(base, mappedByteCount) }

    /// Copies `bytes` so that the last of them lies directly before the guard page.
    func place(_ bytes: some Collection<UInt8>) -> UnsafeMutableRawPointer {
        precondition(bytes.count <= byteCount)
        let start = end - bytes.count
        UnsafeMutableRawBufferPointer(start: start, count: bytes.count).copyBytes(from: bytes)
        return start
    }
}

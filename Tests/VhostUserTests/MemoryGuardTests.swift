// What becomes of SIGBUS: each in a process of its own.
import CCleaveTestSupport
import CleaveHost
import CleaveTestSupport
import Glibc
import Testing

@testable import CleaveVhostUser

@Suite("Guards of memory")
struct MemoryGuardTests {
    private static let byteCount = 4 << 12

    /// Memory whose file has no bytes any more.
    private static func lost() -> UnsafeMutableRawPointer {
        let file = peer_sealable(UInt(byteCount))
        guard file >= 0,
            let pages = mmap(nil, byteCount, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0),
            pages != MAP_FAILED, ftruncate(file, 0) == 0
        else { exit(99) }
        return pages
    }

    private static func touch(_ pages: UnsafeMutableRawPointer) {
        pages.storeBytes(of: 1, as: UInt8.self)
    }

    private static func makeGuard(_ pages: UnsafeMutableRawPointer, _ count: Int) -> MemoryGuard {
        guard let made = try? MemoryGuard(base: pages, byteCount: count, pageByteCount: 4096)
        else { exit(98) }
        return made
    }

    @Test("A35 Memory without a guard ends the process as ever, though there are guards")
    func unguarded() async {
        await #expect(processExitsWith: .signal(SIGBUS)) {
            setenv("SWIFT_BACKTRACE", "enable=no", 1)
            let pages = Self.lost()
            let half = Self.makeGuard(pages, 2 << 12)
            Self.touch(pages)
            if !half.wasHit { exit(1) }
            Self.touch(pages + (2 << 12))
        }
    }

    @Test("A35 A guard that has ended guards nothing")
    func ended() async {
        await #expect(processExitsWith: .signal(SIGBUS)) {
            let pages = Self.lost()
            _ = Self.makeGuard(pages, Self.byteCount)
            Self.touch(pages)
        }
    }

    @Test("A35 A handler from before is passed what is not guarded")
    func chained() async {
        await #expect(processExitsWith: .exitCode(42)) {
            signal(SIGBUS) { _ in _exit(42) }
            let pages = Self.lost()
            let first = Self.makeGuard(pages, 1 << 12)
            Self.touch(pages)
            if !first.wasHit { exit(1) }
            Self.touch(pages + (1 << 12))
        }
    }

    @Test("A35 Every page of a large range can be lost, from the end to the start")
    func all() async {
        await #expect(processExitsWith: .success) {
            let pages = Self.lost()
            let whole = Self.makeGuard(pages, Self.byteCount)
            for page in (0..<4).reversed() { Self.touch(pages + (page << 12)) }
            exit(whole.wasHit ? 0 : 1)
        }
    }
}

import CCleaveHost

/// Mapped memory whose file belongs to another process, which may cut it short: touching what was
/// cut off raises SIGBUS. Under a guard the process goes on with zeros in place of what is lost,
/// and finds out by `wasHit`.
///
/// Zeros replace the page that was touched and all after it in the range. They are private: what
/// is written there reaches nobody, so whoever shared the memory should be given up.
///
/// The first guard of the process installs a handler of SIGBUS, which passes everything else on to
/// the handler before it. A handler that is installed later, and does not pass on, disables it.
public final class MemoryGuard: Sendable {
    private let index: Int32

    /// - Parameters:
    ///   - base: the first mapped byte, at the start of a page.
    ///   - byteCount: whole pages. The range must stay mapped as long as the guard lives, and no
    ///     thread may touch it when the guard ends.
    ///   - pageByteCount: of a page of the file, a power of two.
    /// - Throws: if the process has too many guards, or no handler can be installed.
    public init(
        base: UnsafeMutableRawPointer, byteCount: Int, pageByteCount: Int
    ) throws(HostError) {
        let installed = cleave_guard_install()
        if installed < 0 {
            throw HostError("SIGBUS", code: -installed, "cannot install a handler")
        }
        index = cleave_guard_add(base, byteCount, pageByteCount)
        if index < 0 {
            throw HostError(
                "memory guard", code: -index, "cannot guard \(byteCount) more bytes")
        }
    }

    deinit { if index >= 0 { cleave_guard_remove(index) } }

    /// Whether a lost page was touched. From any thread.
    public var wasHit: Bool { cleave_guard_was_hit(index) != 0 }
}

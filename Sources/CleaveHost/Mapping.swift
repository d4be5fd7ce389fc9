import CCleaveHost
import Glibc

/// Mapped, pre-faulted memory between two guard pages, unmapped (and its memfd closed) once.
///
///     | guard | ... padding ... | base: byteCount bytes, aligned | padding ... | guard |
///
/// The whole range is reserved without access first. An overrun traps, and no neighbour merges
/// with the mapping, so what the kernel reports about it is about it alone.
struct Mapping: ~Copyable {
    let base: UnsafeMutableRawPointer
    let byteCount: Int
    let kind: PageKind
    /// The memfd of a shared mapping.
    let fileDescriptor: Int32?
    private let reservation: UnsafeMutableRawPointer
    private let reservedByteCount: Int

    /// Maps zeroed memory of `kind` and faults in every page.
    /// - Parameters:
    ///   - byteCount: a whole number of the kind's granularity.
    ///   - name: of the memfd; nil for private memory.
    ///   - isBound: whether `prepare` binds it to a node.
    ///   - prepare: runs on the mapped range before it is populated.
    init(
        byteCount: Int, kind: PageKind, sharedAs name: String?, isBound: Bool,
        prepare: (UnsafeMutableRawPointer) throws(HostError) -> Void
    ) throws(HostError) {
        let descriptor = try Self.openMemory(name, byteCount: byteCount, kind: kind)
        var place = Reservation(start: nil, byteCount: 0, base: nil)
        do throws(HostError) {
            place = try Self.map(byteCount: byteCount, kind: kind, descriptor: descriptor)
            try prepare(place.base!)
            try Self.populate(place.base!, byteCount: byteCount, kind: kind, isBound: isBound)
        } catch {
            if let start = place.start { munmap(start, place.byteCount) }
            if let descriptor { close(descriptor) }
            throw error
        }
        base = place.base!
        self.byteCount = byteCount
        self.kind = kind
        fileDescriptor = descriptor
        reservation = place.start!
        reservedByteCount = place.byteCount
    }

    deinit {
        munmap(reservation, reservedByteCount)
        if let fileDescriptor { close(fileDescriptor) }
    }

    private struct Reservation {
        var start: UnsafeMutableRawPointer?
        var byteCount: Int
        var base: UnsafeMutableRawPointer?
    }

    private static func openMemory(
        _ name: String?, byteCount: Int, kind: PageKind
    ) throws(HostError) -> Int32? {
        guard let name else { return nil }
        let result = cleave_memfd(name, byteCount, kind.pageShift)
        if result >= 0 { return result }
        throw HostError(
            "memfd_create", code: -result, "cannot make \(byteCount) bytes of \(kind.words)")
    }

    private static func map(
        byteCount: Int, kind: PageKind, descriptor: Int32?
    ) throws(HostError) -> Reservation {
        let guardByteCount = PageKind.basePageByteCount
        let reservedByteCount = byteCount + kind.granularity + 2 * guardByteCount
        var result: Int32 = 0
        // Another thread's mapping may take the gap while it is open: try again.
        for _ in 0..<8 {
            guard let start = cleave_reserve(reservedByteCount) else {
                throw HostError(
                    "mmap", code: cleave_errno(), "no address space for \(byteCount) bytes")
            }
            let base = (start + guardByteCount).alignedUp(toMultipleOf: kind.granularity)
            munmap(base, byteCount)
            result = cleave_map_at(base, byteCount, descriptor ?? -1, kind.pageShift)
            if result == 0 {
                return Reservation(start: start, byteCount: reservedByteCount, base: base)
            }
            munmap(start, base - start)
            let end = base + byteCount
            munmap(end, reservedByteCount - (end - start))
            if result != -EEXIST { break }
        }
        throw HostError("mmap", code: -result, "cannot map \(byteCount) bytes of \(kind.words)")
    }

    private static func populate(
        _ base: UnsafeMutableRawPointer, byteCount: Int, kind: PageKind, isBound: Bool
    ) throws(HostError) {
        let result = cleave_populate(base, byteCount)
        if result == 0 { return }
        // Before Linux 5.14 the pages are touched instead. mmap has reserved huge pages, but not on
        // one node: a bound mapping that lacked some there would get a SIGBUS.
        if (result == -EINVAL || result == -ENOSYS) && !(kind.isReserved && isBound) {
            cleave_touch(base, byteCount, kind.pageByteCount)
            return
        }
        throw HostError(
            "madvise", code: -result, "cannot fault in \(byteCount) bytes of \(kind.words)")
    }
}

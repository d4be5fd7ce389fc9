// Rivals come from a shared object, so that this package needs neither their headers nor
// compiler flags of their own.
import CRingBench
import Glibc

/// Loads the rivals that `Rivals/rivals.cpp` was built with, for rings of `capacity` slots.
/// - Returns: the rivals, and a sentence for each that was not installed when it was built.
func loadRivals(
    _ path: String, capacity: UInt32
) throws(Failure) -> (rivals: [ring_contender], absent: String) {
    typealias List =
        @convention(c) (UInt32, UnsafeMutablePointer<UInt32>) -> UnsafePointer<ring_contender>?
    typealias Absent = @convention(c) () -> UnsafePointer<CChar>?
    guard let library = dlopen(path, RTLD_NOW | RTLD_LOCAL) else {
        throw Failure("cannot load rivals: \(dlerror().map { String(cString: $0) } ?? path)")
    }
    guard let list = dlsym(library, "ring_bench_rivals"),
        let absent = dlsym(library, "ring_bench_absent")
    else { throw Failure("\(path) is not a library of rivals") }
    // SAFETY: both symbols are declared with exactly these types in Rivals/rivals.cpp, and the
    // library stays loaded until the process ends.
    var count: UInt32 = 0
    let first = unsafeBitCast(list, to: List.self)(capacity, &count)
    let text = unsafeBitCast(absent, to: Absent.self)()
    return (
        Array(UnsafeBufferPointer(start: first, count: Int(count))),
        text.map { String(cString: $0) } ?? ""
    )
}

/// What went wrong, in one line.
struct Failure: Error, CustomStringConvertible {
    let description: String
    init(_ description: String) { self.description = description }
}

// Runs libFuzzer over one case:
//
//   fuzz CASE [LIBFUZZER OPTION...] [CORPUS...]
//
// `make fuzz` builds it with CLEAVE_FUZZ: then `main` is libFuzzer's, which calls the functions
// below by their names in C. In every other build the program only says so.
import CleaveFuzz
import Glibc

#if CLEAVE_FUZZ
/// Of the command line.
// SAFETY: libFuzzer has one thread, which sets it once, before the first input.
nonisolated(unsafe) private var chosen: FuzzCase?

/// Takes the case out of the command line.
@c(LLVMFuzzerInitialize)
public func initialize(
    _ count: UnsafeMutablePointer<Int32>,
    _ arguments: UnsafeMutablePointer<UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>>
) -> Int32 {
    if count.pointee > 1, let word = arguments.pointee[1] {
        chosen = FuzzCase(rawValue: String(cString: word))
    }
    guard chosen != nil else {
        let names = FuzzCase.allCases.map(\.rawValue).joined(separator: ", ")
        say("usage: fuzz CASE [LIBFUZZER OPTION...] [CORPUS...]; cases: \(names)")
        exit(2)
    }
    arguments.pointee[1] = arguments.pointee[0]
    arguments.pointee += 1
    count.pointee -= 1
    return 0
}

/// Runs the case; ends the process, for libFuzzer to see, if something does not hold.
@c(LLVMFuzzerTestOneInput)
public func testOneInput(_ bytes: UnsafePointer<UInt8>?, _ byteCount: Int) -> Int32 {
    do {
        _ = try chosen?.run(Array(UnsafeBufferPointer(start: bytes, count: byteCount)))
    } catch {
        say("violated: \(error)")
        abort()
    }
    return 0
}
#else
@main
enum FuzzProgram {
    static func main() {
        say("this build has no libFuzzer: make fuzz")
        exit(2)
    }
}
#endif

/// Writes a line to standard error.
private func say(_ words: String) {
    _ = (words + "\n").withCString { write(2, $0, strlen($0)) }
}

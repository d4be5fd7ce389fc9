// DPDK comes from a shared object, so that this package needs neither its headers nor compiler
// flags of its own.
import CParserBench
import Glibc

/// `rte_net_get_ptype`.
struct Rival {
    let version: String
    let describe: parser_bench_describe
    let forget: parser_bench_forget
    let parse: parser_bench_parse

    /// Loads what `Rivals/parser.c` was built to.
    init(_ path: String) throws(Failure) {
        guard let library = dlopen(path, RTLD_NOW | RTLD_LOCAL) else {
            throw Failure("cannot load DPDK: \(dlerror().map { String(cString: $0) } ?? path)")
        }
        func find(_ name: String) throws(Failure) -> UnsafeMutableRawPointer {
            guard let symbol = dlsym(library, "parser_rival_\(name)") else {
                throw Failure("\(path) is not a library with DPDK's parser")
            }
            return symbol
        }
        // SAFETY: the symbols have exactly these types in Rivals/parser.c, and the library stays
        // loaded until the process ends.
        let text = unsafeBitCast(try find("version"), to: parser_bench_version.self)()
        version = text.map { String(cString: $0) } ?? "DPDK"
        // SAFETY: as above.
        describe = unsafeBitCast(try find("describe"), to: parser_bench_describe.self)
        // SAFETY: as above.
        forget = unsafeBitCast(try find("forget"), to: parser_bench_forget.self)
        // SAFETY: as above.
        parse = unsafeBitCast(try find("parse"), to: parser_bench_parse.self)
    }
}

/// What went wrong, in one line.
struct Failure: Error, CustomStringConvertible {
    let description: String
    init(_ description: String) { self.description = description }
}

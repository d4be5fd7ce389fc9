// Other people's code comes from the shared objects that the Makefile above builds; what is not
// installed is left out.
import CParserBench
import CRingBench
import Glibc

/// Symbols of one shared object, named by an environment variable.
struct Rivals {
    private let library: UnsafeMutableRawPointer

    init?(_ variable: String) {
        guard let path = getenv(variable), let library = dlopen(path, RTLD_NOW | RTLD_LOCAL) else {
            return nil
        }
        self.library = library
    }

    func find<Function>(_ name: String, as type: Function.Type) -> Function? {
        // SAFETY: callers name the type that the symbol has in Benchmarks/Rivals.
        dlsym(library, name).map { unsafeBitCast($0, to: type) }
    }

    /// Rings with one producer and one consumer.
    static func rings(capacity: UInt32) -> [ring_contender] {
        typealias List =
            @convention(c) (UInt32, UnsafeMutablePointer<UInt32>) -> UnsafePointer<ring_contender>?
        var count: UInt32 = 0
        guard let list = Rivals("RING_RIVALS")?.find("ring_bench_rivals", as: List.self),
            let first = list(capacity, &count)
        else { return [] }
        return Array(UnsafeBufferPointer(start: first, count: Int(count)))
    }
}

/// `rte_net_get_ptype` over frames that stay where they are.
struct ParserRival {
    private let parse: parser_bench_parse
    private let packets: UnsafeMutableRawPointer

    init?(_ frames: [UnsafeRawPointer], byteCounts: [UInt32]) {
        guard let rivals = Rivals("PARSER_RIVALS"),
            let describe = rivals.find("parser_rival_describe", as: parser_bench_describe.self),
            let parse = rivals.find("parser_rival_parse", as: parser_bench_parse.self),
            let packets = describe(frames.map { $0 }, byteCounts, UInt32(frames.count))
        else { return nil }
        self.parse = parse
        self.packets = packets
    }

    func callAsFunction(_ first: Int, _ count: Int, _ lengths: UnsafeMutablePointer<UInt16>) {
        parse(packets, UInt32(first), UInt32(count), lengths)
    }
}

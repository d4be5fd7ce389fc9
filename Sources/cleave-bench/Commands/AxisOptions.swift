import ArgumentParser
import CleaveProgramSupport

/// The axes of a case as flags. Given beside a configuration they replace its values in every
/// case; alone they make the cases.
struct AxisOptions: ParsableArguments {
    @Option(
        help: .example(
            "Where headers go: whole (nowhere else), a (first descriptor), b (first page), "
                + "c (small buffers between large ones) or d (header queue).",
            "--method whole,a,d", "list"))
    var method: [String] = []

    @Option(help: .example("Ring format: split, packed.", "--ring split,packed", "list"))
    var ring: [String] = []

    @Option(
        help: .example(
            "Data buffers: mergeable, chained or single.", "--buffers mergeable,chained", "list"))
    var buffers: [String] = []

    @Option(
        help: .example(
            "How a header slot is reported (method d): usedLength or netHeader.",
            "--report usedLength,netHeader", "list"))
    var report: [String] = []

    @Option(
        help: .example(
            "Traffic: a size, imix, mixed, SIZE/KIND, or a pcap or pcapng file.",
            "--packet 64,1500/tcp6+vlan,imix,capture.pcap", "list"))
    var packet: [String] = []

    @Option(
        help: .example(
            "Descriptors of an RQ's virtqueue; a power of two if it is split.",
            "--ring-size 256,1024", "list"))
    var ringSize: [String] = []

    @Option(help: .example("Most packets of one poll.", "--burst 8,32,64", "list"))
    var burst: [String] = []

    @Option(help: .example("Receive queues.", "--rqs 1,2 --mode threads", "list"))
    var rqs: [String] = []

    @Option(
        help: .example(
            "Bytes of a header slot, a power of two from 64 to 1024.",
            "--slot-size 128,256", "list"))
    var slotSize: [String] = []

    @Option(help: .example("Slots of a header queue, a power of two.", "--slots 256,1k", "list"))
    var slots: [String] = []

    @Option(
        help: .example("Bytes of a data buffer, a multiple of 64.", "--buffer-size 2k,4k", "list"))
    var bufferSize: [String] = []

    @Option(
        help: .example(
            "Bytes of the buffers meant for headers (methods a and c), a multiple of 64.",
            "--header-buffer 128,256", "list"))
    var headerBuffer: [String] = []

    @Option(
        defaultAsFlag: "true",
        help: .init("false,true: another spelling of --sharing all,private.", visibility: .hidden))
    var privateHeaderQueues: String?

    @Option(
        help: .example(
            "RQs that share a header queue: all, node, private, or groups as in 0-1/2-3.",
            "--sharing all,node,private", "list"))
    var sharing: [String] = []

    @Option(
        help: .example(
            "How slots go back (method d): tail (in order), ring (out of order, by one ring) or "
                + "groups (by a ring of each RQ). Default: groups where RQs share, or tail.",
            "--slot-return tail,groups", "list"))
    var slotReturn: [String] = []

    @Option(
        help: .example(
            "Percent of the other RQs' flows that go to RQ 0 as well.", "--imbalance 0,50", "list"))
    var imbalance: [String] = []

    @Option(
        defaultAsFlag: "true",
        help: .example(
            "IN_ORDER: buffers come back in the order in which they were posted.",
            "--in-order false,true", "list"))
    var inOrder: String?

    @Option(
        defaultAsFlag: "true",
        help: .example(
            "Report RSS hashes: a virtio-net header of 20 bytes.",
            "--hash-report false,true", "list"))
    var hashReport: String?

    @Option(
        help: .example(
            "Packets up to this many bytes are not split; 0 splits all.",
            "--split-threshold 0,256", "list"))
    var splitThreshold: [String] = []

    @Option(
        defaultAsFlag: "true",
        help: .example(
            "Packets that fit a header slot go there entirely (method d).",
            "--tiny false,true", "list"))
    var tiny: String?

    @Option(
        defaultAsFlag: "true",
        help: .example(
            "Zero a slot after the headers, to the end of a cache line (method d).",
            "--zero-pad false,true", "list"))
    var zeroPad: String?

    @Option(
        defaultAsFlag: "true",
        help: .example(
            "A descriptor of its own for what precedes payload (report netHeader).",
            "--align-payload false,true", "list"))
    var alignPayload: String?

    @Option(
        help: .example(
            "What the application does with payload: none, copy or take.",
            "--consumer none,copy,take", "list"))
    var consumer: [String] = []

    @Option(
        defaultAsFlag: "true",
        help: .example(
            "The application reads every byte of payload, of its copy or in place.",
            "--reads false,true", "list"))
    var reads: String?

    /// The values of every axis that was given.
    func values() throws(Failure) -> [Axis: [String]] {
        var values: [Axis: [String]] = [:]
        for axis in Axis.allCases {
            for text in given(axis) {
                values[axis, default: []] += try Self.parts(of: text, flag: axis.rawValue)
            }
        }
        let older = Axis.privateHeaderQueues
        for text in Self.list(privateHeaderQueues) {
            for part in try Self.parts(of: text, flag: older) {
                do {
                    let value = try Axis.sharing(ofPrivate: SettingValue(text: part))
                    values[.sharing, default: []].append(value.text)
                } catch { throw .usage("--\(older): \(error.problem)") }
            }
        }
        return values
    }

    private static func parts(of text: String, flag: String) throws(Failure) -> [String] {
        let parts = text.split(separator: ",", omittingEmptySubsequences: false)
        guard !parts.contains("") else {
            throw .usage("--\(flag): a value is missing in \"\(text)\"")
        }
        return parts.map(String.init)
    }

    /// The text after an axis's flag. A switch, so that no axis can be forgotten.
    private func given(_ axis: Axis) -> [String] {
        switch axis {
        case .packet: packet
        case .method: method
        case .report: report
        case .ring: ring
        case .buffers: buffers
        case .ringSize: ringSize
        case .burst: burst
        case .rqs: rqs
        case .slotSize: slotSize
        case .slots: slots
        case .bufferSize: bufferSize
        case .headerBuffer: headerBuffer
        case .inOrder: Self.list(inOrder)
        case .sharing: sharing
        case .imbalance: imbalance
        case .slotReturn: slotReturn
        case .hashReport: Self.list(hashReport)
        case .splitThreshold: splitThreshold
        case .tiny: Self.list(tiny)
        case .zeroPad: Self.list(zeroPad)
        case .alignPayload: Self.list(alignPayload)
        case .consumer: consumer
        case .reads: Self.list(reads)
        }
    }

    private static func list(_ text: String?) -> [String] { text.map { [$0] } ?? [] }
}

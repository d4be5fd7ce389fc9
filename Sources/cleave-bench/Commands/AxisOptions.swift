import ArgumentParser

/// The axes of a case as flags. Given beside a configuration they replace its values in every
/// case; alone they make the cases.
struct AxisOptions: ParsableArguments {
    @Option(
        help: .init(
            "Where headers go: whole (nowhere else), a (first descriptor), b (first page), "
                + "c (small buffers in turn) or d (header queue).",
            discussion: "Example: --method whole,a,d", valueName: "list"))
    var method: [String] = []

    @Option(
        help: .init(
            "Ring format: split, packed.", discussion: "Example: --ring split,packed",
            valueName: "list"))
    var ring: [String] = []

    @Option(
        help: .init(
            "Data buffers: mergeable, chained or single.",
            discussion: "Example: --buffers mergeable,chained", valueName: "list"))
    var buffers: [String] = []

    @Option(
        help: .init(
            "How a header slot is reported (method d): usedElement or netHeader.",
            discussion: "Example: --report usedElement,netHeader", valueName: "list"))
    var report: [String] = []

    @Option(
        help: .init(
            "Traffic: a size, imix, mixed, SIZE/KIND, or a pcap or pcapng file.",
            discussion: "Example: --packet 64,1500/tcp6+vlan,imix,capture.pcap",
            valueName: "list"))
    var packet: [String] = []

    @Option(
        help: .init(
            "Descriptors of an RQ's virtqueue; a power of two if it is split.",
            discussion: "Example: --ring-size 256,1024", valueName: "list"))
    var ringSize: [String] = []

    @Option(
        help: .init(
            "Most packets of one turn.", discussion: "Example: --burst 8,32,64",
            valueName: "list"))
    var burst: [String] = []

    @Option(
        help: .init(
            "Receive queues.", discussion: "Example: --rqs 1,2 --mode threads",
            valueName: "list"))
    var rqs: [String] = []

    @Option(
        help: .init(
            "Bytes of a header slot, a power of two from 64 to 1024.",
            discussion: "Example: --slot-size 128,256", valueName: "list"))
    var slotSize: [String] = []

    @Option(
        help: .init(
            "Slots of a header queue, a power of two.", discussion: "Example: --slots 256,1k",
            valueName: "list"))
    var slots: [String] = []

    @Option(
        help: .init(
            "Bytes of a data buffer, a multiple of 64.",
            discussion: "Example: --buffer-size 2k,4k", valueName: "list"))
    var bufferSize: [String] = []

    @Option(
        help: .init(
            "Bytes of the buffers meant for headers (methods a and c), a multiple of 64.",
            discussion: "Example: --header-buffer 128,256", valueName: "list"))
    var headerBuffer: [String] = []

    @Option(
        defaultAsFlag: "true",
        help: .init(
            "A header queue for each RQ instead of one for all.",
            discussion: "Example: --private-header-queues false,true", valueName: "list"))
    var privateHeaderQueues: String?

    @Option(
        help: .init(
            "RQs that share a header queue: all, node, private, or groups as in 0-1/2-3.",
            discussion: "Example: --sharing all,node,private", valueName: "list"))
    var sharing: [String] = []

    @Option(
        help: .init(
            "How slots go back (method d): tail (in order) or ring (out of order).",
            discussion: "Example: --slot-return tail,ring", valueName: "list"))
    var slotReturn: [String] = []

    @Option(
        help: .init(
            "Percent of the other RQs' flows that go to RQ 0 as well.",
            discussion: "Example: --imbalance 0,50", valueName: "list"))
    var imbalance: [String] = []

    @Option(
        defaultAsFlag: "true",
        help: .init(
            "IN_ORDER: one used entry may stand for several full buffers.",
            discussion: "Example: --in-order false,true", valueName: "list"))
    var inOrder: String?

    @Option(
        defaultAsFlag: "true",
        help: .init(
            "Report RSS hashes: a virtio-net header of 20 bytes.",
            discussion: "Example: --hash-report false,true", valueName: "list"))
    var hashReport: String?

    @Option(
        help: .init(
            "Packets up to this many bytes are not split; 0 splits all.",
            discussion: "Example: --split-threshold 0,256", valueName: "list"))
    var splitThreshold: [String] = []

    @Option(
        defaultAsFlag: "true",
        help: .init(
            "Packets that fit a header slot go there entirely (method d).",
            discussion: "Example: --tiny false,true", valueName: "list"))
    var tiny: String?

    @Option(
        defaultAsFlag: "true",
        help: .init(
            "Zero a slot behind the headers, to the end of a cache line (method d).",
            discussion: "Example: --zero-pad false,true", valueName: "list"))
    var zeroPad: String?

    @Option(
        defaultAsFlag: "true",
        help: .init(
            "A descriptor of its own for what precedes payload (report netHeader).",
            discussion: "Example: --align-payload false,true", valueName: "list"))
    var alignPayload: String?

    @Option(
        help: .init(
            "What the application does with payload: none, copy or take.",
            discussion: "Example: --consumer none,copy,take", valueName: "list"))
    var consumer: [String] = []

    @Option(
        defaultAsFlag: "true",
        help: .init(
            "The application reads every byte of payload, of its copy or in place.",
            discussion: "Example: --reads false,true", valueName: "list"))
    var reads: String?

    /// The values of every axis that was given.
    func values() throws(Failure) -> [Axis: [String]] {
        let given: [Axis: [String]] = [
            .packet: packet, .method: method, .report: report, .ring: ring, .buffers: buffers,
            .ringSize: ringSize, .burst: burst, .rqs: rqs, .slotSize: slotSize, .slots: slots,
            .bufferSize: bufferSize, .headerBuffer: headerBuffer,
            .privateHeaderQueues: privateHeaderQueues.map { [$0] } ?? [],
            .inOrder: inOrder.map { [$0] } ?? [],
            .sharing: sharing, .imbalance: imbalance, .slotReturn: slotReturn,
            .hashReport: hashReport.map { [$0] } ?? [],
            .splitThreshold: splitThreshold, .tiny: tiny.map { [$0] } ?? [],
            .alignPayload: alignPayload.map { [$0] } ?? [],
            .zeroPad: zeroPad.map { [$0] } ?? [], .consumer: consumer,
            .reads: reads.map { [$0] } ?? [],
        ]
        var values: [Axis: [String]] = [:]
        for axis in Axis.allCases {
            for text in given[axis] ?? [] {
                for part in text.split(separator: ",", omittingEmptySubsequences: false) {
                    guard !part.isEmpty else {
                        throw .usage("--\(axis.rawValue): a value is missing in \"\(text)\"")
                    }
                    values[axis, default: []].append(String(part))
                }
            }
        }
        return values
    }
}

import ArgumentParser

/// How often, with how many packets, and where: what every command that measures understands.
struct MeasureOptions: ParsableArguments {
    @Option(
        help: .init(
            "Timed passes of each case; median, min and max are over them.",
            discussion: "Example: --repeats 21", valueName: "count"))
    var repeats: String?

    @Option(
        help: .init(
            "Packets of a timed pass (default: about 50 ms worth); k and M are 1000 and 1000000.",
            discussion: "Example: --packets 2M", valueName: "count"))
    var packets: String?

    @Option(
        help: .init(
            "Different packets that generated traffic repeats; fewer stay in a smaller cache.",
            discussion: "Example: --source-packets 4096", valueName: "count"))
    var sourcePackets: String?

    @Option(
        help: .init(
            "Packets of each case compared byte for byte before timing; every source packet is.",
            discussion: "Example: --verify-packets 100k", valueName: "count"))
    var verifyPackets: String?

    @Option(
        help: .init(
            "Flows in generated traffic, spread over the RQs.",
            discussion: "Example: --flows 256", valueName: "count"))
    var flows: String?

    @Option(
        help: .init(
            "CPUs to use, the first for port and driver (default: all that are allowed).",
            discussion: "Example: --cpus 2-5,8", valueName: "list"))
    var cpus: String?

    @Option(
        help: .init(
            "CPUs of the RQs' threads, RQ 0's first (default: those of --cpus behind the first).",
            discussion: "Example: --rq-cpus 3,1", valueName: "list"))
    var rqCpus: String?

    @Option(
        defaultAsFlag: "true",
        help: .init(
            "Let RQs share CPUs when there are more of them; a warning goes with it.",
            discussion: "Example: --oversubscribe --mode threads --rqs 8", valueName: "bool"))
    var oversubscribe: String?

    @Option(
        help: .init(
            "What an RQ's thread does without packets: busy, pause or park.",
            discussion: "Example: --idle park", valueName: "busy|pause|park"))
    var idle: String?

    @Option(
        help: .init(
            "Empty turns after which a thread sleeps (--idle park).",
            discussion: "Example: --park-after 1k", valueName: "count"))
    var parkAfter: String?

    @Option(
        help: .init(
            "Longest sleep of a thread in microseconds (--idle park).",
            discussion: "Example: --wake-latency 200", valueName: "count"))
    var wakeLatency: String?

    @Option(
        help: .init(
            "Entries of the RSS indirection table, a power of two.",
            discussion: "Example: --indirection-size 256", valueName: "count"))
    var indirectionSize: String?

    @Option(
        help: .init(
            "NUMA node of all memory (default: that of the CPU that works on it).",
            discussion: "Example: --node 0", valueName: "number"))
    var node: String?

    @Flag(
        help: .init(
            "Fewer and shorter passes: \(PlanBuilder.quick.repeats) of "
                + "\(PlanBuilder.quick.packets) packets, unless said otherwise."))
    var quick = false

    /// A request of these settings alone.
    func request() -> PlanRequest {
        var request = PlanRequest(isQuick: quick)
        let settings: [(Setting, String?)] = [
            (.repeats, repeats), (.packets, packets), (.sourcePackets, sourcePackets),
            (.verifyPackets, verifyPackets), (.flows, flows), (.cpus, cpus), (.node, node),
            (.rqCPUs, rqCpus), (.oversubscribe, oversubscribe), (.idle, idle),
            (.parkAfter, parkAfter), (.wakeLatency, wakeLatency),
            (.indirectionSize, indirectionSize),
        ]
        request.settings = settings.compactMap { setting, value in
            value.map { (setting, $0) }
        }
        return request
    }
}

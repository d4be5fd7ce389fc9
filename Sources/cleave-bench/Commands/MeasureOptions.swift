import ArgumentParser
import CleaveProgramSupport

/// How often, with how many packets, and where: the options of every command that measures.
struct MeasureOptions: ParsableArguments {
    @Option(
        help: .example(
            "Timed passes of each case; median, min and max are over them.",
            "--repeats 21", "count"))
    var repeats: String?

    @Option(
        help: .example(
            "Packets of a timed pass (default: about 50 ms worth); k and M are 1000 and 1000000.",
            "--packets 2M", "count"))
    var packets: String?

    @Option(
        help: .example(
            "Different packets that generated traffic repeats; fewer stay in a smaller cache.",
            "--source-packets 4096", "count"))
    var sourcePackets: String?

    @Option(
        help: .example(
            "Packets of each case compared byte for byte before timing; every source packet is.",
            "--verify-packets 100k", "count"))
    var verifyPackets: String?

    @Option(
        help: .example("Flows in generated traffic, spread over the RQs.", "--flows 256", "count"))
    var flows: String?

    @Option(
        help: .example(
            "CPUs to use, the first for port and driver (default: all that are allowed).",
            "--cpus 2-5,8", "list"))
    var cpus: String?

    @Option(
        help: .example(
            "CPUs of the RQs' threads, RQ 0's first (default: those of --cpus after the first).",
            "--rq-cpus 3,1", "list"))
    var rqCpus: String?

    @Option(
        defaultAsFlag: "true",
        help: .example(
            "Let RQs share CPUs when there are more of them; a warning goes with it.",
            "--oversubscribe --mode threads --rqs 8", "bool"))
    var oversubscribe: String?

    @Option(
        help: .example(
            "What an RQ's thread does without packets: busy, pause or park.",
            "--idle park", "busy|pause|park"))
    var idle: String?

    @Option(
        help: .example(
            "Empty polls after which a thread sleeps (--idle park).", "--park-after 1k", "count"))
    var parkAfter: String?

    @Option(
        help: .example(
            "Longest sleep of a thread in microseconds (--idle park).",
            "--wake-latency 200", "count"))
    var wakeLatency: String?

    @Option(
        help: .example(
            "Entries of the RSS indirection table, a power of two.",
            "--indirection-size 256", "count"))
    var indirectionSize: String?

    @Option(
        defaultAsFlag: "true",
        help: .example(
            "Run a busy thread beside the benchmark's own on each CPU that it uses, as on a host "
                + "whose guests are preempted.", "--preempt --mode cores", "bool"))
    var preempt: String?

    @Option(
        help: .example(
            "NUMA node of all memory (default: that of the CPU that works on it).",
            "--node 0", "number"))
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
            (.indirectionSize, indirectionSize), (.preempt, preempt),
        ]
        request.settings = settings.compactMap { setting, value in
            value.map { (setting, $0) }
        }
        return request
    }
}

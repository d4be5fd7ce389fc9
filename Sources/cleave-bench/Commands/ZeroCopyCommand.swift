import ArgumentParser
import CleaveBench
import CleaveHost
import CleaveProgramSupport
import Foundation

/// Measures what it saves a receiver of TCP to map payload instead of copying it.
struct ZeroCopyCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "zerocopy",
        abstract: "Measure TCP received by mapping pages of payload against receiving by copy.",
        discussion: """
            Payload that lies alone on pages need not be copied: TCP_ZEROCOPY_RECEIVE maps it. \
            This receives the same stream by copy and by mapping, alternately, after both were \
            compared byte by byte, and sets the throughput, the receiver's CPU time and what was \
            still copied beside each other and beside the figures that the proposal of split \
            headers for virtio reported.

            --through tap (the default) joins two network namespaces of this kernel by two TAP \
            ports of cleave-vhost. Needs: cleave-vhost beside this program (make build) or \
            --program; /dev/net/tun (modprobe tun); the right to make network namespaces (root, \
            or user namespaces); ip, unshare, nsenter and setpriv (packages iproute2, util-linux). \
            All of it is gone afterwards.

            --through uml and --through qemu use guests with the Linux driver of the header \
            queue, which 'make bench-zerocopy THROUGH=uml' (or qemu) boots; it fetches what \
            it needs, and says what is missing. There only counts mean something.

            --through guests uses any two machines that run commands and have this program. \
            --receiver and --sender are what a command has to begin with to run there.

            Examples:
              zerocopy
              zerocopy --segment 1448 --json small-segments.json
              zerocopy --reads --pairs 9
              zerocopy --through guests --receiver 'ssh vm1' --sender 'ssh vm2' \
            --address 10.0.0.1
            """)

    @Option(
        help: .example(
            "What carries the packets: tap, uml, qemu or guests.", "--through tap", "path"))
    var through = ZeroCopyPath.tap.rawValue

    @Option(
        help: .example(
            "Pairs of streams: one copied, one mapped; median, min and max are over them.",
            "--pairs 9", "count"))
    var pairs: String?

    @Option(
        help: .example(
            "Bytes of a stream (default: 512M); k, M and G are powers of 1024.",
            "--bytes 2G", "count"))
    var bytes: String?

    @Option(
        help: .example(
            "What the receiver waits for and takes with one call, copied or mapped "
                + "(default: 1M).",
            "--buffer 256k", "count"))
    var buffer: String?

    @Option(
        help: .example(
            "Payload bytes of each TCP segment, by the MTU (default: 4096, a page, which Linux "
                + "maps; it copies what is less or more). For tap alone.",
            "--segment 1448", "count"))
    var segment: String?

    @Flag(help: "The receiver reads every byte that came, in the timed passes as well.")
    var reads = false

    @Flag(help: "2 pairs of 64M, unless said otherwise.")
    var quick = false

    @Option(
        help: .example(
            "The switch of --through tap (default: cleave-vhost beside this program).",
            "--program .build/debug/cleave-vhost", "path"))
    var program: String?

    @Option(
        help: .example(
            "What a command begins with to run at the receiver; not for tap.",
            "--receiver 'ssh vm1'", "words"))
    var receiver: String?

    @Option(
        help: .example(
            "What a command begins with to run at the sender; not for tap.",
            "--sender 'ssh vm2'", "words"))
    var sender: String?

    @Option(
        help: .example(
            "IPv4 address of the receiver; not for tap.", "--address 10.0.0.1", "address"))
    var address: String?

    @Option(
        help: .example(
            "This program on those machines (default: cleave-bench, by their PATH).",
            "--there /usr/local/bin/cleave-bench", "path"))
    var there: String?

    @Option(help: .example("TCP port of the receiver.", "--port 5300", "number"))
    var port: UInt16 = 5300

    @OptionGroup var output: OutputOptions

    /// The settings with which streams are measured.
    struct Plan {
        var path = ZeroCopyPath.tap
        var pairCount: Int
        var byteCount: Int
        var bufferByteCount: Int
        var segmentByteCount: Int?
    }

    func run() throws {
        let plan = try plan()
        let vhost = try plan.path == .tap ? switchProgram() : nil
        let files = try ResultFiles(["--json": output.json])
        do { try StopSignal.catchSignals() } catch { throw Failure.run(error.description) }
        var report = ZeroCopyReport(
            machine: MachineFacts.current(), path: plan.path,
            started: SystemClock.timestamp, segmentByteCount: plan.segmentByteCount,
            passByteCount: plan.byteCount, bufferByteCount: plan.bufferByteCount, reads: reads)
        report.warnings = report.machine.warnings
        let cpuCount = report.machine.cpusAllowed.cpus.count
        if plan.path != .guests && cpuCount < 3 {
            report.warnings.append(
                "\(cpuCount) CPUs for receiver, sender and switch: throughput is what all three "
                    + "reach together; CPU time is the receiver's alone.")
        }
        let network = try vhost.map { path throws(Failure) in
            try TapNetwork(program: path, segmentByteCount: plan.segmentByteCount!)
        }
        let run = ZeroCopyRun(
            ends: try ends(network), pairCount: plan.pairCount, isQuiet: output.quiet)
        // The network is gone when the last one who holds it lets go.
        do { try withExtendedLifetime(network) { try run.measure(into: &report) } } catch {
            guard let signal = StopSignal.received else { throw error }
            throw Measuring.stopped(signal, "\(error)")
        }
        Measuring.announce(report.interruption)
        try files.fill(
            { _ in ResultJSON.text(ZeroCopyDocument(report, command: ProgramRun.commandLine)) },
            table: ZeroCopyText(style: output.style, isQuiet: output.quiet).text(report))
        if let failure = Self.failure(report) { throw failure }
    }

    /// Which options were wrong, if any.
    func plan() throws(Failure) -> Plan {
        let path: ZeroCopyPath
        do { path = try SettingValue(text: through).choice() } catch {
            throw .usage("--through: \(error.problem)")
        }
        try checkEnds(path)
        let pairCount = try Self.count("--pairs", pairs, quick ? 2 : 5, in: 1...10_000)
        let byteCount = try Self.count(
            "--bytes", bytes, quick ? 64 << 20 : 512 << 20, in: 1...1 << 40)
        let page = StreamReceiver.pageByteCount
        let bufferByteCount = try Self.count("--buffer", buffer, 1 << 20, in: page...1 << 30)
        guard bufferByteCount % page == 0 else {
            throw .usage("--buffer: \(bufferByteCount) is not a multiple of a page, \(page) bytes")
        }
        if port == 0 { throw .usage("--port: 0 is no port") }
        var plan = Plan(
            path: path, pairCount: pairCount, byteCount: byteCount,
            bufferByteCount: bufferByteCount)
        if path == .tap {
            plan.segmentByteCount = try Self.count(
                "--segment", segment, 4096, in: TapNetwork.segmentByteCounts)
        }
        return plan
    }

    private func checkEnds(_ path: ZeroCopyPath) throws(Failure) {
        let given: KeyValuePairs = [
            "--receiver": receiver, "--sender": sender, "--address": address, "--there": there,
        ]
        if path == .tap {
            if let (name, _) = given.first(where: { $0.value != nil }) {
                throw .usage("\(name) is not for --through tap, which makes both ends itself")
            }
            return
        }
        if program != nil { throw .usage("--program is for --through tap alone") }
        if segment != nil {
            throw .usage(
                "--segment is for --through tap alone: the machines' MTU decides (4148 for 4096)")
        }
        for (name, value) in given where name != "--there" {
            if value?.split(separator: " ").isEmpty ?? true {
                let make =
                    path == .guests
                    ? "" : "; 'make bench-zerocopy THROUGH=\(path.rawValue)' boots the guests"
                throw .usage("--through \(path.rawValue) needs \(name)\(make)")
            }
        }
        var number = in_addr()
        if let address, inet_pton(AF_INET, address, &number) != 1 {
            throw .usage("--address: \"\(address)\" is no IPv4 address")
        }
    }

    private static func count(
        _ name: String, _ text: String?, _ standard: Int, in range: ClosedRange<Int>
    ) throws(Failure) -> Int {
        guard let text else { return standard }
        let value: Int
        do { value = try SettingValue(text: text).count(kilo: 1024) } catch {
            throw .usage("\(name): \(error.problem)")
        }
        guard range.contains(value) else {
            throw .usage(
                "\(name): \(value) is not \(range.lowerBound) to \(range.upperBound)")
        }
        return value
    }

    /// The program of `--through tap`.
    private func switchProgram() throws(Failure) -> String {
        let folder = URL(fileURLWithPath: try Self.ownPath()).deletingLastPathComponent()
        let beside = folder.appendingPathComponent("cleave-vhost").path
        // The switch is started through PATH, by which a name without a folder would be found.
        let path = program.map { URL(fileURLWithPath: $0).path } ?? beside
        guard access(path, X_OK) == 0 else {
            throw .usage(
                "there is no program \(path): build it (make build), or say --program PATH")
        }
        return path
    }

    private static func ownPath() throws(Failure) -> String {
        guard let path = DefaultConfiguration.programPath() else {
            throw .run("/proc/self/exe: \(systemWords(errno)): is /proc mounted?")
        }
        return path
    }

    private func ends(_ network: TapNetwork?) throws(Failure) -> ZeroCopyEnds {
        func words(_ text: String?) -> [String] {
            (text ?? "").split(separator: " ").map(String.init)
        }
        guard let network else {
            return ZeroCopyEnds(
                receiver: words(receiver), sender: words(sender), address: address ?? "",
                port: port, program: there ?? "cleave-bench")
        }
        return ZeroCopyEnds(
            receiver: network.receiver, sender: network.sender, address: TapNetwork.address,
            port: port, program: try Self.ownPath())
    }

    /// Why the figures are no good result, if they are none.
    static func failure(_ report: ZeroCopyReport) -> Failure? {
        if report.wrongByteCount > 0 {
            let list = report.compared.filter { $0.value.wrongBytes > 0 }.map {
                "\($0.key.rawValue): \($0.value.wrongBytes) of \($0.value.bytes) bytes"
            }
            return .run("bytes came that were not sent: \(list.sorted().joined(separator: ", "))")
        }
        return report.interruption.map { words in
            StopSignal.received.map { .stopped(signal: $0) } ?? .run(words)
        }
    }
}

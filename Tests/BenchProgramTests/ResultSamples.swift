/// Small files of each schema that `report` reads, with contents that could confuse a reader.
enum ResultSamples {
    private static let machine = """
        "machine": {"cpuModel": "Test <CPU>", "kernel": "Linux 9", "architecture": "x86_64",
          "cacheBytes": {"l1Data": 32768, "l2": null, "l3": null}, "cpusAllowed": [0, 1]},
        "command": ["cleave-bench", "run", "a b"], "warnings": ["noisy & busy"]
        """

    static func spread(_ median: Double) -> String {
        "{\"median\": \(median), \"min\": \(median / 2), \"max\": null}"
    }

    static func run(_ packet: String, _ method: String, _ cycles: Double) -> String {
        """
        {"name": "\(method) of \(packet.filter { $0 != "\"" })", "method": "\(method)",
          "report": null, "ring": "split", "rqs": 1, "packetBytes": \(packet),
          "mpps": \(spread(4)), "gbps": \(spread(40)), "deviceCyclesPerPacket": \(spread(cycles)),
          "driverCyclesPerPacket": \(spread(50)), "driverCycles": {"refill": \(spread(20)),
          "harvest": \(spread(25)), "return": \(spread(5)), "total": \(spread(50))},
          "bytesHeldPerPacket": 4096, "wastedShare": 0.5, "payloadAloneShare": 1,
          "pageAlignedShare": null, "packets": 100, "split": 99,
          "verify": {"packets": 64, "corrupt": 1, "lost": 0},
          "memory": {"headerBytes": 4096}}
        """
    }

    static var runs: String {
        [run("64", "whole", 100), run("64", "d", 9.5), run("\"imix\"", "d", 1000)]
            .joined(separator: ",\n")
    }

    static let bench = """
        {"schema": "cleave-bench/1", \(machine), "mode": "turns", "repeats": 3,
          "interrupted": null, "runs": [\(runs)]}
        """

    static let claims = """
        {"schema": "cleave-bench/1", \(machine), "mode": "turns", "repeats": 3,
          "claims": [{"id": 1, "title": "Costs little", "claimed": 5, "measured": 7.25,
            "unit": "%", "holds": false, "figures": [
              {"name": "added", "unit": "%", "bound": "atMost", "claimed": 5, "measured": 7.25,
               "holds": false},
              {"name": "beside", "unit": "", "bound": null, "claimed": null, "measured": null,
               "holds": null}]}],
          "runs": [\(runs), \(run("64", "d", 11))]}
        """

    static let scale = """
        {"schema": "cleave-bench-scale/1", \(machine), "queuePlan": null,
          "turns": [\(runs)], "cores": [], "threads": [],
          "sharing": [{"mode": "turns", "shared": "64 x2", "private": "64 x2 own", "rqs": 2,
            "burst": 32, "deviceOverheadPercent": -1.25, "claimRetriesPer100Bursts": 0.5,
            "sharedHeaderBytes": 1, "privateHeaderBytes": 2}],
          "stall": [{"slotReturn": "tail", "slots": 256, "offered": 64, "delivered": 64,
            "split": 32, "expectedSplit": 33, "splitShare": 0.5, "lost": 0},
            {"slotReturn": "ring", "slots": 256, "offered": 64, "delivered": 64, "split": 64,
             "expectedSplit": 64, "splitShare": 1, "lost": 0}]}
        """

    static let profile = """
        {"schema": "cleave-profile/1", \(machine), "processID": 7, "stages": [],
          "runs": [{"name": "64 whole", "packets": 1000, "costliest": "parse",
            "turnCyclesPerPacket": \(spread(30)), "stages": [
              {"name": "pull", "cyclesPerPacket": \(spread(10))},
              {"name": "parse", "cyclesPerPacket": \(spread(20)), "cyclesPerBurst": 640,
               "perPacket": {"median": 20, "p99": 31.5, "max": 90}, "bytesRead": 64,
               "bytesWritten": 0}]}]}
        """

    /// - Parameter packets: a key that older files lack.
    private static func dpdkRun(_ method: String, warm: Bool, packets: String? = nil) -> String {
        """
        {"op": "enqueue", "ring": "split", "buffers": "mergeable", "method": "\(method)",
          \(packets.map { "\"packets\": \"\($0)\"," } ?? "")
          "packetBytes": 64, "ringSize": 256, "warm": \(warm), "cleave": \(spread(33)),
          "dpdk": \(spread(76)), "ratio": 0.43, "ratioFromMbufs": 0.5}
        """
    }

    /// - Parameter origin: command and machine, which older files lack.
    static func dpdk(origin: String = "") -> String {
        """
        {"schema": "cleave-dpdk/1", \(origin) "unit": "cycles", "burst": 32,
          "facts": {"versions": "DPDK 1, libcleave 2", "cpu": 1, "repeats": 15},
          "runs": [\(dpdkRun("whole", warm: true)), \(dpdkRun("d", warm: true)),
            \(dpdkRun("whole", warm: true, packets: "checksum")),
            \(dpdkRun("whole", warm: false, packets: "plain"))],
          "bars": [{"name": "enqueue", "limit": 0.4, "ratio": 0.43}, {"name": "other",
            "limit": 1}],
          "abi": {"swift": \(spread(860)), "c": \(spread(990)), "difference": 130},
          "threads": [{"ring": "split", "packetBytes": 64, "ringSize": 256,
            "cleave": \(spread(12)), "dpdk": \(spread(10)), "ratio": 1.2}]}
        """
    }

    static let ring = """
        {"schema": "cleave-ring-bench/1", "command": "ring-bench --repeats 9",
          "machine": {"cpuModel": "Other", "kernel": "Linux 8"}, "unit": "million per second",
          "elementBytes": 16, "capacity": 1024, "producerCPU": 0, "consumerCPU": 1, "repeats": 9,
          "results": [{"ring": "Cleave, in place", "burst": 1, "median": 55.5, "min": 50,
            "max": 60}, {"ring": "rte_ring", "burst": 32, "median": 320, "min": 1, "max": 2}]}
        """

    /// The second mix without a rival.
    static let parser = """
        {"schema": "cleave-parser-bench/1", "command": "parser-bench --cpu 1",
          "machine": {"cpuModel": "Other", "kernel": "Linux 8"}, "unit": "TSC cycles per packet",
          "dpdk": "DPDK 3", "cpu": 1, "frames": 1024, "passes": 2001, "results": [
          {"mix": "tags", "order": "inOrder", "cleave": \(spread(9)), "dpdk": \(spread(20)),
            "ratio": 0.45},
          {"mix": "all", "order": "random", "cleave": \(spread(21))}]}
        """

    /// Nanoseconds of a load, the median of p50 given.
    private static func percentiles(_ median: Double) -> String {
        let names = ["p50", "p90", "p99", "p999", "max"]
        return "{"
            + names.enumerated().map { "\"\($1)\": \(spread(median * Double(1 << $0)))" }
            .joined(separator: ", ") + "}"
    }

    private static func latencyRun(_ name: String, _ method: String, _ median: Double) -> String {
        """
        {"name": "\(name)", "method": "\(method)", "report": null, "ring": "split",
          "buffers": "mergeable", "ringSize": 256, "burst": 32, "rqs": 2, "sharing": "all",
          "slotReturn": "groups", "slotSize": 128, "slots": 512, "bufferBytes": 4096,
          "packetBytes": 64, "consumer": "none", "losslessMpps": 4.5,
          "trials": [{"packetsPerSecond": 4500000, "isLossless": true}], "packets": 1000,
          "split": 990, "fallback": {"noSlot": 10}, "dropped": {},
          "noSlot": {"packets": 10, "of": 1000, "tries": ["--slots <more>"]},
          "verify": {"packets": 64, "corrupt": 0, "lost": 0}, "notes": [],
          "loads": [{"loadPercent": 50, "offeredMpps": 2.25, "mpps": \(spread(2.2)),
            "packets": 1000, "dropped": 0, "unsent": 1, "response": \(percentiles(median)),
            "service": \(percentiles(median / 2)),
            "responseDistribution": [{"percentile": 50, "nanoseconds": \(median)},
              {"percentile": 99.9, "nanoseconds": \(median * 8)},
              {"percentile": 100, "nanoseconds": \(median * 16)}],
            "serviceDistribution": [], "passes": []}]}
        """
    }

    static let latency = """
        {"schema": "cleave-bench-latency/1", \(machine), "mode": "threads", "repeats": 3,
          "preemptedCPUs": [0, 1], "queuePlan": null, "interrupted": null, "arrivals": "fixed",
          "passMilliseconds": 100, "tolerancePercent": 2,
          "measuring": {"clockNanoseconds": 9, "bookkeepingNanoseconds": 12.5},
          "runs": [\(latencyRun("64 whole", "whole", 900)), \(latencyRun("64 d shared", "d", 1100)),
            \(latencyRun("64 d private", "d", 1000))]}
        """

    private static func receipt(mapped: Int, seconds: Double) -> String {
        """
        {"bytes": 8192000, "mappedBytes": \(mapped), "mappedPages": \(mapped / 4096), "calls": 9,
          "seconds": \(seconds), "cpuSeconds": \(seconds / 4), "wrongBytes": 0}
        """
    }

    static let zeroCopy = """
        {"schema": "cleave-zerocopy/1", \(machine), "started": "2026-01-02T03:04:05Z",
          "through": "uml", "segmentBytes": 4096, "passBytes": 8192000, "bufferBytes": 262144,
          "reads": false, "compared": [{"way": "copied", "bytes": 8192000, "wrong": 0}],
          "copied": null, "mapped": null,
          "ratio": {"throughput": \(spread(2)), "cpu": \(spread(0.5)), "isMeaningful": false,
            "note": "meaningless <here>"},
          "proposal": {"copiedGigabytesPerSecond": 1.9, "mappedGigabytesPerSecond": 3.3},
          "pairs": [{"copied": \(receipt(mapped: 0, seconds: 0.01)),
            "mapped": \(receipt(mapped: 8_192_000, seconds: 0.005))}]}
        """

    static let all = [
        ("bench.json", bench), ("claims.json", claims), ("scale.json", scale),
        ("latency.json", latency), ("profile.json", profile), ("dpdk.json", dpdk()),
        ("ring.json", ring), ("parser.json", parser), ("zerocopy.json", zeroCopy),
    ]
    /// Charts on the page of all of them: device, driver and memory; claims and device; device,
    /// sharing and stall; latency; stages; enqueue, threads and abi; rings; mixes; throughput and
    /// CPU.
    static let chartCount = 3 + 2 + 3 + 1 + 1 + 3 + 1 + 1 + 1
    /// Cases; claims and cases; cases, sharing and stall; rates and latencies; turns and stages;
    /// threads, bars and cases; rings; mixes; streams.
    static let tableCount = 1 + 2 + 3 + 2 + 2 + 3 + 1 + 1 + 1
}

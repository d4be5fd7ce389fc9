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

    static let all = [
        ("bench.json", bench), ("claims.json", claims), ("scale.json", scale),
        ("profile.json", profile), ("dpdk.json", dpdk()), ("ring.json", ring),
        ("parser.json", parser),
    ]
    /// Charts on the page of all of them: device, driver and memory; claims and device; device,
    /// sharing and stall; stages; enqueue, threads and abi; rings; mixes.
    static let chartCount = 3 + 2 + 3 + 1 + 3 + 1 + 1
    /// Cases; claims and cases; cases, sharing and stall; turns and stages; threads, bars and
    /// cases; rings; mixes.
    static let tableCount = 1 + 2 + 3 + 2 + 3 + 1 + 1
}

// What a running switch is seen to do: by `top`, metrics and `ctl stats`, by a real Prometheus, in
// a real terminal and in a real browser.
import CleaveHost
import Foundation
import Testing

@testable import CleaveControl
@testable import cleave_vhost

@Suite("Watching a switch", .serialized)
struct WatchTests {
    /// Counts by port and direction: packets, bytes.
    private typealias Totals = [String: [UInt64]]

    private func number(_ value: Any?) -> UInt64 { (value as? NSNumber)?.uint64Value ?? 0 }

    private func object(_ text: String) throws -> [String: Any] {
        try #require(JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any])
    }

    private func totalsOfTop(_ joined: RunningSwitch) throws -> Totals {
        let line = try joined.run(["top", "--once", "--json", "--interval", "0.1"]).output
        var totals: Totals = [:]
        for port in try #require(try object(line)["ports"] as? [[String: Any]]) {
            let name = try #require(port["port"] as? String)
            for direction in ["in", "out"] {
                let counts = try #require(port[direction] as? [String: Any])
                totals["\(name) \(direction)"] = ["packets", "bytes"].map { number(counts[$0]) }
            }
        }
        return totals
    }

    private func totalsOfStats(_ joined: RunningSwitch) throws -> Totals {
        let answer = try object(try joined.run(["ctl", "stats", "--json"]).output)
        let statistics = try #require(answer["statistics"] as? [String: Any])
        var totals: Totals = [:]
        for port in try #require(statistics["ports"] as? [[String: Any]]) {
            let name = try #require(port["name"] as? String)
            for direction in ["in", "out"] {
                var sums: [UInt64] = [0, 0]
                for queue in try #require(port["queues"] as? [[String: Any]]) {
                    let counts = try #require(queue[direction] as? [String: Any])
                    sums[0] += number(counts["packets"])
                    sums[1] += number(counts["bytes"])
                }
                totals["\(name) \(direction)"] = sums
            }
        }
        return totals
    }

    private func totalsOfMetrics(_ text: String) throws -> Totals {
        var totals: Totals = [:]
        for (place, name) in ["packets", "bytes"].enumerated() {
            let prefix = "cleave_vhost_queue_\(name)_total{"
            for line in text.split(separator: "\n") where line.hasPrefix(prefix) {
                let match = try #require(
                    line.firstMatch(of: /port="([^"]*)",queue="\d+",direction="(\w+)"} (\d+)$/))
                totals["\(match.1) \(match.2)", default: [0, 0]][place] += try #require(
                    UInt64(match.3))
            }
        }
        return totals
    }

    /// Where the program says that it serves metrics.
    private func address(_ joined: RunningSwitch) throws -> String {
        let match = try #require(
            joined.program.error.firstMatch(of: /metrics at (http:\S+)\n/),
            "\(joined.program.error)")
        return String(match.1)
    }

    @Test(
        "Threads that answer stay off the CPUs of switch threads",
        .enabled(if: CPUSet.allowed().cpus.count > 1))
    func threads() throws {
        let busy = try #require(CPUSet.allowed().cpus.last)
        let scratch = try Scratch()
        let joined = try RunningSwitch([
            "--cpus", "\(busy)", "--metrics", "127.0.0.1:0", "--metrics-textfile",
            scratch.path + "/switch.prom",
        ])
        let folder = "/proc/\(joined.program.process.processIdentifier)/task"
        var answering: Set<String> = []
        for task in try FileManager.default.contentsOfDirectory(atPath: folder) {
            func text(_ name: String) throws -> String {
                try String(contentsOfFile: "\(folder)/\(task)/\(name)", encoding: .utf8)
            }
            let name = try text("comm").trimmingCharacters(in: .newlines)
            let status = try text("status")
            let list = try #require(status.firstMatch(of: /Cpus_allowed_list:\s*(\S+)/)).1
            let cpus = try CPUSet(parsing: String(list))
            switch name {
            case "cleave-switch": #expect(cpus.cpus == [busy])
            case "cleave-control", "metrics", "metrics-file":
                #expect(!cpus.contains(busy), "\(name)")
                answering.insert(name)
            default: break
            }
        }
        #expect(answering == ["cleave-control", "metrics", "metrics-file"])
    }

    @Test("top, metrics at both places and ctl stats show the same totals at rest")
    func sameTotals() throws {
        let scratch = try Scratch()
        let file = scratch.path + "/switch.prom"
        let joined = try RunningSwitch([
            "--metrics", "127.0.0.1:0", "--metrics-textfile", file, "--metrics-interval", "1",
        ])
        try joined.awaitRest()
        let stats = try totalsOfStats(joined)
        #expect(stats.count == 4 && stats.values.allSatisfy { $0[0] >= RunningSwitch.count })
        #expect(try totalsOfTop(joined) == stats)
        let url = try #require(URL(string: try address(joined)))
        let port = try #require(url.port)
        let text = try SimpleHTTP.get(port: port, "/metrics", accept: "text/plain")
        #expect(try totalsOfMetrics(text.body) == stats)
        try eventually("the file says so too") {
            try totalsOfMetrics(String(contentsOfFile: file, encoding: .utf8)) == stats
        }
        // Other names of this machine than its own are not answered.
        #expect(try SimpleHTTP.get(port: port, "/metrics", host: "evil.example").status == 403)
        joined.program.stop()
        #expect(joined.program.process.terminationStatus == 0)
        #expect(try totalsOfMetrics(String(contentsOfFile: file, encoding: .utf8)) == stats)
    }

    @Test(
        "An address that other machines reach needs a word, and a wrong one is named",
        arguments: [
            ("0.0.0.0:1", "public:0.0.0.0:1"), ("nonsense", "expected ADDRESS:PORT"),
            ("unix:", "names no file"),
        ])
    func refusedAddress(_ address: String, _ words: String) throws {
        let outcome = try Tool.run(
            Tool.vhost, ["--port", "type=generator,name=a", "--metrics", address])
        #expect(outcome.code == 2 && outcome.error.contains(words), "\(outcome.error)")
        #expect(outcome.error.contains("--metrics"))
    }

    @Test(
        "Commands have help with an example, and say what is wrong",
        arguments: ["top", "ctl serve"])
    func commands(_ command: String) throws {
        let words = command.split(separator: " ").map(String.init)
        let help = try Tool.run(Tool.vhost, words + ["--help"])
        #expect(help.code == 0 && help.output.contains("Example"))
        let outcome = try Tool.run(
            Tool.vhost,
            words + ["--control", "/nowhere/c.sock"] + (command == "top" ? ["--once"] : []))
        #expect(outcome.code == 1 && outcome.error.contains("/nowhere/c.sock"), "\(outcome.error)")
        #expect(outcome.error.filter(\.isNewline).count == 1)
    }

    @Test("top prints a table once, and needs a terminal for more")
    func once() throws {
        let joined = try RunningSwitch(endless: true)
        let outcome = try joined.run(["top", "--once", "--interval", "0.5"])
        #expect(outcome.code == 0, "\(outcome.error)")
        for words in ["port", "a ", "b ", "  queue 1", "thread 0", "busy"] {
            #expect(outcome.output.contains(words), "\(outcome.output)")
        }
        let refused = try joined.run(["top"])
        #expect(refused.code == 2 && refused.error.contains("top needs a terminal"))
        #expect(try joined.run(["top", "--interval", "0"]).code == 2)
    }

    // MARK: Prometheus

    private static let promtool = Tool.find("promtool")
    private static let prometheus = Tool.find("prometheus")

    @Test("Every metric that the dashboard and the alerts name is exported")
    func names() throws {
        let exported = Set(CounterRegistry.all.map(MetricsText.sampleName)).union([
            MetricsText.prefix + "build_info"
        ])
        for file in ["grafana-dashboard.json", "alerts.yaml"] {
            let text = try String(
                contentsOfFile: "\(packageRoot)/configs/metrics/\(file)", encoding: .utf8)
            let named = Set(text.matches(of: /cleave_vhost_[a-z0-9_]+/).map { String($0.0) })
            #expect(named.count > 5)
            #expect(named.subtracting(exported) == [], "\(file)")
        }
        let dashboard = try object(
            try String(
                contentsOfFile: "\(packageRoot)/configs/metrics/grafana-dashboard.json",
                encoding: .utf8))
        #expect((dashboard["panels"] as? [Any])?.count == 10)
    }

    @Test(
        "promtool takes the rules, their cases, the configuration and each panel's query",
        .enabled(if: promtool != nil, "promtool is not installed (Debian's prometheus)"))
    func rules() throws {
        let promtool = try #require(Self.promtool)
        let configs = packageRoot + "/configs/metrics"
        let scratch = try Scratch()
        func copy(_ path: String, _ name: String) throws {
            try FileManager.default.copyItem(atPath: path, toPath: "\(scratch.path)/\(name)")
        }
        try copy(configs + "/alerts.yaml", "alerts.yaml")
        try copy(packageRoot + "/Tests/VhostProgramTests/Metrics/alerts-test.yaml", "test.yaml")
        // A panel's query is an expression like a rule's, once Grafana has put its words in.
        let dashboard = try object(
            try String(contentsOfFile: configs + "/grafana-dashboard.json", encoding: .utf8))
        var queries = "groups:\n- name: panels\n  rules:\n"
        for panel in try #require(dashboard["panels"] as? [[String: Any]]) {
            for target in try #require(panel["targets"] as? [[String: Any]]) {
                let text = try #require(target["expr"] as? String)
                    .replacing("$__rate_interval", with: "1m").replacing("$instance", with: ".*")
                    .replacing("$port", with: ".*")
                #expect(!text.contains("$"))
                queries += "  - record: panel\n    expr: '\(text)'\n"
            }
        }
        try queries.write(
            toFile: scratch.path + "/panels.yaml", atomically: false, encoding: .utf8)
        for arguments in [
            ["check", "rules", "alerts.yaml"], ["test", "rules", "test.yaml"],
            ["check", "rules", "--lint=none", "panels.yaml"],
            ["check", "config", configs + "/prometheus.yaml"],
        ] {
            let outcome = try Tool.run(promtool, arguments, directory: scratch.path)
            #expect(outcome.code == 0, "\(arguments): \(outcome.output)\(outcome.error)")
        }
    }

    @Test(
        "A real Prometheus scrapes both formats, and has what ctl stats has",
        .enabled(
            if: prometheus != nil && promtool != nil, "prometheus is not installed"),
        .timeLimit(.minutes(5)))
    func scrape() throws {
        let joined = try RunningSwitch(["--metrics", "127.0.0.1:0"])
        let target = try #require(URL(string: try address(joined)))
        let port = try #require(target.port)
        let text = try SimpleHTTP.get(port: port, "/metrics", accept: "text/plain").body
        let lint = try Tool.run(try #require(Self.promtool), ["check", "metrics"], input: text)
        #expect(lint.code == 0, "\(lint.output)\(lint.error)")
        let configuration = """
            global: {scrape_interval: 1s}
            scrape_configs:
              - job_name: cleave-vhost
                static_configs: [{targets: ["127.0.0.1:\(port)"]}]

            """
        try configuration.write(
            toFile: joined.scratch.path + "/prometheus.yaml", atomically: false, encoding: .utf8)
        let own = try SimpleHTTP.freePort()
        let server = try Background(
            try #require(Self.prometheus),
            [
                "--config.file=prometheus.yaml", "--storage.tsdb.path=data",
                "--web.listen-address=127.0.0.1:\(own)",
            ], in: joined.scratch, name: "prometheus")
        defer { server.stop() }
        try joined.awaitRest()
        let stats = try totalsOfStats(joined)
        func ask(_ query: String) throws -> [[String: Any]] {
            let path =
                "/api/v1/query?query="
                + (query.addingPercentEncoding(withAllowedCharacters: .alphanumerics) ?? "")
            guard let answer = try? SimpleHTTP.get(port: own, path), answer.status == 200 else {
                return []
            }
            let data = try #require(try object(answer.body)["data"] as? [String: Any])
            return try #require(data["result"] as? [[String: Any]])
        }
        func totals() throws -> Totals {
            var totals: Totals = [:]
            for (place, name) in ["packets", "bytes"].enumerated() {
                for row in try ask(
                    "sum by (port, direction) (cleave_vhost_queue_\(name)_total)")
                {
                    let labels = try #require(row["metric"] as? [String: String])
                    let value = try #require((row["value"] as? [Any])?.last as? String)
                    let key = "\(labels["port"] ?? "") \(labels["direction"] ?? "")"
                    totals[key, default: [0, 0]][place] = UInt64(Double(value) ?? -1)
                }
            }
            return totals
        }
        try eventually("Prometheus has scraped what ctl stats shows", seconds: 120) {
            if !server.process.isRunning { throw Late(description: server.error) }
            return try totals() == stats
        }
        #expect(try ask("up == 1").count == 1)
        #expect(try ask("cleave_vhost_queue_packets_total").count == 6, "3 queues, 2 directions")
    }

    // MARK: A terminal

    private static let tmux = Tool.find("tmux")

    @Test(
        "In a real terminal top draws, takes keys, and leaves it as it was",
        .enabled(if: tmux != nil, "tmux is not installed"), .timeLimit(.minutes(5)),
        arguments: [(80, 24), (200, 50)])
    func terminal(_ columns: Int, _ rows: Int) throws {
        let tmux = try #require(Self.tmux)
        let joined = try RunningSwitch(endless: true)
        let folder = joined.scratch.path
        // All rows are the program's.
        try "set -g status off\n".write(
            toFile: folder + "/tmux.conf", atomically: false, encoding: .utf8)
        func tell(_ words: [String]) throws -> String {
            // The server goes on, and would keep open what Foundation takes for the sign of an end.
            let close =
                "for f in /proc/$$/fd/*; do n=${f##*/}; [ $n -le 2 ] || eval \"exec $n>&-\"; "
                + "done; exec \"$@\""
            let outcome = try Tool.run(
                "/bin/bash",
                ["-c", close, "bash", tmux, "-L", "t", "-f", folder + "/tmux.conf"] + words,
                environment: ["TMUX_TMPDIR": folder, "LC_ALL": "C.UTF-8"])
            #expect(outcome.code == 0, "\(words): \(outcome.error)")
            return outcome.output
        }
        let command =
            "stty -g > \(folder)/before; \(Tool.vhost) top --interval 0.2 "
            + "--control \(folder)/c.sock; echo ended $?; stty -g > \(folder)/after; cat"
        _ = try tell(["new-session", "-d", "-x", "\(columns)", "-y", "\(rows)", command])
        defer { _ = try? tell(["kill-server"]) }
        func screen() throws -> String { try tell(["capture-pane", "-p"]) }
        func expect(_ words: String) throws {
            try eventually("\(words) on the screen:\n\(try screen())") {
                try screen().contains(words)
            }
        }
        func press(_ key: String) throws { _ = try tell(["send-keys", key]) }
        try expect("queue 1")
        try expect("q quit")
        #expect(
            try screen().split(separator: "\n", omittingEmptySubsequences: false).count == rows + 1)
        try press("s")
        try expect("by in")
        try press("h")
        try expect("all ports, ")
        try press("Down")
        // Which one is first depends on how busy the machine is.
        try expect("> ")
        try press("t")
        try expect("totals")
        try press("c")
        try expect("totals since c")
        try press("t")
        try press("Left")
        try expect("paused, ")
        try press("?")
        try expect("sorts by the next column")
        try press("q")
        try expect("ended 0")
        #expect(!(try screen().contains("q quit")), "the screen before is back")
        try eventually("the settings were written") {
            try !String(contentsOfFile: folder + "/after", encoding: .utf8).isEmpty
        }
        #expect(
            try String(contentsOfFile: folder + "/before", encoding: .utf8)
                == String(contentsOfFile: folder + "/after", encoding: .utf8))
    }

    // MARK: A browser

    private static let browser = Tool.find("chromium")

    @Test(
        "In a real browser the page shows ports, charts and queues, in windows wide and narrow",
        .enabled(if: browser != nil, "chromium is not installed"), .timeLimit(.minutes(5)),
        arguments: [1400, 500])
    func page(_ width: Int) throws {
        let joined = try RunningSwitch(endless: true)
        let server = try Background(
            Tool.vhost, ["ctl", "serve", "--port", "0"] + joined.control, in: joined.scratch,
            name: "page")
        defer { server.stop() }
        try eventually("an address") { server.output.hasSuffix("/\n") }
        let url = String(server.output.dropLast())
        let port = try #require(URL(string: url)?.port)
        try eventually("two samples") {
            let news = try object(try SimpleHTTP.get(port: port, "/activity.json?after=0").body)
            return number(news["number"]) >= 2
        }
        #expect(try SimpleHTTP.get(port: port, "/", host: "evil.example").status == 403)
        let outcome = try Tool.run(
            try #require(Self.browser),
            [
                "--headless", "--no-sandbox", "--disable-gpu", "--window-size=\(width),900",
                "--user-data-dir=\(joined.scratch.path)/user", "--virtual-time-budget=3000",
                "--dump-dom", url,
            ])
        let dom = outcome.output
        #expect(outcome.code == 0)
        let samples = try #require(
            dom.firstMatch(of: /data-samples="(\d+)"/), "\(dom.suffix(2000))")
        #expect(try #require(Int(samples.1)) >= 2)
        #expect(dom.contains("data-wide=\"no\""), "nothing lies beyond the window's edge")
        #expect(dom.ranges(of: "<polyline").count == 2 * 3 + 1)
        for words in [">a</h4>", ">b</h4>", ">thread 0</h4>", ">queue 1</td>"] {
            #expect(dom.contains(words), "\(words)")
        }
        // The page needs nothing from elsewhere.
        #expect(!dom.contains("src=") && !dom.contains("https:"))
    }
}

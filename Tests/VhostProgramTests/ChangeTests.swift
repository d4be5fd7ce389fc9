// What an operator changes while packets go by, and what is captured of them.
import CleaveControl
import CleaveHost
import CleaveTraffic
import Foundation
import Testing

@testable import cleave_vhost

@Suite("Changing a switch that runs", .serialized)
struct ChangeTests {
    /// Two generators without end, in no wire, so that ports may come and go.
    private struct Switched {
        let scratch: Scratch
        let program: Background
        var control: [String] { ["--control", scratch.path + "/c.sock"] }

        /// A switch thread on each; where the machine has one alone, queues cannot move.
        static let cpus = Array(CPUSet.allowed().cpus.prefix(2))

        init() throws {
            scratch = try Scratch()
            program = try Background(
                Tool.vhost,
                [
                    "--port", "type=generator,name=a,traffic=64/udp4,rate=20k,queues=2,flows=8",
                    "--port", "type=generator,name=b,traffic=64/udp4,rate=20k",
                    "--cpus", Self.cpus.map(String.init).joined(separator: ","),
                    "--control", scratch.path + "/c.sock",
                ], in: scratch, name: "switch")
            let program = program
            try eventually("ready") {
                if !program.process.isRunning { throw Late(description: program.error) }
                return program.output.contains("ready\n")
            }
        }

        func ctl(_ words: String...) throws -> (code: Int32, output: String, error: String) {
            try Tool.run(Tool.vhost, ["ctl"] + words + control)
        }
    }

    @Test("A port is added and removed, and the log, the list and the counts say so")
    func ports() throws {
        let joined = try Switched()
        #expect(
            try joined.ctl("port", "add", "type=generator,name=c,rate=5k").output
                == "port c added\n")
        #expect(try joined.ctl("ports").output.contains("\nc     generator"))
        try eventually("packets of the new port") {
            let text = try joined.ctl("stats", "--json").output
            let answer = try JSONDecoder().decode(JSONValue.self, from: Data(text.utf8))
            let statistics = try StatsCommand.statistics(answer)
            return statistics.ports.count == 3 && statistics.ports[2].incoming.packets > 100
        }
        let removed = try joined.ctl("port", "remove", "c").output
        let counts = try #require(removed.firstMatch(of: #/^port c removed: (\d+) packets in, /#))
        #expect(try #require(Int(counts.1)) > 100)
        #expect(try !joined.ctl("ports").output.contains("\nc "))
        #expect(
            try joined.ctl("port", "add", "type=generator,rate=5k", "--json").output.contains(
                "\"port0\""))
    }

    @Test("What cannot be changed is named, with the key or port that it is about")
    func refused() throws {
        let joined = try Switched()
        let cases: [([String], String)] = [
            (["port", "add", "type=generator,rat=1"], "port.add: settings: unknown key \"rat\""),
            (["port", "add", "type=generator,name=a"], "port.add: settings: "),
            (["port", "add", ""], "port.add: settings: "),
            (["port", "add", "type=generator,name=-w"], "name: \"-w\" begins with a dash"),
            (["port", "remove", "z"], "port.remove: port: there is no port \"z\" among a, b"),
            (["rq", "move", "z", "0", "0"], "rq.move: port, queue or thread: there is no port"),
            (["rq", "move", "a", "2", "0"], "rq.move: port, queue or thread: "),
            (["rq", "move", "a", "0", "2"], "there is no switch thread 2"),
            (["capture", "z", "-w", "-"], "capture: there is no port \"z\""),
            (["capture", "a", "-w", "-", "--direction", "up"], "direction: \"up\" is not one of"),
            (["capture", "a", "-w", "-", "--queue", "7"], "capture: "),
            (["capture", "a", "-w", "-", "--count", "0"], "capture: 0 packets"),
            (["capture", "a", "-w", "-", "--snaplen", "0"], "capture: 0 bytes"),
            (["reload"], "ctl reload: the program was started without"),
            (["log-level", "loud"], "level: \"loud\" is not one"),
        ]
        for (words, message) in cases {
            let ran = try Tool.run(Tool.vhost, ["ctl"] + words + joined.control)
            #expect(ran.code == 1 && ran.output.isEmpty, "\(words)")
            #expect(ran.error.contains(message), "\(ran.error)")
            #expect(!ran.error.contains("settings: settings"))
            #expect(joined.program.process.isRunning)
        }
    }

    @Test("A path of the program's own is refused by what has it, and that is left alone")
    func ownPaths() throws {
        let scratch = try Scratch()
        let (path, control) = (scratch.path + "/a.sock", scratch.path + "/c.sock")
        let metrics = scratch.path + "/m.sock"
        let port = "type=vhost-user,name=a,path=" + path
        for (options, words) in [
            (["--port", port, "--control", path], "path: \(path) is control's already"),
            (["--port", port, "--metrics", "unix:" + path], "\(path) is metrics's already"),
            (["--port", port, "--socket-path", path], "\(path) is port a's already"),
            (
                ["--port", port, "--control", metrics, "--metrics", "unix:" + metrics],
                "\(metrics) is control's already"
            ),
        ] {
            let ran = try Tool.run(Tool.vhost, options)
            #expect(ran.code == 2 && ran.error.contains(words), "\(ran.error)")
        }
        let program = try Background(
            Tool.vhost,
            ["--port", port, "--control", control, "--metrics", "unix:" + metrics], in: scratch,
            name: "paths")
        try eventually("ready") { program.output.contains("ready\n") }
        for (path, owner) in [
            (path, "port a"), (scratch.path + "/./a.sock", "port a"),
            (control, "the control socket"), (metrics, "the metrics socket"),
        ] {
            for mode in ["server", "client"] {
                let ran = try Tool.run(
                    Tool.vhost,
                    [
                        "ctl", "port", "add", "type=vhost-user,name=b,mode=\(mode),path=\(path)",
                        "--control", control,
                    ])
                let words = "port b: \(owner) of this program listens at \(path)"
                #expect(ran.code == 1 && ran.error.contains(words), "\(ran.error)")
            }
        }
        // No probe has come to the port.
        let client = try ControlClient(path: control)
        let statistics = try StatsCommand.statistics(client.ask("stats"))
        #expect(statistics.ports.map { $0.events["connects"] } == [0])
        program.stop()
    }

    @Test("A capture where nobody is connected says so at once, and goes on waiting")
    func waits() throws {
        let joined = try Switched()
        let path = joined.scratch.path
        #expect(try joined.ctl("port", "add", "type=vhost-user,name=v,path=\(path)/v").code == 0)
        let capture = try Background(
            Tool.vhost, ["ctl", "capture", "v", "-w", path + "/v.pcapng"] + joined.control,
            in: joined.scratch, name: "waits")
        try eventually("it says so") {
            capture.error == "waiting: nobody is connected at v\n"
        }
        #expect(capture.process.isRunning)
        kill(capture.process.processIdentifier, SIGINT)
        capture.process.waitUntilExit()
        #expect(capture.process.terminationStatus == 0)
        #expect(capture.error.hasSuffix("\n0 packets captured, 0 dropped\n"), "\(capture.error)")
        // For programs; generators are always there, and one port that is there is enough.
        let client = try ControlClient(path: joined.control[1])
        for (port, ports) in [("v", ["v"]), ("a", []), (nil, [])] as [(String?, [JSONValue])] {
            var ends: [Int32] = [-1, -1]
            #expect(socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0, &ends) == 0)
            let answer = try client.ask(
                "capture", port.map { ["port": .string($0)] } ?? [:], descriptors: [ends[1]])
            #expect(answer == ["waitsFor": .array(ports)])
            for end in ends { close(end) }
        }
    }

    @Test("Tables of ports with the longest names keep to 80 columns, and JSON has them whole")
    func longNames() throws {
        let scratch = try Scratch()
        let stem = String(repeating: "n", count: 50)
        let names = ["x" + stem + "-lefty-a1", "x" + stem + "-lefty-b2"]
        #expect(names.allSatisfy { $0.count == 60 })
        let control = ["--control", scratch.path + "/c.sock"]
        let program = try Background(
            Tool.vhost,
            names.flatMap {
                ["--port", "type=generator,name=\($0),traffic=64/udp4,rate=20k,queues=2,flows=8"]
            } + control, in: scratch, name: "names")
        try eventually("ready") { program.output.contains("ready\n") }
        for command in [
            "ctl stats", "ctl ports", "ctl queues", "ctl mac-table", "top --once --interval 0.2",
        ] {
            let words = command.split(separator: " ").map(String.init) + control
            let ran = try Tool.run(Tool.vhost, words, environment: ["COLUMNS": "80"])
            #expect(ran.code == 0, "\(ran.error)")
            for line in ran.output.split(separator: "\n") { #expect(line.count <= 80, "\(line)") }
            for end in ["...", "-lefty-a1 ", "-lefty-b2 "] where command != "ctl mac-table" {
                #expect(ran.output.contains(end), "\(ran.output)")
            }
            let whole = try Tool.run(Tool.vhost, words + ["--json"])
            #expect(
                command == "ctl mac-table" || names.allSatisfy { whole.output.contains($0) },
                "\(whole.output)")
        }
        program.stop()
    }

    @Test("A queue is another thread's after it was moved")
    func moves() throws {
        let joined = try Switched()
        func threads() throws -> [Int?] {
            let text = try joined.ctl("queues", "--port", "a", "--json").output
            let answer = try JSONDecoder().decode(JSONValue.self, from: Data(text.utf8))
            return (answer["queues"]?.elements ?? []).map { queue in
                if case .integer(let number)? = queue["thread"] { Int(number) } else { nil }
            }
        }
        for thread in [1, 0, 1] where thread < Switched.cpus.count {
            for queue in 0...1 {
                let said = try joined.ctl("rq", "move", "a", "\(queue)", "\(thread)").output
                #expect(said == "port a: queue \(queue) is switch thread \(thread)'s now\n")
            }
            #expect(try threads() == [thread, thread])
        }
    }

    @Test("A capture has as many packets as were wanted, cut where that was wanted, one way")
    func captures() throws {
        let joined = try Switched()
        let file = joined.scratch.path + "/a.pcapng"
        let ran = try joined.ctl(
            "capture", "a", "--direction", "tx", "--count", "30", "--snaplen", "20", "-w", file)
        #expect(ran.code == 0 && ran.error == "30 packets captured, 0 dropped\n", "\(ran.error)")
        let packets = try CaptureFile.read(path: file).packets
        #expect(packets.count == 30)
        #expect(packets.allSatisfy { $0.bytes.count == 20 })
        // Standard output instead, and any port.
        let piped = try Tool.run(
            "/bin/sh",
            [
                "-c", #""$1" ctl capture --count 3 -w - --control "$2" | cat > "$3""#, "sh",
                Tool.vhost,
            ]
                + [joined.control[1], file])
        #expect(piped.code == 0 && piped.error.hasPrefix("3 packets captured"), "\(piped.error)")
        #expect(try CaptureFile.read(path: file).packets.count == 3)
        // Where a file cannot be made nothing is captured, and the switch goes on.
        let nowhere = try joined.ctl("capture", "a", "--count", "3", "-w", "/nowhere/x")
        #expect(nowhere.code == 1 && nowhere.error.contains("/nowhere/x: No such file"))
        #expect(joined.program.process.isRunning)
    }

    @Test("A capture that is interrupted says how many packets it has; so does one whose port goes")
    func ends() throws {
        let joined = try Switched()
        for isRemoved in [false, true] {
            let name = isRemoved ? "removed" : "stopped"
            let file = "\(joined.scratch.path)/\(name).pcapng"
            let port = isRemoved ? "c" : "a"
            if isRemoved { _ = try joined.ctl("port", "add", "type=generator,name=c,rate=5k") }
            let capture = try Background(
                Tool.vhost, ["ctl", "capture", port, "-w", file] + joined.control,
                in: joined.scratch, name: name)
            try eventually("some packets") {
                let size = try? FileManager.default.attributesOfItem(atPath: file)[.size] as? Int
                return (size ?? 0) > 4096
            }
            if isRemoved {
                #expect(try joined.ctl("port", "remove", "c").code == 0)
            } else {
                kill(capture.process.processIdentifier, SIGINT)
            }
            capture.process.waitUntilExit()
            let said = try #require(
                capture.error.firstMatch(of: #/^(\d+) packets captured, /#), "\(capture.error)")
            #expect(try CaptureFile.read(path: file).packets.count == Int(said.1))
        }
    }

    @Test("A port that comes again under its name begins at 0, cleared or not, and nothing falls")
    func again() throws {
        let joined = try Switched()
        func packets(_ whole: Bool) throws -> (port: UInt64, removed: UInt64) {
            let client = try ControlClient(path: joined.control[1])
            let answer = try client.ask("stats", ["whole": .bool(whole)])
            let statistics = try StatsCommand.statistics(answer)
            return (
                statistics.ports.first { $0.name == "b" }?.incoming.packets ?? 0,
                statistics.removed.in.packets
            )
        }
        try eventually("some packets") { try packets(true).port > 3000 }
        #expect(try joined.ctl("stats", "--clear").code == 0)
        #expect(try joined.ctl("port", "remove", "b").code == 0)
        // Only what came since the clearing, a fraction of a second.
        let (cleared, whole) = (try packets(false).removed, try packets(true).removed)
        #expect(whole >= 3000 && cleared <= whole - 3000)
        #expect(try joined.ctl("port", "add", "type=generator,name=b,rate=5k").code == 0)
        var last: UInt64 = 0
        for _ in 0..<5 {
            let (now, all) = (try packets(false).port, try packets(true).port)
            #expect(now >= last && now <= all)
            last = now
        }
        try eventually("it goes on") { try packets(false).port > last + 100 }
    }

    @Test("A pipe, a file that is written already, and one's own input are no files of a port")
    func files() throws {
        let joined = try Switched()
        let folder = joined.scratch.path
        #expect(mkfifo(folder + "/pipe", 0o600) == 0)
        let writer = open(folder + "/pipe", O_RDWR)
        defer { close(writer) }
        let capture = folder + "/a.pcapng"
        #expect(try joined.ctl("capture", "a", "--count", "10", "-w", capture).code == 0)
        let before = try Data(contentsOf: URL(fileURLWithPath: capture))
        #expect(symlink(capture, folder + "/link") == 0)
        #expect(try joined.ctl("port", "add", "type=pcap,name=w,out=\(folder)/w.pcapng").code == 0)
        for (settings, words) in [
            ("in=\(folder)/pipe", "a pipe, whose writer others would wait for"),
            ("in=\(capture),out=\(folder)/./a.pcapng", "cannot be played and written at once"),
            ("in=\(capture),out=\(folder)/link", "cannot be played and written at once"),
            ("out=\(folder)/w.pcapng", "another port, or another program, writes"),
        ] {
            let ran = try joined.ctl("port", "add", "type=pcap,name=x," + settings)
            #expect(ran.code == 1 && ran.error.contains(words), "\(ran.error)")
        }
        #expect(try Data(contentsOf: URL(fileURLWithPath: capture)) == before)
        #expect(try joined.ctl("ports").code == 0)
    }

    @Test("The published schema names the commands that the program has, and takes what it takes")
    func schema() throws {
        let data = try Data(
            contentsOf: URL(fileURLWithPath: packageRoot + "/configs/schema/control.schema.json"))
        let definitions = try #require(JSONDecoder().decode(JSONValue.self, from: data)["$defs"])
        let reloader = Reloader(VhostConfiguration()) { VhostConfiguration() }
        let commands = RunCommand.commands(OperatorLog(.text), reloader)
        let named = definitions["request"]?["properties"]?["command"]?["enum"]?.elements ?? []
        #expect(Set(named.compactMap(\.text)) == Set(commands.map(\.name)))
        for command in commands {
            #expect(definitions["result.\(command.name)"] != nil, "\(command.name)")
            let form = try #require(
                definitions["request"]?["oneOf"]?.elements?.first {
                    $0["properties"]?["command"]?["const"]?.text == command.name
                })["properties"]?["arguments"]
            guard case .object(let taken)? = form?["properties"] else {
                Issue.record("\(command.name): no arguments in the schema")
                continue
            }
            #expect(Set(taken.keys) == Set(command.arguments.map(\.name)), "\(command.name)")
            #expect(
                Set(form?["required"]?.elements?.compactMap(\.text) ?? [])
                    == Set(command.arguments.filter(\.isRequired).map(\.name)))
        }
    }
}

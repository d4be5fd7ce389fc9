import CCleaveHost
import CleaveControl
import CleaveHost
import CleavePorts
import CleaveSwitch
import Glibc
import Testing

@Suite("The control socket")
struct ControlSocketTests {
    @Test("Every command's answer is as the published schema says, and so is every request")
    func schema() throws {
        let guest = VhostUserPortConfiguration(name: "guest", path: "/tmp/cleave-\(getpid()).sock")
        let rig = try ControlRig(ports: [VhostUserPort(guest)])
        let schema = try JSONText.schema()
        let check = SchemaCheck(root: schema)
        let client = try RawClient(rig.path)
        let greeting = try #require(try client.line())
        #expect(check.problems(greeting, ["$ref": "#/$defs/greeting"]) == [])
        let requests: [(String, JSONValue)] = [
            ("stats", [:]), ("stats", ["clear": true]), ("stats", ["whole": true]),
            ("ports", [:]), ("queues", [:]), ("queues", ["port": "guest"]), ("headers", [:]),
            ("features", ["port": "guest"]), ("features", ["port": "a"]), ("mac-table", [:]),
            ("mac-table", ["port": "a"]), ("log-level", [:]), ("log-level", ["level": "off"]),
        ]
        for (id, (command, arguments)) in requests.enumerated() {
            let request: JSONValue = [
                "command": .string(command), "arguments": arguments, "id": .integer(Int64(id)),
            ]
            #expect(check.problems(request, ["$ref": "#/$defs/request"]) == [])
            client.send(request.line + "\n")
            let answer = try #require(try client.line())
            #expect(check.problems(answer, ["$ref": "#/$defs/reply"]) == [])
            #expect(answer["id"] == .integer(Int64(id)))
            let result = try #require(answer["result"], "\(command): \(answer.line)")
            #expect(
                check.problems(result, ["$ref": .string("#/$defs/result.\(command)")]) == [])
        }
        // The schema names these commands; that it names all of the program's is tested there.
        let named = schema["$defs"]?["request"]?["properties"]?["command"]?["enum"]?.elements
        let names = named?.compactMap(\.text) ?? []
        let known = StandardCommands.all().map(\.name) + ["log-level"]
        #expect(Set(known).subtracting(names) == [])
        // And a check that fails is one that can.
        #expect(check.problems(["program": 1], ["$ref": "#/$defs/greeting"]).count == 4)
    }

    @Test("Counters are those of the switch, start anew when they are cleared, and lose nothing")
    func clearing() throws {
        let rig = try ControlRig()
        let client = try ControlClient(path: rig.path)
        #expect(client.greeting.program == "test")
        func packets(_ arguments: [String: JSONValue]) throws -> UInt64 {
            let answer = try client.ask("stats", arguments)
            let statistics = try #require(answer["statistics"])
                .decoded(as: SwitchStatistics.self)
            return statistics.ports[1].outgoing.packets
        }
        #expect(try wait { try packets([:]) > 200 })
        let before = try packets(["clear": true])
        let whole = try packets(["whole": true])
        #expect(whole >= before && before > 200)
        let since = try packets([:])
        #expect(since <= (try packets(["whole": true])) - before)
        #expect(try wait { try packets([:]) > since })
        #expect(try client.ask("stats")["isCleared"] == true)
    }

    @Test("What is wrong with a request is named, with the key or port that it is about")
    func errors() throws {
        let rig = try ControlRig()
        let client = try RawClient(rig.path)
        _ = try client.line()
        let cases: [(String, about: String?, message: String)] = [
            ("nonsense", nil, "not JSON"), ("[1]", nil, "not a JSON object"),
            ("{}", "command", "expected the name"),
            (
                #"{"command":"stats","arguments":"# + String(repeating: #"{"a":"#, count: 20) + "1"
                    + String(repeating: "}", count: 21), nil, "deeper than 16"
            ),
            (#"{"command":"stat"}"#, "stat", "unknown command (known here: features"),
            (#"{"command":"stats","x":1}"#, "x", "unknown key"),
            (#"{"command":"stats","arguments":[]}"#, "arguments", "expected an object"),
            (#"{"command":"stats","arguments":{"clear":1}}"#, "clear", "type boolean"),
            (#"{"command":"stats","arguments":{"cleer":true}}"#, "cleer", "clear, whole"),
            (#"{"command":"ports","arguments":{"a":1}}"#, "a", "no such argument"),
            (#"{"command":"features"}"#, "port", "needs this argument"),
            (#"{"command":"features","arguments":{"port":"c"}}"#, "port", "among a, b"),
            (#"{"command":"log-level","arguments":{"level":"x"}}"#, "level", "one of off, info"),
            (#"{"command":"stats","id":{}}"#, "id", "a text or a whole number"),
            (
                #"{"command":"stats","id":9223372036854775808}"#, "id",
                "a text or a whole number from -2^63 to 2^63 - 1"
            ),
            (#"{"command":"stats","id":-9223372036854775809}"#, "id", "from -2^63 to 2^63 - 1"),
        ]
        for (line, about, message) in cases {
            client.send(line + "\n")
            let answer = try #require(try client.line(), "\(line)")
            #expect(answer["error"]?["message"]?.text?.contains(message) == true, "\(answer)")
            #expect(answer["error"]?["about"]?.text == about, "\(answer)")
            // So that the lines which are no request are not in a row.
            client.send("{\"command\":\"ports\",\"id\":\"x\"}\n")
            #expect(try client.line()?["id"] == "x")
        }
        #expect(rig.count(.controlRequestsRefused) == UInt64(cases.count))
    }

    @Test("The largest and the least number that an id can be come back as they are")
    func largeIDs() throws {
        let rig = try ControlRig()
        let client = try RawClient(rig.path)
        _ = try client.line()
        for id in [Int64.max, Int64.min, 0] {
            client.send("{\"command\":\"ports\",\"id\":\(id)}\n")
            #expect(try client.line()?["id"] == .integer(id))
        }
    }

    @Test("A line that is not UTF-8 is answered with its first wrong byte, and the next is served")
    func encodings() throws {
        let rig = try ControlRig()
        let client = try RawClient(rig.path)
        _ = try client.line()
        let request = #"{"command":"ports","id":1}"#
        func inUTF16(_ text: String, isBigEndian: Bool) -> [UInt8] {
            text.utf16.flatMap { unit in
                let bytes = [UInt8(unit >> 8), UInt8(unit & 0xff)]
                return isBigEndian ? bytes : bytes.reversed()
            }
        }
        let text = Array(request.utf8)
        let cases: [(bytes: [UInt8], message: String)] = [
            ([0xef, 0xbb, 0xbf] + text, "byte 1 of the line is 0xEF: a byte order mark"),
            (
                [0xff, 0xfe] + inUTF16(request, isBigEndian: false),
                "byte 1 of the line is 0xFF: the byte order mark of UTF-16"
            ),
            (
                [0xfe, 0xff] + inUTF16(request, isBigEndian: true),
                "byte 1 of the line is 0xFE: the byte order mark of UTF-16"
            ),
            (inUTF16(request, isBigEndian: false), "byte 2 of the line is 0x00, as in UTF-16"),
            (inUTF16(request, isBigEndian: true), "byte 1 of the line is 0x00, as in UTF-16"),
            (Array(#"{"command":"é"#.utf8) + [0xe9] + text, "byte 15 of the line is 0xE9, which"),
            (text.dropLast() + [0xc3], "byte 26 of the line is 0xC3, which is not UTF-8"),
            // A surrogate, and a longer form than is needed.
            ([0x22, 0xed, 0xa0, 0x80, 0x22], "byte 2 of the line is 0xED, which is not UTF-8"),
            ([0xc0, 0xaf], "byte 1 of the line is 0xC0, which is not UTF-8"),
        ]
        for (bytes, message) in cases {
            client.send(bytes + [UInt8(ascii: "\n")])
            let answer = try #require(try client.line())
            #expect(answer["error"]?["message"]?.text?.hasPrefix(message) == true, "\(answer)")
            #expect(answer["id"] == .null)
            client.send(request + "\n")
            #expect(try client.line()?["result"] != nil)
        }
    }

    @Test("The file has mode 0660, replaces one whose maker is gone, and goes with the server")
    func file() throws {
        var status = stat()
        var path = ""
        do {
            let rig = try ControlRig()
            path = rig.path
            #expect(stat(path, &status) == 0 && status.st_mode & 0o7777 == 0o660)
            // Somebody listens there.
            var message = ""
            do {
                try ControlServer(
                    path: path, greeting: ControlGreeting(program: "", version: "", pid: 1),
                    commands: [], requests: rig.joined.requests
                ).start(busyCPUs: [])
            } catch { message = "\(error)" }
            #expect(
                message == "control socket: the control socket of this program listens at \(path)")
            #expect(stat(path, &status) == 0)
        }
        #expect(stat(path, &status) != 0)
        #expect(throws: ControlFailure.self) { try ControlClient(path: path) }
    }

    @Test("A file that is no socket stays, and one whose maker is gone is replaced")
    func stale() throws {
        let rig = try ControlRig()
        let greeting = ControlGreeting(program: "test", version: "1", pid: 1)
        let other = rig.folder + "/other"
        func server() throws -> ControlServer {
            try ControlServer(
                path: other, greeting: greeting, commands: [], requests: rig.joined.requests)
        }
        close(open(other, O_CREAT | O_WRONLY, 0o600))
        #expect(throws: SetupError("control socket: \(other) exists and is not a socket")) {
            try server().start(busyCPUs: [])
        }
        unlink(other)
        close(cleave_unix_listen(other, -1))
        #expect(throws: ControlFailure.self) { try ControlClient(path: other) }
        let second = try server()
        try second.start(busyCPUs: [0])
        #expect(try ControlClient(path: other).greeting == greeting)
        second.stop()
        #expect(access(other, F_OK) != 0)
    }

    @Test("A command gets descriptors, tells events, and learns that its client has gone")
    func descriptorsAndEvents() throws {
        let gone = ControlRig.Flag()
        let command = ControlCommand("take", help: "Takes a descriptor.") {
            (call) throws(ControlFailure) in
            guard let descriptor = call.descriptors.first?.take() else {
                throw ControlFailure("no descriptor came")
            }
            write(descriptor, "hello", 5)
            close(descriptor)
            call.peer.whenGone { gone.set() }
            call.peer.send(event: "taken", ["count": .integer(Int64(call.descriptors.count))])
            return "done"
        }
        let rig = try ControlRig(commands: [command])
        var ends: [Int32] = [-1, -1]
        try #require(pipe(&ends) == 0)
        defer { close(ends[0]) }
        do {
            let client = try ControlClient(path: rig.path)
            #expect(throws: ControlFailure("no descriptor came")) { try client.ask("take") }
            // The event comes first, and is passed over.
            #expect(try client.ask("take", descriptors: [ends[1]]) == "done")
            close(ends[1])
            var bytes = [UInt8](repeating: 0, count: 8)
            #expect(read(ends[0], &bytes, 8) == 5 && read(ends[0], &bytes, 8) == 0)
            #expect(!gone.value)
        }
        #expect(wait { gone.value })
    }

    @Test("Answers to several requests in one write come in their order")
    func pipelined() throws {
        var limits = ControlServer.Limits()
        limits.perSecond = 1_000_000
        let rig = try ControlRig(limits: limits)
        let client = try RawClient(rig.path)
        let all = (0..<500).map { "{\"command\":\"ports\",\"id\":\($0)}\n" }.joined()
        client.send(all)
        // No more will come; what came is answered.
        shutdown(client.descriptor, Int32(SHUT_WR))
        let lines = try client.lines()
        #expect(lines.dropFirst().map { $0["id"]?.integer } == (0..<500).map { $0 })
        #expect(lines.allSatisfy { $0["error"] == nil })
    }
}

@Suite("Clients of the control socket that mean no good")
struct ControlSocketAbuseTests {
    @Test("Garbage, and lines without an end, end their connection and nothing else")
    func garbage() throws {
        let rig = try ControlRig()
        let patient = try ControlClient(path: rig.path)
        for text in [
            String(repeating: "\u{0}\u{1}x\n", count: 100),
            String(repeating: "[", count: 60_000) + "\n",
            String(repeating: "{\"a\":", count: 10_000) + "\n",
        ] {
            let client = try RawClient(rig.path)
            for _ in 0..<10 where client.send(text) {}
            let lines = try client.lines()
            #expect(lines.last?["error"]?["message"]?.text?.contains("8 lines in a row") == true)
        }
        #expect(rig.count(.controlDroppedGarbage) == 3)
        let endless = try RawClient(rig.path)
        endless.send(String(repeating: "x", count: 1 << 20))
        let lines = try endless.lines()
        #expect(lines.last?["error"]?["message"]?.text?.contains("longer than 65536") == true)
        #expect(rig.count(.controlDroppedLine) == 1)
        // Half a request, and away.
        for cut in [1, 10, 17] {
            let client = try RawClient(rig.path)
            client.send(String(#"{"command":"stats"}"#.prefix(cut)))
        }
        try rig.expectTraffic()
        #expect(try patient.ask("ports")["ports"]?.elements?.count == 2)
    }

    @Test("Who closes in the middle of many answers does no harm")
    func vanishing() throws {
        let rig = try ControlRig()
        for round in 0..<60 {
            let client = try RawClient(rig.path)
            for _ in 0...(round % 5) { client.send("{\"command\":\"stats\"}\n") }
            if round % 2 == 0 { _ = try client.line() }
        }
        try rig.expectTraffic()
        #expect(wait { (try? ControlClient(path: rig.path)) != nil })
        #expect(rig.count(.controlClients) + rig.count(.controlClientsRefused) >= 61)
    }

    @Test(
        "Who does not read is dropped; who asks without end is slowed down, and others are served")
    func unreadAndFlood() throws {
        var limits = ControlServer.Limits()
        limits.patience = 200_000_000
        limits.perSecond = 50
        limits.burst = 8
        let rig = try ControlRig(limits: limits)
        let deaf = try RawClient(rig.path)
        let request = "{\"command\":\"stats\"}\n"
        // Answers fill the socket; requests go on as long as they are taken.
        #expect(wait { !deaf.trySend(request).isThere })
        #expect(rig.count(.controlDroppedUnread) == 1)
        let flooder = try RawClient(rig.path)
        let start = SystemClock.monotonic
        flooder.send(String(repeating: "{\"command\":\"ports\"}\n", count: 30))
        let other = try ControlClient(path: rig.path)
        try rig.expectTraffic()
        #expect(try other.ask("ports")["ports"] != nil)
        for _ in 0..<31 { _ = try #require(try flooder.line()) }
        // 8 at once, and 22 in 20 ms each.
        #expect(SystemClock.monotonic - start >= 22 * 20_000_000)
    }

    @Test("There is room for 16 clients; one that has been idle for long makes room for another")
    func crowd() throws {
        let rig = try ControlRig()
        var clients: [RawClient] = []
        var refused = 0
        for _ in 0..<100 {
            let client = try RawClient(rig.path)
            let line = try #require(try client.line())
            if line["error"]?["message"]?.text == "16 clients are connected already" {
                refused += 1
            }
            clients.append(client)
        }
        #expect(refused == 84)
        #expect(rig.count(.controlClientsRefused) == 84)
        try rig.expectTraffic()
        clients = []
        var limits = ControlServer.Limits()
        limits.idle = 0
        let polite = try ControlRig(limits: limits)
        let first = try RawClient(polite.path)
        _ = try first.line()
        for _ in 0..<16 {
            let client = try RawClient(polite.path)
            #expect(try client.line()?["error"] == nil)
            clients.append(client)
        }
        #expect(try first.line() == nil)
        #expect(polite.count(.controlDroppedIdle) == 1)
    }
}

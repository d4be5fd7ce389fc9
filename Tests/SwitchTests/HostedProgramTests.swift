// The program as a host has it: as an ordinary user, under its filter of system calls, watched and
// given sockets by a service manager, with a log for machines.
import CCleaveHost
import CCleaveTestSupport
import CleaveHost
import CleaveSwitch
import CleaveTestSupport
import CleaveVirtioNet
import Foundation
import Testing

@Suite("A program on its host")
struct HostedProgramTests {
    private static func frames(_ count: Int, from: UInt8, to: UInt8) -> [[UInt8]] {
        (0..<count).map {
            Frame.make(
                to: Frame.mac(to), from: Frame.mac(from), [UInt8(truncatingIfNeeded: $0)],
                byteCount: 60 + $0 * 41 % 1400)
        }
    }

    /// Frames go both ways between two guests, each byte of them.
    private func exchange(_ left: LocalGuest, _ right: LocalGuest) {
        let (sent, back) = (
            Self.frames(100, from: 1, to: 2), Self.frames(60, from: 2, to: 1)
        )
        // In parts that a ring holds: a receiver that is slow for long loses packets.
        for start in stride(from: 0, to: 100, by: 20) {
            let part = Array(sent[start..<start + 20])
            #expect(left.sendAll(part) == 20)
            #expect(right.receive(atLeast: 20) == part)
        }
        for start in stride(from: 0, to: 60, by: 20) {
            let part = Array(back[start..<start + 20])
            #expect(right.sendAll(part) == 20)
            #expect(left.receive(atLeast: 20) == part)
        }
    }

    private func guests() throws -> (LocalGuest, LocalGuest) {
        (try LocalGuest(.split), try LocalGuest(.packed))
    }

    // MARK: The filter of system calls

    /// What happens in the life of a program that opens, serves and closes ports.
    private func live(_ program: VhostProcess, _ arguments: [String]) throws {
        try program.start(program.ports("a", "b") + arguments)
        // Each thread is under it, whatever the program has started before.
        #expect(program.threads.count >= 2)
        let isFiltered = !arguments.contains("off")
        #expect(program.statuses("Seccomp").allSatisfy { $0 == (isFiltered ? "2" : "0") })
        let (left, right) = try guests()
        try left.connect(program.path("a"))
        try right.connect(program.path("b"))
        exchange(left, right)
        // New memory, a guest that leaves in order, one that vanishes, a stranger, a second one.
        try left.sendMemory()
        let bases = try left.leave()
        try left.connectPatiently(program.path("a"), bases: bases)
        exchange(left, right)
        right.vanish()
        let other = try LocalGuest(.split)
        try other.connectPatiently(program.path("b"))
        exchange(left, other)
        for text in ["GET / HTTP/1.1\r\n\r\n", ""] {
            let socket = cleave_unix_connect(program.path("a"))
            #expect(socket >= 0)
            // It may be refused, and closed, before this.
            _ = Array(text.utf8).withUnsafeBytes {
                send(socket, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
            }
            close(socket)
        }
        Glibc.kill(program.identifier, SIGUSR1)
        #expect(VhostProcess.waitUntil { program.errors.contains("switch thread") })
        exchange(left, other)
        #expect(program.end() == 0)
        #expect(!program.errors.contains("system call"), "\(program.errors)")
        #expect(access(program.path("a"), F_OK) != 0)
    }

    @Test("A life under the filter, from the first guest to the end", arguments: ["on", "log"])
    func filtered(_ kind: String) throws {
        try live(VhostProcess(), ["--seccomp", kind])
    }

    @Test("Several threads, a header queue, a memory node and other ports under the filter")
    func filteredParts() throws {
        let program = try VhostProcess()
        let cpus = CPUSet.allowed().cpus.prefix(2).map(String.init).joined(separator: ",")
        try program.start(
            program.ports("a") + [
                "--port",
                "type=vhost-user,path=\(program.path("b")),name=b,header-queue=on,node=0,queues=2",
                // A VMM that is not there yet.
                "--port", "type=vhost-user,path=\(program.path("c")),mode=client",
                "--port", "type=pcap,out=\(program.path("d.pcapng"))",
                "--port", "type=generator,rate=100,count=10", "--cpus", cpus, "--idle", "pause",
            ])
        var shape = SplitGuest.Shape()
        shape.pairs = 2
        let (left, right) = (try LocalGuest(.packed), try SplitGuest(shape))
        try left.connect(program.path("a"))
        try right.connect(program.path("b"), .chain)
        let sent = Self.frames(20, from: 1, to: 2)
        #expect(left.sendAll(sent) == 20)
        var arrived: [[UInt8]] = []
        #expect(
            VhostProcess.waitUntil {
                arrived += right.receive().joined().filter { $0.starts(with: Frame.mac(2)) }
                return arrived.count >= 20
            })
        // The generator's own frames arrive between them.
        #expect(
            arrived.sorted { $0.lexicographicallyPrecedes($1) }
                == sent.sorted { $0.lexicographicallyPrecedes($1) })
        right.vanish()
        #expect(program.end() == 0)
        #expect(!program.errors.contains("system call"), "\(program.errors)")
    }

    @Test(
        "A system call that the program does not make ends it, and it says which; unless it is off",
        arguments: ["on", "log", "off"])
    func forbidden(_ kind: String) throws {
        let program = try VhostProcess()
        try program.start(
            program.ports("a") + ["--seccomp", kind, "--log-format", "json", "--idle", "park"])
        // Whatever that thread waits with next becomes this, which fails if it is let through.
        let call = cleave_test_start_program()
        let result = cleave_test_inject(program.identifier, call)
        try #require(result == 0, "ptrace: \(result)")
        if kind == "on" {
            #expect(program.awaitEnd() == -SIGSYS)
            let line = try #require(program.errors.split(separator: "\n").last)
            let said = try JSONDecoder().decode([String: String].self, from: Data(line.utf8))
            #expect(
                said["message"] == "system call \(call) is not one that this program makes: it ends"
            )
            #expect(said["level"] == "error")
        } else {
            let guest = try LocalGuest(.split)
            try guest.connect(program.path("a"))
            #expect(program.end() == 0)
        }
    }

    // MARK: Users

    @Test("Two guests' ports by an ordinary user without any capability")
    func ordinaryUser() throws {
        let program = try VhostProcess()
        if geteuid() == 0 {
            program.wrapper = [
                "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups",
                "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs",
            ]
            #expect(chown(program.folder, 65534, 65534) == 0)
        }
        try program.start(program.ports("a", "b"))
        for set in ["CapEff", "CapPrm", "CapAmb"] {
            #expect(program.statuses(set).allSatisfy { UInt64($0, radix: 16) == 0 })
        }
        #expect(program.statuses("Uid").allSatisfy { !$0.hasPrefix("0\t") })
        let (left, right) = try guests()
        try left.connect(program.path("a"))
        try right.connect(program.path("b"))
        exchange(left, right)
        #expect(program.end() == 0)
        #expect(access(program.path("a"), F_OK) != 0)
    }

    // MARK: The service manager

    @Test("Signs of life end when a switch thread hangs, though the rest lives, and come again")
    func watchdog() throws {
        let program = try VhostProcess()
        let manager = try ServiceListener(program.path("manager"))
        program.environment = [
            "NOTIFY_SOCKET": program.path("manager"), "WATCHDOG_USEC": "400000",
        ]
        try program.start(program.ports("a", "b"))
        #expect(manager.hears("READY=1"))
        #expect(manager.hears("WATCHDOG=1"))
        manager.forget()
        #expect(manager.hears("WATCHDOG=1"))
        let thread = try #require(program.threads.first { $0.name == "cleave-switch" })
        let result = cleave_test_freeze(thread.identifier)
        try #require(result == 0, "ptrace: \(result)")
        // The control thread lives, and says what it waits for.
        #expect(
            VhostProcess.waitUntil {
                program.errors.contains("switch thread 0 has not answered for 1 s")
            })
        manager.forget()
        // Five signs would have come.
        usleep(1_000_000)
        manager.listen()
        #expect(manager.words == [])
        #expect(cleave_test_thaw(thread.identifier) == 0)
        #expect(manager.hears("WATCHDOG=1"))
        let (left, right) = try guests()
        try left.connect(program.path("a"))
        try right.connect(program.path("b"))
        exchange(left, right)
        // The kernel keeps ten messages that nobody has taken, and refuses more.
        manager.forget()
        #expect(program.end() == 0)
        #expect(manager.hears("STOPPING=1"))
    }

    /// Words that have a shell hand its standard input over as a service manager would.
    private static func handing(_ name: String) -> [String] {
        [
            "sh", "-c",
            "exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=\(name) exec \"$@\"",
            "sh",
        ]
    }

    @Test("A socket that is handed over goes to the port of its name, and outlives the program")
    func handedOver() throws {
        let program = try VhostProcess()
        let listener = cleave_unix_listen(program.path("a"), -1)
        try #require(listener >= 0)
        defer { close(listener) }
        (program.wrapper, program.input) = (Self.handing("a"), dup(listener))
        let (left, right) = try guests()
        var bases: ([UInt16]?, [UInt16]?) = (nil, nil)
        for round in 0..<3 {
            try program.start(program.ports("b", "a"))
            try left.connectPatiently(program.path("a"), bases: bases.0)
            try right.connectPatiently(program.path("b"), bases: bases.1)
            exchange(left, right)
            bases = (try left.leave(), try right.leave())
            if round == 1 { program.kill() } else { #expect(program.end() == 0) }
            // Its file is there, and those who come now wait.
            let early = cleave_unix_connect(program.path("a"))
            #expect(early >= 0)
            close(early)
            program.input = dup(listener)
        }
        #expect(access(program.path("a"), F_OK) == 0 && access(program.path("b"), F_OK) != 0)
    }

    @Test(
        "systemd's own activation starts the program when a guest comes",
        .enabled(
            if: access("/usr/bin/systemd-socket-activate", X_OK) == 0,
            "there is no systemd-socket-activate: install systemd"))
    func activated() throws {
        let program = try VhostProcess()
        program.wrapper = [
            "systemd-socket-activate", "-l", program.path("a"), "-l", program.path("b"),
            "--fdname=a:b",
        ]
        try program.launch(program.ports("a", "b"))
        let (left, right) = try guests()
        #expect(VhostProcess.waitUntil { access(program.path("b"), F_OK) == 0 })
        try left.connectPatiently(program.path("a"))
        try right.connectPatiently(program.path("b"))
        try program.awaitReady()
        exchange(left, right)
        #expect(program.end() == 0)
    }

    @Test("A socket that no port can use is refused, with its name and the reason")
    func misdirected() throws {
        for (name, port, expected) in [
            ("x", "type=vhost-user,path=@,name=a", "\"x\", and no port has that name: a"),
            ("a", "type=vhost-user,path=@2,name=a", "the socket that it was given is "),
            ("a", "type=vhost-user,path=@,name=a,mode=client", "port a does not listen"),
            ("a", "type=generator,name=a", "the port of that name is no vhost-user port"),
            ("a:b", "type=generator,name=a", "LISTEN_FDNAMES: 2 names of 1 sockets"),
        ] {
            let program = try VhostProcess()
            let listener = cleave_unix_listen(program.path("s"), -1)
            (program.wrapper, program.input) = (Self.handing(name), listener)
            try program.launch(["--port", port.replacing("@", with: program.path("s"))])
            #expect([1, 2].contains(program.awaitEnd()))
            #expect(program.errors.contains(expected), "\(program.errors)")
        }
        let program = try VhostProcess()
        program.wrapper = Self.handing("a")
        try program.launch(program.ports("a"))
        #expect(program.awaitEnd() == 2)
        #expect(program.errors.contains("descriptor 3 is no listening unix stream socket"))
    }

    // MARK: The log

    @Test("Each line of a log for machines is an object that says when, how grave and what")
    func objects() throws {
        let program = try VhostProcess()
        try program.start(program.ports("a", "b") + ["--log-format", "json"])
        let (left, right) = try guests()
        try left.connect(program.path("a"))
        try right.connect(program.path("b"))
        exchange(left, right)
        #expect(throws: (any Error).self) { try LocalGuest(.split).connect(program.path("a")) }
        left.vanish()
        #expect(VhostProcess.waitUntil { program.errors.contains("\"disconnected\"") })
        #expect(program.end() == 0)
        let lines = try program.errors.split(separator: "\n").map { line in
            try #require(
                try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any], "\(line)"
            )
        }
        func has(_ message: String, _ port: String, _ level: String) -> Bool {
            lines.contains {
                $0["message"] as? String == message && $0["port"] as? String == port
                    && $0["level"] as? String == level
            }
        }
        #expect(has("front-end connected", "a", "info") && has("front-end connected", "b", "info"))
        #expect(has("refused a second front-end while one is connected", "a", "warning"))
        let disconnected = lines.first { $0["message"] as? String == "disconnected" }
        #expect((disconnected?["reason"] as? String)?.isEmpty == false)
        let counts = lines.first {
            $0["message"] as? String == "counters" && $0["port"] as? String == "b"
        }
        // As the control socket says it.
        let found = try JSONSerialization.data(withJSONObject: #require(counts?["counters"]))
        let counters = try JSONDecoder().decode(PortStatistics.self, from: found)
        #expect(counters.name == "b" && counters.outgoing.packets >= 100)
        for line in lines {
            let time = line["time"] as? String ?? ""
            #expect(time.wholeMatch(of: /\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z/) != nil, "\(line)")
        }
    }

    @Test("A start that fails is an object of the log as well")
    func failedStart() throws {
        let program = try VhostProcess()
        try program.launch(program.ports("no/folder") + ["--log-format", "json"])
        #expect(program.awaitEnd() == 1)
        let said = try JSONDecoder().decode(
            [String: String].self, from: Data(program.errors.utf8))
        #expect(said["level"] == "error")
        #expect(said["message"]?.contains("no/folder") == true)
    }

    @Test("The journal is told how grave a line is")
    func journal() throws {
        let program = try VhostProcess()
        // Standard error is a file; the journal's would be a socket that is named in the same way.
        program.wrapper = [
            "sh", "-c",
            "JOURNAL_STREAM=$(stat -L -c %d:%i /proc/self/fd/2) exec \"$@\"", "sh",
        ]
        try program.start(program.ports("a"))
        let guest = try LocalGuest(.split)
        try guest.connect(program.path("a"))
        #expect(throws: (any Error).self) { try LocalGuest(.split).connect(program.path("a")) }
        #expect(program.end() == 0)
        #expect(program.errors.contains("<6>cleave-vhost: port a: front-end connected\n"))
        #expect(program.errors.contains("<4>cleave-vhost: port a: refused a second"))
    }
}

// A service whose main process is another one after a takeover: the manager hears who, from the one
// that may say so, and goes on to hear that it lives.

import CCleaveHost
import CleaveControl
import CleaveHost
import CleaveTestSupport
import Foundation
import Glibc
import Testing

@Suite("A service that is taken over")
struct TakeoverServiceTests {
    /// Programs in turn; the first one's manager waits two seconds for a sign of life.
    private func service() throws -> (line: Succession, manager: ServiceListener) {
        var manager: ServiceListener?
        let line = try Succession { program in
            manager = try? ServiceListener(program.path("manager"))
            program.environment = [
                "NOTIFY_SOCKET": program.path("manager"), "WATCHDOG_USEC": "2000000",
            ]
            return program.ports("a", "b")
        }
        let found = try #require(manager)
        #expect(found.hears("READY=1", from: line.first.identifier))
        return (line, found)
    }

    @Test("The old program says who is the main process; after that the new one speaks")
    func mainProcess() throws {
        let (line, manager) = try service()
        #expect(manager.hears("WATCHDOG=1"))
        // The next one has the service from a program that has it from another.
        for _ in 0..<2 {
            manager.forget()
            let old = line.last.identifier
            try line.upgrade {
                manager.listen()
                usleep(1000)
            }
            let new = line.last.identifier
            #expect(manager.hears("READY=1", from: new) && manager.hears("WATCHDOG=1", from: new))
            let words = manager.words
            let place = try #require(words.firstIndex(of: "MAINPID=\(new)\nWATCHDOG=1"))
            #expect(manager.heard[...place].allSatisfy { $0.process == old }, "\(manager.heard)")
            #expect(manager.heard[(place + 1)...].allSatisfy { $0.process == new })
            // An end would be one of the service.
            #expect(!words.contains("STOPPING=1"))
            #expect(manager.longestGap < 2_000_000_000)
        }
        let last = line.last.identifier
        #expect(line.last.end() == 0)
        #expect(manager.hears("STOPPING=1", from: last))
    }

    @Test("A takeover that fails leaves the service as it was")
    func failure() throws {
        let (line, manager) = try service()
        let old = line.first.identifier
        for isSilent in [false, true] {
            manager.forget()
            let pretender = try Pretender(line.control)
            try pretender.hello(["a", "b"])
            _ = try pretender.offer()
            _ = try pretender.position()
            if !isSilent {
                try pretender.channel.send(.failed(reason: "no"), milliseconds: 1000)
            }
            #expect(
                VhostProcess.waitUntil {
                    line.first.errors.contains(isSilent ? "did not begin" : "no; traffic")
                }, "\(line.first.errors)")
            #expect(manager.hears("WATCHDOG=1"))
            #expect(manager.words.allSatisfy { $0 == "WATCHDOG=1" }, "\(manager.words)")
            #expect(manager.heard.allSatisfy { $0.process == old })
            withExtendedLifetime(pretender) {}
        }
        #expect(line.first.end() == 0)
        #expect(manager.hears("STOPPING=1", from: old))
    }

    @Test("Signs of life are given while a new program keeps all traffic waiting")
    func pause() throws {
        let program = try VhostProcess()
        let manager = try ServiceListener(program.path("manager"))
        program.environment = [
            "NOTIFY_SOCKET": program.path("manager"), "WATCHDOG_USEC": "600000",
        ]
        try program.start(program.ports("a") + ["--control", program.path("control")])
        let pretender = try Pretender(program.path("control"))
        try pretender.hello(["a"])
        _ = try pretender.offer()
        _ = try pretender.position()
        manager.forget()
        // The pause takes a second.
        usleep(850_000)
        manager.listen()
        #expect(manager.words.contains("WATCHDOG=1"))
        #expect(!program.errors.contains("goes on"), "it waits still: \(program.errors)")
        withExtendedLifetime(pretender) {}
    }

    @Test(
        "A program of another control group does not become the main process of this service",
        .enabled(if: OtherGroup.obstacle == nil, "\(OtherGroup.obstacle ?? "")"))
    func otherGroup() throws {
        let (line, manager) = try service()
        let group = try OtherGroup()
        let old = line.first
        let oldIdentifier = old.identifier
        var taken: VhostProcess?
        for _ in 0..<20 where taken == nil {
            let next = try VhostProcess()
            next.wrapper = group.wrapper
            try next.launch(
                next.ports("c")
                    + ["--port", "type=vhost-user,path=\(old.path("a")),name=a"]
                    + ["--takeover", line.control])
            if next.isReady() { taken = next } else { _ = next.awaitEnd() }
        }
        let new = try #require(taken)
        #expect(old.awaitEnd() == 0)
        #expect(manager.hears("STOPPING=1", from: oldIdentifier))
        #expect(manager.heard.allSatisfy { $0.process == oldIdentifier }, "\(manager.heard)")
        #expect(old.errors.contains("this service ends with this program"), "\(old.errors)")
        #expect(old.errors.contains("another control group"))
        #expect(new.end() == 0)
    }

    /// A control group that this process is not in.
    private final class OtherGroup {
        private let folder: String

        private static func parent() -> String? {
            ["/sys/fs/cgroup/pids", "/sys/fs/cgroup/systemd", "/sys/fs/cgroup"].first {
                FileManager.default.fileExists(atPath: $0 + "/cgroup.procs")
            }
        }

        static let obstacle: String? = {
            do {
                let group = try OtherGroup()
                let process = Process()
                process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
                process.arguments = group.wrapper + ["true"]
                try process.run()
                process.waitUntilExit()
                return process.terminationStatus == 0 ? nil : "no process may change its group"
            } catch { return "no control group can be made: \(error)" }
        }()

        init() throws {
            folder = "\(Self.parent() ?? "/nonexistent")/cleave-test.\(getpid())"
            guard mkdir(folder, 0o755) == 0 || errno == EEXIST else {
                throw HostError(folder, code: errno, "cannot be made")
            }
        }

        deinit { rmdir(folder) }

        var wrapper: [String] {
            ["sh", "-c", "echo $$ > \(folder)/cgroup.procs && exec \"$@\"", "sh"]
        }
    }

    @Test("The unit's reload has the installed program take over, and fails if that does")
    func unit() throws {
        let root = ReleaseProgram.root.appendingPathComponent("configs/systemd/takeover.conf")
        let unit = try String(contentsOf: root, encoding: .utf8)
        let reload = try #require(
            unit.split(separator: "\n").last { $0.hasPrefix("ExecReload=/") })
        let first = try VhostProcess()
        let manager = try ServiceListener(first.path("manager"))
        func write(_ ports: String) throws {
            try """
            control: \(first.path("control"))
            ports: [\(ports)]
            """.write(toFile: first.path("yaml"), atomically: true, encoding: .utf8)
        }
        let keys = "{name: a, type: vhost-user, path: \(first.path("a"))}"
        try write(keys)
        first.environment = ["NOTIFY_SOCKET": first.path("manager")]
        try first.start(["--config", first.path("yaml")])
        #expect(manager.hears("READY=1"))
        let guest = try LocalGuest(.split)
        try guest.connect(first.path("a"))
        let line = reload.dropFirst("ExecReload=".count)
            .replacingOccurrences(of: "/usr/local/bin/cleave-vhost", with: first.executable)
            .replacingOccurrences(of: "/etc/cleave/vhost.yaml", with: first.path("yaml"))
            .replacingOccurrences(
                of: "/run/cleave-vhost/control.sock", with: first.path("control"))
        // Nothing of it is a variable or a specifier to systemd.
        #expect(!reload.contains("$") && !reload.contains("%"))
        func run() throws -> Int32 {
            // What the shell leaves running has no descriptor of the test's.
            let shell = try VhostProcess()
            shell.wrapper = ["sh", "-c", line]
            try shell.launch([])
            defer { manager.listen() }
            return shell.awaitEnd()
        }
        // The port is another one in the file: the old program goes on.
        try write(String(keys.dropLast()) + ", mtu: 1500}")
        #expect(try run() != 0)
        #expect(manager.words == ["READY=1"])
        try write(keys)
        var codes: [Int32] = []
        repeat { codes.append(try run()) } while codes.last != 0 && codes.count < 20
        #expect(codes.last == 0)
        #expect(first.awaitEnd() == 0)
        let word = try #require(manager.words.first { $0.hasPrefix("MAINPID=") })
        let new = try #require(
            Int32(word.dropFirst("MAINPID=".count).prefix { $0.isNumber }))
        defer { kill(new, SIGKILL) }
        #expect(manager.hears("READY=1", from: new))
        let client = try ControlClient(path: first.path("control"))
        #expect(client.greeting.pid == new)
        _ = try guest.leave()
        kill(new, SIGTERM)
        #expect(manager.hears("STOPPING=1", from: new))
    }
}

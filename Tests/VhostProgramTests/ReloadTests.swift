import CleaveEngine
import CleaveHost
import CleavePorts
import CleaveProgramSupport
import CleaveSwitch
import Foundation
import Testing

@testable import cleave_vhost

/// The service manager's end of NOTIFY_SOCKET.
private final class Manager {
    private let descriptor: Int32

    init(_ path: String) throws {
        descriptor = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue), 0)
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        let bytes = Array(path.utf8CString)
        try #require(bytes.count <= MemoryLayout.size(ofValue: address.sun_path))
        withUnsafeMutableBytes(of: &address.sun_path) { target in
            bytes.withUnsafeBytes { target.copyMemory(from: $0) }
        }
        let result = withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
        try #require(result == 0, "\(path): \(errno)")
    }

    deinit { close(descriptor) }

    /// What it was told since it was asked last, the first line of each.
    func messages() -> [String] {
        var messages: [String] = []
        var bytes = [UInt8](repeating: 0, count: 256)
        while true {
            let count = recv(descriptor, &bytes, bytes.count, Int32(MSG_DONTWAIT))
            if count <= 0 { return messages }
            let text = String(decoding: bytes.prefix(count), as: UTF8.self)
            messages.append(text.split(separator: "\n").first.map(String.init) ?? "")
        }
    }
}

@Suite("A configuration that is read anew")
struct ReloadTests {
    private func read(_ text: String) throws -> VhostConfiguration {
        try VhostConfiguration.read(
            YAMLFile(Array(text.utf8), name: "x.yaml", directory: "configs"))
    }

    private static let three = """
        ports:
          - {name: a, type: generator, rate: 1}
          - {name: b, type: generator, rate: 1}
          - {name: c, type: generator, rate: 1}
        """

    private func change(
        to text: String, present: [String] = ["a", "b", "c"]
    ) throws -> ConfigurationChange {
        try ConfigurationChange(
            from: try read(Self.three), to: try read(text), present: present)
    }

    @Test("Ports are told apart by their names, and changed by any of their keys")
    func changes() throws {
        let same = try change(to: Self.three)
        #expect(same.removed.isEmpty && same.changed.isEmpty && same.added.isEmpty)
        #expect(same.untouchedCount == 3)
        let other = try change(
            to: """
                ports:
                  - {type: generator, rate: 1, name: c}
                  - {name: d, type: generator}
                  - {name: b, type: generator, rate: 2, packet-limit: 5}
                """)
        #expect(other.removed == ["a"] && other.changed == ["b"])
        #expect(other.added.map(\.port.name) == ["d", "b"])
        #expect(other.added.map(\.rateLimit) == [nil, RateLimit(packetsPerSecond: 5)])
        #expect(other.untouchedCount == 1)
        // One that could not be opened is tried again; one that is not of the file stays.
        let missing = try change(to: Self.three, present: ["a", "c", "x"])
        #expect(missing.added.map(\.port.name) == ["b"] && missing.removed.isEmpty)
        #expect(missing.untouchedCount == 3)
    }

    @Test(
        "What is wrong, or cannot change, is named",
        arguments: [
            ("ports: [{type: generator, rate: 0}]", "x.yaml:1:27: rate: 0 packets per second"),
            (three + "\ncpus: 0", "cpus differs now, and cannot change"),
            (three + "\nidle: busy", "idle differs now"),
            (three + "\nhold: 5", "hold differs now"),
            (three + "\nage: 5", "age differs now"),
            (three + "\naddresses: 5", "addresses differs now"),
            (three + "\ncontrol: /tmp/c.sock", "control differs now"),
            (three + "\nmetrics: 127.0.0.1:0", "metrics differs now"),
            (three + "\nwires: [[a, b]]", "port \"c\" is in no wire"),
            (three + "\n  - {name: a, type: generator}", "two ports are named \"a\""),
        ])
    func refusals(_ text: String, _ expected: String) throws {
        do {
            _ = try change(to: text)
            Issue.record("accepted")
        } catch { #expect("\(error)".contains(expected), "\(error)") }
    }

    @Test("A switch that runs has the ports of the file, and of a broken one those before")
    func running() throws {
        var text = Self.three
        let configuration = try read(text)
        let joined = try Switch(
            configuration.settings, ports: try configuration.makePorts()
        ) { _ in }
        try joined.open()
        defer { joined.close() }
        let reloader = Reloader(configuration) { () throws(Failure) in
            try VhostConfiguration.read(
                YAMLFile(Array(text.utf8), name: "x.yaml", directory: "configs"))
        }
        text = "ports:\n  - {name: b, type: generator, rate: 1}\n  - {name: d, type: generatr}"
        #expect(
            throws: Failure.usage(
                "x.yaml:3:15: type: \"generatr\" is not one of vhost-user, tap, af-packet, pcap, "
                    + "generator; did you mean generator?")
        ) { try reloader.reload(joined) }
        #expect(joined.portNames == ["a", "b", "c"])
        text = """
            ports:
              - {name: b, type: generator, rate: 1}
              - {name: d, type: pcap, in: /nonexistent/trace.pcap}
              - {name: e, type: generator, rate: 1}
            wires: [[b, e], [d, d2]]
            """
        #expect(throws: Failure.self) { try reloader.reload(joined) }
        text = text.replacingOccurrences(of: "wires: [[b, e], [d, d2]]", with: "")
        let first = try reloader.reload(joined)
        #expect(first.summary == "ports: 1 added, 2 removed, 0 changed, 1 untouched")
        // What shows only when it is opened leaves that port out.
        #expect(first.failures.count == 1)
        #expect(first.failures.first?.hasPrefix("port d: ") ?? false)
        #expect(joined.portNames == ["b", "e"] && joined.removed.count == 2)
        let second = try reloader.reload(joined)
        #expect(second.failures.count == 1 && joined.portNames == ["b", "e"])
        text =
            "ports:\n  - {name: b, type: generator, rate: 1}\n"
            + "  - {name: e, type: generator, rate: 1}\nwires: [[b, e]]"
        #expect(try reloader.reload(joined).failures.isEmpty)
        #expect(joined.portNames == ["b", "e"] && joined.removed.count == 2)
    }

    @Test("SIGHUP has the program read its file, and the service manager hears of it")
    func signal() throws {
        let root = (0..<3).reduce(URL(fileURLWithPath: #filePath)) { url, _ in
            url.deletingLastPathComponent()
        }
        let program = try #require(
            ["debug", "release"].map {
                root.appendingPathComponent(".build/\($0)/cleave-vhost")
            }.first { FileManager.default.isExecutableFile(atPath: $0.path) },
            "cleave-vhost is missing: build it first")
        let folder = FileManager.default.temporaryDirectory
            .appendingPathComponent("cleave-reload.\(getpid())")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        let file = folder.appendingPathComponent("x.yaml")
        func write(_ ports: [String]) throws {
            let lines = ports.map { "  - {name: \($0), type: vhost-user, path: \($0).sock}\n" }
            try ("ports:\n" + lines.joined()).write(to: file, atomically: true, encoding: .utf8)
        }
        try write(["a", "b"])
        let process = Process()
        process.executableURL = program
        process.arguments = ["--config", file.path]
        let notified = folder.appendingPathComponent("notify").path
        let manager = try Manager(notified)
        process.environment = ["NOTIFY_SOCKET": notified]
        let (output, errors) = (Pipe(), Pipe())
        (process.standardOutput, process.standardError) = (output, errors)
        try process.run()
        defer { if process.isRunning { kill(process.processIdentifier, SIGKILL) } }
        #expect(output.fileHandleForReading.availableData == Data("ready\n".utf8))
        var said = ""
        /// Reads what is said until that is said.
        func hears(_ text: String) -> Bool {
            while !said.contains(text) {
                let data = errors.fileHandleForReading.availableData
                if data.isEmpty { return false }
                said += String(decoding: data, as: UTF8.self)
            }
            return true
        }
        func has(_ port: String) -> Bool {
            FileManager.default.fileExists(atPath: folder.appendingPathComponent(port).path)
        }
        try write(["b", "c"])
        kill(process.processIdentifier, SIGHUP)
        #expect(hears("ports: 1 added, 1 removed, 0 changed, 1 untouched"))
        #expect(!has("a.sock") && has("b.sock") && has("c.sock"))
        var told = manager.messages()
        try "ports:\n  - {name: b, type: tap\n".write(to: file, atomically: true, encoding: .utf8)
        kill(process.processIdentifier, SIGHUP)
        #expect(hears("configuration not changed: \(file.path):3"))
        #expect(has("b.sock") && has("c.sock") && process.isRunning)
        kill(process.processIdentifier, SIGTERM)
        #expect(hears("(removed)"))
        process.waitUntilExit()
        told += manager.messages()
        #expect(
            told == ["READY=1", "RELOADING=1", "READY=1", "RELOADING=1", "READY=1", "STOPPING=1"])
        #expect(process.terminationStatus == 0 && process.terminationReason == .exit)
        #expect(!has("b.sock") && !has("c.sock"))
    }
}

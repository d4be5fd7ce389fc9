import CleaveEngine
import CleavePorts
import CleaveProgramSupport
import CleaveSwitch
import Testing

@testable import cleave_vhost

@Suite("Configurations")
struct ConfigurationTests {
    private func read(_ text: String) throws -> VhostConfiguration {
        try VhostConfiguration.read(
            YAMLFile(Array(text.utf8), name: "x.yaml", directory: "configs"))
    }

    @Test("Ports, wires and settings")
    func whole() throws {
        let configuration = try read(
            """
            ports:
              - {name: left, type: vhost-user, path: left.sock, queues: 2}
              - {name: right, type: vhost-user, path: /run/right.sock, header-queue: on}
            wires:
              - [left, right]
            cpus: 0
            idle: busy
            hold: 0
            age: 60
            addresses: 1k
            """)
        #expect(configuration.settings.wires.map { "\($0.0)-\($0.1)" } == ["left-right"])
        #expect(configuration.settings.threads == [0])
        #expect(try read("ports: [{type: tap}]\ncpus: 3,0-1").settings.threads == [3, 0, 1])
        #expect(configuration.settings.idle == .busy)
        #expect(configuration.settings.holdMicroseconds == 0)
        #expect(configuration.settings.ageSeconds == 60)
        #expect(configuration.settings.addressLimit == 1024)
        let ports = try configuration.makePorts().compactMap { $0 as? VhostUserPort }
        #expect(ports.map(\.settings.path) == ["configs/left.sock", "/run/right.sock"])
        #expect(ports.map(\.settings.queuePairs) == [2, 1])
        #expect(ports.map(\.settings.headerQueue) == [false, true])
    }

    @Test(
        "Mistakes are named at their place",
        arguments: [
            ("", "x.yaml:1: the configuration is empty; it needs ports"),
            ("idle: busy", "x.yaml: no key \"ports\"; nothing to join"),
            ("ports: []", "x.yaml:1:1: ports: expected a list of ports"),
            ("prts: []", "x.yaml:1:1: unknown key \"prts\"; did you mean ports?"),
            ("ports:\n  - {type: tap}\nidle: lazy", "x.yaml:3:1: idle: \"lazy\" is not one of"),
            ("ports:\n  - {type: tap, type: tap}", "the same key again"),
            ("ports:\n  - 3", "x.yaml:2:5: a port: expected keys with values"),
            ("ports:\n  - {type: tap}\nwires: [[a]]", "x.yaml:3:9: wires: expected two names"),
            ("ports:\n  - {type: tap}\ncpus: ''", "x.yaml:3:1: cpus: no CPU; the switch has one"),
            ("ports:\n  - {type: tap}\ncpus: 1-x", "x.yaml:3:1: cpus: "),
            ("ports:\n  - {type: tap}\nhold: -1", "hold: -1 is negative"),
            ("ports: [", "x.yaml:"),
            (
                "ports:\n  - {type: vhost-user, path: a}\n  - {type: vhost-user, path: a}",
                "x.yaml:3:5: path: configs/a is port port0's already"
            ),
            (
                "ports:\n  - {type: tap, interface: t, name: x}\n  - {type: tap, interface: t}",
                "x.yaml:3:5: interface: t is port x's already"
            ),
            (
                "ports:\n  - {type: pcap, out: a}\n  - {type: pcap, in: b, out: a}",
                "x.yaml:3:5: out: configs/a is port port0's already"
            ),
            (
                "ports:\n  - {type: pcap, out: /tmp/a}\n  - {type: vhost-user, path: /tmp/./a}",
                "x.yaml:3:5: path: /tmp/./a is port port0's already"
            ),
            (
                "control: /tmp/a\nports:\n  - {type: vhost-user, path: /tmp/../tmp/a}",
                "x.yaml:3:5: path: /tmp/../tmp/a is control's already"
            ),
            (
                "control: /tmp/a\nmetrics: 'unix:/tmp/a'\nports: [{type: generator}]",
                "metrics: /tmp/a is control's already"
            ),
            (
                "control: /tmp/\(String(repeating: "a", count: 103))\nports: [{type: generator}]",
                "a socket's path has at most 107 bytes"
            ),
            ("ports: [{type: generator, name: --json}]", "name: \"--json\" begins with a dash"),
            ("ports: [{type: generator, name: (removed)}]", "(removed) stands for ports that are"),
        ])
    func mistakes(_ text: String, _ expected: String) {
        do {
            _ = try read(text).makePorts()
            Issue.record("accepted")
        } catch let failure as Failure {
            #expect(failure.description.contains(expected), "\(failure)")
        } catch { Issue.record("\(error)") }
    }

    @Test("A mistake in a port is named at the port's place")
    func portMistake() throws {
        let configuration = try read("ports:\n  - {type: vhost-user, path: a}\n  - {type: tap}")
        do {
            _ = try configuration.makePorts()
            Issue.record("accepted")
        } catch {
            #expect(error.description.hasPrefix("x.yaml:3:5: no interface"), "\(error)")
        }
    }

    @Test(
        "The files that come with the project are right",
        arguments: ["two-guests", "guest-and-host", "recorded", "generated"])
    func shipped(_ name: String) throws {
        let path = #filePath.split(separator: "/").dropLast(3).joined(separator: "/")
        let configuration = try VhostConfiguration.read(path: "/\(path)/configs/vhost/\(name).yaml")
        let names = try configuration.ports.enumerated().map { try $1.name($0) }
        try configuration.settings.validate(names: names)
        for port in configuration.ports { _ = try port.type() }
        if name == "generated" { #expect(try configuration.makePorts().count == 2) }
    }
}

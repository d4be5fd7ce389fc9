import ArgumentParser
import CleaveHost
import CleavePorts
import CleaveProgramSupport
import CleaveSwitch
import Glibc

/// Opens the ports and switches until it is stopped.
struct RunCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "run", abstract: "Joins ports until it is stopped (the default).",
        usage: "cleave-vhost [run] --port <key=value,...> ... [options]")

    @OptionGroup var ports: PortOptions

    @Option(
        name: .customLong("socket-path"),
        help: .example(
            "QEMU's convention: one vhost-user port that listens there.",
            "--socket-path /tmp/a.sock", "file"))
    var socketPath: String?

    @Option(
        name: .customLong("fd"), parsing: .unconditional,
        help: .example(
            "QEMU's convention: one vhost-user port over a connected socket.", "--fd 3", "number"))
    var descriptor: Int32?

    @Flag(
        name: .customLong("print-capabilities"),
        help: "QEMU's convention: prints what this back-end is, as JSON, and ends.")
    var printsCapabilities = false

    @Flag(name: .shortAndLong, help: "Says nothing of ports that come and go.")
    var quiet = false

    func run() throws {
        if printsCapabilities {
            return try Stream.output.write("{\n  \"type\": \"net\"\n}\n")
        }
        var configuration = try ports.configuration()
        if let socketPath {
            var port = PortSetting(place: "--socket-path")
            port.isOfCommandLine = true
            try port.set("type", SettingValue(text: "vhost-user"), at: "--socket-path")
            try port.set("path", SettingValue(text: socketPath), at: "--socket-path")
            configuration.ports.append(port)
        }
        var made = try configuration.makePorts()
        var connected: VhostUserPort?
        if let descriptor {
            do {
                let port = try VhostUserPort(connected: descriptor, name: "fd\(descriptor)")
                made.append(port)
                connected = port
            } catch { throw Failure.usage("--fd: \(error)") }
        }
        guard !made.isEmpty else {
            guard configuration.settings.wires.isEmpty else {
                throw Failure.usage("--wire: there is no port to join; give --port or --config")
            }
            return try Stream.output.write(Introduction.text)
        }
        do { try configuration.settings.validate(names: made.map(\.name)) } catch {
            throw Failure.usage("\(error)")
        }
        try serve(made, configuration.settings, only: connected)
    }

    /// - Parameter connected: the port of `--fd`: with its connection the program ends.
    private func serve(
        _ ports: [any Port], _ settings: SwitchConfiguration, only connected: VhostUserPort?
    ) throws(Failure) {
        let isQuiet = quiet
        do {
            try ReportSignal.catchSignal()
            let joined = try Switch(settings, ports: ports) { line in
                if !isQuiet { OperatorLog.write("cleave-vhost: \(line)\n") }
            }
            try joined.open()
            defer {
                joined.close()
                OperatorLog.write(StatisticsText.text(joined), waiting: 200)
            }
            try Stream.output.write("ready\n")
            try ServiceManager.sayReady()
            joined.serve {
                if ReportSignal.take() { OperatorLog.write(StatisticsText.text(joined)) }
                return StopSignal.received != nil || connected?.isEnded ?? false
            }
        } catch let failure as Failure {
            throw failure
        } catch { throw .run("\(error)") }
    }
}

/// What the program says without ports.
enum Introduction {
    static let text = """
        cleave-vhost joins virtual machines over vhost-user sockets, with one copy from guest to
        guest. No port was given. Two guests, in one shell:

          cleave-vhost --port type=vhost-user,path=/tmp/a.sock \\
                       --port type=vhost-user,path=/tmp/b.sock

        and for each guest the arguments that this prints:

          cleave-vhost print-qemu-args port0 --port type=vhost-user,path=/tmp/a.sock

        A guest and this host: --port type=tap,interface=tap0 as the second port.
        'cleave-vhost --help' has all of it.

        """
}

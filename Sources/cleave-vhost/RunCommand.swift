import ArgumentParser
import CleaveControl
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

    @Option(
        name: .customLong("log-format"),
        help: .example(
            "How lines on standard error are written: text, or json, an object on each line with "
                + "time, level, port, message and reason.", "--log-format json", "format"))
    var logFormat = OperatorLog.Format.text

    @Option(
        help: .example(
            "What becomes of system calls that the program does not make once its ports are open: "
                + "on ends it, log tells the kernel's log, off lets all pass.", "--seccomp log",
            "kind"))
    var seccomp = Sandbox.on

    @Option(
        help: .example(
            "A socket for 'cleave-vhost ctl': this file, of mode 0660, or auto for its usual "
                + "place. Without it there is none.", "--control /tmp/c.sock", "file"))
    var control: String?

    @Option(
        help: .example(
            "Takes over the ports of a cleave-vhost that runs, with their sockets, connections and "
                + "queues, while packets flow; that one ends then. The value is its --control.",
            "--takeover /tmp/c.sock --control /tmp/c.sock --config two-guests.yaml", "file"))
    var takeover: String?

    @OptionGroup(title: "Metrics") var metrics: MetricsOptions

    func run() throws {
        do { try start() } catch let failure as Failure where logFormat == .json {
            if failure == .outputClosed { throw failure }
            OperatorLog(.json).say(LogEntry(failure.description, level: .error))
            throw Failure.reported(exitCode: failure.exitCode)
        }
    }

    private func start() throws {
        if printsCapabilities {
            return try Stream.output.write("{\n  \"type\": \"net\"\n}\n")
        }
        var configuration = try configuration()
        var made = try configuration.makePorts()
        var connected: VhostUserPort?
        if takeover != nil {
            if descriptor != nil {
                throw Failure.usage("--fd: a port over one connection cannot be taken over")
            }
            try Takeover.check(made)
        }
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
        configuration.settings.rateLimits = try configuration.rateLimits()
        do { try configuration.settings.validate(names: made.map(\.name)) } catch {
            throw Failure.usage("\(error)")
        }
        try serve(made, configuration, only: connected)
    }

    /// What the options say, and the file that they name.
    private func configuration() throws(Failure) -> VhostConfiguration {
        var configuration = try ports.configuration()
        if let socketPath {
            var port = PortSetting(place: "--socket-path")
            port.isOfCommandLine = true
            try port.set("type", SettingValue(text: "vhost-user"), at: "--socket-path")
            try port.set("path", SettingValue(text: socketPath), at: "--socket-path")
            configuration.ports.append(port)
        }
        if let control {
            configuration.control = control
            configuration.isControlOfCommandLine = true
        }
        try metrics.apply(to: &configuration.metrics)
        return configuration
    }

    /// - Parameter connected: the port of `--fd`: with its connection the program ends.
    private func serve(
        _ made: [any Port], _ configuration: VhostConfiguration, only connected: VhostUserPort?
    ) throws(Failure) {
        let settings = configuration.settings
        let log = OperatorLog(logFormat)
        if quiet { log.threshold = .warning }
        do {
            try RequestSignal.report.catchSignal()
            // Without a file there is nothing to read: a terminal that closes ends the program.
            if ports.config != nil { try RequestSignal.reload.catchSignal() }
            let reloader = Reloader(configuration) { () throws(Failure) in try self.configuration()
            }
            let signs = try SignsOfLife(log)
            try ServiceConnection.giveSockets(to: made)
            let joined = try Switch(settings, ports: made) { log.say($0) }
            try open(joined, made, log, signs)
            let handover = HandoverServer(log, signs)
            // After all else: the program that has taken over waits for it.
            defer { handover.end() }
            let commands = Self.commands(log, ports.config == nil ? nil : reloader, handover)
            let server = try attend(log) { () throws(SetupError) in
                try configuration.controlPath.map { (path) throws(SetupError) in
                    try Self.serve(joined, at: path, settings, commands)
                }
            }
            defer { server?.stop() }
            let export = try attend(log) { () throws(SetupError) in
                try Self.export(joined, configuration.metrics, settings, log)
            }
            defer { export?.stop(joined.statistics) }
            defer {
                joined.close()
                log.report(joined.statistics, waiting: 200)
            }
            if takeover == nil { try seccomp.enter(log) }
            try sayReady(log)
            joined.serve {
                if RequestSignal.report.take() { log.report(joined.statistics) }
                if RequestSignal.reload.take() { reloader.reloadAndTell(joined, log) }
                signs.give(joined)
                return StopSignal.received != nil || handover.isHandedOver
                    || connected?.isEnded ?? false
            }
            ServiceConnection.sayStopping(log)
        } catch let failure as Failure {
            throw failure
        } catch { throw .run("\(error)") }
    }

    /// Opens the ports, or goes on with those of another program.
    private func open(
        _ joined: Switch, _ made: [any Port], _ log: OperatorLog, _ signs: SignsOfLife
    ) throws(Failure) {
        guard let takeover else {
            do throws(SetupError) { return try joined.open() } catch { throw .run("\(error)") }
        }
        let other = try Takeover(path: ControlPlace.path(takeover))
        do {
            try other.prepare(joined, made)
            try joined.open(held: true)
            // Guests' packets come from the first moment on.
            try seccomp.enter(log)
            log.say(LogEntry(try other.switchOver(joined)))
        } catch {
            // What waits in the queues is the other program's.
            joined.abandon()
            throw other.fail("\(error)")
        }
        other.awaitEnd(joined, log, signs)
    }

    /// Says that the program does its work, to whoever waits for that. Guests that were taken over
    /// do not lose it because nobody does any more.
    private func sayReady(_ log: OperatorLog) throws {
        for say in [{ try Stream.output.write("ready\n") }, { try ServiceManager.sayReady() }] {
            do { try say() } catch {
                if takeover == nil { throw error }
                log.say(
                    LogEntry("nobody hears that it is ready", level: .warning, reason: "\(error)"))
            }
        }
    }

    /// Opens what is beside the ports. Once these were taken over, guests have nobody else: what
    /// cannot be had is left out, then.
    private func attend<Opened>(
        _ log: OperatorLog, _ body: () throws(SetupError) -> Opened?
    ) throws(SetupError) -> Opened? {
        do throws(SetupError) { return try body() } catch {
            if takeover == nil { throw error }
            log.say(LogEntry("the program runs without this", level: .error, reason: "\(error)"))
            return nil
        }
    }
}

extension RunCommand {
    /// Opens the control socket.
    private static func serve(
        _ joined: Switch, at control: String, _ settings: SwitchConfiguration,
        _ commands: [ControlCommand]
    ) throws(SetupError) -> ControlServer {
        let server = try ControlServer(
            path: ControlPlace.path(control),
            greeting: ControlGreeting(
                program: "cleave-vhost", version: VhostProgram.version, pid: getpid()),
            commands: commands, requests: joined.requests)
        joined.programCounters.append { server.counters }
        try server.start(busyCPUs: settings.threads.compactMap { $0 })
        return server
    }

    /// Every command that the control socket may have.
    /// - Parameters:
    ///   - reloader: nil if there is no file to read anew.
    ///   - handover: what the program looks at for its end; nil for one of its own.
    static func commands(
        _ log: OperatorLog, _ reloader: Reloader?, _ handover: HandoverServer? = nil
    ) -> [ControlCommand] {
        let access = LogLevelAccess(
            names: LogLevel.allCases.map(\.rawValue), get: { log.threshold.rawValue },
            set: { log.threshold = LogLevel(rawValue: $0) ?? log.threshold })
        return StandardCommands.all() + [StandardCommands.logLevel(access)]
            + PortCommands.all(reloader) + [(handover ?? HandoverServer(log)).command]
    }

    /// Begins to give out metrics, if they are wanted.
    private static func export(
        _ joined: Switch, _ metrics: MetricsSettings, _ settings: SwitchConfiguration,
        _ log: OperatorLog
    ) throws(SetupError) -> MetricsExport? {
        guard metrics.address != nil || metrics.textfile != nil else { return nil }
        let requests = joined.requests
        let export = try MetricsExport(
            metrics, now: joined.statistics, busyCPUs: settings.threads.compactMap { $0 },
            version: VhostProgram.version,
            log: { log.say(LogEntry($0, level: .warning)) },
            // A scraper that goes on waiting would wait for the end of the program, too.
            source: { requests.ask(milliseconds: 2000) { $0.statistics } })
        if let address = export.address {
            log.say(LogEntry("metrics at \(address.url("/metrics"))"))
        }
        return export
    }
}

/// What the program says without ports.
enum Introduction {
    static let text = """
        cleave-vhost joins virtual machines over vhost-user sockets, with one copy from
        guest to guest. No port was given. Two guests, in one shell:

          cleave-vhost --port type=vhost-user,path=/tmp/a.sock \\
                       --port type=vhost-user,path=/tmp/b.sock

        and for each guest the arguments that this prints:

          cleave-vhost print-qemu-args port0 --port type=vhost-user,path=/tmp/a.sock

        A guest and this host: --port type=tap,interface=tap0 as the second port.
        'cleave-vhost --help' has all of it.

        """
}

// The configuration, read anew while the switch runs: ports come and go, others are untouched.
//
// All that can be wrong with what was read is found before anything changes. What shows only when
// a port is opened, such as a socket that somebody else has, leaves that port out and no other.

import CleaveHost
import CleavePorts
import CleaveProgramSupport
import CleaveSwitch

/// What another configuration means for a switch that runs.
struct ConfigurationChange {
    /// Names of ports that end.
    let removed: [String]
    /// Names of ports whose keys are others: they end, and begin anew.
    let changed: [String]
    /// Ports that begin, those that are changed among them.
    let added: [(port: any Port, rateLimit: RateLimit?)]
    let untouchedCount: Int
    let wires: [(String, String)]

    /// - Parameters:
    ///   - old: what was read last.
    ///   - new: what was read now.
    ///   - present: names of the switch's ports. Those that `old` does not name stay; those that
    ///     are missing are added again.
    /// - Throws: what is wrong with `new`, or what of it cannot change.
    init(
        from old: VhostConfiguration, to new: VhostConfiguration, present: [String]
    ) throws(Failure) {
        for setting in SwitchSetting.allCases
        where setting.differs(old.settings, new.settings) {
            throw .usage(
                "\(setting.rawValue) is another now, and cannot change while the program runs; "
                    + "nothing was changed")
        }
        let ports = try new.makePorts()
        let limits = try new.rateLimits()
        var before: [String: PortSetting] = [:]
        for (number, port) in old.ports.enumerated() { before[try port.name(number)] = port }
        let names = ports.map(\.name)
        let others = present.filter { before[$0] == nil }
        var settings = new.settings
        settings.rateLimits = limits
        do throws(SetupError) {
            try settings.validate(names: names + others)
            let count = names.count + others.count
            guard count <= settings.portLimit else {
                throw SetupError("\(count) ports: at most \(settings.portLimit)")
            }
        } catch { throw .usage("\(error)") }
        removed = present.filter { before[$0] != nil && !names.contains($0) }
        var changed: [String] = []
        var added: [(port: any Port, rateLimit: RateLimit?)] = []
        for (port, setting) in zip(ports, new.ports) {
            if present.contains(port.name) {
                let isSame = before[port.name]?.isSame(as: setting, old.directory, new.directory)
                if isSame ?? false { continue }
                changed.append(port.name)
            }
            added.append((port, limits[port.name]))
        }
        self.changed = changed
        self.added = added
        untouchedCount = present.count - removed.count - changed.count
        wires = new.settings.wires
    }

    /// Carries it out. On the control thread of the switch.
    /// - Returns: why ports are not there now that should be.
    func apply(to joined: Switch) -> [String] {
        var failures: [String] = []
        func attempt(_ body: () throws(SetupError) -> Void) {
            do throws(SetupError) { try body() } catch { failures.append("\(error)") }
        }
        for name in removed + changed {
            attempt { () throws(SetupError) in try joined.remove(name) }
        }
        attempt { () throws(SetupError) in try joined.setWires(wires) }
        for (port, rateLimit) in added {
            attempt { () throws(SetupError) in try joined.add(port, rateLimit: rateLimit) }
        }
        return failures
    }

    /// What was done, for people.
    var summary: String {
        "\(added.count - changed.count) ports added, \(removed.count) removed, "
            + "\(changed.count) changed, \(untouchedCount) untouched"
    }
}

/// What reads the configuration anew.
final class Reloader: @unchecked Sendable {
    // SAFETY: used on the control thread of the switch alone.

    private let read: () throws(Failure) -> VhostConfiguration
    private var current: VhostConfiguration

    /// - Parameters:
    ///   - current: what the switch was made from.
    ///   - read: reads it anew.
    init(
        _ current: VhostConfiguration,
        read: @escaping () throws(Failure) -> VhostConfiguration
    ) {
        self.current = current
        self.read = read
    }

    /// On the control thread of the switch.
    /// - Returns: what was done, and why ports are not there that should be.
    /// - Throws: what is wrong with the configuration; nothing has changed then.
    func reload(_ joined: Switch) throws(Failure) -> (summary: String, failures: [String]) {
        let new = try read()
        let change = try ConfigurationChange(from: current, to: new, present: joined.portNames)
        let failures = change.apply(to: joined)
        current = new
        return (change.summary, failures)
    }

    /// The same, told to the operator and to the service manager.
    func reloadAndTell(_ joined: Switch, _ log: OperatorLog) {
        func warn(_ message: String, _ reason: String? = nil) {
            log.say(LogEntry(message, level: .warning, reason: reason))
        }
        do { try ServiceManager.sayReloading() } catch { warn("\(error)") }
        do throws(Failure) {
            let (summary, failures) = try reload(joined)
            log.say(LogEntry("configuration read anew: \(summary)"))
            for failure in failures { warn("not done", failure) }
        } catch { warn("configuration not changed", "\(error)") }
        do { try ServiceManager.sayReady() } catch { warn("\(error)") }
    }
}

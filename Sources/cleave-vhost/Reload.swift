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
                "\(setting.rawValue) differs now, and cannot change while the program runs; "
                    + "nothing was changed")
        }
        let places: [(key: String, isSame: Bool)] = [
            ("control", old.controlPath == new.controlPath),
            ("metrics", old.metrics == new.metrics),
        ]
        for place in places where !place.isSame {
            throw .usage(
                "\(place.key) differs now, and cannot change while the program runs; nothing "
                    + "was changed")
        }
        let ports = try new.makePorts()
        let limits = try new.rateLimits()
        var before: [String: PortSetting] = [:]
        for (number, port) in old.ports.enumerated() { before[try port.name(number)] = port }
        let names = ports.map(\.name)
        let others = present.filter { before[$0] == nil }
        var settings = new.settings
        settings.rateLimits = limits
        do throws(SetupError) { try settings.validate(names: names + others) } catch {
            throw .usage("\(error)")
        }
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
    /// - Returns: what was done, for people, and why ports are not there now that should be.
    func apply(to joined: Switch) -> (summary: String, failures: [String]) {
        var failures: [String] = []
        func isDone(_ body: () throws(SetupError) -> Void) -> Bool {
            do throws(SetupError) { try body() } catch {
                failures.append("\(error)")
                return false
            }
            return true
        }
        func isRemoved(_ name: String) -> Bool {
            isDone { () throws(SetupError) in try joined.remove(name) }
        }
        var removedCount = removed.count(where: isRemoved)
        let ended = Set(changed.filter(isRemoved))
        _ = isDone { () throws(SetupError) in try joined.setWires(wires) }
        var (addedCount, changedCount) = (0, 0)
        for (port, rateLimit) in added {
            let isThere = isDone { () throws(SetupError) in
                try joined.add(port, rateLimit: rateLimit)
            }
            switch (isThere, ended.contains(port.name)) {
            case (true, true): changedCount += 1
            case (true, false): addedCount += 1
            // It ended, and what should be in its place is not there.
            case (false, true): removedCount += 1
            case (false, false): break
            }
        }
        let summary =
            "ports: \(addedCount) added, \(removedCount) removed, \(changedCount) changed, "
            + "\(untouchedCount) untouched"
        return (summary, failures)
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
        let done = change.apply(to: joined)
        current = new
        return done
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

import ArgumentParser
import CleaveProgramSupport
import CleaveSwitch

/// Options that say what is joined, shared by the commands.
struct PortOptions: ParsableArguments {
    @Option(
        help: .example(
            "A port; may be repeated. 'check-config --schema' and the documentation's page on the "
                + "configuration say what each key means.",
            "--port type=vhost-user,path=/tmp/a.sock; all keys: \(PortKeys.usage)",
            "key=value,..."))
    var port: [String] = []

    @Option(
        help: .example(
            "Joins two ports by a wire: nothing is learned. Then every port is in one.",
            "--wire port0,port1", "name,name"))
    var wire: [String] = []

    @Option(
        help: .example(
            "A YAML file with the same keys; options on the command line come on top.",
            "--config configs/vhost/two-guests.yaml", "file"))
    var config: String?

    @Option(
        help: .example(
            SwitchSetting.cpus.key.help, SwitchSetting.cpus.use, "list"))
    var cpus: String?

    @Option(
        help: .example(
            SwitchSetting.idle.key.help, SwitchSetting.idle.use, "kind"))
    var idle: String?

    @Option(
        parsing: .unconditional,
        help: .example(
            SwitchSetting.hold.key.help, SwitchSetting.hold.use, "microseconds"))
    var hold: String?

    @Option(
        parsing: .unconditional,
        help: .example(SwitchSetting.age.key.help, SwitchSetting.age.use, "seconds"))
    var age: String?

    @Option(
        parsing: .unconditional,
        help: .example(
            SwitchSetting.addresses.key.help, SwitchSetting.addresses.use, "number"))
    var addresses: String?

    /// All of them together.
    func configuration() throws(Failure) -> VhostConfiguration {
        var configuration = VhostConfiguration()
        if let config { configuration = try .read(path: config) }
        for text in port {
            var setting = try PortSetting(parsing: text)
            // Paths of the command line are relative to the current directory, whatever a file's
            // are.
            setting.isOfCommandLine = true
            configuration.ports.append(setting)
        }
        for text in wire {
            let ends = text.split(separator: ",", omittingEmptySubsequences: false).map(String.init)
            guard ends.count == 2 else {
                throw .usage("--wire \(text): expected the names of two ports: --wire A,B")
            }
            configuration.settings.wires.append((ends[0], ends[1]))
        }
        let texts: [(SwitchSetting, String?)] = [
            (.cpus, cpus), (.idle, idle), (.hold, hold), (.age, age), (.addresses, addresses),
        ]
        for (setting, text) in texts {
            guard let text else { continue }
            do {
                try setting.set(SettingValue(text: text), in: &configuration.settings)
            } catch { throw .usage("--\(setting.rawValue): \(error.problem)") }
        }
        return configuration
    }
}

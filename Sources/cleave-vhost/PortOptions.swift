import ArgumentParser
import CleaveProgramSupport
import CleaveSwitch

/// Options that say what is joined, shared by the commands.
struct PortOptions: ParsableArguments {
    @Option(
        help: .example(
            "A port; may be repeated.",
            """
            --port type=vhost-user,path=A.sock[,mode=server|client][,queues=N][,name=NAME]\
            [,mtu=N][,mac=MAC][,features-off=NAME+NAME][,node=N][,header-queue=on]; \
            type=tap,interface=NAME[,queues=N]; type=af-packet,interface=NAME[,queues=N]; \
            type=pcap[,in=FILE][,out=FILE][,rate=PPS][,loop=N]; \
            type=generator[,traffic=SIZE/KIND][,rate=PPS][,flows=N][,count=N][,queues=N]\
            [,from=MAC][,to=MAC][,node=N]
            """, "key=value,..."))
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
            "One switch thread for each of these CPUs; the ports' queues are dealt out to them.",
            "--cpus 1-3", "list"))
    var cpus: String?

    @Option(
        help: .example(
            "What a switch thread does while nothing comes: busy, pause or park (sleeps).",
            "--idle busy", "kind"))
    var idle: String?

    @Option(
        parsing: .unconditional,
        help: .example(
            "Microseconds that packets wait for a receiver without room, then they are dropped.",
            "--hold 0", "microseconds"))
    var hold: String?

    @Option(
        parsing: .unconditional,
        help: .example("Seconds after which an address is forgotten.", "--age 60", "seconds"))
    var age: String?

    @Option(
        parsing: .unconditional,
        help: .example("Most addresses learned at one port.", "--addresses 64", "number"))
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

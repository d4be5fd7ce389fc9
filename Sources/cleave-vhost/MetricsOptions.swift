import ArgumentParser
import CleaveControl
import CleaveProgramSupport

/// A setting of the metrics. The raw value is both the flag and the key.
enum MetricsSetting: String, CaseIterable {
    case metrics
    case textfile = "metrics-textfile"
    case interval = "metrics-interval"

    var key: SettingKey {
        switch self {
        case .metrics:
            SettingKey(
                name: rawValue, kind: .text("ADDRESS"),
                help: "Where metrics are served for Prometheus, at /metrics: a loopback address or "
                    + "unix:FILE; public: in front allows one that other machines reach.",
                example: "127.0.0.1:9876")
        case .textfile:
            SettingKey(
                name: rawValue, kind: .text("FILE.prom"),
                help: "A file for node_exporter's textfile collector that has the same.",
                example: "/var/lib/node_exporter/cleave.prom")
        case .interval:
            SettingKey(
                name: rawValue, kind: .number(1...86400, units: "seconds"),
                help: "Time between two writes of that file.", defaultText: "15", example: "60")
        }
    }

    /// - Parameter directory: where relative paths start; empty for the current one.
    func set(
        _ value: SettingValue, in settings: inout MetricsSettings, directory: String = ""
    ) throws(SettingError) {
        func absolute(_ path: String) -> String {
            path.hasPrefix("/") || directory.isEmpty ? path : "\(directory)/\(path)"
        }
        try key.check(value)
        switch self {
        case .metrics:
            do {
                let address = try ServiceAddress(parsing: value.text)
                if case .unix(let path) = address {
                    settings.address = .unix(path: absolute(path))
                } else {
                    settings.address = address
                }
            } catch { throw SettingError(problem: error.description) }
        case .textfile:
            guard value.text.hasSuffix(".prom") else {
                throw SettingError(
                    problem: "\(value.text): node_exporter reads files whose names end with .prom")
            }
            settings.textfile = absolute(value.text)
        case .interval:
            settings.textfileSeconds = try value.count(kilo: 1000)
        }
    }
}

/// Options that say where metrics go.
struct MetricsOptions: ParsableArguments {
    @Option(
        help: .example(
            "Serves metrics there for Prometheus, at /metrics: a loopback address or unix:FILE. "
                + "public: in front allows an address that other machines reach.",
            "--metrics 127.0.0.1:9876", "address"))
    var metrics: String?

    @Option(
        help: .example(
            "Writes the same to a file for node_exporter's textfile collector.",
            "--metrics-textfile /var/lib/node_exporter/cleave.prom", "file"))
    var metricsTextfile: String?

    @Option(
        parsing: .unconditional,
        help: .example(
            "Seconds between two writes of that file; 15 unless said.", "--metrics-interval 60",
            "seconds"))
    var metricsInterval: String?

    /// Puts what was given on top of a configuration's.
    func apply(to settings: inout MetricsSettings) throws(Failure) {
        let texts: [(MetricsSetting, String?)] = [
            (.metrics, metrics), (.textfile, metricsTextfile), (.interval, metricsInterval),
        ]
        for (setting, text) in texts {
            guard let text else { continue }
            do { try setting.set(SettingValue(text: text), in: &settings) } catch {
                throw .usage("--\(setting.rawValue): \(error.problem)")
            }
        }
    }
}

// Metrics in the two texts that scrapers read: OpenMetrics 1.0 and Prometheus' text format 0.0.4.
// Both come from the registry of counters, and so does everything else that shows them.
//
//   https://prometheus.io/docs/specs/om/open_metrics_spec/
//   https://prometheus.io/docs/instrumenting/exposition_formats/

import CleaveSwitch

/// A snapshot as a scraper reads it.
package enum MetricsText {
    package enum Format: String, Sendable {
        case openMetrics = "application/openmetrics-text; version=1.0.0; charset=utf-8"
        case prometheus = "text/plain; version=0.0.4; charset=utf-8"

        /// What a scraper wants most of those that it accepts; the older one if it says nothing.
        package init(accept header: String?) {
            var best = (weight: 0.0, format: Format.prometheus)
            for wish in (header ?? "").lowercased().split(separator: ",") {
                let parts = wish.split(separator: ";").map(Self.trim)
                guard let type = parts.first else { continue }
                var weight = 1.0
                for part in parts.dropFirst() where part.hasPrefix("q=") {
                    weight = Double(part.dropFirst(2)) ?? 0
                }
                let format: Format? =
                    switch type {
                    case "application/openmetrics-text": .openMetrics
                    case "text/plain", "text/*", "*/*": .prometheus
                    default: nil
                    }
                if let format, weight > best.weight { best = (weight, format) }
            }
            self = best.format
        }

        private static func trim(_ text: Substring) -> Substring {
            var text = text.drop { $0 == " " || $0 == "\t" }
            while text.last == " " || text.last == "\t" { text.removeLast() }
            return text
        }
    }

    /// In front of every name.
    package static let prefix = "cleave_vhost_"

    /// The name of a counter's samples, in either text.
    package static func sampleName(_ counter: CounterDescription) -> String {
        prefix + counter.name + (counter.kind == .counter ? "_total" : "")
    }

    /// - Parameter version: the program's, for the family `build`.
    package static func text(
        _ statistics: SwitchStatistics, version: String, _ format: Format
    ) -> String {
        var text = ""
        func head(_ name: String, _ kind: String, _ help: String, unit: String? = nil) {
            text += "# HELP \(name) \(escape(help, quotes: format == .openMetrics))\n"
            text += "# TYPE \(name) \(kind)\n"
            if format == .openMetrics, let unit { text += "# UNIT \(name) \(unit)\n" }
        }
        if format == .openMetrics {
            head("\(prefix)build", "info", "The version of the program.")
        } else {
            head("\(prefix)build_info", "gauge", "The version of the program.")
        }
        text += "\(prefix)build_info{version=\"\(escape(version))\"} 1\n"
        for counter in CounterRegistry.all {
            let samples = counter.samples(statistics)
            // A family without samples tells nothing, and has no place in a text.
            if samples.isEmpty { continue }
            let sampleName = sampleName(counter)
            head(
                format == .openMetrics ? prefix + counter.name : sampleName,
                counter.kind.rawValue, counter.help, unit: counter.unit?.rawValue)
            for sample in samples {
                text += sampleName + labels(counter, sample) + " \(sample.value)\n"
            }
        }
        if format == .openMetrics { text += "# EOF\n" }
        return text
    }

    private static func labels(
        _ counter: CounterDescription, _ sample: CounterDescription.Sample
    ) -> String {
        if counter.labels.isEmpty { return "" }
        let pairs = zip(counter.labels, sample.labels).map {
            "\($0.rawValue)=\"\(escape($1))\""
        }
        return "{\(pairs.joined(separator: ","))}"
    }

    /// Escapes what would end a label's value, or a line of help. Names of ports are any text.
    package static func escape(_ text: String, quotes: Bool = true) -> String {
        var escaped = ""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\\": escaped += "\\\\"
            case "\n": escaped += "\\n"
            case "\"" where quotes: escaped += "\\\""
            default: escaped.unicodeScalars.append(scalar)
            }
        }
        return escaped
    }
}

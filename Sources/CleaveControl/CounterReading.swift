import CleaveSwitch

/// A snapshot as tables read it: sums of registered counters.
public struct CounterReading {
    public typealias Label = CounterDescription.Label
    private let statistics: SwitchStatistics
    private let found = Found()

    /// Samples by the name of their counter, made when that is first asked for, and of each those
    /// with one value of its first label: a table of many ports asks for each of them.
    private final class Found {
        var samples: [String: (all: [Sample], first: [String: [Sample]])] = [:]
    }
    private typealias Sample = CounterDescription.Sample

    public init(_ statistics: SwitchStatistics) { self.statistics = statistics }

    private func samples(
        _ counter: CounterDescription, _ labels: [Label: String]
    ) -> [Sample] {
        let known =
            found.samples[counter.name]
            ?? {
                let all = counter.samples(statistics)
                let made = (
                    all: all,
                    first: counter.labels.isEmpty
                        ? [:] : Dictionary(grouping: all) { $0.labels[0] }
                )
                found.samples[counter.name] = made
                return made
            }()
        guard let first = counter.labels.first, let value = labels[first] else { return known.all }
        return known.first[value] ?? []
    }

    /// The sum of a counter over all of its values that have these labels; 0 if there is none.
    public func total(_ name: String, _ labels: [Label: String] = [:]) -> UInt64 {
        totals(name, by: [], labels).first?.value ?? 0
    }

    /// The same apart by the values of some labels, in the order in which they come.
    public func totals(
        _ name: String, by keys: [Label], _ labels: [Label: String] = [:]
    ) -> [(key: [String], value: UInt64)] {
        let counter = CounterRegistry.named(name)
        assert(counter != nil, "\(name) is no registered counter")
        guard let counter else { return [] }
        let wanted = labels.map { (counter.labels.firstIndex(of: $0), $1) }
        let places = keys.compactMap(counter.labels.firstIndex(of:))
        var order: [[String]] = []
        var sums: [[String]: UInt64] = [:]
        for sample in samples(counter, labels) {
            let isWanted = wanted.allSatisfy { place, value in
                place.map { sample.labels[$0] == value } ?? false
            }
            if !isWanted { continue }
            let key = places.map { sample.labels[$0] }
            if sums[key] == nil { order.append(key) }
            sums[key, default: 0] &+= sample.value
        }
        return order.map { ($0, sums[$0] ?? 0) }
    }
}

// The keys of the whole switch.

import CleaveEngine
import CleaveHost
import CleaveProgramSupport
import CleaveSwitch

/// A setting of the whole switch. The raw value is both the flag and the key. None of them can
/// change while the program runs.
enum SwitchSetting: String, CaseIterable {
    case cpus, idle, hold, age, addresses

    var key: SettingKey {
        switch self {
        case .cpus:
            SettingKey(
                name: rawValue, kind: .cpus,
                help: "One switch thread for each of these CPUs; the ports' queues are dealt out "
                    + "to them. One thread on any CPU if nothing is said.",
                example: "1-3")
        case .idle:
            SettingKey(
                name: rawValue, kind: .choice(IdlePolicy.Kind.allCases.map(\.rawValue)),
                help: "What a switch thread does while nothing comes: polls on, pauses between two "
                    + "polls, or sleeps.",
                defaultText: "park", example: "busy")
        case .hold:
            SettingKey(
                name: rawValue, kind: .number(0...1_000_000, units: "microseconds"),
                help: "How long packets wait for a receiver without room, then they are dropped; "
                    + "of those from each other thread at most 64 wait for a queue.",
                defaultText: "1000", example: "0")
        case .age:
            SettingKey(
                name: rawValue, kind: .number(1...1_000_000, units: "seconds"),
                help: "After so long an address that was not seen is forgotten.",
                defaultText: "300", example: "60")
        case .addresses:
            SettingKey(
                name: rawValue, kind: .number(1...16384, units: "addresses", kilo: 1024),
                help: "Most addresses learned at one port.", defaultText: "1024", example: "64")
        }
    }

    /// A use of it as an option, with what its value may be.
    var use: String { "--\(rawValue) \(key.example) (\(key.valueText))" }

    func set(
        _ value: SettingValue, in configuration: inout SwitchConfiguration
    ) throws(SettingError) {
        try key.check(value)
        switch self {
        case .cpus: configuration.threads = try SettingSyntax.cpus(value.text)
        case .idle: configuration.idle.kind = try value.choice()
        case .hold: configuration.holdMicroseconds = try value.count(kilo: 1000)
        case .age: configuration.ageSeconds = try value.count(kilo: 1000)
        case .addresses: configuration.addressLimit = try value.count(kilo: 1024)
        }
    }

    /// Whether two configurations differ in it.
    func differs(_ one: SwitchConfiguration, _ other: SwitchConfiguration) -> Bool {
        switch self {
        case .cpus: one.threads != other.threads
        case .idle: one.idle != other.idle
        case .hold: one.holdMicroseconds != other.holdMicroseconds
        case .age: one.ageSeconds != other.ageSeconds
        case .addresses: one.addressLimit != other.addressLimit
        }
    }
}

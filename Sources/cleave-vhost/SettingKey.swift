// What may be written in a configuration, each key once: from here come the checks of what was
// written, what `--help` says, the schema that editors complete from, and the documentation's
// table.

import CleaveHost
import CleavePorts
import CleaveProgramSupport

/// A key of a port or of the switch.
struct SettingKey {
    let name: String
    let kind: Kind
    /// One sentence, or some.
    let help: String
    /// What it is worth if nothing is said, as it would be written; nil: nothing is.
    var defaultText: String?
    let example: String
    /// A port without it is none.
    var isRequired = false

    /// What its value may be.
    enum Kind {
        /// Any text; `placeholder` stands for it in `--help`.
        case text(_ placeholder: String)
        /// A whole number of `units`, with k, M or G for powers of `kilo`.
        case number(ClosedRange<Int>, units: String = "", kilo: Int = 1000)
        /// Numbers of CPUs, and ranges of them.
        case cpus
        case choice([String])
        /// on or off.
        case flag
        /// An Ethernet address.
        case mac
        /// Names of features, joined by `+`, or bits in hexadecimal.
        case features
    }

    /// Checks a value that was written.
    func check(_ value: SettingValue) throws(SettingError) {
        switch kind {
        case .text: break
        case .number(let range, let units, let kilo):
            let number = try value.count(kilo: kilo)
            guard range.contains(number) else {
                throw SettingError(
                    problem: "\(number)\(Self.behind(units)): need \(range.lowerBound) to "
                        + "\(range.upperBound)")
            }
        case .cpus: _ = try SettingSyntax.cpus(value.text)
        case .choice(let words): try value.check(among: words)
        case .flag: _ = try SettingSyntax.isOn(value.text)
        case .mac: _ = try SettingSyntax.mac(value.text)
        case .features: _ = try SettingSyntax.features(value.text)
        }
    }

    private static func behind(_ units: String) -> String { units.isEmpty ? "" : " " + units }

    /// What stands for the value in `--help`.
    var placeholder: String {
        switch kind {
        case .text(let placeholder): placeholder
        case .number: "N"
        case .cpus: "LIST"
        case .choice(let words): words.joined(separator: "|")
        case .flag: "on|off"
        case .mac: "MAC"
        case .features: "NAME+NAME"
        }
    }

    /// What the value may be, for people.
    var valueText: String {
        switch kind {
        case .text(let placeholder): placeholder
        case .number(let range, let units, _):
            "\(range.lowerBound) to \(range.upperBound)\(Self.behind(units))"
        case .cpus: "numbers and ranges such as 1-3,8"
        case .choice(let words): words.joined(separator: ", ")
        case .flag: "on, off"
        case .mac: "address such as 52:54:00:12:34:56"
        case .features: "names joined by +, or bits such as 0x400000000"
        }
    }
}

/// How values are written that are more than a number or a word.
enum SettingSyntax {
    static func cpus(_ text: String) throws(SettingError) -> [Int] {
        let numbers: [Int]
        do { numbers = try CPUSet.numbers(parsing: text) } catch {
            throw SettingError(problem: error.description)
        }
        guard !numbers.isEmpty else {
            throw SettingError(problem: "no CPU; the switch has one thread for each")
        }
        return numbers
    }

    static func isOn(_ text: String) throws(SettingError) -> Bool {
        // YAML reads on and off as words, or as truth values.
        switch text {
        case "on", "true", "yes": return true
        case "off", "false", "no": return false
        default: throw SettingError(problem: "\"\(text)\" is not one of on, off")
        }
    }

    static func mac(_ text: String) throws(SettingError) -> [UInt8] {
        let bytes = text.split(separator: ":", omittingEmptySubsequences: false).map {
            $0.count == 2 ? UInt8($0, radix: 16) : nil
        }
        guard bytes.count == 6, !bytes.contains(nil) else {
            throw SettingError(problem: "\"\(text)\" is not an address such as 52:54:00:12:34:56")
        }
        return bytes.compactMap { $0 }
    }

    /// Names of features that can be switched off, joined by `+`, or the bits in hexadecimal.
    static func features(_ text: String) throws(SettingError) -> UInt64 {
        if text.hasPrefix("0x"), let bits = UInt64(text.dropFirst(2), radix: 16) { return bits }
        var bits: UInt64 = 0
        for word in text.split(separator: "+", omittingEmptySubsequences: false) {
            guard let bit = FeatureNames.bits[String(word)] else {
                let known = FeatureNames.bits.keys.sorted()
                throw SettingError(
                    problem:
                        "unknown feature \"\(word)\"\(Nearest.hint(String(word), among: known)) "
                        + "(known: \(known.joined(separator: " ")); or bits such as 0x400000000)")
            }
            bits |= 1 << bit
        }
        return bits
    }
}

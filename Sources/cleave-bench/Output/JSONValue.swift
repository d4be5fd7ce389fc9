/// A JSON value whose objects keep the order of their keys.
enum JSONValue {
    case null
    case bool(Bool)
    case int(Int)
    case unsigned(UInt64)
    /// Written as null if it is not finite, which JSON cannot express.
    case number(Double)
    case string(String)
    case array([JSONValue])
    case object([(String, JSONValue)])

    /// On one line.
    var compactText: String {
        var text = ""
        write(to: &text, indentation: nil)
        return text
    }

    /// Indented by two blanks; objects and arrays of plain values on one line.
    var text: String {
        var text = ""
        write(to: &text, indentation: 0)
        return text
    }

    private var isPlain: Bool {
        switch self {
        case .array(let values): values.isEmpty
        case .object(let pairs): pairs.isEmpty
        default: true
        }
    }

    private func write(to text: inout String, indentation: Int?) {
        switch self {
        case .null: text += "null"
        case .bool(let value): text += value ? "true" : "false"
        case .int(let value): text += String(value)
        case .unsigned(let value): text += String(value)
        case .number(let value): text += value.isFinite ? String(describing: value) : "null"
        case .string(let value): Self.write(value, to: &text)
        case .array(let values):
            let isShort = values.allSatisfy(\.isPlain)
            Self.write(
                values, between: "[", "]", to: &text, indentation: isShort ? nil : indentation
            ) { $0.write(to: &$1, indentation: $2) }
        case .object(let pairs):
            let isShort = pairs.allSatisfy { $0.1.isPlain } && pairs.count <= 16
            Self.write(
                pairs, between: "{", "}", to: &text, indentation: isShort ? nil : indentation
            ) { pair, text, indentation in
                Self.write(pair.0, to: &text)
                text += ": "
                pair.1.write(to: &text, indentation: indentation)
            }
        }
    }

    private static func write<Element>(
        _ elements: [Element], between opening: String, _ closing: String,
        to text: inout String, indentation: Int?,
        each: (Element, inout String, Int?) -> Void
    ) {
        let inner = indentation.map { $0 + 2 }
        let separator = inner.map { "\n" + String(repeating: " ", count: $0) }
        text += opening
        for (index, element) in elements.enumerated() {
            if index > 0 { text += separator == nil ? ", " : "," }
            text += separator ?? ""
            each(element, &text, inner)
        }
        if let indentation { text += "\n" + String(repeating: " ", count: indentation) }
        text += closing
    }

    private static func write(_ string: String, to text: inout String) {
        text += "\""
        for scalar in string.unicodeScalars {
            switch scalar {
            case "\"": text += "\\\""
            case "\\": text += "\\\\"
            case "\n": text += "\\n"
            case "\r": text += "\\r"
            case "\t": text += "\\t"
            case _ where scalar.value < 0x20 || scalar.value == 0x7f:
                let digits = String(scalar.value, radix: 16)
                text += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
            default: text.unicodeScalars.append(scalar)
            }
        }
        text += "\""
    }
}

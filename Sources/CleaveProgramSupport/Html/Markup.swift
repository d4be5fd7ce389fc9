/// Text with tags, well-formed as XML, so that any parser reads it and a missing end tag is found
/// by a test.
package enum Markup {
    /// `text` with the characters that mean something in markup written as entities, and without
    /// those that XML cannot hold.
    package static func escape(_ text: String) -> String {
        var escaped = ""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "&": escaped += "&amp;"
            case "<": escaped += "&lt;"
            case ">": escaped += "&gt;"
            case "\"": escaped += "&quot;"
            case "\t", "\n": escaped.unicodeScalars.append(scalar)
            case _ where scalar.value < 0x20 || scalar.value == 0x7f: escaped += "\u{FFFD}"
            case "\u{FFFE}", "\u{FFFF}": escaped += "\u{FFFD}"
            default: escaped.unicodeScalars.append(scalar)
            }
        }
        return escaped
    }

    /// An element around markup, or an empty one that is closed at once (in HTML: void elements
    /// only) if there is no content.
    /// - Parameter attributes: values are escaped here.
    package static func element(
        _ name: String, _ attributes: KeyValuePairs<String, String> = [:],
        _ content: String? = nil
    ) -> String {
        var text = "<" + name
        for (key, value) in attributes { text += " \(key)=\"\(escape(value))\"" }
        guard let content else { return text + "/>" }
        return "\(text)>\(content)</\(name)>"
    }

    /// An element around text.
    package static func text(
        _ name: String, _ attributes: KeyValuePairs<String, String> = [:], _ content: String
    ) -> String {
        element(name, attributes, escape(content))
    }
}

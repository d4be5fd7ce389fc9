// The system's paths are bytes, Swift's text is UTF-8. A byte of a path that is not UTF-8 is kept
// in text as a character of its own, from the end of Unicode's private area (U+10FE80 to U+10FEFF),
// and becomes that byte again where the system gets the path. Those characters themselves, in a
// path that has them, are kept byte by byte as well: each path has one text, each text one path.
/// Paths as text, without loss.
package enum PathText {
    /// The character that stands for byte 0.
    private static let base: UInt32 = 0x10fe00
    private static let kept: ClosedRange<UInt32> = base + 0x80...base + 0xff
    /// The first byte of such a character, and of no others but those of planes 16 and up.
    private static let firstByte: UInt8 = 0xf4

    /// The text of a path, or of a word of a command line.
    package static func text(_ bytes: [UInt8]) -> String {
        if !bytes.contains(firstByte), let text = String(validating: bytes, as: UTF8.self) {
            return text
        }
        var text = String.UnicodeScalarView()
        var parser = Unicode.UTF8.ForwardParser()
        var iterator = bytes.makeIterator()
        var offset = 0
        while true {
            let byteCount: Int
            switch parser.parseScalar(from: &iterator) {
            case .emptyInput: return String(text)
            case .valid(let encoded):
                let scalar = Unicode.UTF8.decode(encoded)
                byteCount = encoded.count
                if !kept.contains(scalar.value) {
                    text.append(scalar)
                    offset += byteCount
                    continue
                }
            case .error(let length): byteCount = length
            }
            for byte in bytes[offset..<offset + byteCount] {
                if let scalar = Unicode.Scalar(base + UInt32(byte)) { text.append(scalar) }
            }
            offset += byteCount
        }
    }

    /// The bytes of a text that `text` made, or of any other.
    package static func bytes(_ text: String) -> [UInt8] {
        guard text.utf8.contains(firstByte) else { return Array(text.utf8) }
        return text.unicodeScalars.flatMap { scalar in
            kept.contains(scalar.value)
                ? [UInt8(scalar.value - base)] : Array(String(scalar).utf8)
        }
    }

    /// Calls `body` with the path for a function of the system.
    package static func withBytes<Result>(
        _ text: String, _ body: (UnsafePointer<CChar>) -> Result
    ) -> Result {
        (bytes(text) + [0]).withUnsafeBytes { bytes in
            // SAFETY: there is at least the final 0, so there is a base address.
            body(bytes.baseAddress!.assumingMemoryBound(to: CChar.self))
        }
    }

    /// The text for people: `\xe9` in place of a byte that is not UTF-8, and of control characters,
    /// which a terminal would obey.
    package static func printable(_ text: String) -> String {
        escaped(text) { $0.properties.generalCategory == .control }
    }

    /// The same, where line ends and colours are the program's own.
    /// - Parameter isUnwanted: which other characters of one byte to write in that way.
    package static func escaped(
        _ text: String,
        where isUnwanted: (Unicode.Scalar) -> Bool = { _ in false }
    ) -> String {
        guard text.utf8.contains(firstByte) || text.unicodeScalars.contains(where: isUnwanted)
        else {
            return text
        }
        var result = String.UnicodeScalarView()
        for scalar in text.unicodeScalars {
            guard kept.contains(scalar.value) || isUnwanted(scalar) else {
                result.append(scalar)
                continue
            }
            let byte = UInt8(truncatingIfNeeded: scalar.value)
            let digits = String(byte, radix: 16)
            result.append(contentsOf: ((byte < 16 ? "\\x0" : "\\x") + digits).unicodeScalars)
        }
        return String(result)
    }
}

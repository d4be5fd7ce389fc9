// Syntax of a profile, in lower or upper case:
//
//   profile = size [ "/" headers ] | "mixed"
//   size    = 60 ... 65535 | "imix"
//   headers = kind | "mixed"
//   kind    = ( "tcp4" | "udp4" | "tcp6" | "udp6" ) { "+vlan" | "+qinq" | "+ts" }
//
//   64                 64-byte TCP over IPv4       1500/tcp6+vlan     one 802.1Q tag
//   imix               64, 594, 1518 as 7:4:1      9000/tcp4+ts       with TCP timestamps
//   1500/mixed         every kind in turn          mixed              imix/mixed

/// What is wrong with the text of a profile.
public struct TrafficProfileError: Error, Equatable, Sendable, CustomStringConvertible {
    /// The text as given.
    public let text: String
    /// What is wrong, without a full stop.
    public let problem: String

    /// One line that ends with what is understood.
    public var description: String {
        "traffic profile \"\(text)\": \(problem); understood: \(TrafficProfile.syntax)"
    }
}

/// A kind of generated traffic: the sizes of its frames and the headers in them.
///
/// Sizes count the bytes of the Ethernet frame without the frame check sequence: `64` is a
/// frame of 64 bytes in memory. The same profile, counts and seed give the same packets.
public struct TrafficProfile: Sendable, Equatable {
    /// What `parse` understands, in one line.
    public static let syntax =
        "SIZE[/KIND] or mixed; SIZE is 60...65535 or imix; "
        + "KIND is mixed or tcp4, udp4, tcp6, udp6 with +vlan or +qinq and, for TCP, +ts"

    /// Frame sizes that `parse` accepts. Ethernet asks for 60 bytes at least.
    public static let frameByteCounts = 60...65_535

    /// The usual simple mix: 7 frames of 64, 4 of 594 and 1 of 1518 bytes.
    static let imixByteCounts =
        Array(repeating: 64, count: 7) + Array(repeating: 594, count: 4) + [1518]

    /// The profile in its shortest spelling: `64`, `imix`, `1500/tcp6+vlan`, `mixed`.
    public let name: String
    /// Frame sizes in bytes; repeated in a shuffled order, so that the proportions are exact.
    public let byteCounts: [Int]
    /// Header kinds, used in order; a kind that does not fit a size is skipped for that size.
    public let kinds: [HeaderKind]

    /// The size of every frame, or nil for a mix of sizes.
    public var frameByteCount: Int? {
        byteCounts.count == 1 ? byteCounts[0] : nil
    }

    /// Reads a profile; the syntax is at the top of this file and in `syntax`.
    public static func parse(_ text: String) throws(TrafficProfileError) -> TrafficProfile {
        func error(_ problem: String) -> TrafficProfileError {
            TrafficProfileError(text: text, problem: problem)
        }
        let lowercased = text.lowercased()
        let parts = (lowercased == "mixed" ? "imix/mixed" : lowercased)
            .split(separator: "/", omittingEmptySubsequences: false)
        guard parts.count <= 2 else { throw error("more than one \"/\"") }

        let byteCounts: [Int]
        if parts[0] == "imix" {
            byteCounts = imixByteCounts
        } else if let size = decimal(parts[0]) {
            guard frameByteCounts.contains(size) else {
                throw error("frame size \(size) is not within 60...65535")
            }
            byteCounts = [size]
        } else {
            throw error("\"\(parts[0])\" is not a frame size")
        }

        let kinds: [HeaderKind]
        if parts.count == 1 {
            kinds = [HeaderKind(.tcp, .v4)]
        } else if parts[1] == "mixed" {
            kinds = HeaderKind.all
        } else if let kind = HeaderKind(parts[1]) {
            kinds = [kind]
        } else {
            throw error("\"\(parts[1])\" is not a header kind")
        }
        if kinds.count == 1, let problem = misfit(kinds[0], byteCounts) { throw error(problem) }
        return TrafficProfile(
            name: name(byteCounts, kinds), byteCounts: byteCounts, kinds: kinds)
    }

    /// Digits only: no sign, and nothing that overflows.
    private static func decimal(_ text: Substring) -> Int? {
        text.utf8.allSatisfy { (0x30...0x39).contains($0) } ? Int(text) : nil
    }

    /// Why frames of these sizes cannot carry these headers; nil if they can.
    private static func misfit(_ kind: HeaderKind, _ byteCounts: [Int]) -> String? {
        if let small = byteCounts.min(), small < kind.byteCount {
            return "a frame of \(small) bytes is too small for \(kind), which needs "
                + "\(kind.byteCount)"
        }
        return nil
    }

    private static func name(_ byteCounts: [Int], _ kinds: [HeaderKind]) -> String {
        let size = byteCounts.count == 1 ? String(byteCounts[0]) : "imix"
        if kinds.count > 1 { return byteCounts.count > 1 ? "mixed" : size + "/mixed" }
        return kinds[0] == HeaderKind(.tcp, .v4) ? size : "\(size)/\(kinds[0])"
    }
}

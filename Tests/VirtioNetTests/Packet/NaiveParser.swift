// The slow twin of HeaderParser: takes header after header off the front of an array, the way a
// person reads a capture. Written from the rules, not from the parser.
import CleaveVirtioNet

struct NaiveParser {
    struct Refusal: Error { let reason: NoSplitReason }

    let frame: [UInt8]
    let windowByteCount: Int
    var position = 0
    /// Results of a walk to the end.
    private(set) var isIPv6 = false
    private(set) var isTCP = false
    private(set) var transportStart = 0

    /// The walk over a frame that can be split.
    static func walk(_ frame: [UInt8], windowByteCount: Int) -> NaiveParser? {
        var parser = NaiveParser(
            frame: frame, windowByteCount: min(windowByteCount, frame.count))
        do throws(Refusal) { try parser.ethernet() } catch { return nil }
        return parser
    }

    static func parse(_ frame: [UInt8], windowByteCount: Int? = nil) -> HeaderSplit {
        var parser = NaiveParser(
            frame: frame, windowByteCount: min(windowByteCount ?? frame.count, frame.count))
        do throws(Refusal) {
            try parser.ethernet()
            return HeaderSplit(byteCount: UInt16(parser.position))
        } catch {
            return HeaderSplit(notSplit: error.reason)
        }
    }

    func refuse(_ reason: NoSplitReason) throws(Refusal) -> Never {
        throw Refusal(reason: reason)
    }

    /// Takes the next bytes off the frame.
    mutating func take(_ count: Int) throws(Refusal) -> [UInt8] {
        if position + count > frame.count { try refuse(.truncated) }
        if position + count > windowByteCount { try refuse(.headersTooLong) }
        defer { position += count }
        return Array(frame[position..<position + count])
    }

    mutating func ethernet() throws(Refusal) {
        let header = try take(14)
        var type = [header[12], header[13]]
        var tags = 0
        while type == [0x81, 0x00] || type == [0x88, 0xa8] || type == [0x91, 0x00] {
            tags += 1
            if tags == 3 { try refuse(.tooManyTags) }
            let tag = try take(4)
            type = [tag[2], tag[3]]
        }
        switch type {
        case [0x08, 0x00]: try ipv4()
        case [0x86, 0xdd]: try ipv6()
        default: try refuse(.notIP)
        }
    }

    mutating func ipv4() throws(Refusal) {
        let start = position
        let header = try take(20)
        let version = header[0] / 16
        let headerByteCount = Int(header[0] % 16) * 4
        let totalLength = Int(header[2]) * 256 + Int(header[3])
        let moreFragments = header[6] & 0x20 != 0
        let fragmentOffset = Int(header[6] & 0x1f) * 256 + Int(header[7])
        if version != 4 || headerByteCount < 20 { try refuse(.badIPv4) }
        if totalLength < headerByteCount { try refuse(.badIPv4) }
        if start + totalLength > frame.count { try refuse(.badIPv4) }
        if moreFragments || fragmentOffset > 0 { try refuse(.fragment) }
        position = start + headerByteCount
        try transport(header[9], ipEnd: start + totalLength)
    }

    mutating func ipv6() throws(Refusal) {
        let header = try take(40)
        isIPv6 = true
        if header[0] / 16 != 6 { try refuse(.badIPv6) }
        var next = header[6]
        var walked = 0
        while true {
            switch next {
            case 0 where walked > 0: try refuse(.unknownExtension)
            case 0, 43, 60:
                if walked == 8 { try refuse(.tooManyExtensions) }
                walked += 1
                let first = try take(8)
                _ = try take(Int(first[1]) * 8)
                next = first[0]
            case 44: try refuse(.fragment)
            case 50, 51, 59, 135, 139, 140, 253, 254: try refuse(.unknownExtension)
            default:
                try transport(next, ipEnd: frame.count)
                return
            }
        }
    }

    mutating func transport(_ number: UInt8, ipEnd: Int) throws(Refusal) {
        transportStart = position
        isTCP = number == 6
        switch number {
        case 6:
            let start = position
            let header = try take(20)
            if position > ipEnd { try refuse(.badIPv4) }
            let words = Int(header[12] / 16)
            if words < 5 { try refuse(.badTCP) }
            position = start
            _ = try take(words * 4)
            if position > ipEnd { try refuse(.badIPv4) }
        case 17:
            _ = try take(8)
            if position > ipEnd { try refuse(.badIPv4) }
        default:
            try refuse(.notTransport)
        }
    }
}

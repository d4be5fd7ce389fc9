// The cases of hostile input that the receive path must meet, and which ring formats each is about.

/// One case: an id that test names carry.
struct HostileCase {
    /// Rings that a case can be tried on.
    enum Rings {
        case both
        case split
        case packed
        /// Decided before a ring is touched.
        case none
    }

    let id: String
    let rings: Rings
    let title: String

    init(_ id: String, _ rings: Rings, _ title: String) {
        self.id = id
        self.rings = rings
        self.title = title
    }
}

enum HostileCatalogue {
    static let virtqueue: [HostileCase] = [
        .init("B01", .split, "avail.idx jumps by more than the size, or goes back"),
        .init("B02", .split, "a head that is not below the size"),
        .init("B03", .split, "a link that is not below the size"),
        .init("B04", .split, "a chain that loops"),
        .init("B05", .both, "chains up to the ring's size are taken"),
        .init("B06", .both, "the same head twice before it was used"),
        .init("B07", .both, "INDIRECT without the feature, or with NEXT"),
        .init("B08", .both, "a table inside a table"),
        .init("B09", .both, "a plain chain that ends in a table"),
        .init("B10", .both, "a table of an impossible length"),
        .init("B11", .both, "a table at an odd address"),
        .init("B12", .both, "a table over two regions, or into a hole"),
        .init("B13", .both, "a readable descriptor in a receive chain"),
        .init("B14", .both, "WRITE on the reference to a table"),
        .init("B15", .both, "an empty descriptor"),
        .init("B16", .both, "an empty descriptor with an invalid address"),
        .init("B17", .both, "a buffer that wraps around the address space"),
        .init("B18", .both, "a buffer over two adjacent regions"),
        .init("B19", .both, "a buffer that runs into a hole"),
        .init("B20", .both, "a chain of more than 2^32 bytes"),
        .init("B21", .both, "a buffer over the queue's own rings"),
        .init("B22", .both, "a descriptor that changes after its check"),
        .init("B23", .split, "an available entry that changes between two reads"),
        .init("B24", .both, "ring parts outside memory"),
        .init("B25", .both, "used entries that the guest writes"),
        .init("B26", .both, "event thresholds that hold anything"),
        .init("B27", .packed, "AVAIL and USED of another lap"),
        .init("B28", .packed, "descriptors that are available for ever"),
        .init("B29", .packed, "a buffer id out of range, or in flight already"),
        .init("B30", .packed, "a list without its end"),
        .init("B31", .packed, "a table's length and odd flags inside"),
        .init("B32", .packed, "reserved values in an event word"),
        .init("B33", .packed, "a descriptor rewritten after it became available"),
        .init("B34", .both, "IN_ORDER agreed and not kept"),
        .init("B35", .both, "kicks without buffers"),
        .init("B37", .both, "checksum and segmentation that lie"),
    ]

    static let placement: [HostileCase] = [
        .init("C01", .both, "never enough buffers for the packet"),
        .init("C02", .both, "more buffers than a queue can hold"),
        .init("C03", .both, "a buffer smaller than the net header"),
        .init("C04", .both, "a buffer that changes while it is held"),
        .init("C05", .both, "a buffer too small without mergeable buffers"),
        .init("C06", .both, "half a packet visible"),
        .init("C07", .both, "all buffers but the last are full"),
        .init("C08", .both, "nothing behind the used length"),
    ]

    /// Slots return by a tail, or (D03, D04, D08) one by one in any order.
    static let headerQueue: [HostileCase] = [
        .init("D01", .none, "a tail ahead by more than the slots"),
        .init("D02", .none, "impossible geometry"),
        .init("D03", .none, "a returned slot index out of range"),
        .init("D04", .none, "a slot returned while an RQ owns it"),
        .init("D05", .both, "an RQ that never gets its slots back"),
        .init("D06", .both, "an RQ torn down with slots that it has not published"),
        .init("D07", .both, "a thread that stands still between claim and publish"),
        .init("D08", .none, "a slot returned twice"),
        .init("D09", .both, "slot bytes that change during the write"),
        .init("D10", .both, "a tail that changes between read and claim"),
        .init("D11", .none, "a tail that moves at full speed"),
        .init("D12", .none, "cursors around every wrap"),
        .init("D13", .both, "a slot smaller than the headers"),
        .init("D14", .both, "another guest's header queue"),
        .init("D16", .both, "pages written while a log is on"),
        .init("D17", .both, "RQs attached and detached during bursts"),
        .init("D18", .both, "all RQs on one CPU"),
    ]

    static let parsing: [HostileCase] = [
        .init("E01", .both, "runts"),
        .init("E02", .none, "IPv4 lengths that lie"),
        .init("E03", .none, "IPv4 fragments"),
        .init("E04", .none, "IPv6 extension headers"),
        .init("E05", .none, "IPv6 fragments"),
        .init("E06", .none, "AH, ESP, no next header"),
        .init("E07", .none, "tags and 802.3"),
        .init("E08", .none, "TCP data offsets, empty payloads"),
        .init("E09", .none, "other transports"),
        .init("E10", .none, "tunnels"),
        .init("E11", .none, "not IP"),
        .init("E12", .both, "the largest frames"),
        .init("E13", .both, "headers over many source segments"),
        .init("E14", .both, "source lengths that lie"),
    ]

    static let all = virtqueue + placement + headerQueue + parsing
}

/// The cases that a test's name says it covers.
struct CoveredCases {
    var ids: Set<String> = []
    var split = false
    var packed = false

    /// The tests of a file: one for each `@Test` with ids in its name. A test that takes ring
    /// formats, or goes through them, is one of both; the others are of the format that the name of
    /// the file or of the test says, and split rings come first.
    static func found(in file: SourceText) -> [CoveredCases] {
        let text = file.lines.joined(separator: "\n")
        let parts = text.split(separator: "@Test", omittingEmptySubsequences: false).dropFirst()
        return parts.map { part in
            // Attribute and body.
            let text = String(part)
            var covered = CoveredCases(ids: ids(in: text.prefix(while: { $0 != "{" })))
            let isBoth = text.contains("RingFormat.allCases")
            let isPacked =
                file.path.contains("Packed") || text.contains("PackedRig(")
                || text.contains("RingFormat.packed")
            covered.split = isBoth || !isPacked
            covered.packed = isBoth || isPacked
            return covered
        }
    }

    /// `B01`, or `B01 to B09`, wherever it is no part of a longer word.
    private static func ids(in name: Substring) -> Set<String> {
        let words = name.split { !($0.isLetter || $0.isNumber) }
        func number(_ word: Substring) -> Int? {
            guard word.count == 3, let letter = word.first, "BCDE".contains(letter) else {
                return nil
            }
            return Int(word.dropFirst())
        }
        var ids: Set<String> = []
        for (index, word) in words.enumerated() {
            guard let first = number(word) else { continue }
            var last = first
            if index + 2 < words.count, words[index + 1] == "to", let end = number(words[index + 2])
            {
                last = max(first, end)
            }
            for id in first...last { ids.insert("\(word.prefix(1))\(id < 10 ? "0" : "")\(id)") }
        }
        return ids
    }

    /// Cases of `catalogue` that no test of `files` names for every ring that they are about.
    static func missing(_ catalogue: [HostileCase], in files: [SourceText]) -> [String] {
        let found = files.flatMap(found(in:))
        return catalogue.compactMap { item in
            let tests = found.filter { $0.ids.contains(item.id) }
            let hasSplit = tests.contains(where: \.split)
            let hasPacked = tests.contains(where: \.packed)
            let lacks: String? =
                switch item.rings {
                case .both where hasSplit && hasPacked: nil
                case .both: hasSplit ? "packed" : hasPacked ? "split" : "both"
                case .split: hasSplit ? nil : "split"
                case .packed: hasPacked ? nil : "packed"
                case .none: tests.isEmpty ? "any" : nil
                }
            return lacks.map { "\(item.id) (\(item.title)): no test for \($0) rings" }
        }
    }
}

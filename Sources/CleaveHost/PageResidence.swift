// Binding memory to a node is a request; where its pages lie is a fact that the kernel knows.
import CCleaveHost
import CCleaveNuma

/// Where the kernel says that the pages of a piece of memory lie, and where they should.
public struct PageResidence: Sendable, Equatable, CustomStringConvertible {
    /// What the memory is for.
    public let name: String
    /// The node it should lie on; nil for any.
    public let node: Int?
    /// Pages on each node.
    public let pageCounts: [Int: Int]
    /// Pages whose node the kernel does not tell: not present, or NUMA calls forbidden.
    public let unknownCount: Int

    public init(name: String, node: Int?, pageCounts: [Int: Int], unknownCount: Int) {
        self.name = name
        self.node = node
        self.pageCounts = pageCounts
        self.unknownCount = unknownCount
    }

    /// Pages that lie on another node than they should.
    public var misplacedCount: Int {
        guard let node else { return 0 }
        return pageCounts.reduce(0) { $1.key == node ? $0 : $0 + $1.value }
    }

    /// Whether the kernel confirmed every page to be where it should be.
    public var isConfirmed: Bool { misplacedCount == 0 && unknownCount == 0 }

    /// Such as `RQ 0: 512 pages on node 0`.
    public var description: String {
        let known = pageCounts.sorted { $0.key < $1.key }.map {
            "\($0.value) \($0.value == 1 ? "page" : "pages") on node \($0.key)"
        }
        var text = "\(name): " + (known.isEmpty ? "no page known" : known.joined(separator: ", "))
        if unknownCount > 0 { text += ", \(unknownCount) unknown" }
        if misplacedCount > 0, let node { text += "; should be node \(node)" }
        return text
    }

    /// Asks the kernel for the node of each page (move_pages(2) without targets). Not cheap.
    /// - Parameters:
    ///   - base: first byte, on a page.
    ///   - byteCount: a whole number of pages, all of them mapped.
    static func ask(
        _ base: UnsafeMutableRawPointer, byteCount: Int, pageByteCount: Int
    ) -> (pageCounts: [Int: Int], unknownCount: Int) {
        var counts: [Int: Int] = [:]
        var unknown = 0
        let pageCount = byteCount / pageByteCount
        for first in stride(from: 0, to: pageCount, by: 4096) {
            let count = min(4096, pageCount - first)
            var pages: [UnsafeMutableRawPointer?] = (first..<first + count).map {
                base + $0 * pageByteCount
            }
            var status = [Int32](repeating: -1, count: count)
            guard move_pages(0, UInt(count), &pages, nil, &status, 0) == 0 else {
                unknown += count
                continue
            }
            for node in status {
                if node >= 0 { counts[Int(node), default: 0] += 1 } else { unknown += 1 }
            }
        }
        return (counts, unknown)
    }
}

extension MemoryArena {
    /// Asks the kernel where the arena's pages lie.
    /// - Parameters:
    ///   - name: what the memory is for.
    ///   - node: where they should lie; nil for any.
    public func residence(_ name: String, node: Int?) -> PageResidence {
        let found = PageResidence.ask(
            base, byteCount: mappedByteCount, pageByteCount: residentPageByteCount)
        return PageResidence(
            name: name, node: node, pageCounts: found.pageCounts,
            unknownCount: found.unknownCount)
    }
}

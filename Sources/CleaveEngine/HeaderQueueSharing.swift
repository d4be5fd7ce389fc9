import CleaveHost

/// Which RQs of a device claim from one header queue.
public enum HeaderQueueSharing: Sendable, Equatable, CustomStringConvertible {
    /// One header queue for all RQs.
    case all
    /// One for the RQs of each NUMA node.
    case perNode
    /// One for each RQ.
    case perRQ
    /// As listed: each RQ is in exactly one group.
    case groups([[Int]])

    /// `all`, `node`, `private`, or groups of RQs in the kernel's CPU-list syntax with slashes
    /// between them: `0-1/2,3`.
    public var description: String {
        switch self {
        case .all: "all"
        case .perNode: "node"
        case .perRQ: "private"
        case .groups(let groups): groups.map { CPUSet($0).description }.joined(separator: "/")
        }
    }

    /// Parses the forms that `description` gives.
    /// - Throws: what was expected, with the part that is wrong.
    public init(parsing text: String) throws(SetupError) {
        switch text {
        case "all": self = .all
        case "node": self = .perNode
        case "private": self = .perRQ
        default:
            guard text.first?.isNumber == true else {
                throw SetupError(
                    "\"\(text)\" is not one of all, node, private, nor a list of RQs such as "
                        + "0-1/2,3")
            }
            var groups: [[Int]] = []
            for part in text.split(separator: "/", omittingEmptySubsequences: false) {
                do {
                    let rqs = try CPUSet.numbers(parsing: String(part))
                    guard !rqs.isEmpty else { throw SetupError("\"\(text)\": a group is empty") }
                    groups.append(rqs)
                } catch let error as SetupError {
                    throw error
                } catch { throw SetupError("\"\(text)\": not a list of RQs: \(error)") }
            }
            self = .groups(groups)
        }
    }

    /// The group of each RQ, numbered from 0 in the order of their first RQs or as listed.
    /// - Throws: an error that names an RQ that is in no group, is in two, or does not exist.
    public func groupNumbers(of places: [QueuePlan.Place]) throws(SetupError) -> [Int] {
        switch self {
        case .all: return places.map { _ in 0 }
        case .perRQ: return Array(places.indices)
        case .perNode:
            var nodes: [Int?] = []
            return places.map { place in
                if let known = nodes.firstIndex(of: place.node) { return known }
                nodes.append(place.node)
                return nodes.count - 1
            }
        case .groups(let groups):
            var numbers = [Int?](repeating: nil, count: places.count)
            for (number, group) in groups.enumerated() {
                for rq in group {
                    guard places.indices.contains(rq) else {
                        throw SetupError(
                            "header queue groups \(self): there is no RQ \(rq) among "
                                + "\(places.count)")
                    }
                    guard numbers[rq] == nil else {
                        throw SetupError("header queue groups \(self): RQ \(rq) is listed twice")
                    }
                    numbers[rq] = number
                }
            }
            if let rq = numbers.firstIndex(of: nil) {
                throw SetupError("header queue groups \(self): RQ \(rq) is in none")
            }
            return numbers.compactMap { $0 }
        }
    }
}

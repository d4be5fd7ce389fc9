import CleaveEngine
import CleaveGuestDriver
import CleaveHost
import CleaveVirtioNet

/// The memory of a testbed's guest: a space on every node that has RQs, and the header queues, each
/// on the node of its first RQ.
struct GuestLayout {
    private let spaces: [(node: Int?, space: GuestSpace)]
    /// The header queue of each RQ; empty without split.
    private let groups: [Int]
    /// Header queues as the driver sees them.
    let driverQueues: [DriverHeaderQueue]
    /// The same as the device sees them.
    let deviceQueues: [HeaderQueue]

    /// - Parameter rqByteCount: guest memory of each RQ's driver.
    init(
        _ benchCase: BenchCase, places: [QueuePlan.Place], rqByteCount: Int
    ) throws(SetupError) {
        let groups = benchCase.method == .d ? try benchCase.sharing.groupNumbers(of: places) : []
        self.groups = groups
        let groupCount = (groups.max() ?? -1) + 1
        let homes = (0..<groupCount).map { group in
            groups.firstIndex(of: group).map { places[$0].node } ?? nil
        }
        // Each RQ's return ring has an entry for each group, at most one for each slot.
        let ringCount = benchCase.slotReturn == .groups ? benchCase.rqs : 1
        let slotByteCount =
            (benchCase.slotSize + HeaderQueueLayout.returnEntryByteCount * ringCount)
            * benchCase.slots + 1024 + 256 * ringCount
        var byteCounts: [(node: Int?, byteCount: Int)] = []
        func add(_ node: Int?, _ byteCount: Int) {
            if let index = byteCounts.firstIndex(where: { $0.node == node }) {
                byteCounts[index].byteCount += byteCount
            } else {
                byteCounts.append((node, byteCount + 4096))
            }
        }
        for place in places { add(place.node, rqByteCount + 8192) }
        for home in homes { add(home, slotByteCount) }
        do {
            let spaces = zip(byteCounts.map(\.node), try GuestSpace.spread(over: byteCounts))
                .map { (node: $0, space: $1) }
            self.spaces = spaces
            var driverQueues: [DriverHeaderQueue] = []
            var deviceQueues: [HeaderQueue] = []
            for (group, home) in homes.enumerated() {
                let space = Self.space(on: home, of: spaces)
                let queue = try DriverHeaderQueue(
                    slotSize: benchCase.slotSize, slotCount: benchCase.slots,
                    slotReturn: benchCase.slotReturn,
                    rqCount: groups.filter { $0 == group }.count, in: space)
                driverQueues.append(queue)
                deviceQueues.append(
                    try HeaderQueue(queue.layout, memory: space.memory, node: home))
            }
            self.driverQueues = driverQueues
            self.deviceQueues = deviceQueues
        } catch { throw SetupError("\(error)") }
    }

    private static func space(
        on node: Int?, of spaces: [(node: Int?, space: GuestSpace)]
    ) -> GuestSpace {
        (spaces.first { $0.node == node } ?? spaces[0]).space
    }

    /// The memory table of the device.
    var memory: GuestMemory { spaces[0].space.memory }

    /// The space that memory of an RQ on `node` is allocated from.
    func space(on node: Int?) -> GuestSpace { Self.space(on: node, of: spaces) }

    /// The element for RQ `rq` of a list with one element for each header queue.
    func pick<Queue>(_ queues: [Queue], _ rq: Int) -> Queue? {
        groups.isEmpty ? nil : queues[groups[rq]]
    }

    /// The return ring of RQ `rq`: if each has one, its place among those that share its header
    /// queue.
    func returnRing(_ rq: Int, _ benchCase: BenchCase) -> Int {
        if groups.isEmpty || benchCase.slotReturn != .groups { return 0 }
        return groups[..<rq].filter { $0 == groups[rq] }.count
    }

    /// What the memory fell back to, if anything.
    var fallbacks: [String] { spaces.compactMap(\.space.arena.fallback) }

    /// Asks the kernel where all of it lies. Not cheap.
    func residence() -> [PageResidence] {
        spaces.map {
            $0.space.arena.residence("guest: virtqueues, buffers, header slots", node: $0.node)
        }
            + deviceQueues.enumerated().compactMap {
                $1.residence("header queue \($0): device's words")
            }
    }
}

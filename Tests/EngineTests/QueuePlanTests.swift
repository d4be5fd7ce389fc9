// Which RQ runs on which CPU, which RQs share a header queue, and what an engine cannot do.
import CleaveGuestDriver
import CleaveHost
import CleaveTestSupport
import CleaveVirtioNet
import Testing

@testable import CleaveEngine

@Suite("RQs, their places and their header queues")
struct QueuePlanTests {
    @Test("Queue plans: no RQ, more RQs than CPUs, CPUs that are not there")
    func queuePlans() {
        let cpu = CPUSet.allowed().cpus[0]
        #expect(message { _ = try QueuePlan(rqs: 0, cpus: [cpu]) }.contains("0 RQs"))
        #expect(message { _ = try QueuePlan(rqs: -1, cpus: [cpu]) }.contains("-1 RQs"))
        let many = message { _ = try QueuePlan(rqs: 2, cpus: [cpu]) }
        #expect(many.contains("2 RQs") && many.contains("only 1"))
        #expect(message { _ = try QueuePlan(rqs: 1, cpus: [4095]) }.contains("4095"))
        #expect(message { _ = try QueuePlan(rqs: 1, cpus: [-1]) }.contains("-1"))
        #expect(QueuePlan(unpinned: 3).places.count == 3)
        #expect(QueuePlan(unpinned: 3).places.allSatisfy { $0.cpu == nil })
    }

    @Test("A queue plan pins in the order of the CPUs")
    func pinned() throws {
        let cpus = CPUSet.allowed().cpus
        let plan = try QueuePlan(rqs: cpus.count, cpus: cpus.reversed())
        #expect(plan.places.map(\.cpu) == cpus.reversed())
    }

    @Test("More RQs than CPUs share them in turn, when that was chosen, with a warning")
    func oversubscribed() throws {
        let cpus = CPUSet.allowed().cpus
        let plan = try QueuePlan(rqs: 128, cpus: cpus, oversubscribe: true)
        #expect(plan.places.map(\.cpu) == (0..<128).map { cpus[$0 % cpus.count] })
        #expect(plan.warnings.count == 1 && plan.warnings[0].hasPrefix("128 RQs share "))
        #expect(try QueuePlan(rqs: 1, cpus: cpus, oversubscribe: true).warnings == [])
        #expect(
            message { _ = try QueuePlan(rqs: 129, cpus: cpus, oversubscribe: true) }
                == "129 RQs: need 1 to 128")
        let twice = message { _ = try QueuePlan(rqs: 2, cpus: [cpus[0], cpus[0]]) }
        #expect(twice.contains("a CPU is given to two RQs"))
        let same = try QueuePlan(rqs: 2, cpus: [cpus[0], cpus[0]], oversubscribe: true)
        #expect(same.places.allSatisfy { $0.cpu == cpus[0] } && same.warnings.count == 1)
        #expect(message { _ = try QueuePlan(rqs: 1, cpus: []) } == "1 RQs, but no CPU for them")
    }

    @Test("A CPU whose node has no memory is refused")
    func memorylessNode() throws {
        let cpu = CPUSet.allowed().cpus[0]
        let topology = NUMATopology(
            nodes: [
                NUMANode(id: 0, cpus: CPUSet([]), memoryBytes: 1 << 30),
                NUMANode(id: 1, cpus: CPUSet([cpu]), memoryBytes: 0),
            ], distances: [[10, 20], [20, 10]])
        #expect(
            message { _ = try QueuePlan(rqs: 1, cpus: [cpu], topology: topology) }
                == "CPU \(cpu): NUMA node 1: has no memory; nodes with memory: 0")
        let unpinned = QueuePlan(unpinned: 1)
        #expect(
            message { _ = try unpinned.placed(onNode: 1, topology: topology) }.contains("node 1"))
        #expect(try unpinned.placed(onNode: 0, topology: topology).places[0].node == 0)
        #expect(message { _ = try unpinned.placed(onNode: 999) }.contains("NUMA node 999"))
    }

    @Test("A plan says where RQs are, those of one place together")
    func described() throws {
        var plan = QueuePlan(unpinned: 4)
        plan.places[0] = .init(cpu: 3, node: 1)
        plan.places[1].node = 0
        plan.places[2].node = 0
        plan.places[3] = .init(cpu: nil, node: nil)
        #expect(
            plan.description == """
                RQ 0 -> CPU 3 -> node 1
                RQ 1-2 -> any CPU -> node 0
                RQ 3 -> any CPU -> any node
                """)
    }

    @Test("Groups of RQs on header queues: spelled, numbered, refused")
    func sharing() throws {
        let places = [0, 0, 1, 1].map { QueuePlan.Place(cpu: nil, node: $0) }
        for (text, numbers) in [
            ("all", [0, 0, 0, 0]), ("node", [0, 0, 1, 1]), ("private", [0, 1, 2, 3]),
            ("0-1/2,3", [0, 0, 1, 1]), ("3/0-2", [1, 1, 1, 0]),
        ] {
            let sharing = try HeaderQueueSharing(parsing: text)
            #expect(try sharing.groupNumbers(of: places) == numbers)
            #expect(try HeaderQueueSharing(parsing: sharing.description) == sharing)
        }
        for (text, problem) in [
            ("0-1/1-3", "RQ 1 is listed twice"), ("0-2", "RQ 3 is in none"),
            ("0-4", "there is no RQ 4 among 4"),
        ] {
            let sharing = try HeaderQueueSharing(parsing: text)
            #expect(message { _ = try sharing.groupNumbers(of: places) }.hasSuffix(problem))
        }
        for text in ["", "each", "0//1", "0-", "1-0/2", "0/x"] {
            let refusal = message { _ = try HeaderQueueSharing(parsing: text) }
            #expect(refusal.hasPrefix("\"\(text)\""), "\(refusal)")
        }
    }

    @Test("D14: a header queue of another guest is refused")
    func otherDevice() throws {
        let spaces = try (0..<2).map { _ in try GuestSpace(byteCount: 1 << 18) }
        let queues = try spaces.map {
            try DriverHeaderQueue(slotSize: 64, slotCount: 8, in: $0)
        }
        let foreign = try HeaderQueue(queues[1].layout, memory: spaces[1].memory)
        let driver = try RxDriver(
            RxDriverConfiguration(
                ringSize: 4, shape: .mergeable(bufferByteCount: 4096),
                method: .headerQueue(.usedLength), headerQueue: queues[0]), in: spaces[0])
        let queue = RxQueueConfiguration(
            virtqueue: driver.virtqueue, features: driver.configuration.allFeatures,
            memory: spaces[0].memory, method: .headerQueue(.usedLength), headerQueue: foreign)
        #expect(
            message { _ = try RxEngine(queues: [queue], plan: QueuePlan(unpinned: 1)) }
                == "RQ 0: the header queue belongs to another guest: "
                + "its memory is not the RQ's guest's")
    }

    @Test("What an engine cannot do with an RQ it says, and goes on")
    func engine() throws {
        let space = try GuestSpace(byteCount: 1 << 18)
        let driver = try RxDriver(
            RxDriverConfiguration(
                ringSize: 4, shape: .mergeable(bufferByteCount: 4096), method: .whole), in: space)
        let queue = RxQueueConfiguration(
            virtqueue: driver.virtqueue, features: driver.configuration.allFeatures,
            memory: space.memory, method: .whole)
        let engine = try RxEngine(
            queues: [queue], plan: QueuePlan(unpinned: 1), ringCapacity: 4)
        for rq in [1, 127, 128, -1] {
            #expect(message { try engine.pause(rq) } == "there is no RQ \(rq)")
            #expect(message { _ = try engine.remove(rq) } == "there is no RQ \(rq)")
            #expect(message { try engine.reset(rq) } == "there is no RQ \(rq)")
        }
        #expect(message { try engine.enable(0, queue) }.hasPrefix("RQ 0 was not reset"))
        for rq in 1..<128 {
            #expect(try engine.add(queue, at: .init(cpu: nil, node: nil)) == rq)
        }
        #expect(
            message { try engine.add(queue, at: .init(cpu: nil, node: nil)) }
                == "there are 128 RQs: no room for another one")
        #expect(try engine.remove(7).isEmpty)
        #expect(engine.count == 127 && !engine.rqs.contains(7))
        let place = QueuePlan.Place(cpu: nil, node: QueuePlan(unpinned: 1).places[0].node)
        #expect(try engine.add(queue, at: place) == 7)
        #expect(engine.place(7) == place)
        // A reset with an invalid queue leaves the RQ reset.
        try engine.reset(7)
        var wrong = queue
        wrong.virtqueue.size = 3
        #expect(message { try engine.enable(7, wrong) }.hasPrefix("RQ 7: split ring size 3"))
        #expect(engine.isPaused(7))
        try engine.enable(7, queue)
        #expect(!engine.isPaused(7))
        let residence = engine.memoryResidence()
        #expect(residence.count == 129)
        #expect(residence.allSatisfy { $0.misplacedCount == 0 })
    }

    @Test("An idle policy that is none is refused")
    func idle() {
        for (policy, problem) in [
            (IdlePolicy(.park, pollsBeforePark: 0), "park after 0 polls"),
            (IdlePolicy(.park, pollsBeforePark: -1), "park after -1 polls"),
            (IdlePolicy(.park, wakeMicroseconds: 0), "wake after 0 microseconds"),
        ] {
            #expect(message { try policy.validate() }.hasPrefix(problem))
        }
        #expect(message { try IdlePolicy.busy.validate() } == "(no error)")
    }
}

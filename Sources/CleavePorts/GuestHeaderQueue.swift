import CleaveHost
import CleaveVhostUser
import CleaveVirtioNet

/// The header queue of a guest: from the request that asks for it, whichever way it came, to the
/// RQs that are linked to it. For the control thread.
final class GuestHeaderQueue {
    /// Who asked for it, and so who ends it.
    enum Origin {
        /// The chain in the set-up ring.
        case ring
        /// A message of the front-end.
        case message
    }

    /// A header queue in use.
    private struct Active {
        let request: HeaderQueueRequest
        let queue: HeaderQueue
        /// Keeps its memory mapped.
        let mappings: MappedMemory
        let origin: Origin
    }

    /// The set-up ring of a driver, and what it needs to live.
    private struct SetupRing {
        let queue: SetupQueue
        let kick: NotificationDescriptor?
        let memory: SharedGuestMemory
        /// Where the pages are marked that the device writes, while the guest moves.
        let log: DirtyLog?
    }

    private let pairs: [VhostUserQueue]
    private let node: Int?
    private var active: Active?
    private var ring: SetupRing?
    private var isBreakReported = false
    /// The last look at the set-up ring ended at its bound; nobody kicks for the rest.
    private var mayHaveMore = false
    /// Since the set-up ring was started.
    private var refusalCount = 0
    private var earlierDuplicates: UInt64 = 0
    /// What happened, by name.
    private(set) var events: [String: UInt64] = [:]
    /// Runs its body while no packet is on its way.
    var hold: (_ body: () -> Void) -> Void = { $0() }
    var log: (String) -> Void = { _ in }
    /// An RQ could not be made anew, and is gone.
    var lost: (_ pair: Int) -> Void = { _ in }

    init(_ pairs: [VhostUserQueue], node: Int?) {
        self.pairs = pairs
        self.node = node
    }

    // MARK: Every request

    /// Checks a request, makes the queue and links its RQs, all while no packet is on its way.
    func setUp(
        _ request: HeaderQueueRequest, _ memory: SharedGuestMemory, from origin: Origin
    ) throws(HeaderQueueRefusal) {
        do throws(HeaderQueueRefusal) {
            if active != nil { throw .inUse }
            // What cannot be stops no traffic, however often a guest asks for it.
            try request.check(in: memory.memory, rqLimit: pairs.count)
            var failure: HeaderQueueRefusal?
            hold {
                do throws(HeaderQueueRefusal) {
                    try makeAndLink(request, memory, origin)
                } catch { failure = error }
            }
            if let failure { throw failure }
        } catch {
            events["headerQueueRefused." + error.name, default: 0] += 1
            refusalCount += 1
            if refusalCount <= Self.loggedRefusals {
                log("the header queue is refused: \(error.name)")
            }
            throw error
        }
        events["headerQueues", default: 0] += 1
        isBreakReported = false
        log(
            "header queue of \(request.slotCount) slots of \(request.slotSize) bytes for "
                + "\(request.rqs.count) of \(pairs.count) receive queues")
    }

    private func makeAndLink(
        _ request: HeaderQueueRequest, _ memory: SharedGuestMemory, _ origin: Origin
    ) throws(HeaderQueueRefusal) {
        let report = try request.checkedReport()
        let queue = try request.makeQueue(
            in: memory.memory, rqLimit: pairs.count, node: node)
        var linked: [Int] = []
        do throws(SetupError) {
            for pair in request.rqs {
                try pairs[pair].link(LinkedHeaderQueue(queue: queue, report: report), node: node)
                linked.append(pair)
            }
        } catch {
            // No memory for a queue's own words.
            log("\(error)")
            for pair in linked { unlink(pair) }
            queue.leave()
            throw .memory
        }
        active = Active(
            request: request, queue: queue, mappings: memory.mappings, origin: origin)
        markWords(of: request)
    }

    /// The device's words were written.
    private func markWords(of request: HeaderQueueRequest) {
        guard let ring else { return }
        ring.log?.markHeaderWords(at: request.deviceWords, in: ring.memory.memory)
    }

    /// Ends the use of the queue that came by `origin`, if there is one: packets come whole, and
    /// the control words say where it goes on.
    @discardableResult
    func end(_ origin: Origin) -> Bool {
        guard let active, active.origin == origin else { return false }
        hold {
            for pair in active.request.rqs { unlink(pair) }
            active.queue.leave()
            markWords(of: active.request)
        }
        earlierDuplicates += active.queue.duplicateCount
        self.active = nil
        return true
    }

    private func unlink(_ pair: Int) {
        do throws(SetupError) { try pairs[pair].link(nil, node: node) } catch {
            // It must not use the slots any longer.
            log("receive queue \(pair) ends: \(error)")
            pairs[pair].dropReceiving()
            lost(pair)
        }
    }

    /// Resets the queue, which its driver has stopped giving slots to.
    /// - Returns: false if there is none.
    func reset() -> Bool {
        guard let active else { return false }
        hold {
            active.queue.reset()
            markWords(of: active.request)
        }
        events["headerQueueResets", default: 0] += 1
        isBreakReported = false
        return true
    }

    /// Goes over to new memory of the same guest, with no RQ running. The set-up ring brings its
    /// chain again by itself.
    func memoryChanged(_ memory: SharedGuestMemory?) {
        guard let old = active, old.origin == .message else { return }
        end(.message)
        guard let memory else { return }
        // What it comes to is logged and counted; without it packets come whole.
        try? setUp(old.request, memory, from: .message)
    }

    // MARK: The set-up ring

    /// For poll; -1 for none.
    var kickDescriptor: Int32 { ring?.kick?.fileDescriptor ?? -1 }

    func start(_ setup: VringSetup) throws(SetupError) {
        ring = SetupRing(
            queue: try SetupQueue(setup.controlQueue), kick: try setup.kick(),
            memory: SharedGuestMemory(memory: setup.memory, mappings: setup.mappings),
            log: setup.observation?.log)
        refusalCount = 0
        // The chain of a ring that goes on is there already, and nobody kicks for it again.
        takeRequests()
    }

    /// - Returns: where the ring is resumed.
    func stop() -> UInt16 {
        end(.ring)
        defer { ring = nil }
        return ring?.queue.base ?? 0
    }

    /// Takes what the driver asks for.
    func serve() {
        guard let ring else { return }
        // Without a descriptor for kicks the ring is looked at each time.
        guard ring.kick?.drain() ?? true || mayHaveMore else { return }
        takeRequests()
    }

    private func takeRequests() {
        mayHaveMore = false
        guard let ring else { return }
        // Bounded: a chain that is refused is used, and the driver may post others meanwhile.
        for _ in 0..<Self.requestsPerService {
            guard let taken = ring.queue.take() else { return }
            do throws(HeaderQueueRefusal) {
                try setUp(try taken.get(), ring.memory, from: .ring)
                return
            } catch { _ = ring.queue.refuse(error) }
        }
        mayHaveMore = true
    }

    private static let requestsPerService = 16
    /// A guest may ask without end, but does not fill a log.
    private static let loggedRefusals = 8

    /// Why the driver's set-up ring is broken, or `.none`.
    var fault: QueueFault { ring?.queue.fault ?? .none }

    /// Now and then, so that a guest which breaks its queue again and again slows no other: says
    /// once that the queue is broken, and resets it if its driver asks for that.
    func check() {
        guard let active, active.queue.isBroken else { return }
        if !isBreakReported {
            isBreakReported = true
            events["brokenHeaderQueues", default: 0] += 1
            log("the header queue is broken by its driver: packets go whole until it is reset")
        }
        if active.queue.wantsReset { _ = reset() }
    }

    /// Entries of the return ring that named a slot which the device had already.
    var duplicateCount: UInt64 { earlierDuplicates + (active?.queue.duplicateCount ?? 0) }
}

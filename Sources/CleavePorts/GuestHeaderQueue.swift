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
    fileprivate struct Active {
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
    private var earlierDuplicates: UInt64 = 0
    private var earlierClaims: UInt64 = 0
    /// What happened.
    private(set) var events: [PortEvent: UInt64] = [:]
    /// Requests that were refused, by reason.
    private(set) var refusals: [String: UInt64] = [:]
    /// What the operator lets a driver ask for.
    var slotCountLimit = HeaderQueueLayout.maximumSlotCount
    var slotSizeLimit = HeaderQueueLayout.slotSizes.upperBound
    /// Runs its body while no packet is on its way.
    var hold: (_ body: () -> Void) -> Void = { $0() }
    var log: (LogEntry) -> Void = { _ in }
    /// An RQ could not be made anew, and is gone.
    var lost: (_ pair: Int) -> Void = { _ in }

    init(_ pairs: [VhostUserQueue], node: Int?) {
        self.pairs = pairs
        self.node = node
    }

    // MARK: Every request

    /// Where a queue goes on that its driver has already.
    struct Resumption {
        var base: UInt32
        /// Its driver broke it.
        var isBroken: Bool
    }

    /// Checks a request, makes the queue and links its RQs, all while no packet is on its way.
    /// - Parameter resumed: the queue that this one replaces; nil for one that the driver asks for.
    func setUp(
        _ request: HeaderQueueRequest, _ memory: SharedGuestMemory, from origin: Origin,
        after resumed: Resumption? = nil
    ) throws(HeaderQueueRefusal) {
        do throws(HeaderQueueRefusal) {
            if active != nil { throw .inUse }
            guard request.slotCount <= slotCountLimit, request.slotSize <= slotSizeLimit else {
                throw .geometry
            }
            // What cannot be stops no traffic, however often a guest asks for it.
            if resumed == nil { try request.check(in: memory.memory, rqLimit: pairs.count) }
            var failure: HeaderQueueRefusal?
            hold {
                do throws(HeaderQueueRefusal) {
                    try makeAndLink(request, memory, origin, after: resumed)
                } catch { failure = error }
            }
            if let failure { throw failure }
        } catch {
            noteRefusal(error)
            throw error
        }
        events[.headerQueues, default: 0] += 1
        if resumed?.isBroken != true { isBreakReported = false }
        log(
            LogEntry(
                "header queue of \(request.slotCount) slots of \(request.slotSize) bytes for "
                    + "\(request.rqs.count) of \(pairs.count) receive queues"))
    }

    private func noteRefusal(_ reason: HeaderQueueRefusal) {
        refusals[reason.name, default: 0] += 1
        log(LogEntry("the header queue is refused", level: .warning, reason: reason.name))
    }

    private func makeAndLink(
        _ request: HeaderQueueRequest, _ memory: SharedGuestMemory, _ origin: Origin,
        after resumed: Resumption?
    ) throws(HeaderQueueRefusal) {
        let report = try request.checkedReport()
        let queue: HeaderQueue
        if let resumed {
            queue = try request.makeQueue(
                at: resumed.base, isBroken: resumed.isBroken, in: memory.memory,
                rqLimit: pairs.count, node: node)
        } else {
            queue = try request.makeQueue(
                in: memory.memory, rqLimit: pairs.count, node: node)
        }
        var linked: [Int] = []
        do throws(SetupError) {
            for pair in request.rqs {
                let link = LinkedHeaderQueue(
                    queue: queue, report: report, returnRing: request.returnRing(ofRQ: pair))
                try pairs[pair].link(link, node: node)
                linked.append(pair)
            }
        } catch {
            // No memory for a queue's own words.
            log(LogEntry("\(error)", level: .warning))
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
        for words in request.deviceWords {
            ring.log?.markHeaderWords(at: words, in: ring.memory.memory)
        }
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
        earlierClaims += active.queue.claimedCount
        self.active = nil
        return true
    }

    private func unlink(_ pair: Int) {
        do throws(SetupError) { try pairs[pair].link(nil, node: node) } catch {
            // It must not use the slots any longer.
            log(LogEntry("receive queue \(pair) ends", level: .warning, reason: "\(error)"))
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
        events[.headerQueueResets, default: 0] += 1
        isBreakReported = false
        return true
    }

    /// Goes over to new memory of the same guest, with no RQ running; a broken queue stays broken,
    /// since its driver may wait for a reset. The set-up ring brings its chain again by itself.
    func memoryChanged(_ memory: SharedGuestMemory?) {
        guard let old = active, old.origin == .message else { return }
        end(.message)
        guard let memory else { return }
        // If it lies outside the new memory, that is logged and counted, and packets come whole.
        try? setUp(
            old.request, memory, from: .message,
            after: old.queue.isBroken
                ? Resumption(base: old.queue.base, isBroken: true) : nil)
    }

    // MARK: Going to another process

    /// The queue's use ends, as its driver must not notice. After the rings have stopped.
    /// - Parameter before: what there was while they ran.
    /// - Returns: what another process needs; nil if the set-up ring brings it by itself, or there
    ///   is none.
    func suspend(_ before: Suspended) -> HeaderQueueHandover? {
        guard let old = before.active, old.origin == .message else { return nil }
        end(.message)
        return HeaderQueueHandover(
            fields: old.request.fields, control: old.request.control.rawValue,
            slots: old.request.slots.rawValue, returnRing: old.request.returnRing.rawValue,
            base: old.queue.base, isBroken: old.queue.isBroken)
    }

    /// What is in use, to be kept while it is not known who goes on with it.
    struct Suspended {
        fileprivate var active: Active?

        fileprivate init(active: Active?) { self.active = active }
        init() {}
    }

    var inUse: Suspended { Suspended(active: active) }

    /// Nobody has taken over. Before the rings start again.
    func resume(_ before: Suspended) {
        guard let old = before.active else { return }
        // Another process may have begun with it, and has then claimed nothing.
        old.queue.leave()
        guard old.origin == .message else { return }
        try? setUp(
            old.request, SharedGuestMemory(memory: old.queue.memory, mappings: old.mappings),
            from: .message,
            after: Resumption(base: old.queue.base, isBroken: old.queue.isBroken))
    }

    /// Another process has the queue after all: it is used no more, and its driver is told nothing.
    /// The queues that are linked to it end, too.
    func abandon() { active = nil }

    /// Goes on where another process stopped. Before the rings start. What its guest's memory does
    /// not allow any more is logged and counted, and packets come whole.
    func start(_ state: HeaderQueueHandover, in memory: SharedGuestMemory) throws(SetupError) {
        guard var request = HeaderQueueRequest(fields: state.fields) else {
            throw SetupError(
                "headerQueue.fields: \(state.fields.count) bytes, not "
                    + "\(HeaderQueueRequest.byteCount)")
        }
        request.control = GuestAddress(state.control)
        request.slots = GuestAddress(state.slots)
        request.returnRing = GuestAddress(state.returnRing)
        isBreakReported = state.isBroken
        try? setUp(
            request, memory, from: .message,
            after: Resumption(base: state.base, isBroken: state.isBroken))
    }

    // MARK: The set-up ring

    /// For poll; -1 for none.
    var kickDescriptor: Int32 { ring?.kick?.fileDescriptor ?? -1 }

    func start(_ setup: VringSetup) throws(SetupError) {
        ring = SetupRing(
            queue: try SetupQueue(setup.controlQueue), kick: try setup.kick(),
            memory: SharedGuestMemory(memory: setup.memory, mappings: setup.mappings),
            log: setup.observation?.log)
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
            switch taken {
            case .success(let request):
                do throws(HeaderQueueRefusal) {
                    return try setUp(request, ring.memory, from: .ring)
                } catch { _ = ring.queue.refuse(error) }
            case .failure(let reason):
                noteRefusal(reason)
                _ = ring.queue.refuse(reason)
            }
        }
        mayHaveMore = true
    }

    private static let requestsPerService = 16

    /// Why the driver's set-up ring is broken, or `.none`.
    var fault: QueueFault { ring?.queue.fault ?? .none }

    /// Now and then, so that a guest which breaks its queue again and again slows no other: says
    /// once that the queue is broken, and resets it if its driver asks for that.
    func check() {
        guard let active, active.queue.isBroken else { return }
        if !isBreakReported {
            isBreakReported = true
            events[.brokenHeaderQueues, default: 0] += 1
            log(
                LogEntry(
                    "the header queue is broken by its driver: packets go whole until it is reset",
                    level: .warning))
        }
        if active.queue.wantsReset { _ = reset() }
    }

    /// Entries of the return ring that named a slot which the device had already.
    var duplicateCount: UInt64 { earlierDuplicates + (active?.queue.duplicateCount ?? 0) }

    /// Slots that were claimed of this queue and of those before it.
    var claimedCount: UInt64 { earlierClaims + (active?.queue.claimedCount ?? 0) }

    /// What it is now; nil if the driver has set up none.
    var state: HeaderQueueState? {
        guard let active else { return nil }
        let layout = active.queue.layout
        var state = HeaderQueueState()
        state.slotCount = layout.slotCount
        state.slotSize = layout.slotSize
        state.slotReturn = String(describing: layout.slotReturn)
        state.queues = active.request.rqs
        state.free = active.queue.freeCount
        state.heldByQueue = active.queue.heldCounts
        state.isBroken = active.queue.isBroken
        return state
    }
}

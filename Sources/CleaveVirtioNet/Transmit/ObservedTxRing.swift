import CleaveHost

/// Where the device is in a packed ring.
struct PackedPlaces: BitwiseCopyable {
    let ring: UnsafeMutableRawPointer
    let size: Int
    /// Where the next list begins that is taken.
    var taken: PackedCursor
    /// Where the next list begins that is used.
    var used: PackedCursor
}

/// A transmit queue's ring that can be observed.
protocol ObservableTxRing: TxRing, ObservableRing {
    /// The next publish makes something visible.
    var hasUsed: Bool { get }
    /// nil in a split ring, which itself tells what is in flight.
    var places: PackedPlaces? { get }
}

extension ObservableTxRing {
    var places: PackedPlaces? { nil }
}

/// A transmit ring of which is kept what it writes, and which chains are out: everything else is as
/// in `Base`.
struct ObservedTxRing<Base: ObservableTxRing>: TxRing {
    private var ring: Base
    private var log: PageLog
    private var writer: InFlightWriter?

    // control path
    init(
        _ addresses: VirtqueueAddresses, features: VirtioFeatures, memory: GuestMemory
    ) throws(SetupError) {
        ring = try Base(addresses, features: features, memory: memory)
        log = PageLog(
            bits: nil, pageCount: 0, memory: memory, logsBuffers: false, usedArea: nil,
            deviceArea: 0, changed: .none)
    }

    // control path
    mutating func observe(_ log: PageLog, _ writer: InFlightWriter?) {
        self.log = log
        self.writer = writer
        // The ring was written to when it was activated, and when descriptors were put back.
        log.markEvents(ring.eventSpans)
        if writer != nil { log.markWholeRing(ring.usedAreaByteCount) }
    }

    var fault: QueueFault { ring.fault }
    var base: UInt16 { ring.base }
    var taken: TxChain { ring.taken }

    mutating func begin(_ count: Int) { ring.begin(count) }

    mutating func popRun<Kind: TxRunKind>(_ count: Int, _ run: inout TxRun, _ kind: Kind.Type) {
        let before = (count: run.count, places: ring.places)
        ring.popRun(count, &run, kind)
        noteTaken(run.count &- before.count, listCount: 1, before.places)
    }

    mutating func pop(_ need: Int, _ segments: inout SegmentList) -> BufferFetch {
        let places = ring.places
        let fetch = ring.pop(need, &segments)
        if fetch.isBuffer { noteTaken(1, listCount: ring.taken.listCount, places) }
        return fetch
    }

    /// Lists from `places.taken` on are in flight.
    private func noteTaken(_ count: Int, listCount: Int, _ places: PackedPlaces?) {
        guard let writer, var places else { return }
        for _ in 0..<count {
            writer.take(places.ring, at: places.taken.offset, listCount)
            places.taken.advance(by: listCount, size: places.size)
        }
    }

    mutating func addUsed(_ chain: TxChain) {
        noteUsed(1, listCount: chain.listCount, ring.places)
        ring.addUsed(chain)
    }

    mutating func addUsedRun(
        _ chains: UnsafePointer<TxChain>, mask: Int, first: Int, _ count: Int
    ) -> Int {
        let places = ring.places
        let done = ring.addUsedRun(chains, mask: mask, first: first, count)
        noteUsed(done, listCount: 1, places)
        return done
    }

    /// Lists from `places.used` on are given back by the next publish.
    private func noteUsed(_ count: Int, listCount: Int, _ places: PackedPlaces?) {
        guard let writer, var places else { return }
        for _ in 0..<count {
            writer.use(places.used.offset, listCount)
            places.used.advance(by: listCount, size: places.size)
        }
    }

    mutating func publish() {
        if !ring.hasUsed { return ring.publish() }
        if let writer, let places = ring.places { writer.begin(places.used) }
        ring.publish()
        if let writer { writer.commit() }
        log.markUsed(ring.publishedSpans, index: ring.indexSpan)
    }

    func setKicks(enabled wanted: Bool) {
        ring.setKicks(enabled: wanted)
        log.markEvents(ring.eventSpans)
    }

    func wantsCall() -> Bool { ring.wantsCall() }
    func checkInvariants() { ring.checkInvariants() }
}

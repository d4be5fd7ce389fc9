import CleaveRings

/// How much of each thread's past is known: thread t's steps up to `clock[t]` happened before.
typealias ViewClock = SIMD4<UInt32>

extension ViewClock {
    func covers(_ thread: Int, _ epoch: UInt32) -> Bool { self[thread] >= epoch }
    mutating func join(_ other: ViewClock) { replace(with: other, where: other .> self) }
}

/// One shared word with all values it had in this run, in the order of the stores.
final class ModelledWord {
    struct Store {
        let value: UInt64
        let thread: Int
        let epoch: UInt32
        /// The past that an acquiring reader learns: the storing thread's if it released, and that
        /// of the releases that read-modify-writes carried on.
        let handedOn: ViewClock
        let isSequential: Bool
    }

    let name: String
    let bits: Int
    private(set) var stores: [Store]
    /// Which store was seen by which thread and when: a thread that knows of it sees no older one.
    private var sightings: [(thread: Int, epoch: UInt32, index: Int)] = []

    init(name: String, bits: Int, value: UInt64) {
        self.name = name
        self.bits = bits
        // Set-up happened before everything.
        stores = [Store(value: value, thread: 0, epoch: 0, handedOn: .zero, isSequential: true)]
    }

    var newest: Store { stores[stores.count - 1] }

    /// The oldest store that a load may still see.
    func oldestVisible(to clock: ViewClock, sequential: Bool) -> Int {
        var oldest = 0
        for (index, store) in stores.enumerated() {
            if clock.covers(store.thread, store.epoch) || (sequential && store.isSequential) {
                oldest = index
            }
        }
        for sighting in sightings where clock.covers(sighting.thread, sighting.epoch) {
            oldest = max(oldest, sighting.index)
        }
        return oldest
    }

    func see(_ index: Int, thread: Int, epoch: UInt32) -> Store {
        sightings.append((thread, epoch, index))
        return stores[index]
    }

    func append(_ store: Store) { stores.append(store) }
}

/// Plain memory that two threads use alternately, for the detection of races: the last write and
/// the reads since then.
struct PlainCell {
    private var write: (thread: Int, epoch: UInt32) = (0, 0)
    private var reads = ViewClock.zero

    /// - Returns: the thread with whose earlier access this one is not ordered, nil if with none.
    mutating func read(_ thread: Int, _ clock: ViewClock) -> Int? {
        reads[thread] = clock[thread]
        return clock.covers(write.thread, write.epoch) ? nil : write.thread
    }

    mutating func write(_ thread: Int, _ clock: ViewClock) -> Int? {
        let racer =
            clock.covers(write.thread, write.epoch)
            ? (0..<ViewClock.scalarCount).first { !clock.covers($0, reads[$0]) } : write.thread
        write = (thread, clock[thread])
        reads = .zero
        return racer
    }
}

/// An order that is removed from every access to one word, to find the code that needs it.
struct Weakening: CustomStringConvertible {
    enum Part: String { case release, acquire, sequential }
    let part: Part
    let word: String
    var description: String { "\(word) without \(part.rawValue)" }

    func apply(to order: ModelOrder) -> ModelOrder {
        switch (part, order) {
        case (.release, .release), (.acquire, .acquire): .relaxed
        case (.release, .acquireRelease): .acquire
        case (.acquire, .acquireRelease): .release
        default: order
        }
    }

    /// The rest of an order that is sequential: the release or acquire in it.
    func applyToSequential(isStore: Bool) -> ModelOrder {
        if part == .sequential { return isStore ? .release : .acquire }
        return (part == .release) == isStore ? .relaxed : .sequential
    }
}

import CleaveRings

/// One run of modelled threads over shared words: the memory they see, and the accesses they must
/// not make.
///
/// Set up by the body given to `explore`, then run. Not to be kept beyond it.
final class ModelRun: ModelMemory {
    struct Finding: CustomStringConvertible {
        let what: String
        /// The accesses of the run that found it, in order.
        let trace: [String]
        var description: String { ([what] + trace).joined(separator: "\n    ") }
    }

    /// Called before a store takes effect, in the thread that stores.
    typealias Watcher = (_ old: UInt64, _ new: UInt64) -> Void

    private let scheduler: Scheduler
    private let weakening: Weakening?
    private var staleReadsLeft: Int
    private let isTraced: Bool

    private var bodies: [(name: String, body: () -> Void)] = []
    private var ending: () -> Void = {}
    private var names: [UnsafeMutableRawPointer: String] = [:]
    private var watchers: [UnsafeMutableRawPointer: Watcher] = [:]
    private var handedOver: Set<UnsafeMutableRawPointer> = []
    private var quiet: Set<UnsafeMutableRawPointer> = []

    private var words: [UnsafeMutableRawPointer: ModelledWord] = [:]
    private var cells: [String: [Int: PlainCell]] = [:]
    private var clocks: [ViewClock] = []
    private var trace: [String] = []
    private var failure: String?
    /// Read-modify-writes that stored something.
    private(set) var changeCount = 0

    init(_ scheduler: Scheduler, staleReads: Int, weakening: Weakening?, isTraced: Bool) {
        self.scheduler = scheduler
        staleReadsLeft = staleReads
        self.weakening = weakening
        self.isTraced = isTraced
    }

    // MARK: Set-up

    /// Adds a thread.
    func thread(_ name: String, _ body: @escaping () -> Void) { bodies.append((name, body)) }

    /// Checks that run when all threads have ended.
    func finally(_ body: @escaping () -> Void) { ending = body }

    /// Names the word at `address`; `watcher` sees each store to it.
    func word(
        _ name: String, _ address: UnsafeMutableRawPointer, _ watcher: Watcher? = nil
    ) {
        names[address] = name
        watchers[address] = watcher
    }

    /// Plain stores to this word must be ordered with every other access to it, as if it were plain
    /// memory: their place among the other stores may not be left to chance.
    func requireOrdered(_ address: UnsafeMutableRawPointer) { handedOver.insert(address) }

    /// No decision depends on this word: no other thread comes first at its accesses, and the
    /// newest value is seen.
    func quiet(_ address: UnsafeMutableRawPointer) { quiet.insert(address) }

    // MARK: In threads

    /// The running thread reads plain memory: cell `index` of `area`.
    func reads(_ area: String, _ index: Int) {
        let me = tick()
        let racer = cells[area, default: [:]][index, default: PlainCell()].read(me, clocks[me])
        note(racer, verb: "reads", area: area, index)
    }

    /// The running thread writes plain memory.
    func writes(_ area: String, _ index: Int) {
        let me = tick()
        let racer = cells[area, default: [:]][index, default: PlainCell()].write(me, clocks[me])
        note(racer, verb: "writes", area: area, index)
    }

    private func note(_ racer: Int?, verb: String, area: String, _ index: Int) {
        if isTraced { record("\(verb) \(area) \(index)") }
        if let racer {
            fail(
                "race: \(bodies[scheduler.current].name) \(verb) \(area) \(index), "
                    + "not ordered with \(bodies[racer].name)")
        }
    }

    func check(_ condition: Bool, _ what: @autoclosure () -> String) {
        if !condition { fail(what()) }
    }

    private func fail(_ what: String) { failure = failure ?? what }

    /// Lets others run until the newest state makes `condition` true; the thread must read the
    /// values again through shared words, which may still see older ones.
    /// - Returns: false when it never will.
    func wait(until condition: @escaping () -> Bool) -> Bool { scheduler.wait(until: condition) }

    // MARK: Running

    func run(preemptions: Int) -> Finding? {
        clocks = Array(repeating: .zero, count: bodies.count)
        ModelSeam.memory = self
        scheduler.run(bodies.map(\.body), preemptions: preemptions)
        ModelSeam.memory = nil
        ending()
        // They refer to this run.
        bodies = []
        ending = {}
        watchers = [:]
        return failure.map { Finding(what: $0, trace: trace) }
    }

    // MARK: ModelMemory

    func read(_ address: UnsafeMutableRawPointer, bits: Int, _ asked: ModelOrder) -> UInt64 {
        if quiet.contains(address) { return modelled(address, bits).newest.value }
        scheduler.step()
        let word = modelled(address, bits)
        let order = effective(asked, word, isStore: false)
        let me = tick()
        let oldest = word.oldestVisible(to: clocks[me], sequential: order == .sequential)
        let last = word.stores.count - 1
        let age = staleReadsLeft > 0 ? scheduler.choices.choose(1 + last - oldest) : 0
        if age > 0 { staleReadsLeft -= 1 }
        let store = word.see(last - age, thread: me, epoch: clocks[me][me])
        if order == .acquire || order == .sequential { clocks[me].join(store.handedOn) }
        if isTraced { record("\(word.name) -> \(store.value)\(age > 0 ? ", \(age) old" : "")") }
        return store.value
    }

    func write(
        _ value: UInt64, to address: UnsafeMutableRawPointer, bits: Int, _ asked: ModelOrder
    ) {
        if !quiet.contains(address) { scheduler.step() }
        let word = modelled(address, bits)
        let order = effective(asked, word, isStore: true)
        watchers[address]?(word.newest.value, value)
        if handedOver.contains(address) { writes(word.name, 0) }
        let me = tick()
        let releases = order == .release || order == .sequential
        if isTraced { record("\(word.name) <- \(value)") }
        put(
            value, address, word, handedOn: releases ? clocks[me] : .zero,
            isSequential: order == .sequential)
    }

    func change(
        _ address: UnsafeMutableRawPointer, bits: Int, _ asked: ModelOrder,
        _ new: (UInt64) -> UInt64?
    ) -> UInt64 {
        scheduler.step()
        let word = modelled(address, bits)
        let order = effective(asked, word, isStore: true)
        let found = word.newest
        let value = new(found.value)
        if let value { watchers[address]?(found.value, value) }
        if handedOver.contains(address) { reads(word.name, 0) }
        let me = tick()
        _ = word.see(word.stores.count - 1, thread: me, epoch: clocks[me][me])
        if order == .acquire || order == .acquireRelease { clocks[me].join(found.handedOn) }
        if isTraced {
            record("\(word.name) \(found.value) -> \(value.map { "\($0)" } ?? "as it is")")
        }
        guard let value else { return found.value }
        changeCount += 1
        // A read-modify-write carries the releases before it on.
        var handedOn = found.handedOn
        if order == .release || order == .acquireRelease { handedOn.join(clocks[me]) }
        put(value, address, word, handedOn: handedOn, isSequential: false)
        return found.value
    }

    private func put(
        _ value: UInt64, _ address: UnsafeMutableRawPointer, _ word: ModelledWord,
        handedOn: ViewClock, isSequential: Bool
    ) {
        let me = scheduler.current
        word.append(
            ModelledWord.Store(
                value: value, thread: me, epoch: clocks[me][me], handedOn: handedOn,
                isSequential: isSequential))
        switch word.bits {
        case 16: address.storeBytes(of: UInt16(truncatingIfNeeded: value), as: UInt16.self)
        case 32: address.storeBytes(of: UInt32(truncatingIfNeeded: value), as: UInt32.self)
        default: address.storeBytes(of: value, as: UInt64.self)
        }
    }

    private func modelled(_ address: UnsafeMutableRawPointer, _ bits: Int) -> ModelledWord {
        if let word = words[address] {
            precondition(word.bits == bits, "\(word.name) is accessed in two widths")
            return word
        }
        let value: UInt64 =
            switch bits {
            case 16: UInt64(address.load(as: UInt16.self))
            case 32: UInt64(address.load(as: UInt32.self))
            default: address.load(as: UInt64.self)
            }
        let word = ModelledWord(name: names[address] ?? "a word", bits: bits, value: value)
        words[address] = word
        return word
    }

    private func effective(
        _ order: ModelOrder, _ word: ModelledWord, isStore: Bool
    ) -> ModelOrder {
        guard let weakening, weakening.word == word.name else { return order }
        return order == .sequential
            ? weakening.applyToSequential(isStore: isStore) : weakening.apply(to: order)
    }

    private func tick() -> Int {
        let me = scheduler.current
        clocks[me][me] += 1
        return me
    }

    private func record(_ event: String) {
        trace.append("\(bodies[scheduler.current].name): \(event)")
    }
}

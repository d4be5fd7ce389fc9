// How a control thread keeps a thread that turns an RQ at a turn boundary, where nothing of the RQ
// is in use.
//
//   control thread                                 RQ's thread, between two turns
//   give(.hold) --[E2]-->  request: number, order  --> obey; turn while it is the last
//   isAnswered  <--[E1]--  answer: the same, as soon as nothing is in use
//
// An order has a number, and its answer repeats that. Else the answer to an earlier order to hold
// could pass for one to this: it stands until the thread has obeyed the order to run in between,
// and by then it may have taken a turn.
//
// SAFETY: constants; the words are reached through explicit orderings, and whoever provided their
// memory keeps it.

/// Orders to the thread that turns an RQ, and its answers.
@frozen
package struct TurnOrders: Sendable {
    @usableFromInline let request: SharedWord32
    @usableFromInline let answer: SharedWord32

    package enum Kind: UInt32, Sendable { case run, hold, end }

    /// One order among all.
    @frozen
    package struct Order: Equatable, BitwiseCopyable, Sendable {
        @usableFromInline let word: UInt32
        @inlinable init(word: UInt32) { self.word = word }
        package var kind: Kind { Kind(rawValue: word & 3) ?? .end }
    }

    /// - Parameters:
    ///   - request: a zeroed word that the control thread writes: an order to run.
    ///   - answer: a zeroed word that the RQ's thread writes, on another cache line.
    package init(request: UnsafeMutableRawPointer, answer: UnsafeMutableRawPointer) {
        self.request = SharedWord32(request)
        self.answer = SharedWord32(answer)
    }

    // MARK: The control thread

    /// The last order, for whoever gives them.
    package var last: Order { Order(word: request.load()) }

    package func give(_ kind: Kind) {
        // [E2 release -> the RQ's thread: the queue put in place]
        request.storeRelease(((request.load() & ~3) &+ 4) | kind.rawValue)
    }

    /// Whether the RQ's thread holds, if that was the last order.
    package var isAnswered: Bool {
        // [E1 acquire <- the RQ's thread, after its last turn]
        let answered = answer.loadAcquire()
        #if ModelCheck
        if SeededBug.answerWithoutNumber.isOn { return answered & 3 == Kind.hold.rawValue }
        #endif
        return answered == request.load()
    }

    // MARK: The RQ's thread

    /// Between two turns: the last order, answered unless it is to run.
    package func obey() -> Order {
        // [E2 acquire <- the control thread's order: the queue it put in place]
        let order = Order(word: request.loadAcquire())
        if order.kind != .run {
            // [E1 release -> the control thread: the queue's state after the last turn]
            answer.storeRelease(order.word)
        }
        return order
    }

    /// Whether no other order has come: it may be seen some turns late.
    @inlinable @inline(__always)
    package func isLast(_ order: Order) -> Bool { request.load() == order.word }
}

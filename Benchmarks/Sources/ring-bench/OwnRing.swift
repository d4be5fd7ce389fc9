// Cleave's SPSCRing behind the calls of ring_bench.h, twice: with a burst copied in and out like
// every rival, and written and read in place, which is how the receive path uses it.
import CRingBench
import CleaveRings

/// One ring under test. Each end is moved out by its thread while it works and put back after.
private struct OwnRing {
    let memory: UnsafeMutableRawPointer
    let producer: UnsafeMutablePointer<SPSCProducer<ring_element>>
    let consumer: UnsafeMutablePointer<SPSCConsumer<ring_element>>

    init(capacity: Int) {
        memory = .allocate(
            byteCount: SPSCRing<ring_element>.byteCount(capacity: capacity),
            alignment: CacheLine.byteCount)
        let ring = SPSCRing<ring_element>(memory: memory, capacity: capacity)
        producer = .allocate(capacity: 1)
        producer.initialize(to: ring.makeProducer())
        consumer = .allocate(capacity: 1)
        consumer.initialize(to: ring.makeConsumer())
    }

    func free() {
        producer.deinitialize(count: 1)
        producer.deallocate()
        consumer.deinitialize(count: 1)
        consumer.deallocate()
        memory.deallocate()
    }
}

extension ring_job {
    fileprivate var own: OwnRing { ring.assumingMemoryBound(to: OwnRing.self).pointee }
}

private func name(_ text: StaticString) -> UnsafePointer<CChar> {
    UnsafeRawPointer(text.utf8Start).assumingMemoryBound(to: CChar.self)
}

private func create(capacity: UInt32) -> UnsafeMutableRawPointer? {
    let box = UnsafeMutablePointer<OwnRing>.allocate(capacity: 1)
    box.initialize(to: OwnRing(capacity: Int(capacity)))
    return UnsafeMutableRawPointer(box)
}

private func destroy(ring: UnsafeMutableRawPointer?) {
    guard let box = ring?.assumingMemoryBound(to: OwnRing.self) else { return }
    box.pointee.free()
    box.deinitialize(count: 1)
    box.deallocate()
}

@inline(__always)
private func element(_ sequence: UInt64) -> ring_element {
    ring_element(sequence: sequence, check: ~sequence)
}

extension ring_tally {
    @inline(__always)
    fileprivate mutating func add(_ element: ring_element, expected: UInt64, verify: Bool) {
        sequence_sum &+= element.sequence
        check_sum &+= element.check
        if verify && (element.sequence != expected || element.check != ~expected) { disorder += 1 }
    }
}

private func produceCopying(_ job: UnsafePointer<ring_job>?) {
    guard let job = job?.pointee else { return }
    let own = job.own
    var producer = own.producer.move()
    let burstCount = Int(job.burst)
    withUnsafeTemporaryAllocation(of: ring_element.self, capacity: burstCount) { burst in
        guard let first = burst.baseAddress else { return }
        var sequence: UInt64 = 0
        while sequence < job.count {
            for offset in 0..<burstCount {
                first[offset] = element(sequence &+ UInt64(offset))
            }
            var sent = producer.push(first, count: burstCount)
            while sent < burstCount {
                ring_bench_idle(job.yields)
                sent += producer.push(first + sent, count: burstCount - sent)
            }
            sequence &+= UInt64(burstCount)
        }
    }
    own.producer.initialize(to: producer)
}

@inline(__always)
private func consumeCopying(_ job: ring_job, verify: Bool) -> ring_tally {
    let own = job.own
    var consumer = own.consumer.move()
    let burstCount = Int(job.burst)
    var tally = ring_tally()
    withUnsafeTemporaryAllocation(of: ring_element.self, capacity: burstCount) { burst in
        guard let first = burst.baseAddress else { return }
        var done: UInt64 = 0
        while done < job.count {
            let count = consumer.pop(into: first, count: burstCount)
            if count == 0 { ring_bench_idle(job.yields) }
            for offset in 0..<count {
                tally.add(first[offset], expected: done &+ UInt64(offset), verify: verify)
            }
            done &+= UInt64(count)
        }
    }
    own.consumer.initialize(to: consumer)
    return tally
}

private func produceInPlace(_ job: UnsafePointer<ring_job>?) {
    guard let job = job?.pointee else { return }
    let own = job.own
    var producer = own.producer.move()
    var sequence: UInt64 = 0
    while sequence < job.count {
        var left = Int(job.burst)
        while left > 0 {
            let count = producer.reserve(left)
            for offset in 0..<count { producer[offset] = element(sequence &+ UInt64(offset)) }
            if count > 0 { producer.commit(count) } else { ring_bench_idle(job.yields) }
            sequence &+= UInt64(count)
            left -= count
        }
    }
    own.producer.initialize(to: producer)
}

@inline(__always)
private func consumeInPlace(_ job: ring_job, verify: Bool) -> ring_tally {
    let own = job.own
    var consumer = own.consumer.move()
    var tally = ring_tally()
    var done: UInt64 = 0
    while done < job.count {
        let count = consumer.peek(Int(job.burst))
        for offset in 0..<count {
            tally.add(consumer[offset], expected: done &+ UInt64(offset), verify: verify)
        }
        if count > 0 { consumer.release(count) } else { ring_bench_idle(job.yields) }
        done &+= UInt64(count)
    }
    own.consumer.initialize(to: consumer)
    return tally
}

/// The two ways of using `SPSCRing`.
func ownContenders() -> [ring_contender] {
    [
        ring_contender(
            name: name("Cleave SPSCRing, push and pop"), create: create, destroy: destroy,
            produce: produceCopying,
            consume: { job, tally in
                guard let job = job?.pointee else { return }
                tally?.pointee =
                    job.verify
                    ? consumeCopying(job, verify: true) : consumeCopying(job, verify: false)
            }),
        ring_contender(
            name: name("Cleave SPSCRing, in place"), create: create, destroy: destroy,
            produce: produceInPlace,
            consume: { job, tally in
                guard let job = job?.pointee else { return }
                tally?.pointee =
                    job.verify
                    ? consumeInPlace(job, verify: true) : consumeInPlace(job, verify: false)
            }),
    ]
}

import CleaveVirtioNet

/// The operations of an `RxDriver` that touch its ring, specialised for the format and closed over
/// ring and state.
///
/// Closures and not a generic class: the methods of a generic class, called through a witness or
/// vtable, run unspecialised.
struct RxDriverOperations {
    let refill: () -> (posted: Int, wantsKick: Bool)
    let harvest: () -> Int
    let setInterrupts: (Bool) -> Void
    let addresses: VirtqueueAddresses
    /// Frees the ring's state, after the last use of the others.
    let free: () -> Void

    /// Called with a concrete ring, so that the closures are specialised for it.
    @inline(__always)
    init<Ring: DriverRing>(_ ring: Ring, _ state: UnsafeMutablePointer<RxDriverState>) {
        let memory = UnsafeMutablePointer<Ring>.allocate(capacity: 1)
        memory.initialize(to: ring)
        addresses = ring.addresses
        // Local functions, not closures: profilers show their names.
        func refillRing() -> (posted: Int, wantsKick: Bool) {
            defer { memory.pointee.checkInvariants() }
            return state.pointee.refill(memory)
        }
        func harvestRing() -> Int {
            defer { memory.pointee.checkInvariants() }
            return state.pointee.harvest(memory)
        }
        refill = refillRing
        harvest = harvestRing
        setInterrupts = { memory.pointee.setInterrupts($0) }
        free = { memory.deallocate() }
    }
}

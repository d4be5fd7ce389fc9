// Memory that a front-end shares beside the guest's: the log of pages that the device writes, and
// the region in which it notes what is in flight.

import CCleaveHost
import CleaveHost
import CleaveVirtioNet

/// The log of written pages, for a guest that moves to another machine.
struct LogMemory {
    let mapping: RegionMapping
    let byteCount: Int
    /// Where it begins in its file.
    let fileOffset: UInt64

    /// Maps it.
    init(
        byteCount: UInt64, fileOffset: UInt64, of descriptor: ReceivedDescriptor
    ) throws(RequestError) {
        mapping = try RegionMapping(
            RegionDescription(
                guestAddress: 0, size: byteCount, userAddress: 0, fileOffset: fileOffset),
            of: descriptor)
        self.byteCount = Int(byteCount)
        self.fileOffset = fileOffset
    }

    /// Whether it has a bit for every page of `table`.
    func covers(_ table: MemoryTable) -> Bool {
        let log = DirtyLog(bits: mapping.host, byteCount: byteCount)
        do { try log.check(covers: table.memory) } catch { return false }
        return true
    }
}

/// A part for each ring, in which is noted what is in flight there.
///
/// The front-end keeps it while no back-end is connected. A session only writes there what another
/// one, after this process has died, needs to go on; it takes nothing from it but where rings are
/// resumed, and that only when they start.
struct InFlightRegion {
    let mapping: RegionMapping
    /// As the front-end gave it.
    let description: InFlightDescription
    private let byteCount: Int
    private let ringCount: Int
    private let ringSize: Int

    /// Bytes for rings of a format.
    static func byteCount(_ description: InFlightDescription, _ format: RingFormat) -> UInt64 {
        UInt64(description.ringCount)
            * UInt64(InFlightRecord.byteCount(size: Int(description.ringSize), format))
    }

    /// Whether there can be such rings.
    static func isValid(_ description: InFlightDescription, ringCount: Int) -> Bool {
        (1...ringCount).contains(Int(description.ringCount))
            && (1...PackedLayout.maximumSize).contains(Int(description.ringSize))
    }

    /// Maps a region, as much as rings of either format use of it.
    init(
        _ description: InFlightDescription, of descriptor: ReceivedDescriptor, ringCount: Int
    ) throws(RequestError) {
        guard Self.isValid(description, ringCount: ringCount),
            description.byteCount >= Self.byteCount(description, .split),
            description.fileOffset % 8 == 0
        else { throw .refused(.inFlight) }
        let used = min(description.byteCount, Self.byteCount(description, .packed))
        mapping = try RegionMapping(
            RegionDescription(
                guestAddress: 0, size: used, userAddress: 0, fileOffset: description.fileOffset),
            of: descriptor)
        self.description = description
        byteCount = Int(used)
        self.ringCount = Int(description.ringCount)
        ringSize = Int(description.ringSize)
    }

    /// The part of a ring; nil if there is none.
    private func part(_ ring: Int, _ format: RingFormat) -> UnsafeMutableRawPointer? {
        let each = InFlightRecord.byteCount(size: ringSize, format)
        return ring < ringCount && ringCount * each <= byteCount
            ? mapping.host + ring * each : nil
    }

    /// Notes from now on what is in flight in a ring.
    /// - Parameter virtqueue: its base is put to where the ring is resumed.
    func record(
        ofRing ring: Int, _ virtqueue: inout VirtqueueAddresses, in memory: GuestMemory
    ) throws(SetupError) -> InFlightRecord {
        guard let part = part(ring, virtqueue.format) else {
            throw SetupError(
                "the in-flight region, \(byteCount) bytes for \(ringCount) rings of "
                    + "\(ringSize) descriptors, has no part for it")
        }
        return try InFlightRecord(part, capacity: ringSize, resuming: &virtqueue, in: memory)
    }

    func forget(ring: Int, _ format: RingFormat) {
        if let part = part(ring, format) { InFlightRecord.forget(part) }
    }
}

extension BackendSession {
    // MARK: the log

    /// - Returns: the payload of the answer.
    func setLog(_ message: Message) throws(RequestError) -> [UInt8] {
        var reader = PayloadReader(message.payload)
        let (byteCount, offset): (UInt64, UInt64) = (reader.next(), reader.next())
        guard let descriptor = message.descriptors.first,
            let new = try? LogMemory(
                byteCount: byteCount, fileOffset: offset, of: descriptor),
            table.map(new.covers) ?? true
        else {
            // A front-end that takes any answer for success would lose what is written.
            throw .closing(.log)
        }
        changingLog {
            log = new
            for index in rings.indices { startIfReady(index) }
        }
        return PayloadWriter.number(0)
    }

    func setLogDescriptor(_ message: Message) throws(RequestError) {
        var new: NotificationDescriptor?
        if let descriptor = message.descriptors.first {
            do throws(HostError) {
                new = try NotificationDescriptor(
                    duplicating: descriptor.fileDescriptor, for: .call)
            } catch { throw .refused(.fdType) }
        }
        changingLog {
            logDescriptor = new
            for index in rings.indices { startIfReady(index) }
        }
    }

    /// Stops the rings while what is logged changes; `body` starts them again.
    func changingLog(_ body: () -> Void) {
        changing {
            for index in rings.indices { stop(index) }
            body()
        }
    }

    /// What a ring's queue logs; nil for nothing.
    func dirtyLog(of ring: Vring) -> DirtyLog? {
        guard let log, let address = ring.address, logsAll || address.isLogged else { return nil }
        var result = DirtyLog(
            bits: log.mapping.host, byteCount: log.byteCount,
            changed: logDescriptor?.sender ?? .none)
        result.logsBuffers = logsAll
        result.ringAddress = address.isLogged ? GuestAddress(address.logAddress) : nil
        return result
    }

    /// Whether what is logged of a ring has its bits in the log.
    func isInLog(_ ring: Vring, _ virtqueue: VirtqueueAddresses, _ table: MemoryTable) -> Bool {
        guard let log = dirtyLog(of: ring) else { return true }
        do { try log.check(covers: table.memory, virtqueue) } catch { return false }
        return true
    }

    // MARK: what is in flight

    /// Makes a region for the front-end to keep.
    func makeInFlightRegion(_ message: Message) throws(RequestError) -> Answer {
        var description = InFlightDescription(message.payload)
        guard InFlightRegion.isValid(description, ringCount: rings.count) else {
            throw .refused(.inFlight)
        }
        // For either format, while it is not known which one is agreed on.
        description.byteCount = InFlightRegion.byteCount(
            description, features == nil ? .packed : format)
        description.fileOffset = 0
        // Zeroes: a region that nobody has used.
        let descriptor = cleave_memfd("cleave-in-flight", Int(description.byteCount), 0)
        if descriptor < 0 { throw .refused(.nomem) }
        return Answer(
            payload: description.bytes(message.payload.count),
            descriptors: [ReceivedDescriptor(descriptor)])
    }

    func setInFlightRegion(_ message: Message) throws(RequestError) {
        guard let descriptor = message.descriptors.first else { throw .refused(.fds) }
        if isAnyRunning { throw .refused(.busy) }
        inFlight = try InFlightRegion(
            InFlightDescription(message.payload), of: descriptor, ringCount: rings.count)
    }

    /// The ring's position is told by somebody else now.
    func forgetInFlight(_ ring: Int) {
        if features != nil { inFlight?.forget(ring: ring, format) }
    }

    /// What a queue has to keep mapped.
    func mappings(of table: MemoryTable) -> MappedMemory {
        let more = [log?.mapping, inFlight?.mapping].compactMap { $0 }
        return more.isEmpty
            ? table.mappings : MappedMemory(table.mappings.mappings + more)
    }
}

import CleaveVirtioNet

/// A split virtqueue in an `EvilGuest`, written word by word. It posts what it is told to post.
///
/// Everything lives in guest memory but the number of entries posted, so a test can also write
/// there directly.
public struct EvilRing {
    public let guest: EvilGuest
    public let size: Int
    public let descriptorTable: UInt64
    public let availRing: UInt64
    public let usedRing: UInt64
    public let firstIndex: UInt16
    /// `avail.idx` as posted by `post`; `setAvailIndex` does not change it.
    public private(set) var posted: UInt16

    /// Lays the ring over guest memory from `address` on (a multiple of 16).
    public init(_ guest: EvilGuest, size: Int, at address: UInt64, firstIndex: UInt16 = 0) {
        self.guest = guest
        self.size = size
        self.firstIndex = firstIndex
        descriptorTable = address
        availRing = address + UInt64(16 * size)
        usedRing = (availRing + UInt64(6 + 2 * size) + 3) / 4 * 4
        posted = firstIndex
        guest.put(firstIndex, at: availRing + 2)
        guest.put(firstIndex, at: usedRing + 2)
    }

    /// Bytes from `address` on that a ring takes, rounded up to 64.
    public static func byteCount(size: Int) -> Int { (26 * size + 16 + 63) / 64 * 64 }

    public var addresses: VirtqueueAddresses {
        VirtqueueAddresses(
            format: .split, size: size, descriptorArea: GuestAddress(descriptorTable),
            driverArea: GuestAddress(availRing), deviceArea: GuestAddress(usedRing),
            base: firstIndex)
    }

    // MARK: Descriptors

    /// Writes one descriptor; `next` and `flags` may be anything.
    public func describe(
        _ index: Int, _ address: UInt64, _ length: Int,
        flags: UInt16 = DescriptorFlags.write, next: Int = 0
    ) {
        describe(at: descriptorTable + UInt64(16 * index), address, length, flags, next)
    }

    /// Writes one descriptor anywhere, such as into an indirect table.
    public func describe(
        at place: UInt64, _ address: UInt64, _ length: Int, _ flags: UInt16, _ next: Int = 0
    ) {
        guest.put(address, at: place)
        guest.put(UInt32(truncatingIfNeeded: length), at: place + 8)
        guest.put(flags, at: place + 12)
        guest.put(UInt16(truncatingIfNeeded: next), at: place + 14)
    }

    // MARK: Available ring

    /// Puts `head`, any number, into the available ring and publishes it.
    public mutating func post(_ head: Int) {
        setAvailEntry(Int(posted) % size, UInt16(truncatingIfNeeded: head))
        posted &+= 1
        setAvailIndex(posted)
    }

    public func setAvailIndex(_ index: UInt16) { guest.put(index, at: availRing + 2) }
    public func setAvailFlags(_ flags: UInt16) { guest.put(flags, at: availRing) }
    public func setAvailEntry(_ entry: Int, _ head: UInt16) {
        guest.put(head, at: availRing + 4 + UInt64(2 * entry))
    }
    public func setUsedEvent(_ index: UInt16) {
        guest.put(index, at: availRing + 4 + UInt64(2 * size))
    }

    // MARK: Used ring

    /// One used entry as the device wrote it.
    public struct Used: Equatable {
        public var id: UInt32
        public var length: UInt32
        public init(id: UInt32, length: UInt32) {
            self.id = id
            self.length = length
        }
        /// The chain's head.
        public var head: Int { Int(id) }
        /// The header slot that `usedLength` names, if one is named.
        public var slot: Int? { length >> 31 == 1 ? Int(length >> 16 & 0x7fff) : nil }
        /// Bytes written, without the slot that `usedLength` puts above them.
        public var byteCount: Int { Int(length >> 31 == 1 ? length & 0xffff : length) }
    }

    public var usedIndex: UInt16 { guest.number(usedRing + 2, as: UInt16.self) }
    public var usedFlags: UInt16 { guest.number(usedRing, as: UInt16.self) }

    /// The entry that a free-running index falls on.
    public func used(_ index: UInt16) -> Used {
        let place = usedRing + 4 + UInt64(8 * (Int(index) % size))
        return Used(
            id: guest.number(place, as: UInt32.self),
            length: guest.number(place + 4, as: UInt32.self))
    }

    /// Entries from free-running index `from` up to the published one.
    public func used(since from: UInt16) -> [Used] {
        (0..<Int(usedIndex &- from)).map { used(from &+ UInt16(truncatingIfNeeded: $0)) }
    }
}

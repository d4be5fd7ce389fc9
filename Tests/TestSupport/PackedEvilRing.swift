import CleaveVirtioNet

/// A packed virtqueue in an `EvilGuest`, written word by word. It posts what it is told to post.
///
/// Positions ("places") are counted without end from the ring's first lap on, whose wrap counter is
/// 1: place n is descriptor n modulo size, in lap n / size.
public struct PackedEvilRing {
    public let guest: EvilGuest
    public let size: Int
    public let descriptorRing: UInt64
    public let driverEvent: UInt64
    public let deviceEvent: UInt64
    /// The place where the device starts.
    public let start: Int
    /// The place that is posted to next.
    public private(set) var posted: Int
    /// The places of all lists posted so far.
    public private(set) var lists: [Int] = []

    /// Lays the ring over guest memory from `address` on (a multiple of 16).
    /// - Parameter start: 0 to 2 x size - 1: any offset, in a lap of either wrap counter.
    public init(_ guest: EvilGuest, size: Int, at address: UInt64, start: Int = 0) {
        self.guest = guest
        self.size = size
        self.start = start
        descriptorRing = address
        driverEvent = address + UInt64(16 * size)
        deviceEvent = driverEvent + 16
        posted = start
        // Left by earlier laps: descriptors that are used.
        for place in max(0, start - size)..<start {
            write(place, 0, 0, flags: wrap(place) ? 0x8080 : 0, id: 0)
        }
    }

    public var addresses: VirtqueueAddresses {
        VirtqueueAddresses(
            format: .packed, size: size, descriptorArea: GuestAddress(descriptorRing),
            driverArea: GuestAddress(driverEvent), deviceArea: GuestAddress(deviceEvent),
            base: base(start))
    }

    /// The wrap counter in the lap of `place`.
    public func wrap(_ place: Int) -> Bool { place / size % 2 == 0 }

    /// `place` as a queue reports it.
    public func base(_ place: Int) -> UInt16 {
        UInt16(place % size) | (wrap(place) ? 0x8000 : 0)
    }

    /// AVAIL and USED of a descriptor that is available at `place`.
    public func available(_ place: Int) -> UInt16 { wrap(place) ? 0x80 : 0x8000 }

    private func address(_ place: Int) -> UInt64 { descriptorRing + UInt64(place % size * 16) }

    // MARK: Descriptors

    /// Writes all of one descriptor; everything may be anything.
    public func write(_ place: Int, _ address: UInt64, _ length: Int, flags: UInt16, id: Int) {
        let start = self.address(place)
        guest.put(address, at: start)
        guest.put(UInt32(truncatingIfNeeded: length), at: start + 8)
        guest.put(UInt16(truncatingIfNeeded: id), at: start + 12)
        guest.put(flags, at: start + 14)
    }

    /// Writes an available descriptor.
    public func describe(
        _ place: Int, _ address: UInt64, _ length: Int,
        flags: UInt16 = DescriptorFlags.write, id: Int = 0
    ) {
        write(place, address, length, flags: flags | available(place), id: id)
    }

    /// Posts a list of descriptors, the first one last, the id in the last one only.
    public mutating func post(_ pieces: [PostedPiece], id: Int) {
        for (index, piece) in pieces.enumerated().reversed() {
            let isLast = index == pieces.count - 1
            describe(
                posted + index, piece.address, piece.length,
                flags: piece.flags | (isLast ? 0 : DescriptorFlags.next),
                id: isLast ? id : 0xfff0 + index)
        }
        lists.append(posted)
        posted += pieces.count
    }

    public mutating func post(_ pieces: [(address: UInt64, length: Int)], id: Int) {
        post(pieces.map { PostedPiece($0.address, $0.length) }, id: id)
    }

    /// Posts one reference to an indirect table.
    public mutating func postTable(
        _ table: UInt64, _ length: Int, flags: UInt16 = DescriptorFlags.indirect, id: Int = 0
    ) {
        describe(posted, table, length, flags: flags, id: id)
        lists.append(posted)
        posted += 1
    }

    // MARK: Used descriptors

    /// One used descriptor as the device wrote it.
    public struct Used: Equatable {
        public var id: Int
        public var length: Int
        /// Without a meaning in virtio.
        public var address: UInt64
        public var hasWrite: Bool
        public init(id: Int, length: Int, address: UInt64 = 0, hasWrite: Bool? = nil) {
            self.id = id
            self.length = length
            self.address = address
            self.hasWrite = hasWrite ?? (length > 0)
        }
        /// The header slot that `usedLength` names, if one is named.
        public var slot: Int? { length >> 31 == 1 ? length >> 16 & 0x7fff : nil }
        /// Bytes written, without the slot that `usedLength` puts above them.
        public var byteCount: Int { length >> 31 == 1 ? length & 0xffff : length }
    }

    /// The used descriptor at `place`, if the device has marked it used in that place's lap.
    public func used(_ place: Int) -> Used? {
        let start = address(place)
        let flags = guest.number(start + 14, as: UInt16.self)
        guard flags & 0x8080 == (wrap(place) ? 0x8080 : 0) else { return nil }
        return Used(
            id: Int(guest.number(start + 12, as: UInt16.self)),
            length: Int(guest.number(start + 8, as: UInt32.self)),
            address: guest.number(start, as: UInt64.self),
            hasWrite: flags & DescriptorFlags.write != 0)
    }

    /// How many of `lists` the device has used. Those that are a lap back were used, or they could
    /// not have been posted over.
    public var usedCount: Int {
        var count = lists.lastIndex { $0 < posted - size }.map { $0 + 1 } ?? 0
        while count < lists.count, used(lists[count]) != nil { count += 1 }
        return count
    }

    public func setDriverEvent(_ offset: UInt16, flags: UInt16) {
        guest.put(offset, at: driverEvent)
        guest.put(flags, at: driverEvent + 2)
    }

    public var deviceFlags: UInt16 { guest.number(deviceEvent + 2, as: UInt16.self) }
}

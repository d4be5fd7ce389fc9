// control path
//
// Where a virtqueue lies in guest memory, and the checks that are made once, at activation, so that
// the loop needs none on it.

import CleaveHost

/// A virtqueue as a driver hands it over. The areas have the names of virtio 1.4, which fit both
/// formats.
public struct VirtqueueAddresses: BitwiseCopyable, Sendable {
    public var format: RingFormat
    /// Entries, 1 to 32768: a power of two if split, any number if packed.
    public var size: Int
    /// Descriptor table, or the packed ring of descriptors.
    public var descriptorArea: GuestAddress
    /// Available ring, or the packed ring's driver event suppression structure.
    public var driverArea: GuestAddress
    /// Used ring, or the packed ring's device event suppression structure.
    public var deviceArea: GuestAddress
    /// Where the device continues, in the driver's ring and in its own: a queue is resumed without
    /// buffers in flight, so the two are the same. `freshBase` for a queue that was never used.
    ///
    /// Split: the next index, free-running. Packed: the next offset in the lower 15 bits, the wrap
    /// counter above them.
    ///
    /// The driver may have missed a call for what was published before. With EVENT_IDX the first
    /// publish from here on therefore calls wherever the driver sleeps, unless a packed ring's
    /// driver wants no calls at all.
    public var base: UInt16

    /// - Parameters:
    ///   - format: split or packed.
    ///   - size: entries; a power of two in a split ring.
    ///   - descriptorArea: the descriptor table, or the packed ring.
    ///   - driverArea: the available ring, or the driver's event suppression.
    ///   - deviceArea: the used ring, or the device's event suppression.
    ///   - base: nil for a fresh queue.
    public init(
        format: RingFormat, size: Int, descriptorArea: GuestAddress, driverArea: GuestAddress,
        deviceArea: GuestAddress, base: UInt16? = nil
    ) {
        self.format = format
        self.size = size
        self.descriptorArea = descriptorArea
        self.driverArea = driverArea
        self.deviceArea = deviceArea
        self.base = base ?? Self.freshBase(format)
    }

    /// The base of a queue that was never used: index 0; the packed wrap counter starts at 1.
    public static func freshBase(_ format: RingFormat) -> UInt16 {
        format == .split ? 0 : PackedCursor.start.base
    }

    /// Checks size, base, alignment and range of all areas, as a queue does that is made over it.
    package func check(in memory: GuestMemory) throws(SetupError) { _ = try map(in: memory) }

    /// Host pointers of the three areas.
    struct Mapped {
        let descriptorArea: UnsafeMutableRawPointer
        let driverArea: UnsafeMutableRawPointer
        let deviceArea: UnsafeMutableRawPointer
    }

    /// Checks size, base, alignment and range of all areas.
    func map(in memory: GuestMemory) throws(SetupError) -> Mapped {
        try Self.check(size: size, format)
        switch format {
        case .split:
            return Mapped(
                descriptorArea: try Self.area(
                    "descriptor table", descriptorArea, alignment: 16,
                    byteCount: SplitLayout.descriptorTableByteCount(size: size), in: memory),
                driverArea: try Self.area(
                    "available ring", driverArea, alignment: 2,
                    byteCount: SplitLayout.availRingByteCount(size: size),
                    in: memory),
                deviceArea: try Self.area(
                    "used ring", deviceArea, alignment: 4,
                    byteCount: SplitLayout.usedRingByteCount(size: size), in: memory))
        case .packed:
            guard PackedCursor(base: base).offset < size else {
                throw SetupError(
                    "packed ring base 0x\(String(base, radix: 16)) is not inside a ring of "
                        + "\(size) descriptors")
            }
            return Mapped(
                descriptorArea: try Self.area(
                    "descriptor ring", descriptorArea, alignment: 16,
                    byteCount: PackedLayout.ringByteCount(size: size), in: memory),
                driverArea: try Self.area(
                    "driver event suppression", driverArea, alignment: 4,
                    byteCount: PackedLayout.eventByteCount, in: memory),
                deviceArea: try Self.area(
                    "device event suppression", deviceArea, alignment: 4,
                    byteCount: PackedLayout.eventByteCount, in: memory))
        }
    }

    /// Checks a queue size alone: what a configuration file or a command line can get wrong.
    public static func check(size: Int, _ format: RingFormat) throws(SetupError) {
        switch format {
        case .split:
            guard size > 0, size <= SplitLayout.maximumSize, size & (size - 1) == 0 else {
                throw SetupError(
                    "split ring size \(size) is not a power of two between 1 and "
                        + "\(SplitLayout.maximumSize)")
            }
        case .packed:
            guard size > 0, size <= PackedLayout.maximumSize else {
                throw SetupError(
                    "packed ring size \(size) is not between 1 and \(PackedLayout.maximumSize)")
            }
        }
    }

    private static func area(
        _ name: String, _ address: GuestAddress, alignment: UInt64, byteCount: Int,
        in memory: GuestMemory
    ) throws(SetupError) -> UnsafeMutableRawPointer {
        let place = "0x" + String(address.rawValue, radix: 16)
        guard address.rawValue % alignment == 0 else {
            throw SetupError("\(name) at \(place) is not aligned to \(alignment) bytes")
        }
        guard let pointer = memory.translate(address, byteCount: byteCount) else {
            throw SetupError(
                "\(name) at \(place), \(byteCount) bytes, is not in one memory region")
        }
        guard UInt(bitPattern: pointer) % UInt(alignment) == 0 else {
            throw SetupError("\(name) at \(place) is mapped at a misaligned host address")
        }
        return pointer
    }
}

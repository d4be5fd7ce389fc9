import CleaveVirtioNet

/// A header queue in an `EvilGuest`: slots and control words, read and written directly.
public struct EvilHeaderQueue {
    public let guest: EvilGuest
    public let layout: HeaderQueueLayout

    /// Control words at `address` (a multiple of 128), slots 256 bytes after them; the tail gives
    /// `tail` slots to the device.
    public init(
        _ guest: EvilGuest, slotSize: Int = 128, slotCount: Int, at address: UInt64,
        tail: UInt32? = nil
    ) {
        self.guest = guest
        layout = HeaderQueueLayout(
            base: GuestAddress(address + 256), control: GuestAddress(address), slotSize: slotSize,
            slotCount: slotCount)
        setTail(tail ?? UInt32(slotCount))
    }

    public static func byteCount(slotSize: Int, slotCount: Int) -> Int {
        256 + slotSize * slotCount
    }

    public var tail: UInt32 { guest.number(layout.control.rawValue, as: UInt32.self) }
    public func setTail(_ value: UInt32) { guest.put(value, at: layout.control.rawValue) }
    /// The device's public copy of its head.
    public var head: UInt32 { guest.number(layout.control.rawValue + 128, as: UInt32.self) }

    public func slotAddress(_ slot: Int) -> UInt64 {
        layout.base.rawValue + UInt64(slot * layout.slotSize)
    }
    public func slot(_ slot: Int, _ count: Int) -> [UInt8] {
        guest.read(slotAddress(slot), count)
    }
}

// A device written by hand against the specification, one word at a time, honest or not. It shares
// nothing with the device under `Sources` but the offsets in the rings.
import CleaveGuestDriver
import CleaveVirtioNet

/// One buffer as the driver posted it.
struct PostedChain {
    var head: UInt16
    var pieces: [(pointer: UnsafeMutableRawPointer, byteCount: Int)]
    var byteCount: Int { pieces.reduce(0) { $0 + $1.byteCount } }

    /// Spreads `bytes` over the pieces.
    func write(_ bytes: [UInt8]) {
        var rest = bytes[...]
        for piece in pieces {
            let part = rest.prefix(piece.byteCount)
            for (offset, byte) in part.enumerated() {
                piece.pointer.storeBytes(of: byte, toByteOffset: offset, as: UInt8.self)
            }
            rest = rest.dropFirst(part.count)
        }
    }
}

struct HandDevice {
    let addresses: VirtqueueAddresses
    let memory: GuestMemory
    private var nextAvail: UInt16 = 0
    private(set) var nextUsed: UInt16 = 0

    init(_ driver: RxDriver, _ space: GuestSpace) {
        addresses = driver.virtqueue
        memory = space.memory
    }

    private var size: Int { addresses.size }
    private var avail: UnsafeMutableRawPointer {
        memory.translate(addresses.driverArea, byteCount: 6 + 2 * size)!
    }
    private var used: UnsafeMutableRawPointer {
        memory.translate(addresses.deviceArea, byteCount: 6 + 8 * size)!
    }

    /// The available index as the driver published it.
    var availIndex: UInt16 { avail.load(fromByteOffset: 2, as: UInt16.self) }

    /// Everything posted since the last call, in order. A chain that is not well formed, or that
    /// leaves guest memory, comes back with fewer pieces.
    mutating func takeAll() -> [PostedChain] {
        var chains: [PostedChain] = []
        while nextAvail != availIndex {
            let entry = 4 + 2 * (Int(nextAvail) % size)
            chains.append(chain(avail.load(fromByteOffset: entry, as: UInt16.self)))
            nextAvail &+= 1
        }
        return chains
    }

    private func chain(_ head: UInt16) -> PostedChain {
        var chain = PostedChain(head: head, pieces: [])
        var index = Int(head)
        let table = memory.translate(addresses.descriptorArea, byteCount: 16 * size)!
        for _ in 0..<size {
            guard index < size else { break }
            let slot = table + 16 * index
            let address = GuestAddress(slot.load(as: UInt64.self))
            let byteCount = Int(slot.load(fromByteOffset: 8, as: UInt32.self))
            let flags = slot.load(fromByteOffset: 12, as: UInt16.self)
            guard flags & 2 != 0, let pointer = memory.translate(address, byteCount: byteCount)
            else { break }
            chain.pieces.append((pointer, byteCount))
            if flags & 1 == 0 { break }
            index = Int(slot.load(fromByteOffset: 14, as: UInt16.self))
        }
        return chain
    }

    /// Writes the next used entry, invisible until `publish`.
    mutating func use(id: UInt32, byteCount: UInt32) {
        let entry = used + 4 + 8 * (Int(nextUsed) % size)
        entry.storeBytes(of: id, as: UInt32.self)
        entry.storeBytes(of: byteCount, toByteOffset: 4, as: UInt32.self)
        nextUsed &+= 1
    }

    mutating func use(_ chain: PostedChain, byteCount: Int, slot: Int? = nil) {
        let head = UInt32(chain.head)
        guard let slot else { return use(id: head, byteCount: UInt32(byteCount)) }
        use(id: head, byteCount: 1 << 31 | UInt32(slot) << 16 | UInt32(byteCount))
    }

    func publish() { publish(index: nextUsed) }
    func publish(index: UInt16) { used.storeBytes(of: index, toByteOffset: 2, as: UInt16.self) }
}

/// A virtio-net header as bytes.
func netHeaderBytes(hdrLen: Int = 0, numBuffers: Int = 1, count: Int = 12) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: count)
    bytes[2] = UInt8(hdrLen & 0xff)
    bytes[3] = UInt8(hdrLen >> 8)
    bytes[10] = UInt8(numBuffers & 0xff)
    bytes[11] = UInt8(numBuffers >> 8)
    return bytes
}

/// The split report after the net header, as bytes.
func splitReportBytes(slot: UInt32, headerLength: Int, isSplit: Bool = true) -> [UInt8] {
    (0..<4).map { UInt8(truncatingIfNeeded: slot >> UInt32(8 * $0)) }
        + [UInt8(headerLength & 0xff), UInt8(headerLength >> 8), isSplit ? 1 : 0, 0]
}

extension ReceivedPacket {
    /// Headers and pieces, put together again.
    func bytes(_ driver: RxDriver) -> [UInt8] {
        var bytes = [UInt8](
            UnsafeRawBufferPointer(start: headers, count: Int(headerLength)))
        for index in 0..<Int(pieceCount) {
            let piece = driver.pieces[Int(firstPiece) + index]
            bytes += UnsafeRawBufferPointer(start: piece.pointer, count: Int(piece.byteCount))
        }
        return bytes
    }
}

/// A driver with its memory and a hand-made device.
final class Rig {
    let space: GuestSpace
    let slots: DriverHeaderQueue?
    let driver: RxDriver
    var device: HandDevice

    init(
        ringSize: Int, shape: BufferShape, method: RxMethod = .whole, slotCount: Int = 8,
        features: VirtioFeatures = [], spares: Int = 0, burst: Int = 32
    ) throws {
        var configuration = RxDriverConfiguration(
            ringSize: ringSize, shape: shape, method: method, features: features,
            spareBuffers: spares, burst: burst)
        space = try GuestSpace(
            byteCount: configuration.guestByteCount + slotCount * 64 + 4096, pages: .small)
        slots =
            method == .whole
            ? nil : try DriverHeaderQueue(slotSize: 64, slotCount: slotCount, in: space)
        configuration.headerQueue = slots
        driver = try RxDriver(configuration, in: space)
        device = HandDevice(driver, space)
    }

    /// The memory of a header slot.
    func slot(_ index: Int) -> UnsafeMutableRawPointer {
        space.memory.translate(slots!.layout.base.advanced(by: 64 * index), byteCount: 64)!
    }

    func fillSlot(_ index: Int, _ bytes: [UInt8]) {
        for (offset, byte) in bytes.enumerated() {
            slot(index).storeBytes(of: byte, toByteOffset: offset, as: UInt8.self)
        }
    }
}

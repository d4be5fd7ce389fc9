// Headers in slots, payload alone in its buffers: two receive queues (RQs) over one header queue.
// Shows where the parts of each packet are, which packets take no slot, and how slots return: by
// the tail only in order, and in groups (4 of these 16 slots; 32 from 128 slots on); by a return
// ring in any order, one by one.
//
//   swift run example-header-queue

import CleaveGuestDriver
import CleaveHost
import CleaveVirtioNet

/// An RQ of the device, and the driver that the guest has for it.
struct RQ {
    let driver: RxDriver
    let queue: RxQueue
    /// The queue's own memory, which has to outlive it.
    private let arena: MemoryArena

    /// - Parameters:
    ///   - slots: the guest's end of the header queue, to retire slots by.
    ///   - headerQueue: the device's end, to claim slots from. Both are shared by all RQs.
    init(_ guest: GuestSpace, _ slots: DriverHeaderQueue, _ headerQueue: HeaderQueue) throws {
        // With `usedLength` the used entry names the slot, so payload begins where its buffer
        // does: at the start of a page.
        let method = RxMethod.headerQueue(.usedLength)
        driver = try RxDriver(
            RxDriverConfiguration(
                ringSize: 64, shape: .mergeable(bufferByteCount: 4096), method: method,
                headerQueue: slots),
            in: guest)
        let configuration = RxQueueConfiguration(
            virtqueue: driver.virtqueue, features: driver.configuration.allFeatures,
            memory: guest.memory, method: method, headerQueue: headerQueue)
        arena = try MemoryArena(byteCount: configuration.arenaByteCount)
        queue = try RxQueue(configuration, in: arena)
        driver.refill()
    }

    func place(_ packets: [[UInt8]]) {
        for packet in packets {
            packet.withUnsafeBytes { bytes in
                var ref = PacketRef(bytes.baseAddress!, byteCount: bytes.count)
                _ = queue.enqueue(&ref, count: 1)
            }
        }
    }

    /// Finds the packets and prints where their parts are. The slots stay the guest's until
    /// `finish`.
    func harvest(_ name: String, slotArea: UnsafeRawPointer, slotSize: Int) {
        _ = driver.harvest()
        for packet in driver.packets {
            let piece = driver.pieces[Int(packet.firstPiece)]
            let data = UnsafeRawBufferPointer(start: piece.pointer, count: Int(piece.byteCount))
            guard packet.isSplit else {
                print("  \(name): no slot, whole packet of \(data.count) bytes in its buffer")
                continue
            }
            // The slot begins with the virtio-net header; the packet's headers follow it.
            let slot = (packet.netHeader - slotArea) / slotSize
            let isAligned = UInt(bitPattern: piece.pointer) % 4096 == 0
            print(
                "  \(name): slot \(slot), \(packet.headerLength) bytes of headers; payload at",
                "\(piece.pointer), \(isAligned ? "page-aligned" : "not page-aligned"):",
                String(decoding: data, as: UTF8.self))
        }
    }
}

/// A UDP datagram over IPv4: 42 bytes of headers, then `text`.
func datagram(_ text: String) -> [UInt8] {
    let payload = Array(text.utf8)
    let ethernet: [UInt8] = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0]
    let ip: [UInt8] = [0x45, 0, 0, UInt8(28 + payload.count), 0, 0, 0, 0, 64, 17, 0, 0]
    let addresses: [UInt8] = [192, 0, 2, 1, 192, 0, 2, 2]
    let udp: [UInt8] = [0x9c, 0x40, 0x13, 0x89, 0, UInt8(8 + payload.count), 0, 0]
    return ethernet + ip + addresses + udp + payload
}

/// Not TCP or UDP: such a packet is placed whole.
let arp: [UInt8] = [UInt8](repeating: 255, count: 6) + [2, 0, 0, 0, 0, 2, 8, 6] + Array(0..<46)

for slotReturn in [SlotReturn.tail, .ring] {
    // 16 slots of 128 bytes. The driver lays them out and gives all of them to the device at once;
    // no header buffer is ever posted again.
    let guest = try GuestSpace(byteCount: 1 << 20)
    let slots = try DriverHeaderQueue(
        slotSize: 128, slotCount: 16, slotReturn: slotReturn, in: guest)
    let headerQueue = try HeaderQueue(slots.layout, memory: guest.memory)
    let rqs = [try RQ(guest, slots, headerQueue), try RQ(guest, slots, headerQueue)]
    let slotArea = guest.memory.translate(slots.layout.base, byteCount: slots.layout.byteCount)!

    func printFree(_ moment: String) {
        print("  \(moment): \(headerQueue.freeCount) of \(slots.layout.slotCount) slots free")
    }

    print(slotReturn == .tail ? "Slots return by the tail:" : "Slots return by a return ring:")
    rqs[0].place([datagram("one"), datagram("two"), arp, datagram("three")])
    rqs[1].place((4...8).map { datagram("packet \($0)") })
    printFree("8 packets split")
    for (number, rq) in rqs.enumerated() {
        rq.harvest("RQ \(number)", slotArea: slotArea, slotSize: slots.layout.slotSize)
    }

    // RQ 1 finishes first. A tail can only say "all below", so its slots wait for those of RQ 0,
    // which were claimed before. The return ring names slots one by one, and none waits.
    rqs[1].driver.finish()
    printFree("RQ 1 retired 5 slots")
    rqs[0].driver.finish()
    printFree("RQ 0 retired 3 slots")

    let counters = rqs[0].queue.counters
    let reasons = counters.fallback.keys.map(\.name).joined(separator: ", ")
    print("  RQ 0: \(counters.split) packets split, \(counters.fallbackTotal) whole: \(reasons)")
}

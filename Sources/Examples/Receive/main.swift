// A packet is placed into a buffer of a guest. Shows the parts that every back end has: guest
// memory, a virtqueue, a receive queue over it, a packet given by reference, counters. The guest
// is played by CleaveGuestDriver, which posts the buffers and finds the packet.
//
//   swift run example-receive

import CleaveGuestDriver
import CleaveHost
import CleaveVirtioNet

// The guest: memory, and a driver with a ring of 256 entries that posts a buffer in each of them.
let settings = RxDriverConfiguration(
    ringSize: 256, shape: .mergeable(bufferByteCount: 2048), method: .whole)
let guest = try GuestSpace(byteCount: settings.guestByteCount)
let driver = try RxDriver(settings, in: guest)
driver.refill()

// The device: a receive queue over that ring. A control plane would say the same of a virtual
// machine: the addresses of its ring, the features that were negotiated, its memory table.
let configuration = RxQueueConfiguration(
    virtqueue: driver.virtqueue, features: settings.allFeatures, memory: guest.memory,
    method: .whole)
// The queue's own words lie outside guest memory, so no guest can change them.
let arena = try MemoryArena(byteCount: configuration.arenaByteCount)
let queue = try RxQueue(configuration, in: arena)

// The packet: an Ethernet frame in this program's memory, which is free when the call returns.
let ethernet: [UInt8] = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x88, 0xb5]
let frame = ethernet + Array("Hello, guest".utf8)
let result = frame.withUnsafeBytes { bytes in
    var ref = PacketRef(bytes.baseAddress!, byteCount: bytes.count)
    return queue.enqueue(&ref, count: 1)
}
print("device: \(result.delivered) packet of \(frame.count) bytes delivered")

// The driver finds used buffers, checks what the device says of them, and names their pieces.
let count = driver.harvest()
print("guest: \(count) packet received")
for piece in driver.pieces {
    let bytes = UnsafeRawBufferPointer(start: piece.pointer, count: Int(piece.byteCount))
    print("bytes:", bytes.map { String($0, radix: 16) }.joined(separator: " "))
    print("payload:", String(decoding: bytes.dropFirst(ethernet.count), as: UTF8.self))
}
// From here on the buffers may be posted again.
driver.finish()

let counters = queue.counters
print(
    "counters: \(counters.packets) packet, \(counters.bytes) bytes, \(counters.buffers) buffer,",
    "\(counters.droppedTotal) dropped")

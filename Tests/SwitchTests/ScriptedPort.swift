import CleaveHost
import CleavePorts
import CleaveVirtioNet
import Glibc

@testable import CleaveSwitch

/// A port whose packets a test gives and takes.
final class ScriptedPort: Port {
    let name: String
    let scripted: [ScriptedQueue]
    var queues: [any PortQueue] { scripted }
    var controlDescriptors: [Int32] { [] }
    var controlDeadline: UInt64? { nil }
    let type = PortType.generator
    var ownCounters = PortCounters()
    private(set) var isOpen = false
    var failure: SetupError?
    private(set) weak var host: (any PortHost)?

    init(_ name: String, queues: Int = 1) {
        self.name = name
        scripted = (0..<queues).map { _ in ScriptedQueue() }
    }

    func open(for host: any PortHost) throws(SetupError) {
        if let failure { throw failure }
        self.host = host
        isOpen = true
    }
    func service() {}
    func close() { isOpen = false }

    /// All that went out of it, queue after queue.
    var sent: [[UInt8]] { scripted.flatMap(\.sent) }
}

/// Its queue.
final class ScriptedQueue: PortQueue {
    /// Frames to come in.
    var waiting: [[UInt8]] = []
    /// Frames that come in as the thread is about to sleep.
    var atBedtime: [[UInt8]] = []
    /// Where the frames that are out lie, oldest first.
    private(set) var out: [UnsafeMutableRawPointer] = []
    private(set) var sent: [[UInt8]] = []
    private(set) var sentOffloads: [PacketOffloads] = []
    /// Packets that it has room for; nil for any number.
    var room: Int?
    /// Calls of `transmit` that find none, before there is as much as `room` says.
    var refusals = 0
    var isOpen = true
    var offloads: VirtioFeatures = []
    var frameLimit = Int.max
    var wakeDescriptor: Int32 { -1 }
    /// Offloads of every frame that comes in.
    var incomingOffloads = PacketOffloads.none
    /// Bytes that each frame's first reference has; the rest would be another segment, which a
    /// public TxPacket cannot have.
    private(set) var completed = 0

    func receive(_ packets: UnsafeMutablePointer<TxPacket>, count: Int) -> Int {
        let taken = min(count, waiting.count)
        for index in 0..<taken {
            let frame = waiting[index]
            let copy = UnsafeMutableRawPointer.allocate(byteCount: frame.count, alignment: 1)
            copy.copyMemory(from: frame, byteCount: frame.count)
            out.append(copy)
            (packets + index).initialize(
                to: TxPacket(copy, byteCount: frame.count, offloads: incomingOffloads))
        }
        waiting.removeFirst(taken)
        return taken
    }

    func complete(_ count: Int) {
        for pointer in out.prefix(count) {
            // Whoever reads it too late is found out.
            memset(pointer, 0xdd, 14)
            pointer.deallocate()
        }
        out.removeFirst(count)
        completed += count
    }

    func transmit(_ refs: UnsafeMutablePointer<PacketRef>, count: Int) -> Int {
        if refusals > 0 {
            refusals -= 1
            return 0
        }
        var index = 0
        while index < count {
            if room == 0 { break }
            room = room.map { $0 - 1 }
            var frame: [UInt8] = []
            var context = PacketOffloads.none
            var hasMore = true
            while hasMore {
                hasMore = refs[index].flags.contains(.more)
                if let offloads = refs[index].context {
                    context = offloads
                } else {
                    frame += UnsafeRawBufferPointer(
                        start: refs[index].pointer, count: Int(refs[index].byteCount))
                }
                index += 1
            }
            sent.append(frame)
            sentOffloads.append(context)
        }
        return index
    }

    func setWakeups(enabled: Bool) {
        if !enabled { return }
        waiting += atBedtime
        atBedtime = []
    }

    deinit { for pointer in out { pointer.deallocate() } }
}

/// Frames for tests.
enum Frame {
    /// An address from its last byte: 52:54:00:00:00:NN.
    static func mac(_ last: UInt8) -> [UInt8] { [0x52, 0x54, 0, 0, 0, last] }

    static func make(
        to destination: [UInt8], from source: [UInt8], _ payload: [UInt8] = [], byteCount: Int = 60
    ) -> [UInt8] {
        let bytes = destination + source + [0x88, 0xb5] + payload
        return bytes + [UInt8](repeating: 0, count: max(0, byteCount - bytes.count))
    }
}

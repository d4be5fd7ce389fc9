// Captures: packets of a port's queues, copied as they pass, to whoever asked for them.
//
//   request + socket --> Capture   which taps there are, for the control thread     (this file)
//                        taps      copy packets into rings, on the switch's threads (CaptureTap)
//                        stream    merges the rings into pcapng, on a thread of its own,
//                                  which alone waits for the socket             (CaptureStream)
//
// Every end takes one way: somebody says why (the reader, the packet limit, a port that goes, the
// switch), the control thread takes the taps away while all threads are held, and the stream writes
// what the rings still hold, then the statistics.

import CCleaveHost
import CleaveHost
import CleaveTraffic

/// Which way a packet goes, in the words of the port's far side, as virtio has them.
public enum CaptureDirection: String, CaseIterable, Sendable {
    /// What the far side receives: out of the switch, a guest's receive queue.
    case rx
    /// What the far side transmits: into the switch, a guest's transmit queue.
    case tx

    /// In `epb_flags`: the far side's interface is the one that is captured.
    var flag: UInt32 {
        self == .rx ? PcapngPacket.Flag.inbound : PcapngPacket.Flag.outbound
    }
}

/// Which packets a capture takes, and how much of them.
public struct CaptureRequest: Sendable, Equatable {
    /// Name of the port; nil: all ports, those that come later too.
    public var port: String?
    /// Number of the queue, from 0: of virtio's queue pairs, receiveq(N+1) and transmitq(N+1).
    /// nil: all.
    public var queue: Int?
    /// nil: both.
    public var direction: CaptureDirection?
    /// Packets after which it ends; nil: it does not.
    public var packetLimit: Int?
    /// Bytes that are kept of each packet, 1 to 262144: the longest is shorter.
    public var snapLength = maximumSnapLength
    /// Bytes that wait for the stream, for each thread of the switch: a power of two, 2^17 to 2^28.
    /// The longest packet needs more than 2^16.
    public var ringByteCount = 4 << 20

    public static let maximumSnapLength = 262_144

    /// - Parameter port: its name; nil: all.
    public init(port: String?) { self.port = port }

    /// - Parameter ports: names, and how many queues each has.
    func check(_ ports: [(name: String, queueCount: Int)]) throws(SetupError) {
        let known = ports.filter { port == nil || $0.name == port }
        if let port, known.isEmpty {
            throw SetupError(
                "capture: there is no port \"\(port)\" among "
                    + ports.map(\.name).joined(separator: ", "))
        }
        if let queue, !known.contains(where: { queue >= 0 && queue < $0.queueCount }) {
            let most = known.map(\.queueCount).max() ?? 0
            throw SetupError(
                "capture of \(port ?? "any port"): there is no queue \(queue), "
                    + (most == 1 ? "only queue 0" : "only 0 to \(most - 1)"))
        }
        if let packetLimit, packetLimit < 1 {
            throw SetupError("capture: \(packetLimit) packets: need 1 or more")
        }
        guard (1...Self.maximumSnapLength).contains(snapLength) else {
            throw SetupError(
                "capture: \(snapLength) bytes of each packet: need 1 to \(Self.maximumSnapLength)")
        }
        guard (1 << 17...1 << 28).contains(ringByteCount), ringByteCount.nonzeroBitCount == 1 else {
            throw SetupError(
                "capture: a ring of \(ringByteCount) bytes: need a power of two, 2^17 to 2^28")
        }
    }
}

/// One capture, as the control thread has it.
final class Capture {
    let request: CaptureRequest
    private let lanes: [CaptureLane]
    private let stream: CaptureStream
    private var thread: PinnedThread?
    /// By port's name.
    private var interfaces: [String: Int] = [:]
    private var taps: [TapPlace: CaptureTap] = [:]
    private var isOver = false

    /// Where a tap is. A queue that moves to another thread gets another one.
    private struct TapPlace: Hashable {
        let interface: Int
        let queue: Int
        let thread: Int
        let direction: CaptureDirection
    }

    /// - Parameters:
    ///   - socket: a stream socket whose other end reads; the capture has a duplicate of it.
    ///   - threadCount: of the switch.
    ///   - cpus: those of the switch's threads, which the capture's avoids.
    init(
        _ request: CaptureRequest, to socket: Int32, threadCount: Int, avoiding cpus: [Int]
    ) throws(SetupError) {
        self.request = request
        guard cleave_socket_check(socket) == 0 else {
            throw SetupError("capture: what it shall be written to is no stream socket")
        }
        do throws(HostError) {
            var lanes: [CaptureLane] = []
            for _ in 0..<threadCount {
                lanes.append(try CaptureLane(byteCount: request.ringByteCount))
            }
            self.lanes = lanes
            let stream = try CaptureStream(lanes: lanes, request: request, socket: socket)
            self.stream = stream
            thread = try PinnedThread(name: "capture", cpu: nil) {
                PinnedThread.keepCurrent(off: cpus)
                stream.run()
            }
        } catch { throw SetupError("capture: ", error) }
    }

    deinit { end(because: "the switch gave it up") }

    /// Adds taps where packets are wanted. While all threads are held.
    /// - Parameters:
    ///   - port: its name.
    ///   - queues: of the port.
    func tap(_ port: String, _ queues: [SwitchQueue]) {
        if let wanted = request.port, wanted != port { return }
        let interface = interface(of: port)
        for (number, queue) in queues.enumerated() {
            if let wanted = request.queue, wanted != number { continue }
            for direction in CaptureDirection.allCases {
                if let wanted = request.direction, wanted != direction { continue }
                let place = TapPlace(
                    interface: interface, queue: number, thread: queue.thread,
                    direction: direction)
                queue.add(tap(at: place), direction)
            }
        }
    }

    private func tap(at place: TapPlace) -> CaptureTap {
        if let tap = taps[place] { return tap }
        let tap = CaptureTap(
            lanes[place.thread], interface: place.interface, queue: place.queue,
            direction: place.direction, snapLength: request.snapLength)
        taps[place] = tap
        stream.add(tap)
        return tap
    }

    private func interface(of port: String) -> Int {
        if let known = interfaces[port] { return known }
        let number = interfaces.count
        interfaces[port] = number
        stream.add(interface: port)
        return number
    }

    /// Whether it shall end: its taps are to be taken away.
    var wantsEnd: Bool { !isOver && stream.wantsEnd }
    /// Readable when that changes, or when the thread has ended.
    var news: Int32 { stream.news.fileDescriptor }
    var isEnding: Bool { isOver }
    var isFinished: Bool { stream.isFinished }
    var summary: String { stream.summary }

    /// Has the stream write what is left. Its taps are away.
    /// - Parameter reason: why it ends; nil if the stream itself wanted to.
    func end(because reason: String? = nil) {
        if isOver { return }
        isOver = true
        stream.end(because: reason)
    }

    func drainNews() { stream.news.drain() }
}

extension SwitchQueue {
    fileprivate func add(_ tap: CaptureTap, _ direction: CaptureDirection) {
        switch direction {
        case .rx:
            tap.next = rxTap
            rxTap = .passUnretained(tap)
        case .tx:
            tap.next = txTap
            txTap = .passUnretained(tap)
        }
    }

    fileprivate func removeTaps() { (rxTap, txTap) = (nil, nil) }
}

/// The captures of a switch. For the control thread.
final class CaptureList {
    private var all: [Capture] = []
    /// Most captures at once, those that are writing what is left among them.
    static let limit = 8

    func start(
        _ request: CaptureRequest, to socket: Int32, threadCount: Int, avoiding cpus: [Int]
    ) throws(SetupError) {
        guard all.count < Self.limit else {
            throw SetupError("capture: \(Self.limit) captures run already, and that is the most")
        }
        all.append(
            try Capture(request, to: socket, threadCount: threadCount, avoiding: cpus))
    }

    var isEmpty: Bool { all.isEmpty }
    var descriptors: [Int32] { all.map(\.news) }
    /// Whether `link` is to be called: a capture shall end.
    var needsLink: Bool { all.contains(where: \.wantsEnd) }

    /// Puts taps where captures want them, and nowhere else; ends those that shall end. While all
    /// threads are held.
    /// - Parameter ports: those that the switch has now.
    func link(_ ports: [(name: String, queues: [SwitchQueue])]) {
        if all.isEmpty { return }
        for queue in ports.lazy.flatMap(\.queues) { queue.removeTaps() }
        for capture in all where !capture.isEnding {
            if capture.wantsEnd {
                capture.end()
            } else if let name = capture.request.port, !ports.contains(where: { $0.name == name }) {
                capture.end(because: "port \(name) was removed")
            } else {
                for port in ports { capture.tap(port.name, port.queues) }
            }
        }
    }

    /// To be called before it is asked what there is to do.
    func drainNews() { for capture in all { capture.drainNews() } }

    /// Lets go of captures whose streams have ended.
    /// - Parameter log: takes a line of each.
    func reap(log: (String) -> Void) {
        for capture in all where capture.isFinished { log(capture.summary) }
        all.removeAll(where: \.isFinished)
    }

    /// Ends all of them, and waits until they have written what was left: no longer than
    /// `CaptureStream.farewellNanoseconds`. While all threads are held.
    func endAll(because reason: String, _ ports: [(name: String, queues: [SwitchQueue])]) {
        for queue in ports.lazy.flatMap(\.queues) { queue.removeTaps() }
        for capture in all { capture.end(because: reason) }
        // Each joins its thread.
        all.removeAll()
    }
}

// A pcapng file that several queues write to, each through a buffer of its own:
//
//   section header | an interface for each queue | packets ...
//
// A buffer holds whole blocks, and reaches the file as a whole or not at all: when the disk is
// full, what was written of it is cut off again, so that the file stays readable, and its packets
// are counted as dropped.

import CleaveHost
import CleaveTraffic
import CleaveVirtioNet
import Glibc

/// The file. Any thread may append to it.
final class CaptureOutput: @unchecked Sendable {
    // SAFETY: everything but `end` is constant; `end` is guarded by `lock`.

    private let descriptor: Int32
    private let lock = Lock()
    /// Bytes that are in the file for good.
    private var end = 0

    /// Creates the file, or empties it.
    /// - Parameter interfaces: their names, one for each queue.
    init(path: String, interfaces: [String]) throws(SetupError) {
        // Without O_NONBLOCK the open of a pipe that nobody reads would never return.
        descriptor = PathText.withBytes(path) {
            Glibc.open($0, O_WRONLY | O_CREAT | O_CLOEXEC | O_NONBLOCK, 0o644)
        }
        guard descriptor >= 0 else { throw Self.refusal(path, errno) }
        // Before it is emptied: two writers would leave neither's packets.
        if flock(descriptor, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK {
            throw SetupError("capture file: another port, or another program, writes \(path)")
        }
        // A pipe or a device has nothing to empty.
        _ = ftruncate(descriptor, 0)
        let head = Self.head(interfaces)
        let isWritten = head.withUnsafeBytes { bytes in
            bytes.baseAddress.map { append($0, byteCount: bytes.count) } ?? false
        }
        if !isWritten { throw Self.refusal(path, errno) }
    }

    deinit { close(descriptor) }

    private static func refusal(_ path: String, _ code: Int32) -> SetupError {
        SetupError("", HostError("capture file", code: code, "cannot write \(path)"))
    }

    /// Appends whole blocks.
    /// - Returns: whether all of them are in the file now; otherwise none is.
    func append(_ bytes: UnsafeRawPointer, byteCount: Int) -> Bool {
        lock.withLock {
            var done = 0
            while done < byteCount {
                let count = Glibc.write(descriptor, bytes + done, byteCount - done)
                if count < 0 && errno == EINTR { continue }
                guard count > 0 else {
                    let code = errno
                    // A device or a pipe cannot be cut, nor has it a place to go back to.
                    _ = ftruncate(descriptor, off_t(end))
                    _ = lseek(descriptor, off_t(end), SEEK_SET)
                    errno = code
                    return false
                }
                done += count
            }
            end += byteCount
            return true
        }
    }

    private static func head(_ interfaces: [String]) -> [UInt8] {
        PcapngBlocks.section() + interfaces.flatMap { PcapngBlocks.interface(name: $0) }
    }
}

/// One queue's part of a file: packets that went out, in memory until there are enough of them.
final class CaptureQueueWriter {
    private let file: CaptureOutput
    private let interface: UInt32
    private let words: PortCounterWords
    private let buffer: UnsafeMutableRawPointer
    private var filled = 0
    private var packetCount = 0
    private var frameByteCount = 0

    private static let bufferByteCount = 256 << 10

    init(_ file: CaptureOutput, interface: Int, words: PortCounterWords) {
        self.file = file
        self.interface = UInt32(truncatingIfNeeded: interface)
        self.words = words
        buffer = .allocate(byteCount: Self.bufferByteCount, alignment: 8)
    }

    deinit { buffer.deallocate() }

    /// Adds one packet. It counts as sent when it is in the file.
    /// - Parameters:
    ///   - refs: its references, a context among them or not.
    ///   - byteCount: bytes of the packet, at most 65589.
    ///   - time: nanoseconds since 1970.
    func append(
        _ refs: UnsafePointer<PacketRef>, count: Int, byteCount: Int, time: UInt64
    ) {
        let block = PcapngPacket(
            interface: interface, time: time, capturedByteCount: byteCount,
            originalByteCount: byteCount, flags: PcapngPacket.Flag.outbound)
        let blockByteCount = block.blockByteCount
        if filled &+ blockByteCount > Self.bufferByteCount { flush() }
        var target = block.store(to: buffer + filled)
        for index in 0..<count where !refs[index].flags.contains(.context) {
            let segmentByteCount = Int(refs[index].byteCount)
            target.copyMemory(from: refs[index].pointer, byteCount: segmentByteCount)
            target += segmentByteCount
        }
        filled &+= blockByteCount
        packetCount &+= 1
        frameByteCount &+= byteCount
    }

    /// Hands to the file what is in memory.
    func flush() {
        if filled == 0 { return }
        if file.append(buffer, byteCount: filled) {
            words.add(.packetsOut, packetCount)
            words.add(.bytesOut, frameByteCount)
        } else {
            words.addDropOut(.writeFailed, packetCount)
        }
        (filled, packetCount, frameByteCount) = (0, 0, 0)
    }
}

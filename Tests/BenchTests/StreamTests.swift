// Both ends of a stream over the loopback interface: what comes is what was sent, and what is wrong
// is counted. How much can be mapped is the network's matter, so no share is judged.
import CleaveHost
import Foundation
import Testing

@testable import CleaveBench

@Suite("Streams", .serialized)
struct StreamTests {
    /// A port that was free a moment ago.
    private static func freePort() throws -> UInt16 {
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        defer { close(descriptor) }
        var place = sockaddr_in()
        place.sin_family = sa_family_t(AF_INET)
        var size = socklen_t(MemoryLayout<sockaddr_in>.size)
        let result = withUnsafeMutablePointer(to: &place) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(descriptor, $0, size) + getsockname(descriptor, $0, &size)
            }
        }
        try #require(result == 0)
        return UInt16(bigEndian: place.sin_port)
    }

    /// Receives here what another thread sends.
    private func transfer(
        _ way: ReceiveWay, use: ReceiveUse, byteCount: Int, isCompared: Bool
    ) throws -> StreamReceipt {
        let port = try Self.freePort()
        var receiver = StreamReceiver(port: port, byteCount: byteCount, bufferByteCount: 64 << 10)
        (receiver.way, receiver.use) = (way, use)
        let sender = Thread {
            // A sender that fails shows at the receiver, which then gets too little.
            try? StreamSender(
                address: "127.0.0.1", port: port, byteCount: byteCount, isCompared: isCompared
            ).run()
        }
        sender.start()
        return try receiver.run()
    }

    @Test("All bytes come, as they were sent", arguments: ReceiveWay.allCases)
    func compare(_ way: ReceiveWay) throws {
        for byteCount in [1, 4095, 4096, 70_001, 3_000_001] {
            let receipt = try transfer(
                way, use: .compare, byteCount: byteCount, isCompared: true)
            #expect(receipt.bytes == byteCount && receipt.wrongBytes == 0)
            #expect(receipt.mappedBytes <= byteCount && receipt.mappedBytes % 4096 == 0)
            #expect(receipt.mappedPages == receipt.mappedBytes / 4096)
            #expect(receipt.calls > 0 && receipt.seconds >= 0 && receipt.cpuSeconds >= 0)
            if way == .copied { #expect(receipt.mappedBytes == 0) }
        }
    }

    @Test("A sender that repeats its first mebibyte is found out", arguments: ReceiveWay.allCases)
    func repeated(_ way: ReceiveWay) throws {
        let receipt = try transfer(
            way, use: .compare, byteCount: 2 << 20, isCompared: false)
        #expect(receipt.bytes == 2 << 20)
        // Of a word whose number is another, a byte may still be the same.
        #expect((1 << 19...1 << 20).contains(receipt.wrongBytes), "\(receipt.wrongBytes)")
    }

    @Test("Bytes are read if that is asked for", arguments: ReceiveWay.allCases)
    func read(_ way: ReceiveWay) throws {
        let receipt = try transfer(way, use: .read, byteCount: 100_000, isCompared: false)
        #expect(receipt.sum != 0 && receipt.wrongBytes == 0)
        let untouched = try transfer(way, use: .nothing, byteCount: 100_000, isCompared: false)
        #expect(untouched.sum == 0)
    }

    @Test("A stream that ends too early is an error that says where")
    func tooShort() throws {
        let port = try Self.freePort()
        let sender = Thread {
            try? StreamSender(
                address: "127.0.0.1", port: port, byteCount: 1000, isCompared: true
            ).run()
        }
        sender.start()
        let receiver = StreamReceiver(port: port, byteCount: 2000, bufferByteCount: 4096)
        #expect {
            _ = try receiver.run()
        } throws: {
            "\($0)" == "recv: the stream ended after 1000 of 2000 bytes"
        }
    }

    @Test("An address that is none is named")
    func address() {
        #expect {
            try StreamSender(address: "vm1", port: 1, byteCount: 1, isCompared: false).run()
        } throws: {
            "\($0)" == "connect: \"vm1\" is no IPv4 address"
        }
    }

    @Test("Each byte that differs is counted, wherever a piece of the stream begins")
    func pattern() {
        var bytes = [UInt8](repeating: 0, count: 4096)
        bytes.withUnsafeMutableBytes { StreamPattern.fill($0, from: 8192) }
        for start in 0..<24 {
            for end in [start, start + 1, start + 7, start + 9, start + 4000] {
                var piece = Array(bytes[start..<end])
                func wrongCount() -> Int {
                    piece.withUnsafeBytes { StreamPattern.wrongCount($0, from: 8192 + start) }
                }
                #expect(wrongCount() == 0)
                for index in piece.indices.prefix(20) {
                    piece[index] ^= 0x10
                    #expect(wrongCount() == index + 1)
                }
            }
        }
    }
}

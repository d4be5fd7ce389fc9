// Files that lie cause an error with its place, never a trap, never packets that are not there.
import CleaveHost
import Foundation
import Testing

@testable import CleaveTraffic

@Suite struct CaptureHostileTests {
    let packet: [UInt8] = Array(1...61)

    func smallPcap(_ order: ByteOrder) -> [UInt8] {
        var builder = CaptureBuilder(order: order)
        builder.pcapHeader(magic: 0xa1b2_3c4d)
        for index in 0..<3 {
            builder.pcapRecord(packet, seconds: UInt32(index), fraction: 0, original: 61)
        }
        return builder.bytes
    }

    func smallPcapng(_ order: ByteOrder) -> [UInt8] {
        var builder = CaptureBuilder(order: order)
        builder.section()
        builder.interface(resolution: 9, offsetSeconds: 1)
        builder.enhanced(packet, ticks: 1)
        builder.simple(packet, original: 61)
        builder.obsolete(packet, interface: 0, ticks: 2)
        return builder.bytes
    }

    @Test(arguments: CaptureFormatTests.orders)
    func truncatedAnywhere(_ order: ByteOrder) throws {
        for whole in [smallPcap(order), smallPcapng(order)] {
            let packets = try CaptureFile.parse(whole, name: "test").packets
            #expect(packets.count == 3)
            var ends = 0
            var counts: [Int] = []
            for byteCount in 0..<whole.count {
                guard case .success(let file) = parsed(Array(whole[..<byteCount])) else { continue }
                if file.cut == nil { ends += 1 }
                counts.append(file.packets.count)
                #expect(file.packets == Array(packets[..<file.packets.count]))
            }
            // A file that has begun gives what is whole, at every byte up to its end. It is a whole
            // file after its header (two of pcapng's), its first packet and its second.
            #expect(counts == counts.sorted() && Set(counts) == [0, 1, 2])
            #expect(counts.count == whole.count - (whole == smallPcap(order) ? 24 : 28))
            #expect(ends == (whole == smallPcap(order) ? 3 : 4))
        }
    }

    /// Every byte of a small file set to several values: no trap, and no more bytes than the file.
    @Test(arguments: CaptureFormatTests.orders)
    func damagedAnywhere(_ order: ByteOrder) {
        for whole in [smallPcap(order), smallPcapng(order)] {
            var refused = 0
            for index in whole.indices {
                for value: UInt8 in [0, 1, 3, 4, 0x7f, 0x80, 0xff] {
                    var damaged = whole
                    damaged[index] = value
                    switch parsed(damaged) {
                    case .success(let file):
                        #expect(file.packets.reduce(0) { $0 + $1.bytes.count } < whole.count)
                    case .failure: refused += 1
                    }
                }
            }
            #expect(refused > 100)
        }
    }

    @Test func wrongFiles() {
        #expect(problem([]) == "test: 0 bytes, too short for a pcap or pcapng file")
        #expect(
            problem(Array("\u{1}abc".utf8))
                == "test: byte 0: not a pcap or pcapng file (it starts with 01616263)")
        #expect(problem([0x1f, 0x8b, 8, 0]) == "test: compressed by gzip; unpack it first")
        #expect(
            problem(Array(smallPcap(.big)[..<23]))
                == "test: 23 bytes, shorter than the header of a pcap file (24)")
        #expect(
            problem(Array(smallPcapng(.big)[..<27]))
                == "test: block 0 at byte 0: the file ends inside the block: 27 of 28 bytes")
    }

    /// The packets before, and what is said of the end.
    private func cut(_ bytes: [UInt8]) -> (Int, String)? {
        guard case .success(let file) = parsed(bytes), let cut = file.cut else { return nil }
        return (file.packets.count, "\(cut)")
    }

    @Test func cutFiles() throws {
        var bytes = smallPcap(.little)
        bytes[24 + 77 + 8] = 200
        bytes[24 + 77 + 12] = 200
        var found = try #require(cut(bytes))
        #expect(
            found
                == (
                    1,
                    "test: packet 1 at byte 101: the file ends inside the packet: 138 of 200 bytes"
                ))
        found = try #require(cut(smallPcap(.big) + [0, 0]))
        #expect(
            found == (3, "test: packet 3 at byte 255: the file ends inside the packet's header"))
        found = try #require(cut(smallPcapng(.big) + [0, 0]))
        #expect(found.0 == 3 && found.1.hasSuffix("the file ends inside the block's header"))
        found = try #require(cut(smallPcapng(.big).dropLast(5)))
        #expect(found.0 == 2 && found.1.contains(": the file ends inside the block: "))
    }

    @Test func pcapLies() {
        var builder = CaptureBuilder(order: .big)
        builder.pcapHeader(magic: 0xa1b2_c3d4, linkType: 113)
        #expect(
            problem(builder.bytes) == "test: byte 20: link type 113; only Ethernet (1) is replayed")
        var bytes = smallPcap(.little)
        bytes[4] = 3
        #expect(problem(bytes) == "test: byte 4: pcap version 3.4; only 2.x is understood")
        bytes = smallPcap(.little)
        bytes[24 + 77 + 8] = 200
        bytes[24 + 77 + 8 + 3] = 0x80
        #expect(
            problem(bytes)
                == "test: packet 1 at byte 101: captured length 2147483848 is more than the limit "
                + "of 262144")
    }

    @Test(arguments: [0, 4, 11, 13, 30, 0x7fff_fffc, 0xffff_fffc, 0xffff_ffff] as [UInt32])
    func blockLengthLies(_ byteCount: UInt32) throws {
        for order in CaptureFormatTests.orders {
            var builder = CaptureBuilder(order: order)
            builder.section()
            builder.put(6, byteCount, 0, 0, byteCount)
            let text = try #require(problem(builder.bytes) ?? cut(builder.bytes)?.1)
            #expect(text.hasPrefix("test: block 1 at byte 28: "))
        }
    }

    @Test func pcapngLies() {
        let magic = "test: block 0 at byte 0: byte-order magic is neither 1a2b3c4d nor 4d3c2b1a"
        var bytes = smallPcapng(.little)
        bytes[8] = 0
        #expect(problem(bytes) == magic)
        bytes = smallPcapng(.little)
        bytes[12] = 2
        #expect(
            problem(bytes) == "test: block 0 at byte 0: pcapng version 2; only 1 is understood")
        bytes = smallPcapng(.little)
        bytes[24] = 32
        #expect(
            problem(bytes)
                == "test: block 0 at byte 0: block length 28 is repeated as 32 at the block's end")
    }

    @Test func shortBodies() {
        let bodies: [(UInt32, Int, String)] = [
            (0x0a0d_0d0a, 1, "section header of 4 bytes, not 16"),
            (1, 1, "interface of 4 bytes, not 8"), (6, 4, "packet block of 16 bytes, not 20"),
            (2, 4, "packet block of 16 bytes, not 20"),
            (3, 0, "simple packet block without a length"),
        ]
        for (type, wordCount, text) in bodies {
            var builder = CaptureBuilder(order: .little)
            builder.section()
            builder.block(type) {
                for _ in 0..<wordCount { $0.put(0x1a2b_3c4d) }
            }
            #expect(problem(builder.bytes) == "test: block 1 at byte 28: \(text)")
        }
    }

    @Test func packetsThatPassTheirBlock() {
        var builder = CaptureBuilder(order: .little)
        builder.section()
        builder.interface(linkType: 1)
        let start = builder
        builder.block(6) { $0.put(0, 0, 0, 9, 9, 1, 2) }
        #expect(
            problem(builder.bytes)
                == "test: block 2 at byte 52: captured length 9 passes the block (8 bytes left)")
        builder = start
        builder.simple([1, 2, 3, 4], original: 5)
        #expect(
            problem(builder.bytes)
                == "test: block 2 at byte 52: captured length 5 passes the block (4 bytes left)")
        builder = start
        builder.simple([1, 2, 3, 4], original: 1 << 31)
        #expect(
            problem(builder.bytes)
                == "test: block 2 at byte 52: captured length 2147483648 is more than the limit "
                + "of 262144")
    }

    @Test func interfacesThatDoNotFit() {
        var builder = CaptureBuilder(order: .big)
        builder.section()
        builder.interface()
        builder.interface(linkType: 276)
        let start = builder
        builder.enhanced(packet, interface: 1, ticks: 0)
        #expect(
            problem(builder.bytes)?.hasSuffix(
                "interface 1: link type 276; only Ethernet (1) is replayed") == true)
        builder = start
        builder.enhanced(packet, interface: .max, ticks: 0)
        #expect(
            problem(builder.bytes)?.hasSuffix(
                "interface 4294967295 is not described (2 so far)") == true)
        builder = start
        builder.block(1) {
            $0.put16(1, 0)
            $0.put(0)
            $0.put16(9, 5, 0, 0)
        }
        #expect(
            problem(builder.bytes)?.hasSuffix("an option of the interface runs past the block")
                == true)
    }

    @Test func pathsThatAreNoFiles() {
        func text(_ path: String) -> String? {
            do throws(CaptureError) {
                _ = try CaptureFile.read(path: path)
                return nil
            } catch {
                return error.description
            }
        }
        #expect(text("/none/a.pcap") == "/none/a.pcap: cannot open: No such file or directory")
        #expect(text("/") == "/: neither a regular file nor a pipe")
        #expect(text("/dev/zero") == "/dev/zero: neither a regular file nor a pipe")
        // Bytes that are not UTF-8, as the system gave them; and what a terminal would obey.
        let odd = PathText.text(Array("/none/".utf8) + [0xe9, 0x1b] + Array(".pcap".utf8))
        #expect(text(odd) == "/none/\\xe9\\x1b.pcap: cannot open: No such file or directory")
    }

    @Test func pathsAreBytes() throws {
        let name: [UInt8] =
            Array("\(NSTemporaryDirectory())cleave-\(UUID().uuidString)".utf8) + [0xe9]
        let path = PathText.text(name)
        defer { _ = (name + [0]).withUnsafeBytes { unlink($0.baseAddress!) } }
        try CaptureWriter(format: .pcap).write([.init(bytes: packet)], path: path)
        var status = stat()
        #expect((name + [0]).withUnsafeBytes { stat($0.baseAddress!, &status) } == 0)
        #expect(try CaptureFile.read(path: path).packets == [.init(bytes: packet)])
        #expect(try PacketPool.load(path, count: 1, flows: 1).count == 1)
    }

    /// Larger than a pipe holds, and than what is read first.
    @Test func pipes() throws {
        let packets = (0..<3000).map { CaptureFile.Packet(bytes: packet + [UInt8($0 & 255)]) }
        let path = NSTemporaryDirectory() + "cleave-\(UUID().uuidString)"
        defer { try? FileManager.default.removeItem(atPath: path) }
        try CaptureWriter(format: .pcapng).write(packets, path: path)
        let writer = Process()
        writer.executableURL = URL(fileURLWithPath: "/bin/cat")
        writer.arguments = [path]
        let pipe = Pipe()
        writer.standardOutput = pipe
        try writer.run()
        let file = try CaptureFile.read(
            descriptor: pipe.fileHandleForReading.fileDescriptor, name: "pipe")
        writer.waitUntilExit()
        #expect(file.packets == packets)
        // A pipe by its path, which nobody writes to: it ends at once.
        let name = path + "-pipe"
        defer { unlink(name) }
        #expect(mkfifo(name, 0o600) == 0)
        #expect(throws: CaptureError.self) { try CaptureFile.read(path: name) }
    }
}

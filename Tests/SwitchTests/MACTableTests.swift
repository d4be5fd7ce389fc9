import CleaveHost
import CleaveTestSupport
import Testing

@testable import CleaveSwitch

@Suite("Addresses and their ports")
struct MACTableTests {
    private func withTable(
        buckets: Int = 16, ports: Int = 4, limit: Int = 8, _ body: (MACTable) throws -> Void
    ) rethrows {
        let table = MACTable(bucketCount: buckets, portLimit: ports, addressLimit: limit)
        defer { table.free() }
        try body(table)
    }

    @Test("An address is where it was seen last")
    func learning() {
        withTable { table in
            #expect(table.port(of: 2) == -1)
            #expect(table.learn(2, at: 1, tick: 0))
            #expect(table.port(of: 2) == 1)
            #expect(table.learn(2, at: 3, tick: 1))
            #expect(table.port(of: 2) == 3)
            #expect(table.addressCount(at: 1) == 0)
            #expect(table.addressCount(at: 3) == 1)
        }
    }

    @Test("The address 0 is an address like others")
    func zero() {
        withTable { table in
            #expect(table.port(of: 0) == -1)
            #expect(table.learn(0, at: 0, tick: 0))
            #expect(table.port(of: 0) == 0)
        }
    }

    @Test("A port holds no more addresses than its limit, and others lose none to it")
    func limit() {
        withTable(buckets: 1024) { table in
            #expect(table.learn(0xaaaa, at: 0, tick: 0))
            var learned = 0
            for address in UInt64(1)...1000 {
                learned += table.learn(address << 8, at: 1, tick: 0) ? 1 : 0
            }
            #expect(learned == 8)
            #expect(table.addressCount(at: 1) == 8)
            #expect(table.port(of: 0xaaaa) == 0)
        }
    }

    @Test("Threads that learn at once: an address is there once, and no port passes its limit")
    func threads() throws {
        // One bucket: whoever learns meets the others there.
        let table = MACTable(bucketCount: 1, portLimit: 3, addressLimit: 3)
        defer { table.free() }
        for round in 0..<20 {
            let threads = try (0..<3).map { number in
                try PinnedThread(name: "learn", cpu: nil) {
                    var random = SeededRandom(seed: UInt64(round * 3 + number))
                    for step in 0..<5000 {
                        let address = UInt64(random.int(1...6))
                        let port = random.int(0...2)
                        _ = table.learn(address, at: port, tick: UInt32(step))
                        let found = table.port(of: address)
                        precondition(found >= -1 && found < 3)
                    }
                }
            }
            for thread in threads { thread.join() }
            let entries = table.entries
            #expect(Set(entries.map(\.address)).count == entries.count)
            for port in 0..<3 {
                let count = entries.count { $0.port == port }
                #expect(table.addressCount(at: port) == count && count <= 3)
            }
            #expect(!entries.isEmpty)
        }
    }

    @Test("Counts of ports are the entries there are, whatever comes and goes")
    func conservation() {
        withTable(buckets: 4, ports: 3, limit: 100) { table in
            var random = UInt64(12345)
            for step in 0..<5000 {
                random = random &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
                let address = random >> 33 & 0x3f
                _ = table.learn(address, at: Int(random >> 50 % 3), tick: UInt32(step / 10))
                if step % 97 == 0 { table.sweep(now: UInt32(step / 10), age: 20) }
                if step % 501 == 0 { table.sweep(now: UInt32(step / 10), age: .max, port: 1) }
                guard step % 50 == 0 else { continue }
                let entries = table.entries
                for port in 0..<3 {
                    #expect(table.addressCount(at: port) == entries.count { $0.port == port })
                }
                #expect(Set(entries.map(\.address)).count == entries.count)
            }
        }
    }

    @Test("A full bucket gives up the address that was seen longest ago")
    func eviction() {
        withTable(buckets: 1, limit: 100) { table in
            for address in UInt64(1)...4 {
                #expect(table.learn(address << 1, at: 0, tick: UInt32(address)))
            }
            // Seen again: the second is the oldest now.
            #expect(table.learn(2, at: 0, tick: 9))
            #expect(table.learn(100, at: 1, tick: 10))
            #expect(table.port(of: 4) == -1)
            #expect([2, 6, 8, 100].allSatisfy { table.port(of: $0) >= 0 })
            #expect(table.addressCount(at: 0) == 3)
        }
    }

    @Test(
        "Age is counted over the wrap of the clock",
        arguments: [UInt32(0), 1000, .max - 5, .max])
    func ageing(start: UInt32) {
        withTable { table in
            #expect(table.learn(2, at: 0, tick: start))
            #expect(table.learn(4, at: 0, tick: start &+ 8))
            table.sweep(now: start &+ 10, age: 10)
            #expect(table.port(of: 2) == 0)
            table.sweep(now: start &+ 11, age: 10)
            #expect(table.port(of: 2) == -1)
            #expect(table.port(of: 4) == 0)
        }
    }

    @Test("Addresses that no bridge forwards")
    func reserved() {
        func address(_ bytes: [UInt8]) -> UInt64 {
            bytes.enumerated().reduce(0) { $0 | UInt64($1.element) << (8 * UInt64($1.offset)) }
        }
        for last in UInt8(0)...15 {
            #expect(EthernetAddress.isReserved(address([1, 0x80, 0xc2, 0, 0, last])))
        }
        #expect(!EthernetAddress.isReserved(address([1, 0x80, 0xc2, 0, 0, 16])))
        #expect(!EthernetAddress.isReserved(address([1, 0x80, 0xc2, 0, 1, 0])))
        #expect(!EthernetAddress.isReserved(address([0, 0x80, 0xc2, 0, 0, 0])))
        #expect(EthernetAddress.isGroup(address([0xff, 0xff, 0xff, 0xff, 0xff, 0xff])))
        #expect(!EthernetAddress.isGroup(address([0x52, 0x54, 0, 1, 2, 3])))
        #expect(EthernetAddress.text(address([0x52, 0x54, 0, 1, 2, 0xf3])) == "52:54:00:01:02:f3")
    }
}

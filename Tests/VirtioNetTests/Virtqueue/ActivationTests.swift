// Checks that are made once, when a split virtqueue is activated.
import CleaveHost
import CleaveTestSupport
import Testing

@testable import CleaveVirtioNet

@Suite("Split virtqueue activation")
struct ActivationTests {
    /// Two adjacent regions of 64 KiB, then a hole.
    private static func makeGuest() throws -> EvilGuest {
        try EvilGuest([(0x1_0000, 0x1_0000), (0x2_0000, 0x1_0000)])
    }

    private static func refusal(
        _ guest: EvilGuest, size: Int = 8, table: UInt64 = 0x1_0000, avail: UInt64 = 0x1_1000,
        used: UInt64 = 0x1_2000
    ) -> String? {
        let addresses = VirtqueueAddresses(
            format: .split, size: size, descriptorArea: GuestAddress(table),
            driverArea: GuestAddress(avail), deviceArea: GuestAddress(used))
        do throws(SetupError) {
            _ = try addresses.map(in: guest.memory)
            return nil
        } catch { return error.description }
    }

    @Test("Sizes that are no power of two between 1 and 32768 are refused")
    func sizes() throws {
        let guest = try Self.makeGuest()
        for size in [0, 3, 5, 6, 7, 300, 32767, 65536, -1, -8, Int.min, Int.max] {
            #expect(
                Self.refusal(guest, size: size)
                    == "split ring size \(size) is not a power of two between 1 and 32768")
        }
        for size in [1, 2, 4, 8, 16, 32, 64, 128, 256] {
            #expect(Self.refusal(guest, size: size) == nil, "\(size)")
        }
    }

    @Test("The largest size works")
    func largest() throws {
        let guest = try EvilGuest([(0x10_0000, 0x10_0000)])
        let ring = EvilRing(guest, size: 32768, at: 0x10_0000)
        #expect(throws: Never.self) { try ring.addresses.map(in: guest.memory) }
    }

    @Test("Each part is refused off its alignment")
    func misaligned() throws {
        let guest = try Self.makeGuest()
        for offset: UInt64 in 1...15 {
            #expect(
                Self.refusal(guest, table: 0x1_0000 + offset)
                    == "descriptor table at 0x\(String(0x1_0000 + offset, radix: 16)) "
                    + "is not aligned to 16 bytes")
            let used = Self.refusal(guest, used: 0x1_2000 + offset)
            #expect((used == nil) == (offset % 4 == 0), "\(offset)")
            let avail = Self.refusal(guest, avail: 0x1_1000 + offset)
            #expect((avail == nil) == (offset % 2 == 0), "\(offset)")
        }
    }

    @Test("B24: each part must lie inside one region to its last byte")
    func ranges() throws {
        let guest = try Self.makeGuest()
        // Size 8: 128, 22 and 70 bytes.
        #expect(Self.refusal(guest, table: 0x2_ff80) == nil)
        #expect(Self.refusal(guest, avail: 0x2_ffea) == nil)
        #expect(Self.refusal(guest, used: 0x2_ffb8) == nil)
        for (part, refusal, place, count) in [
            ("descriptor table", Self.refusal(guest, table: 0x2_ff90), "0x2ff90", 128),
            ("available ring", Self.refusal(guest, avail: 0x2_ffec), "0x2ffec", 22),
            ("used ring", Self.refusal(guest, used: 0x2_ffbc), "0x2ffbc", 70),
            // Over the border of two adjacent regions.
            ("descriptor table", Self.refusal(guest, table: 0x1_ff90), "0x1ff90", 128),
            ("available ring", Self.refusal(guest, avail: 0x1_fffe), "0x1fffe", 22),
            ("used ring", Self.refusal(guest, used: 0x1_fffc), "0x1fffc", 70),
            // In a hole, and around the end of the address space.
            ("used ring", Self.refusal(guest, used: 0x8_0000), "0x80000", 70),
            (
                "descriptor table", Self.refusal(guest, table: UInt64.max - 15),
                "0xfffffffffffffff0", 128
            ),
        ] {
            #expect(refusal == "\(part) at \(place), \(count) bytes, is not in one memory region")
        }
    }

    @Test("A region mapped off alignment is refused")
    func misalignedMapping() throws {
        let host = UnsafeMutableRawPointer.allocate(byteCount: 4097, alignment: 4096)
        defer { host.deallocate() }
        let memory = try GuestMemory(regions: [
            MemoryRegion(guestBase: GuestAddress(0x1000), host: host + 1, byteCount: 4096)
        ])
        let addresses = VirtqueueAddresses(
            format: .split, size: 1, descriptorArea: GuestAddress(0x1000),
            driverArea: GuestAddress(0x1100), deviceArea: GuestAddress(0x1200))
        let refusal = #expect(throws: SetupError.self) { try addresses.map(in: memory) }
        #expect(
            refusal?.description
                == "descriptor table at 0x1000 is mapped at a misaligned host address")
    }

    @Test("A new queue asks for no kicks and resumes where it is told")
    func fresh() throws {
        let rig = try EvilRig(firstIndex: 65533)
        #expect(rig.ring.usedFlags == usedNoNotify)
        #expect(rig.queue.base == 65533)
        for head in 0..<5 { rig.post(head) }
        #expect(rig.enqueue([TestFrames.tcp4([1]), TestFrames.tcp4([2])]).fates == [true, true])
        #expect(rig.queue.base == 65535)
        #expect(rig.ring.usedIndex == 65535)
    }
}

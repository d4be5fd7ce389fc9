// Geometry of a header queue: what is refused, and the words of the refusal (catalogue D02).
import CleaveHost
import CleaveTestSupport
import CleaveVirtioNet
import Testing

@Suite("Header queue geometry")
struct HeaderQueueLayoutTests {
    /// Two adjacent regions of 64 KiB, then a hole.
    private static func refusal(
        base: UInt64 = 0x1_1000, control: UInt64 = 0x1_0000, slotSize: Int = 128,
        slotCount: Int = 8
    ) throws -> String? {
        let guest = try EvilGuest([(0x1_0000, 0x1_0000), (0x2_0000, 0x1_0000)])
        let layout = HeaderQueueLayout(
            base: GuestAddress(base), control: GuestAddress(control), slotSize: slotSize,
            slotCount: slotCount)
        do throws(SetupError) {
            _ = try HeaderQueue(layout, memory: guest.memory)
            return nil
        } catch { return error.description }
    }

    @Test("D02: slot sizes other than powers of two from 64 to 1024 are refused")
    func slotSizes() throws {
        for size in [0, 1, 32, 63, 65, 96, 100, 1023, 1025, 2048, -128, Int.min, Int.max] {
            #expect(
                try Self.refusal(slotSize: size)
                    == "header slot size \(size) is not a power of two between 64 and 1024")
        }
        for size in [64, 128, 256, 512, 1024] {
            #expect(try Self.refusal(slotSize: size) == nil)
        }
    }

    @Test("D02: slot counts other than powers of two from 1 to 32768 are refused")
    func slotCounts() throws {
        for count in [0, 3, 100, 32767, 65536, -1, -8, Int.min, Int.max, 1 << 40] {
            #expect(
                try Self.refusal(slotCount: count)
                    == "header slot count \(count) is not a power of two between 1 and 32768")
        }
        for count in [1, 2, 4, 8, 256] {
            #expect(try Self.refusal(slotCount: count) == nil, "\(count)")
        }
    }

    @Test("D02: slots and control words lie aligned in one region each")
    func places() throws {
        // 1024 bytes of slots, 256 of control words; up to the last byte.
        #expect(try Self.refusal(base: 0x2_fc00) == nil)
        #expect(try Self.refusal(control: 0x2_ff00) == nil)
        #expect(
            try Self.refusal(base: 0x1_1020) == "header slots do not start on a 64-byte boundary")
        #expect(
            try Self.refusal(control: 0x1_0040)
                == "header queue control words do not start on a 128-byte boundary")
        for base: UInt64 in [0x2_fc40, 0x1_fc40, 0x3_0000, 0, UInt64.max - 63] {
            #expect(
                try Self.refusal(base: base)
                    == "header slots, 1024 bytes, are not in one memory region")
        }
        for control: UInt64 in [0x2_ff80, 0x1_ff80, 0x3_0000, 0, UInt64.max - 127] {
            #expect(
                try Self.refusal(control: control)
                    == "header queue control words are not in one memory region")
        }
    }

    @Test("D02: the largest queue works")
    func largest() throws {
        let guest = try EvilGuest([(0x10_0000, 33 << 20)])
        let layout = HeaderQueueLayout(
            base: GuestAddress(0x20_0000), control: GuestAddress(0x10_0000), slotSize: 1024,
            slotCount: 32768)
        #expect(layout.byteCount == 32 << 20)
        let queue = try HeaderQueue(layout, memory: guest.memory)
        #expect(queue.freeCount == 0 && queue.claimedCount == 0 && !queue.isBroken)
    }

    @Test("A method that splits needs a header queue")
    func methodWithoutQueue() throws {
        let refusal = #expect(throws: SetupError.self) {
            try EvilRig(method: .headerQueue(.netHeader))
        }
        #expect(refusal?.description == "method D needs a header queue")
    }
}

import Glibc
import Testing

@testable import CleaveHost

@Suite struct MemoryArenaTests {
    static func arena(
        _ byteCount: Int, pages: PagePreference = .automatic, node: Int? = nil,
        shared: Bool = false, _ probe: HostProbe
    ) throws -> MemoryArena {
        try MemoryArena(
            byteCount: byteCount, node: node, pages: pages,
            sharedAs: shared ? "cleave-test" : nil, probe: probe)
    }

    static func isZeroed(_ arena: MemoryArena) -> Bool {
        UnsafeRawBufferPointer(start: arena.base, count: arena.mappedByteCount)
            .allSatisfy { $0 == 0 }
    }

    @Test(arguments: [PagePreference.automatic, .small, .huge2M, .huge1G], [false, true])
    func mapsWhateverThereIs(pages: PagePreference, shared: Bool) throws {
        // Avoids a real gibibyte page, which is too expensive to zero in a test.
        let probe = FakeMachine.with(FakeMachine.pool("1048576kB", total: 0, free: 0))
        let arena = try Self.arena(3_000_000, pages: pages, shared: shared, probe)
        #expect(arena.byteCount == 3_000_000)
        #expect(arena.mappedByteCount % arena.pageKind.granularity == 0)
        #expect(arena.mappedByteCount >= arena.byteCount)
        #expect(UInt(bitPattern: arena.base) % UInt(arena.residentPageByteCount) == 0)
        #expect((arena.fileDescriptor != nil) == shared)
        #expect(Self.isZeroed(arena))
        memset(arena.base, 0xa5, arena.mappedByteCount)
        switch (pages, arena.pageKind) {
        case (.small, .small), (.automatic, .huge2M), (.huge2M, .huge2M):
            #expect(arena.fallback == nil)
        default:
            let sentence = try #require(arena.fallback)
            #expect(sentence.hasPrefix("asked for "))
            #expect(sentence.contains("got \(arena.pageKind.words): "))
        }
    }

    @Test func smallestArenaIsOneByte() throws {
        let arena = try MemoryArena(byteCount: 1, pages: .small)
        #expect(arena.pageKind == .small && arena.fallback == nil && arena.node == nil)
        #expect(arena.mappedByteCount == PageKind.basePageByteCount)
        #expect(try arena.allocate(byteCount: 1) == arena.base)
        #expect(error { _ = try arena.allocate(byteCount: 1, alignment: 1) } != nil)
    }

    @Test(arguments: [0, -1, Int.min, Int.max])
    func refusesImpossibleSizes(byteCount: Int) {
        let thrown = error { _ = try MemoryArena(byteCount: byteCount) }
        #expect(thrown?.message.hasSuffix("is \(byteCount)") == true)
    }

    @Test func refusesMoreThanTheMachineHas() {
        let thrown = error { _ = try MemoryArena(byteCount: 1 << 45) }
        #expect(thrown?.message.hasPrefix("35184372088832 bytes are asked for") == true)
    }

    @Test func takesTransparentPagesWhereNoneAreReserved() throws {
        let arena = try Self.arena(5 << 20, FakeMachine.with(FakeMachine.noHugePages))
        #expect([5 << 20, 6 << 20].contains(arena.mappedByteCount))
        let sentence = try #require(arena.fallback)
        #expect(
            sentence.hasPrefix(
                "asked for 2 MiB pages, got \(arena.pageKind.words): "
                    + "2 MiB pages: 3 needed, 0 free (sysctl vm.nr_hugepages=512)"))
        if arena.pageKind == .transparent {
            #expect(UInt(bitPattern: arena.base) % (2 << 20) == 0)
            let covered = TransparentHugePages.coveredByteCount(
                base: UInt(bitPattern: arena.base), probe: .live)
            #expect(covered != 0)
        }
    }

    @Test func takesSmallPagesWhereTransparentOnesAreOff() throws {
        var files = FakeMachine.noHugePages
        files[FakeMachine.transparentPath] = "always madvise [never]\n"
        let arena = try Self.arena(100_000, FakeMachine.with(files))
        #expect(arena.pageKind == .small)
        #expect(
            arena.fallback
                == "asked for 2 MiB pages, got small pages: 2 MiB pages: 1 needed, 0 free "
                + "(sysctl vm.nr_hugepages=512); \(FakeMachine.transparentPath) is set to never")
    }

    @Test func believesTheKernelOverTheSetting() throws {
        // The setting promises huge pages, and the kernel gave none.
        var files = FakeMachine.noHugePages
        files[FakeMachine.transparentPath] = "[always] madvise never\n"
        let live = FakeMachine.with(files)
        var probe = live
        probe.readText = { path in
            guard path == "/proc/self/smaps", let text = live.readText(path) else {
                return live.readText(path)
            }
            return text.split(separator: "\n").map {
                $0.hasPrefix("AnonHugePages:") ? "AnonHugePages: 0 kB" : String($0)
            }.joined(separator: "\n")
        }
        let arena = try Self.arena(2 << 20, probe)
        #expect(arena.pageKind == .small)
        #expect(arena.fallback?.hasSuffix("no transparent huge page to give") == true)
    }

    @Test(arguments: [false, true])
    func survivesAPoolThatLies(shared: Bool) throws {
        // Files promise a pool that the kernel does not have: mmap itself refuses.
        let promised = FakeMachine.pool("2048kB", total: 1 << 20, free: 1 << 20)
        var files = promised
        let nodePath = "/sys/devices/system/node/node0/hugepages/hugepages-2048kB"
        files["\(nodePath)/free_hugepages"] = "1048576\n"
        let real = HugePagePool(kind: .huge2M, probe: .live)
        let byteCount = (real.total + real.overcommit + 1) << 21
        guard byteCount <= 256 << 20 else { return }
        files[FakeMachine.transparentPath] = "always madvise [never]\n"
        let arena = try Self.arena(byteCount, shared: shared, FakeMachine.with(files))
        #expect(!arena.pageKind.isReserved)
        #expect(arena.fallback?.contains("Cannot allocate memory (errno 12)") == true)
    }

    @Test func allocatesExactlyToTheLastByte() throws {
        let arena = try MemoryArena(byteCount: 1000, pages: .small)
        #expect(try arena.allocate(byteCount: 1) == arena.base)
        #expect(arena.usedBytes == 1)
        #expect(try arena.allocate(byteCount: 100) == arena.base + 128)
        #expect(arena.usedBytes == 228)
        #expect(try arena.allocate(byteCount: 3, alignment: 1) == arena.base + 228)
        #expect(try arena.allocate(byteCount: 8, alignment: 8) == arena.base + 232)
        let thrown = error { _ = try arena.allocate(byteCount: 745, alignment: 128) }
        #expect(
            thrown?.description
                == "memory arena: 745 bytes aligned to 128 are asked for, 760 of 1000 are left")
        #expect(arena.usedBytes == 240)
        #expect(try arena.allocate(byteCount: 744, alignment: 128) == arena.base + 256)
        #expect(arena.usedBytes == 1000)
        #expect(error { _ = try arena.allocate(byteCount: 1, alignment: 1) } != nil)
    }

    @Test func allocationsOfEverySizeAndAlignmentStayApart() throws {
        let arena = try MemoryArena(byteCount: 1 << 20, pages: .small)
        var end = arena.base
        for shift in 0...13 {
            for byteCount in [1, 2, 63, 64, 65, 127, 128, 129] {
                let piece = try arena.allocate(byteCount: byteCount, alignment: 1 << shift)
                #expect(UInt(bitPattern: piece) % UInt(1 << shift) == 0)
                #expect(piece >= end && piece - end < 1 << shift)
                end = piece + byteCount
            }
        }
        #expect(arena.usedBytes == end - arena.base)
    }

    @Test(arguments: [
        (0, 128), (-1, 128), (1, 0), (1, -8), (1, 96), (Int.max, 1),
        (1, Int.min), (Int.max, 1 << 62),
    ])
    func refusesImpossibleAllocations(byteCount: Int, alignment: Int) throws {
        let arena = try MemoryArena(byteCount: 4096, pages: .small)
        _ = try arena.allocate(byteCount: 1)
        #expect(error { _ = try arena.allocate(byteCount: byteCount, alignment: alignment) } != nil)
        #expect(arena.usedBytes == 1)
    }

    @Test(arguments: [PagePreference.small, .automatic])
    func sharedMemoryIsSeenThroughASecondMapping(pages: PagePreference) throws {
        let arena = try MemoryArena(byteCount: 10_000, pages: pages, shared: true)
        let fd = try #require(arena.fileDescriptor)
        var status = stat()
        #expect(fstat(fd, &status) == 0)
        #expect(Int(status.st_size) == arena.mappedByteCount)
        let other = mmap(
            nil, arena.mappedByteCount, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)
        try #require(other != MAP_FAILED)
        defer { munmap(other, arena.mappedByteCount) }
        arena.base.storeBytes(of: 0x1234_5678, toByteOffset: 9_992, as: UInt32.self)
        #expect(other!.load(fromByteOffset: 9_992, as: UInt32.self) == 0x1234_5678)
        other!.storeBytes(of: 99, as: UInt8.self)
        #expect(arena.base.load(as: UInt8.self) == 99)
        // Sealed: a peer cannot remove the memory.
        #expect(ftruncate(fd, 0) != 0)
    }

    @Test func releaseUnmapsAndCloses() throws {
        var arena: MemoryArena? = try MemoryArena(
            byteCount: 4096, pages: .small, shared: true, name: "cleave-release-test")
        let seen = {
            (SystemFile.text(at: "/proc/self/maps") ?? "").contains("cleave-release-test")
        }
        #expect(seen())
        arena = nil
        #expect(!seen())
        #expect(arena == nil)
    }

    @Test func lieOnTheirNode() throws {
        let topology = NUMATopology.current()
        let node = topology.nodes[0].id
        let arena = try MemoryArena(byteCount: 1 << 20, node: node, pages: .small)
        let resident = arena.residentNodes()
        if arena.node != nil && topology.fallback == nil && !resident.isEmpty {
            #expect(resident == [node: (1 << 20) / PageKind.basePageByteCount])
        }
    }

    @Test func countResidentPagesOfTheirKind() throws {
        let arena = try MemoryArena(byteCount: 4 << 20)
        let counts = arena.residentNodes()
        if !counts.isEmpty {
            let pageCount = arena.mappedByteCount / arena.residentPageByteCount
            #expect(counts.values.reduce(0, +) == pageCount)
        }
    }

    @Test func refuseANodeThatDoesNotExist() {
        let thrown = error { _ = try MemoryArena(byteCount: 4096, node: 4242) }
        #expect(thrown?.description.hasPrefix("NUMA node 4242: does not exist; nodes") == true)
    }

    @Test func sayWhenBindingIsRefused() throws {
        var probe = HostProbe.live
        probe.isNUMAAvailable = { true }
        probe.bindToNode = { _, _, _ in EPERM }
        let node = NUMATopology.current(probe: probe).nodes[0].id
        let arena = try Self.arena(4096, pages: .small, node: node, probe)
        #expect(arena.node == nil)
        #expect(arena.fallback == "not bound to its node: Operation not permitted")
        probe.bindToNode = { _, _, _ in EINVAL }
        let strict = probe
        let thrown = error { _ = try Self.arena(4096, pages: .small, node: node, strict) }
        #expect(thrown?.description.hasPrefix("mbind: cannot bind memory to node") == true)
    }

    @Test func oneNodeStandInNeedsNoBinding() throws {
        var probe = FakeMachine.with([:], numa: false)
        probe.bindToNode = { _, _, _ in EINVAL }
        let arena = try Self.arena(4096, pages: .small, node: 0, probe)
        #expect(arena.node == 0 && arena.fallback == nil)
    }
}

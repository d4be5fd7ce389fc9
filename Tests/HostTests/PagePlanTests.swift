import Testing

@testable import CleaveHost

@Suite struct PagePlanTests {
    static func plan(
        _ byteCount: Int, node: Int? = nil, shared: Bool = false, many: Bool = true,
        _ probe: HostProbe
    ) -> PagePlan {
        PagePlan(
            byteCount: byteCount, node: node, isShared: shared, isOneOfMany: many, probe: probe)
    }

    @Test func automaticTakesGibibytePagesOnlyWhereTheyAreFreeAndFit() {
        let rich = FakeMachine.with(FakeMachine.pool("1048576kB", total: 2, free: 2))
        let poor = FakeMachine.with(FakeMachine.pool("1048576kB", total: 2, free: 1))
        let rest: [PageKind] = [.huge2M, .transparent, .small]
        #expect(Self.plan(1 << 30, rich).candidates(for: .automatic) == [.huge1G] + rest)
        #expect(Self.plan(1 << 31, rich).candidates(for: .automatic) == [.huge1G] + rest)
        #expect(Self.plan((1 << 31) + 1, rich).candidates(for: .automatic) == rest)
        #expect(Self.plan((1 << 30) - 1, rich).candidates(for: .automatic) == rest)
        #expect(Self.plan((1 << 30) + 1, poor).candidates(for: .automatic) == rest)
        #expect(Self.plan(1, rich).candidates(for: .huge1G) == [.huge1G] + rest)
        #expect(Self.plan(1 << 40, rich).candidates(for: .small) == [.small])
    }

    @Test func wantOfHugePagesSaysHowManyToReserve() {
        let probe = FakeMachine.with(FakeMachine.pool("2048kB", total: 10, free: 3))
        #expect(Self.plan(3 << 21, probe).obstacle(to: .huge2M) == nil)
        #expect(
            Self.plan((3 << 21) + 1, probe).obstacle(to: .huge2M)
                == "2 MiB pages: 4 needed, 3 free (sysctl vm.nr_hugepages=522)")
        let none = FakeMachine.with(FakeMachine.noHugePages)
        let text = Self.plan(1 << 30, none).obstacle(to: .huge1G)
        #expect(text?.hasPrefix("1 GiB pages: 1 needed, 0 free (write 1 to ") == true)
        let path = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages"
        let ignorant = FakeMachine.with([path: nil])
        #expect(
            Self.plan(1, ignorant).obstacle(to: .huge2M) == "this kernel has no 2 MiB pages")
    }

    @Test func promisedPagesAreNotFreeAndOvercommittedOnesAre() {
        var files = FakeMachine.pool("2048kB", total: 10, free: 3)
        let directory = "/sys/kernel/mm/hugepages/hugepages-2048kB"
        files["\(directory)/resv_hugepages"] = "2\n"
        #expect(HugePagePool(kind: .huge2M, probe: FakeMachine.with(files)).available == 1)
        files["\(directory)/nr_overcommit_hugepages"] = "7\n"
        files["\(directory)/surplus_hugepages"] = "3\n"
        #expect(HugePagePool(kind: .huge2M, probe: FakeMachine.with(files)).available == 5)
    }

    @Test func aNodeCountsItsOwnPages() {
        var files = FakeMachine.pool("2048kB", total: 8, free: 8)
        let nodePath = "/sys/devices/system/node/node1/hugepages/hugepages-2048kB"
        files["\(nodePath)/free_hugepages"] = "1\n"
        let probe = FakeMachine.with(files)
        #expect(Self.plan(1 << 21, node: 1, probe).obstacle(to: .huge2M) == nil)
        #expect(
            Self.plan(2 << 21, node: 1, probe).obstacle(to: .huge2M)?
                .hasPrefix("2 MiB pages: 2 needed on node 1, 1 free there") == true)
    }

    @Test(arguments: [
        ("always [madvise] never", nil), ("[always] madvise never", nil),
        ("always madvise [never]", "is set to never"), ("nonsense", "no transparent huge pages"),
        ("]always[", "no transparent huge pages"),
    ])
    func transparentPagesObeyTheSetting(line: String, problem: String?) {
        let probe = FakeMachine.with([FakeMachine.transparentPath: line])
        let obstacle = Self.plan(1 << 21, probe).obstacle(to: .transparent)
        if let problem {
            #expect(obstacle?.hasSuffix(problem) == true)
        } else {
            #expect(obstacle == nil)
        }
    }

    @Test func sharedMemoryHasASettingOfItsOwn() {
        let path = "/sys/kernel/mm/transparent_hugepage/shmem_enabled"
        let probe = FakeMachine.with([
            FakeMachine.transparentPath: "[always] madvise never",
            path: "always within_size advise never [deny] force",
        ])
        #expect(Self.plan(1, probe).obstacle(to: .transparent) == nil)
        #expect(
            Self.plan(1, shared: true, probe).obstacle(to: .transparent)
                == "\(path) is set to deny")
    }

    @Test func coverageIsReadFromTheMappingItself() {
        let text = """
            7f0000000000-7f0000400000 rw-p 00000000 00:00 0
            AnonHugePages:      4096 kB
            VmFlags: rd wr
            7f0000600000-7f0000800000 rw-p 00000000 00:00 0
            AnonHugePages:         0 kB
            ShmemPmdMapped:     2048 kB
            VmFlags: rd wr
            7f0000a00000-7f0000c00000 rw-p 00000000 00:00 0
            AnonHugePages:         0 kB
            VmFlags: rd wr
            """
        let probe = FakeMachine.with(["/proc/self/smaps": text])
        let covered = { TransparentHugePages.coveredByteCount(base: $0, probe: probe) }
        #expect(covered(0x7f00_0000_0000) == 4 << 20)
        #expect(covered(0x7f00_0060_0000) == 2 << 20)
        #expect(covered(0x7f00_00a0_0000) == 0)
        #expect(covered(0x7f00_00e0_0000) == nil)
    }

    @Test func wantOfMemoryIsSaidBeforehand() {
        let probe = FakeMachine.with([
            "/proc/meminfo": "MemTotal: 99 kB\nMemAvailable:   64 kB\n",
            "/sys/devices/system/node/node0/meminfo":
                "Node 0 MemFree:   8 kB\nNode 0 FilePages:  8 kB\n",
        ])
        #expect(Self.plan(65_536, probe).memoryObstacle(.small) == nil)
        #expect(
            Self.plan(65_537, probe).memoryObstacle(.small)?.hasSuffix("65536 are available")
                == true)
        #expect(Self.plan(16_384, node: 0, probe).memoryObstacle(.small) == nil)
        #expect(
            Self.plan(16_385, node: 0, probe).memoryObstacle(.small)?
                .hasSuffix("node 0 has 16384") == true)
        // The only node has what the machine has, hot-plugged memory included.
        #expect(Self.plan(16_385, node: 0, many: false, probe).memoryObstacle(.small) == nil)
    }
}

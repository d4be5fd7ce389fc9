import Testing

@testable import CleaveHost

@Suite struct CPUSetTests {
    @Test(arguments: [
        ("0", [0]), ("0-3,8", [0, 1, 2, 3, 8]), ("8,0-1", [0, 1, 8]), ("1,1-2,2", [1, 2]),
        (" 0-1\n", [0, 1]), ("", []), ("\n", []), ("8191", [8191]), ("5-5", [5]),
    ])
    func parses(text: String, expected: [Int]) throws {
        #expect(try CPUSet(parsing: text).cpus == expected)
    }

    @Test(arguments: [
        ("x", "expected a CPU number at position 1"),
        ("0-", "expected a CPU number at position 3"),
        ("0,,1", "expected a CPU number at position 3"),
        ("0,", "expected a CPU number at position 3"),
        ("-1", "expected a CPU number at position 1"),
        ("3-1", "range 3-1 descends at position 1"),
        ("0,7-2", "range 7-2 descends at position 3"),
        ("0 1", "expected ',' or the end at position 3"),
        ("0-3:1", "expected ',' or the end at position 4"),
        ("8192", "CPU number exceeds 8191 at position 1"),
        ("0,99999999999999999999999", "CPU number exceeds 8191 at position 3"),
        ("\u{e9}", "expected a CPU number at position 1"),
    ])
    func refusesNonsense(text: String, message: String) {
        let thrown = error { _ = try CPUSet(parsing: text) }
        #expect(thrown?.message == message)
        #expect(thrown?.topic == "CPU list \"\(text)\"")
    }

    @Test func describesShortestAndRoundTrips() throws {
        #expect(CPUSet([3, 1, 0, 2, 8, 10, 11]).description == "0-3,8,10-11")
        #expect(CPUSet([4]).description == "4")
        #expect(CPUSet([]).description == "none")
        // Every subset of eight CPUs.
        for bits in 1..<256 {
            let set = CPUSet((0..<8).filter { bits & (1 << $0) != 0 })
            #expect(try CPUSet(parsing: set.description) == set)
        }
    }

    @Test func allowedCPUsAreOnline() {
        let allowed = CPUSet.allowed()
        #expect(!allowed.isEmpty)
        #expect(allowed.cpus.allSatisfy { CPUSet.online().contains($0) })
        #expect(!allowed.contains(-1))
    }

    @Test func countsProcessorsWhereSysIsHidden() {
        let path = "/sys/devices/system/cpu/online"
        #expect(!CPUSet.online(probe: FakeMachine.with([path: nil])).isEmpty)
        #expect(CPUSet.online(probe: FakeMachine.with([path: "0-2,5\n"])).cpus == [0, 1, 2, 5])
    }
}

import Glibc
import Testing

@testable import CleaveHost

@Suite("The service manager, and what it says in the environment", .serialized)
struct ServiceManagerTests {
    private func variables(_ values: [String: String]) -> (String) -> String? {
        {
            values[$0]?.replacing("@", with: "\(getpid())")
        }
    }

    @Test("A watchdog that is for this process, at half of its time")
    func watchdog() throws {
        func made(_ values: [String: String]) throws -> ServiceManager.Watchdog? {
            try ServiceManager.Watchdog(now: 5, environment: variables(values))
        }
        #expect(try made([:]) == nil)
        #expect(try made(["WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"]) == nil)
        for owner in [["WATCHDOG_PID": "@"], [:]] {
            let values = owner.merging(["WATCHDOG_USEC": "3000000"]) { $1 }
            var watchdog = try #require(try made(values))
            #expect(watchdog.interval == 1_500_000_000)
            #expect(!watchdog.isDue(at: 1_500_000_004) && watchdog.isDue(at: 1_500_000_005))
            try watchdog.signal(at: 2_000_000_000)
            #expect(watchdog.last == 2_000_000_000)
            #expect(!watchdog.isDue(at: 3_499_999_999) && watchdog.isDue(at: 3_500_000_000))
        }
        for text in ["", "0", "-1", "x", "18446744073709551615", "1 "] {
            #expect(throws: HostError.self) { try made(["WATCHDOG_USEC": text]) }
        }
    }

    @Test("A watchdog that another process was asked for, by the same time")
    func inheritedWatchdog() throws {
        let own = try #require(
            try ServiceManager.Watchdog(environment: variables(["WATCHDOG_USEC": "3000001"])))
        let next = try #require(
            ServiceManager.Watchdog(microseconds: own.microseconds, now: 7))
        #expect(own.microseconds == 3_000_001 && next.interval == own.interval)
        #expect(next.last == 7)
        for microseconds in [0, UInt64.max / 1000 + 1, .max] {
            #expect(ServiceManager.Watchdog(microseconds: microseconds) == nil)
        }
    }

    @Test("A manager that does not read is told again who is the main process, and nothing after")
    func mainProcess() throws {
        try #require(ServiceManager.address == nil, "these tests have a service manager")
        try ServiceManager.sayReady()
        // An abstract name, which needs no file.
        let name = "@cleave-test-\(getpid())"
        let manager = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue), 0)
        defer { close(manager) }
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { target in
            for (index, byte) in name.utf8.dropFirst().enumerated() { target[index + 1] = byte }
        }
        let size = socklen_t(2 + name.utf8.count)
        let result = withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(manager, $0, size)
            }
        }
        try #require(result == 0)
        func heard() -> String {
            var bytes = [UInt8](repeating: 0, count: 256)
            let count = recv(manager, &bytes, bytes.count, Int32(MSG_DONTWAIT))
            return String(decoding: bytes.prefix(max(0, count)), as: UTF8.self)
        }
        ServiceManager.join(at: name)
        defer { try? ServiceManager.giveService(to: 1, milliseconds: 0) }
        while (try? ServiceManager.sayReady()) != nil {}
        #expect(throws: HostError.self) {
            try ServiceManager.giveService(to: 4711, milliseconds: 20)
        }
        #expect(ServiceManager.address == name, "it is the main process still")
        var said = heard()
        try ServiceManager.giveService(to: 4711, milliseconds: 20)
        #expect(ServiceManager.address == nil)
        try ServiceManager.sayStopping()
        var last = ""
        while !said.isEmpty {
            last = said
            said = heard()
        }
        #expect(last == "MAINPID=4711\nWATCHDOG=1")
    }

    @Test("A process is of this service if its control groups are the same")
    func groups() {
        #expect(ServiceManager.isOfThisService(getpid()))
        for process: Int32 in [0, -1, .max] { #expect(!ServiceManager.isOfThisService(process)) }
    }

    @Test("Sockets that are for this process, by their names")
    func sockets() throws {
        func taken(_ values: [String: String]) throws -> [ServiceManager.Socket] {
            try ServiceManager.sockets(variables(values))
        }
        let own = ["LISTEN_PID": "@"]
        func with(_ values: [String: String]) throws -> [ServiceManager.Socket] {
            try taken(own.merging(values) { $1 })
        }
        #expect(try taken([:]) == [])
        #expect(try taken(["LISTEN_FDS": "2"]) == [])
        #expect(try taken(["LISTEN_FDS": "2", "LISTEN_PID": "1"]) == [])
        #expect(try with([:]) == [])
        #expect(try with(["LISTEN_FDS": "0"]) == [])
        #expect(
            try with(["LISTEN_FDS": "2", "LISTEN_FDNAMES": "left:right"]).map { "\($0)" }
                == ["left", "right"].enumerated().map {
                    "\(ServiceManager.Socket(name: $1, descriptor: Int32(3 + $0)))"
                })
        #expect(
            try with(["LISTEN_FDS": "2", "LISTEN_FDNAMES": ":"]).map(\.name) == ["", ""])
        #expect(try with(["LISTEN_FDS": "1"]).map(\.name) == ["unknown"])
        for text in ["x", "", "-1", "1025", "99999999999"] {
            #expect(throws: HostError.self) { try with(["LISTEN_FDS": text]) }
        }
        for names in ["a", "a:b:c", ""] {
            #expect(throws: HostError.self) {
                try with(["LISTEN_FDS": "2", "LISTEN_FDNAMES": names])
            }
        }
    }
}

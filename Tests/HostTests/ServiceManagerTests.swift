import Glibc
import Testing

@testable import CleaveHost

@Suite("What the service manager says in the environment")
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

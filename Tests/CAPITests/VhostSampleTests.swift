// The example back ends, as processes of their own: with DPDK's virtio-user as their guest, with
// our own driver, and the one on DPDK with a front end that sends what virtio-user does not.
import CleaveGuestDriver
import CleaveTestSupport
import CleaveVirtioNet
import Foundation
import Testing

// Backends poll: side by side they would take the processors from one another.
@Suite("Example vhost backend", .serialized)
struct VhostSampleTests {
    static let hasDPDK =
        (try? LibraryTests.run("command -v cc && pkg-config --exists libdpdk").code == 0) ?? false

    /// Cases of `raw_front_end.c`.
    static let cases = [
        "offers", "log", "pairs", "last", "disabled", "call", "memory", "return", "guests",
    ]

    /// Runs shell lines beside a backend that listens at `$d/socket`, and ends it.
    /// - Returns: exit code, and what lines and backend printed.
    private static func beside(_ lines: String) throws -> (code: Int32, output: String) {
        try LibraryTests.run(
            """
            set -e
            d=$(mktemp -d)
            trap 'kill -9 $backend 2>/dev/null || true; rm -rf $d' EXIT
            flags="-std=c11 -D_GNU_SOURCE -O2 -Wall -Wextra -Werror -ISources/CCleave/include"
            flags="$flags $(pkg-config --cflags libdpdk)"
            cc $flags Sources/Examples/C/vhost_backend.c -o $d/backend -L.build/lib -lcleave \
                -lrte_eal -lrte_vhost
            eal="--no-huge --no-pci --no-telemetry --iova-mode=va --log-level=error"
            LD_LIBRARY_PATH=.build/lib $d/backend $d/socket $eal -m 64 \
                --file-prefix=b$$ > $d/log 2>&1 &
            backend=$!
            for i in $(seq 600); do [ -S $d/socket ] && break; sleep 0.1; done
            \(lines)
            kill -TERM $backend
            for i in $(seq 300); do kill -0 $backend 2>/dev/null || break; sleep 0.1; done
            kill -9 $backend 2>/dev/null || true
            wait $backend
            cat $d/log
            """)
    }

    @Test(
        "Echoes on every queue pair whatever its guests send, and serves one after the other",
        .enabled(if: hasDPDK, "libdpdk-dev is not installed"))
    func echo() throws {
        let (code, text) = try Self.beside(
            """
            cc $flags Tests/CPrograms/echo_front_end.c -o $d/front_end -lrte_eal -lrte_ethdev \
                -lrte_mbuf -lrte_mempool -lrte_bus_vdev
            guest() { timeout 200 $d/front_end $d/socket $1 $2 $eal -m 256 --file-prefix=f$$; }
            guest 1 packed_vq=0,in_order=0
            guest 2 packed_vq=0,in_order=0
            guest 2 packed_vq=1,in_order=0
            guest 2 packed_vq=0,in_order=1
            guest 2 packed_vq=1,in_order=1
            """)
        #expect(code == 0, "\(text)")
        #expect(text.matches(of: /3200 packets came back intact on each of 1 pairs/).count == 1)
        #expect(text.matches(of: /3200 packets came back intact on each of 2 pairs/).count == 4)
        #expect(text.matches(of: /guest gone, 3200 packets echoed/).count == 1, "\(text)")
        #expect(text.matches(of: /guest gone, 6400 packets echoed/).count == 4, "\(text)")
        #expect(!text.contains("broke"))
    }

    /// Builds the smallest back end; it is `$d/echo`.
    private static let buildEcho = """
        set -e
        d=$(mktemp -d)
        backend=
        trap '[ -z "$backend" ] || kill -9 $backend 2>/dev/null || true; rm -rf $d' EXIT
        flags="-std=c11 -D_GNU_SOURCE -O2 -Wall -Wextra -Wpedantic -Werror"
        flags="$flags -ISources/CCleave/include"
        cc $flags Sources/Examples/C/vhost_echo.c -o $d/echo -L.build/lib -lcleave
        export LD_LIBRARY_PATH=.build/lib
        begin() { $d/echo $d/socket $1 > $d/log 2>&1 & backend=$!
            for i in $(seq 300); do grep -q listening $d/log && break; sleep 0.1; done; }
        end() { kill -TERM $backend
            for i in $(seq 300); do kill -0 $backend 2>/dev/null || break; sleep 0.1; done
            kill -9 $backend 2>/dev/null || true
            wait $backend; backend=; cat $d/log; }
        """

    @Test(
        "The smallest back end echoes whatever DPDK's guests send",
        .enabled(if: hasDPDK, "libdpdk-dev is not installed"))
    func smallestWithDPDK() throws {
        let (code, text) = try LibraryTests.run(
            Self.buildEcho + """

                eal="--no-huge --no-pci --no-telemetry --iova-mode=va --log-level=error"
                flags="-std=c11 -D_GNU_SOURCE -O2 $(pkg-config --cflags libdpdk)"
                cc $flags Tests/CPrograms/echo_front_end.c -o $d/front_end -lrte_eal -lrte_ethdev \
                    -lrte_mbuf -lrte_mempool -lrte_bus_vdev
                guest() { timeout 200 $d/front_end $d/socket $1 $2 $eal -m 256 --file-prefix=s$$; }
                begin 2
                guest 1 packed_vq=0,in_order=0
                guest 2 packed_vq=0,in_order=0
                guest 2 packed_vq=1,in_order=0
                guest 2 packed_vq=0,in_order=1
                guest 2 packed_vq=1,in_order=1
                end
                """)
        #expect(code == 0, "\(text)")
        #expect(text.matches(of: /3200 packets came back intact on each of 1 pairs/).count == 1)
        #expect(text.matches(of: /3200 packets came back intact on each of 2 pairs/).count == 4)
        #expect(text.matches(of: /guest gone, 3200 packets echoed, 0 lost/).count == 1, "\(text)")
        #expect(text.matches(of: /guest gone, 6400 packets echoed, 0 lost/).count == 4, "\(text)")
        #expect(!text.contains("broke"))
    }

    @Test(
        "The smallest back end sleeps until it is kicked, and outlives its guests",
        .enabled(if: LibraryTests.has("cc")), arguments: RingFormat.allCases)
    func smallest(ring: RingFormat) throws {
        let backEnd = try EchoProcess(Self.buildEcho)
        for round in 0..<3 {
            let guest = try VhostGuest(ring, pairs: 2, features: [.eventIndex])
            try guest.connect(backEnd.path)
            for number in 0..<20 {
                // It has gone to sleep before some of them.
                if number % 5 == 0 { usleep(20_000) }
                let sent = (0..<10).map {
                    TestFrames.udp4(TestFrames.payload(20 + 37 * ($0 + number), seed: round))
                }
                for pair in 0..<2 { #expect(guest.send(sent, on: pair) == 10) }
                let back = sent.map { Array($0[6..<12] + $0[0..<6]) + $0[12...] }
                for pair in 0..<2 {
                    #expect(guest.receive(atLeast: 10, on: pair) == back)
                }
            }
            #expect(guest.receivers.allSatisfy { $0.fault == .none })
            #expect(guest.senders.allSatisfy { $0.fault == .none })
            if round == 1 { guest.vanish() } else { _ = try guest.leave() }
        }
        let text = backEnd.end()
        #expect(text.matches(of: /guest gone, 400 packets echoed, 0 lost/).count == 3, "\(text)")
        #expect(!text.contains("broke"), "\(text)")
    }

    @Test(
        "Offers what is served alone, and follows a front end that changes its mind",
        .enabled(if: hasDPDK, "libdpdk-dev is not installed"), arguments: [0, 1])
    func changes(packed: Int) throws {
        let (code, text) = try Self.beside(
            """
            cc $flags Tests/CPrograms/raw_front_end.c -o $d/front_end
            for case in \(Self.cases.joined(separator: " ")); do
                timeout 200 $d/front_end $d/socket \(packed) $case || echo "$case: bad"
            done
            """)
        #expect(code == 0, "\(text)")
        for name in Self.cases {
            #expect(text.contains("\(name): good"), "\(text)")
        }
        #expect(!text.contains("broke"))
    }
}

/// `vhost_echo.c`, built and running with two pairs.
private final class EchoProcess {
    private let shell = Process()
    private let input = Pipe()
    private let output = Pipe()
    let path: String

    struct Problem: Error, CustomStringConvertible { let description: String }

    /// - Parameter build: lines that build it and define `begin` and `end`.
    init(_ build: String) throws {
        shell.executableURL = URL(fileURLWithPath: "/bin/bash")
        // It ends with this process: then nobody writes to its input any more.
        shell.arguments = ["-c", build + "\nbegin 2\necho at $d/socket\nread line || true\nend\n"]
        shell.currentDirectoryURL = LibraryTests.root
        shell.standardInput = input
        shell.standardOutput = output
        shell.standardError = output
        try shell.run()
        var text = ""
        while !text.hasSuffix("/socket\n") {
            let data = output.fileHandleForReading.availableData
            if data.isEmpty { throw Problem(description: text) }
            text += String(decoding: data, as: UTF8.self)
        }
        guard let line = text.split(separator: "\n").last, line.hasPrefix("at ") else {
            throw Problem(description: text)
        }
        path = String(line.dropFirst(3))
    }

    deinit { if shell.isRunning { _ = end() } }

    /// Ends it.
    /// - Returns: what it has printed.
    func end() -> String {
        try? input.fileHandleForWriting.close()
        let data = (try? output.fileHandleForReading.readToEnd()) ?? Data()
        shell.waitUntilExit()
        return String(decoding: data, as: UTF8.self)
    }
}

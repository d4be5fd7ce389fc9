// The example backend on DPDK, as a process of its own: with DPDK's virtio-user as its guest, and
// with our own front end, which sends requests that virtio-user does not.
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

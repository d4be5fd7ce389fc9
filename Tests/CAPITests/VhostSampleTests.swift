// The sample backend on DPDK, as a process of its own, with DPDK's virtio-user as its guest.
import Foundation
import Testing

@Suite("Sample vhost backend")
struct VhostSampleTests {
    static let hasDPDK =
        (try? LibraryTests.run("command -v cc && pkg-config --exists libdpdk").code == 0) ?? false

    @Test(
        "Echoes whatever its guests send, over both rings, and serves one guest after the other",
        .enabled(if: hasDPDK, "libdpdk-dev is not installed"))
    func echo() throws {
        let (code, text) = try LibraryTests.run(
            """
            set -e
            d=$(mktemp -d)
            trap 'kill -9 $backend 2>/dev/null || true; rm -rf $d' EXIT
            flags="-std=c11 -D_GNU_SOURCE -O2 -Wall -Wextra -Werror -ISources/CCleave/include"
            flags="$flags $(pkg-config --cflags libdpdk)"
            cc $flags Tests/Samples/vhost_backend.c -o $d/backend -L.build/lib -lcleave \
                -lrte_eal -lrte_vhost
            cc $flags Tests/CPrograms/echo_front_end.c -o $d/front_end -lrte_eal -lrte_ethdev \
                -lrte_mbuf -lrte_mempool -lrte_bus_vdev
            eal="--no-huge --no-pci --no-telemetry --iova-mode=va --log-level=error"
            LD_LIBRARY_PATH=.build/lib $d/backend $d/socket $eal -m 64 \
                --file-prefix=b$$ > $d/log 2>&1 &
            backend=$!
            for i in $(seq 600); do [ -S $d/socket ] && break; sleep 0.1; done
            for packed in 0 1 0; do
                timeout 100 $d/front_end $d/socket $packed $eal -m 256 --file-prefix=f$$
            done
            kill -TERM $backend
            for i in $(seq 300); do kill -0 $backend 2>/dev/null || break; sleep 0.1; done
            kill -9 $backend 2>/dev/null || true
            wait $backend
            cat $d/log
            """)
        #expect(code == 0, "\(text)")
        #expect(text.matches(of: /3200 packets came back intact/).count == 3, "\(text)")
        #expect(text.matches(of: /guest gone, 3200 packets echoed/).count == 3, "\(text)")
        #expect(!text.contains("broke"))
    }
}

import CleavePorts
import Testing

@testable import cleave_vhost

@Suite("Command lines of peers")
struct PeerArgumentsTests {
    private func port(
        _ change: (inout VhostUserPortConfiguration) -> Void = { _ in }
    ) -> VhostUserPortConfiguration {
        var port = VhostUserPortConfiguration(name: "left", path: "/tmp/a.sock")
        change(&port)
        return port
    }

    @Test("QEMU connects to a port that listens, and listens for one that connects")
    func qemu() {
        let plain = PeerArguments.qemu(port(), memory: "1G")
        #expect(plain.contains("memory-backend-memfd,id=mem0,size=1G,share=on"))
        #expect(plain.contains("-chardev socket,id=char0,path=/tmp/a.sock,reconnect=1"))
        #expect(plain.hasSuffix("-device virtio-net-pci,netdev=net0"))
        let rich = PeerArguments.qemu(
            port {
                $0.mode = .client
                $0.queuePairs = 2
                $0.mac = [2, 0, 0, 0, 0, 0x1f]
                $0.mtu = 9000
            }, memory: "1G")
        #expect(rich.contains("path=/tmp/a.sock,server=on,wait=off"))
        #expect(rich.contains("-netdev vhost-user,id=net0,chardev=char0,queues=2"))
        #expect(rich.contains("mac=02:00:00:00:00:1f,mq=on,vectors=6,host_mtu=9000"))
    }

    @Test("QEMU's device for a header queue passes all features and rings")
    func headerQueue() {
        let text = PeerArguments.qemu(
            port {
                $0.queuePairs = 2
                $0.headerQueue = true
            }, memory: "1G")
        #expect(text.contains("-chardev socket,id=char0,path=/tmp/a.sock,reconnect=1"))
        #expect(text.contains("vhost-user-test-device-pci,chardev=char0,virtio-id=1"))
        #expect(text.contains(",num_vqs=6,") && !text.contains("netdev"))
    }

    @Test("testpmd has as many queues as the port")
    func testpmd() {
        let text = PeerArguments.testpmd(
            port {
                $0.queuePairs = 2
                $0.mode = .client
            })
        #expect(text.contains("net_virtio_user0,path=/tmp/a.sock,queues=2,cq=1,server=1"))
        #expect(text.contains("--rxq=2 --txq=2"))
    }
}

import CleaveHost
import CleavePorts
import CleaveProgramSupport
import Testing

@testable import cleave_vhost

@Suite("Keys of a port")
struct PortSettingTests {
    private func port(_ text: String, directory: String = "") throws -> VhostUserPortConfiguration {
        let port = try PortSetting(parsing: text).port(number: 3, directory: directory)
        return try #require(port as? VhostUserPort).settings
    }

    @Test("All keys of a vhost-user port")
    func vhostUser() throws {
        let all = try port(
            "type=vhost-user,path=a.sock,name=left,mode=client,queues=4,mtu=9000,"
                + "mac=52:54:00:AB:cd:01,features-off=packed+csum,node=0,header-queue=on,"
                + "split-method=d,split-threshold=256,slot-count=1k,slot-size=256,rate-limit=1G")
        #expect(all.name == "left")
        #expect(all.path == "a.sock")
        #expect(all.mode == .client)
        #expect(all.queuePairs == 4)
        #expect(all.mtu == 9000)
        #expect(all.mac == [0x52, 0x54, 0, 0xab, 0xcd, 1])
        #expect(all.featuresOff == 1 << 34 | 1)
        #expect(all.node == 0)
        #expect(all.headerQueue && all.splitMethod == .d && all.splitThreshold == 256)
        #expect(all.slotCountLimit == 1024 && all.slotSizeLimit == 256)
        let least = try port("type=vhost-user,path=/a.sock")
        #expect(least.name == "port3")
        #expect(least.mode == .server)
        #expect(least.queuePairs == 1)
        #expect(!least.headerQueue)
        #expect(try !port("type=vhost-user,path=a,header-queue=off").headerQueue)
        #expect(least.mtu == nil && least.mac == nil && least.featuresOff == 0)
        #expect(
            try port("type=vhost-user,path=a,features-off=0x400000001").featuresOff == 1 << 34 | 1)
    }

    @Test("All keys of a generator, and what check-config says of it")
    func generator() throws {
        let made = try PortSetting(
            parsing: "type=generator,name=g,traffic=imix/udp6,rate=10k,flows=8,count=100,queues=2,"
                + "from=02:00:00:00:00:aa,to=52:54:00:00:00:01,node=0"
        ).port(number: 0, directory: "")
        let port = try #require(made as? GeneratorPort)
        var expected = GeneratorPortConfiguration(name: "g")
        expected.traffic = "imix/udp6"
        expected.packetsPerSecond = 10_000
        expected.flows = 8
        expected.count = 100
        expected.queues = 2
        expected.source = [2, 0, 0, 0, 0, 0xaa]
        expected.destination = [0x52, 0x54, 0, 0, 0, 1]
        expected.node = 0
        #expect(port.configuration == expected)
        #expect(port.queues.count == 2)
        #expect(
            port.summary == "traffic imix/udp6, 8 flows, 10000 packets per second, 100 packets")
        let least = try PortSetting(parsing: "type=generator").port(number: 3, directory: "")
        #expect(least.name == "port3")
        #expect(
            (least as? GeneratorPort)?.summary == "traffic 64, 1 flow, unlimited rate")
    }

    @Test("Paths in a file are relative to it, paths of the command line are not")
    func paths() throws {
        #expect(
            try port("type=vhost-user,path=a.sock", directory: "configs").path == "configs/a.sock")
        #expect(try port("type=vhost-user,path=/run/a", directory: "configs").path == "/run/a")
        var setting = try PortSetting(parsing: "type=vhost-user,path=a.sock")
        setting.isOfCommandLine = true
        let made = try setting.port(number: 0, directory: "configs") as? VhostUserPort
        #expect(made?.settings.path == "a.sock")
    }

    @Test(
        "Mistakes are named, with what was expected",
        arguments: [
            ("", "\"\" is not KEY=VALUE"),
            ("path=a", "no type; it is one of vhost-user, tap, af-packet, pcap, generator"),
            ("type=vhost-user", "no path; where is the socket? (path=FILE)"),
            ("type=vhost-usr,path=a", "did you mean vhost-user?"),
            ("type=vhost-user,pth=a", "unknown key \"pth\"; did you mean path?"),
            ("type=vhost-user,path=a,interface=b", "unknown key \"interface\""),
            ("type=vhost-user,path=a,path=b", "path is given twice"),
            ("type=vhost-user,path=a,mode=srv", "\"srv\" is not one of server, client"),
            ("type=vhost-user,path=a,queues=0", "0 queue pairs: need 1 to 128"),
            ("type=vhost-user,path=a,queues=129", "129 queue pairs: need 1 to 128"),
            ("type=vhost-user,path=a,queues=two", "queues: \"two\" is not a whole number"),
            ("type=vhost-user,path=a,queues=-1", "queues: -1 is negative"),
            ("type=vhost-user,path=a,mtu=67", "mtu: 67 bytes: need 68 to 65535"),
            ("type=vhost-user,path=a,header-queue=1", "\"1\" is not one of on, off"),
            (
                "type=vhost-user,path=a,header-queue=on,queues=128",
                "128 queue pairs and a header queue: need 1 to 127"
            ),
            ("type=vhost-user,path=a,mac=52:54", "\"52:54\" is not an address such as"),
            ("type=vhost-user,path=a,mac=01:00:5e:00:00:01", "the MAC is not the address of one"),
            ("type=vhost-user,path=a,features-off=packd", "did you mean packed?"),
            ("type=vhost-user,path=a,name=", "name: need 1 to 60 visible letters"),
            ("type=generator,name=-w", "name: \"-w\" begins with a dash"),
            ("type=generator,name=--json", "name: \"--json\" begins with a dash"),
            ("type=generator,name=-", "name: \"-\" begins with a dash"),
            ("type=vhost-user,path=", "socket path of 0 bytes"),
            ("type=tap", "no interface (interface=NAME, made if it does not exist)"),
            ("type=af-packet", "no interface (interface=NAME)"),
            ("type=pcap", "no file (in=FILE to play, out=FILE to write)"),
            ("type=vhost-user,=a", "\"=a\" is not KEY=VALUE"),
            ("type=generator,traffic=59", "frame size 59 is not within 60...65535"),
            ("type=generator,traffic=64/tcp5", "\"tcp5\" is not a header kind"),
            ("type=generator,rate=0", "0 packets per second: need 1 to 1000000000"),
            ("type=generator,flows=0", "0 flows: need 1 to 65536"),
            ("type=generator,count=0", "count: 0 packets: need 1 to 1099511627776"),
            ("type=generator,queues=2", "queues 2, flows 1: each queue needs a flow"),
            ("type=generator,queues=257,flows=300", "257 queues: need 1 to 256"),
            ("type=generator,from=01:00:00:00:00:01", "the source is not the address of one"),
            ("type=generator,to=1", "to: \"1\" is not an address such as"),
            ("type=generator,loop=1", "unknown key \"loop\""),
            ("type=tap,interface=t,rate-limit=1", "rate-limit: 1 bits per second: need 1000 to"),
            ("type=tap,interface=t,packet-limit=0", "packet-limit: 0 packets per second: need 1"),
            ("type=vhost-user,path=a,split-method=c", "\"c\" is not one of whole, d"),
            ("type=vhost-user,path=a,split-threshold=1", "split method whole splits nothing"),
            ("type=vhost-user,path=a,slot-count=8", "only split method d has slots"),
            ("type=vhost-user,path=a,split-method=d,slot-count=9", "at most 9 slots: need a power"),
            (
                "type=vhost-user,path=a,header-queue=on,split-method=whole",
                "header-queue on and split-method whole: a header queue is split method d"
            ),
        ])
    func mistakes(_ text: String, _ expected: String) {
        do {
            _ = try PortSetting(parsing: text).port(number: 0, directory: "")
            Issue.record("accepted: \(text)")
        } catch {
            #expect(error.description.contains(expected), "\(error)")
            #expect(error.exitCode == 2)
        }
    }

    @Test("Every feature that can be switched off is one that is offered, and has one name")
    func features() throws {
        let bits = Array(FeatureNames.bits.values)
        #expect(Set(bits).count == bits.count)
        var port = VhostUserPortConfiguration(name: "a", path: "a")
        port.queuePairs = 2
        port.mtu = 1500
        port.mac = [2, 0, 0, 0, 0, 1]
        port.featuresOff = 0
        let offered = try #require(try? VhostUserPort(port)).offeredFeatures
        for (name, bit) in FeatureNames.bits {
            #expect(offered >> bit & 1 == 1, "\(name) is not offered")
            port.featuresOff = 1 << bit
            let less = try VhostUserPort(port).offeredFeatures
            #expect(less == offered & ~(1 << bit))
        }
    }

    @Test("A header queue is offered with what it needs, and not without")
    func headerQueue() throws {
        var port = VhostUserPortConfiguration(name: "a", path: "a")
        let plain = try VhostUserPort(port).offeredFeatures
        port.headerQueue = true
        // The control queue comes with it.
        let offered = plain | 1 << 58 | 1 << 17
        #expect(try VhostUserPort(port).offeredFeatures == offered)
        for bit in [15, 17, 32] as [UInt64] {
            port.featuresOff = 1 << bit
            let less = offered & ~(1 << 58 | 1 << bit)
            #expect(try VhostUserPort(port).offeredFeatures == less)
        }
        port.featuresOff = 1 << 58
        #expect(try VhostUserPort(port).offeredFeatures == plain | 1 << 17)
        port.featuresOff = 0
        port.queuePairs = 127
        #expect(try VhostUserPort(port).offeredFeatures == offered | 1 << 22)
    }
}

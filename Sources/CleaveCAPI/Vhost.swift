// swift-format-ignore-file: AlwaysUseLowerCamelCase
// Functions have the names that the C header gives them.
//
// A network device at a vhost-user socket. What it is made of is in VhostDevice.swift.

import CCleave
import CleaveHost
import CleaveVhostUser
import CleaveVirtioNet
import Glibc

/// A `cleave_vhost_config`, checked and translated.
struct VhostPlan {
    typealias Callback =
        @convention(c) (UnsafeMutableRawPointer?, UnsafePointer<cleave_vhost_event>?) -> Void

    let offer: NetOffer
    /// What the log calls it.
    let name: String
    let burst: Int
    /// NUMA node for private memory of queues.
    let node: Int?
    let shortage: BufferShortage
    let user: UnsafeMutableRawPointer?
    let event: Callback
    private let path: String
    private let listens: Bool
    /// The program's; -1: the endpoint is at a path.
    let socket: Int32

    private static let knownFlags =
        CLEAVE_VHOST_CLIENT.rawValue | CLEAVE_VHOST_SOCKET_FD.rawValue | CLEAVE_VHOST_MAC.rawValue
        | CLEAVE_VHOST_NODE.rawValue | CLEAVE_VHOST_DROP.rawValue

    init(_ config: cleave_vhost_config) throws(Refusal) {
        guard config.flags & ~Self.knownFlags == 0 else {
            throw .invalid("config->flags 0x\(String(config.flags, radix: 16)) has unknown bits")
        }
        let reserved = config.reserved
        guard withUnsafeBytes(of: reserved, { $0.allSatisfy { $0 == 0 } }) else {
            throw .invalid("config->reserved is not 0")
        }
        func has(_ flag: cleave_vhost_flags) -> Bool { config.flags & flag.rawValue != 0 }
        guard let event = config.event else { throw .null("config->event") }
        self.event = event
        user = config.user
        if has(CLEAVE_VHOST_SOCKET_FD) {
            guard config.path == nil else {
                throw .invalid("config has both path and socket_fd")
            }
            guard config.socket_fd >= 0 else {
                throw .invalid("config->socket_fd is \(config.socket_fd)")
            }
            guard !has(CLEAVE_VHOST_CLIENT) else {
                throw .invalid("config->flags has CLIENT, but socket_fd is connected already")
            }
            (path, socket) = ("", config.socket_fd)
            name = "vhost at descriptor \(config.socket_fd)"
        } else {
            (path, socket) = (try Self.path(config.path), -1)
            name = "vhost \(path)"
        }
        listens = !has(CLEAVE_VHOST_CLIENT)
        burst = config.burst == 0 ? 32 : Int(config.burst)
        guard (1...RxQueue.maximumBurst).contains(burst) else {
            throw .invalid("config->burst \(burst) is not between 1 and \(RxQueue.maximumBurst)")
        }
        node = has(CLEAVE_VHOST_NODE) ? try Self.node(config.node) : nil
        shortage = has(CLEAVE_VHOST_DROP) ? .drop : .wait
        offer = try Self.offer(config, hasMAC: has(CLEAVE_VHOST_MAC))
    }

    /// A path of a socket, which has room for 107 bytes.
    private static func path(_ path: UnsafePointer<CChar>?) throws(Refusal) -> String {
        guard let path else { throw .null("config->path") }
        let byteCount = strnlen(path, 108)
        guard (1...107).contains(byteCount) else {
            throw .invalid(
                "config->path has \(byteCount > 107 ? "more than 107" : "0") bytes: need 1 to 107")
        }
        let bytes = UnsafeRawBufferPointer(start: path, count: byteCount)
        guard let text = String(validating: bytes, as: UTF8.self) else {
            throw .invalid("config->path is not UTF-8")
        }
        return text
    }

    private static func node(_ node: Int32) throws(Refusal) -> Int {
        do { try NUMATopology.current().validate(node: Int(node)) } catch {
            throw .invalid("config->node: \(error)")
        }
        return Int(node)
    }

    private static func offer(
        _ config: cleave_vhost_config, hasMAC: Bool
    ) throws(Refusal) -> NetOffer {
        var offer = NetOffer()
        offer.queuePairs = config.queue_pairs == 0 ? 1 : Int(config.queue_pairs)
        offer.mtu = config.mtu == 0 ? nil : Int(config.mtu)
        if hasMAC {
            let mac = config.mac
            offer.mac = withUnsafeBytes(of: mac) { Array($0) }
        }
        let others = config.offloads & ~NetOffer.offloads.rawValue
        guard others == 0 else {
            throw .invalid(
                "config->offloads has bit \(others.trailingZeroBitCount), which is no offload")
        }
        let left = NetOffer.offloads.subtracting(VirtioFeatures(rawValue: config.offloads))
        offer.queueFeatures.subtract(left)
        offer.featuresOff = config.features_off
        do { try offer.check() } catch { throw .invalid("config: \(error)") }
        return offer
    }

    /// The socket: opened, so that front ends can come.
    func open() throws(Refusal) -> SocketEndpoint {
        do throws(SetupError) {
            let endpoint =
                socket >= 0
                ? try Self.connected(socket)
                : SocketEndpoint(
                    path: path, owner: "another device", listens: listens)
            try endpoint.open()
            return endpoint
        } catch { throw Refusal(error, "config: ") }
    }

    /// One connection, over a duplicate: the descriptor is the program's if nothing comes of it.
    private static func connected(_ socket: Int32) throws(SetupError) -> SocketEndpoint {
        let own = fcntl(socket, F_DUPFD_CLOEXEC, 3)
        guard own >= 0 else {
            let code = errno
            throw SetupError("socket_fd \(socket): " + HostError.words(of: code), code: code)
        }
        do throws(SetupError) { return try SocketEndpoint(connected: own) } catch {
            close(own)
            throw SetupError("socket_fd \(socket) is no connected unix stream socket")
        }
    }
}

@c @implementation
public func cleave_vhost_create(
    _ context: OpaquePointer!, _ config: UnsafePointer<cleave_vhost_config>!,
    _ vhost: UnsafeMutablePointer<OpaquePointer?>!
) -> Int32 {
    var socket: Int32 = -1
    let result = create(
        under: context, as: ContextObject.self, config, zero: cleave_vhost_config(),
        to: vhost, named: "vhost"
    ) { parent, configuration throws(Refusal) in
        let plan = try VhostPlan(configuration)
        socket = plan.socket
        return try VhostObject(parent, plan)
    }
    if result == 0 && socket >= 0 { close(socket) }
    return result
}

@c @implementation
public func cleave_vhost_get_fd(_ vhost: OpaquePointer!) -> Int32 {
    control(vhost, as: VhostObject.self) { object throws(Refusal) in object.waitDescriptor }
}

@c @implementation
public func cleave_vhost_poll(_ vhost: OpaquePointer!) -> Int32 {
    cleave_call_begin()
    defer { cleave_call_end() }
    return exclusive(vhost, as: VhostObject.self) { object throws(Refusal) in try object.poll() }
}

@c @implementation
public func cleave_vhost_destroy(_ vhost: OpaquePointer!) -> Int32 {
    cleave_call_begin()
    defer { cleave_call_end() }
    var deadline = Deadline(nanoseconds: HandleTable.patience)
    var result: Int32
    repeat {
        result = exclusive(vhost, as: VhostObject.self) { object throws(Refusal) in
            object.close()
            return 0
        }
    } while result == Refusal.busy && deadline.wait()
    if result < 0 { return result }
    return destroy(vhost, as: VhostObject.self)
}

@c @implementation
public func cleave_vhost_get_status(
    _ vhost: OpaquePointer!, _ status: UnsafeMutablePointer<cleave_vhost_status>!
) -> Int32 {
    exclusive(vhost, as: VhostObject.self) { object throws(Refusal) in
        try writeSized(object.status, to: status, "status")
        return 0
    }
}

@c @implementation
public func cleave_vhost_describe(
    _ vhost: OpaquePointer!, _ text: UnsafeMutablePointer<CChar>!, _ size: Int
) -> Int32 {
    exclusive(vhost, as: VhostObject.self) { object throws(Refusal) in
        guard text != nil || size == 0 else { throw .null("text") }
        return copy(object.description, to: text, size)
    }
}

import CCleaveTestSupport
import Glibc

/// A network of a test's own: no interface of the machine is in it, and none of its interfaces
/// outlives it. It takes root, the kernel's namespaces, /dev/net/tun and iproute2.
public enum PrivateNetwork {
    /// A command that failed, or the kernel's refusal.
    public struct Failure: Error, CustomStringConvertible {
        public let description: String

        public init(description: String) { self.description = description }
    }

    /// Why there can be none here; nil if there can.
    public static let obstacle: String? = {
        if access("/dev/net/tun", R_OK | W_OK) != 0 { return "/dev/net/tun cannot be opened" }
        do {
            try run(["ip tuntap add dev probe0 mode tap"]) {}
            return nil
        } catch { return "\(error)" }
    }()

    /// Runs `body` on this thread in a fresh network, after shell commands that set it up. New
    /// interfaces have no IPv6, so that nothing is sent of itself.
    public static func run<Result>(
        _ commands: [String], _ body: () throws -> Result
    ) throws -> Result {
        let before = cleave_test_enter_network()
        guard before >= 0 else {
            throw Failure(description: "no network of its own: errno \(-before)")
        }
        defer { precondition(cleave_test_leave_network(before) == 0, "the network is lost") }
        // The files of the thread that reads them.
        let quiet = "echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6 2>/dev/null || true"
        for command in [quiet] + commands { try shell(command) }
        return try body()
    }

    /// Runs a command in this thread's network.
    public static func shell(_ command: String) throws {
        let status = cleave_test_shell(command)
        if status != 0 { throw Failure(description: "\(command): status \(status)") }
    }

    /// Runs `body` without the rights that networks take (CAP_NET_ADMIN, CAP_NET_RAW).
    public static func withoutRights<Result>(_ body: () throws -> Result) throws -> Result {
        let refusal = cleave_test_allow_network(0)
        if refusal != 0 { throw Failure(description: "capabilities: errno \(-refusal)") }
        defer { precondition(cleave_test_allow_network(1) == 0, "the rights are lost") }
        return try body()
    }

    /// A descriptor that sees all that passes at `interface`, and sends there: 10 bytes of
    /// virtio-net header, then the frame.
    public static func observe(_ interface: String) throws -> Int32 {
        let descriptor = cleave_test_observe(interface)
        if descriptor < 0 { throw Failure(description: "\(interface): errno \(-descriptor)") }
        return descriptor
    }
}

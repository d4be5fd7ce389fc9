import CleaveProgramSupport
import Foundation

/// Two network namespaces, joined by two TAP ports of cleave-vhost. The switch runs in the first,
/// which is the receiver's. Nothing of it is seen in the namespace of this program, and all of it
/// is gone when the last process in it has ended.
struct TapNetwork {
    /// What a command has to begin with to run at that end.
    let receiver: [String]
    let sender: [String]
    /// Of the receiver.
    static let address = "10.77.0.1"
    private static let senderAddress = "10.77.0.2"

    /// Bytes of a segment before its payload: 20 of IPv4, 20 of TCP, 12 of TCP's time stamps.
    static let headerByteCount = 52
    /// The kernel's TAP devices take an MTU of 65521 at most, and TCP a segment of 88 at least.
    static let segmentByteCounts = 88...(65_521 - headerByteCount)

    /// Holds the sender's namespace, and is ended by the end of its input.
    private let holder: ChildProcess
    private let vhost: ChildProcess

    /// - Parameters:
    ///   - program: cleave-vhost.
    ///   - segmentByteCount: payload of each TCP segment.
    init(program: String, segmentByteCount: Int) throws(Failure) {
        try Self.checkMachine()
        // Without root's rights a user namespace of its own gives them over those networks alone.
        let isRoot = geteuid() == 0
        let asRoot = isRoot ? [] : ["--map-root-user"]
        vhost = try ChildProcess(
            ["unshare"] + asRoot + ["--net"] + Self.endsWith(parent: getpid()) + [program]
                + ["a", "b"].flatMap { ["--port", "type=tap,interface=\($0),name=\($0)"] },
            name: "cleave-vhost in a network namespace")
        do { try vhost.waitForLine("ready", within: 20) } catch {
            throw vhost.lastWords.hasPrefix("unshare:") ? Self.forbidden(vhost.lastWords) : error
        }
        func inside(_ process: ChildProcess) -> [String] {
            ["nsenter", "--target", "\(process.processID)"]
                + (isRoot ? [] : ["--user", "--preserve-credentials"]) + ["--net"]
        }
        receiver = inside(vhost)
        holder = try ChildProcess(
            receiver + ["unshare", "--net", "cat"], name: "the sender's network namespace")
        // `cat` repeats it once it is in its namespace.
        holder.write("here\n")
        try holder.waitForLine("here", within: 20)
        sender = inside(holder)
        let mtu = ["mtu", "\(segmentByteCount + Self.headerByteCount)"]
        let settings = [
            receiver + ["ip", "link", "set", "dev", "b", "netns", "\(holder.processID)"],
            receiver + ["ip", "link", "set", "dev", "a"] + mtu + ["up"],
            receiver + ["ip", "address", "add", "\(Self.address)/24", "dev", "a"],
            // The sender cuts its segments itself: larger frames are copied on their way.
            sender + ["ip", "link", "set", "dev", "b", "gso_max_segs", "1"],
            sender + ["ip", "link", "set", "dev", "b"] + mtu + ["up"],
            sender + ["ip", "address", "add", "\(Self.senderAddress)/24", "dev", "b"],
        ]
        for setting in settings {
            try ChildProcess.run(setting, name: setting.drop { $0 != "ip" }.joined(separator: " "))
        }
    }

    /// What a command begins with that is to end when `parent`, which starts it, has ended. If that
    /// was before the kernel was asked for the signal, another process is its parent by now.
    static func endsWith(parent: Int32) -> [String] {
        [
            "setpriv", "--pdeathsig", "TERM", "sh", "-c",
            "[ \"$PPID\" = \"$0\" ] && exec \"$@\"", "\(parent)",
        ]
    }

    private static func forbidden(_ words: String) -> Failure {
        .run(
            "network namespaces may not be made here (\(words)): run it as root, or allow them to "
                + "users (sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone)")
    }

    /// Names what is missing, and how to get it.
    private static func checkMachine() throws(Failure) {
        if access("/dev/net/tun", R_OK | W_OK) != 0 {
            throw .run(
                "/dev/net/tun: \(systemWords(errno)): load the kernel module tun (modprobe tun), "
                    + "or give the container the device")
        }
        let folders = (ProcessInfo.processInfo.environment["PATH"] ?? "").split(separator: ":")
        for (tool, package) in [
            ("ip", "iproute2"), ("unshare", "util-linux"), ("nsenter", "util-linux"),
            ("setpriv", "util-linux"),
        ] where !folders.contains(where: { access("\($0)/\(tool)", X_OK) == 0 }) {
            throw .run("there is no \(tool): install the package \(package)")
        }
    }
}

import CleaveHost
import Glibc

/// Why there are no packets to replay: one clear line.
public enum PacketInputError: Error, Equatable, CustomStringConvertible {
    /// The capture cannot be read.
    case capture(CaptureError)
    /// The text is no traffic profile.
    case profile(TrafficProfileError)
    /// The memory is not available.
    case memory(HostError)
    /// The request makes no sense.
    case request(String)

    public var description: String {
        switch self {
        case .capture(let error): error.description
        case .profile(let error): error.description
        case .memory(let error): error.description
        case .request(let problem): problem
        }
    }
}

/// The packets that a run replays, as its option names them.
public enum PacketInput: Equatable, Sendable {
    /// The path of a capture file.
    case capture(String)
    case profile(TrafficProfile)

    /// Parses `spec`: a name that ends in .pcap, .pcapng or .cap is a capture; then a traffic
    /// profile is tried, then the name of a file that exists.
    public init(_ spec: String) throws(PacketInputError) {
        let suffixes = [".pcap", ".pcapng", ".cap"]
        if suffixes.contains(where: spec.lowercased().hasSuffix) {
            self = .capture(spec)
            return
        }
        do throws(TrafficProfileError) {
            self = .profile(try TrafficProfile.parse(spec))
        } catch {
            guard PathText.withBytes(spec, { access($0, F_OK) }) != 0 else {
                self = .capture(spec)
                return
            }
            throw .profile(
                TrafficProfileError(
                    text: spec, problem: error.problem + ", and there is no such file"))
        }
    }
}

extension PacketPool {
    /// Most bytes of generated packets, as of a capture file.
    public static let maximumGeneratedByteCount = CaptureFile.maximumByteCount

    /// Loads what `spec` names (see `PacketInput`) into memory of `node`.
    ///
    /// A capture is loaded whole, once, in file order: `count`, `flows` and `seed` are for
    /// profiles. Packets that the capture cut short are loaded as captured and counted in
    /// `truncatedCount`; packets without bytes are left out and counted in `emptyCount`. A file
    /// that ends inside a packet gives those before it, and says so in `cut`.
    /// - Parameters:
    ///   - spec: a traffic profile, such as `64` or `imix`, or the path of a capture.
    ///   - count: packets to generate, at least 1; all together at most
    ///     `maximumGeneratedByteCount`.
    ///   - flows: flows among them, at least 1.
    ///   - node: NUMA node, nil for any.
    ///   - seed: the same seed gives the same packets.
    public static func load(
        _ spec: String, count: Int, flows: Int, node: Int? = nil, seed: UInt64 = 1
    ) throws(PacketInputError) -> PacketPool {
        switch try PacketInput(spec) {
        case .capture(let path):
            let file: CaptureFile
            do { file = try CaptureFile.read(path: path) } catch { throw .capture(error) }
            guard !file.packets.isEmpty else {
                throw .capture(
                    file.cut ?? CaptureError(file: path, problem: "the capture holds no packets"))
            }
            return try PacketPool(
                name: path, packets: file.packets.map(\.bytes),
                truncatedCount: file.truncatedCount, cut: file.cut, node: node)
        case .profile(let profile):
            guard count >= 1 else {
                throw .request("packet count must be at least 1, is \(count)")
            }
            guard flows >= 1 else {
                throw .request("flow count must be at least 1, is \(flows)")
            }
            let largest = profile.byteCounts.max() ?? 0
            guard count <= maximumGeneratedByteCount / largest else {
                throw .request(
                    "\(count) packets of \(profile.name) are more than the limit of "
                        + "\(maximumGeneratedByteCount) bytes")
            }
            return try PacketPool(
                name: profile.name,
                packets: profile.packets(count: count, flows: flows, seed: seed), node: node)
        }
    }
}

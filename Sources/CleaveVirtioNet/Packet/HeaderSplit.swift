// control path

// The parser's answer, as two plain values: how many bytes of headers a frame opens with, or why
// it has to stay whole. "Not splittable" is a normal answer, never an error. `cleave-bench inspect`
// prints each reason by its name; a queue counts all of them together, as
// `FallbackReason.notSplittable`.

/// Why a frame is delivered whole, or `none` when its headers can be placed apart.
@frozen
public enum NoSplitReason: UInt8, CaseIterable, BitwiseCopyable, Sendable {
    /// The frame can be split.
    case none
    /// The frame ends inside its headers, or is shorter than an Ethernet header.
    case truncated
    /// The headers pass the window that was gathered from a frame in several segments.
    case headersTooLong
    /// More than two VLAN tags.
    case tooManyTags
    /// Neither IPv4 nor IPv6: ARP, LLDP, 802.3 with LLC, and whatever else.
    case notIP
    /// IPv4 with a wrong version, a header below 20 bytes, or a total length that passes the frame
    /// or ends inside the headers. 0 does, which a capture has where a sender leaves segmentation
    /// to its card; the payload length of IPv6, 0 there as well, is not looked at.
    case badIPv4
    /// A fragment of IPv4 or IPv6, or any IPv6 packet with a fragment header.
    case fragment
    /// IPv6 with a wrong version.
    case badIPv6
    /// An IPv6 extension header that is not walked (AH, ESP, mobility...), hop-by-hop options that
    /// do not come first, or "no next header".
    case unknownExtension
    /// More than eight IPv6 extension headers.
    case tooManyExtensions
    /// IP, but neither TCP nor UDP: ICMP, SCTP, GRE, IP in IP...
    case notTransport
    /// A TCP data offset below five words.
    case badTCP

    /// The reason as reports spell it.
    public var name: String { String(describing: self) }
}

/// The split point of a frame.
///
/// Invariant: `byteCount > 0` exactly when `reason == .none`, and `byteCount` never passes the
/// frame.
@frozen
public struct HeaderSplit: BitwiseCopyable, Sendable, Equatable {
    /// Bytes from the first of the Ethernet header to the last of the TCP or UDP header, options
    /// included; 0 when the frame is not splittable. May equal the frame (no payload).
    public var byteCount: UInt16
    /// `.none` when the frame is splittable.
    public var reason: NoSplitReason

    /// A frame whose headers take `byteCount` bytes.
    @inlinable
    public init(byteCount: UInt16) {
        self.byteCount = byteCount
        self.reason = .none
    }

    /// A frame that stays whole.
    /// - Parameter reason: anything but `.none`.
    @inlinable
    public init(notSplit reason: NoSplitReason) {
        self.byteCount = 0
        self.reason = reason
    }

    /// Whether headers and payload can be placed apart.
    @inlinable
    public var isSplittable: Bool { byteCount != 0 }
}

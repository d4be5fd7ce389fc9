/// Why a request was refused: nothing was changed by it, and its descriptors were closed. The names
/// are those under which refusals are counted.
enum Refusal: String, CaseIterable {
    /// The payload has not the size of the request's structure.
    case size
    /// Another version, a reply, or flags that mean nothing.
    case flags
    /// A number without a meaning.
    case unknown
    /// A feature that was not negotiated.
    case feature
    /// Features that were not offered, or that change while a ring is in use.
    case features
    /// Not the descriptors that belong to it.
    case fds
    /// A descriptor that cannot be used for that.
    case fdType
    /// A ring that does not exist.
    case index
    /// A size that no ring has.
    case qsize
    /// It would change a ring in use.
    case busy
    /// A part of a ring is misaligned.
    case align
    /// A part of a ring is in no region of guest memory.
    case ringRange
    /// A region is empty, wraps around, or is not there to be removed.
    case region
    /// Two regions overlap.
    case overlap
    /// More regions than allowed.
    case tooMany
    /// A region passes the end of its file.
    case pastEOF
    /// The system gives no more memory, mappings or descriptors.
    case nomem
    /// The log of written pages does not reach the end of a ring.
    case log
    /// An in-flight region that is none, or not one of this device.
    case inFlight = "inflight"
    /// The connection has an owner already.
    case owner
    /// A status that does not exist.
    case status
    /// A number out of range: an enable that is neither 0 nor 1, an MTU.
    case value
    /// The device configuration has no such bytes, or they cannot be written.
    case config
    /// A header queue is not set up as asked for, or there is none.
    case headerQueue

    /// Without an acknowledgement the connection is closed: the two ends do not speak the same
    /// protocol.
    var isFatal: Bool { self == .size || self == .flags }
}

/// Why a connection ended. The names are those under which it is counted.
enum Closure: String, CaseIterable {
    case shortHeader, shortPayload, timeout, oversize, ctrunc, fds, size, flags, unknown, inband
    case backpressure, memoryFault, log, reset
    /// The front-end closed it between two messages, or this end did.
    case ended

    /// A sentence for the log.
    var reason: String {
        switch self {
        case .shortHeader: "the connection ended inside the header of a message"
        case .shortPayload: "the connection ended inside the payload of a message"
        case .timeout: "a message was not complete within 5 seconds"
        case .oversize: "a message is larger than any request"
        case .ctrunc: "descriptors of a message were lost"
        case .fds: "descriptors came beside a payload, or twice for one message"
        case .size: "the payload of a request has the wrong size"
        case .flags: "a message has flags that no request has"
        case .unknown: "three requests in a row are unknown"
        case .inband: "in-band notifications need two other protocol features"
        case .backpressure: "the front-end does not read what it is answered"
        case .memoryFault: "guest memory was taken away by the front-end"
        case .log: "the log of written pages cannot be used"
        case .reset: "the connection was reset"
        case .ended: "the front-end closed the connection"
        }
    }
}

/// What a request can come to beside success.
enum RequestError: Error {
    case refused(Refusal)
    case closing(Closure)
}

// What travels on a vhost-user connection: a header of 12 bytes in the machine's byte order, a
// payload, and descriptors beside the header.
//
//     | request: 4 | flags: 4 | payload bytes: 4 | payload ... |

import Glibc

/// A descriptor that came with a message: closed when nobody keeps it any more.
final class ReceivedDescriptor: Sendable {
    let fileDescriptor: Int32

    init(_ fileDescriptor: Int32) { self.fileDescriptor = fileDescriptor }

    deinit { close(fileDescriptor) }
}

/// Bits of a header's flags.
enum MessageFlags {
    static let version: UInt32 = 1
    static let versionMask: UInt32 = 3
    /// The message is the answer to a request.
    static let reply: UInt32 = 1 << 2
    /// The request is to be acknowledged, if that was negotiated.
    static let needReply: UInt32 = 1 << 3
}

/// One whole message.
struct Message {
    static let headerByteCount = 12
    /// Above the largest payload of any request, known or to come.
    static let maximumPayloadByteCount = 4096
    /// Most descriptors of a message: a region each.
    static let maximumDescriptorCount = 8

    var request: UInt32
    var flags = MessageFlags.version
    var payload: [UInt8] = []
    var descriptors: [ReceivedDescriptor] = []

    var needsReply: Bool { flags & MessageFlags.needReply != 0 }

    /// Header and payload.
    var bytes: [UInt8] {
        var writer = PayloadWriter()
        writer.append(request)
        writer.append(flags)
        writer.append(UInt32(payload.count))
        return writer.bytes + payload
    }
}

/// Requests of the front-end that are served; the numbers are the protocol's.
enum FrontendRequest: UInt32, CaseIterable {
    case getFeatures = 1
    case setFeatures = 2
    case setOwner = 3
    case resetOwner = 4
    case setMemoryTable = 5
    case setLogBase = 6
    case setLogDescriptor = 7
    case setVringNum = 8
    case setVringAddress = 9
    case setVringBase = 10
    case getVringBase = 11
    case setVringKick = 12
    case setVringCall = 13
    case setVringError = 14
    case getProtocolFeatures = 15
    case setProtocolFeatures = 16
    case getQueueNum = 17
    case setVringEnable = 18
    case sendRARP = 19
    case setMTU = 20
    case setBackendRequestDescriptor = 21
    case getConfiguration = 24
    case setConfiguration = 25
    case getInFlightDescriptor = 31
    case setInFlightDescriptor = 32
    case resetDevice = 34
    case getMaximumMemorySlots = 36
    case addMemoryRegion = 37
    case removeMemoryRegion = 38
    case setStatus = 39
    case getStatus = 40
    /// Of this project, with `ProtocolFeatures.headerQueue`: numbers that the protocol is far from.
    case setHeaderQueue = 0x1000
    case resetHeaderQueue = 0x1001
    case stopHeaderQueue = 0x1002

    /// The highest number that the protocol gives a meaning (GET_SHMEM_CONFIG). Those up to here
    /// that are no case need features that are never offered.
    static let highestKnown: UInt32 = 44
    /// Requests that are not served but answered with a payload where they are: their refusal has
    /// to be an answer, or the front-end would wait for it. POSTCOPY_ADVISE, GET_SHARED_OBJECT,
    /// SET_DEVICE_STATE_FD, CHECK_DEVICE_STATE, GET_SHMEM_CONFIG, and creating a crypto session.
    static let unservedWithAnswer: Set<UInt32> = [26, 28, 41, 42, 43, 44]

    /// What a message of a request looks like.
    struct Shape {
        /// Bytes of payload.
        var payload: ClosedRange<Int> = 0...0
        /// Descriptors that must come with it.
        var descriptors: ClosedRange<Int> = 0...0
        /// The protocol feature without which it is refused.
        var feature: ProtocolFeatures = []
        /// It is answered by a message of its own and needs no acknowledgement.
        var hasAnswer = false
    }

    var shape: Shape {
        switch self {
        case .setOwner, .resetOwner: Shape()
        case .getFeatures, .getProtocolFeatures: Shape(hasAnswer: true)
        case .setFeatures, .setProtocolFeatures: Shape(payload: 8...8)
        case .setMemoryTable:
            // User-Mode Linux always sends room for two regions: the handler compares with the
            // number of regions.
            Shape(payload: 8...Message.maximumPayloadByteCount, descriptors: 0...8)
        case .setLogBase:
            Shape(payload: 16...16, descriptors: 1...1, feature: .logMemory, hasAnswer: true)
        case .setLogDescriptor: Shape(payload: 0...8, descriptors: 0...1)
        case .setVringNum, .setVringBase, .setVringEnable: Shape(payload: 8...8)
        case .setVringAddress: Shape(payload: 40...40)
        case .getVringBase: Shape(payload: 8...8, hasAnswer: true)
        case .setVringKick, .setVringCall, .setVringError:
            Shape(payload: 8...8, descriptors: 0...1)
        case .getQueueNum: Shape(feature: .queueCount, hasAnswer: true)
        case .sendRARP: Shape(payload: 8...8, feature: .announcement)
        case .setMTU: Shape(payload: 8...8, feature: .mtu)
        case .setBackendRequestDescriptor: Shape(descriptors: 1...1, feature: .backendRequests)
        case .getConfiguration:
            Shape(
                payload: 12...12 + ConfigurationAccess.maximumByteCount, feature: .configuration,
                hasAnswer: true)
        case .setConfiguration:
            Shape(
                payload: 12...12 + ConfigurationAccess.maximumByteCount, feature: .configuration)
        case .getInFlightDescriptor:
            // Most front-ends send the structure with its padding.
            Shape(payload: 20...24, feature: .inFlight, hasAnswer: true)
        case .setInFlightDescriptor:
            Shape(payload: 20...24, descriptors: 1...1, feature: .inFlight)
        case .resetDevice: Shape(feature: .deviceReset)
        case .getMaximumMemorySlots: Shape(feature: .memorySlots, hasAnswer: true)
        case .addMemoryRegion:
            Shape(payload: 40...40, descriptors: 1...1, feature: .memorySlots)
        case .removeMemoryRegion:
            // Some front-ends send the region's descriptor again.
            Shape(payload: 40...40, descriptors: 0...1, feature: .memorySlots)
        case .setStatus: Shape(payload: 8...8, feature: .status)
        case .getStatus: Shape(feature: .status, hasAnswer: true)
        case .setHeaderQueue:
            Shape(
                payload: HeaderQueueMessage.byteCount...HeaderQueueMessage.byteCount,
                feature: .headerQueue, hasAnswer: true)
        case .resetHeaderQueue, .stopHeaderQueue: Shape(feature: .headerQueue)
        }
    }
}

/// Requests of the back-end on its own connection.
enum BackendRequest {
    /// The device configuration has changed.
    static let configurationChange: UInt32 = 2
}

// The structures of payloads: what they hold, and what is checked of a value by itself. Numbers are
// kept at full width until they are compared.

import CleaveVirtioNet

/// Reads numbers from the front of a payload whose size was checked.
struct PayloadReader {
    private var bytes: ArraySlice<UInt8>

    init(_ bytes: [UInt8]) { self.bytes = bytes[...] }

    /// The next number; 0 after the end.
    mutating func next<Value: FixedWidthInteger>(_ type: Value.Type = Value.self) -> Value {
        var value: Value = 0
        withUnsafeMutableBytes(of: &value) { target in
            for offset in 0..<min(target.count, bytes.count) {
                target[offset] = bytes[bytes.startIndex + offset]
            }
        }
        bytes = bytes.dropFirst(MemoryLayout<Value>.size)
        return value
    }

    /// All that is left.
    var rest: [UInt8] { Array(bytes) }
}

/// Puts a payload together.
struct PayloadWriter {
    private(set) var bytes: [UInt8] = []

    mutating func append<Value: FixedWidthInteger>(_ value: Value) {
        withUnsafeBytes(of: value) { bytes.append(contentsOf: $0) }
    }

    mutating func append(_ more: [UInt8]) { bytes += more }

    static func number(_ value: UInt64) -> [UInt8] {
        var writer = PayloadWriter()
        writer.append(value)
        return writer.bytes
    }
}

/// struct vhost_vring_state: the index of a ring, and a number.
struct VringState {
    var index: UInt32
    var number: UInt32

    init(index: UInt32, number: UInt32) {
        self.index = index
        self.number = number
    }

    init(_ payload: [UInt8]) {
        var reader = PayloadReader(payload)
        index = reader.next()
        number = reader.next()
    }

    var bytes: [UInt8] {
        var writer = PayloadWriter()
        writer.append(index)
        writer.append(number)
        return writer.bytes
    }
}

/// struct vhost_vring_addr: where a ring lies, in addresses of the front-end.
struct VringAddress: Equatable {
    var index: UInt32
    var flags: UInt32 = 0
    var descriptorArea: UInt64
    var deviceArea: UInt64
    var driverArea: UInt64
    var logAddress: UInt64 = 0

    /// VHOST_VRING_F_LOG: writes to the used ring are logged.
    static let logs: UInt32 = 1

    init(index: UInt32, descriptorArea: UInt64, driverArea: UInt64, deviceArea: UInt64) {
        self.index = index
        self.descriptorArea = descriptorArea
        self.driverArea = driverArea
        self.deviceArea = deviceArea
    }

    init(_ payload: [UInt8]) {
        var reader = PayloadReader(payload)
        index = reader.next()
        flags = reader.next()
        descriptorArea = reader.next()
        deviceArea = reader.next()
        driverArea = reader.next()
        logAddress = reader.next()
    }

    var bytes: [UInt8] {
        var writer = PayloadWriter()
        writer.append(index)
        writer.append(flags)
        writer.append(descriptorArea)
        writer.append(deviceArea)
        writer.append(driverArea)
        writer.append(logAddress)
        return writer.bytes
    }

    var isLogged: Bool { flags & Self.logs != 0 }

    /// Whether the ring is in the same place; how it is logged does not matter.
    func isSamePlace(as other: VringAddress?) -> Bool {
        guard let other else { return false }
        return descriptorArea == other.descriptorArea && driverArea == other.driverArea
            && deviceArea == other.deviceArea
    }

    /// Whether the areas are aligned as virtio demands. Front-end and guest addresses differ by
    /// whole pages.
    func isAligned(packed: Bool) -> Bool {
        descriptorArea % 16 == 0 && driverArea % (packed ? 4 : 2) == 0 && deviceArea % 4 == 0
    }
}

/// struct VhostUserInflight: the region in which the back-end notes what is in flight.
struct InFlightDescription {
    var byteCount: UInt64 = 0
    var fileOffset: UInt64 = 0
    var ringCount: UInt16
    /// Descriptors of the largest ring.
    var ringSize: UInt16

    init(ringCount: Int, ringSize: Int) {
        self.ringCount = UInt16(truncatingIfNeeded: ringCount)
        self.ringSize = UInt16(truncatingIfNeeded: ringSize)
    }

    init(_ payload: [UInt8]) {
        var reader = PayloadReader(payload)
        byteCount = reader.next()
        fileOffset = reader.next()
        ringCount = reader.next()
        ringSize = reader.next()
    }

    /// - Parameter payloadByteCount: with as much padding as the other end has.
    func bytes(_ payloadByteCount: Int = 24) -> [UInt8] {
        var writer = PayloadWriter()
        writer.append(byteCount)
        writer.append(fileOffset)
        writer.append(ringCount)
        writer.append(ringSize)
        return writer.bytes + [UInt8](repeating: 0, count: payloadByteCount - writer.bytes.count)
    }
}

/// The index of a ring and whether a descriptor comes along: KICK, CALL, ERR.
struct VringDescriptorNumber {
    var value: UInt64

    init(_ payload: [UInt8]) {
        var reader = PayloadReader(payload)
        value = reader.next()
    }

    init(index: Int, hasDescriptor: Bool) {
        value = UInt64(index) | (hasDescriptor ? 0 : Self.none)
    }

    /// No descriptor comes along: the ring is polled.
    static let none: UInt64 = 1 << 8

    var hasDescriptor: Bool { value & Self.none == 0 }
    /// With bits that mean nothing, so that those make it too large.
    var index: UInt64 { value & ~Self.none }
}

/// One region of guest memory as the front-end describes it.
struct RegionDescription: Equatable {
    static let byteCount = 32

    var guestAddress: UInt64
    var size: UInt64
    /// Where it lies in the front-end.
    var userAddress: UInt64
    /// Where it begins in its file.
    var fileOffset: UInt64

    init(guestAddress: UInt64, size: UInt64, userAddress: UInt64, fileOffset: UInt64) {
        self.guestAddress = guestAddress
        self.size = size
        self.userAddress = userAddress
        self.fileOffset = fileOffset
    }

    init(_ reader: inout PayloadReader) {
        guestAddress = reader.next()
        size = reader.next()
        userAddress = reader.next()
        fileOffset = reader.next()
    }

    func append(to writer: inout PayloadWriter) {
        writer.append(guestAddress)
        writer.append(size)
        writer.append(userAddress)
        writer.append(fileOffset)
    }

    /// It has bytes, and no end that wraps around.
    var isValid: Bool {
        size > 0 && size <= UInt64(Int.max)
            && !guestAddress.addingReportingOverflow(size).overflow
            && !userAddress.addingReportingOverflow(size).overflow
            && !fileOffset.addingReportingOverflow(size).overflow
            && fileOffset + size <= UInt64(Int64.max)
    }

    /// Both are valid, and have a byte in common in guest or in front-end addresses.
    func overlaps(_ other: RegionDescription) -> Bool {
        let inGuest =
            guestAddress < other.guestAddress + other.size
            && other.guestAddress < guestAddress + size
        let inFrontend =
            userAddress < other.userAddress + other.size
            && other.userAddress < userAddress + size
        return inGuest || inFrontend
    }
}

/// SET_HEADER_QUEUE: the fields of a request, then guest addresses of control words, slots and
/// return ring.
enum HeaderQueueMessage {
    static let byteCount = HeaderQueueRequest.byteCount + 3 * 8

    static func payload(_ request: HeaderQueueRequest) -> [UInt8] {
        var writer = PayloadWriter()
        writer.append(request.fields)
        for address in [request.control, request.slots, request.returnRing] {
            writer.append(address.rawValue)
        }
        return writer.bytes
    }

    /// - Parameter payload: `byteCount` bytes.
    static func request(_ payload: [UInt8]) -> HeaderQueueRequest? {
        guard
            var request = HeaderQueueRequest(
                fields: Array(payload.prefix(HeaderQueueRequest.byteCount)))
        else { return nil }
        var reader = PayloadReader(Array(payload.dropFirst(HeaderQueueRequest.byteCount)))
        request.control = GuestAddress(reader.next())
        request.slots = GuestAddress(reader.next())
        request.returnRing = GuestAddress(reader.next())
        return request
    }
}

/// A read or a write of the device configuration.
struct ConfigurationAccess {
    /// Bytes that a configuration space may have.
    static let maximumByteCount = 256

    var offset: UInt32
    var size: UInt32
    var flags: UInt32 = 0
    var bytes: [UInt8]

    init(offset: Int, bytes: [UInt8]) {
        self.offset = UInt32(truncatingIfNeeded: offset)
        size = UInt32(truncatingIfNeeded: bytes.count)
        self.bytes = bytes
    }

    init(_ payload: [UInt8]) {
        var reader = PayloadReader(payload)
        offset = reader.next()
        size = reader.next()
        flags = reader.next()
        bytes = reader.rest
    }

    var payload: [UInt8] {
        var writer = PayloadWriter()
        writer.append(offset)
        writer.append(size)
        writer.append(flags)
        writer.append(bytes)
        return writer.bytes
    }

    /// It names bytes, and only such as a configuration space may have.
    var isValid: Bool {
        size > 0 && UInt64(offset) + UInt64(size) <= UInt64(Self.maximumByteCount)
    }
}

// Capture files byte by byte, in either byte order: the peer of the readers, and independent of
// `CaptureWriter`.
@testable import CleaveTraffic

/// Appends words in one byte order.
struct CaptureBuilder {
    var bytes: [UInt8] = []
    var order: ByteOrder

    mutating func put(_ words: UInt32...) {
        for word in words { put(UInt64(word), byteCount: 4) }
    }

    mutating func put16(_ words: UInt16...) {
        for word in words { put(UInt64(word), byteCount: 2) }
    }

    mutating func put(_ word: UInt64, byteCount: Int) {
        let little = (0..<byteCount).map { UInt8(truncatingIfNeeded: word >> (8 * UInt64($0))) }
        bytes += order == .little ? little : little.reversed()
    }

    /// A pcapng block around `body`, padded to 4 bytes.
    mutating func block(_ type: UInt32, _ body: (inout CaptureBuilder) -> Void) {
        var inner = CaptureBuilder(order: order)
        body(&inner)
        inner.pad()
        let byteCount = UInt32(inner.bytes.count + 12)
        put(type, byteCount)
        bytes += inner.bytes
        put(byteCount)
    }

    mutating func pad() {
        while bytes.count % 4 != 0 { bytes.append(0) }
    }

    mutating func section() {
        block(0x0a0d_0d0a) {
            $0.put(0x1a2b_3c4d)
            $0.put16(1, 0)
            $0.put(.max, .max)
        }
    }

    mutating func interface(
        linkType: UInt16 = 1, snapLength: UInt32 = 0, resolution: UInt8? = nil,
        offsetSeconds: Int64? = nil, checkLength: UInt8? = nil
    ) {
        block(1) {
            $0.put16(linkType, 0)
            $0.put(snapLength)
            if let resolution {
                // Before it, an if_name that a reader must step over.
                $0.put16(2, 5)
                $0.bytes += Array("veth0".utf8) + [0, 0, 0]
                $0.put16(9, 1)
                $0.bytes += [resolution, 0, 0, 0]
            }
            if let offsetSeconds {
                $0.put16(14, 8)
                $0.put(UInt64(bitPattern: offsetSeconds), byteCount: 8)
            }
            if let checkLength {
                $0.put16(13, 1)
                $0.bytes += [checkLength, 0, 0, 0]
            }
            $0.put16(0, 0)
        }
    }

    /// - Parameter flags: the value of `epb_flags`, after a comment that a reader must step over.
    mutating func enhanced(
        _ packet: [UInt8], interface: UInt32 = 0, ticks: UInt64, original: Int? = nil,
        flags: UInt32? = nil
    ) {
        block(6) {
            $0.put(interface, UInt32(ticks >> 32), UInt32(truncatingIfNeeded: ticks))
            $0.put(UInt32(packet.count), UInt32(original ?? packet.count))
            $0.bytes += packet
            $0.options(flags)
        }
    }

    private mutating func options(_ flags: UInt32?) {
        guard let flags else { return }
        pad()
        put16(1, 3)
        bytes += Array("odd".utf8) + [0]
        put16(2, 4)
        put(flags)
        put16(0, 0)
    }

    mutating func obsolete(
        _ packet: [UInt8], interface: UInt16, ticks: UInt64, flags: UInt32? = nil
    ) {
        block(2) {
            $0.put16(interface, 7)
            $0.put(UInt32(ticks >> 32), UInt32(truncatingIfNeeded: ticks))
            $0.put(UInt32(packet.count), UInt32(packet.count))
            $0.bytes += packet
            $0.options(flags)
        }
    }

    /// A simple packet block: only the original length, the bytes cut by the snap length.
    mutating func simple(_ packet: [UInt8], original: Int) {
        block(3) {
            $0.put(UInt32(original))
            $0.bytes += packet
        }
    }

    mutating func pcapHeader(
        magic: UInt32, linkType: UInt32 = 1, version: (UInt16, UInt16) = (2, 4)
    ) {
        put(magic)
        put16(version.0, version.1)
        put(0, 0, 65_535, linkType)
    }

    /// - Parameters:
    ///   - isOriginalFirst: the two lengths in the order of version 2.2.
    ///   - rest: what a variant has between the lengths and the packet.
    mutating func pcapRecord(
        _ packet: [UInt8], seconds: UInt32, fraction: UInt32, original: Int,
        isOriginalFirst: Bool = false, rest: (inout CaptureBuilder) -> Void = { _ in }
    ) {
        put(seconds, fraction)
        let lengths = [UInt32(packet.count), UInt32(original)]
        for length in isOriginalFirst ? lengths.reversed() : lengths { put(length) }
        rest(&self)
        bytes += packet
    }
}

/// The capture in `bytes`, or the error text.
func parsed(_ bytes: [UInt8]) -> Result<CaptureFile, CaptureError> {
    do throws(CaptureError) {
        return .success(try CaptureFile.parse(bytes, name: "test"))
    } catch {
        return .failure(error)
    }
}

/// The text of the error that `bytes` must cause; nil if there is none.
func problem(_ bytes: [UInt8]) -> String? {
    guard case .failure(let error) = parsed(bytes) else { return nil }
    return error.description
}

/// Reads a packet that lies in several source segments, in order.
struct SourceCursor {
    private var ref: UnsafePointer<PacketRef>
    private var refsLeft: Int
    private var offset = 0

    /// - Parameter refs: a packet's references, `count` of them; offloads are passed over.
    init(_ refs: UnsafePointer<PacketRef>, count: Int) {
        let skipped = refs.pointee.flags.contains(.context) ? 1 : 0
        ref = refs + skipped
        refsLeft = count &- skipped
    }

    /// Copies the next `byteCount` bytes to `target`; the caller never asks for more than there
    /// are left.
    mutating func copy(to target: UnsafeMutableRawPointer, _ byteCount: Int) {
        var done = 0
        while done < byteCount && refsLeft > 0 {
            let left = Int(ref.pointee.byteCount) &- offset
            let part = left < byteCount &- done ? left : byteCount &- done
            copyBytes(target + done, ref.pointee.pointer + offset, part)
            done &+= part
            offset &+= part
            if offset == Int(ref.pointee.byteCount) {
                ref += 1
                refsLeft &-= 1
                offset = 0
            }
        }
    }
}

/// Writes a packet over the segments of its buffers, in order.
struct SegmentCursor {
    private var segment: UnsafePointer<Segment>
    private var offset = 0

    init(_ segments: UnsafePointer<Segment>) { segment = segments }

    /// The contiguous room at the cursor, at most `wanted` bytes, and moves past it. The plan
    /// reserved as many segments as its packet needs, so there is always a further one.
    private mutating func room(_ wanted: Int) -> (pointer: UnsafeMutableRawPointer, byteCount: Int)
    {
        while offset == Int(segment.pointee.byteCount) {
            segment += 1
            offset = 0
        }
        let left = Int(segment.pointee.byteCount) &- offset
        let part = left < wanted ? left : wanted
        let pointer = segment.pointee.pointer + offset
        offset &+= part
        return (pointer, part)
    }

    /// Writes `byteCount` bytes from `bytes`.
    mutating func write(_ bytes: UnsafeRawPointer, _ byteCount: Int) {
        var done = 0
        while done < byteCount {
            let target = room(byteCount &- done)
            copyBytes(target.pointer, bytes + done, target.byteCount)
            done &+= target.byteCount
        }
    }

    /// Writes the next `byteCount` bytes of a packet.
    mutating func write(from source: inout SourceCursor, _ byteCount: Int) {
        var done = 0
        while done < byteCount {
            let target = room(byteCount &- done)
            source.copy(to: target.pointer, target.byteCount)
            done &+= target.byteCount
        }
    }
}

// What the device says of a packet beyond its bytes. Read when asked for, so that a harvest pays
// nothing for it.
import RxPath

extension RxDriverState {
    /// The virtio-net header of a harvested packet: wherever the method puts it.
    func netHeader(of packet: ReceivedPacket) -> NetHeader {
        let start: UnsafeRawPointer
        if !packet.isSplit {
            // Then `headers` is where the packet's first buffer begins.
            start = packet.headers
        } else if headersLead {
            start = packet.headers - prefixByteCount
        } else if hasSplitTail {
            start = pieces[Int(packet.firstPiece)].pointer - prefixByteCount
        } else {
            start = packet.headers - netHeaderByteCount
        }
        return NetHeader(load: start, byteCount: netHeaderByteCount)
    }
}

extension RxDriver {
    /// The virtio-net header of one of `packets`: checksum state, segmentation, hash. Its fields are
    /// the device's word; `hdrLen` is a hint but for a packet that is split.
    public func netHeader(of packet: ReceivedPacket) -> NetHeader {
        state.pointee.netHeader(of: packet)
    }
}

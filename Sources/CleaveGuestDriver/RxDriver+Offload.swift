// What the device says of a packet beyond its bytes. Read when asked for, so that a harvest pays
// nothing for it.
import CleaveVirtioNet

extension RxDriver {
    /// The virtio-net header of one of `packets`: checksum state, segmentation, hash. Its fields
    /// are the device's word; `hdrLen` is a hint but for a packet that is split.
    public func netHeader(of packet: ReceivedPacket) -> NetHeader {
        NetHeader(load: packet.netHeader, byteCount: state.pointee.netHeaderByteCount)
    }
}

// A device that only remembers what it was told.
import CleaveHost
import CleaveVhostUser
import CleaveVirtioNet

final class RecordingDevice: BackendDevice {
    var offeredFeatures: UInt64
    var queuePairLimit: Int
    var configuration = NetConfiguration(
        mac: [2, 0, 0, 0, 0, 7], linkUp: true, maxQueuePairs: 2, mtu: 1500)

    /// `start 0`, `stop 0`, `features 5`..., in order.
    var events: [String] = []
    var setups: [Int: VringSetup] = [:]
    /// Where a ring is said to have come to.
    var positions: [Int: UInt16] = [:]
    var startError: SetupError?
    var acceptsWrites = true

    init(features: UInt64 = 1 << 32 | 1 << 34 | 1 << 15, queuePairLimit: Int = 2) {
        offeredFeatures = features
        self.queuePairLimit = queuePairLimit
    }

    func start(ring: Int, _ setup: VringSetup) throws(SetupError) {
        events.append("start \(ring)")
        if let startError { throw startError }
        setups[ring] = setup
    }

    func stop(ring: Int) -> UInt16 {
        events.append("stop \(ring)")
        let base = setups.removeValue(forKey: ring)?.virtqueue.base ?? 0
        return positions[ring] ?? base
    }

    func negotiated(features: UInt64) { events.append("features \(features)") }
    func setMTU(_ mtu: Int) { events.append("MTU \(mtu)") }
    func announce(mac: [UInt8]) { events.append("announce \(mac)") }

    func writeConfiguration(offset: Int, _ bytes: [UInt8]) -> Bool {
        events.append("write \(offset) \(bytes)")
        return acceptsWrites
    }

    // MARK: the header queue

    /// What became of it, in order.
    var headerQueueEvents: [String] = []
    var headerQueueRequest: HeaderQueueRequest?
    var headerQueueRefusal: HeaderQueueRefusal?
    /// Whose memory it was told of, each time; nil for none.
    var guests: [Guest?] = []

    func memoryChanged(_ memory: SharedGuestMemory?) { guests.append(memory?.memory.guest) }

    func setHeaderQueue(
        _ request: HeaderQueueRequest, _ memory: SharedGuestMemory
    ) throws(HeaderQueueRefusal) {
        if let headerQueueRefusal { throw headerQueueRefusal }
        headerQueueEvents.append("set")
        headerQueueRequest = request
    }

    func resetHeaderQueue() -> Bool {
        headerQueueEvents.append("reset")
        return headerQueueRequest != nil
    }

    func stopHeaderQueue() -> Bool {
        if headerQueueRequest == nil { return false }
        headerQueueEvents.append("stop")
        headerQueueRequest = nil
        return true
    }

    /// The events since the last call.
    func take() -> [String] {
        defer { events = [] }
        return events
    }
}

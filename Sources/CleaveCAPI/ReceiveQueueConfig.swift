import CCleave
import CleaveVirtioNet

extension cleave_rq_config {
    /// Size before `features_high` was added.
    static let firstByteCount = 88
}

/// A `cleave_rq_config`, checked and translated.
struct ReceiveQueuePlan {
    var configuration: RxQueueConfiguration
    /// NUMA node for private memory.
    var node: Int?
    /// The header queue that it is linked to.
    var headerQueue: HeaderQueueObject?

    private static let knownFlags =
        CLEAVE_RQ_CALL_FD.rawValue | CLEAVE_RQ_NODE.rawValue | CLEAVE_RQ_DROP.rawValue
        | CLEAVE_RQ_TINY.rawValue | CLEAVE_RQ_ZERO_PAD.rawValue
        | CLEAVE_RQ_IOVA_IS_GUEST_PHYSICAL.rawValue

    init(_ configuration: RxQueueConfiguration, node: Int?) {
        self.configuration = configuration
        self.node = node
    }

    init(_ config: cleave_rq_config, _ memory: MemoryObject) throws(Refusal) {
        guard config.flags & ~Self.knownFlags == 0 else {
            throw .invalid("flags 0x\(String(config.flags, radix: 16)) has unknown bits")
        }
        func has(_ flag: cleave_rq_flags) -> Bool { config.flags & flag.rawValue != 0 }
        try FeatureWord.check(
            config.features, high: config.features_high,
            iovaIsGuestPhysical: has(CLEAVE_RQ_IOVA_IS_GUEST_PHYSICAL))
        let (method, headerQueue) = try Self.method(config, memory)
        try Self.checkObeyed(config, method)
        let burst = config.burst == 0 ? 32 : Int(config.burst)
        guard (1...RxQueue.maximumBurst).contains(burst) else {
            throw .invalid("burst \(burst) is not between 1 and \(RxQueue.maximumBurst)")
        }
        guard config.split_threshold <= SplitPolicy.maximumThreshold else {
            throw .invalid("split_threshold \(config.split_threshold) is above the largest packet")
        }
        guard !has(CLEAVE_RQ_CALL_FD) || config.call_fd >= 0 else {
            throw .invalid("call_fd is \(config.call_fd)")
        }
        guard !has(CLEAVE_RQ_NODE) || config.node >= 0 else {
            throw .invalid("node is \(config.node)")
        }
        configuration = RxQueueConfiguration(
            virtqueue: try Self.virtqueue(config, memory),
            features: VirtioFeatures(rawValue: config.features),
            memory: memory.memory, method: method, headerQueue: headerQueue?.queue,
            splitPolicy: SplitPolicy(
                threshold: Int(config.split_threshold), placesTinyPackets: has(CLEAVE_RQ_TINY),
                zeroPads: has(CLEAVE_RQ_ZERO_PAD)),
            burst: burst, shortage: has(CLEAVE_RQ_DROP) ? .drop : .wait,
            callDescriptor: has(CLEAVE_RQ_CALL_FD) ? config.call_fd : -1)
        configuration.returnRing = Int(config.return_ring)
        guard config.return_ring == 0 || headerQueue?.queue.layout.slotReturn == .groups else {
            throw .invalid(
                "return_ring is \(config.return_ring), but the RQ has no header queue with "
                    + "group_rings")
        }
        node = has(CLEAVE_RQ_NODE) ? Int(config.node) : nil
        self.headerQueue = headerQueue
    }

    private static func method(
        _ config: cleave_rq_config, _ memory: MemoryObject
    ) throws(Refusal) -> (RxMethod, HeaderQueueObject?) {
        switch config.method {
        case CLEAVE_METHOD_WHOLE.rawValue: return (.whole, nil)
        case CLEAVE_METHOD_A.rawValue: return (.headerDescriptor, nil)
        case CLEAVE_METHOD_B.rawValue: return (.headerPage, nil)
        case CLEAVE_METHOD_C.rawValue:
            let small = config.header_buffer_size == 0 ? 128 : Int(config.header_buffer_size)
            guard (64...1 << 20).contains(small) else {
                throw .invalid("header_buffer_size \(small) is not between 64 and 1048576")
            }
            return (.alternating(headerBufferByteCount: small), nil)
        case CLEAVE_METHOD_D.rawValue: break
        default: throw .invalid("method \(config.method) is not one of enum cleave_method, 0 to 4")
        }
        guard let handle = config.header_queue else {
            throw .invalid(
                "header_queue is NULL: method 4 (CLEAVE_METHOD_D) needs one, made by "
                    + "cleave_header_queue_create")
        }
        guard let queue = HeaderQueueObject.live(handle) else {
            throw Refusal(Refusal.stale, "header_queue is not a live header queue")
        }
        guard queue.memory.memory.guest === memory.memory.guest else {
            throw .invalid(
                "header_queue belongs to another guest: its memory was made without same_guest_as "
                    + "of this one's guest")
        }
        switch config.report {
        case CLEAVE_REPORT_USED_ELEMENT.rawValue:
            throw .invalid(
                "report is 0: method 4 (CLEAVE_METHOD_D) needs CLEAVE_REPORT_USED_LENGTH "
                    + "(\(CLEAVE_REPORT_USED_LENGTH.rawValue)) or CLEAVE_REPORT_NET_HEADER "
                    + "(\(CLEAVE_REPORT_NET_HEADER.rawValue)). 0 was CLEAVE_REPORT_USED_ELEMENT, "
                    + "which interface 0.4 ended")
        case CLEAVE_REPORT_NET_HEADER.rawValue: return (.headerQueue(.netHeader), queue)
        case CLEAVE_REPORT_USED_LENGTH.rawValue: return (.headerQueue(.usedLength), queue)
        default: throw .invalid("report \(config.report) is not one of enum cleave_report, 1 or 2")
        }
    }

    /// Refuses what is set and the method would ignore: the program expects an effect.
    private static func checkObeyed(
        _ config: cleave_rq_config, _ method: RxMethod
    ) throws(Refusal) {
        func refuse(_ what: String, _ users: String) throws(Refusal) {
            throw .invalid(
                "\(what) is set, and method \(config.method) ignores it: it is for \(users)")
        }
        if !method.needsHeaderQueue {
            let users = "method \(CLEAVE_METHOD_D.rawValue) (CLEAVE_METHOD_D)"
            if config.header_queue != nil { try refuse("header_queue", users) }
            if config.report != 0 { try refuse("report", users) }
            for (flag, name) in [
                (CLEAVE_RQ_TINY, "CLEAVE_RQ_TINY"), (CLEAVE_RQ_ZERO_PAD, "CLEAVE_RQ_ZERO_PAD"),
            ] where config.flags & flag.rawValue != 0 { try refuse(name, users) }
        }
        if method == .whole && config.split_threshold != 0 {
            try refuse("split_threshold", "methods that split")
        }
        if method.kind != .c && config.header_buffer_size != 0 {
            let users = "method \(CLEAVE_METHOD_C.rawValue) (CLEAVE_METHOD_C)"
            try refuse("header_buffer_size", users)
        }
    }

    private static func virtqueue(
        _ config: cleave_rq_config, _ memory: MemoryObject
    ) throws(Refusal) -> VirtqueueAddresses {
        try virtqueue(
            features: config.features, size: config.size,
            areas: (config.descriptor_area, config.driver_area, config.device_area),
            last: (config.last_avail, config.last_used), memory)
    }

    /// Checks the members that describe any virtqueue.
    static func virtqueue(
        features: UInt64, size: UInt32,
        areas: (UnsafeMutableRawPointer?, UnsafeMutableRawPointer?, UnsafeMutableRawPointer?),
        last: (avail: UInt16, used: UInt16), _ memory: MemoryObject
    ) throws(Refusal) -> VirtqueueAddresses {
        let format = FeatureWord.format(features)
        do { try VirtqueueAddresses.check(size: Int(size), format) } catch {
            throw .invalid("\(error)")
        }
        guard last.avail == last.used else {
            throw .invalid(
                "last_avail \(last.avail) and last_used \(last.used) differ: a queue is resumed "
                    + "without buffers in flight")
        }
        return VirtqueueAddresses(
            format: format, size: Int(size),
            descriptorArea: try memory.guestAddress(areas.0, "descriptor_area"),
            driverArea: try memory.guestAddress(areas.1, "driver_area"),
            deviceArea: try memory.guestAddress(areas.2, "device_area"), base: last.avail)
    }
}

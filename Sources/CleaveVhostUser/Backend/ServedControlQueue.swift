import CleaveHost
import CleaveVirtioNet

/// A control queue that a driver uses, with what it needs to live, and the commands that a device
/// with queue pairs carries out. One thread at a time.
package final class ServedControlQueue {
    private let queue: ControlQueue
    private let kick: NotificationDescriptor?
    /// The memory that `queue` reads stays mapped as long as this object.
    private let mappings: MappedMemory
    private let queuePairs: Int
    /// The last call of `serve` ended before it had seen an empty ring: more may be there, for
    /// which nobody kicks.
    package private(set) var mayHaveMore = false

    /// - Parameter queuePairs: most that a driver may use.
    package init(_ setup: VringSetup, queuePairs: Int) throws(SetupError) {
        queue = try ControlQueue(setup.controlQueue)
        kick = try setup.kick()
        mappings = setup.mappings
        self.queuePairs = queuePairs
    }

    /// Has the next call of `serve` look whatever was kicked: another process may have taken the
    /// kick, and not the command.
    package func lookAgain() { mayHaveMore = true }

    /// For poll; -1 if the driver does not kick: every call of `serve` looks then.
    package var kickDescriptor: Int32 { kick?.fileDescriptor ?? -1 }
    /// Where the queue is resumed.
    package var base: UInt16 { queue.base }
    package var fault: QueueFault { queue.fault }

    /// Answers what the driver has asked for.
    /// - Parameter use: told how many pairs the driver wants to use from now on. They are in use
    ///   when it returns, since the driver is answered then. It says whether further commands may
    ///   be taken in this call.
    /// - Returns: commands that were answered with an error.
    package func serve(_ use: (Int) -> Bool) -> Int {
        // virtio-user serves a control queue of its own, which it tells of and never kicks.
        guard kick?.drain() ?? true || mayHaveMore else { return 0 }
        var refused = 0
        var isEnough = false
        let result = queue.poll(until: { isEnough }) { kind, command, data in
            switch ControlCommand(class: kind, command: command, data: data) {
            case .setQueuePairs(let count) where count <= queuePairs:
                isEnough = !use(count)
                return ControlAnswer.ok
            case .acknowledgeAnnouncement: return ControlAnswer.ok
            default:
                refused += 1
                return ControlAnswer.error
            }
        }
        mayHaveMore = isEnough || result.count == queue.configuration.virtqueue.size
        return refused
    }
}

extension VringSetup {
    /// Pairs that the driver uses when its control queue starts: one until it asks for more (virtio
    /// 1.4, "Automatic receive steering in multiqueue mode"). A queue that goes on, after a change
    /// or a pause, is one of a driver that has asked and does not ask again.
    /// - Parameter last: what it asked for; nil for nothing.
    package func startingPairs(_ last: Int?) -> Int {
        virtqueue.base == VirtqueueAddresses.freshBase(virtqueue.format) ? 1 : last ?? 1
    }

    /// Of a ring by which the driver asks for something.
    package var controlQueue: ControlQueueConfiguration {
        var configuration = ControlQueueConfiguration(
            virtqueue: virtqueue, features: VirtioFeatures(rawValue: features).intersection(.ring),
            memory: memory, callDescriptor: callDescriptor)
        configuration.observation = observation
        return configuration
    }

    /// A duplicate of the kick descriptor; nil if there is none.
    package func kick() throws(SetupError) -> NotificationDescriptor? {
        if kickDescriptor < 0 { return nil }
        do { return try NotificationDescriptor(duplicating: kickDescriptor, for: .kick) } catch {
            throw SetupError("", error)
        }
    }
}

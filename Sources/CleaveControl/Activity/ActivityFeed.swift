import CleaveHost

/// The samples of the last minutes, for a page that asks for those that it has not seen. Any
/// thread.
package final class ActivityFeed: @unchecked Sendable {
    // SAFETY: all that changes is guarded by the lock.

    /// Samples that are kept.
    package static let limit = 300

    private let lock = Lock()
    private let seconds: Double
    private var points: [Point] = []
    private var latest: Activity?
    private var problem: String?
    private var number = 0

    /// What charts show of a sample.
    package struct Point: Codable, Equatable, Sendable {
        package var number: Int
        package var time: Double
        package var ports: [Port]
        package var threads: [Double]
    }

    package struct Port: Codable, Equatable, Sendable {
        package var name: String
        package var packetsIn: Double
        package var packetsOut: Double
        package var drops: Double
    }

    /// What the page is told.
    package struct News: Codable, Equatable, Sendable {
        /// Of the newest sample; 0 before there is one.
        package var number: Int
        /// Seconds between two samples.
        package var interval: Double
        /// Why there is no newer sample; nil if all is well.
        package var problem: String?
        package var activity: Activity?
        /// From the oldest on.
        package var points: [Point]
    }

    package init(seconds: Double) { self.seconds = seconds }

    package func append(_ activity: Activity) {
        lock.withLock {
            number += 1
            latest = activity
            problem = nil
            points.append(
                Point(
                    number: number, time: activity.time,
                    ports: activity.ports.map {
                        Port(
                            name: $0.port, packetsIn: $0.in.packetsPerSecond,
                            packetsOut: $0.out.packetsPerSecond,
                            drops: $0.in.droppedPerSecond + $0.out.droppedPerSecond)
                    }, threads: activity.threads.map(\.busyShare)))
            if points.count > Self.limit { points.removeFirst() }
        }
    }

    package func fail(_ words: String) { lock.withLock { problem = words } }

    /// - Parameter number: the newest sample that the page has; 0 for none.
    package func news(after number: Int) -> News {
        lock.withLock {
            News(
                number: self.number, interval: seconds, problem: problem, activity: latest,
                points: points.filter { $0.number > number })
        }
    }
}

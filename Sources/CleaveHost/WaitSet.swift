import CCleaveHost
import Glibc

/// One descriptor to wait at for several, and for a time: it is readable while one of those that
/// are watched is, or once the time has come. A program that has a loop of its own puts it there.
///
/// One thread at a time.
package final class WaitSet {
    /// For poll; owned by this object.
    package let fileDescriptor: Int32
    private let timer: Int32

    /// A descriptor that is watched for as long as this object lives, under a number of its own: it
    /// may be closed, and its number be given to another, before the watch ends.
    package final class Watch {
        private let set: WaitSet
        private let own: Int32

        fileprivate init(_ set: WaitSet, _ own: Int32) {
            self.set = set
            self.own = own
        }

        deinit {
            // By name: closing it alone would leave it watched if a child process has it, too.
            cleave_wait_set_remove(set.fileDescriptor, own)
            close(own)
        }
    }

    package init() throws(HostError) {
        var timer: Int32 = -1
        let result = cleave_wait_set_open(&timer)
        if result < 0 { throw HostError("epoll", code: -result, "cannot make a set to wait at") }
        fileDescriptor = result
        self.timer = timer
    }

    deinit {
        close(timer)
        close(fileDescriptor)
    }

    /// Watches a descriptor for something to read.
    package func watch(_ other: Int32) throws(HostError) -> Watch {
        let own = cleave_descriptor_duplicate(other)
        if own < 0 { throw HostError("dup", code: -own, "descriptor \(other) cannot be watched") }
        let result = cleave_wait_set_add(fileDescriptor, own)
        if result < 0 {
            close(own)
            throw HostError("epoll", code: -result, "descriptor \(other) cannot be watched")
        }
        return Watch(self, own)
    }

    /// When the set becomes readable by itself, by `SystemClock.monotonic`; at once if that is
    /// past, never if it is nil. The time stays until it is set anew.
    package var deadline: UInt64? {
        didSet {
            if deadline == oldValue && deadline == nil { return }
            cleave_wait_set_arm(timer, deadline.map { max(1, $0) } ?? 0)
        }
    }
}

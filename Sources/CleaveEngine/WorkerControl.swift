// How a control thread keeps a thread that polls queues at the boundary between two bursts, where
// nothing of the RQ is in use.
//
//   control thread                                    RQ's thread, between two bursts
//   send(.pause)    --[E2]-->  command, its number    --> acknowledge; poll while it is the last
//   isAcknowledged  <--[E1]--  the same, repeated, as soon as nothing is in use
//
// A command has a number, and its acknowledgement repeats that. Without the number, a stale
// acknowledgement of an earlier pause could be taken for this one: it remains until the thread has
// obeyed the command to run in between, and by then it may have placed a burst.

import CleaveHost
import CleaveRings

/// Commands to the thread that polls an RQ, and its acknowledgements.
package struct WorkerControl: Sendable {
    // SAFETY: constants; the words are reached through explicit orderings, and whoever provided
    // their memory keeps it.
    private let request: SharedWord32
    private let acknowledgement: SharedWord32

    package enum Command: UInt32, Sendable { case run, pause, stop }

    /// A command with its number, by which it is told from all others.
    package struct NumberedCommand: Equatable, BitwiseCopyable, Sendable {
        package fileprivate(set) var word: UInt32
        package var command: Command { Command(rawValue: word & 3) ?? .stop }
    }

    /// - Parameters:
    ///   - request: a zeroed word that the control thread writes: a command to run.
    ///   - acknowledgement: a zeroed word that the RQ's thread writes, on another cache line.
    package init(request: UnsafeMutableRawPointer, acknowledgement: UnsafeMutableRawPointer) {
        self.request = SharedWord32(request)
        self.acknowledgement = SharedWord32(acknowledgement)
    }

    // MARK: The control thread

    /// The last command, for the control thread.
    package var last: NumberedCommand { NumberedCommand(word: request.load()) }

    package func send(_ command: Command) {
        // [E2 release -> the RQ's thread: the queue put in place]
        request.storeRelease(((request.load() & ~3) &+ 4) | command.rawValue)
    }

    /// Whether the RQ's thread is paused, if that was the last command.
    package var isAcknowledged: Bool {
        // [E1 acquire <- the RQ's thread, after its last burst]
        let word = acknowledgement.loadAcquire()
        #if ModelCheck
        if SeededBug.acknowledgeWithoutNumber.isOn { return word & 3 == Command.pause.rawValue }
        #endif
        return word == request.load()
    }

    // MARK: The RQ's thread

    /// Between two bursts: the last command, acknowledged unless it is to run.
    package func obey() -> NumberedCommand {
        // [E2 acquire <- the control thread's command: the queue it put in place]
        let last = NumberedCommand(word: request.loadAcquire())
        if last.command != .run {
            // [E1 release -> the control thread: the queue's state after the last burst]
            acknowledgement.storeRelease(last.word)
        }
        return last
    }

    /// Between two bursts: waits while the thread is paused.
    /// - Parameter wake: signalled after each command.
    /// - Returns: the command to run; nil if the thread ends.
    package func awaitRun(_ wake: borrowing EventDescriptor) -> NumberedCommand? {
        while true {
            let last = obey()
            switch last.command {
            case .run: return last
            case .stop: return nil
            case .pause:
                wake.wait(nanoseconds: Self.pauseNanoseconds)
                wake.drain()
            }
        }
    }

    /// How often a paused thread checks for commands, in case a wake-up gets lost.
    private static let pauseNanoseconds: UInt64 = 100_000_000

    /// Whether no other command has come: it may be seen some bursts late.
    @inline(__always)
    package func isLast(_ command: NumberedCommand) -> Bool { request.load() == command.word }
}

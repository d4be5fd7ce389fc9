import Glibc

/// Keeps the scheduler from sharing this process's CPUs with other sessions by halves.
package enum SchedulingNoise {
    /// Raises the weight of this process's autogroup to that of nice -19, so that a busy process
    /// of another session takes 1 part in some 70 instead of half a CPU.
    ///
    /// The process first becomes a session of its own, so that nothing else is raised, unless it
    /// has a terminal (it would lose Ctrl-C) or leads its process group (the kernel refuses);
    /// then the whole session is raised, and put back as it was by `exit`. Never forks.
    /// - Returns: nil when it is done or there is nothing to do, else a sentence saying why not.
    package static func prioritizeSession() -> String? {
        let outcome = prioritize(
            path: path, probe: .live,
            hasTerminal: hasControllingTerminal, startSession: { setsid() >= 0 })
        if let nice = outcome.niceToRestore {
            // Only the first value is the session's own; a second call would find -19.
            let isFirst = savedLock.withLock { () -> Bool in
                if savedNice != nil { return false }
                savedNice = nice
                return true
            }
            if isFirst { atexit { SchedulingNoise.restoreSession() } }
        }
        return outcome.warning
    }

    /// What became of an attempt.
    struct Outcome: Equatable {
        var warning: String?
        /// The value before, when it was not this process's session alone that was raised.
        var niceToRestore: Int?
    }

    static func prioritize(
        path: String, probe: HostProbe, hasTerminal: () -> Bool, startSession: () -> Bool
    ) -> Outcome {
        guard probe.number("/proc/sys/kernel/sched_autogroup_enabled") == 1 else {
            return Outcome()
        }
        let isOwnSession = !hasTerminal() && startSession()
        let before = probe.line(path).flatMap(nice(inAutogroup:))
        let code = SystemFile.write("-19", to: path)
        if code == 0 { return Outcome(niceToRestore: isOwnSession ? nil : before) }
        let whose = isOwnSession ? "its own session" : "the session it was started in"
        let warning =
            "autogroup priority of \(whose) stays as it is: \(HostError.words(of: code)); "
            + "other sessions' processes may take half of a CPU (run as root, or sysctl "
            + "kernel.sched_autogroup_enabled=0)"
        return Outcome(warning: warning)
    }

    /// The number in a line such as `/autogroup-8 nice 0`.
    static func nice(inAutogroup line: String) -> Int? {
        let words = line.split(separator: " ")
        guard words.count == 3, words[1] == "nice" else { return nil }
        return Int(words[2])
    }

    private static let path = "/proc/self/autogroup"
    private static let savedLock = Lock()
    // SAFETY: read and written only while `savedLock` is held.
    nonisolated(unsafe) private static var savedNice: Int?

    private static func restoreSession() {
        savedLock.withLock {
            if let savedNice { _ = SystemFile.write(String(savedNice), to: path) }
        }
    }

    private static func hasControllingTerminal() -> Bool {
        let fd = open("/dev/tty", O_RDWR | O_NOCTTY | O_CLOEXEC)
        guard fd >= 0 else { return false }
        close(fd)
        return true
    }
}

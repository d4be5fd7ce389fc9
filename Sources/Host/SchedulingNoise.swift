import Glibc

/// Keeps the scheduler from sharing this process's CPUs with other sessions by halves.
public enum SchedulingNoise {
    /// Raises the weight of this process's autogroup to that of nice -19, so that a busy process
    /// of another session takes 1 part in some 70 instead of half a CPU.
    ///
    /// The process first becomes a session of its own, so that nothing else is raised, unless it
    /// has a terminal (it would lose Ctrl-C) or leads its process group (the kernel refuses);
    /// then the whole session is raised, for as long as it lives. Never forks.
    /// - Returns: nil when it is done or there is nothing to do, else a sentence saying why not.
    public static func prioritizeSession() -> String? {
        prioritize(
            path: "/proc/self/autogroup", probe: .live,
            hasTerminal: hasControllingTerminal, startSession: { setsid() >= 0 })
    }

    static func prioritize(
        path: String, probe: HostProbe, hasTerminal: () -> Bool, startSession: () -> Bool
    ) -> String? {
        guard probe.number("/proc/sys/kernel/sched_autogroup_enabled") == 1 else { return nil }
        let isOwnSession = !hasTerminal() && startSession()
        let code = SystemFile.write("-19", to: path)
        if code == 0 { return nil }
        let whose = isOwnSession ? "its own session" : "the session it was started in"
        return "autogroup priority of \(whose) stays as it is: \(HostError.words(of: code)); "
            + "other sessions' processes may take half of a CPU (run as root, or sysctl "
            + "kernel.sched_autogroup_enabled=0)"
    }

    private static func hasControllingTerminal() -> Bool {
        let fd = open("/dev/tty", O_RDWR | O_NOCTTY | O_CLOEXEC)
        guard fd >= 0 else { return false }
        close(fd)
        return true
    }
}

import CCleaveHost
import Glibc

/// A real thread with a name, kept on one CPU.
///
/// Its affinity is set before the body runs. It ends when the body returns; the owner joins it, and
/// so does the last release.
public final class PinnedThread: @unchecked Sendable {
    // SAFETY: `thread` is written once in init; `isFinished` is guarded by `lock`.
    private let thread: pthread_t
    private let lock = Lock()
    private var isFinished = false

    /// Starts a thread.
    /// - Parameters:
    ///   - name: what `ps` and `perf` show; cut to 15 bytes.
    ///   - cpu: the only CPU the thread may use; nil lets it run wherever its creator may.
    ///   - body: runs once on the new thread.
    /// - Throws: when `cpu` does not exist, is offline or is not allowed, or when no thread can be
    ///   created; then none remains.
    public init(
        name: String, cpu: Int?, _ body: @escaping @Sendable () -> Void
    ) throws(HostError) {
        if let cpu { try Self.validate(cpu: cpu) }
        let start = ThreadStart(name: Self.cut(name), body: body)
        let argument = Unmanaged.passRetained(start)
        var created = pthread_t()
        let entry: @convention(c) (UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? = {
            // SAFETY: the argument is the start retained above, taken exactly once.
            let start = Unmanaged<ThreadStart>.fromOpaque($0!).takeRetainedValue()
            _ = cleave_thread_set_name(start.name)
            start.body()
            return nil
        }
        let result = cleave_thread_start(
            &created, Int32(cpu ?? -1), entry, argument.toOpaque())
        if result != 0 {
            argument.release()
            let place = cpu.map { " on CPU \($0)" } ?? ""
            throw HostError("pthread_create", code: -result, "cannot start \"\(name)\"\(place)")
        }
        thread = created
    }

    deinit { join() }

    /// Waits until the body has returned. May be called again, and from any thread. If the thread
    /// itself releases the last reference, it is detached instead.
    public func join() {
        lock.withLock {
            if isFinished { return }
            isFinished = true
            if pthread_equal(thread, pthread_self()) != 0 {
                pthread_detach(thread)
            } else {
                pthread_join(thread, nil)
            }
        }
    }

    /// Keeps the calling thread on `cpu` from now on.
    /// - Throws: as the initialiser does.
    public static func pinCurrent(to cpu: Int) throws(HostError) {
        try validate(cpu: cpu)
        let result = cleave_affinity_set(Int32(cpu))
        if result != 0 {
            throw HostError(
                "sched_setaffinity", code: -result,
                "cannot pin to CPU \(cpu); allowed CPUs: \(CPUSet.allowed())")
        }
    }

    /// Keeps the calling thread off `cpus`, which have other work, as far as the process may use
    /// any others. For threads that keep house.
    package static func keepCurrent(off cpus: [Int]) {
        let left = CPUSet.allowed().cpus.filter { !cpus.contains($0) }
        guard !cpus.isEmpty, let last = left.last else { return }
        // Whole words, as the kernel wants them.
        var bits = [UInt8](repeating: 0, count: (last / 64 + 1) * 8)
        for cpu in left { bits[cpu / 8] |= 1 << (cpu % 8) }
        // A group of the system may have taken CPUs away since: the thread then stays where it is.
        _ = cleave_affinity_set_mask(bits, bits.count)
    }

    /// The CPU the calling thread runs on at this moment.
    public static func currentCPU() -> Int { Int(cleave_current_cpu()) }

    /// Lets other threads of this CPU run.
    public static func yield() { sched_yield() }

    /// Name of the calling thread as the kernel has it.
    public static func currentName() -> String {
        var name = [CChar](repeating: 0, count: 16)
        guard cleave_thread_get_name(&name, name.count) == 0 else { return "" }
        return name.withUnsafeBufferPointer { String(cString: $0.baseAddress!) }
    }

    /// - Throws: an error that lists the allowed CPUs, when a thread cannot be kept on `cpu`.
    public static func validate(cpu: Int) throws(HostError) {
        try validate(
            cpu: cpu, allowed: .allowed(), online: .online(), present: .present(probe: .live))
    }

    static func validate(
        cpu: Int, allowed: CPUSet, online: CPUSet, present: CPUSet
    ) throws(HostError) {
        if allowed.contains(cpu) { return }
        let problem =
            if !present.contains(cpu) {
                "does not exist"
            } else if !online.contains(cpu) {
                "is offline"
            } else {
                "is outside the affinity mask of this process"
            }
        throw HostError("CPU \(cpu)", "\(problem); allowed CPUs: \(allowed)")
    }

    /// At most 15 bytes of `name`, whole characters only: the kernel takes no more.
    static func cut(_ name: String) -> String {
        var result = ""
        for character in name {
            if result.utf8.count + character.utf8.count > 15 { break }
            result.append(character)
        }
        return result
    }
}

/// What a new thread needs to begin.
private final class ThreadStart: Sendable {
    let name: String
    let body: @Sendable () -> Void

    init(name: String, body: @escaping @Sendable () -> Void) {
        self.name = name
        self.body = body
    }
}

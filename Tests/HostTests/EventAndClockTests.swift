import Glibc
import Synchronization
import Testing

@testable import CleaveHost

@Suite struct EventDescriptorTests {
    static func isReadable(_ fd: Int32) -> Bool {
        var entry = pollfd(fd: fd, events: Int16(POLLIN), revents: 0)
        return poll(&entry, 1, 0) == 1
    }

    // A noncopyable value cannot be inside #expect, so answers are taken first.

    @Test func signalsAddUpToOne() throws {
        let event = try EventDescriptor()
        let fd = event.fileDescriptor
        let beforeAny = event.drain()
        event.signal()
        event.signal()
        let wasReadable = Self.isReadable(fd)
        let first = event.drain()
        let isStillReadable = Self.isReadable(fd)
        let second = event.drain()
        #expect(!beforeAny && wasReadable && first && !isStillReadable && !second)
    }

    @Test func aFullCounterStaysSignalled() throws {
        let event = try EventDescriptor()
        var most = UInt64.max - 1
        let written = write(event.fileDescriptor, &most, 8)
        event.signal()
        let first = event.drain()
        let second = event.drain()
        #expect(written == 8 && first && !second)
    }

    @Test func isNonBlockingAndClosedOnExec() throws {
        let event = try EventDescriptor()
        let fd = event.fileDescriptor
        #expect(fcntl(fd, F_GETFL) & O_NONBLOCK != 0)
        #expect(fcntl(fd, F_GETFD) & FD_CLOEXEC != 0)
        withExtendedLifetime(event) {}
    }

    @Test func wakesAnotherThread() throws {
        let event = try EventDescriptor()
        let fd = event.fileDescriptor
        let woken = Atomic(false)
        let thread = try PinnedThread(name: "waiter", cpu: nil) {
            var entry = pollfd(fd: fd, events: Int16(POLLIN), revents: 0)
            woken.store(poll(&entry, 1, -1) == 1, ordering: .relaxed)
        }
        event.signal()
        thread.join()
        withExtendedLifetime(event) {}
        let wasWoken = woken.load(ordering: .relaxed)
        #expect(wasWoken)
    }
}

@Suite struct CycleClockTests {
    @Test func runsForwardOnOneCPU() throws {
        let cpu = try #require(CPUSet.allowed().cpus.first)
        let regressions = Atomic(0)
        try PinnedThread(name: "clock", cpu: cpu) {
            var last = CycleClock.now()
            for _ in 0..<100_000 {
                let now = CycleClock.now()
                if now < last { regressions.add(1, ordering: .relaxed) }
                last = now
            }
        }.join()
        let count = regressions.load(ordering: .relaxed)
        #expect(count == 0)
    }

    @Test func rateIsThatOfACounter() {
        #expect(CycleClock.hertz > 1e6 && CycleClock.hertz < 2e10)
        #expect(["tsc", "cntvct", "clock_monotonic"].contains(CycleClock.source))
        #expect(CycleClock.calibrate(sampleCount: 0, nanoseconds: 1000) > 1e6)
    }
}

@Suite struct SystemClockTests {
    @Test func threadTimeCountsWorkAndNoSleep() {
        let start = (SystemClock.threadTime, SystemClock.monotonic)
        usleep(50_000)
        let slept = SystemClock.threadTime - start.0
        #expect(slept < SystemClock.monotonic - start.1)
        while SystemClock.threadTime - start.0 < slept + 5_000_000 {}
        #expect(SystemClock.monotonic - start.1 >= 55_000_000)
    }
}

@Suite struct HostErrorTests {
    @Test func isOneLine() {
        #expect(
            HostError("mmap", code: 12, "no room").description
                == "mmap: no room: Cannot allocate memory (errno 12)")
        #expect(HostError("CPU 9", "does not exist").description == "CPU 9: does not exist")
        #expect(HostError.words(of: 99_999) == "Unknown error 99999")
    }
}

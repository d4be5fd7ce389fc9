import CCleaveHost

/// SIGTERM and SIGINT as a request that a program checks between two steps of its work.
package enum StopSignal {
    /// Milliseconds that the program has to end by itself after the request.
    package static let graceMilliseconds: UInt32 = 1_800

    /// From now on the first SIGTERM or SIGINT is remembered. A second one ends the process at
    /// once, and so does the kernel when the grace period is over.
    package static func catchSignals() throws(HostError) {
        let result = cleave_stop_signal_catch(graceMilliseconds)
        if result != 0 {
            throw HostError("sigaction", code: -result, "cannot catch SIGTERM and SIGINT")
        }
    }

    /// The number of the signal that came, nil for none. Any thread; costs a load.
    package static var received: Int32? {
        let signal = cleave_stop_signal()
        return signal == 0 ? nil : signal
    }

    /// `SIGTERM`, `SIGINT` or the number.
    package static func name(_ signal: Int32) -> String {
        switch signal {
        case 2: "SIGINT"
        case 15: "SIGTERM"
        default: "signal \(signal)"
        }
    }
}

/// SIGUSR1 as a request to say how things are.
package enum ReportSignal {
    /// From now on SIGUSR1 is remembered.
    package static func catchSignal() throws(HostError) {
        let result = cleave_report_signal_catch()
        if result != 0 { throw HostError("sigaction", code: -result, "cannot catch SIGUSR1") }
    }

    /// Whether one came since this was asked last.
    package static func take() -> Bool { cleave_report_signal_take() != 0 }
}

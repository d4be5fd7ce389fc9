import CCleaveHost

/// SIGTERM and SIGINT as a request that a program checks between two steps of its work.
package enum StopSignal {
    /// Milliseconds that the program has to end by itself after the request.
    package static let graceMilliseconds: UInt32 = 1_800

    /// From now on the first SIGTERM or SIGINT is remembered. A later second one ends the process
    /// at once, and so does the first when the grace period is over.
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

/// A signal as a request that a program carries out between two steps of its work.
package enum RequestSignal: Int32 {
    /// SIGUSR1: say how things are.
    case report = 10
    /// SIGHUP: read the configuration anew. Until it is caught, it is a request to stop.
    case reload = 1

    /// From now on it is remembered.
    package func catchSignal() throws(HostError) {
        let result = cleave_request_signal_catch(rawValue)
        if result != 0 { throw HostError("sigaction", code: -result, "cannot catch \(name)") }
    }

    /// Whether one came since this was asked last.
    package func take() -> Bool { cleave_request_signal_take(rawValue) != 0 }

    private var name: String {
        switch self {
        case .report: "SIGUSR1"
        case .reload: "SIGHUP"
        }
    }
}

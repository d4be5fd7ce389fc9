import CCleaveHost

/// The service manager that started this program, systemd or another with its protocol.
package enum ServiceManager {
    /// Says that the program does its work now; nothing if there is no manager.
    package static func sayReady() throws(HostError) {
        let result = cleave_notify_manager("READY=1")
        if result < 0 {
            throw HostError("NOTIFY_SOCKET", code: -result, "cannot tell the service manager")
        }
    }
}

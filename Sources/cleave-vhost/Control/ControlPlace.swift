import CleaveControl
import CleaveHost
import CleaveProgramSupport
import Glibc

/// Where the control socket is.
enum ControlPlace {
    /// The word for the usual place, in options and configurations.
    static let usualWord = "auto"

    /// The usual place: in $XDG_RUNTIME_DIR for a user, else where a service has its files.
    static var usual: String {
        let folder = getenv("XDG_RUNTIME_DIR").map { String(cString: $0) } ?? ""
        return folder.isEmpty
            ? "/run/cleave-vhost/control.sock" : folder + "/cleave-vhost.sock"
    }

    static func path(_ text: String) -> String { text == usualWord ? usual : text }
}

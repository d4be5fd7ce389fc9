import CleaveHost
import CleaveProgramSupport
import CleaveTraffic
import Glibc

/// What the packet axis names: a traffic profile, or the path of a capture.
enum PacketSpec {
    /// `text` if it is a profile, otherwise the path of the capture that it names.
    /// - Parameter directory: where relative paths start; empty for the current directory.
    /// - Throws: a sentence if it is neither.
    static func resolve(_ text: String, directory: String) throws(SettingError) -> String {
        let problem: String
        do {
            _ = try TrafficProfile.parse(text)
            return text
        } catch { problem = error.description }
        if text.isEmpty { throw SettingError(problem: problem) }
        let path = text.hasPrefix("/") || directory.isEmpty ? text : "\(directory)/\(text)"
        var status = stat()
        if PathText.withBytes(path, { stat($0, &status) }) == 0 {
            guard status.st_mode & S_IFMT == S_IFREG else {
                throw SettingError(problem: "\(path) is not a regular file")
            }
            return path
        }
        let code = errno
        // A text that begins with a size was meant as a profile.
        let looksLikePath =
            text.contains(".pcap") || text.contains(".cap")
            || (text.contains("/") && text.first?.isNumber != true && !text.hasPrefix("imix"))
        guard looksLikePath else { throw SettingError(problem: problem) }
        throw SettingError(problem: "cannot open capture \(path): \(systemWords(code))")
    }
}

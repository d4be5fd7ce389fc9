import CleaveHost
import CleaveProgramSupport
import Glibc

/// A terminal that a program has to itself: a screen of its own, no cursor, keys as they are
/// pressed. `leave` gives it back as it was; so does the last release, whatever happened before.
///
/// One at a time, on one thread.
final class Terminal {
    private var saved = termios()
    private var isEntered = false
    private var input: [UInt8] = []
    private let descriptor = STDIN_FILENO

    /// - Throws: what is no terminal.
    init() throws(Failure) {
        guard isatty(STDIN_FILENO) == 1, isatty(STDOUT_FILENO) == 1 else {
            throw .usage("top needs a terminal; --once prints one sample, --json one after another")
        }
        guard tcgetattr(descriptor, &saved) == 0 else {
            throw .run("the terminal does not tell its settings: \(systemWords(errno))")
        }
        // A change of the size ends a wait; nothing is restarted.
        var action = sigaction()
        action.__sigaction_handler.sa_handler = { _ in }
        sigaction(SIGWINCH, &action, nil)
        try enter()
    }

    deinit { leave() }

    private func enter() throws(Failure) {
        var raw = saved
        cfmakeraw(&raw)
        // Lines still go down and left by one character.
        raw.c_oflag |= tcflag_t(OPOST | ONLCR)
        guard tcsetattr(descriptor, TCSAFLUSH, &raw) == 0 else {
            throw .run("the terminal's settings cannot be changed: \(systemWords(errno))")
        }
        isEntered = true
        // Another screen, no cursor, no line breaks of the terminal's own.
        try Stream.output.write("\u{1B}[?1049h\u{1B}[?25l\u{1B}[?7l")
    }

    func leave() {
        guard isEntered else { return }
        isEntered = false
        try? Stream.output.write("\u{1B}[?7h\u{1B}[?25h\u{1B}[?1049l")
        tcsetattr(descriptor, TCSAFLUSH, &saved)
    }

    /// Stops as Ctrl-Z does, with the terminal given back until the program goes on.
    private func suspend() throws(Failure) {
        leave()
        raise(SIGTSTP)
        try enter()
    }

    /// Rows and columns.
    var size: (rows: Int, columns: Int) {
        var size = winsize()
        guard ioctl(STDOUT_FILENO, UInt(TIOCGWINSZ), &size) == 0, size.ws_row > 0,
            size.ws_col > 0
        else { return (24, 80) }
        return (Int(size.ws_row), Int(size.ws_col))
    }

    /// Whether it says that it shows UTF-8.
    static var showsUnicode: Bool {
        for name in ["LC_ALL", "LC_CTYPE", "LANG"] {
            guard let value = getenv(name).map({ String(cString: $0) }), !value.isEmpty else {
                continue
            }
            let upper = value.uppercased()
            return upper.contains("UTF-8") || upper.contains("UTF8")
        }
        return false
    }

    /// Puts lines in place of what was there, without a flicker.
    func show(_ lines: [String]) throws(Failure) {
        let text = lines.map { $0 + "\u{1B}[K" }.joined(separator: "\n")
        try Stream.output.write("\u{1B}[H" + text + "\u{1B}[J")
    }

    /// Waits for keys, a change of the size or a signal.
    /// - Returns: what was pressed; nil if nobody can press anything any more.
    func keys(milliseconds: Int32) throws(Failure) -> [TopKey]? {
        var wait = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        guard poll(&wait, 1, milliseconds) > 0 else { return [] }
        var bytes = [UInt8](repeating: 0, count: 256)
        let count = read(descriptor, &bytes, bytes.count)
        if count < 0 { return errno == EINTR || errno == EAGAIN ? [] : nil }
        if count == 0 { return nil }
        input += bytes[..<count]
        let keys = Self.keys(&input)
        if keys.contains(.character("\u{1A}")) { try suspend() }
        return keys
    }

    /// Reads keys; the beginning of a sequence that is not all there yet stays.
    static func keys(_ bytes: inout [UInt8]) -> [TopKey] {
        var keys: [TopKey] = []
        while let first = bytes.first {
            // An escape by itself may be the beginning of a sequence.
            if bytes == [0x1B] { return keys }
            guard first == 0x1B, bytes.count > 1, bytes[1] == 0x5B || bytes[1] == 0x4F else {
                bytes.removeFirst()
                if first != 0x1B && first < 0x80 {
                    keys.append(.character(Character(UnicodeScalar(first))))
                }
                continue
            }
            // Parameters, then one letter.
            guard let end = bytes.dropFirst(2).firstIndex(where: { (0x40...0x7E).contains($0) })
            else {
                if bytes.count > 16 { bytes = [] }
                return keys
            }
            switch bytes[end] {
            case 0x41: keys.append(.up)
            case 0x42: keys.append(.down)
            case 0x43: keys.append(.right)
            case 0x44: keys.append(.left)
            default: break
            }
            bytes.removeFirst(end + 1)
        }
        return keys
    }
}

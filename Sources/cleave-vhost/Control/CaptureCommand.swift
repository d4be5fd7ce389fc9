import ArgumentParser
import CCleaveHost
import CleaveControl
import CleaveHost
import CleaveProgramSupport
import CleaveSwitch
import CleaveTraffic
import Glibc

/// Packets of a port, as they pass, into a file or a program that reads captures.
///
/// The program is given one end of a socket, and this one copies from the other: so it never
/// writes to a file by itself, and a disk that is slow costs records of this capture alone.
struct CaptureCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "capture", abstract: "Writes packets of a port as they pass (pcapng).",
        usage: "cleave-vhost ctl capture [<port>] -w <file> [options]",
        discussion: """
            Examples:
              cleave-vhost ctl capture port0 -w port0.pcapng --count 1000
              cleave-vhost ctl capture port0 --direction tx -w - | tshark -i -

            Directions are the far side's: rx is what a guest receives, tx is what it sends. \
            Packets are as the switch has them: checksums may be unfinished, and segments not cut. \
            Where nobody is connected it says so, and waits for who comes. \
            It ends with Ctrl-C, after --count packets, or with the port; then it says how many \
            packets were captured, and how many were not since the reader was too slow.
            """)

    @OptionGroup var socket: ControlSocketOptions
    @Argument(help: "The name of a port; without it, all ports.")
    var port: String?
    @Option(help: .example("Only this queue pair.", "--queue 0", "number"))
    var queue: Int?
    @Option(help: .example("Only one direction: rx or tx.", "--direction tx", "direction"))
    var direction: String?
    @Option(help: .example("Ends after so many packets.", "--count 1000", "packets"))
    var count: Int?
    @Option(help: .example("Keeps so many bytes of each.", "--snaplen 128", "bytes"))
    var snaplen: Int?
    @Option(
        name: .customShort("w"),
        help: .example("Where to: a file, or - for standard output.", "-w port0.pcapng", "file"))
    var file: String

    func run() throws {
        var arguments: [String: JSONValue] = [:]
        if let port { arguments["port"] = .string(port) }
        if let direction { arguments["direction"] = .string(direction) }
        for (name, value) in [("queue", queue), ("count", count), ("snaplen", snaplen)] {
            if let value { arguments[name] = .integer(Int64(value)) }
        }
        let client = try socket.client()
        var ends: [Int32] = [-1, -1]
        guard socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0, &ends) == 0 else {
            throw Failure.run("socketpair: \(HostError.words(of: errno))")
        }
        defer { close(ends[0]) }
        var waitsFor: [String] = []
        do {
            defer { close(ends[1]) }
            let answer = try client.answer("capture", arguments, descriptors: [ends[1]])
            waitsFor = (answer["waitsFor"]?.elements ?? []).map { AnswerTable.cell($0) }
        }
        let output = try open()
        if !waitsFor.isEmpty {
            try Stream.error.write(
                "waiting: nobody is connected at \(waitsFor.joined(separator: ", "))\n")
        }
        defer { if output != STDOUT_FILENO { close(output) } }
        var tally = PcapngTally()
        try copy(from: ends[0], to: output, &tally)
        guard tally.isComplete else {
            throw Failure.run(
                "\(file): the capture was cut off after \(tally.packetCount) packets: the program "
                    + "has ended, or was too slow to say the end")
        }
        let comment = tally.comment.map { "; \($0)" } ?? ""
        try Stream.error.write(
            "\(tally.packetCount) packets captured, \(tally.droppedCount) dropped\(comment)\n")
    }

    private func open() throws(Failure) -> Int32 {
        if file == "-" { return STDOUT_FILENO }
        let result = PathText.withBytes(file) {
            Glibc.open($0, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o644)
        }
        guard result >= 0 else { throw .run("\(file): \(HostError.words(of: errno))") }
        return result
    }

    /// Copies until the stream ends. A signal asks for its end, and what is on its way still comes.
    private func copy(
        from source: Int32, to output: Int32, _ tally: inout PcapngTally
    ) throws(Failure) {
        var bytes = [UInt8](repeating: 0, count: 256 * 1024)
        var isEnding = false
        while true {
            if !isEnding, StopSignal.received != nil {
                isEnding = true
                shutdown(source, Int32(SHUT_WR))
            }
            var ready = pollfd(fd: source, events: Int16(POLLIN), revents: 0)
            if poll(&ready, 1, 100) <= 0 { continue }
            let count = recv(source, &bytes, bytes.count, 0)
            if count < 0 && errno == EINTR { continue }
            if count <= 0 { return }
            let isWritten = bytes.withUnsafeBytes { all in
                let piece = UnsafeRawBufferPointer(rebasing: all[..<count])
                tally.take(piece)
                return Self.write(piece, to: output)
            }
            if !isWritten {
                // Whoever read standard output has what it wanted.
                if errno == EPIPE && output == STDOUT_FILENO { throw .outputClosed }
                throw .run("\(file): \(HostError.words(of: errno))")
            }
        }
    }

    private static func write(_ bytes: UnsafeRawBufferPointer, to output: Int32) -> Bool {
        var rest = bytes[...]
        while !rest.isEmpty {
            let piece = UnsafeRawBufferPointer(rebasing: rest)
            let count = Glibc.write(output, piece.baseAddress, piece.count)
            if count < 0 && errno == EINTR { continue }
            if count < 0 { return false }
            rest = rest.dropFirst(count)
        }
        return true
    }
}

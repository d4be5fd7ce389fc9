import ArgumentParser
import CleaveBench
import CleaveHost
import CleaveProgramSupport

/// One end of a stream of `zerocopy`, as a process where that end is.
struct ZeroCopyEndCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "zerocopy-end",
        abstract: "One end of a stream of 'zerocopy', which starts it.",
        usage: "cleave-bench zerocopy-end --port <port> --bytes <bytes> [options]",
        shouldDisplay: false)

    @Option(help: "Receive: copied or mapped. What came is printed as a line of JSON.")
    var receive: ReceiveWay?

    @Option(help: "Send to this IPv4 address.")
    var send: String?

    @Option(help: "TCP port of the receiver.")
    var port: UInt16

    @Option(help: "Bytes of the stream.")
    var bytes: Int

    @Option(help: "Bytes that the receiver takes with one call: whole pages.")
    var buffer = 1 << 20

    @Option(help: "What the receiver does with the bytes: nothing, read or compare.")
    var use = ReceiveUse.nothing

    func validate() throws {
        guard (receive == nil) != (send == nil) else {
            throw ValidationError("either --receive or --send is needed")
        }
        let page = StreamReceiver.pageByteCount
        guard bytes > 0, (page...1 << 30).contains(buffer), buffer % page == 0 else {
            throw ValidationError("--bytes or --buffer is out of range")
        }
    }

    func run() throws {
        var receipt: StreamReceipt?
        do throws(HostError) {
            if let receive {
                var receiver = StreamReceiver(
                    port: port, byteCount: bytes, bufferByteCount: buffer)
                (receiver.way, receiver.use) = (receive, use)
                receipt = try receiver.run()
            } else if let send {
                try StreamSender(
                    address: send, port: port, byteCount: bytes, isCompared: use == .compare
                ).run()
            }
        } catch { throw Failure.run(error.description) }
        if let receipt { try Stream.output.write(ResultJSON.line(receipt) + "\n") }
    }
}

extension ReceiveWay: ExpressibleByArgument {}
extension ReceiveUse: ExpressibleByArgument {}

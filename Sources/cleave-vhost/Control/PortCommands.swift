// What an operator asks a switch that runs to change: ports, queues, the configuration.

import CleaveControl
import CleaveHost
import CleavePorts
import CleaveProgramSupport
import CleaveSwitch
import Glibc

/// The commands of the control socket that change what is joined, or what is seen of it.
enum PortCommands {
    /// - Parameter reloader: reads the configuration anew; nil if there is no file.
    static func all(_ reloader: Reloader?) -> [ControlCommand] {
        [add, remove, move, capture, reload(reloader)]
    }

    private static let add = ControlCommand(
        "port.add", help: "Adds a port; traffic of others goes on.",
        arguments: [
            .init(
                "settings", .string, isRequired: true,
                help: "Keys and values as of --port: type=tap,interface=tap0,name=host.")
        ]
    ) { call throws(ControlFailure) in
        let port: any Port
        let rateLimit: RateLimit?
        do throws(Failure) {
            // As on the program's command line, paths start where the program was started.
            let setting = try PortSetting(
                parsing: call.text("settings") ?? "", place: "settings")
            let names = Set(call.joined.portNames)
            let number = (0...names.count).first { !names.contains("port\($0)") } ?? 0
            port = try setting.port(number: number, directory: "")
            rateLimit = try setting.rateLimit()
        } catch {
            // Its text begins with the place.
            throw ControlFailure("\(error)")
        }
        do throws(SetupError) { try call.joined.add(port, rateLimit: rateLimit) } catch {
            throw ControlFailure("\(error)", about: "settings")
        }
        return ["port": .string(port.name)]
    }

    private static let remove = ControlCommand(
        "port.remove", help: "Removes a port; traffic of others goes on.",
        arguments: [portArgument]
    ) { call throws(ControlFailure) in
        let name = call.text("port") ?? ""
        let counters: PortCounters
        do throws(SetupError) { counters = try call.joined.remove(name) } catch {
            throw ControlFailure("\(error)", about: "port")
        }
        return [
            "port": .string(name),
            "packetsIn": .integer(Int64(clamping: counters.packetsIn)),
            "packetsOut": .integer(Int64(clamping: counters.packetsOut)),
            "droppedIn": .integer(Int64(clamping: counters.incoming.droppedTotal)),
            "droppedOut": .integer(Int64(clamping: counters.outgoing.droppedTotal)),
        ]
    }

    private static let move = ControlCommand(
        "rq.move", help: "Gives a port's queue, both directions of it, to another switch thread.",
        arguments: [
            portArgument,
            .init("queue", .integer, isRequired: true, help: "Its number at the port, from 0."),
            .init("thread", .integer, isRequired: true, help: "The thread's number, from 0."),
        ]
    ) { call throws(ControlFailure) in
        let (name, queue) = (call.text("port") ?? "", call.integer("queue") ?? -1)
        let thread = call.integer("thread") ?? -1
        do throws(SetupError) {
            try call.joined.move(name, queue: queue, toThread: thread)
        } catch { throw ControlFailure("\(error)", about: "port, queue or thread") }
        return [
            "port": .string(name), "queue": .integer(Int64(queue)),
            "thread": .integer(Int64(thread)),
        ]
    }

    private static let capture = ControlCommand(
        "capture", help: "Copies packets as they pass into a stream socket, as pcapng.",
        arguments: [
            .init("port", .string, help: "The name of a port; all ports without it."),
            .init("queue", .integer, help: "Only this queue pair, from 0."),
            .init("direction", .string, help: "rx: what the far side receives; tx: what it sends."),
            .init("count", .integer, help: "Packets after which it ends."),
            .init("snaplen", .integer, help: "Bytes that are kept of each packet."),
        ]
    ) { call throws(ControlFailure) in
        var request = CaptureRequest(port: call.text("port"))
        request.queue = call.integer("queue")
        if let text = call.text("direction") {
            guard let direction = CaptureDirection(rawValue: text) else {
                throw ControlFailure("\"\(text)\" is not one of rx, tx", about: "direction")
            }
            request.direction = direction
        }
        request.packetLimit = call.integer("count")
        request.snapLength = call.integer("snaplen") ?? CaptureRequest.maximumSnapLength
        guard call.descriptors.count == 1, let socket = call.descriptors[0].take() else {
            throw ControlFailure("expected one descriptor with the request, a stream socket")
        }
        defer { Glibc.close(socket) }
        do throws(SetupError) { try call.joined.startCapture(request, to: socket) } catch {
            throw ControlFailure("\(error)")
        }
        return ["waitsFor": .array(missing(request, call.joined).map { .string($0) })]
    }

    /// Ports that a capture waits for: nobody is at any of those that it is of.
    private static func missing(_ request: CaptureRequest, _ joined: Switch) -> [String] {
        let ports = joined.portStates.filter { request.port == nil || $0.name == request.port }
        return ports.contains(where: \.isConnected) ? [] : ports.map(\.name)
    }

    private static func reload(_ reloader: Reloader?) -> ControlCommand {
        ControlCommand(
            "reload", help: "Reads the configuration anew, as SIGHUP does."
        ) { call throws(ControlFailure) in
            guard let reloader else {
                throw ControlFailure("the program was started without --config", about: "reload")
            }
            let done: (summary: String, failures: [String])
            do throws(Failure) { done = try reloader.reload(call.joined) } catch {
                throw ControlFailure("\(error)")
            }
            return [
                "summary": .string(done.summary),
                "notDone": .array(done.failures.map { .string($0) }),
            ]
        }
    }

    private static var portArgument: ControlCommand.Argument {
        .init("port", .string, isRequired: true, help: "The name of the port.")
    }
}

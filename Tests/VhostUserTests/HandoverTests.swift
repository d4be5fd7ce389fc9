// A session that goes to another process: what is told of it is all of it, and whatever else comes
// in its place is refused by the name of the field.

import CCleaveHost
import CleaveHost
import CleaveVirtioNet
import Foundation
import Glibc
import Testing

@testable import CleaveVhostUser

@Suite("A session that another process takes over")
struct HandoverTests {
    /// A session with everything that one may have.
    /// - Parameter keepsInFlight: then the ring itself says where it goes on.
    private static func rig(keepsInFlight: Bool = true) -> SessionRig {
        let device = RecordingDevice(features: 1 << 32 | 1 << 17 | 1 << 58)
        let rig = SessionRig(device, protocolFeatures: .offered.union(.headerQueue))
        rig.request(.setOwner)
        rig.setMemory([
            SharedMemory.region(size: 1 << 19),
            SharedMemory.region(
                guest: SharedMemory.guestBase + 1 << 20, size: 1 << 19,
                user: SharedMemory.userBase + 1 << 20, offset: 1 << 19),
        ])
        var log = PayloadWriter()
        log.append(UInt64(1 << 20))
        log.append(UInt64(0))
        rig.request(.setLogBase, log.bytes, [rig.memory.descriptor])
        rig.request(.setLogDescriptor, [], [rig.event])
        var inFlight = InFlightDescription(ringCount: 2, ringSize: 64)
        inFlight.byteCount = InFlightRegion.byteCount(inFlight, .packed)
        let region = cleave_memfd("in-flight", Int(inFlight.byteCount), 0)
        if keepsInFlight { rig.request(.setInFlightDescriptor, inFlight.bytes(), [region]) }
        close(region)
        var ends: [Int32] = [0, 0]
        socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0, &ends)
        rig.request(.setBackendRequestDescriptor, [], [ends[0]])
        for end in ends { close(end) }
        rig.request(.setStatus, PayloadWriter.number(15))
        rig.request(.setFeatures, PayloadWriter.number(1 << 32 | 1 << 30 | 1 << 26))
        rig.startRing(0, base: 0)
        rig.startRing(1, base: 0)
        rig.setDescriptor(.setVringError, 1, rig.event)
        // The beginning of a message.
        rig.send(Array(Message(request: 1, flags: 9).bytes.prefix(7)))
        _ = rig.session.service()
        return rig
    }

    private static func copy<Value: Codable>(_ value: Value) throws -> Value {
        try JSONDecoder().decode(Value.self, from: JSONEncoder().encode(value))
    }

    @Test("All of it arrives, rings go on where they stopped, and the front-end notices nothing")
    func roundTrip() throws {
        let rig = Self.rig(keepsInFlight: false)
        (rig.device.positions[0], rig.device.positions[1]) = (17, 4711)
        let descriptors = HandoverDescriptors()
        let state = try Self.copy(rig.session.handover(descriptors))
        #expect(state.regions.count == 2 && state.log != nil && state.logsAll)
        #expect(state.channel != nil && state.logDescriptor != nil && state.status == 15)
        #expect(state.connection.header.count == 7)
        _ = rig.device.take()
        let positions = try Self.copy(rig.session.suspend())
        #expect(rig.device.take() == ["stop 0", "stop 1"])
        #expect(positions[0].base == 17 && positions[1].base == 4711)

        let device = RecordingDevice(features: 1 << 32 | 1 << 17 | 1 << 58)
        let taken = try BackendSession(taking: state, descriptors, device: device)
        try descriptors.checkAllTaken()
        #expect(device.take() == [])
        try taken.start(at: positions)
        #expect(device.take() == ["start 0", "start 1"])
        #expect(device.setups[1]?.virtqueue.base == 4711)
        #expect(device.setups[1]?.observation?.log != nil)
        // Nothing is lost on the way to the next one either.
        let again = HandoverDescriptors()
        #expect(try taken.handover(again) == state)

        rig.session.close()
        #expect(taken.service() == .open)
        rig.send(Array(Message(request: 1, flags: 9).bytes.dropFirst(7)))
        #expect(taken.service() == .open)
        let answers = rig.answers()
        #expect(answers.map(\.request) == [1])
        #expect(answers.first?.payload == PayloadWriter.number(device.offeredFeatures | 17 << 26))
        taken.close()
    }

    @Test("The region of what is in flight goes on, and says where its rings do")
    func inFlight() throws {
        let rig = Self.rig()
        let descriptors = HandoverDescriptors()
        let state = try Self.copy(rig.session.handover(descriptors))
        #expect(state.inFlight?.ringCount == 2)
        let positions = rig.session.suspend()
        let device = RecordingDevice(features: 1 << 32 | 1 << 17 | 1 << 58)
        let taken = try BackendSession(taking: state, descriptors, device: device)
        try taken.start(at: positions)
        #expect(device.take() == ["start 0", "start 1"])
        #expect(try taken.handover(HandoverDescriptors()) == state)
        taken.close()
    }

    @Test("One that nobody takes over goes on where it stopped")
    func resumed() throws {
        let rig = Self.rig(keepsInFlight: false)
        rig.device.positions[0] = 17
        _ = try rig.session.handover(HandoverDescriptors())
        _ = rig.session.suspend()
        _ = rig.device.take()
        rig.session.resume()
        #expect(rig.device.take() == ["start 0", "start 1"])
        #expect(rig.device.setups[0]?.virtqueue.base == 17)
    }

    @Test("An answer that the front-end has not read yet is sent by the next process")
    func unsent() throws {
        let rig = SessionRig(features: nil)
        // Until the socket takes no more.
        var asked = 0
        while rig.session.connection?.hasUnsent != true {
            rig.send(1, [], flags: 1)
            asked += 1
            try #require(rig.session.service() == .open)
        }
        let descriptors = HandoverDescriptors()
        let state = try Self.copy(rig.session.handover(descriptors))
        #expect(!state.connection.output.isEmpty)
        let taken = try BackendSession(
            taking: state, descriptors, device: RecordingDevice())
        rig.session.close()
        var answered = rig.answers().count
        usleep(20_000)
        #expect(taken.service() == .open)
        answered += rig.answers().count
        #expect(answered == asked)
        taken.close()
    }

    /// A wrong field, and what is said of it.
    struct Wrong: CustomTestStringConvertible, Sendable {
        var words: String
        var change: @Sendable (inout SessionHandover) -> Void
        var testDescription: String { words }

        init(_ words: String, _ change: @escaping @Sendable (inout SessionHandover) -> Void) {
            (self.words, self.change) = (words, change)
        }
    }

    static let wrongs: [Wrong] = [
        Wrong("connection.descriptor 99: there are") { $0.connection.descriptor = 99 },
        Wrong("connection.descriptor -1: there are") { $0.connection.descriptor = -1 },
        Wrong("is no connected stream socket") {
            $0.connection.descriptor = $0.regions[0].descriptor
        },
        Wrong("connection.header: 13 bytes") {
            $0.connection.header = [UInt8](repeating: 0, count: 13)
        },
        Wrong("connection.payload: before its header") { $0.connection.payload = [1] },
        Wrong("connection.header: a payload of 4097 bytes") {
            $0.connection.header = [1, 0, 0, 0, 1, 0, 0, 0, 1, 16, 0, 0]
        },
        Wrong("connection.payload: 3 bytes of 2") {
            $0.connection.header = [1, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0]
            $0.connection.payload = [1, 2, 3]
        },
        Wrong("connection.inputDescriptors") {
            $0.connection.inputDescriptors = [Int](repeating: 0, count: 9)
        },
        Wrong("connection.descriptor 0 is named twice") { $0.connection.inputDescriptors = [0] },
        Wrong("connection.output: no bytes") {
            $0.connection.output = [ConnectionHandover.Output(bytes: [], descriptors: [])]
        },
        Wrong("connection.output: more than 65536 bytes") {
            $0.connection.output = [
                ConnectionHandover.Output(
                    bytes: [UInt8](repeating: 0, count: 65537), descriptors: [])
            ]
        },
        Wrong("channel.descriptor 99") { $0.channel?.descriptor = 99 },
        Wrong("offeredFeatures: 0x1, and here") { $0.offeredFeatures = 1 },
        Wrong("features: 0x1 are not all offered") { $0.features = 1 },
        Wrong("protocolFeatures: 0x80000000 are not") { $0.protocolFeatures = 1 << 31 },
        Wrong("regions: 65, more than 64") {
            $0.regions = [SessionHandover.Region](repeating: $0.regions[0], count: 65)
        },
        Wrong("regions[1]: descriptor 99") { $0.regions[1].descriptor = 99 },
        Wrong("regions[0].holders: 0") { $0.regions[0].holders = 0 },
        Wrong("regions: overlap") { $0.regions[1].guestAddress = $0.regions[0].guestAddress },
        Wrong("regions: region") { $0.regions[0].size = 0 },
        Wrong("regions: pastEOF") { $0.regions[1].fileOffset = 1 << 20 },
        Wrong("regions: fdType") { state in
            let other = state.logDescriptor ?? 0
            state.logDescriptor = state.regions[0].descriptor
            state.regions[0].descriptor = other
        },
        Wrong("log.byteCount: 1 do not cover") { $0.log?.byteCount = 1 },
        Wrong("log: descriptor 99") { $0.log?.descriptor = 99 },
        Wrong("logDescriptor: descriptor 99") { $0.logDescriptor = 99 },
        Wrong("inFlight: inflight") { $0.inFlight?.ringCount = 0 },
        Wrong("inFlight: inflight") { $0.inFlight?.byteCount = 8 },
        Wrong("rings: 5, and here there are 6") { $0.rings.removeLast() },
        Wrong("rings[1].size: ") { $0.rings[1].size = 63 },
        Wrong("rings[1].size: ") { $0.rings[1].size = -1 },
        Wrong("rings[0].address: an area is not aligned") { $0.rings[0].address?.driverArea = 1 },
        Wrong("rings[0].call: descriptor 99") { $0.rings[0].call = 99 },
        Wrong("rings[0].kick: ") { state in
            state.rings[0].kick = state.inFlight?.descriptor
            state.inFlight = nil
        },
        Wrong("rings[1].error: descriptor -7") { $0.rings[1].error = -7 },
        Wrong("belongs to nothing") { $0.rings[1].error = nil },
    ]

    @Test("What cannot be is refused by the name of its field", arguments: wrongs)
    func wrong(_ wrong: Wrong) throws {
        let rig = Self.rig()
        let descriptors = HandoverDescriptors()
        var state = try rig.session.handover(descriptors)
        wrong.change(&state)
        let device = RecordingDevice(features: 1 << 32 | 1 << 17 | 1 << 58)
        let error = #expect(throws: SetupError.self) {
            let taken = try BackendSession(taking: state, descriptors, device: device)
            defer { taken.close() }
            try descriptors.checkAllTaken()
        }
        #expect(error?.description.contains(wrong.words) == true, "\(String(describing: error))")
        // The one that has it notices nothing.
        #expect(rig.session.service() == .open)
    }

    @Test("A position that cannot be is refused, and a ring that its guest broke is no reason")
    func positions() throws {
        let rig = Self.rig()
        let descriptors = HandoverDescriptors()
        let state = try rig.session.handover(descriptors)
        var positions = rig.session.suspend()
        let device = RecordingDevice(features: 1 << 32 | 1 << 17 | 1 << 58)
        let taken = try BackendSession(taking: state, descriptors, device: device)
        defer { taken.close() }
        func refusal(_ positions: [SessionHandover.Position]) -> String {
            do throws(SetupError) { try taken.start(at: positions) } catch {
                return error.description
            }
            return "none"
        }
        #expect(refusal(Array(positions.dropLast())).hasPrefix("rings: 5"))
        device.startError = SetupError("no memory")
        #expect(refusal(positions) == "rings[0]: no memory")
        device.startError = nil
        var wrong = positions
        wrong[3].isRunning = true
        #expect(refusal(wrong).hasPrefix("rings[3]: it ran"))
        // As they were.
        for index in positions.indices { taken.rings[index].isRunning = false }
        positions[0].isBroken = true
        _ = device.take()
        try taken.start(at: positions)
        #expect(device.take() == ["start 1"])
    }
}

import CCleaveTestSupport
import CleaveHost
import CleaveTestSupport
import Glibc
import Testing

@Suite struct NotificationDescriptorTests {
    private let peer = PeerDescriptors()

    @Test("An eventfd, a pipe and a stream socket carry calls, whatever becomes of the original")
    func kinds() throws {
        let event = peer.event()
        let pipe = peer.pipe()
        let sockets = peer.sockets()
        for (given, reader) in [
            (event, event), (pipe.writer, pipe.reader), (sockets.near, sockets.far),
        ] {
            let number = dup(given)
            let call = try NotificationDescriptor(duplicating: number, for: .call)
            close(number)
            #expect(call.sender.send() && call.sender.send())
            let kick = try NotificationDescriptor(duplicating: reader, for: .kick)
            #expect(kick.drain())
            #expect(!kick.drain())
        }
    }

    @Test("Anything else is refused by its number")
    func refused() throws {
        for (name, descriptor) in peer.unfit() {
            #expect(throws: HostError.self, "\(name)") {
                _ = try NotificationDescriptor(duplicating: descriptor, for: .call)
            }
        }
        #expect(
            throws: HostError(
                "call descriptor", "\(peer.all[0]) is not an eventfd, a pipe or a stream socket")
        ) {
            _ = try NotificationDescriptor(duplicating: peer.all[0], for: .call)
        }
        let pipe = peer.pipe()
        #expect(throws: HostError("call descriptor", "\(pipe.reader) is not open for writing")) {
            _ = try NotificationDescriptor(duplicating: pipe.reader, for: .call)
        }
        #expect(throws: HostError("kick descriptor", "\(pipe.writer) is not open for reading")) {
            _ = try NotificationDescriptor(duplicating: pipe.writer, for: .kick)
        }
        let path = peer.keep(peer_path())
        #expect(throws: HostError.self) {
            _ = try NotificationDescriptor(duplicating: path, for: .call)
        }
    }

    @Test("A full one does not block: notifications wait there, so none is lost")
    func full() throws {
        let event = peer.event()
        var most: UInt64 = .max - 1
        #expect(write(event, &most, 8) == 8)
        let pipe = peer.pipe()
        PeerDescriptors.fill(pipe.writer)
        let sockets = peer.sockets()
        PeerDescriptors.fill(sockets.near)
        for descriptor in [event, pipe.writer, sockets.near] {
            let call = try NotificationDescriptor(duplicating: descriptor, for: .call)
            #expect(call.sender.send())
        }
        #expect(read(event, &most, 8) == 8 && most == .max - 1)
    }

    @Test("With nobody at the other end it says so, and raises no signal")
    func abandoned() throws {
        let pipe = peer.pipe()
        let sockets = peer.sockets()
        let calls = try [pipe.writer, sockets.near].map {
            try NotificationDescriptor(duplicating: $0, for: .call)
        }
        peer.end(pipe.reader)
        peer.end(sockets.far)
        // The default action would end the process.
        signal(SIGPIPE, SIG_DFL)
        for call in calls { #expect(!call.sender.send()) }
        var pending = sigset_t()
        sigpending(&pending)
        #expect(sigismember(&pending, SIGPIPE) == 0)
    }

    @Test("Draining one that nobody writes to does not block")
    func idle() throws {
        for descriptor in [peer.event(), peer.pipe().reader, peer.sockets().near] {
            #expect(try !NotificationDescriptor(duplicating: descriptor, for: .kick).drain())
        }
    }
}

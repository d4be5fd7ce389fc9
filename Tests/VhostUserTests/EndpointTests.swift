import CleaveHost
import Glibc
import Testing

@testable import CleaveVhostUser

@Suite("Sockets by their paths")
struct EndpointTests {
    @Test("A path is bytes: a socket whose name is not UTF-8 is made, found and removed")
    func pathsAreBytes() throws {
        let bytes = Array("/tmp/cleave-\(getpid())-".utf8) + [0xe9, 0xff]
        func exists() -> Bool {
            var status = stat()
            return (bytes + [0]).withUnsafeBytes { stat($0.baseAddress!, &status) } == 0
        }
        let path = PathText.text(bytes)
        let server = SocketEndpoint(path: path, listens: true)
        try server.open()
        #expect(exists())
        let client = SocketEndpoint(path: path, listens: false)
        try client.open()
        let ends = [client.accept(isBusy: false), server.accept(isBusy: false)]
        #expect(!ends.contains(nil))
        for end in ends { close(end ?? -1) }
        #expect(throws: SetupError("another process listens at \(path)")) {
            try SocketEndpoint(path: path, listens: true).open()
        }
        client.close()
        server.close()
        #expect(!exists())
    }
}

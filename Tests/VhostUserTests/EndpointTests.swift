import CCleaveHost
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
        let server = SocketEndpoint(path: path, owner: "port a", listens: true)
        try server.open()
        #expect(exists())
        let peer = PathText.withBytes(path) { cleave_unix_connect($0) }
        let accepted = server.accept(isBusy: false)
        #expect(peer >= 0 && accepted != nil)
        for end in [peer, accepted ?? -1] { close(end) }
        server.close()
        #expect(!exists())
        // The same as a client's.
        let listener = PathText.withBytes(path) { cleave_unix_listen($0, -1) }
        let client = SocketEndpoint(path: path, owner: "port b", listens: false)
        try client.open()
        let connection = client.accept(isBusy: false)
        #expect(connection != nil)
        for end in [listener, connection ?? -1] { close(end) }
        client.close()
        PathText.withBytes(path) { _ = unlink($0) }
    }

    @Test(
        "A path that this process has is refused by its owner's name, and its owner is left alone")
    func ownPaths() throws {
        var template = Array("/tmp/cleave-own.XXXXXX".utf8CString)
        let folder = String(cString: try #require(mkdtemp(&template)))
        defer { rmdir(folder) }
        #expect(symlink(folder, folder + "/link") == 0)
        defer { unlink(folder + "/link") }
        let path = folder + "/a"
        func open(_ owner: String, _ path: String, listens: Bool = true) throws -> SocketEndpoint {
            let endpoint = SocketEndpoint(path: path, owner: owner, listens: listens)
            try endpoint.open()
            return endpoint
        }
        func refuses(_ message: String, _ path: String, listens: Bool) {
            #expect(throws: SetupError(message)) {
                _ = try open("port b", path, listens: listens)
            }
        }
        let server = try open("port a", path)
        for other in [path, folder + "/./a", folder + "/link/a"] {
            for listens in [true, false] {
                refuses("port a of this program listens at \(other)", other, listens: listens)
            }
        }
        // Nobody has come to it meanwhile.
        #expect(server.accept(isBusy: false) == nil)
        server.close()
        // There is no file yet, and a server would make one.
        let client = try open("port c", path, listens: false)
        for listens in [true, false] {
            refuses("port c of this program connects to \(path)", path, listens: listens)
        }
        client.close()
        // Who was refused has nothing, and so is in nobody's way.
        try open("port d", path).close()
        // Another process's.
        let listener = cleave_unix_listen(path, -1)
        refuses("another process listens at \(path)", path, listens: true)
        close(listener)
        unlink(path)
    }
}

import CleaveRings

/// Reports of a worker, in order: models a used ring and its edge V2.
final class Channel {
    private let run: ModelRun
    private let index: SharedWord32
    private var bursts: [(first: Int, count: Int)] = []
    private var sent: UInt32 = 0
    private var received: UInt32 = 0

    init(_ run: ModelRun) {
        self.run = run
        let address = UnsafeMutableRawPointer.allocate(byteCount: 4, alignment: 4)
        address.storeBytes(of: 0, as: UInt32.self)
        index = SharedWord32(address)
        run.word("used", address)
    }

    deinit { index.deallocate() }

    func send(first: Int, count: Int) {
        bursts.append((first, count))
        sent += 1
        index.storeRelease(sent)
    }

    /// Whether everything that was published has been received.
    var isEmpty: Bool { index.cellAddress.load(as: UInt32.self) == received }

    func receive() -> [(first: Int, count: Int)] {
        let published = index.loadAcquire()
        defer { received = published }
        return Array(bursts[Int(received)..<Int(published)])
    }
}

// The library's vhost-user control plane: from the first message to the last queue.
import CCleave
import CCleaveHost
import CleaveGuestDriver
import CleaveHost
import CleaveRings
import CleaveTestSupport
import CleaveVhostUser
import CleaveVirtioNet
import Glibc
import Synchronization
import Testing

extension CFunctions {
    @Suite("vhost-user devices") struct VhostTests {
        private func frames(_ count: Int, seed: Int) -> [[UInt8]] {
            (0..<count).map { number in
                TestFrames.udp4(TestFrames.payload(20 + number * 131 % 1900, seed: seed + number))
            }
        }

        @Test("What queues write is logged while the guest moves", arguments: RingFormat.allCases)
        func log(ring: RingFormat) throws {
            let rig = try VhostRig()
            let guest = try VhostGuest(ring)
            let end = Int(GuestSpace.guestBase.rawValue) + guest.space.arena.byteCount
            let arena = try GuestSpace(byteCount: end / 4096 / 8, pages: .small, shared: true).arena
            let file = try #require(arena.fileDescriptor)
            let bits = try arena.allocate(byteCount: end / 4096 / 8)
            func isLogged(_ address: UInt64) -> Bool {
                let page = Int(address / 4096)
                return bits.load(fromByteOffset: page / 8, as: UInt8.self) >> (page % 8) & 1 != 0
            }
            var loggedCount: Int {
                (0..<end / 4096 / 8).reduce(0) {
                    $0 + bits.load(fromByteOffset: $1, as: UInt8.self).nonzeroBitCount
                }
            }
            try rig.served {
                try guest.connect(rig.path)
                let front = try #require(guest.front)
                try front.setLog(fileDescriptor: file, byteCount: end / 4096 / 8)
                let receiver = guest.receivers[0].virtqueue
                try front.setRingLog(0, receiver, at: receiver.deviceArea)
                let sent = frames(24, seed: 1)
                #expect(guest.send(sent) == 24 && guest.receive(atLeast: 24) == sent)
                let used = ring == .split ? receiver.deviceArea : receiver.descriptorArea
                #expect(isLogged(used.rawValue) && loggedCount <= 2, "the ring alone")
                try front.setLogging(true)
                let more = frames(24, seed: 2)
                #expect(guest.send(more) == 24 && guest.receive(atLeast: 24) == more)
                // 24 packets of 62 to 1900 bytes in buffers of half a page, and the ring.
                #expect(loggedCount >= 13, "\(loggedCount) pages")
                _ = try guest.leave()
            }
            #expect(rig.status.broken_queues == 0)
            #expect(rig.end() == 0)
        }

        @Test(
            "Packets go round on every pair, and queues come and go as the guest says",
            arguments: RingFormat.allCases)
        func traffic(ring: RingFormat) throws {
            let rig = try VhostRig { $0.queue_pairs = 3 }
            let guest = try VhostGuest(ring, pairs: 3, features: [.eventIndex])
            try rig.served {
                try guest.connect(rig.path)
                // More than the rings hold, past their end several times.
                for round in 0..<8 {
                    for pair in 0..<3 {
                        let sent = frames(24, seed: 100 * round + pair)
                        #expect(guest.send(sent, on: pair) == 24)
                        #expect(guest.receive(atLeast: 24, on: pair) == sent)
                    }
                }
                // Rings go on where they stopped, one by one and all together.
                let base = try guest.stop(2)
                #expect(base == guest.receivers[1].virtqueue.base || ring == .packed || base > 0)
                try guest.start(2, base: base)
                try guest.sendMemory()
                let bases = try guest.leave()
                try guest.connect(rig.path, bases: bases)
                for pair in 0..<3 {
                    let sent = frames(24, seed: pair)
                    #expect(guest.send(sent, on: pair) == 24)
                    #expect(guest.receive(atLeast: 24, on: pair) == sent)
                }
                guest.vanish()
                while rig.status.connected != 0 { usleep(200) }
            }
            #expect(guest.receivers.allSatisfy { $0.fault == .none })
            #expect(guest.senders.allSatisfy { $0.fault == .none })
            #expect(rig.recorder.unheld == 0)
            let status = rig.status
            #expect(status.connects == 2 && status.disconnects == 2)
            #expect(status.refused_messages == 0 && status.broken_queues == 0)
            #expect(status.queues == 0 && status.messages > 40)
            // Nothing of the guest's memory is left.
            #expect(guest.foreignUse == 0)
            #expect(rig.end() == 0)
        }

        @Test("The story of a short connection, and when there is something to do")
        func story() throws {
            let rig = try VhostRig()
            #expect(!rig.isReady())
            #expect(cleave_vhost_poll(rig.vhost) == 0)
            let guest = try VhostGuest()
            // The front end waits for answers, so it needs a thread of its own.
            let isDone = Atomic<Bool>(false)
            let failure = Mutex<String?>(nil)
            let path = rig.path
            // SAFETY: the thread's alone until it is joined.
            nonisolated(unsafe) let front = guest
            let thread = try PinnedThread(name: "guest", cpu: nil) {
                do {
                    try front.connect(path)
                    _ = try front.leave()
                } catch { failure.withLock { $0 = "\(error)" } }
                isDone.store(true, ordering: .releasing)
            }
            // Nothing but the descriptor says when to poll.
            while !isDone.load(ordering: .acquiring) || rig.isReady() {
                if rig.isReady(milliseconds: 10) { #expect(cleave_vhost_poll(rig.vhost) >= 0) }
            }
            thread.join()
            #expect(failure.withLock { $0 } == nil)
            #expect(
                rig.recorder.plainStory == [
                    "connected", "started rq 0", "started txq 0", "stopping rq 0",
                    "stopping txq 0", "disconnected",
                ])
            // How many requests a poll meets, and so how many holds there are, is a matter of time.
            #expect(rig.recorder.unheld == 0)
            let holds = rig.recorder.story.filter { $0 == "hold" || $0 == "release" }
            #expect(holds.enumerated().allSatisfy { $1 == ($0 % 2 == 0 ? "hold" : "release") })
            #expect(holds.last == "release")
            let features = rig.recorder.events.map(\.features)
            let wanted: UInt64 = 1 << 32 | 1 << 15
            #expect(features[2] & wanted == wanted)
            #expect(features.last == 0)
            #expect(!rig.isReady() && cleave_vhost_poll(rig.vhost) == 0)
        }

        @Test("A memory table that changes stops and starts all queues within one hold")
        func memoryChange() throws {
            let rig = try VhostRig()
            let guest = try VhostGuest()
            try rig.served {
                try guest.connect(rig.path)
                try guest.sendMemory()
            }
            let story = rig.recorder.story
            let first = try #require(story.lastIndex(of: "stopping rq 0"))
            #expect(
                Array(story[first...].prefix(5)) == [
                    "stopping rq 0", "stopping txq 0", "started rq 0", "started txq 0", "release",
                ])
            #expect(rig.recorder.unheld == 0)
        }

        @Test("A stopped queue is gone, and its handle means nothing any more")
        func staleHandles() throws {
            let rig = try VhostRig()
            let guest = try VhostGuest()
            try rig.served({ _ in }) {
                try guest.connect(rig.path)
                let pair = try #require(rig.recorder.pairs[0])
                let (rq, txq) = (try #require(pair.rq), try #require(pair.txq))
                // It is the device's to end.
                #expect(cleave_rq_destroy(rq) == -EBUSY)
                #expect(lastError(rq).contains("belongs to a vhost device"))
                #expect(cleave_txq_destroy(txq) == -EBUSY)
                let set = PacketSet()
                for number in 0..<5 { set.add(TestFrames.udp4([UInt8(number)])) }
                var packets = set.packets
                #expect(cleave_rq_enqueue_burst(rq, &packets, 5, nil) == 5)
                let rqBase = try guest.stop(0)
                #expect(rqBase == 5)
                #expect(cleave_rq_enqueue_burst(rq, &packets, 1, nil) == -EBADF)
                #expect(cleave_rq_destroy(rq) == -EBADF)
                // A program that stops a queue itself does no harm.
                #expect(cleave_txq_stop(txq, nil) == 0)
                let txqBase = try guest.stop(1)
                #expect(txqBase == 0)
                #expect(cleave_txq_stop(txq, nil) == -EBADF)
                guest.vanish()
            }
            #expect(rig.end() == 0)
        }

        @Test("Packets that are out when their queue stops go back, and stay readable")
        func packetsOut() throws {
            let rig = try VhostRig()
            let guest = try VhostGuest()
            var txq: Handle?
            var packets = [cleave_packet](repeating: cleave_packet(), count: 8)
            let sent = frames(8, seed: 3)
            try rig.served({ _ in }) {
                try guest.connect(rig.path)
                txq = rig.recorder.pairs[0]?.txq
                #expect(guest.send(sent) == 8)
                #expect(cleave_txq_dequeue_burst(txq, &packets, 8, nil) == 8)
                #expect(cleave_txq_complete(txq, 3, nil) == 0)
                let base = try guest.stop(1)
                #expect(base == 8)
                #expect(guest.senders[0].reap() == 8)
                guest.vanish()
                while rig.status.connected != 0 { usleep(200) }
            }
            #expect(rig.log.lines.contains { $0.contains("packets of ring 1 were out") })
            // The guest is gone; its memory is not.
            #expect(guest.foreignUse > 0)
            for (frame, packet) in zip(sent, packets).dropFirst(3) {
                let data = try #require(packet.data)
                #expect(memcmp(data, frame, Int(packet.length)) == 0)
            }
            #expect(cleave_txq_dequeue_burst(txq, &packets, 8, nil) == -ESHUTDOWN)
            #expect(cleave_txq_complete(txq, 1, nil) == -ESHUTDOWN)
            #expect(cleave_vhost_destroy(rig.vhost) == -EBUSY)
            #expect(cleave_vhost_poll(rig.vhost) == -ESHUTDOWN)
            #expect(cleave_txq_destroy(txq) == 0)
            #expect(guest.foreignUse == 0)
            #expect(cleave_vhost_destroy(rig.vhost) == 0)
        }

        @Test("A program that ignores every hold meets refusals, and nothing else")
        func carelessProgram() throws {
            let rig = try VhostRig()
            let guest = try VhostGuest()
            let handles = Mutex<(UInt, UInt)>((0, 0))
            rig.recorder.during = { event in
                handles.withLock {
                    if let rq = event.rq { $0.0 = UInt(bitPattern: rq) }
                    if let txq = event.txq { $0.1 = UInt(bitPattern: txq) }
                }
            }
            let isDone = Atomic<Bool>(false)
            let strange = Atomic<Int32>(0)
            let thread = try PinnedThread(name: "careless", cpu: nil) {
                let set = PacketSet()
                set.add(TestFrames.udp4([1, 2, 3]))
                var packets = set.packets
                while !isDone.load(ordering: .relaxed) {
                    let (rq, txq) = handles.withLock { $0 }
                    if rq == 0 || txq == 0 { continue }
                    let results = [
                        cleave_rq_enqueue_burst(Handle(bitPattern: rq), &packets, 1, nil),
                        cleave_txq_set_kicks(Handle(bitPattern: txq), 0),
                        cleave_txq_complete(Handle(bitPattern: txq), 0, nil),
                    ]
                    for result in results where result < 0 {
                        if result != -EBUSY && result != -EBADF {
                            strange.store(result, ordering: .relaxed)
                        }
                    }
                }
            }
            try rig.served({ _ in }) {
                try guest.connect(rig.path)
                for _ in 0..<30 {
                    _ = guest.receive()
                    let bases = [try guest.stop(0), try guest.stop(1)]
                    try guest.start(0, base: bases[0])
                    try guest.start(1, base: bases[1])
                    try guest.sendMemory()
                }
                guest.vanish()
            }
            isDone.store(true, ordering: .relaxed)
            thread.join()
            #expect(strange.load(ordering: .relaxed) == 0)
            #expect(guest.receivers[0].fault == .none)
            #expect(guest.receivers[0].harvestedCount > 0)
        }

        @Test("A driver that breaks its ring is told so, and counted")
        func brokenRing() throws {
            let rig = try VhostRig()
            let guest = try VhostGuest()
            try rig.served {
                try guest.connect(rig.path)
                let avail = guest.space.memory.translate(
                    guest.senders[0].virtqueue.driverArea, byteCount: 4)
                avail?.storeBytes(of: 0x7000, toByteOffset: 2, as: UInt16.self)
                let isTold = guest.error.event.wait(nanoseconds: 20_000_000_000)
                #expect(isTold)
                #expect(rig.status.broken_queues == 1)
                guest.vanish()
            }
            #expect(rig.described.contains("brokenQueues 1"), "\(rig.described)")
            #expect(rig.log.lines.contains { $0.contains("broke its transmit queue") })
        }

        @Test("A guest that cuts its memory short loses its connection, and nobody anything else")
        func lostMemory() throws {
            let rig = try VhostRig()
            let pair = ConnectedPair()
            let other = try VhostRig(at: pair.near)
            let peers = PeerDescriptors()
            let file = peers.memory()
            ftruncate(file, 1 << 20)
            let front = FrontendSession(descriptor: cleave_unix_connect(rig.path))
            try rig.served({ recorder in
                if let rq = recorder.pairs[0]?.rq { enqueue(1, on: rq) }
            }) {
                try front.handshake(wanting: 1 << 32)
                try front.setMemory([
                    SharedRegion(
                        guestAddress: GuestAddress(1 << 20), byteCount: 1 << 20,
                        fileDescriptor: file)
                ])
                let ring = VirtqueueAddresses(
                    format: .split, size: 16, descriptorArea: GuestAddress(1 << 20),
                    driverArea: GuestAddress(1 << 20 + 4096),
                    deviceArea: GuestAddress(1 << 20 + 8192), base: nil)
                try front.setRing(0, ring, kick: -1, call: -1)
                ftruncate(file, 0)
                try? front.setEnabled(0, true)
                while rig.status.connected != 0 { usleep(1000) }
            }
            #expect(rig.described.contains("memoryFault 1"), "\(rig.described)")
            #expect(cleave_vhost_poll(other.vhost) == 1)
        }

        @Test("F09 Strangers do not fill the log: what is left out is counted")
        func logLimit() throws {
            let rig = try VhostRig()
            let first = cleave_unix_connect(rig.path)
            #expect(cleave_vhost_poll(rig.vhost) == 1)
            for _ in 0..<300 {
                let other = cleave_unix_connect(rig.path)
                #expect(cleave_vhost_poll(rig.vhost) == 1)
                close(other)
            }
            close(first)
            #expect(rig.status.refused_connections == 300)
            #expect((64..<200).contains(rig.log.lines.count))
            let said = rig.log.lines.count { $0.contains("refused a second") }
            #expect(rig.described.contains("logLinesLeftOut \(300 - said)"), "\(rig.described)")
        }

        @Test("Strangers are refused and counted by their reason")
        func strangers() throws {
            let rig = try VhostRig()
            let first = cleave_unix_connect(rig.path)
            #expect(cleave_vhost_poll(rig.vhost) == 1)
            // A second one while the first is there.
            let second = cleave_unix_connect(rig.path)
            #expect(rig.isReady() && cleave_vhost_poll(rig.vhost) == 1)
            #expect(rig.status.refused_connections == 1)
            var byte: UInt8 = 0
            #expect(recv(second, &byte, 1, 0) == 0)
            close(second)
            // Requests that nobody knows: three in a row are enough.
            let junk: [UInt32] = [1000, 1, 0]
            for _ in 0..<3 { _ = junk.withUnsafeBytes { write(first, $0.baseAddress, $0.count) } }
            while rig.status.connected != 0 { #expect(cleave_vhost_poll(rig.vhost) >= 0) }
            #expect(rig.status.refused_messages == 3)
            #expect(rig.described.contains("unknown 4"), "\(rig.described)")
            close(first)
            #expect(rig.recorder.story == ["connected", "disconnected"])
            // Whatever was said, the next one is served.
            let third = cleave_unix_connect(rig.path)
            #expect(cleave_vhost_poll(rig.vhost) == 1)
            close(third)
            while rig.isReady() { #expect(cleave_vhost_poll(rig.vhost) >= 0) }
            #expect(rig.status.connects == 2 && rig.status.disconnects == 2)
        }

        @Test("A client connects when somebody listens, again and again")
        func client() throws {
            let rig = try VhostRig { $0.flags |= CLEAVE_VHOST_CLIENT.rawValue }
            #expect(cleave_vhost_poll(rig.vhost) == 0)
            let listener = cleave_unix_listen(rig.path, -1)
            try #require(listener >= 0)
            defer {
                close(listener)
                unlink(rig.path)
            }
            for round in 1...3 {
                // The clock alone says when.
                while rig.status.connected == 0 {
                    try #require(rig.isReady(milliseconds: 10_000))
                    #expect(cleave_vhost_poll(rig.vhost) >= 0)
                }
                var socket: Int32 = -1
                while socket < 0 { socket = cleave_unix_accept(listener) }
                let guest = try VhostGuest()
                try rig.served {
                    try guest.connect(socket: socket)
                    let sent = frames(10, seed: round)
                    #expect(guest.send(sent) == 10)
                    #expect(guest.receive(atLeast: 10) == sent)
                    guest.vanish()
                    while rig.status.disconnects != UInt64(round) { usleep(200) }
                }
            }
            #expect(rig.status.connects >= 3)
        }

        @Test("A program that sleeps is woken by kicks, and clears them")
        func kicks() throws {
            let rig = try VhostRig()
            let guest = try VhostGuest(features: [.eventIndex])
            try rig.served({ _ in }) {
                try guest.connect(rig.path)
                let pair = try #require(rig.recorder.pairs[0])
                var wait = pollfd(fd: pair.kick, events: Int16(POLLIN), revents: 0)
                var packets = [cleave_packet](repeating: cleave_packet(), count: 8)
                func take() -> Int32 {
                    let count = cleave_txq_dequeue_burst(pair.txq, &packets, 8, nil)
                    cleave_txq_complete(pair.txq, UInt32(max(0, count)), nil)
                    return count
                }
                // The front end's own start of the ring may have kicked.
                #expect(cleave_txq_set_kicks(pair.txq, 0) == 0)
                #expect(take() == 0)
                #expect(guest.send(frames(2, seed: 1)) == 2)
                #expect(poll(&wait, 1, 0) == 0)
                #expect(take() == 2)
                #expect(cleave_txq_set_kicks(pair.txq, 1) == 0)
                #expect(take() == 0)
                #expect(guest.send(frames(1, seed: 2)) == 1)
                #expect(poll(&wait, 1, 10_000) == 1)
                #expect(cleave_txq_set_kicks(pair.txq, 0) == 0)
                #expect(poll(&wait, 1, 0) == 0)
                #expect(take() == 1)
                guest.vanish()
            }
        }

        /// A driver's control queue: a split ring of 4 entries, one command at a time.
        private final class ControlDriver {
            let virtqueue: VirtqueueAddresses
            private let space: GuestSpace
            private let base: GuestAddress
            private let kick: EventDescriptor
            private var posted: UInt16 = 0

            init(_ space: GuestSpace) throws {
                self.space = space
                base = try space.allocate(byteCount: 4096, alignment: 4096).address
                virtqueue = VirtqueueAddresses(
                    format: .split, size: 4, descriptorArea: base,
                    driverArea: base.advanced(by: 1024), deviceArea: base.advanced(by: 2048),
                    base: 0)
                kick = try EventDescriptor()
            }

            var kickDescriptor: Int32 { kick.fileDescriptor }

            private func host(_ offset: Int) throws -> UnsafeMutableRawPointer {
                try #require(space.memory.translate(base.advanced(by: offset), byteCount: 1))
            }

            /// Gives a command and waits for its answer.
            func command(_ kind: UInt8, _ number: UInt8, _ data: [UInt8]) throws -> UInt8 {
                let bytes = [kind, number] + data
                try host(3072).copyMemory(from: bytes, byteCount: bytes.count)
                try host(3584).storeBytes(of: 0xee, as: UInt8.self)
                let descriptors: [(UInt64, UInt32, UInt16, UInt16)] = [
                    (base.rawValue + 3072, UInt32(bytes.count), 1, 1),
                    (base.rawValue + 3584, 1, 2, 0),
                ]
                for (index, (address, length, flags, next)) in descriptors.enumerated() {
                    let place = try host(16 * index)
                    place.storeBytes(of: address, as: UInt64.self)
                    place.storeBytes(of: length, toByteOffset: 8, as: UInt32.self)
                    place.storeBytes(of: flags, toByteOffset: 12, as: UInt16.self)
                    place.storeBytes(of: next, toByteOffset: 14, as: UInt16.self)
                }
                let avail = SharedWord16(try host(1024) + 2)
                posted &+= 1
                avail.storeRelease(posted)
                kick.signal()
                let used = SharedWord16(try host(2048) + 2)
                let end = SystemClock.monotonic + 20_000_000_000
                while used.loadAcquire() != posted && SystemClock.monotonic < end { usleep(200) }
                return try host(3584).load(as: UInt8.self)
            }
        }

        @Test("The control queue is served, and says how many pairs are used")
        func controlQueue() throws {
            let rig = try VhostRig { $0.queue_pairs = 3 }
            let guest = try VhostGuest(pairs: 3)
            guest.otherFeatures = 1 << 17 | 1 << 22
            let control = try ControlDriver(guest.space)
            try rig.served {
                try guest.connect(rig.path)
                let front = try #require(guest.front)
                try front.setRing(6, control.virtqueue, kick: control.kickDescriptor, call: -1)
                try front.setEnabled(6, true)
                #expect(rig.status.pairs == 1)
                let isTaken = try control.command(4, 0, [2, 0])
                #expect(isTaken == 0)
                #expect(rig.status.pairs == 2)
                // More than there are, and a command that nobody knows.
                for (kind, data) in [(UInt8(4), [UInt8(4), 0]), (9, [])] {
                    let answer = try control.command(kind, 0, data)
                    #expect(answer == 1)
                }
                #expect(rig.status.pairs == 2 && rig.status.queues == 6)
                let last = try control.command(4, 0, [3, 0])
                #expect(last == 0)
                let base = try front.stopRing(6, .split)
                #expect(base == 4)
            }
            let told = rig.recorder.plainStory.filter { $0.hasPrefix("pairs") }
            #expect(told == ["pairs 1", "pairs 2", "pairs 3"])
            #expect(rig.recorder.unheld == 0)
            #expect(rig.described.contains("refusedCommands 2"), "\(rig.described)")
            #expect(rig.status.pairs == 3)
        }

        @Test("Without MQ the control queue is behind one pair")
        func controlQueueWithoutPairs() throws {
            let rig = try VhostRig { $0.queue_pairs = 3 }
            let guest = try VhostGuest()
            guest.otherFeatures = 1 << 17
            let control = try ControlDriver(guest.space)
            try rig.served {
                try guest.connect(rig.path)
                let front = try #require(guest.front)
                try front.setRing(2, control.virtqueue, kick: control.kickDescriptor, call: -1)
                try front.setEnabled(2, true)
                let answer = try control.command(4, 0, [1, 0])
                #expect(answer == 0)
                #expect(rig.status.queues == 2 && rig.status.broken_queues == 0)
                // What is behind it is nothing.
                try front.setRing(4, guest.receivers[0].virtqueue, kick: -1, call: -1)
                try front.setEnabled(4, true)
                #expect(rig.status.queues == 2 && rig.status.broken_queues == 1)
            }
            #expect(rig.log.lines.contains { $0.contains("ring 4 cannot be started: no queue") })
        }

        @Test("A callback may not call on the device that it is told of")
        func reentry() throws {
            let rig = try VhostRig()
            let results = Mutex<[Int32]>([])
            // SAFETY: a token.
            nonisolated(unsafe) let vhost = rig.vhost
            rig.recorder.during = { _ in
                results.withLock {
                    $0 += [
                        cleave_vhost_poll(vhost), cleave_vhost_destroy(vhost),
                        cleave_vhost_describe(vhost, nil, 0), min(0, cleave_vhost_get_fd(vhost)),
                    ]
                }
            }
            let socket = cleave_unix_connect(rig.path)
            #expect(cleave_vhost_poll(rig.vhost) == 1)
            #expect(results.withLock { $0 } == [-EBUSY, -EBUSY, -EBUSY, 0])
            rig.recorder.during = { _ in }
            close(socket)
        }

        @Test("What the front end says to the device arrives")
        func messages() throws {
            let rig = try VhostRig {
                $0.flags = CLEAVE_VHOST_MAC.rawValue
                $0.mac = (2, 3, 4, 5, 6, 7)
                $0.mtu = 9000
                $0.queue_pairs = 4
                $0.offloads = UInt64(CLEAVE_F_CSUM | CLEAVE_F_GUEST_CSUM)
                $0.features_off = UInt64(CLEAVE_F_RING_PACKED)
            }
            let front = FrontendSession(descriptor: cleave_unix_connect(rig.path))
            try rig.served {
                try front.handshake(wanting: .max)
                #expect(front.queuePairLimit >= 4)
                let space = try front.configuration(byteCount: 12)
                #expect(space == [2, 3, 4, 5, 6, 7, 1, 0, 4, 0, 0x28, 0x23])
                try front.setMTU(1400)
            }
            // VERSION_1, STATUS, MRG_RXBUF and the ring's; MAC, MTU, MQ, CTRL_VQ; two offloads.
            let bits: [UInt64] = [0, 1, 3, 5, 15, 16, 17, 22, 28, 29, 32, 35, 40]
            #expect(front.offeredFeatures == bits.reduce(0) { $0 | 1 << $1 })
            #expect(rig.recorder.story == ["connected", "mtu 1400"])
            // SEND_RARP, from the moved guest's VMM.
            let rarp: [UInt32] = [19, 1, 8, 0x0504_0302, 0x0000_0706]
            let other = try VhostRig()
            let socket = cleave_unix_connect(other.path)
            #expect(cleave_vhost_poll(other.vhost) == 1)
            // Negotiate protocol features: RARP is one.
            let features: [UInt32] = [16, 1, 8, 1 << 2, 0]
            for message in [features, rarp] {
                _ = message.withUnsafeBytes { write(socket, $0.baseAddress, $0.count) }
            }
            #expect(cleave_vhost_poll(other.vhost) == 1)
            let event = try #require(other.recorder.events.last)
            #expect(event.kind == CLEAVE_VHOST_ANNOUNCE.rawValue)
            #expect(event.mac == (2, 3, 4, 5, 6, 7))
            close(socket)
        }

        private typealias Change = @Sendable (inout cleave_vhost_config) -> Void
        private static let refused: [(change: Change, words: String)] = [
            ({ $0.event = nil }, "config->event is NULL"),
            ({ $0.flags = 1 << 5 }, "flags 0x20"),
            ({ $0.path = nil }, "config->path is NULL"),
            ({ $0.flags = CLEAVE_VHOST_SOCKET_FD.rawValue }, "both path and socket_fd"),
            ({ $0.queue_pairs = 129 }, "129 queue pairs"),
            ({ $0.queue_pairs = .max }, "4294967295 queue pairs"),
            ({ $0.mtu = 67 }, "MTU 67"), ({ $0.mtu = 65536 }, "MTU 65536"),
            ({ $0.flags = CLEAVE_VHOST_MAC.rawValue }, "MAC"),
            ({ $0.burst = 257 }, "burst 257"), ({ $0.offloads = 1 << 15 }, "bit 15"),
            ({ $0.offloads = 1 << 57 }, "bit 57"), ({ $0.reserved.5 = 1 }, "reserved"),
            (
                {
                    $0.flags = CLEAVE_VHOST_NODE.rawValue
                    $0.node = 4095
                }, "node"
            ),
            (
                {
                    $0.path = nil
                    $0.flags = CLEAVE_VHOST_SOCKET_FD.rawValue
                    $0.socket_fd = -1
                }, "socket_fd is -1"
            ),
            (
                {
                    // A file that is no socket.
                    $0.path = nil
                    $0.flags = CLEAVE_VHOST_SOCKET_FD.rawValue
                    $0.socket_fd = 0
                }, "socket_fd 0 is no connected unix stream socket"
            ),
            (
                {
                    $0.path = nil
                    $0.flags =
                        CLEAVE_VHOST_SOCKET_FD.rawValue | CLEAVE_VHOST_CLIENT.rawValue
                    $0.socket_fd = 0
                }, "CLIENT"
            ),
        ]

        @Test("Whatever cannot be is refused by name, and leaves nothing behind")
        func refusals() throws {
            let context = try made { cleave_context_create(nil, $0) }
            for (change, words) in Self.refused {
                var vhost: Handle?
                "/nonexistent/socket".withCString { path in
                    var config = VhostRecorder.config()
                    config.path = path
                    change(&config)
                    #expect(cleave_vhost_create(context, &config, &vhost) == -EINVAL, "\(words)")
                }
                #expect(vhost == nil)
                #expect(lastError(context).contains(words), "\(lastError(context))")
            }
            for (path, words) in [
                ("", "has 0 bytes"), (String(repeating: "a", count: 108), "more than 107"),
                ("/nonexistent/socket", "cannot listen at /nonexistent/socket"),
                ("/etc/passwd", "exists and is not a socket"),
            ] {
                var vhost: Handle?
                path.withCString { path in
                    var config = VhostRecorder.config()
                    config.path = path
                    #expect(cleave_vhost_create(context, &config, &vhost) == -EINVAL)
                }
                #expect(lastError(context).contains(words), "\(lastError(context))")
            }
            // The place is taken, and left as it is.
            let rig = try VhostRig()
            var vhost: Handle?
            rig.path.withCString { path in
                var config = VhostRecorder.config()
                config.path = path
                #expect(cleave_vhost_create(context, &config, &vhost) == -EINVAL)
            }
            #expect(lastError(context).contains("another device of this program listens at"))
            let socket = cleave_unix_connect(rig.path)
            #expect(socket >= 0)
            close(socket)
            #expect(cleave_context_destroy(context) == 0)
        }

        @Test("A device has its descriptor from create to destroy, and the file goes with it")
        func life() throws {
            let rig = try VhostRig()
            #expect(access(rig.path, F_OK) == 0)
            let descriptor = cleave_vhost_get_fd(rig.vhost)
            #expect(descriptor >= 0 && cleave_vhost_get_fd(rig.vhost) == descriptor)
            #expect(cleave_context_destroy(rig.context) == -EBUSY)
            // A front end that is there is left.
            let socket = cleave_unix_connect(rig.path)
            #expect(cleave_vhost_poll(rig.vhost) == 1)
            #expect(cleave_vhost_destroy(rig.vhost) == 0)
            var byte: UInt8 = 0
            #expect(recv(socket, &byte, 1, 0) == 0)
            close(socket)
            #expect(rig.recorder.story == ["connected", "disconnected"])
            #expect(access(rig.path, F_OK) != 0)
            #expect(fcntl(descriptor, F_GETFD) == -1)
            #expect(cleave_vhost_destroy(rig.vhost) == -EBADF)
            #expect(cleave_vhost_poll(rig.vhost) == -EBADF)
        }
    }
}

// Which ring is which by its number, and what a driver has to accept for each.
import Testing

@testable import CleaveVhostUser

@Suite("Rings of a network device")
struct NetOfferTests {
    private static let versionOne: UInt64 = 1 << 32
    private static let mergeable: UInt64 = 1 << 15
    private static let controlQueue: UInt64 = 1 << 17
    private static let multiqueue: UInt64 = 1 << 22
    private static let headerQueue: UInt64 = 1 << 58

    private static func offer(pairs: Int) -> NetOffer {
        var offer = NetOffer()
        offer.queuePairs = pairs
        offer.headerQueue = true
        return offer
    }

    @Test("The set-up ring is there for a driver that accepted all that a header queue needs")
    func setUpRing() {
        let offer = Self.offer(pairs: 4)
        let parts = [Self.versionOne, Self.mergeable, Self.controlQueue, Self.headerQueue]
        for chosen in 0..<16 {
            let accepted = (0..<4).filter { chosen >> $0 & 1 == 1 }.reduce(0) { $0 | parts[$1] }
            let role = offer.role(ofRing: 9, features: accepted | Self.multiqueue)
            #expect(role == (chosen == 15 ? .headerQueue : nil), "\(accepted)")
        }
    }

    @Test("Without MQ the control queue is after one pair, and the set-up ring after that")
    func onePair() {
        let offer = Self.offer(pairs: 4)
        let accepted = Self.versionOne | Self.mergeable | Self.controlQueue | Self.headerQueue
        let roles = (0..<5).map { offer.role(ofRing: $0, features: accepted) }
        #expect(
            roles == [.receive(pair: 0), .transmit(pair: 0), .control, .headerQueue, nil])
    }

    @Test("It is offered only with all that it needs")
    func offered() {
        var offer = Self.offer(pairs: 1)
        #expect(offer.features & Self.headerQueue != 0)
        for missing in [Self.versionOne, Self.mergeable, Self.controlQueue] {
            offer.featuresOff = missing
            #expect(offer.features & Self.headerQueue == 0)
        }
    }
}

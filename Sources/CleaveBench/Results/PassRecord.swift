/// What one timed pass of a case measured. Per-packet figures are nil where it delivered none.
public struct PassRecord: Codable, Sendable, Equatable {
    public var seconds: Double
    /// Delivered to the driver.
    public var packets: Int
    /// Of those packets.
    public var bytes: UInt64
    public var mpps: Double?
    public var gbps: Double?
    public var deviceCyclesPerPacket: Double?
    public var driverCyclesPerPacket: Double?
    public var consumerCyclesPerPacket: Double?
}

extension PassRecord {
    init(_ figures: PassFigures) {
        (seconds, packets, bytes) = (figures.seconds, figures.packets, figures.bytes)
        if seconds > 0 {
            mpps = Double(packets) / seconds / 1e6
            gbps = Double(bytes) * 8 / seconds / 1e9
        }
        guard packets > 0 else { return }
        deviceCyclesPerPacket = figures.perPacket(figures.deviceCycles)
        driverCyclesPerPacket = figures.perPacket(figures.driverCycles)
        consumerCyclesPerPacket = figures.perPacket(figures.consumerCycles)
    }
}

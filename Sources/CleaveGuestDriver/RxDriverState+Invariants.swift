// What holds between two calls of a driver, checked in debug builds.

extension RxDriverState {
    /// Rings of more chains are not checked: the checks look at every chain.
    private static var checkedChainLimit: Int { 1024 }

    /// Each chain is the device's, of the burst, or free; each data buffer has one place.
    func checkInvariants() {
        #if DEBUG
        if chainCount > Self.checkedChainLimit { return }
        assert(freeChainCount >= 0 && burstChainCount >= 0)
        assert(packetCount <= burst && pieceCount <= pieceCapacity && slotRangeCount <= burst)
        var places = [UInt8](repeating: 0, count: chainCount)
        for index in 0..<freeChainCount { places[Int(freeChains[index])] += 1 }
        for index in 0..<burstChainCount { places[Int(burstChains[index])] += 1 }
        for chain in 0..<chainCount {
            assert(places[chain] + isPosted[chain] == 1, "a chain is in one place")
        }
        var dataBuffers = spares.count + taken.count
        for index in 0..<chainCount * chainLength {
            let buffer = bufferAt[index]
            assert(!buffer.isNone || isPosted[index / chainLength] == 0, "posted without a buffer")
            if !buffer.isNone && buffer.unit < firstHeaderUnit { dataBuffers += 1 }
        }
        assert(dataBuffers == spares.capacity, "every data buffer is posted, spare or taken")
        #endif
    }
}

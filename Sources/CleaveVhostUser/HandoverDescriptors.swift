#if !CLEAVE_LIBRARY
import CCleaveHost
import CleaveHost
import Glibc

/// Descriptors that go from a process to the one that takes over from it. What is told beside them
/// names each by its place among them. One thread at a time.
package final class HandoverDescriptors: @unchecked Sendable {
    // SAFETY: used by one thread at a time; whoever passes it on uses it no more.

    /// nil: it was taken.
    private var places: [ReceivedDescriptor?] = []

    /// Nothing yet.
    package init() {}

    /// Those that came, which are this object's from now on.
    package init(received descriptors: [Int32]) {
        places = descriptors.map { ReceivedDescriptor($0) }
    }

    /// Adds a duplicate of a descriptor, which stays the caller's.
    /// - Returns: its place.
    package func add(_ descriptor: Int32) throws(SetupError) -> Int {
        let own = cleave_descriptor_duplicate(descriptor)
        guard own >= 0 else {
            throw SetupError(
                "descriptor \(descriptor) cannot be duplicated: \(HostError.words(of: -own))",
                code: -own)
        }
        places.append(ReceivedDescriptor(own))
        return places.count - 1
    }

    /// All of them, in order; they stay this object's.
    package var fileDescriptors: [Int32] { places.compactMap { $0?.fileDescriptor } }

    /// The descriptor at a place, for the one that names it.
    /// - Throws: if there is none, or somebody has named it already.
    func take(_ place: Int) throws(SetupError) -> ReceivedDescriptor {
        guard places.indices.contains(place) else {
            throw SetupError(
                "descriptor \(place): there are \(places.count), numbered from 0")
        }
        guard let found = places[place] else {
            throw SetupError("descriptor \(place) is named twice")
        }
        places[place] = nil
        return found
    }

    /// The same, as a number that is the caller's to close.
    package func takeNumber(_ place: Int) throws(SetupError) -> Int32 {
        let kept = try take(place)
        let own = cleave_descriptor_duplicate(kept.fileDescriptor)
        guard own >= 0 else {
            throw SetupError(
                "descriptor \(place): \(HostError.words(of: -own))", code: -own)
        }
        return own
    }

    /// Refuses descriptors that nobody has named.
    package func checkAllTaken() throws(SetupError) {
        if let place = places.firstIndex(where: { $0 != nil }) {
            throw SetupError("descriptor \(place) of \(places.count) belongs to nothing")
        }
    }
}
#endif

// Every combination of a few small sets. The body throws (`try #require(...)`) if a property does
// not hold; the error that is passed on names the combination.

/// An error inside `withEvery`, with the combination that led to it.
public struct CombinationFailure: Error, CustomStringConvertible {
    public let combination: String
    public let underlying: any Error
    public var description: String { "with \(combination): \(underlying)" }
}

/// A named set of values to go through.
public struct Axis<Value> {
    public let name: String
    public let values: [Value]
    public init(_ name: String, _ values: some Sequence<Value>) {
        self.name = name
        self.values = Array(values)
    }
}

/// Runs `body` for every value.
public func withEvery<A>(_ a: Axis<A>, _ body: (A) throws -> Void) throws {
    for first in a.values {
        try naming("\(a.name) = \(first)") { try body(first) }
    }
}

/// Runs `body` for every pair of values.
public func withEvery<A, B>(
    _ a: Axis<A>, _ b: Axis<B>, _ body: (A, B) throws -> Void
) throws {
    try withEvery(a) { first in try withEvery(b) { try body(first, $0) } }
}

/// Runs `body` for every triple of values.
public func withEvery<A, B, C>(
    _ a: Axis<A>, _ b: Axis<B>, _ c: Axis<C>, _ body: (A, B, C) throws -> Void
) throws {
    try withEvery(a, b) { first, second in
        try withEvery(c) { try body(first, second, $0) }
    }
}

/// Runs `body` for every combination of four values.
public func withEvery<A, B, C, D>(
    _ a: Axis<A>, _ b: Axis<B>, _ c: Axis<C>, _ d: Axis<D>, _ body: (A, B, C, D) throws -> Void
) throws {
    try withEvery(a, b, c) { first, second, third in
        try withEvery(d) { try body(first, second, third, $0) }
    }
}

private func naming(_ value: String, _ body: () throws -> Void) throws {
    do { try body() } catch let inner as CombinationFailure {
        throw CombinationFailure(
            combination: "\(value), \(inner.combination)", underlying: inner.underlying)
    } catch {
        throw CombinationFailure(combination: value, underlying: error)
    }
}

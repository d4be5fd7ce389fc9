extension ReportJSON {
    /// A claim with its headline figure, and all its figures. `bound` says how `measured` must lie
    /// to `claimed`; where nothing was claimed, all three are null.
    static func claim(_ claim: Claim) -> JSONValue {
        .object([
            ("id", .int(claim.id)),
            ("title", .string(claim.title)),
            ("claimed", claim.headline?.claim.map { .number($0.value) } ?? .null),
            ("measured", claim.headline.map { .number($0.measured) } ?? .null),
            ("unit", claim.headline.map { .string($0.unit) } ?? .null),
            ("holds", .bool(claim.holds)),
            ("figures", .array(claim.figures.map(figure))),
        ])
    }

    private static func figure(_ figure: ClaimFigure) -> JSONValue {
        .object([
            ("name", .string(figure.name.trimmingPrefix("  ").description)),
            ("unit", .string(figure.unit)),
            ("bound", figure.claim.map { .string($0.bound.rawValue) } ?? .null),
            ("claimed", figure.claim.map { .number($0.value) } ?? .null),
            ("measured", .number(figure.measured)),
            ("holds", figure.holds.map(JSONValue.bool) ?? .null),
        ])
    }
}

import CCleaveBuild

/// The build that gave a result.
public struct ProgramRecord: Codable, Sendable, Equatable {
    public var version: String
    /// Nil where the build was not told.
    public var commit: String?
    /// Whether sources differed from that commit.
    public var dirty: Bool?
    /// `release` or `debug`.
    public var configuration: String?
    /// Traits of the package that were on.
    public var traits: [String]?
    /// The processors that it was compiled for.
    public var march: String?

    /// Of this program.
    public static let current: ProgramRecord = {
        let dirty = cleave_build_dirty()
        return ProgramRecord(
            version: String(cString: cleave_build_version()),
            commit: cleave_build_commit().map { String(cString: $0) },
            dirty: dirty < 0 ? nil : dirty == 1, configuration: configuration,
            traits: traits, march: String(cString: cleave_build_march()))
    }()

    private static var configuration: String {
        #if DEBUG
        "debug"
        #else
        "release"
        #endif
    }

    private static var traits: [String] {
        var traits: [String] = []
        #if Profiling
        traits.append("Profiling")
        #endif
        #if ModelCheck
        traits.append("ModelCheck")
        #endif
        return traits
    }

    /// In one line: version, commit, what the build differs in.
    public var words: String {
        var commitWords = commit.map { "commit \($0.prefix(12))" } ?? "commit unknown"
        if dirty == true { commitWords += " with changes" }
        let traitWords = (traits ?? []).isEmpty ? "no traits" : traits!.joined(separator: ", ")
        return ["\(version) (\(commitWords))", configuration, march, traitWords]
            .compactMap(\.self).joined(separator: ", ")
    }

    /// Why figures of this build say little; nil for a release build.
    var warning: String? {
        configuration == "debug"
            ? "This is a debug build: its figures say nothing about a release build." : nil
    }
}

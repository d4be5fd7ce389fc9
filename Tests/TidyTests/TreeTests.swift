// The rules, applied to the whole project. Each has a canary in CanaryTests that it must flag.
import Foundation
import Testing

@Suite("Tidy")
struct TreeTests {
    private func expectNone(_ findings: [Finding]) {
        for finding in findings { Issue.record("\(finding)") }
    }

    private var written: [SourceText] {
        ProjectTree.files.filter { $0.isSwift || $0.isC }
    }

    @Test("The project's files are found")
    func findsFiles() {
        #expect(ProjectTree.file("Package.swift") != nil)
        #expect(ProjectTree.file(SharingRules.seam) != nil)
        #expect(ProjectTree.files.contains { $0.module == DirectionRules.folded })
    }

    @Test("Lines fit a screen; long files, long functions and repetitions are reported")
    func sizes() {
        expectNone(written.flatMap(SizeRules.longLines))
        let sources = ProjectTree.sources.filter { $0.isSwift || $0.isC }
        let tastes =
            written.flatMap(SizeRules.longFiles)
            + written.filter(\.isSwift).flatMap(SizeRules.longFunctions)
            + sources.filter(\.isSwift).flatMap(SizeRules.unlabelledParameters)
            + RepetitionRules.runs(sources)
        for finding in tastes { Issue.record("\(finding)", severity: .warning) }
    }

    @Test("A module names only lower floors")
    func moduleDirection() throws {
        expectNone(ProjectTree.sources.filter(\.isSwift).flatMap(DirectionRules.imports))
        let manifest = try #require(ProjectTree.file("Package.swift"))
        expectNone(DirectionRules.manifest(manifest))
    }

    @Test("A folder of CleaveVirtioNet names only lower folders")
    func folderDirection() {
        expectNone(DirectionRules.folders(ProjectTree.files))
    }

    @Test("The hot path stays bare")
    func hotPath() {
        expectNone(ProjectTree.sources.flatMap(HotPathRules.banned))
        let manifests = ProjectTree.files.filter { $0.path.hasSuffix("Package.swift") }
        expectNone(manifests.flatMap(HotPathRules.unsafeFlags))
    }

    @Test("Atomics pass one seam, and every edge has a label, two ends and a row")
    func sharing() throws {
        expectNone(ProjectTree.sources.flatMap(SharingRules.atomicsOutsideSeam))
        let found = ProjectTree.sources.map(SharingRules.edges)
        expectNone(found.flatMap(\.findings))
        let table = try #require(ProjectTree.file(SharingRules.table))
        expectNone(SharingRules.pairing(found.flatMap(\.edges), table: table))
    }

    @Test("Every unchecked promise says who keeps it")
    func promises() {
        expectNone(ProjectTree.files.flatMap(SharingRules.unexplainedPromises))
    }

    @Test("A line of the log that a port writes says why no guest repeats it without end")
    func limitedLog() {
        #expect(ProjectTree.sources.contains { $0.code.contains { $0.contains("host?.log(") } })
        expectNone(ProjectTree.sources.flatMap(LogRules.unlimitedLines))
    }

    @Test("Each case of hostile input is named by a test, for each ring that it is about")
    func hostileCases() {
        let tests = ProjectTree.files.filter {
            $0.path.hasPrefix("Tests/") && $0.isSwift && !$0.path.hasPrefix("Tests/TidyTests")
        }
        for missing in CoveredCases.missing(HostileCatalogue.all, in: tests) {
            Issue.record("\(missing)")
        }
        let ids = HostileCatalogue.all.map(\.id)
        #expect(Set(ids).count == ids.count)
    }

    @Test("What Swift programs build on is what was recorded")
    func publicSurface() throws {
        let found = PublicSurface.text(ProjectTree.sources)
        if ProcessInfo.processInfo.environment["RECORD"] != nil {
            let record = ProjectTree.top.appendingPathComponent(PublicSurface.record)
            try Data(found.utf8).write(to: record)
            return
        }
        let recorded = ProjectTree.file(PublicSurface.record)?.lines.joined(separator: "\n") ?? ""
        for step in found.split(separator: "\n").difference(from: recorded.split(separator: "\n")) {
            let change =
                switch step {
                case .insert(_, let line, _): "new: \(line)"
                case .remove(_, let line, _): "gone: \(line)"
                }
            Issue.record("\(PublicSurface.record) \(change): PublicInterface.md says what then")
        }
    }

    @Test("Every build is told what the machine has, and no source looks for itself before that")
    func builds() throws {
        expectNone(ProjectTree.files.flatMap(BuildRules.unaskedBuilds))
        let script = try #require(ProjectTree.file(BuildRules.script))
        expectNone(ProjectTree.files.flatMap { BuildRules.untoldHeaders($0, told: script) })
    }

    @Test("No script's outcome is a race between a writer and a reader that leaves")
    func pipes() {
        expectNone(ProjectTree.files.flatMap(BuildRules.earlyReaders))
    }

    @Test("Files, folders and tests that pages name are there")
    func paths() {
        let rules = PathRules(
            ProjectTree.paths,
            tests: ProjectTree.files.filter { $0.path.hasPrefix("Tests/") && $0.isSwift })
        let pages = ProjectTree.files.filter { $0.path.hasSuffix(".md") }
        #expect(pages.count > 50)
        expectNone(pages.flatMap(rules.dead))
    }

    @Test("Nothing of one machine is in the project")
    func hygiene() {
        let texts = ProjectTree.files.filter { $0.path != "LICENSE" }
        expectNone(texts.flatMap(HygieneRules.machinePaths))
        expectNone(texts.flatMap(HygieneRules.foreignHosts))
        expectNone(HygieneRules.resolvedVersions(ProjectTree.tracked ?? []))
    }
}

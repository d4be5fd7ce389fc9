// What a build takes from the machine is part of what it is built from: every build gets the same
// flags, which say what the compiler finds there.

enum BuildRules {
    /// What gives builds their flags.
    static let script = ".ci/with-headers"

    /// Compiled anew each time that it is asked for, so that nothing of it is ever out of date.
    private static let alwaysBuilt = "Benchmarks/Rivals/"

    /// Builds that go another way, in Makefiles and scripts: flags of their own would make them and
    /// the others undo each other's work, and what they find would not bring an object up to date.
    static func unaskedBuilds(_ file: SourceText) -> [Finding] {
        let isScript = file.lines.first?.contains(/^#!.*sh\b/) == true
        guard isScript || file.path.hasSuffix("Makefile") else { return [] }
        let swift =
            #/
            (\S*) \s+ ["']? (?: \$\(SWIFT\) | \$\{?SWIFT\S*? | swift ) ["']? \s+
            (build | test | package | run) \b
            /#
        return file.lines.indices.filter { index in
            let line = " " + file.lines[index]
            if line.trimmed.hasPrefix("#") { return false }
            return line.matches(of: swift).contains { !$0.1.hasSuffix("with-headers") }
        }.map { file.finding($0, "unasked-build", "builds go by \(script)") }
    }

    /// Headers that a machine may lack: each has a macro that builds are told, and what looks for
    /// the header stands behind it.
    static func untoldHeaders(_ file: SourceText, told script: SourceText) -> [Finding] {
        guard file.isC, !file.path.hasPrefix(alwaysBuilt) else { return [] }
        return file.codeLines(matching: /__has_include\s*\(/).compactMap { index in
            let before = index > 0 ? file.code[index - 1].trimmed : ""
            guard let macro = before.firstMatch(of: /^#ifndef (CLEAVE_HAS_\w+)$/)?.1 else {
                return file.finding(
                    index, "untold-header", "ask only behind #ifndef CLEAVE_HAS_...")
            }
            if script.lines.contains(where: { $0.contains("-D\(macro)=") }) { return nil }
            return file.finding(index, "untold-header", "\(script.path) does not set \(macro)")
        }
    }
}

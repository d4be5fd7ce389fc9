// The headers and tools that a build finds on the machine are part of its input: every build gets
// the same flags, which say what the compiler finds there.

enum BuildRules {
    /// The script that gives builds their flags.
    static let script = ".ci/with-headers"

    /// Compiled anew on every request, so that nothing of it is ever out of date.
    private static let alwaysBuilt = "Benchmarks/Rivals/"

    /// Builds in Makefiles and scripts that bypass it: with flags of their own they and the others
    /// would undo each other's work, and the headers they find would not bring an object up to
    /// date.
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

    /// A reader in a pipe that may leave before its writer is done: the writer then dies by
    /// SIGPIPE, or does not, as the two race, and under `pipefail` so does the script.
    static func earlyReaders(_ file: SourceText) -> [Finding] {
        let isScript = file.lines.first?.contains(/^#!.*sh\b/) == true
        guard isScript || file.path.hasSuffix(".bash"),
            file.lines.contains(where: { $0.contains("pipefail") })
        else { return [] }
        let reader =
            #/
            (?: ^ | [^|] ) \| \s* (?:
                head \s+ -(?!c) | grep \s (?: [^|]*\s )? -\w*[qm] |
                sed \s [^|]* [0-9\/;] \s* q ['"\s;}] )
            /#
        return file.lines.indices.filter { index in
            let line = file.lines[index].trimmed
            if line.hasPrefix("#") { return false }
            // The pipe may end the line before.
            let piped = index > 0 && file.lines[index - 1].contains(/(^|[^|])\|\s*$/)
            return (piped ? "| " + line : line).contains(reader)
        }.map { file.finding($0, "early-reader", "read to the end: SIGPIPE ends the writer") }
    }

    /// Headers that a machine may lack: each has a macro that builds are told, and a search for the
    /// header comes after it.
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

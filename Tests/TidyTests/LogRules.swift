// What a guest can cause may not fill the operator's log.

enum LogRules {
    /// Where a port says something to its host, a comment up to three lines above says why no guest
    /// causes it without end: `[limited]`, after `LogLimit`, or `[once]`, when the port opens or
    /// ends.
    static func unlimitedLines(_ file: SourceText) -> [Finding] {
        guard file.module == "CleavePorts" else { return [] }
        return file.codeLines(matching: /\bhost\??\.log\(/).filter { index in
            !file.lines[max(0, index - 3)...index].contains {
                $0.contains("// [limited]") || $0.contains("// [once]")
            }
        }.map {
            file.finding($0, "log", "say why no guest can cause this line without end")
        }
    }
}

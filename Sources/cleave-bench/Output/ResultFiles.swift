import CleaveProgramSupport

/// The files of one command: opened before anything is measured, filled when all is done.
struct ResultFiles {
    private let files: [(file: ResultFile, flag: String)]

    /// - Parameter paths: flags with the paths given for them; `-` is standard output.
    /// - Throws: what cannot be opened, or is named twice.
    init(_ paths: KeyValuePairs<String, String?>) throws(Failure) {
        let given = paths.compactMap { flag, path in path.map { (flag: flag, path: $0) } }
        for (index, one) in given.enumerated() {
            if let other = given[..<index].first(where: { $0.path == one.path }) {
                throw .usage("\(other.flag) and \(one.flag) both name \(one.path)")
            }
        }
        var files: [(file: ResultFile, flag: String)] = []
        for one in given { files.append((try ResultFile(path: one.path), one.flag)) }
        self.files = files
    }

    /// Fills each file with its flag's text, and prints `table` unless one of them is standard
    /// output. The files are complete even if the reader of standard output has gone.
    func fill(
        _ text: (_ flag: String) -> String, table: @autoclosure () -> String
    ) throws(Failure) {
        for (file, flag) in files { try Self.unlessClosed(file.fill(text(flag))) }
        if files.contains(where: { $0.file.isStandardOutput }) { return }
        try Self.unlessClosed(Stream.output.write(table()))
    }

    private static func unlessClosed(
        _ write: @autoclosure () throws(Failure) -> Void
    ) throws(Failure) {
        do { try write() } catch {
            if error != .outputClosed { throw error }
        }
    }
}

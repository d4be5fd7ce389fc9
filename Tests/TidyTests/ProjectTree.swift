// The project's own files, found from where this file was compiled.
import Foundation

/// Every text file that is tracked, or would be.
enum ProjectTree {
    static let top = URL(fileURLWithPath: #filePath)
        .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()

    /// Text files; captures and other binary files are left out.
    static let files: [SourceText] = paths.compactMap { path in
        guard let data = try? Data(contentsOf: top.appendingPathComponent(path)),
            let text = String(data: data, encoding: .utf8), !text.contains("\0")
        else { return nil }
        return SourceText(path: path, text: text)
    }

    /// Paths relative to the top: what git knows or would add. Without a usable repository (an
    /// unpacked archive), every file outside build directories.
    static let paths: [String] = {
        let listed = git("ls-files", "-z", "--cached", "--others", "--exclude-standard")
        let found = listed.map { Set($0.split(separator: "\0").map(String.init)) } ?? walk()
        return found.sorted()
    }()

    /// Committed or staged files, or nil without a usable repository.
    static let tracked: [String]? = git("ls-files", "-z", "--cached")
        .map { $0.split(separator: "\0").map(String.init) }

    static func file(_ path: String) -> SourceText? { files.first { $0.path == path } }

    static var sources: [SourceText] { files.filter { $0.path.hasPrefix("Sources/") } }

    private static func git(_ arguments: String...) -> String? {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = ["git", "-C", top.path] + arguments
        let output = Pipe()
        process.standardOutput = output
        process.standardError = FileHandle.nullDevice
        guard (try? process.run()) != nil else { return nil }
        let data = output.fileHandleForReading.readDataToEndOfFile()
        process.waitUntilExit()
        return process.terminationStatus == 0 ? String(decoding: data, as: UTF8.self) : nil
    }

    private static func walk() -> Set<String> {
        var found: Set<String> = []
        guard let names = FileManager.default.enumerator(atPath: top.path) else { return found }
        for case let path as String in names {
            if path.split(separator: "/").contains(where: { $0.hasPrefix(".build") || $0 == ".git" }
            ) {
                names.skipDescendants()
                continue
            }
            let whole = top.appendingPathComponent(path)
            let isFolder = (try? whole.resourceValues(forKeys: [.isDirectoryKey]))?.isDirectory
            if isFolder != true, path != "Package.resolved" { found.insert(path) }
        }
        return found
    }
}

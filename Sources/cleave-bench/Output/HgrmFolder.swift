import CleaveBench
import CleaveHost
import CleaveProgramSupport
import Glibc

/// A folder for distributions, one file for each case, load and clock: found or made before
/// anything is measured, filled when all is done.
struct HgrmFolder {
    private let path: String

    /// - Throws: if it is no folder and cannot be made, or nothing can be written into it.
    init(_ path: String) throws(Failure) {
        self.path = path
        let made = PathText.withBytes(path) { mkdir($0, 0o755) }
        if made != 0 && errno != EEXIST {
            throw .usage("--hgrm: cannot make \(path): \(systemWords(errno))")
        }
        var status = stat()
        guard PathText.withBytes(path, { stat($0, &status) }) == 0,
            status.st_mode & S_IFMT == S_IFDIR
        else { throw .usage("--hgrm: \(path) is no folder") }
        guard PathText.withBytes(path, { access($0, W_OK | X_OK) }) == 0 else {
            throw .usage("--hgrm: cannot write into \(path): \(systemWords(errno))")
        }
    }

    /// Writes `CASE-loadNN.hgrm`, which counts from the time that packets were due, and
    /// `CASE-loadNN-service.hgrm`, which counts from their sending.
    func fill(_ report: LatencyReport) throws(Failure) {
        let names = Self.names(report.results.map(\.benchCase.displayName))
        for (result, name) in zip(report.results, names) {
            for load in result.loads {
                let start = "\(path)/\(name)-load\(load.percent)"
                for (file, histogram) in [("", load.response), ("-service", load.service)] {
                    try ResultFile(path: "\(start)\(file).hgrm").fill(histogram.hgrm)
                }
            }
        }
    }

    /// Names for files: letters, digits, dots and hyphens, no two alike.
    static func names(_ cases: [String]) -> [String] {
        var used: Set<String> = []
        return cases.map { name in
            let plain = String(
                name.map { character in
                    let isPlain =
                        character.isASCII
                        && (character.isLetter || character.isNumber || character == ".")
                    return isPlain ? character : "-"
                })
            var unique = plain
            var number = 1
            while !used.insert(unique).inserted {
                number += 1
                unique = "\(plain)-\(number)"
            }
            return unique
        }
    }
}

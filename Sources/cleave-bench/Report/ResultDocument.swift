import CleaveBench
import CleaveProgramSupport
import Foundation

/// A file of results, read by the type of its schema.
struct ResultDocument {
    let path: String
    let schema: String
    let content: any ResultSection

    private static var types: [any ResultSection.Type] {
        [
            BenchDocument.self, ScaleDocument.self, LatencyDocument.self, ProfileDocument.self,
            DpdkResults.self,
            ParserResults.self, RingResults.self, ZeroCopyDocument.self,
        ]
    }

    private struct Label: Decodable {
        var schema: String?
    }

    /// - Throws: `Failure.usage` naming the file and what is wrong with it.
    init(path: String) throws(Failure) {
        try self.init(path: path, Data(try InputFile.bytes(path)))
    }

    init(path: String, _ data: Data) throws(Failure) {
        if data.isEmpty { throw .usage("\(path): the file is empty") }
        if let problem = ResultJSON.problem(with: data) { throw .usage("\(path): \(problem)") }
        let label: Label
        do { label = try JSONDecoder().decode(Label.self, from: data) } catch {
            throw .usage("\(path): no JSON object with a schema")
        }
        let known = Self.types.map { $0.schema }.joined(separator: ", ")
        guard let schema = label.schema else {
            throw .usage("\(path): no schema; known are \(known)")
        }
        guard let type = Self.types.first(where: { $0.schema == schema }) else {
            throw .usage("\(path): schema \(schema) is unknown; known are \(known)")
        }
        self.path = path
        self.schema = schema
        content = try ResultJSON.read(type, from: data, path: path, what: schema)
    }

    /// The last part of the path.
    var name: String { path.split(separator: "/").last.map(String.init) ?? path }
}

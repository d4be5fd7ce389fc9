import Foundation

/// A file of results, read by the reader of its schema.
struct ResultDocument {
    let path: String
    let schema: String
    let content: any ResultReader

    private static var readers: [any ResultReader.Type] {
        [
            BenchResults.self, ScaleResults.self, ProfileResults.self, DpdkResults.self,
            RingResults.self,
        ]
    }

    private struct Label: Decodable {
        var schema: String?
    }

    /// - Throws: `Failure.usage` naming the file and what is wrong with it.
    init(path: String) throws(Failure) {
        guard let data = FileManager.default.contents(atPath: path) else {
            throw .usage("\(path): cannot read")
        }
        try self.init(path: path, data)
    }

    init(path: String, _ data: Data) throws(Failure) {
        if data.isEmpty { throw .usage("\(path): the file is empty") }
        let label: Label
        do { label = try JSONDecoder().decode(Label.self, from: data) } catch {
            throw .usage("\(path): no JSON object with a schema")
        }
        let known = Self.readers.map { $0.schema }.joined(separator: ", ")
        guard let schema = label.schema else {
            throw .usage("\(path): no schema; known are \(known)")
        }
        guard let reader = Self.readers.first(where: { $0.schema == schema }) else {
            throw .usage("\(path): schema \(schema) is unknown; known are \(known)")
        }
        self.path = path
        self.schema = schema
        do { content = try JSONDecoder().decode(reader, from: data) } catch {
            throw .usage("\(path): no valid \(schema): \(Self.words(error))")
        }
    }

    /// The last part of the path.
    var name: String { path.split(separator: "/").last.map(String.init) ?? path }

    private static func words(_ error: any Error) -> String {
        func place(_ path: [any CodingKey]) -> String {
            path.reduce("") { text, key in
                if let index = key.intValue { return text + "[\(index)]" }
                return text + (text.isEmpty ? "" : ".") + key.stringValue
            }
        }
        switch error {
        case DecodingError.keyNotFound(let key, let context):
            return "\(place(context.codingPath + [key])) is missing"
        case DecodingError.typeMismatch(_, let context),
            DecodingError.valueNotFound(_, let context):
            return "\(place(context.codingPath)) is of the wrong type"
        case DecodingError.dataCorrupted(let context):
            return "\(place(context.codingPath)): \(context.debugDescription)"
        default: return "\(error)"
        }
    }
}

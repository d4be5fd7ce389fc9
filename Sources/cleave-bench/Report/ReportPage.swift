import CleaveProgramSupport

/// Files of results as one self-contained page: a section for each, with its figures, the machine
/// they were measured on and the command that gave them.
struct ReportPage {
    let documents: [ResultDocument]

    var text: String {
        let sections = documents.enumerated().map { index, document in
            Markup.element(
                "section", ["id": Self.id(index)],
                section(document).joined(separator: "\n"))
        }
        return Page.text(
            heading: "Cleave: results side by side", sections: [overview] + sections,
            script: SortableTable.script)
    }

    private static func id(_ index: Int) -> String { "file\(index + 1)" }

    private var overview: String {
        let rows = documents.enumerated().map { index, document in
            let link = Markup.text("a", ["href": "#\(Self.id(index))"], document.name)
            return Markup.element("li", [:], link + Markup.escape(": \(document.content.kind)"))
        }
        let machines = Set(documents.compactMap { $0.content.machine?.identity }).sorted()
        var notes: [String] = []
        if machines.count > 1 {
            notes.append(
                "The files come from \(machines.count) machines, whose figures do not compare: "
                    + machines.joined(separator: "; "))
        }
        return Markup.text(
            "p", [:],
            "A section for each file, with the machine and the command that gave its figures. "
                + "Figures compare within a file, whose cases were measured in one run; between "
                + "files only as far as the machine stayed the same. A click on a heading sorts a "
                + "table. " + BarChart.explanation) + Markup.element("ul", [:], rows.joined())
            + Page.warnings(notes)
    }

    private func section(_ document: ResultDocument) -> [String] {
        let content = document.content
        let file = Page.fact("file", document.path) + Page.fact("schema", document.schema)
        return [
            Markup.text("h2", [:], "\(content.kind): \(document.name)"),
            Markup.element("dl", [:], file + content.origin), Page.warnings(content.warnings ?? []),
        ] + content.parts.map(\.markup)
    }
}

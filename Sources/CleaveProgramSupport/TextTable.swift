/// Columns of text, aligned, under a heading of a name and a unit.
package struct TextTable {
    package enum Alignment { case left, right }

    package struct Column {
        package var name: String
        /// Second line of the heading.
        package var unit: String
        package var alignment: Alignment

        package init(_ name: String, _ unit: String = "", alignment: Alignment = .right) {
            self.name = name
            self.unit = unit
            self.alignment = alignment
        }
    }

    private let columns: [Column]
    private var rows: [(cells: [String], isBad: Bool)] = []

    package init(columns: [Column]) { self.columns = columns }

    /// - Parameters:
    ///   - cells: one for each column.
    ///   - isBad: the row is to catch the eye.
    package mutating func append(_ cells: [String], isBad: Bool = false) {
        precondition(cells.count == columns.count, "a cell for each column")
        rows.append((cells, isBad))
    }

    /// The table, two blanks between columns, no blanks at the end of a line.
    package func text(style: Style) -> String {
        let widths = columns.indices.map { index in
            ([columns[index].name, columns[index].unit] + rows.map { $0.cells[index] })
                .map(\.count).max() ?? 0
        }
        func line(_ cells: [String]) -> String {
            var line = columns.indices.map {
                Self.pad(cells[$0], to: widths[$0], columns[$0].alignment)
            }.joined(separator: "  ")
            while line.last == " " { line.removeLast() }
            return line
        }
        var lines = [style.bold(line(columns.map(\.name)))]
        if columns.contains(where: { !$0.unit.isEmpty }) {
            lines.append(style.bold(line(columns.map(\.unit))))
        }
        lines += rows.map { $0.isBad ? style.red(line($0.cells)) : line($0.cells) }
        return lines.joined(separator: "\n") + "\n"
    }

    /// `text` filled with blanks to `width` characters; longer text stays as it is.
    package static func pad(_ text: String, to width: Int, _ alignment: Alignment) -> String {
        let blanks = String(repeating: " ", count: max(0, width - text.count))
        return alignment == .left ? text + blanks : blanks + text
    }
}

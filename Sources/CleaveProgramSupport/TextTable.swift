/// Columns of text, aligned, under a heading of a name and a unit.
///
/// On a terminal it is as wide as that at most: first, columns in which all rows say the same
/// become one line; then the columns with the highest rank are left out, and a line names them;
/// last, the first column's words are broken into lines. Names there are shortened before columns
/// are left out; where two would look alike, each has a line of its own.
package struct TextTable {
    package enum Alignment { case left, right }

    package struct Column {
        package var name: String
        /// Second line of the heading.
        package var unit: String
        package var alignment: Alignment
        /// The higher, the sooner it is left out for want of room; 0 stays.
        package var rank: Int
        /// Words of the first column are names that may be shortened in the middle.
        package var hasNames: Bool

        package init(
            _ name: String, _ unit: String = "", alignment: Alignment = .right, rank: Int = 0,
            hasNames: Bool = false
        ) {
            (self.name, self.unit) = (name, unit)
            (self.alignment, self.rank, self.hasNames) = (alignment, rank, hasNames)
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

    /// Characters of a line with all columns.
    package var naturalWidth: Int { width(of: Array(columns.indices)) }

    /// The table, two blanks between columns, no blanks at the end of a line; below it, what the
    /// width of `style` left no room for.
    package func text(style: Style) -> String {
        var shown = Array(columns.indices)
        var remarks: [String] = []
        if let room = style.width, naturalWidth > room {
            let shared = sharedColumns
            if !shared.isEmpty {
                shown.removeAll { shared.contains($0) }
                let values = shared.map { title($0) + " " + sharedValue($0)! }
                remarks.append("in every row: " + values.joined(separator: ", "))
            }
            let leftOut = leaveOut(from: &shown, room: room)
            if !leftOut.isEmpty {
                remarks.append(
                    "no room here for: " + leftOut.map(title).joined(separator: ", "))
            }
        }
        let lines =
            lines(shown, style: style)
            + remarks.flatMap { TextWrap.lines($0, width: style.width, indentation: 2) }
        return lines.joined(separator: "\n") + "\n"
    }

    // MARK: What fits

    private func width(of shown: [Int]) -> Int {
        shown.reduce(2 * max(0, shown.count - 1)) { $0 + width(ofColumn: $1) }
    }

    /// What is to be there at least: of names as much as tells them apart, in most cases.
    private func leastWidth(of shown: [Int]) -> Int {
        guard let first = shown.first, columns[first].hasNames else { return width(of: shown) }
        let cells = [columns[first].name, columns[first].unit] + rows.map { $0.cells[first] }
        let least =
            cells.map { cell in
                cell.count - max(0, TextWrap.longestWord(cell) - Self.leastNameWidth)
            }.max() ?? 0
        return width(of: shown) - width(ofColumn: first) + least
    }

    private func width(ofColumn index: Int) -> Int {
        ([columns[index].name, columns[index].unit] + rows.map { $0.cells[index] })
            .map(\.count).max() ?? 0
    }

    /// What all rows say that say anything; nil if they differ, or one row says it.
    private func sharedValue(_ index: Int) -> String? {
        let values = rows.map { $0.cells[index] }.filter { !$0.isEmpty }
        guard values.count > 1, let first = values.first else { return nil }
        return values.allSatisfy { $0 == first } ? first : nil
    }

    private var sharedColumns: [Int] {
        columns.indices.filter { columns[$0].rank > 0 && sharedValue($0) != nil }
    }

    /// Removes columns, the highest rank first, until the others fit.
    private func leaveOut(from shown: inout [Int], room: Int) -> [Int] {
        var leftOut: [Int] = []
        while leastWidth(of: shown) > room {
            // The last one of those that rank alike.
            let next = shown.filter { columns[$0].rank > 0 }
                .max { (columns[$0].rank, $0) < (columns[$1].rank, $1) }
            guard let next else { break }
            shown.removeAll { $0 == next }
            leftOut.append(next)
        }
        return leftOut.sorted()
    }

    /// Name and unit; a column without a name goes on with the one before it.
    private func title(_ index: Int) -> String {
        let name = columns[...index].last { !$0.name.isEmpty }?.name ?? ""
        return [name, columns[index].unit].filter { !$0.isEmpty }.joined(separator: " ")
    }

    // MARK: Lines

    private func lines(_ shown: [Int], style: Style) -> [String] {
        guard let first = shown.first else { return [] }
        var widths = shown.map(width(ofColumn:))
        // Words of the first column go on below, if nothing else makes room.
        if let room = style.width, columns[first].alignment == .left {
            let rest = width(of: shown) - widths[0]
            widths[0] = min(widths[0], max(Self.leastFirstWidth, room - rest))
        }
        func line(_ cells: [String]) -> String {
            var line = shown.indices.map {
                Self.pad(cells[$0], to: widths[$0], columns[shown[$0]].alignment)
            }.joined(separator: "  ")
            while line.last == " " { line.removeLast() }
            return line
        }
        func lines(_ all: [String], _ short: String? = nil) -> [String] {
            var cells = shown.map { all[$0] }
            if let short { cells[0] = short }
            // A line that says nothing but its first words needs no column.
            let isAlone = cells.dropFirst().allSatisfy(\.isEmpty)
            let room = isAlone ? style.width ?? Int.max : widths[0]
            guard cells[0].count > room else { return [line(cells)] }
            let blanks = cells[0].prefix { $0 == " " }.count
            var parts = TextWrap.lines(cells[0], width: room, indentation: blanks + 2)
            // A word that is too long for the column has a line to itself.
            if isAlone || parts[parts.count - 1].count <= room {
                cells[0] = parts.removeLast()
            } else {
                cells[0] = ""
            }
            return parts.map { shortened($0, style.width) } + [line(cells)]
        }
        func shortened(_ text: String, _ room: Int?) -> String {
            guard let room, columns[first].hasNames else { return text }
            return TextWrap.shortened(text, to: room)
        }
        let names = rows.map { $0.cells[first] }
        var short = names.map { shortened($0, widths[0]) }
        if Set(short).count < Set(names).count { short = names }
        var result = lines(columns.map(\.name)).map(style.bold)
        if columns.contains(where: { !$0.unit.isEmpty }) {
            result += lines(columns.map(\.unit)).map(style.bold)
        }
        for (row, name) in zip(rows, short) {
            let lines = lines(row.cells, name)
            result += row.isBad ? lines.map(style.red) : lines
        }
        return result
    }

    private static let leastFirstWidth = 16
    private static let leastNameWidth = 20

    /// `text` filled with blanks to `width` characters; longer text stays as it is.
    package static func pad(_ text: String, to width: Int, _ alignment: Alignment) -> String {
        let blanks = String(repeating: " ", count: max(0, width - text.count))
        return alignment == .left ? text + blanks : blanks + text
    }
}

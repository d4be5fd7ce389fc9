/// Tables of shares from 0 to 1, side by side, each cell as deep in colour as its share is large.
struct ShareGrid {
    struct Block {
        var title: String
        /// By row, then column; nil for a case that was not run.
        var shares: [[Double?]]
    }

    /// What the chart shows, for those who cannot see it.
    let title: String
    let rows: [String]
    let columns: [String]
    let blocks: [Block]

    private static let width = 960.0
    private static let labelWidth = 118.0
    private static let gap = 22.0
    private static let rowHeight = 22.0
    private static let headHeight = 46.0

    var svg: String {
        let room = Self.width - Self.labelWidth - Self.gap * Double(max(0, blocks.count - 1))
        let cells = max(1, blocks.count * columns.count)
        let cell = min(64, room / Double(cells))
        var body = Markup.text("title", [:], title)
        for (index, row) in rows.enumerated() {
            body += SVG.text(
                row, Self.labelWidth - 8, Self.y(index) + 15, anchor: "end")
        }
        for (index, block) in blocks.enumerated() {
            let left =
                Self.labelWidth + Double(index) * (cell * Double(columns.count) + Self.gap)
            body += draw(block, left: left, cell: cell)
        }
        let height = Self.headHeight + Double(rows.count) * Self.rowHeight
        return SVG.document(width: Self.width, height: height, title: title, body)
    }

    private static func y(_ row: Int) -> Double { headHeight + Double(row) * rowHeight }

    private func draw(_ block: Block, left: Double, cell: Double) -> String {
        var text = SVG.text(block.title, left, 14, class: "strong")
        for (column, name) in columns.enumerated() {
            let middle = left + (Double(column) + 0.5) * cell
            text += SVG.text(name, middle, 36, anchor: "middle", class: "small")
            for row in rows.indices {
                guard let share = block.shares[row][column] else { continue }
                text += SVG.rectangle(
                    middle - cell / 2 + 1, Self.y(row) + 1, cell - 2, Self.rowHeight - 2,
                    class: "share", opacity: 0.06 + 0.5 * max(0, min(1, share)))
                text += SVG.text(
                    Numbers.percent(share), middle, Self.y(row) + 15, anchor: "middle",
                    class: "small")
            }
        }
        return text
    }
}

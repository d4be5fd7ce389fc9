import CleaveBench
import CleaveProgramSupport

/// A table that is complete without a script; the script lets readers sort it by any column.
struct SortableTable {
    struct Column {
        var name: String
        /// The unit of the figures.
        var unit = ""
        var isWords = false

        static func words(_ name: String) -> Column { Column(name: name, isWords: true) }
    }

    struct Cell {
        var text: String
        /// The sort key; nil for words, and where there is no figure.
        var value: Double?
        var isBad = false

        static func words(_ text: String, isBad: Bool = false) -> Cell {
            Cell(text: text, isBad: isBad)
        }

        /// `format` gives `-` for a value that is no number.
        static func figure(_ value: Double?, _ format: (Double) -> String) -> Cell {
            guard let value, value.isFinite else { return Cell(text: "-") }
            return Cell(text: format(value), value: value)
        }

        /// A median, marked if the passes lie too far apart.
        static func median(_ spread: Spread?, _ format: (Double) -> String) -> Cell {
            .figure(spread?.median) { _ in spread.map { Numbers.marked($0, format) } ?? "-" }
        }

        /// Sorts by the least.
        static func range(
            _ spread: Spread?, _ format: (Double) -> String = Numbers.cycles
        ) -> Cell {
            guard let spread else { return Cell(text: "") }
            return Cell(text: spread.range(format), value: spread.min.isFinite ? spread.min : nil)
        }

        static func count(_ value: Int) -> Cell { Cell(text: "\(value)", value: Double(value)) }
    }

    let title: String
    let columns: [Column]
    var rows: [[Cell]] = []

    /// Rows beyond which the table gets a window of its own to scroll in.
    private static let tall = 24

    var markup: String {
        let names = columns.map { column in
            let unit = column.unit.isEmpty ? "" : Markup.text("small", [:], column.unit)
            return Markup.element(
                "th", ["scope": "col", "class": column.isWords ? "words" : "figures"],
                Markup.escape(column.name) + unit)
        }
        let table = Markup.element(
            "table", ["class": "sortable", "aria-label": title],
            Markup.element("thead", [:], Markup.element("tr", [:], names.joined())) + "\n"
                + Markup.element("tbody", [:], rows.map(row).joined(separator: "\n")))
        let place = rows.count > Self.tall ? "wide tall" : "wide"
        return Markup.text("h3", [:], title)
            + Markup.element("div", ["class": place, "tabindex": "0"], table)
    }

    private func row(_ cells: [Cell]) -> String {
        let markup = zip(columns, cells).map { column, cell in
            let kind = (column.isWords ? "words" : "figures") + (cell.isBad ? " bad" : "")
            if let value = cell.value {
                return Markup.text("td", ["class": kind, "data-value": "\(value)"], cell.text)
            }
            return Markup.text("td", ["class": kind], cell.text)
        }
        return Markup.element("tr", [:], markup.joined())
    }

    /// Sets `data-tables` of the page to the number of tables when it is done.
    static let script = """

        (function () {
          "use strict";
          function key(row, index, isWords) {
            var cell = row.cells[index];
            if (isWords) { return cell.textContent; }
            return cell.hasAttribute("data-value") ? Number(cell.dataset.value) : null;
          }
          function sort(table, index, isWords, sign) {
            var rows = Array.from(table.tBodies[0].rows);
            rows.sort(function (one, other) {
              var a = key(one, index, isWords), b = key(other, index, isWords);
              // What was not measured stays last.
              if (a === null || b === null) { return (a === null) - (b === null); }
              if (isWords) { return sign * a.localeCompare(b, "en", { numeric: true }); }
              return sign * (a - b);
            });
            rows.forEach(function (row) { table.tBodies[0].appendChild(row); });
          }
          var tables = Array.from(document.querySelectorAll("table.sortable"));
          tables.forEach(function (table) {
            var heads = Array.from(table.tHead.rows[0].cells);
            heads.forEach(function (head, index) {
              var button = document.createElement("button");
              button.type = "button";
              button.title = "Sort by this column";
              button.append(...head.childNodes);
              head.append(button);
              button.addEventListener("click", function () {
                var rises = head.getAttribute("aria-sort") !== "ascending";
                heads.forEach(function (one) { one.removeAttribute("aria-sort"); });
                head.setAttribute("aria-sort", rises ? "ascending" : "descending");
                sort(table, index, head.classList.contains("words"), rises ? 1 : -1);
              });
            });
          });
          document.documentElement.dataset.tables = tables.length;
        }());

        """
}

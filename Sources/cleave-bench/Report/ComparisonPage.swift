import CleaveBench
import CleaveProgramSupport

/// A comparison of methods as one self-contained page: charts drawn in the page, tables, the
/// machine and the command. No script, no file beside it, no network.
enum ComparisonPage {
    static func text(_ document: BenchDocument) -> String {
        let summary =
            Markup.text(
                "p", [:],
                "Where a virtio-net device puts headers and payload, by method: whole (not split); "
                    + "A, headers in the first descriptor of a chain; B, headers in a page of "
                    + "their own; C, small and page buffers posted alternately; D, a header queue, "
                    + "its slot reported by the used entry (used) or in the virtio-net header "
                    + "(net). All cases were measured in one run, after every packet had been "
                    + "verified. " + BarChart.explanation)
            + Markup.element("dl", [:], document.origin) + Page.warnings(document.warnings ?? [])
        return Page.text(
            heading: "Header/data split: methods side by side",
            sections: [summary] + document.comparisonParts.map(\.markup))
    }
}

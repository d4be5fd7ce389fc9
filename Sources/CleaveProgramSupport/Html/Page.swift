/// The frame that every page has: what a browser must know, the style sheet, a heading. A page
/// needs no other file and no network.
package enum Page {
    /// - Parameters:
    ///   - sections: markup, below the heading.
    ///   - script: free of `<` and `&`, so that the page stays well-formed; nil for none.
    ///   - style: rules of this page alone, after those of all.
    package static func text(
        heading: String, sections: [String], script: String? = nil, style: String = ""
    ) -> String {
        let head =
            Markup.element("meta", ["charset": "utf-8"])
            + Markup.element(
                "meta",
                ["name": "viewport", "content": "width=device-width, initial-scale=1"])
            + Markup.text("title", [:], heading)
            + Markup.element("style", [:], PageStyle.text + style)
        let content = [Markup.text("h1", [:], heading)] + sections
        var body = Markup.element("main", [:], content.joined(separator: "\n"))
        if let script { body += "\n" + Markup.element("script", [:], script) }
        let page = Markup.element(
            "html", ["lang": "en"],
            "\n" + Markup.element("head", [:], head) + "\n" + Markup.element("body", [:], body)
                + "\n")
        return "<!DOCTYPE html>\n\(page)\n"
    }

    /// A term and what there is to say of it, for a `dl`.
    package static func fact(_ name: String, _ text: String) -> String {
        Markup.text("dt", [:], name) + Markup.text("dd", [:], text)
    }

    package static func facts(_ facts: [(name: String, text: String)]) -> String {
        Markup.element("dl", [:], facts.map(fact).joined())
    }

    package static func figure(_ caption: String, _ drawing: String) -> String {
        Markup.element(
            "figure", [:], Markup.text("figcaption", [:], caption) + "\n" + drawing)
    }

    /// Nothing for no warnings.
    package static func warnings(_ sentences: [String]) -> String {
        if sentences.isEmpty { return "" }
        return list(sentences, ["class": "warnings"])
    }

    package static func list(
        _ lines: [String], _ attributes: KeyValuePairs<String, String> = [:]
    ) -> String {
        Markup.element("ul", attributes, lines.map { Markup.text("li", [:], $0) }.joined())
    }
}

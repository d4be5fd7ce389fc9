import CleaveBench
import CleaveProgramSupport

/// What `zerocopy` found as a table for people.
struct ZeroCopyText {
    let style: Style
    /// The table alone, without facts and legend.
    let isQuiet: Bool

    func text(_ report: ZeroCopyReport) -> String {
        let document = ZeroCopyDocument(report, command: [])
        var sections: [String] = []
        if !isQuiet {
            sections.append(
                MachineText.lines(
                    MachineText.facts(report.machine)
                        + ["through  \(Self.conditions(document))"], warnings: report.warnings,
                    style))
        }
        let below = remarks(document).map {
            TextWrap.text($0, width: style.width, indentation: 2) + "\n"
        }.joined()
        if document.interrupted != nil {
            sections += [below, table(document)]
        } else {
            sections += [table(document), below]
            if !isQuiet {
                sections.append(
                    TextWrap.text(
                        Self.legend, width: style.width ?? TextWrap.usualWidth, indentation: 2))
            }
        }
        return sections.joined(separator: "\n")
    }

    /// What was measured, in one line.
    static func conditions(_ document: ZeroCopyDocument) -> String {
        let segments = document.segmentBytes.map { ", \($0)-byte segments" } ?? ""
        return "\(document.through.words)\(segments); streams of "
            + "\(Numbers.bytes(document.passBytes)), \(Numbers.bytes(document.bufferBytes)) a "
            + "call, \(document.reads ? "every byte read" : "nothing read")"
    }

    private func table(_ document: ZeroCopyDocument) -> String {
        var table = TextTable(columns: [
            .init("received", alignment: .left), .init("throughput", "GB/s"),
            .init("receiver's CPU", "ms/GB"), .init("copied", "bytes/byte", rank: 2),
            .init("mapped", "%", rank: 1), .init("", "least %", rank: 3),
            .init("", "pages", rank: 4),
        ])
        for (name, way) in [("by copy", document.copied), ("mapped", document.mapped)] {
            guard let way else { continue }
            table.append([
                name, Self.range(way.gigabytesPerSecond),
                Self.range(way.cpuSecondsPerGigabyte, scale: 1000),
                Numbers.fixed(way.copiedBytesPerByte, 4), Numbers.percent(way.mappedShare),
                Numbers.percent(way.leastMappedShare), "\(way.mappedPages)",
            ])
        }
        if let ratio = document.ratio {
            table.append([
                ratio.isMeaningful ? "mapped / copied" : "mapped / copied: meaningless",
                Self.range(ratio.throughput), Self.range(ratio.cpu), "", "", "", "",
            ])
        }
        return table.text(style: style)
    }

    private func remarks(_ document: ZeroCopyDocument) -> [String] {
        let compared = document.compared.map { one in
            let text = "\(one.way.rawValue): \(one.bytes) bytes compared, \(one.wrong) wrong"
            return one.wrong > 0 ? style.red(text) : text
        }
        let proposal = document.proposal
        let claim =
            "proposal: \(Numbers.rate(proposal.copiedGigabytesPerSecond)) GB/s by copy, "
            + "\(Numbers.rate(proposal.mappedGigabytesPerSecond)) GB/s mapped, "
            + "\(Numbers.rate(proposal.ratio)) times"
        let ways = [document.copied, document.mapped].compactMap(\.self)
        let noise = Numbers.noiseRemark(
            ways.count { $0.gigabytesPerSecond.isNoisy || $0.cpuSecondsPerGigabyte.isNoisy },
            of: ways.count, "ways"
        ).map { style.yellow($0.replacing("--repeats", with: "--pairs")) }
        return [noise].compactMap(\.self) + [claim] + cpuAlone(document) + compared
            + [document.ratio?.note, document.interrupted].compactMap(\.self).map(style.yellow)
    }

    /// What the receiver's CPU time allows where sender and switch are not in the way, as in the
    /// proposal.
    private func cpuAlone(_ document: ZeroCopyDocument) -> [String] {
        guard let ratio = document.ratio, ratio.isMeaningful,
            let copied = document.copied?.cpuSecondsPerGigabyte.median,
            let mapped = document.mapped?.cpuSecondsPerGigabyte.median
        else { return [] }
        return [
            "receiver's CPU alone allows: \(Self.figure(1 / copied)) GB/s by copy, "
                + "\(Self.figure(1 / mapped)) GB/s mapped, "
                + "\(Self.figure(1 / ratio.cpu.median)) times"
        ]
    }

    /// `1.21 (1.10-1.34)`; without a range if there was only one pair.
    static func range(_ spread: Spread, scale: Double = 1) -> String {
        let (median, least, most) = (spread.median * scale, spread.min * scale, spread.max * scale)
        let mark = spread.isNoisy ? Numbers.noiseMark : ""
        if least == most { return figure(median) }
        return "\(figure(median))\(mark) (\(figure(least))-\(figure(most)))"
    }

    /// Three digits, four above a thousand.
    static func figure(_ value: Double) -> String {
        value < 0.9995 ? Numbers.fixed(value, 3) : Numbers.rate(value)
    }

    private static let legend = """
        throughput: of the stream, from its first byte to its last; CPU: the receiver's thread, \
        kernel and the interrupts that it is charged with included; both median (min-max) of the \
        pairs, and so is mapped / copied.
        copied: bytes that the receiver copied for each one received; mapped: bytes that lay alone \
        on pages and were mapped, all pairs together, least pair; GB: 10^9 bytes.
        proposal: figures of those who proposed split headers for virtio, in a guest on their \
        machine.

        """
}

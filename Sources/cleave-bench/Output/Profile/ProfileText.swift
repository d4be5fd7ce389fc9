import CleaveBench
import CleaveHost
import CleaveProfiling
import CleaveProgramSupport
import CleaveVirtioNet

/// Stage tables for people, and what belongs beside them.
struct ProfileText {
    let style: Style
    /// The tables and their findings alone.
    var isQuiet = false

    /// - Parameters:
    ///   - facts: machine and warnings, for above.
    ///   - remarks: for below.
    func text(_ runs: [ProfileRun], facts: String, remarks: [String]) -> String {
        var sections = isQuiet ? [] : [facts]
        for run in runs {
            sections.append(headline(run) + "\n" + table(run))
            sections.append(
                findings(run).map {
                    TextWrap.text($0, width: style.width, indentation: 10) + "\n"
                }.joined())
        }
        let noise = Numbers.noiseRemark(runs.count(where: isNoisy), of: runs.count, "cases")
        let noSlot = runs.compactMap { $0.bench.map(RunRecord.init) }.compactMap(Remarks.noSlot)
        let below = [noise].compactMap(\.self) + noSlot + remarks
        if !below.isEmpty {
            sections.append(
                below.map { TextWrap.text($0, width: style.width, indentation: 2) + "\n" }
                    .joined())
        }
        if !isQuiet {
            sections.append(
                TextWrap.text(
                    Self.legend, width: style.width ?? TextWrap.usualWidth, indentation: 2))
        }
        return sections.filter { !$0.isEmpty }.joined(separator: "\n")
    }

    private func isNoisy(_ run: ProfileRun) -> Bool {
        (run.table.stages + [run.table.sum]).contains { $0.cyclesPerPacket.isNoisy }
            || run.table.poll.isNoisy
    }

    private func headline(_ run: ProfileRun) -> String {
        let costliest = run.table.costliest
        let poll = run.table.poll.median
        let share =
            costliest.cyclesPerPacket.median / max(0.01, run.table.sum.cyclesPerPacket.median)
        let words =
            "\(run.name): \(Numbers.cycles(poll)) cycles per packet; costliest: "
            + "\(costliest.name), \(Numbers.percent(share)) %"
        return style.bold(TextWrap.text(words, width: style.width, indentation: 2))
    }

    private func table(_ run: ProfileRun) -> String {
        var table = TextTable(columns: [
            .init("stage", alignment: .left), .init("cycles/packet", "median (min-max)"),
            .init("share", "%"), .init("", "bar", alignment: .left, rank: 6),
            .init("per poll:", "median", rank: 4), .init("", "99 %", rank: 3),
            .init("", "max", rank: 3), .init("cycles", "/burst", rank: 5),
            .init("bytes", "read", rank: 2), .init("/packet", "written", rank: 2),
        ])
        let sum = max(0.01, run.table.sum.cyclesPerPacket.median)
        let most = max(0.01, run.table.costliest.cyclesPerPacket.median)
        for row in run.table.stages + [run.table.sum] {
            let spread = row.cyclesPerPacket
            let isSum = row.name == run.table.sum.name
            let length = isSum ? 0 : Int((24 * spread.median / most).rounded())
            var cells = [
                row.name,
                Numbers.cycles(spread),
                Numbers.fixed(100 * spread.median / sum, 1),
                String(repeating: "#", count: length),
            ]
            cells += [row.distribution.median, row.distribution.p99, row.distribution.max]
                .map { Numbers.cycles($0 ?? .nan) }
            cells += [
                Numbers.cycles(row.cyclesPerBurst),
                Numbers.fixed(row.traffic.read, 1), Numbers.fixed(row.traffic.written, 1),
            ]
            table.append(cells)
        }
        // Measured by itself, so it has no other figures.
        table.append(
            ["poll", Numbers.cycles(run.table.poll)] + Array(repeating: "", count: 8))
        return table.text(style: style)
    }

    private func findings(_ run: ProfileRun) -> [String] {
        let total = run.table.total
        var lines = [
            "measured  1 poll in \(run.period): \(total.bursts) by stages, "
                + "\(total.count(.wholeTurns)) as a whole; the sum is "
                + "\(Numbers.fixed(100 * run.table.sumShare, 1)) % of the poll "
                + "(\(Numbers.fixed(100 * run.table.rawSumShare, 1)) % before scaling); "
                + "\(total.count(.interrupted)) left out as interrupted"
        ]
        if let plain = run.plainTurn {
            let cost =
                run.leastOverhead.map {
                    $0 < 0
                        ? "no cost of measuring was seen (fastest passes)"
                        : "\(Numbers.signed($0)) % with (fastest passes)"
                }
                ?? run.noise.map {
                    "what measuring adds cannot be told: the middle half of the passes spans "
                        + "\(Numbers.fixed(100 * $0, 0)) % of their median"
                } ?? "-"
            lines.append(
                "outside   \(Numbers.cycles(plain)) cycles per packet with the way through the "
                    + "engine, in passes without measuring; \(cost)")
        }
        lines += copyLimit(run) + waits(run)
        if total.claimsSlots {
            lines.append(
                "slots     \(Numbers.percent(total.count(.shortOfSlots), of: total.bursts)) % of "
                    + "measured bursts found too few header slots and went on unsplit")
        }
        return lines
    }

    private func copyLimit(_ run: ProfileRun) -> [String] {
        guard let profile = run.bench?.profile else { return [] }
        var lines: [String] = []
        if let limit = profile.copyLimit {
            let share =
                run.shareOfCopyLimit.map {
                    "the poll runs at \(Numbers.fixed(100 * $0, 0)) % of the copy limit"
                } ?? "no less than the poll that copies them, so one of the two was disturbed"
            lines.append(
                "copying   the same packets alone takes \(Numbers.cycles(limit.cyclesPerPacket)) "
                    + "cycles (\(Numbers.fixed(limit.bytesPerCycle, 1)) bytes per cycle): \(share)")
        }
        let set = profile.workingSet
        lines.append(
            "touched   about \(Numbers.bytes(set.bytes)): sources \(Numbers.bytes(set.sources)), "
                + "buffers \(Numbers.bytes(set.buffers)), slots \(Numbers.bytes(set.slots)), "
                + "queues \(Numbers.bytes(set.queues))\(Self.cacheWords(set.bytes))")
        lines += (run.bench?.notes ?? []).reduce(into: [String]()) { notes, note in
            // Of all pieces of memory the same is said once.
            let parts = note.split(separator: ": ", maxSplits: 1)
            let known = notes.firstIndex {
                parts.count == 2 && $0.hasSuffix(": " + parts[1])
            }
            if let known {
                notes[known] = notes[known].replacing(
                    ": " + parts[1], with: ", \(parts[0]): \(parts[1])")
            } else {
                notes.append("memory    \(note)")
            }
        }
        return lines
    }

    private static func cacheWords(_ byteCount: Int) -> String {
        let caches = MachineFacts.current().cacheSizes
        let sizes = [("L1", caches.l1Data), ("L2", caches.l2), ("L3", caches.l3)]
        let fitting = sizes.first { ($0.1 ?? 0) >= byteCount }
        if let fitting { return "; fits \(fitting.0)" }
        return caches.l3 == nil ? "" : "; beyond L3"
    }

    /// What the threads waited for; nothing if there are no threads.
    private func waits(_ run: ProfileRun) -> [String] {
        run.rqs.enumerated().compactMap { index, rq in
            if rq.idleCycles == 0 { return nil }
            let packets = Double(rq.packets &+ rq.count(.wholePackets))
            let busy =
                rq.cyclesPerPacket(ProfileBlock.pollRow) * packets * Double(run.period)
            let idle = Double(rq.idleCycles)
            let reasons = RxWait.allCases.compactMap { wait -> String? in
                let cycles = rq.count(.waitCycles, wait.rawValue)
                if cycles == 0 { return nil }
                return "\(wait.words) \(Numbers.percent(cycles, of: rq.idleCycles)) %"
            }
            return "idle      RQ \(rq.number ?? index) \(Numbers.percent(idle / (idle + busy))) % "
                + "of its time: \(reasons.joined(separator: ", "))"
        }
    }

    static let legend = """
        stage: what an RQ does in a poll, in order; cycles: TSC ticks of measured polls, less what \
        the marks cost, mean of the median pass (least-largest of the passes); per poll: over the \
        measured polls, cycles per packet.
        poll: polls measured as a whole, on the plain path; bytes: what the code touches, computed.
        copy limit: what memcpy of the same packets takes in this run. shadow, placeHeaders and \
        placePayload are one pass in the code: told apart in polls of their own and scaled to it.

        """
}

import Foundation
import CleaveProfiling

/// A profile as `profile --json` wrote it, as far as `profile diff` reads it.
struct ProfileFile {
    struct Run {
        var name: String
        var stages: [ProfileDiff.Figure]
        var turn: ProfileSpread
    }

    let path: String
    let runs: [Run]

    init(path: String) throws(Failure) {
        self.path = path
        guard let data = FileManager.default.contents(atPath: path) else {
            throw .usage("\(path): cannot read")
        }
        guard let object = try? JSONSerialization.jsonObject(with: data) as? [String: Any] else {
            throw .usage("\(path): no JSON object")
        }
        guard object["schema"] as? String == ProfileJSON.schema else {
            throw .usage("\(path): no profile: its schema is not \(ProfileJSON.schema)")
        }
        guard let runs = object["runs"] as? [[String: Any]] else {
            throw .usage("\(path): no runs")
        }
        var read: [Run] = []
        for (index, run) in runs.enumerated() {
            guard let one = Self.run(run) else {
                throw .usage("\(path): run \(index + 1) lacks name, stages or turnCyclesPerPacket")
            }
            read.append(one)
        }
        self.runs = read
    }

    private static func run(_ object: [String: Any]) -> Run? {
        guard let name = object["name"] as? String,
            let turn = spread(object["turnCyclesPerPacket"]),
            let list = object["stages"] as? [[String: Any]]
        else { return nil }
        var stages: [ProfileDiff.Figure] = []
        for stage in list {
            guard let name = stage["name"] as? String,
                let cycles = spread(stage["cyclesPerPacket"])
            else { return nil }
            stages.append(ProfileDiff.Figure(name: name, cyclesPerPacket: cycles))
        }
        return Run(name: name, stages: stages, turn: turn)
    }

    private static func spread(_ value: Any?) -> ProfileSpread? {
        guard let object = value as? [String: Any],
            let median = (object["median"] as? NSNumber)?.doubleValue,
            let min = (object["min"] as? NSNumber)?.doubleValue,
            let max = (object["max"] as? NSNumber)?.doubleValue
        else { return nil }
        return ProfileSpread(median: median, min: min, max: max)
    }
}

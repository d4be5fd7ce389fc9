import CleaveBench
import CleaveProgramSupport
import Foundation

/// This program and another one with the same plan, as processes that alternate.
struct OverheadRival {
    /// Device cycles per packet, the fastest pass of each.
    struct Round {
        var without: Double
        var off: Double
    }

    private let program: String
    private let arguments: [String]

    /// - Parameter program: the other one.
    init(program: String, request: PlanRequest) throws(Failure) {
        guard FileManager.default.isExecutableFile(atPath: program) else {
            throw .usage("--against: \(program) is no program")
        }
        self.program = program
        guard let path = request.configurationPath ?? request.standard.find() else {
            throw .usage("--against needs a configuration: --config FILE")
        }
        var arguments = ["run", "--config", path, "--json", "-"]
        if request.isQuick { arguments.append("--quick") }
        for (setting, value) in request.settings {
            arguments.append("--\(setting.rawValue)=\(value)")
        }
        for (axis, values) in request.axes where !values.isEmpty {
            arguments.append("--\(axis.rawValue)=\(values.joined(separator: ","))")
        }
        self.arguments = arguments
    }

    /// Rounds by case.
    func measure(_ count: Int) throws(Failure) -> [String: [Round]] {
        var rounds: [String: [Round]] = [:]
        for _ in 0..<count {
            let without = try run(program)
            let off = try run("/proc/self/exe")
            for (name, cycles) in off {
                guard let other = without[name] else { continue }
                rounds[name, default: []].append(Round(without: other, off: cycles))
            }
        }
        return rounds
    }

    private func run(_ path: String) throws(Failure) -> [String: Double] {
        let process = Process()
        let target =
            path == "/proc/self/exe"
            ? (try? FileManager.default.destinationOfSymbolicLink(atPath: path)) ?? path : path
        process.executableURL = URL(fileURLWithPath: target)
        process.arguments = arguments
        let pipe = Pipe()
        process.standardOutput = pipe
        let data: Data
        do {
            try process.run()
            data = try pipe.fileHandleForReading.readToEnd() ?? Data()
        } catch { throw .run("\(target): \(error.localizedDescription)") }
        process.waitUntilExit()
        guard process.terminationStatus == 0,
            let document = try? ResultJSON.read(
                BenchDocument.self, from: data, path: target, what: "result")
        else { throw .run("\(target) ended with \(process.terminationStatus)") }
        let cycles = document.runs.map { ($0.name, $0.deviceCyclesPerPacket.min) }
        return Dictionary(cycles.filter { $0.1.isFinite }, uniquingKeysWith: { $1 })
    }
}

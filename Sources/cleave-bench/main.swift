import Engine
import RxPath
var plan = BenchPlan()
let a = CommandLine.arguments
plan.repeats = Int(a[2])!; plan.packetsPerRepeat = 65536
for p in a[1].split(separator: ",") {
    for (m, r) in [(BenchMethod.whole, HeaderReport.usedElement), (.d, .usedElement), (.d, .netHeader)] {
        var c = BenchCase()
        if a.count > 4 { c.burst = Int(a[4])! }
        c.packet = String(p); c.method = m; c.report = r
        if a.count > 3 && c.displayName.contains(a[3]) == false { continue }
        plan.cases.append(c)
    }
}
do {
    let runner = try BenchRunner(plan)
    let report = try runner.run { _ in }
    for r in report.results {
        func f(_ s: Spread) -> String { "\(Int(s.median * 10)) [\(Int(s.min * 10)) \(Int(s.max * 10))]" }
        print(r.benchCase.displayName, Int(r.mpps.median * 100), "dev", f(r.deviceCyclesPerPacket), "drv", f(r.driverCyclesPerPacket))
    }
} catch { print(error) }

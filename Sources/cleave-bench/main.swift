import Engine
import RxPath
var plan = BenchPlan()
plan.repeats = 3; plan.mode = CommandLine.arguments.contains("threads") ? .threads : .turns
for p in ["64", "1500", "4096", "9000", "imix"] {
    for (m, r) in [(BenchMethod.whole, HeaderReport.usedElement), (.d, .usedElement), (.d, .netHeader)] {
        var c = BenchCase()
        c.packet = p; c.method = m; c.report = r
        plan.cases.append(c)
    }
}
do {
    let runner = try BenchRunner(plan)
    let report = try runner.run { p in print(p.phase, p.done, p.total, p.name) }
    for r in report.results {
        print(r.benchCase.displayName, r.mpps.median, "dev", r.deviceCyclesPerPacket, "drv", r.driverCyclesPerPacket, r.split, r.packets, r.fallback, r.dropped, r.verify)
    }
    print(report.warnings)
} catch { print(error) }

import ArgumentParser
import CleaveProgramSupport

/// What to run: a configuration, settings of the whole benchmark, and axes of its cases.
struct PlanOptions: ParsableArguments {
    @Option(
        help: .example(
            "Configuration to run (default: the command's own, in configs/bench).",
            "--config configs/bench/imix.yaml", "file"))
    var config: String?

    @Option(
        help: .example(
            "one-core: one thread does both sides, exact cycles of each; threads: one CPU per RQ, "
                + "one for port and driver; cores: both sides of each RQ on a CPU of its own.",
            "--mode threads", "one-core|threads|cores"))
    var mode: String?

    @OptionGroup var measure: MeasureOptions

    @OptionGroup(title: "Axes (one value, or several with commas; every combination is a case)")
    var axes: AxisOptions

    /// The request that these options make.
    func request() throws(Failure) -> PlanRequest {
        var request = measure.request()
        request.configurationPath = config
        if let mode { request.settings.append((.mode, mode)) }
        request.axes = try axes.values()
        return request
    }
}

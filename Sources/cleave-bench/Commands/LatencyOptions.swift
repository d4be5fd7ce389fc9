import ArgumentParser
import CleaveBench
import CleaveProgramSupport

/// How latency is measured.
struct LatencyOptions: ParsableArguments {
    @Option(
        help: .example(
            "Offered loads in percent of the highest rate at which nothing is lost.",
            "--loads 10,50,90", "list"))
    var loads: String?

    @Option(
        help: .example(
            "fixed: packets come at equal intervals; poisson: independently of each other.",
            "--arrivals poisson", "fixed|poisson"))
    var arrivals: String?

    @Option(
        help: .example(
            "Milliseconds of a pass, and of a trial in the search for the highest rate.",
            "--pass-time 500", "ms"))
    var passTime: String?

    @Option(
        help: .example(
            "How exactly that rate is found, in percent.", "--tolerance 1", "percent"))
    var tolerance: String?

    /// Puts what was given into settings.
    func apply(to settings: inout LatencySettings) throws(Failure) {
        let given: [(LatencySetting, String?)] = [
            (.loads, loads), (.arrivals, arrivals), (.passTime, passTime),
            (.tolerance, tolerance),
        ]
        for case (let setting, let text?) in given {
            let values = text.split(separator: ",", omittingEmptySubsequences: false)
                .map { SettingValue(text: String($0)) }
            do { try setting.set(values, in: &settings) } catch {
                throw .usage("--\(setting.rawValue): \(error.problem)")
            }
        }
        do { try settings.validate() } catch { throw .usage("--\(error)") }
    }
}

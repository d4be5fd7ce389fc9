// swift-tools-version: 6.2
import PackageDescription

// By itself, so that the comparisons in the package above need no benchmark package.
let package = Package(
    name: "cleave-micro-benchmarks",
    dependencies: [
        .package(name: "cleave", path: "../.."),
        .package(name: "cleave-benchmarks", path: ".."),
        // Without traits: its counting of allocations needs a library of its own, for nothing here.
        .package(url: "https://github.com/ordo-one/benchmark", from: "1.38.1", traits: []),
    ],
    targets: [
        .executableTarget(
            name: "rx-path",
            dependencies: [
                .product(name: "Cleave", package: "cleave"),
                .product(name: "CleaveGuestDriver", package: "cleave"),
                .product(name: "CleaveTraffic", package: "cleave"),
                .product(name: "RivalCalls", package: "cleave-benchmarks"),
                .product(name: "Benchmark", package: "benchmark"),
            ],
            path: "Benchmarks/rx-path",
            swiftSettings: [.swiftLanguageMode(.v6), .treatAllWarnings(as: .error)],
            plugins: [.plugin(name: "BenchmarkPlugin", package: "benchmark")])
    ]
)

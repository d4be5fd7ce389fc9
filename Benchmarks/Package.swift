// swift-tools-version: 6.2
import PackageDescription

let strict: [SwiftSetting] = [.swiftLanguageMode(.v6), .treatAllWarnings(as: .error)]

let package = Package(
    name: "cleave-benchmarks",
    products: [
        // What rivals must offer, for the package in Micro.
        .library(name: "RivalCalls", targets: ["CRingBench", "CParserBench"])
    ],
    dependencies: [
        .package(name: "cleave", path: ".."),
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
    ],
    targets: [
        // Figures, command and machine, for what is written.
        .target(
            name: "Provenance", dependencies: [.product(name: "Cleave", package: "cleave")],
            exclude: ["README.md"],
            swiftSettings: strict),
        .target(name: "CRingBench", exclude: ["README.md"]),
        .executableTarget(
            name: "ring-bench",
            dependencies: [
                "CRingBench", "Provenance",
                .product(name: "CleaveRings", package: "cleave"),
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ], exclude: ["README.md"],
            swiftSettings: strict),
        .target(name: "CParserBench", exclude: ["README.md"]),
        .executableTarget(
            name: "parser-bench",
            dependencies: [
                "CParserBench", "Provenance",
                .product(name: "Cleave", package: "cleave"),
                .product(name: "CleaveTraffic", package: "cleave"),
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ], exclude: ["README.md"],
            swiftSettings: strict),
        // Only `make dpdk` builds this: it needs the shared object of Rivals/vhost.c.
        .target(name: "CDpdkBench", exclude: ["README.md"]),
        .executableTarget(
            name: "dpdk-bench",
            dependencies: [
                "CDpdkBench", "Provenance",
                .product(name: "Cleave", package: "cleave"),
                .product(name: "CleaveGuestDriver", package: "cleave"),
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ], exclude: ["README.md"],
            swiftSettings: strict, linkerSettings: [.linkedLibrary("vhostrivals")]),
    ]
)

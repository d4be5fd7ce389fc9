// swift-tools-version: 6.2
import PackageDescription

let hot: [SwiftSetting] = [.swiftLanguageMode(.v6), .treatAllWarnings(as: .error)]
let cold: [SwiftSetting] = hot

let package = Package(
    name: "cleave",
    products: [
        .library(
            name: "Cleave",
            targets: [
                "Engine", "Ports", "GuestDriver", "Profiling", "RxPath", "Rings", "Host",
            ]),
        .library(name: "Rings", targets: ["Rings"]),
        .library(name: "GuestDriver", targets: ["GuestDriver"]),
        // The C library, shared and static: `make install` builds and installs both.
        .library(name: "cleave", type: .dynamic, targets: ["CleaveCAPI"]),
        .library(name: "cleave-static", type: .static, targets: ["CleaveCAPI"]),
        .executable(name: "cleave-bench", targets: ["cleave-bench"]),
    ],
    traits: [
        .trait(
            name: "Profiling",
            description: "Turns can be measured, stage by stage. Without it no code is left of it."
        ),
        .default(enabledTraits: ["Profiling"]),
        .trait(
            name: "ModelCheck",
            description: "Shared words ask a scheduler. For Tests/ModelTests alone."),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
        .package(url: "https://github.com/jpsim/Yams", from: "6.2.2"),
        .package(url: "https://github.com/swiftlang/swift-docc-plugin", from: "1.5.0"),
    ],
    targets: [
        // Floor 1: C shims and system libraries.
        .target(name: "CHost"),
        .systemLibrary(name: "CNuma", pkgConfig: "numa", providers: [.apt(["libnuma-dev"])]),
        // Floor 2: siblings. Rings knows no operating system, Host knows no ring.
        .target(name: "Rings", swiftSettings: hot),
        .target(name: "Host", dependencies: ["CHost", "CNuma"], swiftSettings: cold),
        // Floor 3: all per-packet code of the device.
        .target(name: "RxPath", dependencies: ["CHost", "Rings", "Host"], swiftSettings: hot),
        // Floor 4: the edges.
        .target(
            name: "GuestDriver", dependencies: ["CHost", "Rings", "Host", "RxPath"],
            swiftSettings: hot),
        .target(
            name: "Ports", dependencies: ["CHost", "Rings", "Host", "RxPath"], swiftSettings: cold),
        .target(
            name: "Profiling", dependencies: ["Rings", "Host", "RxPath"], swiftSettings: cold),
        // Floor 5: composition, threads, life cycle.
        .target(
            name: "Engine",
            dependencies: [
                "CHost", "Rings", "Host", "RxPath", "GuestDriver", "Ports", "Profiling",
            ],
            swiftSettings: hot),
        // Floor 6: the C library. The header is the contract; the compiler checks it.
        .target(
            name: "CCleave", exclude: ["cleave.abi", "cleave.map", "cleave.pc.in", "man"]),
        .target(
            name: "CleaveCAPI", dependencies: ["CCleave", "Engine", "RxPath", "Rings", "Host"],
            swiftSettings: hot),
        // Executables: parsing and printing.
        .executableTarget(
            name: "cleave-bench",
            dependencies: [
                "Engine", "Ports", "GuestDriver", "Profiling", "RxPath", "Rings", "Host",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
                .product(name: "Yams", package: "Yams"),
            ], swiftSettings: cold),
        // Tests: one target per kind of doubt.
        .target(
            name: "TestSupport",
            dependencies: ["GuestDriver", "RxPath", "Rings", "Host", "CTestSupport"],
            path: "Tests/TestSupport", swiftSettings: cold),
        .target(name: "CTestSupport", path: "Tests/CTestSupport"),
        // Release code of the hot loop under counters; EngineTests runs it.
        .executableTarget(
            name: "hot-loop-probe",
            dependencies: [
                "Engine", "Ports", "GuestDriver", "RxPath", "Rings", "Host", "CTestSupport",
            ],
            path: "Tests/HotLoopProbe", swiftSettings: cold),
        .testTarget(
            name: "HostTests", dependencies: ["Host", "TestSupport", "CTestSupport"],
            swiftSettings: cold),
        .testTarget(
            name: "RingsTests", dependencies: ["Rings", "TestSupport"], swiftSettings: cold),
        .testTarget(
            name: "RxPathTests", dependencies: ["RxPath", "Rings", "Host", "TestSupport"],
            swiftSettings: cold),
        .testTarget(
            name: "GuestDriverTests",
            dependencies: ["GuestDriver", "RxPath", "Rings", "Host", "TestSupport"],
            swiftSettings: cold),
        .testTarget(
            name: "PortsTests", dependencies: ["Ports", "RxPath", "Host", "TestSupport"],
            swiftSettings: cold),
        .testTarget(
            name: "ProfilingTests",
            dependencies: [
                "Profiling", "Engine", "Ports", "GuestDriver", "RxPath", "Rings", "Host",
                "TestSupport",
            ], swiftSettings: cold),
        .testTarget(
            name: "EngineTests",
            dependencies: [
                "Engine", "Ports", "GuestDriver", "RxPath", "Rings", "Host", "CHost", "TestSupport",
            ],
            swiftSettings: cold),
        .testTarget(
            name: "StressTests",
            dependencies: [
                "Engine", "GuestDriver", "Profiling", "RxPath", "Rings", "Host", "TestSupport",
            ],
            swiftSettings: cold),
        .testTarget(
            name: "CAPITests",
            dependencies: [
                "CleaveCAPI", "CCleave", "GuestDriver", "Profiling", "RxPath", "Host",
                "TestSupport",
            ], swiftSettings: cold),
        .testTarget(name: "TidyTests", swiftSettings: cold),
        .testTarget(
            name: "BenchTests",
            dependencies: ["cleave-bench", "Engine", "Ports", "Profiling", "RxPath", "Host"],
            swiftSettings: cold),
    ]
)

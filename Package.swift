// swift-tools-version: 6.2
import PackageDescription

let settings: [SwiftSetting] = [.swiftLanguageMode(.v6), .treatAllWarnings(as: .error)]

// Pages are made of symbols that are extracted with all traits on, as of Swift 6.3: they would show
// the model's words in place of the real ones.
let modelCheck: Set<Trait> =
    Context.environment["CLEAVE_PAGES"] != nil
    ? []
    : [
        .trait(
            name: "ModelCheck",
            description: "Shared words ask a scheduler. For Tests/ModelTests alone.")
    ]

// The commit that results name, as .ci/with-headers tells it. The manifest cannot ask by itself:
// what it says is kept until its environment changes.
var commit: [CSetting] = []
if let name = Context.environment["CLEAVE_COMMIT"], !name.isEmpty {
    commit = [
        .define("CLEAVE_COMMIT", to: name),
        .define("CLEAVE_DIRTY", to: Context.environment["CLEAVE_DIRTY"] ?? "0"),
    ]
}

// Names of targets are unique among all packages of a build: none here is one that a package which
// depends on this one would give to a target of its own.
let package = Package(
    name: "cleave",
    products: [
        .library(
            name: "Cleave",
            targets: [
                "CleaveEngine", "CleaveProfiling", "CleaveVirtioNet", "CleaveRings", "CleaveHost",
            ]),
        .library(name: "CleaveRings", targets: ["CleaveRings"]),
        .library(name: "CleaveTraffic", targets: ["CleaveTraffic"]),
        .library(name: "CleaveGuestDriver", targets: ["CleaveGuestDriver"]),
        // The C library, shared and static: `make install` builds and installs both.
        .library(name: "cleave", type: .dynamic, targets: ["CleaveCAPI"]),
        .library(name: "cleave-static", type: .static, targets: ["CleaveCAPI"]),
        .executable(name: "cleave-bench", targets: ["cleave-bench"]),
        .executable(name: "cleave-vhost", targets: ["cleave-vhost"]),
    ],
    traits: modelCheck.union([
        .trait(
            name: "Profiling",
            description: "Polls can be measured, stage by stage. Without it no code is left of it."
        ),
        .default(enabledTraits: ["Profiling"]),
    ]),
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
        .package(url: "https://github.com/jpsim/Yams", from: "6.2.2"),
        .package(url: "https://github.com/swiftlang/swift-docc-plugin", from: "1.5.0"),
        .package(url: "https://github.com/HdrHistogram/hdrhistogram-swift", exact: "0.2.0"),
    ],
    targets: [
        // Floor 1: C shims and system libraries.
        .target(name: "CCleaveHost"),
        .target(name: "CCleaveBuild", cSettings: commit),
        .target(name: "CCleaveDefaults"),
        .target(name: "CCleaveSandbox"),
        .systemLibrary(
            name: "CCleaveNuma", pkgConfig: "numa", providers: [.apt(["libnuma-dev"])]),
        // Floor 2: siblings. Rings knows no operating system, Host knows no ring.
        .target(name: "CleaveRings", swiftSettings: settings),
        .target(
            name: "CleaveHost", dependencies: ["CCleaveHost", "CCleaveNuma"],
            swiftSettings: settings),
        // Floor 3: all per-packet code of the device, in one module.
        .target(
            name: "CleaveVirtioNet", dependencies: ["CCleaveHost", "CleaveRings", "CleaveHost"],
            swiftSettings: settings),
        // Floor 4: what is not the device: a guest, packets to feed it, a reader of its profiles.
        .target(
            name: "CleaveGuestDriver",
            dependencies: ["CCleaveHost", "CleaveRings", "CleaveHost", "CleaveVirtioNet"],
            swiftSettings: settings),
        .target(
            name: "CleaveTraffic",
            dependencies: ["CCleaveHost", "CleaveRings", "CleaveHost", "CleaveVirtioNet"],
            swiftSettings: settings),
        .target(
            name: "CleaveProfiling",
            dependencies: ["CleaveRings", "CleaveHost", "CleaveVirtioNet"],
            swiftSettings: settings),
        // Both ends of a vhost-user connection: no port, no switch, no thread.
        .target(
            name: "CleaveVhostUser",
            dependencies: ["CCleaveHost", "CleaveRings", "CleaveHost", "CleaveVirtioNet"],
            swiftSettings: settings),
        // Floor 5: ends of wires.
        .target(
            name: "CleavePorts",
            dependencies: [
                "CCleaveHost", "CleaveVhostUser", "CleaveTraffic", "CleaveVirtioNet",
                "CleaveRings", "CleaveHost",
            ],
            swiftSettings: settings),
        // RQs on threads.
        .target(
            name: "CleaveEngine",
            dependencies: ["CCleaveHost", "CleaveRings", "CleaveHost", "CleaveVirtioNet"],
            swiftSettings: settings),
        // Floor 6: what is done with a device.
        .target(
            name: "CleaveBench",
            dependencies: [
                "CleaveEngine", "CleaveTraffic", "CleaveGuestDriver", "CleaveProfiling",
                "CleaveVirtioNet", "CleaveRings", "CleaveHost", "CCleaveBuild",
                .product(name: "Histogram", package: "hdrhistogram-swift"),
            ],
            swiftSettings: settings),
        .target(
            name: "CleaveSwitch",
            dependencies: [
                "CCleaveHost", "CleavePorts", "CleaveEngine", "CleaveTraffic", "CleaveVirtioNet",
                "CleaveRings", "CleaveHost",
            ],
            swiftSettings: settings),
        // A switch that runs, as its operators see it: counters, and commands over a socket.
        .target(
            name: "CleaveControl",
            dependencies: [
                "CCleaveHost", "CleaveSwitch", "CleavePorts", "CleaveVhostUser", "CleaveHost",
            ],
            swiftSettings: settings),
        // The C library. The header is the contract; the compiler checks it.
        .target(
            name: "CCleave", exclude: ["cleave.abi", "cleave.map", "cleave.pc.in", "man"]),
        .target(
            name: "CleaveCAPI",
            dependencies: [
                "CCleave", "CleaveVhostUser", "CleaveEngine", "CleaveVirtioNet", "CleaveRings",
                "CleaveHost",
            ],
            swiftSettings: settings),
        // What programs share: streams, tables, settings, YAML.
        .target(
            name: "CleaveProgramSupport",
            dependencies: [
                "CleaveHost",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
                .product(name: "Yams", package: "Yams"),
            ], swiftSettings: settings),
        // Floor 7: programs. Arguments and printing.
        .executableTarget(
            name: "cleave-bench",
            dependencies: [
                "CCleaveDefaults", "CleaveProgramSupport", "CleaveBench", "CleaveEngine",
                "CleaveTraffic", "CleaveGuestDriver", "CleaveProfiling", "CleaveVirtioNet",
                "CleaveRings", "CleaveHost",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
                .product(name: "Yams", package: "Yams"),
            ], swiftSettings: settings),
        .executableTarget(
            name: "cleave-vhost",
            dependencies: [
                "CleaveProgramSupport", "CleaveControl", "CleaveSwitch", "CleavePorts",
                "CleaveVhostUser", "CleaveEngine", "CleaveTraffic",
                "CleaveVirtioNet", "CleaveHost", "CCleaveSandbox",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
                .product(name: "Yams", package: "Yams"),
            ], swiftSettings: settings),
        // Programs for users to start from. `ExampleTests` runs them; Sources/Examples/C has more.
        .executableTarget(
            name: "example-receive",
            dependencies: ["CleaveGuestDriver", "CleaveVirtioNet", "CleaveHost"],
            path: "Sources/Examples/Receive", swiftSettings: settings),
        .executableTarget(
            name: "example-header-queue",
            dependencies: ["CleaveGuestDriver", "CleaveVirtioNet", "CleaveHost"],
            path: "Sources/Examples/HeaderQueue", swiftSettings: settings),
        .executableTarget(
            name: "example-engine",
            dependencies: ["CleaveEngine", "CleaveGuestDriver", "CleaveVirtioNet", "CleaveHost"],
            path: "Sources/Examples/Engine", swiftSettings: settings),
        // For runtimes that start a virtual machine for each container; SwitchTests are its guests.
        .executableTarget(
            name: "example-cloud-hypervisor", path: "Sources/Examples/CloudHypervisor",
            swiftSettings: settings),
        // Tests: one target per kind of doubt.
        .target(
            name: "CleaveTestSupport",
            dependencies: [
                "CleaveGuestDriver", "CleaveVirtioNet", "CleaveRings", "CleaveHost",
                "CCleaveTestSupport",
            ],
            path: "Tests/TestSupport", exclude: ["README.md"], swiftSettings: settings),
        .target(name: "CCleaveTestSupport", path: "Tests/CTestSupport", exclude: ["README.md"]),
        // Release code of the hot loop under counters; EngineTests runs it.
        .executableTarget(
            name: "hot-loop-probe",
            dependencies: [
                "CleaveEngine", "CleaveTraffic", "CleaveGuestDriver", "CleaveVirtioNet",
                "CleaveRings", "CleaveHost", "CCleaveTestSupport",
            ],
            path: "Tests/HotLoopProbe", exclude: ["README.md"], swiftSettings: settings),
        .testTarget(
            name: "HostTests",
            dependencies: ["CleaveHost", "CleaveTestSupport", "CCleaveTestSupport"],
            exclude: ["README.md"],
            swiftSettings: settings),
        .testTarget(
            name: "RingsTests", dependencies: ["CleaveRings", "CleaveTestSupport"],
            exclude: ["README.md"],
            swiftSettings: settings),
        .testTarget(
            name: "VirtioNetTests",
            dependencies: ["CleaveVirtioNet", "CleaveRings", "CleaveHost", "CleaveTestSupport"],
            exclude: ["README.md"],
            swiftSettings: settings),
        .testTarget(
            name: "GuestDriverTests",
            dependencies: [
                "CleaveGuestDriver", "CleaveVirtioNet", "CleaveRings", "CleaveHost",
                "CleaveTestSupport",
            ], exclude: ["README.md"],
            swiftSettings: settings),
        .testTarget(
            name: "TrafficTests",
            dependencies: ["CleaveTraffic", "CleaveVirtioNet", "CleaveHost", "CleaveTestSupport"],
            exclude: ["README.md"],
            swiftSettings: settings),
        .testTarget(
            name: "VhostUserTests",
            dependencies: [
                "CleaveVhostUser", "CleaveGuestDriver", "CleaveVirtioNet", "CleaveRings",
                "CleaveHost", "CCleaveHost", "CleaveTestSupport", "CCleaveTestSupport",
            ], exclude: ["README.md"],
            swiftSettings: settings),
        .testTarget(
            name: "PortsTests",
            dependencies: [
                "CleavePorts", "CleaveVhostUser", "CleaveTraffic", "CleaveGuestDriver",
                "CleaveVirtioNet", "CleaveHost", "CCleaveHost", "CleaveTestSupport",
            ], exclude: ["README.md"],
            swiftSettings: settings),
        .testTarget(
            name: "SwitchTests",
            dependencies: [
                "CleaveControl", "CleaveSwitch", "CleaveEngine", "CleavePorts", "CleaveVhostUser",
                "CleaveTraffic", "CleaveGuestDriver", "CleaveVirtioNet", "CleaveHost",
                "CCleaveHost", "CleaveTestSupport", "CCleaveTestSupport",
                "example-cloud-hypervisor",
                "cleave-vhost",
            ], exclude: ["README.md"],
            swiftSettings: settings),
        .testTarget(
            name: "ControlTests",
            dependencies: [
                "CleaveControl", "CleaveSwitch", "CleavePorts", "CleaveVhostUser", "CleaveTraffic",
                "CleaveGuestDriver", "CleaveVirtioNet", "CleaveHost", "CCleaveHost",
                "CleaveTestSupport",
            ], exclude: ["README.md"],
            swiftSettings: settings),
        .testTarget(
            name: "ProfilingTests",
            dependencies: [
                "CleaveProfiling", "CleaveBench", "CleaveTraffic", "CleaveGuestDriver",
                "CleaveVirtioNet", "CleaveRings", "CleaveHost", "CleaveTestSupport",
            ], exclude: ["README.md"], swiftSettings: settings),
        .testTarget(
            name: "EngineTests",
            dependencies: [
                "CleaveEngine", "CleaveTraffic", "CleaveGuestDriver", "CleaveVirtioNet",
                "CleaveRings", "CleaveHost", "CCleaveHost", "CleaveTestSupport",
            ], exclude: ["README.md"],
            swiftSettings: settings),
        .testTarget(
            name: "StressTests",
            dependencies: [
                "CleaveEngine", "CleaveGuestDriver", "CleaveProfiling", "CleaveVirtioNet",
                "CleaveRings", "CleaveHost", "CleaveTestSupport",
            ], exclude: ["README.md"],
            swiftSettings: settings),
        .testTarget(
            name: "CAPITests",
            dependencies: [
                "CleaveCAPI", "CCleave", "CCleaveHost", "CleaveVhostUser", "CleaveGuestDriver",
                "CleaveProfiling", "CleaveVirtioNet", "CleaveRings", "CleaveHost",
                "CleaveTestSupport",
            ], exclude: ["README.md"], swiftSettings: settings),
        // Places where bytes of strangers come in, for libFuzzer and for the replay of corpora.
        .target(
            name: "CleaveFuzz",
            dependencies: [
                "CleaveControl", "CleaveVhostUser", "CleaveVirtioNet", "CleaveHost", "CCleaveHost",
                "CleaveTestSupport",
            ], path: "Tests/Fuzz/Cases", swiftSettings: settings),
        .executableTarget(
            name: "fuzz", dependencies: ["CleaveFuzz"], path: "Tests/Fuzz/Program",
            swiftSettings: settings),
        .testTarget(
            name: "FuzzTests", dependencies: ["CleaveFuzz"], exclude: ["README.md"],
            swiftSettings: settings),
        .testTarget(
            name: "ExampleTests",
            dependencies: [
                "example-receive", "example-header-queue", "example-engine", "cleave-vhost",
                "example-cloud-hypervisor", "CleaveTestSupport",
            ], exclude: ["README.md"], swiftSettings: settings),
        .testTarget(name: "TidyTests", exclude: ["README.md"], swiftSettings: settings),
        .testTarget(
            name: "BenchTests",
            dependencies: [
                "CleaveBench", "CleaveEngine", "CleaveGuestDriver", "CleaveTraffic",
                "CleaveVirtioNet", "CleaveHost", "CleaveTestSupport",
            ], exclude: ["README.md"],
            swiftSettings: settings),
        .testTarget(
            name: "BenchProgramTests",
            dependencies: [
                "cleave-bench", "CleaveProgramSupport", "CleaveBench", "CleaveEngine",
                "CleaveTraffic", "CleaveProfiling", "CleaveVirtioNet", "CleaveHost",
            ], exclude: ["README.md"],
            swiftSettings: settings),
        .testTarget(
            name: "VhostProgramTests",
            dependencies: [
                "cleave-vhost", "CleaveProgramSupport", "CleaveControl", "CleaveSwitch",
                "CleavePorts", "CleaveEngine", "CleaveHost", "CleaveTraffic",
                .product(name: "Yams", package: "Yams"),
            ], exclude: ["README.md", "Metrics"],
            swiftSettings: settings),
    ]
)

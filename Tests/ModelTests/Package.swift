// swift-tools-version: 6.2
import PackageDescription

// A package of its own: it builds the project with the trait ModelCheck, and only those parts that
// the modelled code needs.
let package = Package(
    name: "model-tests",
    dependencies: [.package(name: "cleave", path: "../..", traits: ["ModelCheck"])],
    targets: [
        .testTarget(
            name: "ModelTests",
            dependencies: [
                .product(name: "Cleave", package: "cleave"),
                .product(name: "CleaveGuestDriver", package: "cleave"),
            ],
            path: "Interleavings",
            swiftSettings: [.swiftLanguageMode(.v6), .treatAllWarnings(as: .error)])
    ]
)

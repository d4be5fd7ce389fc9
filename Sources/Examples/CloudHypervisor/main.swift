// Containers' networks through Cleave, for a runtime that starts a virtual machine for each
// container by cloud-hypervisor, such as apple/containerization. Shows a switch's life, what a VMM
// is told, and what happens when ports run out.
//
//   swift build --product cleave-vhost && swift run example-cloud-hypervisor

import Foundation

let folder = FileManager.default.temporaryDirectory
    .appendingPathComponent("cleave-containers-\(getpid())").path
// Beside this program, where SwiftPM builds both.
let program = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath()
    .deletingLastPathComponent().appendingPathComponent("cleave-vhost").path

do {
    let process = try SwitchProcess(program: program, folder: folder, portCount: 2)
    defer { process.stop() }
    var network = VhostUserNetwork(process, prefix: "192.168.64")
    for id in ["web", "database"] {
        guard let interface = try network.createInterface(id) as? VhostUserInterface else { break }
        // What the runtime puts into the VmConfig, or sends by `vm.add-net`.
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        let config = try encoder.encode(interface.chNetConfig())
        print("\(id): \(interface.ipv4Address.description)")
        print("  \(String(decoding: config, as: UTF8.self))")
        print("  --memory shared=on --net \(interface.argument)")
    }
    do { _ = try network.createInterface("cache") } catch { print("cache: \(error)") }
    try network.releaseInterface("web")
    let next = try network.createInterface("cache")
    print("cache, after web has gone: \(next?.ipv4Address.description ?? "nothing")")
} catch {
    print("\(error)")
    exit(1)
}
try? FileManager.default.removeItem(atPath: folder)

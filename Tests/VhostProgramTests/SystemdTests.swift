// The units, by systemd's own tools; nothing is started.
import Foundation
import Testing

@Suite(
    "Units of systemd",
    .enabled(
        if: FileManager.default.isExecutableFile(atPath: "/usr/bin/systemd-analyze"),
        "there is no systemd-analyze: install systemd"))
struct SystemdTests {
    private static let top = (0..<3).reduce(URL(fileURLWithPath: #filePath)) { url, _ in
        url.deletingLastPathComponent()
    }

    /// Runs shell lines in a folder that has the units, for a program that there is.
    private func run(_ lines: String) throws -> (code: Int32, output: String) {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/bin/bash")
        process.currentDirectoryURL = Self.top
        process.arguments = [
            "-c",
            """
            set -e
            d=$(mktemp -d)
            trap 'rm -rf $d' EXIT
            sed 's|/usr/local/bin/cleave-vhost|/bin/true|' configs/systemd/cleave-vhost.service \
                > $d/cleave-vhost.service
            cp configs/systemd/cleave-vhost@.socket $d/cleave-vhost@.socket
            cp configs/systemd/cleave-vhost@.socket $d/cleave-vhost@left.socket
            extend() { mkdir $d/cleave-vhost.service.d
                cp $top/configs/systemd/$1.conf $d/cleave-vhost.service.d; }
            top=$PWD
            cd $d
            \(lines)
            """,
        ]
        let pipe = Pipe()
        process.standardOutput = pipe
        process.standardError = pipe
        try process.run()
        let data = try pipe.fileHandleForReading.readToEnd() ?? Data()
        process.waitUntilExit()
        return (process.terminationStatus, String(decoding: data, as: UTF8.self))
    }

    @Test(
        "systemd finds no mistake in them",
        arguments: ["", "extend kernel-ports", "extend takeover"])
    func verified(_ extra: String) throws {
        let (code, output) = try run(
            """
            \(extra)
            systemd-analyze verify --man=no ./cleave-vhost.service ./cleave-vhost@left.socket
            """)
        #expect(code == 0 && output.isEmpty, "\(output)")
    }

    @Test("Of ten, where ten is no confinement, they are at 1.5, and 2.5 with kernel interfaces")
    func confined() throws {
        for (extra, threshold) in [("", 15), ("extend kernel-ports", 25), ("extend takeover", 15)] {
            let (code, output) = try run(
                """
                \(extra)
                systemd-analyze security --offline=true --threshold=\(threshold) \
                    ./cleave-vhost.service
                """)
            #expect(code == 0, "\(output)")
        }
        // It does judge: nothing is at 0.
        #expect(
            try run(
                "systemd-analyze security --offline=true --threshold=0 ./cleave-vhost.service"
            ).code != 0)
    }

    @Test("What the program's own filter allows, systemd's lets pass, and the filter's making")
    func filters() throws {
        let (code, output) = try run(
            """
            members() { systemd-analyze syscall-filter "$1" | sed '1d; s/#.*//' | tr -d ' ' |
                while read -r name; do
                    case $name in @*) members $name ;; ?*) echo $name ;; esac
                done; }
            words=$(sed -n 's/^SystemCallFilter=\\([^~]*\\)$/\\1/p' cleave-vhost.service)
            for word in $words; do
                case $word in @*) members $word ;; *) echo $word ;; esac
            done | sort -u > allowed
            for word in $(sed -n 's/^SystemCallFilter=~//p' cleave-vhost.service); do
                members $word
            done | sort -u > forbidden
            grep -o 'SYS_[a-z0-9_]*' $top/Sources/CCleaveSandbox/sandbox.c | sed s/SYS_// |
                grep -v '^clone3$' | sort -u > own
            [ $(wc -l < own) -gt 80 ]
            grep -qx seccomp own
            comm -23 own <(comm -23 allowed forbidden)
            """)
        #expect(code == 0 && output.isEmpty, "\(output)")
    }
}

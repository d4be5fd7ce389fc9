// Entry point: finds the command that was meant, and turns its end into an exit code.
//
//   0   done, also by SIGTERM or SIGINT
//   1   failed while running, or what was asked for was refused or not all done
//   2   the command line or a configuration is wrong

import ArgumentParser
import CleaveHost
import CleaveProgramSupport
import Glibc

@main
struct VhostProgram: ParsableCommand {
    static let version = "0.2.0"

    static let configuration = CommandConfiguration(
        commandName: "cleave-vhost",
        abstract: "Joins virtual machines and kernel interfaces: a vhost-user back-end and switch.",
        discussion: """
            Each --port is a guest's network card (type=vhost-user), a kernel interface (type=tap, \
            type=af-packet), a capture file (type=pcap) or a traffic generator (type=generator). \
            What comes in at one goes out of another by its destination address, with one copy; or \
            of the one it is wired to.

            Example, two guests:
              cleave-vhost --port type=vhost-user,path=/tmp/a.sock \\
                           --port type=vhost-user,path=/tmp/b.sock
            then, for each guest, what 'cleave-vhost print-qemu-args' says:
              qemu-system-x86_64 ... -chardev socket,id=c0,path=/tmp/a.sock \\
                -netdev vhost-user,id=n0,chardev=c0 -device virtio-net-pci,netdev=n0

            It stays in the foreground, and prints the line "ready" to standard output when every \
            port listens. SIGUSR1 prints the counters to standard error, and so does the end; \
            SIGHUP reads the file of --config anew: ports come and go, others are untouched; \
            SIGTERM and SIGINT end it. With --control, 'cleave-vhost ctl' asks it while it runs.

            Exit codes: 0 done, also when SIGTERM or SIGINT ended it; 1 failed while running, or \
            what was asked for was refused or not all done; 2 wrong command line or configuration.
            """,
        version: "cleave-vhost \(Self.version)",
        subcommands: [
            RunCommand.self, CheckConfigCommand.self, CtlCommand.self, TopCommand.self,
            PrintQemuArgsCommand.self, PrintTestpmdArgsCommand.self,
        ],
        defaultSubcommand: RunCommand.self)

    static func main() {
        // A reader that goes away (`| head`) shows as a failed write instead of a signal.
        signal(SIGPIPE, SIG_IGN)
        // Until it is served, a request for the counters is no reason to end.
        signal(SIGUSR1, SIG_IGN)
        // From here on, as a request that comes while the ports open has the counters printed, too.
        do { try StopSignal.catchSignals() } catch {
            OperatorLog.write("cleave-vhost: \(error)\n")
            Glibc.exit(1)
        }
        // Or a socket would take the number of a standard stream that is closed, and get its text.
        for descriptor in STDIN_FILENO...STDERR_FILENO where fcntl(descriptor, F_GETFD) < 0 {
            _ = open("/dev/null", O_RDWR)
        }
        let arguments = ProgramRun.arguments
        Glibc.exit(ProgramRun.run(VhostProgram.self, "cleave-vhost", arguments))
    }
}

// Attaching to this very process works in the same way as attaching to another one.
import CleaveProfiling
import CleaveTestSupport
import CleaveVirtioNet
import Glibc
import Testing

extension QueueProfiles {
    @Suite("Attaching")
    struct AttachTests {
        private func error(_ processID: Int32) -> String {
            do {
                _ = try ProfileAttachment(processID: processID)
                return ""
            } catch { return error.description }
        }

        @Test("A running queue is found, switched on, read and put back")
        func own() throws {
            let rig = try EvilRig(size: 64, burst: 16)
            defer { withExtendedLifetime(rig) {} }
            let profile = try #require(rig.queue.profile)
            #expect(profile.isShared)
            profile.number = 7_000
            do {
                let attachment = try ProfileAttachment(processID: getpid())
                let block = try #require(attachment.blocks.first { $0.number == 7_000 })
                #expect(block.base != profile.block.base)
                #expect(attachment.isAlive)
                attachment.measure(period: 1)
                #expect(profile.period == 1)
                for burst in 0..<64 {
                    for index in 0..<16 { rig.post((burst * 16 + index) % 32) }
                    _ = rig.enqueue((0..<16).map { _ in TestFrames.tcp4([1, 2, 3]) })
                }
                #expect(ProfileSnapshot(block) == ProfileSnapshot(profile.block))
                #expect(ProfileSnapshot(block).bursts > 10)
            }
            #expect(profile.period == 0)
        }

        @Test("Who had switched it on keeps it on")
        func second() throws {
            let rig = try EvilRig()
            defer { withExtendedLifetime(rig) {} }
            let profile = try #require(rig.queue.profile)
            profile.period = 5
            do {
                let attachment = try ProfileAttachment(processID: getpid())
                attachment.measure(period: 1)
                #expect(profile.period == 5)
            }
            #expect(profile.period == 5)
        }

        @Test("Processes without profile, and none at all, are told in one sentence")
        func none() throws {
            #expect(error(0) == "there is no process 0")
            #expect(error(-4) == "there is no process -4")
            #expect(error(.max) == "there is no process \(Int32.max)")
            var child: pid_t = 0
            var arguments: [UnsafeMutablePointer<CChar>?] = [strdup("sleep"), strdup("60"), nil]
            defer { for argument in arguments { free(argument) } }
            try #require(posix_spawnp(&child, "sleep", nil, nil, &arguments, nil) == 0)
            defer {
                kill(child, SIGKILL)
                var status: Int32 = 0
                waitpid(child, &status, 0)
            }
            #expect(error(child).hasPrefix("process \(child) has no RQ of Cleave"))
        }
    }
}

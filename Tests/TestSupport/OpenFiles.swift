// What this process holds of one file: tests run beside others, so nothing else is counted.
import Glibc

/// The identity of an open file.
public struct FileIdentity: Equatable {
    private let device: UInt64
    private let inode: UInt64

    public init?(_ descriptor: Int32) {
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { return nil }
        (device, inode) = (UInt64(status.st_dev), UInt64(status.st_ino))
    }

    /// Descriptors of this process that refer to it.
    public var openCount: Int { openDescriptors.count }

    public var openDescriptors: [Int32] {
        var found: [Int32] = []
        guard let folder = opendir("/proc/self/fd") else { return [] }
        defer { closedir(folder) }
        while let entry = readdir(folder) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            if let number = Int32(name), FileIdentity(number) == self { found.append(number) }
        }
        return found
    }

    /// Mappings of it in this process. Inodes count anew on each device: a library may have that of
    /// a file in memory.
    public var mappingCount: Int {
        guard let file = fopen("/proc/self/maps", "r") else { return 0 }
        defer { fclose(file) }
        var count = 0
        var line = [CChar](repeating: 0, count: 4096)
        while fgets(&line, Int32(line.count), file) != nil {
            let fields = line.withUnsafeBufferPointer { String(cString: $0.baseAddress!) }
                .split(separator: " ")
            guard fields.count > 4, fields[4] == String(inode) else { continue }
            let numbers = fields[3].split(separator: ":").map { UInt64($0, radix: 16) }
            if numbers == [device >> 8 & 0xfff, device & 0xff | device >> 12 & 0xfff00] {
                count += 1
            }
        }
        return count
    }
}

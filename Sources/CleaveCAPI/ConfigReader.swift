// Structures that begin with their size let callers and libraries of different versions understand
// each other. Members that a caller lacks are 0; members that a library does not know must be 0.

import Glibc

/// Reads a structure that states its own size.
///
/// - Parameters:
///   - pointer: at any alignment.
///   - minimum: bytes that the first published version had.
///   - zero: a zeroed value.
/// - Throws: `-EINVAL` for NULL or a size below `minimum`, `-E2BIG` for members that this version
///   does not know and that are in use.
func readSized<Value: BitwiseCopyable>(
    _ pointer: UnsafePointer<Value>?, minimum: Int, into zero: Value, _ name: String
) throws(Refusal) -> Value {
    guard let pointer else { throw .null(name) }
    let bytes = UnsafeRawPointer(pointer)
    let byteCount = Int(bytes.loadUnaligned(as: UInt32.self))
    guard byteCount >= minimum else {
        throw .invalid(
            "\(name)->struct_size is \(byteCount), the structure has \(MemoryLayout<Value>.size)")
    }
    let known = MemoryLayout<Value>.size
    if byteCount > known {
        guard byteCount <= 65536 else {
            throw Refusal(-E2BIG, "\(name)->struct_size is \(byteCount)")
        }
        for offset in known..<byteCount
        where bytes.loadUnaligned(fromByteOffset: offset, as: UInt8.self) != 0 {
            throw Refusal(
                -E2BIG,
                "\(name) has something at offset \(offset), which this version does not know")
        }
    }
    var value = zero
    withUnsafeMutableBytes(of: &value) {
        $0.copyMemory(
            from: UnsafeRawBufferPointer(start: bytes, count: min(known, byteCount)))
    }
    return value
}

/// Fills a structure up to the size that the caller knows, and states how much was filled.
func writeSized<Value: BitwiseCopyable>(
    _ value: Value, to pointer: UnsafeMutablePointer<Value>?, _ name: String
) throws(Refusal) {
    guard let pointer else { throw .null(name) }
    let bytes = UnsafeMutableRawPointer(pointer)
    let room = Int(bytes.loadUnaligned(as: UInt32.self))
    guard room >= 8 else { throw .invalid("\(name)->struct_size is \(room)") }
    let byteCount = min(room, MemoryLayout<Value>.size)
    withUnsafeBytes(of: value) { bytes.copyMemory(from: $0.baseAddress!, byteCount: byteCount) }
    bytes.storeBytes(of: UInt32(byteCount), as: UInt32.self)
}

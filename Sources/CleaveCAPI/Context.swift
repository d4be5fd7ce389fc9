// swift-format-ignore-file: AlwaysUseLowerCamelCase
// Functions have the names that the C header gives them.

import CCleave
import CleaveEngine
import CleaveHost
import CleaveVirtioNet
import Glibc

/// Callbacks, and the parent of everything else.
final class ContextObject: HandleObject, @unchecked Sendable {
    // SAFETY: constant; the callbacks are documented to be called from any thread that calls.

    private let configuration: cleave_context_config

    init(_ configuration: cleave_context_config) {
        self.configuration = configuration
        super.init(parents: [])
    }

    override class var type: HandleType? { .context }

    enum Level: UInt32 {
        case error = 1
        case warning, info
    }

    /// - Parameter limit: of the guest that causes the line; nil if the program does.
    func log(_ level: Level, limit: LogLimit? = nil, _ message: @autoclosure () -> String) {
        guard let log = configuration.log else { return }
        let most = configuration.log_level == 0 ? Level.warning.rawValue : configuration.log_level
        if level.rawValue > most { return }
        func write(_ line: String) {
            line.withCString { log(configuration.user, Int32(level.rawValue), $0) }
        }
        if let limit {
            guard let leftOut = limit.admit() else { return }
            if leftOut > 0 { write(limit.words(leftOut)) }
        }
        write(message())
    }

    /// Arenas from the program's allocator, if it gave one.
    var arenas: ArenaSource {
        guard let allocate = configuration.allocate, let release = configuration.release else {
            return .system
        }
        // SAFETY: the program's own cookie, handed back to its own functions.
        nonisolated(unsafe) let user = configuration.user
        return ArenaSource { (byteCount, node, _) throws(HostError) in
            guard let memory = allocate(user, byteCount, 128, Int32(node ?? -1)) else {
                throw HostError(
                    "allocate", code: ENOMEM,
                    "the program's allocator gave no \(byteCount) bytes")
            }
            do throws(HostError) {
                return try MemoryArena(memory: memory, byteCount: byteCount) {
                    release(user, $0, byteCount)
                }
            } catch {
                release(user, memory, byteCount)
                throw error
            }
        }
    }

    func makeArena(byteCount: Int, node: Int?) throws(Refusal) -> MemoryArena {
        do {
            let arena = try arenas.make(byteCount, node, "rq")
            if let fallback = arena.fallback { log(.warning, "private memory: \(fallback)") }
            return arena
        } catch { throw Refusal(error, "private memory: ") }
    }
}

@c @implementation
public func cleave_context_create(
    _ config: UnsafePointer<cleave_context_config>!,
    _ context: UnsafeMutablePointer<OpaquePointer?>!
) -> Int32 {
    guard let context else { return Refusal.invalid }
    cleave_call_begin()
    defer { cleave_call_end() }
    do throws(Refusal) {
        var configuration = cleave_context_config()
        if let config {
            configuration = try readSized(
                config, minimum: MemoryLayout<cleave_context_config>.size, into: configuration,
                "config")
        }
        guard configuration.log_level <= ContextObject.Level.info.rawValue else {
            throw .invalid("config->log_level is \(configuration.log_level)")
        }
        guard (configuration.allocate == nil) == (configuration.release == nil) else {
            throw .invalid("config has one of allocate and release")
        }
        context.pointee = try HandleTable.insert(ContextObject(configuration))
        return 0
    } catch { return error.code }
}

@c @implementation
public func cleave_context_destroy(_ context: OpaquePointer!) -> Int32 {
    destroy(context, as: ContextObject.self)
}

@c @implementation
public func cleave_last_error(
    _ handle: UnsafeRawPointer!, _ text: UnsafeMutablePointer<CChar>!, _ size: Int
) -> Int32 {
    if handle == nil || (text == nil && size > 0) { return Refusal.invalid }
    return control(OpaquePointer(handle), as: HandleObject.self) { object throws(Refusal) in
        copy(object.lastError, to: text, size)
    }
}

/// Copies a sentence for the caller, cut to `size` bytes with its final NUL.
/// - Returns: its uncut length.
func copy(_ words: String, to text: UnsafeMutablePointer<CChar>?, _ size: Int) -> Int32 {
    let bytes = Array(words.utf8)
    if let text, size > 0 {
        let count = min(bytes.count, size - 1)
        for index in 0..<count { text[index] = CChar(bitPattern: bytes[index]) }
        text[count] = 0
    }
    return Int32(clamping: bytes.count)
}

@c @implementation
public func cleave_abi_version() -> UInt32 {
    UInt32(CLEAVE_ABI_MAJOR) << 16 | UInt32(CLEAVE_ABI_MINOR)
}

@c @implementation
public func cleave_version() -> UnsafePointer<CChar>! { Names.version }

@c @implementation
public func cleave_strerror(_ result: Int32) -> UnsafePointer<CChar>! { Names.result(result) }

@c @implementation
public func cleave_drop_name(_ index: UInt32) -> UnsafePointer<CChar>! {
    Names.pick(Names.drops, index)
}

@c @implementation
public func cleave_txq_drop_name(_ index: UInt32) -> UnsafePointer<CChar>! {
    Names.pick(Names.transmitDrops, index)
}

@c @implementation
public func cleave_fallback_name(_ index: UInt32) -> UnsafePointer<CChar>! {
    Names.pick(Names.fallbacks, index)
}

@c @implementation
public func cleave_fault_name(_ fault: UInt32) -> UnsafePointer<CChar>! {
    Names.pick(Names.faults, fault)
}

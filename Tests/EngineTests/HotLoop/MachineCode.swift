// Reads a program's machine code: what a function calls, and what those call in turn.
import CleaveTestSupport
import Foundation

/// One call or jump that leaves a straight line, or a function's own jump table.
enum Branch: Equatable {
    /// A function of this program, by its symbol.
    case function(String)
    /// A function of another library, by its name.
    case library(String)
    /// Through a register or memory: a closure, a witness, a method.
    case indirect(String)
    /// The address of a symbol, which may be a function to be called elsewhere.
    case address(String)
}

/// x86-64 code as objdump writes it.
struct MachineCode {
    private struct Place {
        let address: UInt64
        let byteCount: UInt64
    }

    private let path: String
    private let places: [String: Place]

    init(_ program: ReleaseProgram) throws {
        path = program.path
        var places: [String: Place] = [:]
        for line in try ReleaseProgram.output("nm", ["-S", "--defined-only", path])
            .split(separator: "\n")
        {
            let words = line.split(separator: " ")
            guard words.count == 4, "tTwW".contains(words[2]),
                let address = UInt64(words[0], radix: 16),
                let byteCount = UInt64(words[1], radix: 16)
            else { continue }
            places[String(words[3])] = Place(address: address, byteCount: byteCount)
        }
        self.places = places
    }

    /// Symbols of Swift functions whose mangled name contains `part`, by their readable names.
    func functions(mangled part: String) -> [String: String] {
        var found: [String: String] = [:]
        for symbol in places.keys where symbol.contains(part) {
            found[demangle(symbol)] = symbol
        }
        return found
    }

    /// The branches of one function, in order.
    func branches(of symbol: String) throws -> [Branch] {
        Self.branches(in: try instructions(of: symbol), of: symbol)
    }

    /// The instructions of one function, in order.
    func instructions(of symbol: String) throws -> [String] {
        guard let place = places[symbol] else {
            throw ReleaseProgram.Problem(description: "no function \(demangle(symbol))")
        }
        let end = place.address + place.byteCount
        let text = try ReleaseProgram.output(
            "objdump",
            [
                "-d", "--no-show-raw-insn", "--start-address=\(place.address)",
                "--stop-address=\(end)", path,
            ])
        // "  1234:\tcall   5678 <symbol+0x9>"
        let instructions = text.split(separator: "\n").compactMap { line -> String? in
            let parts = line.split(separator: "\t")
            guard parts.count == 2, parts[0].hasSuffix(":") else { return nil }
            return parts[1].trimmingCharacters(in: .whitespaces)
        }
        guard !instructions.isEmpty else {
            throw ReleaseProgram.Problem(description: "no code in \(demangle(symbol))")
        }
        return instructions
    }

    static func branches(in instructions: [String], of symbol: String) -> [Branch] {
        instructions.indices.compactMap { index in
            let instruction = instructions[index]
            let words = instruction.split(separator: " ", maxSplits: 1)
            if words.first == "lea", let open = words[1].lastIndex(of: "<"),
                words[1].hasSuffix(">")
            {
                return .address(String(words[1][words[1].index(after: open)...].dropLast()))
            }
            guard let mnemonic = words.first, mnemonic.hasPrefix("call") || mnemonic.hasPrefix("j"),
                words.count == 2
            else { return nil }
            if words[1].contains("*") {
                let isTable =
                    mnemonic == "jmp"
                    && isTableJump(instructions[max(0, index - 4)..<index], words[1])
                return isTable ? nil : .indirect(instruction)
            }
            guard let open = words[1].firstIndex(of: "<"), words[1].hasSuffix(">") else {
                return .indirect(instruction)
            }
            let target = words[1][words[1].index(after: open)...].dropLast()
            let name = target.firstRange(of: "+0x").map { target[..<$0.lowerBound] } ?? target
            if name == symbol { return nil }
            if name.hasSuffix("@plt") { return .library(String(name.dropLast(4))) }
            return .function(String(name))
        }
    }

    /// A switch: offsets from a table in the program are added to the table's own address.
    private static func isTableJump(
        _ before: ArraySlice<String>, _ target: Substring
    ) -> Bool {
        let register = target.trimmingCharacters(in: .whitespaces).dropFirst()
        guard register.hasPrefix("%") else { return false }
        return before.contains { $0.hasPrefix("movslq") && $0.hasSuffix(",\(register)") }
            && before.contains { $0.hasPrefix("add") && $0.hasSuffix(",\(register)") }
    }

    /// `symbol` and every function of this program that can be reached from it, with its branches.
    func reachable(from symbol: String) throws -> [String: [Branch]] {
        var reached: [String: [Branch]] = [:]
        var waiting = [symbol]
        while let next = waiting.popLast() {
            if reached[next] != nil { continue }
            let branches = try branches(of: next)
            reached[next] = branches
            for branch in branches {
                switch branch {
                case .function(let other): waiting.append(other)
                case .address(let other) where places[other] != nil: waiting.append(other)
                default: break
                }
            }
        }
        return reached
    }
}

@_silgen_name("swift_demangle")
private func runtimeDemangle(
    _ name: UnsafePointer<UInt8>, _ byteCount: Int, _ buffer: UnsafeMutablePointer<CChar>?,
    _ bufferByteCount: UnsafeMutablePointer<Int>?, _ flags: UInt32
) -> UnsafeMutablePointer<CChar>?

/// A symbol as a person reads it.
func demangle(_ symbol: String) -> String {
    let bytes = Array(symbol.utf8)
    guard let text = runtimeDemangle(bytes, bytes.count, nil, nil, 0) else { return symbol }
    defer { free(text) }
    return String(cString: text)
}

import CleaveHost

/// A client of the control socket, as commands see it. Any thread.
public final class ControlPeer: @unchecked Sendable {
    // SAFETY: everything that changes is guarded by `lock`.

    /// Bytes of events that wait for a client at most: one that does not read loses its connection.
    static let maximumEventByteCount = 256 * 1024

    private let lock = Lock()
    /// What is to be sent, in order.
    private enum Message {
        case event([UInt8])
        case reply(ControlReply)
    }
    private var messages: [Message] = []
    private var eventByteCount = 0
    private var isAnswered = true
    private var isOverrun = false
    private var isGone = false
    private var goneActions: [@Sendable () -> Void] = []
    private let wake: @Sendable () -> Void

    init(wake: @escaping @Sendable () -> Void) { self.wake = wake }

    /// Tells the client something that it did not ask for.
    /// - Returns: false if it is not there any more, or does not read.
    @discardableResult
    public func send(event name: String, _ members: [String: JSONValue] = [:]) -> Bool {
        var members = members
        members["event"] = .string(name)
        let line = [UInt8]((JSONValue.object(members).line + "\n").utf8)
        let isTaken = lock.withLock {
            if isGone || isOverrun { return false }
            if eventByteCount + line.count > Self.maximumEventByteCount {
                isOverrun = true
                return false
            }
            messages.append(.event(line))
            eventByteCount += line.count
            return true
        }
        wake()
        return isTaken
    }

    /// Has `body` run once the client has gone, on a thread of its own choosing; at once if it has.
    public func whenGone(_ body: @escaping @Sendable () -> Void) {
        let isNow = lock.withLock {
            if !isGone { goneActions.append(body) }
            return isGone
        }
        if isNow { body() }
    }

    // MARK: The server

    /// A request is being carried out.
    func begin() { lock.withLock { isAnswered = false } }

    /// Keeps an answer; it becomes text when it is taken.
    func answer(_ reply: ControlReply) {
        lock.withLock {
            if !isGone { messages.append(.reply(reply)) }
            isAnswered = true
        }
        wake()
    }

    /// Whether nothing is asked that was not answered; what is to be sent; whether too much is. On
    /// the server's thread: an answer may be megabytes of JSON.
    func take() -> (isAnswered: Bool, bytes: [UInt8], isOverrun: Bool) {
        let (isAnswered, messages, isOverrun) = lock.withLock {
            defer { (self.messages, eventByteCount) = ([], 0) }
            return (self.isAnswered, self.messages, self.isOverrun)
        }
        let bytes = messages.flatMap { message in
            switch message {
            case .event(let line): line
            case .reply(let reply): reply.bytes
            }
        }
        return (isAnswered, bytes, isOverrun)
    }

    func leave() {
        let actions = lock.withLock {
            isGone = true
            (messages, eventByteCount) = ([], 0)
            defer { goneActions = [] }
            return goneActions
        }
        for action in actions { action() }
    }
}

// swift-format-ignore-file: AlwaysUseLowerCamelCase
// Functions under the names that they had up to minor version 3, for programs built with such a
// header.

import CCleave

@c @implementation
public func cleave_rq_counters(
    _ rq: OpaquePointer!, _ counters: UnsafeMutablePointer<cleave_counters>!
) -> Int32 {
    cleave_rq_get_counters(rq, counters)
}

@c @implementation
public func cleave_lane_counters(
    _ lane: OpaquePointer!, _ counters: UnsafeMutablePointer<cleave_counters>!
) -> Int32 {
    cleave_lane_get_counters(lane, counters)
}

@c @implementation
public func cleave_lane_base(
    _ lane: OpaquePointer!, _ base: UnsafeMutablePointer<UInt16>!
) -> Int32 {
    cleave_lane_get_base(lane, base)
}

@c @implementation
public func cleave_engine_lane(
    _ engine: OpaquePointer!, _ index: UInt32, _ lane: UnsafeMutablePointer<OpaquePointer?>!
) -> Int32 {
    cleave_engine_get_lane(engine, index, lane)
}

// A back end in Rust over libcleave's C interface: what a guest transmits on one virtqueue of its
// queue pair is received on the other, one copy later. Guest and back end are in this process, so
// that every byte can be checked; a real back end gets memory and ring addresses from its control
// plane, and its guest posts the buffers.
//
//   rustc --edition 2021 queue_pair.rs -L native=LIBDIR && ./queue_pair
//
// The declarations are those of cleave.h, as `bindgen` would write them. All calls stay in the
// module `sys` and in the types around it: handles that destroy themselves, in the order in which
// libcleave wants it, because each borrows from its parent.

use std::ffi::{c_void, CStr};
use std::marker::PhantomData;
use std::mem::size_of;
use std::os::raw::{c_char, c_int};
use std::ptr::{addr_of, addr_of_mut, null_mut};
use std::sync::atomic::{AtomicU16, Ordering};

/// cleave.h, as far as it is used here.
mod sys {
    use super::{c_char, c_int, c_void};

    pub const F_MRG_RXBUF: u64 = 1 << 15;
    pub const F_VERSION_1: u64 = 1 << 32;

    #[repr(C)]
    pub struct ContextConfig {
        pub struct_size: u32,
        pub log_level: u32,
        pub user: *mut c_void,
        pub log: Option<unsafe extern "C" fn(*mut c_void, c_int, *const c_char)>,
        pub allocate: Option<unsafe extern "C" fn(*mut c_void, usize, usize, c_int) -> *mut c_void>,
        pub release: Option<unsafe extern "C" fn(*mut c_void, *mut c_void, usize)>,
    }

    #[repr(C)]
    pub struct Region {
        pub guest_address: u64,
        pub size: u64,
        pub host: *mut c_void,
        pub reserved: u64,
    }

    #[repr(C)]
    pub struct MemoryConfig {
        pub struct_size: u32,
        pub region_count: u32,
        pub regions: *const Region,
        pub same_guest_as: *mut c_void,
    }

    #[repr(C)]
    pub struct RqConfig {
        pub struct_size: u32,
        pub flags: u32,
        pub features: u64,
        pub size: u32,
        pub burst: u32,
        pub method: u32,
        pub report: u32,
        pub descriptor_area: *mut c_void,
        pub driver_area: *mut c_void,
        pub device_area: *mut c_void,
        pub last_avail: u16,
        pub last_used: u16,
        pub split_threshold: u32,
        pub call_fd: i32,
        pub node: i32,
        pub header_queue: *mut c_void,
        pub header_buffer_size: u32,
        pub return_ring: u32,
        pub features_high: u64,
    }

    #[repr(C)]
    pub struct TxqConfig {
        pub struct_size: u32,
        pub flags: u32,
        pub features: u64,
        pub size: u32,
        pub reserved: u32,
        pub descriptor_area: *mut c_void,
        pub driver_area: *mut c_void,
        pub device_area: *mut c_void,
        pub last_avail: u16,
        pub last_used: u16,
        pub call_fd: i32,
        pub node: i32,
        pub reserved2: u32,
        pub features_high: u64,
    }

    #[repr(C)]
    #[derive(Clone, Copy)]
    pub struct Packet {
        pub data: *const c_void,
        pub length: u32,
        pub flags: u16,
        pub cookie: u16,
        pub net_flags: u8,
        pub gso_type: u8,
        pub gso_size: u16,
        pub csum_start: u16,
        pub csum_offset: u16,
        pub hash_value: u32,
        pub hash_report: u16,
        pub more_count: u16,
        pub more: *const c_void,
    }

    #[link(name = "cleave")]
    extern "C" {
        pub fn cleave_strerror(result: c_int) -> *const c_char;
        pub fn cleave_last_error(handle: *const c_void, text: *mut c_char, size: usize) -> c_int;
        pub fn cleave_context_create(config: *const ContextConfig, out: *mut *mut c_void) -> c_int;
        pub fn cleave_context_destroy(context: *mut c_void) -> c_int;
        pub fn cleave_memory_create(
            context: *mut c_void, config: *const MemoryConfig, out: *mut *mut c_void,
        ) -> c_int;
        pub fn cleave_memory_destroy(memory: *mut c_void) -> c_int;
        pub fn cleave_rq_create(
            memory: *mut c_void, config: *const RqConfig, out: *mut *mut c_void,
        ) -> c_int;
        pub fn cleave_rq_enqueue_burst(
            rq: *mut c_void, packets: *mut Packet, count: u32, events: *mut u32,
        ) -> c_int;
        pub fn cleave_rq_destroy(rq: *mut c_void) -> c_int;
        pub fn cleave_txq_create(
            memory: *mut c_void, config: *const TxqConfig, out: *mut *mut c_void,
        ) -> c_int;
        pub fn cleave_txq_dequeue_burst(
            txq: *mut c_void, packets: *mut Packet, count: u32, events: *mut u32,
        ) -> c_int;
        pub fn cleave_txq_complete(txq: *mut c_void, count: u32, events: *mut u32) -> c_int;
        pub fn cleave_txq_destroy(txq: *mut c_void) -> c_int;
    }
}

/// What a call was for, and libcleave's words for why it failed.
#[derive(Debug)]
struct Failure(String);

/// The count that a call returned.
/// `handle`: whose last error it would be; null for none.
fn check(what: &str, result: c_int, handle: *const c_void) -> Result<usize, Failure> {
    if result >= 0 {
        return Ok(result as usize);
    }
    let mut text = [0 as c_char; 256];
    // SAFETY: both calls take any handle, and leave a text that ends with 0.
    let words = unsafe {
        if sys::cleave_last_error(handle, text.as_mut_ptr(), text.len()) < 0 {
            text[0] = 0;
        }
        let kind = CStr::from_ptr(sys::cleave_strerror(result)).to_string_lossy();
        format!("{}: {}: {}", what, kind, CStr::from_ptr(text.as_ptr()).to_string_lossy())
    };
    Err(Failure(words))
}

/// One handle, destroyed when it goes. `'parent` outlives it: libcleave refuses to destroy a parent
/// that has children, and the compiler sees to it that nobody tries.
struct Handle<'parent> {
    pointer: *mut c_void,
    destroy: unsafe extern "C" fn(*mut c_void) -> c_int,
    parent: PhantomData<&'parent ()>,
}

impl Drop for Handle<'_> {
    fn drop(&mut self) {
        // SAFETY: it was created by the function that belongs to this one, and goes once.
        let result = unsafe { (self.destroy)(self.pointer) };
        debug_assert_eq!(result, 0);
    }
}

fn made<'parent>(
    what: &str, on: *const c_void, destroy: unsafe extern "C" fn(*mut c_void) -> c_int,
    create: impl FnOnce(*mut *mut c_void) -> c_int,
) -> Result<Handle<'parent>, Failure> {
    let mut pointer = null_mut();
    check(what, create(&mut pointer), on)?;
    Ok(Handle { pointer, destroy, parent: PhantomData })
}

// ---- The guest: its memory, and the driver's side of its two rings ----

const RING: usize = 16;
const BUFFER: usize = 2048;
const NET_HEADER: usize = 12;
const GUEST_BASE: u64 = 0x8000_0000;
const NEXT: u16 = 1;
const WRITE: u16 = 2;

#[repr(C)]
struct Descriptor {
    address: u64,
    length: u32,
    flags: u16,
    next: u16,
}

#[repr(C)]
struct UsedElement {
    id: u32,
    length: u32,
}

/// A split virtqueue as virtio lays it out, and buffers for it.
#[repr(C, align(4096))]
struct Ring {
    descriptors: [Descriptor; RING],
    avail_flags: u16,
    avail_index: AtomicU16,
    avail: [u16; RING],
    avail_event: u16,
    /// The used ring lies on a multiple of 4 bytes.
    gap: u16,
    used_flags: u16,
    used_index: AtomicU16,
    used: [UsedElement; RING],
    used_event: u16,
    buffers: [[u8; BUFFER]; RING],
}

#[repr(C, align(4096))]
struct Guest {
    receive: Ring,
    transmit: Ring,
}

impl Guest {
    /// Zeroed, on the heap: libcleave and the driver share it, so it is used by pointers alone.
    fn new() -> *mut Guest {
        let layout = std::alloc::Layout::new::<Guest>();
        // SAFETY: the layout is not empty, and zeros are a Guest.
        let guest = unsafe { std::alloc::alloc_zeroed(layout) } as *mut Guest;
        assert!(!guest.is_null());
        guest
    }

    fn address(guest: *mut Guest, place: *const u8) -> u64 {
        GUEST_BASE + (place as usize - guest as usize) as u64
    }
}

/// A frame whose every byte tells its number.
fn frame(number: usize) -> Vec<u8> {
    let mut bytes = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x88, 0xb5];
    let length = 60 + number * 97 % 1400;
    while bytes.len() < length {
        bytes.push((number * 31 + bytes.len()) as u8);
    }
    bytes
}

/// Posts a buffer for each entry: the driver's part of receiving.
unsafe fn post_receive(guest: *mut Guest) {
    let ring = addr_of_mut!((*guest).receive);
    for index in 0..RING {
        (*ring).descriptors[index] = Descriptor {
            address: Guest::address(guest, (*ring).buffers[index].as_ptr()),
            length: BUFFER as u32,
            flags: WRITE,
            next: 0,
        };
        (*ring).avail[index] = index as u16;
    }
    (*ring).avail_index.store(RING as u16, Ordering::Release);
}

/// Sends `count` frames: a descriptor for the virtio-net header, one for the frame.
unsafe fn post_transmit(guest: *mut Guest, count: usize) {
    let ring = addr_of_mut!((*guest).transmit);
    for number in 0..count {
        let bytes = frame(number);
        let buffer = &mut (*ring).buffers[number];
        buffer[NET_HEADER..NET_HEADER + bytes.len()].copy_from_slice(&bytes);
        let start = Guest::address(guest, buffer.as_ptr());
        let head = 2 * number;
        (*ring).descriptors[head] = Descriptor {
            address: start,
            length: NET_HEADER as u32,
            flags: NEXT,
            next: head as u16 + 1,
        };
        (*ring).descriptors[head + 1] = Descriptor {
            address: start + NET_HEADER as u64,
            length: bytes.len() as u32,
            flags: 0,
            next: 0,
        };
        (*ring).avail[number] = head as u16;
    }
    (*ring).avail_index.store(count as u16, Ordering::Release);
}

/// How many frames have arrived as they were sent, and how many buffers have come back.
unsafe fn look(guest: *mut Guest) -> (usize, usize) {
    let (receive, transmit) = (addr_of!((*guest).receive), addr_of!((*guest).transmit));
    let arrived = (*receive).used_index.load(Ordering::Acquire) as usize;
    let intact = (0..arrived)
        .filter(|&number| {
            let used = &(*receive).used[number];
            let buffer = &(*receive).buffers[used.id as usize];
            buffer[NET_HEADER..used.length as usize] == frame(number)[..]
        })
        .count();
    (intact, (*transmit).used_index.load(Ordering::Acquire) as usize)
}

// ---- The back end ----

unsafe extern "C" fn log_line(_user: *mut c_void, level: c_int, message: *const c_char) {
    eprintln!("libcleave {}: {}", level, CStr::from_ptr(message).to_string_lossy());
}

fn run(guest: *mut Guest, count: usize) -> Result<(usize, usize), Failure> {
    let config = sys::ContextConfig {
        struct_size: size_of::<sys::ContextConfig>() as u32,
        log_level: 0,
        user: null_mut(),
        log: Some(log_line),
        allocate: None,
        release: None,
    };
    // SAFETY (of all calls below): configurations are those of cleave.h and live during the call;
    // the guest's memory outlives the queues; one thread calls.
    let context = made("context", null_mut(), sys::cleave_context_destroy, |out| unsafe {
        sys::cleave_context_create(&config, out)
    })?;

    let region = sys::Region {
        guest_address: GUEST_BASE,
        size: size_of::<Guest>() as u64,
        host: guest as *mut c_void,
        reserved: 0,
    };
    let table = sys::MemoryConfig {
        struct_size: size_of::<sys::MemoryConfig>() as u32,
        region_count: 1,
        regions: &region,
        same_guest_as: null_mut(),
    };
    let memory = made("memory", context.pointer, sys::cleave_memory_destroy, |out| unsafe {
        sys::cleave_memory_create(context.pointer, &table, out)
    })?;

    let (receive, transmit) =
        unsafe { (addr_of_mut!((*guest).receive), addr_of_mut!((*guest).transmit)) };
    // The areas of a ring: descriptors, and from the flags of the other two on.
    let areas = |ring: *mut Ring| unsafe {
        (
            addr_of_mut!((*ring).descriptors) as *mut c_void,
            addr_of_mut!((*ring).avail_flags) as *mut c_void,
            addr_of_mut!((*ring).used_flags) as *mut c_void,
        )
    };
    let (descriptor_area, driver_area, device_area) = areas(receive);
    let config = sys::RqConfig {
        struct_size: size_of::<sys::RqConfig>() as u32,
        flags: 0,
        features: sys::F_VERSION_1 | sys::F_MRG_RXBUF,
        size: RING as u32,
        burst: 0,
        method: 0,
        report: 0,
        descriptor_area,
        driver_area,
        device_area,
        last_avail: 0,
        last_used: 0,
        split_threshold: 0,
        call_fd: 0,
        node: 0,
        header_queue: null_mut(),
        header_buffer_size: 0,
        return_ring: 0,
        features_high: 0,
    };
    let rq = made("receive queue", memory.pointer, sys::cleave_rq_destroy, |out| unsafe {
        sys::cleave_rq_create(memory.pointer, &config, out)
    })?;

    let (descriptor_area, driver_area, device_area) = areas(transmit);
    let config = sys::TxqConfig {
        struct_size: size_of::<sys::TxqConfig>() as u32,
        flags: 0,
        features: sys::F_VERSION_1,
        size: RING as u32,
        reserved: 0,
        descriptor_area,
        driver_area,
        device_area,
        last_avail: 0,
        last_used: 0,
        call_fd: 0,
        node: 0,
        reserved2: 0,
        features_high: 0,
    };
    let txq = made("transmit queue", memory.pointer, sys::cleave_txq_destroy, |out| unsafe {
        sys::cleave_txq_create(memory.pointer, &config, out)
    })?;

    // The data path: references to packets that lie in the guest's memory go from one queue to the
    // other, which copies them; then the guest gets its transmit buffers back.
    // SAFETY: zeros are a packet without bytes.
    let mut packets = [unsafe { std::mem::zeroed::<sys::Packet>() }; 32];
    let mut moved = 0;
    while moved < count {
        let taken = check(
            "dequeue",
            unsafe {
                sys::cleave_txq_dequeue_burst(txq.pointer, packets.as_mut_ptr(), 32, null_mut())
            },
            txq.pointer,
        )?;
        if taken == 0 {
            break;
        }
        let mut events = 0;
        let placed = check(
            "enqueue",
            unsafe {
                sys::cleave_rq_enqueue_burst(
                    rq.pointer, packets.as_mut_ptr(), taken as u32, &mut events,
                )
            },
            rq.pointer,
        )?;
        check(
            "complete",
            unsafe { sys::cleave_txq_complete(txq.pointer, taken as u32, null_mut()) },
            txq.pointer,
        )?;
        moved += placed;
    }
    // Queues go before memory, and memory before the context.
    drop((rq, txq));
    drop(memory);
    Ok((moved, unsafe { look(guest) }.1))
}

fn main() {
    let guest = Guest::new();
    let count = RING / 2;
    // SAFETY: nobody else uses the guest's memory now.
    unsafe {
        post_receive(guest);
        post_transmit(guest, count);
    }
    match run(guest, count) {
        Ok((moved, returned)) => {
            let (intact, _) = unsafe { look(guest) };
            println!("{} packets from ring to ring, {} intact", moved, intact);
            println!("{} transmit buffers returned", returned);
            if moved != count || intact != count || returned != count {
                std::process::exit(1);
            }
        }
        Err(Failure(words)) => {
            eprintln!("{}", words);
            std::process::exit(1);
        }
    }
}

/*
 * libcleave: the receive data plane of a virtio-net device, for programs that have a control plane
 * of their own (a vhost-user backend, an in-process device model). The caller negotiates, maps
 * memory and owns the sockets; it hands libcleave virtqueues and feeds them with bursts of packets:
 *
 *   queue level    cleave_rq_create, cleave_rq_enqueue_burst: on the caller's own threads
 *   engine level   cleave_engine_create: libcleave's pinned threads, one per queue, fed by rings
 *
 * ERRORS. What returns int returns 0 or a count on success and a negated errno on failure; nothing
 * is written to errno, standard output or standard error. A sentence that says what was wrong stays
 * with the handle of the call (a create function's parent) until it fails again: cleave_last_error.
 *
 *   -EINVAL     NULL where a pointer is needed, or a value outside its range
 *   -EBADF      not a handle of this type, or one that was destroyed
 *   -E2BIG      struct_size is larger than this library knows, and what lies beyond is not 0
 *   -ENOTSUP    known, but not supported by this version (see there)
 *   -EBUSY      another thread is in a call on this handle, or others depend on it
 *   -ESHUTDOWN  the queue was stopped
 *   -ENOMEM     no memory; -EAGAIN no thread; -ENOSPC too many handles (16384)
 *
 * HANDLES are tokens, not addresses: they are checked at every call, so a stale, foreign or NULL
 * one is refused. They belong to a process: a child of fork may not use its parent's.
 *
 * STRUCTURES that configure begin with struct_size = sizeof(the structure). Set all else to 0, the
 * default, and then what you need. Members that a caller of an older header lacks are 0, too.
 *
 * THREADS
 *   cleave_*_create, _destroy, _counters,     any thread, at any time; a destroy that meets a call
 *   _last_error, _translate, names, versions  under way on its handle waits a moment for its end,
 *                                             then returns -EBUSY
 *   everything else                           any thread, one at a time per handle; a second one
 *                                             is refused with -EBUSY, never made to wait
 *   cleave_header_queue_reset                 the same; and, as a destroy waits for calls, it waits
 *                                             for those on RQs, engines and lanes that use it
 *   log callback                              the thread of the call that it reports on; a call
 *                                             on the same handle from there is refused
 *
 * MEMORY. Guest memory stays mapped and ring areas stay in place until cleave_rq_stop or
 * cleave_rq_destroy has returned 0 for every queue over them. Guests are not trusted: whatever
 * rings, descriptors and buffers hold, only memory of the queue's regions is read and written.
 * Private memory is taken when something is created, never afterwards. If even a few hundred
 * bytes are not to be had for bookkeeping, the process ends as after a failed C++ new.
 *
 * Instances are independent of each other; what they share is the table of handles. The library
 * installs no signal handler, writes to no stream, reads no environment of its own and starts no
 * thread unless an engine is started. It cannot be unloaded: dlclose leaves it where it is.
 */
#ifndef CLEAVE_H
#define CLEAVE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The interface described here; cleave_abi_version tells that of the library that was loaded.
 * Programs work with any library of the same major and an equal or higher minor number. */
#define CLEAVE_ABI_MAJOR 0
#define CLEAVE_ABI_MINOR 3

uint32_t cleave_abi_version(void); /* major number in the upper 16 bits, minor in the lower */
const char *cleave_version(void);  /* the library's, such as "0.1.0"; constant */
/* A word for a result of this library, such as "stale or foreign handle". Constant. */
const char *cleave_strerror(int result);
typedef struct cleave_context cleave_context;
typedef struct cleave_memory cleave_memory;
typedef struct cleave_header_queue cleave_header_queue;
typedef struct cleave_rq cleave_rq;
typedef struct cleave_txq cleave_txq;
typedef struct cleave_engine cleave_engine;
typedef struct cleave_lane cleave_lane;

/* Copies the sentence about the last failure on a handle, cut to `size` bytes with its final NUL;
 * empty if there was none. Returns the length that it has uncut. */
int cleave_last_error(const void *handle, char *text, size_t size);

/* ---- Context: callbacks, and the parent of everything else ---------------------------------- */
enum cleave_log_level {
    CLEAVE_LOG_ERROR = 1,   /* a guest broke its queue, a thread could not be started */
    CLEAVE_LOG_WARNING = 2, /* it works, but not as well as it could: memory fell back */
    CLEAVE_LOG_INFO = 3     /* queues and engines come and go */
};
typedef struct cleave_context_config {
    uint32_t struct_size;
    uint32_t log_level; /* most talkative level that is reported; 0 = CLEAVE_LOG_WARNING */
    void *user;         /* passed to the callbacks */
    /* One line without a line break; valid during the call. NULL = nothing is logged. */
    void (*log)(void *user, int level, const char *message);
    /* Where private memory comes from (huge pages, rte_malloc): `size` bytes on a multiple of
     * `alignment`, on NUMA node `node` (-1 = any), or NULL. Without: anonymous memory, in huge
     * pages if there are any. Both or none. */
    void *(*allocate)(void *user, size_t size, size_t alignment, int node);
    void (*release)(void *user, void *memory, size_t size);
} cleave_context_config;
/* `config` may be NULL. */
int cleave_context_create(const cleave_context_config *config, cleave_context **context);
/* -EBUSY while anything that was created from it is left. */
int cleave_context_destroy(cleave_context *context);

/* ---- Guest memory --------------------------------------------------------------------------- */
/* One contiguous piece of guest memory, mapped into this process. */
typedef struct cleave_region {
    uint64_t guest_address; /* first guest physical address */
    uint64_t size;          /* bytes */
    void *host;             /* where its first byte is mapped */
    uint64_t reserved;      /* 0 */
} cleave_region;
typedef struct cleave_memory_config {
    uint32_t struct_size;
    uint32_t region_count;        /* 1 to 64 */
    const cleave_region *regions; /* copied; may not overlap */
} cleave_memory_config;
/* The memory table of one guest. A new table means new queues: stop them, and resume new ones
 * where they were. */
int cleave_memory_create(
    cleave_context *context, const cleave_memory_config *config, cleave_memory **memory);
/* -EBUSY while a queue uses it. */
int cleave_memory_destroy(cleave_memory *memory);
/* The host pointer of `size` bytes at a guest address, if one region holds them all; else
 * -EINVAL. For control planes that are told guest addresses of rings. */
int cleave_memory_translate(
    cleave_memory *memory, uint64_t guest_address, uint64_t size, void **host);

/* ---- Header queue --------------------------------------------------------------------------- */
typedef struct cleave_header_queue_config {
    uint32_t struct_size;
    uint32_t slot_size;  /* bytes, a power of two, 64 to 1024 */
    uint32_t slot_count; /* a power of two, 1 to 32768 */
    uint32_t reserved;   /* 0 */
    void *slots;         /* host address inside a region; guest address a multiple of 64 */
    void *control;       /* 256 bytes, a multiple of 128: le32 tail at 0 (written by the driver),
                            le32 head at 128 (written here) */
    void *returns;       /* NULL: slots come back in order, by the tail. Else in any order, by a
                            ring of slot_count entries {le16 slot, le16 lap} (written by the
                            driver), zeroed; guest address a multiple of 64 */
} cleave_header_queue_config;
/* Slots that one or many RQs of the same guest draw from. Starts at head 0. */
int cleave_header_queue_create(
    cleave_memory *memory, const cleave_header_queue_config *config, cleave_header_queue **queue);
/* -EBUSY while an RQ is linked to it. */
int cleave_header_queue_destroy(cleave_header_queue *queue);
typedef struct cleave_header_queue_status {
    uint32_t struct_size;
    uint32_t broken;     /* not 0: the driver's tail, or a slot it returned, cannot be */
    uint64_t claimed;    /* slots claimed since creation, by all RQs together */
    uint64_t free;       /* slots that may be claimed now */
    uint64_t duplicates; /* slots that were returned although they were here: skipped */
} cleave_header_queue_status;
int cleave_header_queue_get_status(cleave_header_queue *queue, cleave_header_queue_status *status);
/* Begins anew, broken or not, while RQs stay: no slot is free, packets go whole, none is lost.
 * Running engines go on: their threads are held between two turns.
 *   before  the driver stops giving slots back; it zeroes its return ring, or leaves its tail
 *   after   it harvests what was reported before, gives none of those slots back one by one, and
 *           then gives all: tail + slot_count, or the return ring from entry 0, lap 0 on
 * Meanwhile calls on RQs, engines and lanes that use the queue, and creating more, get -EBUSY. So
 * does this one, and nothing has happened, if such a call does not end in a moment. */
int cleave_header_queue_reset(cleave_header_queue *queue);

/* ---- Receive queue (RQ): a virtqueue whose buffers the device fills ------------------------- */
/* Where headers go. A, B and C report a split in 8 bytes behind the net header: le32 0, le16 bytes
 * of headers, le16 1 (all 0 if the packet is whole). */
enum cleave_method {
    CLEAVE_METHOD_WHOLE = 0, /* nowhere: headers and payload together */
    CLEAVE_METHOD_A = 1,     /* first descriptor of a chain, payload from the second on */
    CLEAVE_METHOD_B = 2,     /* a buffer of their own in front of the payload's; MRG_RXBUF */
    CLEAVE_METHOD_C = 3,     /* as B, small and large buffers alternately; MRG_RXBUF */
    CLEAVE_METHOD_D = 4      /* a slot of the header queue */
};

/* How method D tells the driver which slot it was. */
enum cleave_report {
    CLEAVE_REPORT_USED_ELEMENT = 0, /* the used entry names it; the net header lies in it too */
    CLEAVE_REPORT_NET_HEADER = 1    /* 8 bytes behind the net header in the data buffer */
};

enum cleave_rq_flags {
    CLEAVE_RQ_CALL_FD = 1 << 0, /* call_fd is valid: the driver is called through it */
    CLEAVE_RQ_NODE = 1 << 1,    /* node is valid: private memory lies there */
    CLEAVE_RQ_DROP = 1 << 2,    /* too few buffers: drop packets, do not leave them to the caller */
    CLEAVE_RQ_TINY = 1 << 3,    /* method D: packets that fit a slot go there entirely */
    CLEAVE_RQ_ZERO_PAD = 1 << 4 /* method D: zero a slot's last line behind the headers */
};
typedef struct cleave_rq_config {
    uint32_t struct_size;
    uint32_t flags; /* cleave_rq_flags */
    /* As negotiated, bits as in virtio. VERSION_1 (32) is needed; RING_PACKED (34), MRG_RXBUF (15),
     * INDIRECT_DESC (28), EVENT_IDX (29) and HASH_REPORT (57) are obeyed; VHOST_F_LOG_ALL (26) is
     * refused with -ENOTSUP; the others do not concern this path. */
    uint64_t features;
    uint32_t size;   /* entries: a power of two if the ring is split, at most 32768 */
    uint32_t burst;  /* most packets published at once, 1 to 256; 0 = 32 */
    uint32_t method; /* cleave_method */
    uint32_t report; /* cleave_report */
    /* Host addresses inside a region, aligned as virtio demands. */
    void *descriptor_area; /* descriptor table, or packed descriptor ring */
    void *driver_area;     /* available ring, or driver event suppression */
    void *device_area;     /* used ring, or device event suppression */
    /* Where the device goes on. Split: indices, 0 and 0 at first. Packed: offset in the lower 15
     * bits, wrap counter above, 0x8000 at first. A queue is resumed without buffers in flight,
     * so the two are equal (as rte_vhost_get_vring_base and GET_VRING_BASE tell them). */
    uint16_t last_avail;
    uint16_t last_used;
    uint32_t split_threshold; /* method D: packets of at most so many bytes stay whole; 0 = none */
    int32_t call_fd;          /* eventfd; stays the caller's */
    int32_t node;
    cleave_header_queue *header_queue; /* method D needs one, of the same memory */
    uint32_t header_buffer_size; /* method C: up to so many bytes a buffer is small; 0 = 128 */
    uint32_t reserved;           /* 0 */
} cleave_rq_config;
/* Attaches to a virtqueue. Kicks are switched off: the caller polls by enqueueing. */
int cleave_rq_create(cleave_memory *memory, const cleave_rq_config *config, cleave_rq **rq);

/* A further piece of a packet. */
typedef struct cleave_segment {
    const void *data;
    uint32_t length;
    uint32_t reserved; /* not looked at */
} cleave_segment;

#define CLEAVE_MAX_SEGMENTS 64      /* of one packet, the first one included */
#define CLEAVE_MAX_PACKET_BYTES 65589

enum cleave_packet_flags {
    CLEAVE_PACKET_DROPPED = 1 << 1 /* out: done with, but not delivered; the counters say why */
};

/* One Ethernet frame, from its first byte, in memory of the caller's that is only read. */
typedef struct cleave_packet {
    const void *data;    /* first segment */
    uint32_t length;     /* its bytes; the first segment holds at least one */
    uint16_t flags;      /* set it to 0; on return 0 or cleave_packet_flags */
    uint16_t cookie;     /* the caller's own; comes back in completions */
    /* Fields of the virtio-net header. What was not negotiated drops the packet, or is left out. */
    uint8_t net_flags;   /* VIRTIO_NET_HDR_F_* */
    uint8_t gso_type;    /* VIRTIO_NET_HDR_GSO_* */
    uint16_t gso_size;
    uint16_t csum_start;
    uint16_t csum_offset;
    uint32_t hash_value;
    uint16_t hash_report; /* VIRTIO_NET_HASH_REPORT_* */
    uint16_t more_count;  /* further segments, below CLEAVE_MAX_SEGMENTS; offloads count as one */
    const cleave_segment *more;
} cleave_packet;

enum cleave_events {
    CLEAVE_EVENT_CALL = 1 << 0,   /* the driver asked to be called, and there is no call_fd */
    CLEAVE_EVENT_BROKEN = 1 << 1  /* the driver broke the queue: signal its error descriptor */
};

/* Places packets, in order, and makes them visible to the driver. Returns how many are done with:
 * delivered, or dropped and marked CLEAVE_PACKET_DROPPED. The rest is the caller's still: too few
 * buffers are posted, or the next packet is malformed (data NULL, too many segments); a malformed
 * packet that comes first is an error. The packets' memory is free again at return.
 * `events`: cleave_events; may be NULL if there is a call_fd. */
int cleave_rq_enqueue_burst(
    cleave_rq *rq, cleave_packet *packets, uint32_t count, uint32_t *events);

/* A packet in one piece that asks for nothing, in the fewest bytes. */
typedef struct cleave_ref {
    const void *data;
    uint32_t length;
    uint16_t flags; /* set it to 0; on return 0 or cleave_packet_flags */
    uint16_t cookie;
} cleave_ref;
/* cleave_rq_enqueue_burst for such packets, which are used where they lie: nothing is converted.
 * Malformed: data NULL, flags not 0, `refs` not aligned to 8 bytes. */
int cleave_rq_enqueue_refs(cleave_rq *rq, cleave_ref *refs, uint32_t count, uint32_t *events);

/* Ends the use of the virtqueue, for good. `base`, if not NULL: where it can be resumed. */
int cleave_rq_stop(cleave_rq *rq, uint16_t *base);
int cleave_rq_destroy(cleave_rq *rq);
/* What one RQ has done since it was created. */
typedef struct cleave_counters {
    uint32_t struct_size;
    uint32_t fault;         /* why the virtqueue is broken: cleave_fault_name; 0 = it is not */
    uint64_t packets;       /* delivered */
    uint64_t bytes;         /* of those, headers included, net headers not */
    uint64_t split;         /* delivered with their headers in a place of their own */
    uint64_t tiny;          /* delivered in a slot entirely */
    uint64_t buffers;       /* used */
    uint64_t slots;         /* claimed */
    uint64_t bursts;        /* that delivered or dropped at least one packet */
    uint64_t empty_turns;   /* that did not */
    uint64_t calls;         /* times the driver had asked to be called */
    uint64_t claim_retries; /* slot claims that another RQ won */
    uint64_t tiny_buffers;  /* given back unused: too small for a net header */
    uint64_t skipped_buffers; /* method C: small ones given back empty within a packet */
    uint64_t misfits;       /* method C: headers in a large buffer */
    uint64_t fallback[16];  /* delivered whole although the queue splits: cleave_fallback_name */
    uint64_t dropped[16];   /* cleave_drop_name */
    uint64_t busy_cycles;   /* an engine's thread, in turns that did something; else 0 */
    uint64_t idle_cycles;   /* and in turns that did not */
} cleave_counters;
/* Fills the first struct_size bytes, as many as are known; struct_size is set to how many. */
int cleave_rq_counters(cleave_rq *rq, cleave_counters *counters);

/* The name of entry `index` of the arrays, of a fault; NULL if there is none. Constant. */
const char *cleave_fallback_name(uint32_t index);
const char *cleave_drop_name(uint32_t index);
const char *cleave_fault_name(uint32_t fault);

/* ---- Transmit queue (TXQ): a virtqueue whose buffers the device reads ----------------------- */
enum cleave_txq_flags {
    CLEAVE_TXQ_CALL_FD = 1 << 0, /* call_fd is valid: the driver is called through it */
    CLEAVE_TXQ_NODE = 1 << 1     /* node is valid: private memory lies there */
};
typedef struct cleave_txq_config {
    uint32_t struct_size;
    uint32_t flags; /* cleave_txq_flags */
    /* As in cleave_rq_config. A packet may ask for what was negotiated: CSUM (0), HOST_TSO4 (11),
     * HOST_TSO6 (12), HOST_ECN (13), HOST_UFO (14), HOST_USO (56). */
    uint64_t features;
    uint32_t size;
    uint32_t reserved; /* 0 */
    void *descriptor_area;
    void *driver_area;
    void *device_area;
    uint16_t last_avail;
    uint16_t last_used;
    int32_t call_fd;
    int32_t node;
    uint32_t reserved2; /* 0 */
} cleave_txq_config;
int cleave_txq_create(cleave_memory *memory, const cleave_txq_config *config, cleave_txq **txq);

/* Takes up to `count` packets that the driver has posted, in order, without the virtio-net header
 * in front of them; what it asked for stands in the offload members, checked: checksums lie inside
 * the packet, sizes are not 0, kinds were negotiated. Packets that fail are dropped and counted.
 * Nothing is copied: `data` and `more` point into guest memory, which the guest may change at any
 * time (so copy first what you decide by), and stay valid until the packet is completed.
 * Returns how many there were; `events` as in cleave_rq_enqueue_burst. */
int cleave_txq_dequeue_burst(
    cleave_txq *txq, cleave_packet *packets, uint32_t count, uint32_t *events);
/* Gives the `count` packets that were taken longest ago back to the driver. */
int cleave_txq_complete(cleave_txq *txq, uint32_t count, uint32_t *events);
/* Ends the use of the virtqueue, for good; -EBUSY while packets are out. */
int cleave_txq_stop(cleave_txq *txq, uint16_t *base);
int cleave_txq_destroy(cleave_txq *txq);
typedef struct cleave_txq_counters {
    uint32_t struct_size;
    uint32_t fault;       /* cleave_fault_name */
    uint64_t packets;     /* handed out */
    uint64_t bytes;       /* of those, net headers not included */
    uint64_t bursts;      /* that handed out at least one packet */
    uint64_t empty_turns; /* that did not */
    uint64_t calls;       /* times the driver had asked to be called */
    uint64_t dropped[16]; /* cleave_txq_drop_name */
} cleave_txq_counters;
int cleave_txq_get_counters(cleave_txq *txq, cleave_txq_counters *counters);
const char *cleave_txq_drop_name(uint32_t index);

/* ---- Engine: threads of its own ------------------------------------------------------------- */
typedef struct cleave_engine_config {
    uint32_t struct_size;
    uint32_t queue_count;           /* 1 to 1024 */
    const cleave_rq_config *queues; /* all with the same struct_size */
    /* queue_count CPUs to pin the queues' threads to, memory on their nodes; or NULL: not pinned.
     * Each queue's own `node` is ignored, and without a call_fd its driver is not called. */
    const int32_t *cpus;
    uint32_t ring_capacity; /* segments in a submission ring, a power of two from 64; 0 = 1024 */
    uint32_t reserved;      /* 0 */
} cleave_engine_config;
/* RQs, each with a submission ring and a completion ring, and once started with a thread. */
int cleave_engine_create(
    cleave_memory *memory, const cleave_engine_config *config, cleave_engine **engine);
int cleave_engine_start(cleave_engine *engine);
/* Waits until every submitted packet was placed; another thread goes on reaping meanwhile.
 * -ETIMEDOUT: after `milliseconds` some were left. */
int cleave_engine_drain(cleave_engine *engine, uint32_t milliseconds);
/* Ends the threads after their current turn; may be started again. Idempotent. */
int cleave_engine_stop(cleave_engine *engine);
/* Stops, and ends the engine and its lanes. -EBUSY, and nothing has happened, while a call on one
 * of them is under way. */
int cleave_engine_destroy(cleave_engine *engine);

/* The submitting side of RQ number `index`. Belongs to the engine and ends with it. */
int cleave_engine_lane(cleave_engine *engine, uint32_t index, cleave_lane **lane);
/* Submits packets; their memory is the engine's until their completion was reaped. Returns how
 * many were taken: the rest found the ring full, or the next one is malformed. */
int cleave_lane_submit(cleave_lane *lane, const cleave_packet *packets, uint32_t count);
typedef struct cleave_completion {
    uint16_t cookie; /* of the packet */
    uint16_t flags;  /* cleave_packet_flags */
} cleave_completion;
/* Takes completions, one per packet, in the order of submission. Returns how many. */
int cleave_lane_reap(cleave_lane *lane, cleave_completion *completions, uint32_t count);
/* One turn of the RQ on the caller's thread, while the engine is not started (else -EBUSY).
 * Returns how many segments were done with. */
int cleave_lane_turn(cleave_lane *lane);
int cleave_lane_counters(cleave_lane *lane, cleave_counters *counters);
/* Where a stopped engine's virtqueue can be resumed; -EBUSY while it runs. */
int cleave_lane_base(cleave_lane *lane, uint16_t *base);

#ifdef __cplusplus
}
#endif

#endif

/*
 * libcleave: the data plane of a virtio-net device. A program that has a control plane of its own
 * (a vhost-user backend, an in-process device model) negotiates, maps memory and owns the sockets;
 * it hands libcleave virtqueues and feeds them with bursts of packets:
 *
 *   queue level    cleave_rq_create, cleave_rq_enqueue_burst: on the caller's own threads
 *   engine level   cleave_engine_create: libcleave's pinned threads, one per queue, fed by rings
 *
 * A program without a control plane takes that of the library:
 *
 *   vhost-user     cleave_vhost_create: listens at a socket, or connects to one, talks to the
 *                  guest's front end, and hands out the same queues
 *
 * ERRORS. Functions that return int return 0 or a count on success and a negated errno on failure;
 * nothing is written to errno, standard output or standard error. A sentence that says what was
 * wrong stays with the handle of the call (a create function's parent) until it fails again:
 * cleave_last_error.
 *
 *   -EINVAL     NULL where a pointer is needed, or a value outside its range
 *   -EBADF      not a handle of this type, or one that was destroyed
 *   -E2BIG      struct_size is larger than this library knows, and what lies beyond is not 0
 *   -ENOTSUP    known, but not supported by this version (see there)
 *   -EBUSY      another thread is in a call on this handle, or others depend on it
 *   -ESHUTDOWN  the queue was stopped
 *   -ENOMEM     no memory; -EMFILE, -ENFILE no file descriptor; -EAGAIN no thread
 *   -ENOSPC     too many handles (16384)
 *   -ETIMEDOUT  cleave_engine_drain
 *
 * HANDLES are tokens, not addresses: they are checked at every call, so a stale, foreign or NULL
 * one is refused. They belong to a process: in a child of fork those of its parent are stale
 * (-EBADF) at once, and the child may make its own: a fork waits for calls that make or end things
 * on other threads, a second at most.
 *
 * STRUCTURES that configure begin with struct_size = sizeof(the structure). Set all else to 0, the
 * default, and then what you need: cleave_rq_config rq = CLEAVE_INIT(cleave_rq_config); does both.
 * Members that a caller of an older header lacks are 0, too. Structures that are filled in begin
 * with it as well: the caller sets it to the room there is, 8 bytes at least.
 *
 * THREADS
 *   cleave_*_create, _destroy,                any thread, at any time
 *   _get_counters, _get_lane, _translate,
 *   cleave_last_error, names, versions
 *   everything else                           any thread, one at a time per handle; a second one
 *                                             is refused with -EBUSY, never made to wait
 *   log, event callbacks                      the thread of the call that they report on; what is
 *                                             one at a time is refused on the same handle there
 *
 * A destroy that meets calls under way on its handle waits for their end, 20 ms at most, and holds
 * up no other handle meanwhile; then it returns -EBUSY and nothing has happened. While it waits,
 * calls on the handle get -EBUSY. cleave_header_queue_reset waits in the same way for calls on RQs,
 * engines and lanes that use the queue. When a destroy has returned 0, nothing of the object, and
 * no callback on its behalf, runs any more.
 *
 * A thread may not leave a call by pthread_cancel, longjmp or an exception of a callback: its
 * handle stays taken for good. A call needs 64 KiB of stack at most.
 *
 * MEMORY. Guest memory stays mapped and ring areas stay in place until stop or destroy has returned
 * 0 for every queue and engine over them, and destroy for every header queue. Guests are not
 * trusted: whatever rings, descriptors and buffers hold, only memory of the queue's regions is read
 * and written.
 * A guest that can shrink the file behind its memory (a memfd without F_SEAL_SHRINK) can make such
 * an access raise SIGBUS in the thread of the call: a program that is to survive it installs a
 * handler that maps memory there, and stops the queue.
 * Private memory is taken when something is created, never afterwards. If even a few hundred
 * bytes are not to be had for bookkeeping, the process ends as after a failed C++ new.
 *
 * Instances are independent of each other; what they share is the table of handles. The library
 * installs no signal handler but one (see cleave_vhost_create), writes to no stream, reads no
 * environment of its own and starts no thread unless an engine is started. It cannot be unloaded:
 * dlclose leaves it where it is.
 */
#ifndef CLEAVE_H
#define CLEAVE_H

#include <stddef.h>
#include <stdint.h>

/* A structure of this header with all members 0 but struct_size. */
#ifdef __cplusplus
template <typename cleave_structure> inline cleave_structure cleave_initial() {
    cleave_structure value = cleave_structure();
    value.struct_size = sizeof value;
    return value;
}
#define CLEAVE_INIT(structure) (cleave_initial<structure>())
extern "C" {
#else
#define CLEAVE_INIT(structure) {.struct_size = sizeof(structure)}
#endif

/* The interface described here; cleave_abi_version tells that of the library that was loaded.
 * Programs work with any library of the same major and an equal or higher minor number. */
#define CLEAVE_ABI_MAJOR 0
#define CLEAVE_ABI_MINOR 6

uint32_t cleave_abi_version(void); /* major number in the upper 16 bits, minor in the lower */
const char *cleave_version(void);  /* the library's, such as "0.2.0"; constant */
/* A word for a result of this library, such as "stale or foreign handle". Constant. */
const char *cleave_strerror(int result);
typedef struct cleave_context cleave_context;
typedef struct cleave_memory cleave_memory;
typedef struct cleave_header_queue cleave_header_queue;
typedef struct cleave_rq cleave_rq;
typedef struct cleave_txq cleave_txq;
typedef struct cleave_engine cleave_engine;
typedef struct cleave_lane cleave_lane;
typedef struct cleave_vhost cleave_vhost;

/* Copies the sentence about the last failure on a handle, cut to `size` bytes with its final NUL;
 * empty if there was none. Returns its uncut length. */
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
    /* Where the private memory of queues and engines comes from (huge pages, rte_malloc): `size`
     * bytes on a multiple of `alignment`, on NUMA node `node` (-1 = any), or NULL. If it is not
     * set: anonymous memory, in huge pages if there are any. Both or none. */
    void *(*allocate)(void *user, size_t size, size_t alignment, int node);
    void (*release)(void *user, void *memory, size_t size);
} cleave_context_config;
/* `config` may be NULL. */
int cleave_context_create(const cleave_context_config *config, cleave_context **context);
/* -EBUSY while anything that was created from it exists. */
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
    /* Another table of the same guest, live, which may be destroyed afterwards; NULL: of a guest
     * that has no other. Queues over two tables of one guest may share a header queue. */
    cleave_memory *same_guest_as;
} cleave_memory_config;
/* A memory table of one guest. A new table means new queues: stop them, and resume new ones where
 * they were. A header queue stays with the table that it was made over, and goes on serving RQs
 * over the new one. */
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
    void *control;       /* 256 bytes, guest address a multiple of 128: le32 tail at 0 (written by
                            the driver), le32 head at 128 and le32 status at 132 (written here):
                            0, or 1 when the queue is broken */
    void *returns;       /* NULL: slots come back in order, by the tail. Otherwise in any order,
                            by a ring of slot_count entries {le16 slot, le16 lap} (written by
                            the driver), zeroed; guest address a multiple of 64. With group_rings:
                            so many rings, one for each RQ, each of 64 bytes for the device's words
                            and then slot_count / group_size entries {le16 group, le16 lap}, in
                            whole lines of 64 bytes */
    /* Where the device goes on: 0 for slots that nobody has claimed, else what
     * cleave_header_queue_get_base told of the queue that served them before. Slots before it are
     * the driver's, as if this queue had claimed them; the driver notices nothing. A base that is
     * not where the other queue stopped breaks the queue at the first claim, if it is ahead of the
     * tail or more than slot_count before it. With group_rings it is 1 to go on: the rings' own
     * words say where. */
    uint32_t base;
    uint32_t group_size;  /* with group_rings: slots that come back together, a power of two, at
                             most slot_count; else 0 */
    uint32_t group_rings; /* 0, or return rings: one for each RQ, at most 128. An RQ's slots stay
                             with its worker and its driver; cleave_rq_config.return_ring names
                             the ring */
    uint32_t reserved2;   /* 0 */
} cleave_header_queue_config;
/* Slots that one or many RQs of the same guest draw from, whatever table those are made over. */
int cleave_header_queue_create(
    cleave_memory *memory, const cleave_header_queue_config *config, cleave_header_queue **queue);
/* -EBUSY while an RQ is linked to it. */
int cleave_header_queue_destroy(cleave_header_queue *queue);
typedef struct cleave_header_queue_status {
    uint32_t struct_size;
    uint32_t broken;     /* not 0: the driver's tail, or a slot it returned, is impossible; packets
                            go whole until a reset. RQs tell it by CLEAVE_EVENT_HEADER_QUEUE_BROKEN,
                            the log once, and the driver reads it in the control words */
    uint64_t claimed;    /* slots claimed since creation, by all RQs together */
    uint64_t free;       /* slots that may be claimed now, slot_count at most */
    uint64_t duplicates; /* slots or groups that were returned although the driver did not have
                            them, or had them of another RQ: skipped */
} cleave_header_queue_status;
int cleave_header_queue_get_status(cleave_header_queue *queue, cleave_header_queue_status *status);
/* Where another queue over the same slots resumes, such as that of the back end after this one;
 * with group_rings it is also written in the rings' words.
 * -EBUSY while an RQ that may claim is linked to it: stop the RQs, and destroy the engines. */
int cleave_header_queue_get_base(cleave_header_queue *queue, uint32_t *base);
/* Resets it, broken or not, while RQs stay: no slot is free, packets go whole, none is lost.
 * Running engines go on: their threads are held between two polls.
 *   before  the driver stops giving slots back; it zeroes its return ring, or leaves its tail
 *   after   it harvests what was reported before, gives none of those slots back one by one, and
 *           then gives all: tail + slot_count, or the return ring from entry 0, lap 0 on
 * Meanwhile calls on RQs, engines and lanes that use the queue, and creating more, get -EBUSY. So
 * does this one, and nothing has happened, if such a call does not end in a moment. */
int cleave_header_queue_reset(cleave_header_queue *queue);

/* ---- Receive queue (RQ): a virtqueue whose buffers the device fills ------------------------- */
/* Where headers go. A, B and C report a split in 8 bytes after the net header: le32 0, le16 bytes
 * of headers, le16 1 (all 0 if the packet is whole). */
enum cleave_method {
    CLEAVE_METHOD_WHOLE = 0, /* nowhere: headers and payload together */
    CLEAVE_METHOD_A = 1,     /* first descriptor of a chain, payload from the second on */
    CLEAVE_METHOD_B = 2,     /* a buffer of their own in front of the payload's; MRG_RXBUF */
    CLEAVE_METHOD_C = 3,     /* as B, small and large buffers alternately; MRG_RXBUF */
    CLEAVE_METHOD_D = 4      /* a slot of the header queue */
};

/* How method D tells the driver which slot it was. Linux drivers can use either. */
enum cleave_report {
    CLEAVE_REPORT_USED_ELEMENT = 0, /* refused since 0.4, and never another report: method D needs
                                       one of those below. USED_LENGTH took its place */
    CLEAVE_REPORT_NET_HEADER = 1,   /* 8 bytes after the net header in the data buffer */
    CLEAVE_REPORT_USED_LENGTH = 2   /* the used entry's length names it: bit 31 set, bits 30 to 16
                                       the slot, bits 15 to 0 bytes of this buffer; the net header
                                       lies in the slot too */
};

/* Bits of virtio's feature word, as far as they concern queues (virtio 1.4; net device 5.1.3,
 * reserved feature bits 6). How a queue treats a bit that its driver negotiated:
 *   needed    VERSION_1
 *   obeyed    those below. As virtio says, some bits need others: an RQ with GUEST_TSO*, UFO or
 *             USO needs GUEST_CSUM, one with GUEST_ECN a GUEST_TSO, or it is -EINVAL. A
 *             packet may come with what GUEST_* bits allow, and is dropped if its bit is not there;
 *             a TXQ hands out what CSUM and HOST_* bits allow
 *   refused   with -ENOTSUP: VHOST_F_LOG_ALL (26), since writes are not logged; ACCESS_PLATFORM
 *             unless the queue's flags have IOVA_IS_GUEST_PHYSICAL; every bit that is neither
 *             obeyed nor ignored: it may change what lies in rings and headers
 *   ignored   they concern the control plane or steering: CTRL_GUEST_OFFLOADS (2), MTU (3),
 *             MAC (5), 16 to 23, NOTIFY_ON_EMPTY (24), ANY_LAYOUT (27),
 *             VHOST_USER_F_PROTOCOL_FEATURES (30), 36 to 41, 43, 50 to 53, 59 to 63 */
#define CLEAVE_F_CSUM (1ull << 0)
#define CLEAVE_F_GUEST_CSUM (1ull << 1)
#define CLEAVE_F_GUEST_TSO4 (1ull << 7)
#define CLEAVE_F_GUEST_TSO6 (1ull << 8)
#define CLEAVE_F_GUEST_ECN (1ull << 9)
#define CLEAVE_F_GUEST_UFO (1ull << 10)
#define CLEAVE_F_HOST_TSO4 (1ull << 11)
#define CLEAVE_F_HOST_TSO6 (1ull << 12)
#define CLEAVE_F_HOST_ECN (1ull << 13)
#define CLEAVE_F_HOST_UFO (1ull << 14)
#define CLEAVE_F_MRG_RXBUF (1ull << 15)
#define CLEAVE_F_INDIRECT_DESC (1ull << 28)
#define CLEAVE_F_EVENT_IDX (1ull << 29)
#define CLEAVE_F_VERSION_1 (1ull << 32)
#define CLEAVE_F_ACCESS_PLATFORM (1ull << 33)
#define CLEAVE_F_RING_PACKED (1ull << 34)
#define CLEAVE_F_IN_ORDER (1ull << 35)
#define CLEAVE_F_GUEST_USO4 (1ull << 54)
#define CLEAVE_F_GUEST_USO6 (1ull << 55)
#define CLEAVE_F_HOST_USO (1ull << 56)
#define CLEAVE_F_HASH_REPORT (1ull << 57)

enum cleave_rq_flags {
    CLEAVE_RQ_CALL_FD = 1 << 0, /* call_fd is valid: the driver is called through it */
    CLEAVE_RQ_NODE = 1 << 1,    /* node is valid: private memory lies there */
    CLEAVE_RQ_DROP = 1 << 2,    /* too few buffers: drop packets, do not leave them to the caller */
    CLEAVE_RQ_TINY = 1 << 3,    /* method D: packets that fit a slot go there entirely */
    CLEAVE_RQ_ZERO_PAD = 1 << 4, /* method D: zero a slot's last line after the headers */
    /* ACCESS_PLATFORM was negotiated, but descriptors hold guest physical addresses of the memory
     * table all the same (no IOMMU, or one that maps each address to itself). */
    CLEAVE_RQ_IOVA_IS_GUEST_PHYSICAL = 1 << 5
};
typedef struct cleave_rq_config {
    uint32_t struct_size;
    uint32_t flags; /* cleave_rq_flags */
    uint64_t features; /* as negotiated: see CLEAVE_F_VERSION_1 */
    uint32_t size;   /* entries: a power of two if the ring is split, at most 32768 */
    uint32_t burst;  /* most packets published at once, 1 to 256; 0 = 32 */
    uint32_t method; /* cleave_method */
    uint32_t report; /* cleave_report; 0 for methods other than D */
    /* Host addresses inside a region, aligned as virtio demands. */
    void *descriptor_area; /* descriptor table, or packed descriptor ring */
    void *driver_area;     /* available ring, or driver event suppression */
    void *device_area;     /* used ring, or device event suppression */
    /* Where the device goes on. Split: indices, 0 and 0 at first. Packed: offset in the lower 15
     * bits, wrap counter above, 0x8000 at first. A queue is resumed without buffers in flight, so
     * the two are equal (as rte_vhost_get_vring_base and GET_VRING_BASE tell them). With EVENT_IDX
     * the first buffers that are given back after create call the driver, wherever it sleeps: the
     * device that served the virtqueue before may have stopped before it called. The driver of a
     * packed ring that has switched calls off is not called. */
    uint16_t last_avail;
    uint16_t last_used;
    uint32_t split_threshold; /* packets of at most so many bytes stay whole; 0 = none, and for
                                 method WHOLE */
    /* Calls the driver if flags has CLEAVE_RQ_CALL_FD; ignored otherwise. As the front end gave it:
     * an eventfd, the writing end of a pipe, or a stream socket; anything else is refused. It is
     * duplicated, so the caller may close it; an eventfd or a pipe is made non-blocking, which all
     * its holders see. Calls then raise no SIGPIPE, and do not block as long as it stays so. */
    int32_t call_fd;
    /* NUMA node of private memory if flags has CLEAVE_RQ_NODE; ignored otherwise: any node. */
    int32_t node;
    cleave_header_queue *header_queue; /* method D needs one, of the same guest; else NULL */
    uint32_t header_buffer_size; /* method C: up to so many bytes a buffer is small, 64 to 1048576;
                                    0 = 128, and for the other methods */
    uint32_t return_ring;        /* this RQ's, of a header queue with group_rings: below that, and
                                    no other RQ's as long as this one is not stopped; else 0 */
    uint64_t features_high;      /* virtio's bits from 64 up; none is served: 0 */
} cleave_rq_config;
/* Attaches to a virtqueue. Kicks are switched off: the caller polls by enqueueing. Settings that
 * the method would ignore are refused: a header queue, a report, TINY or ZERO_PAD without method D,
 * a header_buffer_size without C, a split_threshold with WHOLE. */
int cleave_rq_create(cleave_memory *memory, const cleave_rq_config *config, cleave_rq **rq);

/* A further piece of a packet. */
typedef struct cleave_segment {
    const void *data;
    uint32_t length;
    uint32_t reserved; /* ignored */
} cleave_segment;

#define CLEAVE_MAX_SEGMENTS 64      /* of one packet, the first one included */
#define CLEAVE_MAX_PACKET_BYTES 65589

/* The other bits are the library's own: 0. */
enum cleave_packet_flags {
    CLEAVE_PACKET_DROPPED = 1 << 1 /* out: done with, but not delivered; the counters say why */
};

/* Fields of the virtio-net header (virtio 1.4, 5.1.6). */
enum cleave_net_flags {
    CLEAVE_NET_NEEDS_CSUM = 1, /* the checksum from csum_start on goes to csum_offset after it */
    CLEAVE_NET_DATA_VALID = 2  /* the checksum was checked; to the driver only */
};
enum cleave_gso_type {
    CLEAVE_GSO_NONE = 0,
    CLEAVE_GSO_TCPV4 = 1,
    CLEAVE_GSO_UDP = 3,
    CLEAVE_GSO_TCPV6 = 4,
    CLEAVE_GSO_UDP_L4 = 5,
    CLEAVE_GSO_ECN = 0x80 /* with one of TCP */
};

/* One Ethernet frame, from its first byte, in memory of the caller's that is only read. */
typedef struct cleave_packet {
    const void *data;    /* first segment */
    uint32_t length;     /* its bytes; the first segment holds at least one */
    uint16_t flags;      /* set it to 0; on return 0 or cleave_packet_flags */
    uint16_t cookie;     /* the caller's own; comes back in completions */
    /* Fields of the virtio-net header. Without GUEST_CSUM a packet that needs its checksum is
     * dropped, as is one to be segmented without the bit for that; DATA_VALID, or a hash without
     * HASH_REPORT, is left out. */
    uint8_t net_flags;   /* cleave_net_flags */
    uint8_t gso_type;    /* cleave_gso_type */
    uint16_t gso_size;
    uint16_t csum_start;
    uint16_t csum_offset;
    uint32_t hash_value;
    uint16_t hash_report; /* what was hashed, numbers as in virtio, 0 = nothing */
    uint16_t more_count;  /* further segments, below CLEAVE_MAX_SEGMENTS; offloads count as one */
    const cleave_segment *more;
} cleave_packet;

enum cleave_events {
    CLEAVE_EVENT_CALL = 1 << 0,   /* the driver asked to be called, and there is no call_fd */
    CLEAVE_EVENT_BROKEN = 1 << 1, /* the driver broke the queue: signal its error descriptor */
    /* With CLEAVE_EVENT_BROKEN: it broke the header queue alone. Packets go whole until
     * cleave_header_queue_reset; each burst of which one had to tells it. */
    CLEAVE_EVENT_HEADER_QUEUE_BROKEN = 1 << 2,
    CLEAVE_EVENT_CALL_LOST = 1 << 3 /* it asked to be called, but call_fd has no other end */
};

/* Places packets, in order, and makes them visible to the driver. Returns how many are done with:
 * delivered, or dropped and marked CLEAVE_PACKET_DROPPED. The rest is still the caller's: too few
 * buffers are posted, or the next packet is malformed (data NULL, too many segments); a malformed
 * packet that comes first is an error. A broken queue takes every packet, and drops it. The
 * packets' memory is free again at return.
 * `events`: cleave_events, set whatever the result; NULL if they are not wanted. */
int cleave_rq_enqueue_burst(
    cleave_rq *rq, cleave_packet *packets, uint32_t count, uint32_t *events);

/* A packet in one segment without offloads, in the fewest bytes. */
typedef struct cleave_ref {
    const void *data;
    uint32_t length;
    uint16_t flags; /* set it to 0; on return 0 or cleave_packet_flags */
    uint16_t cookie;
} cleave_ref;
/* cleave_rq_enqueue_burst for such packets, which are used in place: nothing is converted.
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
    uint64_t busy_cycles;   /* an engine's thread, in polls that did something; else 0 */
    uint64_t idle_cycles;   /* and in polls that did not */
    uint64_t lost_calls;    /* of `calls`: call_fd had no other end */
    uint64_t empty_descriptors; /* of length 0, passed over in buffers with room elsewhere */
} cleave_counters;
/* Fills the first struct_size bytes, as many as are known; struct_size is set to how many. */
int cleave_rq_get_counters(cleave_rq *rq, cleave_counters *counters);

/* The name of entry `index` of the arrays, of a fault; NULL if there is none. Constant. */
const char *cleave_fallback_name(uint32_t index);
const char *cleave_drop_name(uint32_t index);
const char *cleave_fault_name(uint32_t fault);

/* ---- Transmit queue (TXQ): a virtqueue whose buffers the device reads ----------------------- */
enum cleave_txq_flags {
    CLEAVE_TXQ_CALL_FD = 1 << 0, /* call_fd is valid: the driver is called through it */
    CLEAVE_TXQ_NODE = 1 << 1,    /* node is valid: private memory lies there */
    CLEAVE_TXQ_IOVA_IS_GUEST_PHYSICAL = 1 << 2 /* as CLEAVE_RQ_IOVA_IS_GUEST_PHYSICAL */
};
typedef struct cleave_txq_config {
    uint32_t struct_size;
    uint32_t flags; /* cleave_txq_flags */
    uint64_t features; /* as in cleave_rq_config */
    uint32_t size;
    uint32_t reserved; /* 0 */
    void *descriptor_area;
    void *driver_area;
    void *device_area;
    uint16_t last_avail;
    uint16_t last_used;
    int32_t call_fd; /* if flags has CLEAVE_TXQ_CALL_FD, as in cleave_rq_config */
    int32_t node;    /* if flags has CLEAVE_TXQ_NODE, as in cleave_rq_config */
    uint32_t reserved2;     /* 0 */
    uint64_t features_high; /* 0 */
} cleave_txq_config;
int cleave_txq_create(cleave_memory *memory, const cleave_txq_config *config, cleave_txq **txq);

/* Takes up to `count` packets that the driver has posted, in order, without the virtio-net header
 * in front of them; the offload members hold what it asked for, checked: checksums lie inside the
 * packet, sizes are not 0, kinds were negotiated. Packets that fail are dropped and counted.
 * Nothing is copied: `data` and `more` point into guest memory, which the guest may change at any
 * time (so copy first what you decide by), and stay valid until the packet is completed.
 * Returns how many there were; `events` as in cleave_rq_enqueue_burst. A queue keeps max(1024,
 * 2 * size) further pieces of packets that are out, those of one packet in a row, net header
 * included (13 packets of 64 pieces in a ring of up to 512 entries): a packet for which that is too
 * little stays in the ring until others are completed. */
int cleave_txq_dequeue_burst(
    cleave_txq *txq, cleave_packet *packets, uint32_t count, uint32_t *events);
/* Gives the `count` oldest packets that are out back to the driver. */
int cleave_txq_complete(cleave_txq *txq, uint32_t count, uint32_t *events);
/* Asks the driver to kick when it posts packets (`enabled` not 0), or not to, as at first: around a
 * sleep of the thread that dequeues. Dequeue once more before the sleep: what was posted before
 * the driver saw it is not kicked for. Switching kicks off clears the kick_fd of a queue of a
 * cleave_vhost. */
int cleave_txq_set_kicks(cleave_txq *txq, int enabled);
/* Ends the use of the virtqueue, for good; -EBUSY while packets are out. */
int cleave_txq_stop(cleave_txq *txq, uint16_t *base);
/* -EBUSY while packets are out: their pieces end with the queue. */
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
    uint64_t lost_calls;  /* of `calls`: call_fd had no other end */
} cleave_txq_counters;
int cleave_txq_get_counters(cleave_txq *txq, cleave_txq_counters *counters);
const char *cleave_txq_drop_name(uint32_t index);

/* ---- Engine: threads of its own ------------------------------------------------------------- */
#define CLEAVE_MAX_ENGINE_QUEUES 128 /* those of as many queue pairs */
typedef struct cleave_engine_config {
    uint32_t struct_size;
    uint32_t queue_count;           /* 1 to CLEAVE_MAX_ENGINE_QUEUES */
    const cleave_rq_config *queues; /* all with the same struct_size */
    /* queue_count CPUs to pin the queues' threads to, memory on their nodes; or NULL: not pinned.
     * Each queue's own `node` is ignored, and without a call_fd its driver is not called. */
    const int32_t *cpus;
    uint32_t ring_capacity; /* segments in a submission ring, a power of two from 64 to 1048576;
                               0 = 1024 */
    uint32_t reserved;      /* 0 */
} cleave_engine_config;
/* RQs, each with a submission ring and a completion ring, and once started with a thread. */
int cleave_engine_create(
    cleave_memory *memory, const cleave_engine_config *config, cleave_engine **engine);
/* -EBUSY while it runs, or while a call turns one of its RQs (cleave_lane_turn). */
int cleave_engine_start(cleave_engine *engine);
/* Waits until every submitted packet was placed; another thread goes on reaping meanwhile.
 * -ETIMEDOUT: after `milliseconds` some were left. */
int cleave_engine_drain(cleave_engine *engine, uint32_t milliseconds);
/* Ends the threads after their current poll; may be started again. Idempotent. */
int cleave_engine_stop(cleave_engine *engine);
/* Stops, and ends the engine and its lanes. -EBUSY, and nothing has happened, while a call on one
 * of them is under way. */
int cleave_engine_destroy(cleave_engine *engine);

/* The submitting side of RQ number `index`. Belongs to the engine and ends with it. */
int cleave_engine_get_lane(cleave_engine *engine, uint32_t index, cleave_lane **lane);
/* Submits packets; their memory is the engine's until their completion was reaped. Returns how
 * many were taken: the rest found the ring full, or the next one is malformed; a malformed packet
 * that comes first is an error. */
int cleave_lane_submit(cleave_lane *lane, const cleave_packet *packets, uint32_t count);
typedef struct cleave_completion {
    uint16_t cookie; /* of the packet */
    uint16_t flags;  /* cleave_packet_flags */
} cleave_completion;
/* Takes completions, one per packet, in the order of submission. Returns how many. Tells the log if
 * the driver broke the virtqueue or the header queue since. */
int cleave_lane_reap(cleave_lane *lane, cleave_completion *completions, uint32_t count);
/* One poll of the RQ on the caller's thread, while the engine is not started (else -EBUSY).
 * Returns how many segments were done with. */
int cleave_lane_turn(cleave_lane *lane);
int cleave_lane_get_counters(cleave_lane *lane, cleave_counters *counters);
/* Where a stopped engine's virtqueue can be resumed; -EBUSY while it runs. */
int cleave_lane_get_base(cleave_lane *lane, uint16_t *base);

/* ---- vhost-user: a control plane, for programs that have none -------------------------------- */
/* A network device at a unix socket, for one guest at a time. It maps the guest's memory, and makes
 * and ends the queues by itself; the program moves the packets, and is told of queues by events. */
enum cleave_vhost_flags {
    CLEAVE_VHOST_CLIENT = 1 << 0,    /* connects to path, again and again; 0: listens there */
    CLEAVE_VHOST_SOCKET_FD = 1 << 1, /* socket_fd is valid, and path NULL: one connection */
    CLEAVE_VHOST_MAC = 1 << 2,       /* mac is valid, and offered to the driver */
    CLEAVE_VHOST_NODE = 1 << 3,      /* node is valid: private memory of queues lies there */
    CLEAVE_VHOST_DROP = 1 << 4       /* RQs with too few buffers: as CLEAVE_RQ_DROP */
};

/* Later versions may tell of more: pass over what you do not know. */
enum cleave_vhost_event_kind {
    CLEAVE_VHOST_CONNECTED = 1,    /* a front end has come */
    CLEAVE_VHOST_DISCONNECTED = 2, /* it has gone, and every queue with it */
    /* Before the first queue event of a cleave_vhost_poll (or destroy), and after the last: no
     * other thread may be in a call on a queue of this device, or begin one, between the return
     * from the one and the other. */
    CLEAVE_VHOST_HOLD = 3,
    CLEAVE_VHOST_RELEASE = 4,
    /* rq or txq, of pair `pair`, may be used from RELEASE on. It belongs to the device, so it is
     * not destroyed by the program; only whole packets, no header queue. */
    CLEAVE_VHOST_QUEUE_STARTED = 5,
    /* It is stopped as soon as this callback returns, and its handle is stale then. Give back what
     * is out of a txq (cleave_txq_complete). The library gives back the rest itself: such a queue
     * is left, stopped, and its memory mapped, until cleave_txq_destroy. */
    CLEAVE_VHOST_QUEUE_STOPPING = 6,
    /* `value`: the driver uses so many pairs from now on, the first ones. All of them at first, but
     * 1 where the driver has a control queue here. The driver is answered after this callback:
     * place no packet in a pair above them once it has returned. */
    CLEAVE_VHOST_PAIRS = 7,
    CLEAVE_VHOST_MTU = 8,     /* `value`: the front end set the MTU; nothing enforces it */
    CLEAVE_VHOST_ANNOUNCE = 9 /* the guest has moved here: tell the network where `mac` is */
};
typedef struct cleave_vhost_event {
    uint32_t struct_size; /* that of the library's structure */
    uint32_t kind;        /* cleave_vhost_event_kind */
    /* Of queue events; otherwise 0, -1 and NULL. */
    uint32_t pair;
    int32_t kick_fd; /* of a txq: readable once the driver has kicked (cleave_txq_set_kicks); -1: it
                        never kicks. The library's, until QUEUE_STOPPING has returned */
    cleave_rq *rq;   /* the guest receives there */
    cleave_txq *txq; /* the guest transmits there; NULL where rq is not, and the reverse */
    uint64_t features; /* negotiated; 0 before */
    uint32_t value;
    uint8_t mac[6];
    uint8_t reserved[6];
} cleave_vhost_event;

typedef struct cleave_vhost_config {
    uint32_t struct_size;
    uint32_t flags;       /* cleave_vhost_flags */
    const char *path;     /* of the socket, 1 to 107 bytes; copied */
    int32_t socket_fd;    /* a connected unix stream socket: the library's once this succeeds */
    uint32_t queue_pairs; /* 1 to 128; 0 = 1 */
    /* Offered are the bits that the library serves: VERSION_1, RING_PACKED, IN_ORDER, RING_RESET,
     * INDIRECT_DESC, EVENT_IDX, MRG_RXBUF and STATUS; MTU and MAC if they are set here; MQ and
     * CTRL_VQ with several pairs (up to 127 for CTRL_VQ, whose queue the library serves). */
    uint64_t features_off; /* which of them are not */
    uint64_t offloads;     /* offered, too: those of CSUM, GUEST_* and HOST_* that the program
                              serves, setting or obeying the offload members of packets; 0: none */
    uint32_t mtu;          /* told to the driver, 68 to 65535; 0: nothing is said */
    uint32_t burst;        /* of RQs, as in cleave_rq_config */
    int32_t node;          /* if flags has CLEAVE_VHOST_NODE */
    uint8_t mac[6];
    uint8_t reserved[6]; /* 0 */
    void *user;          /* passed to the callback */
    void (*event)(void *user, const cleave_vhost_event *event); /* in poll and destroy */
} cleave_vhost_config;
/* Listens, or begins to connect. A file at `path` that is the socket of nobody any more is
 * replaced; destroy removes it.
 * Guest memory is mapped when the front end shares it, and with the first region the process gets a
 * handler of SIGBUS, once: a guest that cuts its memory short loses its connection, and nobody
 * else anything. The handler passes on what is not its own; one that is installed later must pass
 * on, too. */
int cleave_vhost_create(
    cleave_context *context, const cleave_vhost_config *config, cleave_vhost **vhost);
/* The descriptor to wait at, by poll or in an epoll: readable when cleave_vhost_poll has something
 * to do. The same from create to destroy; the library's. */
int cleave_vhost_get_fd(cleave_vhost *vhost);
/* Does what there is to do, a bounded amount, and waits for nothing but its callbacks: accepts or
 * connects, answers the front end, and tells events meanwhile. Call it when the descriptor is
 * readable, or as often as you like. Returns 1 while a front end is connected, else 0; -ESHUTDOWN
 * once the connection of a socket_fd is over. */
int cleave_vhost_poll(cleave_vhost *vhost);
/* Ends the connection, with its events, and the device. -EBUSY: a queue is left (see
 * CLEAVE_VHOST_QUEUE_STOPPING), and everything else has ended; or a poll is under way, and nothing
 * has happened. */
int cleave_vhost_destroy(cleave_vhost *vhost);
typedef struct cleave_vhost_status {
    uint32_t struct_size;
    uint32_t connected;   /* not 0: a front end is */
    uint64_t features;    /* negotiated; 0 before */
    uint32_t queues;      /* RQs and TXQs that are started */
    uint32_t pairs;       /* that the driver uses */
    uint64_t connects;    /* front ends that came, since create */
    uint64_t disconnects; /* and went */
    uint64_t refused_connections; /* others that came while one was there */
    uint64_t messages;            /* of front ends */
    uint64_t refused_messages;    /* for whatever reason: cleave_vhost_describe has them */
    uint64_t broken_queues;       /* that the driver broke, or that could not be made */
} cleave_vhost_status;
int cleave_vhost_get_status(cleave_vhost *vhost, cleave_vhost_status *status);
/* Copies one line for people, cut to `size` bytes with its final NUL: what was negotiated, and
 * counts of what happened, each refusal by its reason. Returns its uncut length. */
int cleave_vhost_describe(cleave_vhost *vhost, char *text, size_t size);

/* ---- Names up to minor version 3, for the same functions ------------------------------------ */
int cleave_rq_counters(cleave_rq *rq, cleave_counters *counters);
int cleave_engine_lane(cleave_engine *engine, uint32_t index, cleave_lane **lane);
int cleave_lane_counters(cleave_lane *lane, cleave_counters *counters);
int cleave_lane_base(cleave_lane *lane, uint16_t *base);

#ifdef __cplusplus
}
#endif

#endif

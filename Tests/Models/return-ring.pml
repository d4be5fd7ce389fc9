/*
 * The return ring as a protocol: slots that come back by index, in any order. RQs, orders, resets,
 * and how weak memory is told, are those of header-queue.pml. Here stands claim, with its owned
 * flags; in return-refill.pml how ring entries come into the free list, in return-driver.pml how a
 * driver retires.
 *
 * Modelled exactly: the order of shared accesses, the look before the lock, the way round a lock
 * that is taken, the bounds on tries and on a refill, entries of another lap or of none, owned
 * flags. Places count modulo LAPS * SLOTS: an entry is of its place's lap, of the one before, or
 * none, and two laps tell these. `ready` is shown after each entry where the code does so after 32.
 * With HOSTILE an entry is any, whenever it is read. Not modelled: the copy of `taken` in guest
 * memory, which nobody reads, and the counters. To keep the states few, what has no meaning any
 * more is zeroed: places of the free list that were claimed, the slots of entries that were taken
 * in.
 *
 * Memory, beside what header-queue.pml says of slots and orders:
 *   - a worker's view of `ready` may lag, as that of the tail does there; [H2], [H5] and [E2] bring
 *     it up, and what it read in earlier polls counts for nothing;
 *   - its look may be at an older `taken`, until it has the lock [H5];
 *   - an entry of the free list is under way until a release of `ready` [H4] completes it;
 *   - the writes to a slot are over for who finds its owned flag cleared [H6], and for whom the
 *     report reaches [V2]; the reads of it, for who finds its entry [H1];
 *   - the zeroes of a reset are under way until the RQs are held: an entry may be read as it was;
 *   - with PLACES, what a consumer knows of `taken`, by the slots it harvested and by those who
 *     took places before it [H7]: it must know that the entry it writes over was taken in.
 *
 * Other seeded bugs, of the device:
 *   NO_LOCK         refill goes on although another worker holds the lock
 *   NO_OWNED        it does not look whether the slot is owned
 *   NO_LAP          it takes an entry of any lap
 *   READ_AFTER      a claim reads the free list when it has moved the head
 *   REPORT_LATE     the owned flags are cleared when the used entries have been published
 *   WAIT_BUSY       who finds the lock taken looks again without counting its tries
 *   CLAIM_UNBOUNDED a claim takes what is wanted, however few are in the free list
 *   RESET_OWNED     a reset leaves the owned flags; RESET_TAKEN: and `taken`
 * and of the driver:
 *   NO_LAP_BIT      zeroes are an entry of lap 0
 *   RESET_KEEPS     it does not zero the ring before a reset
 *   RESET_PLACES    it goes on with the places as they were
 *   RESET_RETIRES, RESET_GIVES   as in header-queue.pml
 * With SLOW the driver of RQ 1 harvests nothing, and `turned` is a burst of RQ 0 that split.
 */
#ifndef SLOTS
#define SLOTS 2
#endif
#ifndef BURST
#define BURST 1
#endif
#define FORGETS
#include "rqs.pml"

/* Ring entries that one refill looks at. */
#ifndef INTAKE
#define INTAKE SLOTS
#endif
#define WORKER_LOCALS   start, free, count, wanted, tries, each, list, refill, position, fresh, \
                        left, found
#define CONSUMER_LOCALS first, left, each, place

/* Up to two slots of a burst, in one byte; NONE stands for no slot. */
#define NONE SLOTS
/* HeaderClaimer.Refill */
#define isWanted 0
#define isDone   1
#define isBusy   2
#define NAMED(burst, index) (((burst) / (1 + (index) * SLOTS)) % (SLOTS + 1))

/* An entry: a slot, and the lap of its place; 0 is none. */
#ifdef NO_LAP_BIT
#define LAP_BIT 0
#else
#define LAP_BIT 1
#endif
#define LAP(place) ((place) / SLOTS)
#define ENTRY(slot, place) (LAP_BIT + (slot) + SLOTS * LAP(place))
#ifdef NO_LAP
#define HOLDS(entry, place) ((entry) >= LAP_BIT)
#else
#define HOLDS(entry, place) ((entry) >= LAP_BIT && LAP((entry) - LAP_BIT) == LAP(place))
#endif

/*
 * Who a slot belongs to. `isReturned`: it stands in the ring. `waits`: the driver's, which has done
 * with it and does not return it, since the header queue is being reset; it counts as reported.
 */
mtype = { isReturned, isStocked, isClaimed, isReported, waits };
mtype owner[SLOTS] = isReturned;

/* Guest memory. */
byte ring[SLOTS];
/* The device's own words, beside head. */
byte freeList[SLOTS], ready, taken;
bool owned[SLOTS], lock;
/* The driver's: places given out. */
byte tickets = SLOTS % CURSORS;

/* Memory. */
bool listing[SLOTS], zeroes;

/* There are one or two slots. */
#define COUNT(state) ((owner[0] == state) + (SLOTS == 2 && owner[SLOTS - 1] == state))

/* free + claimed + reported = slotCount, of which list and claims are what the words say. */
inline countSlots() {
#ifndef READ_AFTER
    assert(COUNT(isStocked) == DISTANCE(head, ready));
    assert(COUNT(isClaimed) == claimed[0] + claimed[1]);
#endif
#ifndef HOSTILE
    assert(COUNT(isReturned) + COUNT(isStocked) + COUNT(isClaimed) + reported == SLOTS)
#endif
}

/* Every slot that was returned stands where refill will find it. */
inline checkRing() {
    assert(COUNT(isReturned) == DISTANCE(taken, tickets));
    EACH(each, DISTANCE(taken, tickets),
        assert(HOLDS(ring[SLOT(taken + each)], FORWARD(taken, each))));
    countSlots()
}

/* So it is whenever nobody is at it. */
inline checkRest() {
#ifdef HOSTILE
    countSlots()
#else
    if
    :: !lock && retiring == 0 && !stops -> checkRing()
    :: else
    fi
#endif
}

#ifdef PLACES
/* How many places ago the last was taken in that is known: to the harvester of a slot, to a
 * consumer, to whoever takes places next. More than SLOTS is long ago. */
byte slotAge[SLOTS] = SLOTS, age[2] = SLOTS, ticketAge = SLOTS;
#define OLDER(age, count) ((age) + (count) > SLOTS + 1 -> SLOTS + 1 : (age) + (count))
#define NEWER(one, other) ((one) < (other) -> (one) : (other))
#endif

/* HeaderClaimer.stockCount [H4 acquire]: `free`, by this worker's view of ready. */
inline readReady() {
    do
    :: lag[rq] > 0 -> lag[rq]--
    :: break
    od;
    free = DISTANCE(start, (ready + CURSORS - lag[rq]) % CURSORS)
}

#include "return-refill.pml"

/* HeaderClaimer.readStock: what is not there yet is any. */
inline readFreeList() {
    EACH(each, count,
        list = list + (listing[SLOT(start + each)] -> NONE : freeList[SLOT(start + each)]) *
            (1 + each * SLOTS))
}

/* What became of a slot when it was claimed; its bytes may begin to be written at once. */
inline own(slot) {
    assert(slot < SLOTS);
    assert(owner[slot] == isStocked);
    owner[slot] = isClaimed;
    assert(!reading[slot]);
    assert(!writing[slot]);
    writing[slot] = true;
    claimed[rq]++
}

inline ownAll() {
    EACH(each, count, own(NAMED(list, each)));
    countSlots()
}

/* Its compare-and-swap succeeds [H2 both ways]. */
inline moveHead() {
    head = FORWARD(start, count);
    moved[1 - rq] = turning[1 - rq];
#ifndef RELAX_H2
    headLag = lag[rq];
#endif
    assert(count >= 1 && count <= wanted);
#ifndef READ_AFTER
    EACH(each, count, freeList[SLOT(start + each)] = 0);
    ownAll();
    start = 0
#endif
}

/* HeaderClaimer.report [H6 release] */
inline clearMarks() {
    EACH(each, count, owned[NAMED(list, each)] = false);
#ifdef HOSTILE
    EACH(each, count, owner[NAMED(list, each)] = isReported);
    claimed[rq] = claimed[rq] - count;
#endif
    countSlots()
}

/* The bytes of a slot that is not the device's again. */
inline written(slot) {
    if
    :: owner[slot] == isReported -> writing[slot] = false
    :: else
    fi
}

/* RxBurst.place publishes [V2 release] */
inline publish() {
    buffers[rq]--;
#ifdef HOSTILE
    used[rq]!0,0;
#else
    used[rq]!list,count;
    EACH(each, count, assert(owner[NAMED(list, each)] == isClaimed));
    EACH(each, count, owner[NAMED(list, each)] = isReported);
    claimed[rq] = claimed[rq] - count;
    reported = reported + count;
#endif
#ifndef RELAX_V2
    EACH(each, count, written(NAMED(list, each)));
#endif
#if defined(SLOW) && defined(PROGRESS)
    turned = (rq == 0 -> !turned : turned);
#endif
    countSlots()
}

#ifdef REPORT_LATE
#define afterClaim publish
#define report()   clearMarks(); list = 0
#else
#define afterClaim clearMarks
#define report()   publish(); list = 0
#endif

/* BurstPlan.claim: HeaderClaimer.claim(_:into:), and the slots are written. */
inline claim() {
    atomic {
        if
        :: broken || wanted == 0
        :: else -> readHead(); tries = TRIES; refill = isWanted
        fi
    }
again:
    do
    :: atomic {
        tries > 0 ->
            readReady();
            if
            :: refill == isWanted && free < (wanted < SLOTS / 2 -> SLOTS / 2 : wanted)
            :: else -> goto listed
            fi
        }
        refillFreeList();
        atomic {
            readReady();
listed:
            if
            :: refill == isBusy && free < wanted ->
                refill = isWanted;
#ifndef WAIT_BUSY
                tries--;
#endif
                if
                :: tries > 0 -> goto again
                :: else
                fi
            :: else
            fi;
#ifdef CLAIM_UNBOUNDED
            count = wanted;
#else
            count = (free < wanted -> free : wanted);
            assert(moved[rq] || free <= SLOTS);
#endif
            free = 0;
            if
            :: count == 0 -> refill = 0; break
            :: else
            fi;
#ifndef READ_AFTER
            if
            :: moved[rq]
            :: else -> readFreeList()
            fi
#endif
        }
        atomic {
            if
            :: moved[rq] -> readHead(); tries--; count = 0; list = 0
            :: else -> moveHead(); free = 0; wanted = 0; tries = 0; refill = 0
            fi
        }
    /* The slots have been written. */
    :: atomic {
        tries == 0 && count > 0 ->
#ifdef READ_AFTER
            readFreeList();
            ownAll();
#endif
            afterClaim();
            break
        }
    :: atomic { tries == 0 && count == 0 -> refill = 0; break }
    od
}

/* HeaderQueue.reset */
inline resetDevice() {
    assert(!turning[0] && !turning[1] && !lock);
    assert(claimed[0] + claimed[1] == 0);
    broken = false;
    head = 0;
    ready = 0;
#ifndef RESET_TAKEN
    taken = 0;
#endif
#ifndef RESET_OWNED
    EACH(each, SLOTS, owned[each] = false);
#endif
    /* Relaxed stores: that [E2] hands them on is taken to come with the head. */
#ifdef RELAX_E2
    EACH(each, 2, lag[each] = LAG);
    headLag = LAG;
#else
    headLag = 0;
#endif
    EACH(each, SLOTS, owner[each] = (owner[each] == isReported -> isReported : waits));
    reported = SLOTS;
#ifndef RESET_KEEPS
    /* What the driver zeroed before is so by now. */
    EACH(each, SLOTS, ring[each] = 0);
#endif
    zeroes = false;
    countSlots()
}

#include "return-driver.pml"
#include "polls.pml"

/*
 * The return rings as a protocol: slots that come back by index, in any order. RQs, orders, resets,
 * and how weak memory is told, are those of header-queue.pml. Here stand claim and report; in
 * return-take.pml how groups are taken from a ring, in return-driver.pml how a driver retires.
 *
 * With GROUPS there are so many groups of two slots, and a ring for each RQ, from which the other
 * one takes what it lacks; without, a ring that the RQs share, by which slots come back one by one.
 *
 * Modelled exactly: the order of shared accesses, the way round a lock that is taken, the bounds on
 * tries and on entries that are skipped, entries of another lap or of none, owners, the words of
 * the driver's groups, the position that is reserved before an entry is written. Positions count
 * modulo LAPS * GROUPS: an entry is of its position's lap, of the one before, or none, and two laps
 * tell these. With HOSTILE an entry is any, whenever it is read: so a group may be twice in one
 * ring, and in two. Not modelled: the copy of `taken` in guest memory, which nobody reads, the
 * counters, and which of many rings is looked at first. `rest` stands for `next`: the slots that
 * are left of the group an RQ has begun. They are the RQ's own, so a claim takes each slot when it
 * takes the group, and not when it has all groups. To keep the states few, the groups of entries
 * that were taken are zeroed.
 *
 * Memory, beside what header-queue.pml says of slots and orders:
 *   - a look at a ring before its lock may find an older entry than there is, or none;
 *   - under the lock `taken` and the owners are as the last taker left them [H5], and after a reset
 *     as the control thread did [E2];
 *   - the writes to a slot are over for who finds its group out [H6], and for whom the report
 *     reaches [V2]; the reads of it, for who finds its group's entry [H1], if each thread of the
 *     driver told the one that completed the group's word [H3];
 *   - the zeroes of a reset are under way until the RQs are held: an entry may be read as it was;
 *   - with PLACES (one ring, groups of one slot), what a consumer knows of `taken`, by the slots it
 *     harvested and by those who reserved positions before it [H7]: it must know that the entry it
 *     writes over was taken.
 *
 * Other seeded bugs, of the device:
 *   NO_LOCK         a worker takes although another one holds the ring's lock
 *   TAKEN_LATE      `taken` is stored when the lock is free again
 *   NO_OWNER        it does not look at the owner
 *   OWNER_EARLY     it looks at the owner when it looks at the ring, before it has the lock
 *   PLAIN_NOBODY    a group that nobody has is taken by a plain store
 *   ANY_RING        a group that is out counts, whichever ring it was reported through
 *   NO_LAP          it takes an entry of any lap
 *   OUT_EARLY       a group is out before its slots are written; OUT_LATE: after the report
 *   WAIT_BUSY       who finds its ring's lock taken looks again without counting its tries
 *   NO_STEAL        it takes from its own ring alone
 *   RESET_OWNERS    a reset leaves the owners; RESET_TAKEN: `taken`; RESET_BEGUN: begun groups
 *   RESUME_FORGETS  who resumes does not go on with the groups that were begun
 *   RESUME_OWNERS   it leaves those groups with nobody; RESUME_TWICE: or lets two RQs have one
 * and of the driver:
 *   NO_LAP_BIT      zeroes are an entry of lap 0
 *   WORD_LATE       it resets the word of a group when it has posted it
 *   POST_EARLY      it posts a group before all its slots were retired
 *   RESET_KEEPS     it does not zero the rings before a reset
 *   RESET_PLACES    it goes on with the positions as they were
 *   RESET_RETIRES, RESET_GIVES   as in header-queue.pml
 * With SLOW the driver of RQ 1 harvests nothing, all groups begin in RQ 1's ring, if it has one,
 * and `turned` is a burst of RQ 0 that split.
 */
#ifdef GROUPS
#define RINGS 2
#define GROUP 2
#define SLOTS (GROUP * GROUPS)
#else
#ifndef SLOTS
#define SLOTS 2
#endif
#define RINGS 1
#define GROUP 1
#define GROUPS SLOTS
#endif
#ifndef BURST
#define BURST 1
#endif
#include "rqs.pml"

#define WORKER_LOCALS   count, wanted, tries, each, list, ring, position, found, seen, left
#define CONSUMER_LOCALS first, left, here, each, place

#define POSITIONS (LAPS * GROUPS)
/* The ring of an RQ; how many positions a ring has from one to another; an entry's place. */
#define RING(rq)           (RINGS == 2 -> (rq) : 0)
#define POSTED(from, to)   (((to) + POSITIONS - (from)) % POSITIONS)
#define NEXT(position)     (((position) + 1) % POSITIONS)
#define PLACE(ring, position) ((ring) * GROUPS + (position) % GROUPS)

/* Up to two slots of a burst, in one byte. */
#define NAMED(burst, index) (((burst) / (1 + (index) * SLOTS)) % (SLOTS + 1))

/* An entry: a group, and the lap of its position; 0 is none. */
#define NONE GROUPS
#ifdef NO_LAP_BIT
#define LAP_BIT 0
#else
#define LAP_BIT 1
#endif
#define LAP(position) ((position) / GROUPS)
#define ENTRY(group, position) (LAP_BIT + (group) + GROUPS * LAP(position))
#ifdef NO_LAP
#define HOLDS(entry, position) ((entry) >= LAP_BIT)
#else
#define HOLDS(entry, position) \
    ((entry) >= LAP_BIT && LAP((entry) - LAP_BIT) == LAP(position))
#endif

/*
 * Who a slot belongs to. `isReturned`: it stands in a ring. `isBegun`: it is left of a group that
 * an RQ has. `waits`: the driver's, which has done with it: its group is not complete, or the
 * header queue is being reset; it counts as reported.
 */
mtype = { isReturned, isBegun, isClaimed, isReported, waits };
mtype owner[SLOTS] = isReturned;

/* Guest memory. */
byte entries[RINGS * GROUPS];
/*
 * The device's own words: those of rings and RQs, and ReturnRing.owner of each group: a ring, with
 * OUT or without, or NOBODY.
 */
#define OUT    2
#define NOBODY 4
bool lock[RINGS];
byte taken[RINGS], begun[2], rest[2];
byte owners[GROUPS] = NOBODY;
/* The driver's: positions given out, and the words of groups. */
byte tickets[RINGS], word[GROUPS];

/* Memory. */
bool zeroes;

/* How many slots are somebody's. It is used within one step alone. */
byte number;
inline countOf(state) {
    number = 0;
    EACH(each, SLOTS, number = number + (owner[each] == state))
}

/* free + claimed + reported = slotCount, of which claims and begun groups are what words say. */
inline countSlots() {
    d_step {
        countOf(isClaimed);
        assert(number == claimed[0] + claimed[1]);
        countOf(isBegun);
        assert(number == rest[0] + rest[1]);
#ifndef HOSTILE
        number = number + claimed[0] + claimed[1] + reported;
        EACH(each, SLOTS, number = number + (owner[each] == isReturned));
        assert(number == SLOTS);
#endif
        number = 0
    }
}

/* Every group that was returned stands once where a worker will find it, no other does, and the
 * words of groups say which slots wait. */
inline checkRings() {
    d_step {
        countOf(isReturned);
        assert(number == GROUP * (POSTED(taken[0], tickets[0]) +
            (RINGS == 2 -> POSTED(taken[RINGS - 1], tickets[RINGS - 1]) : 0)));
        checkRing(0);
        checkRing(RINGS - 1);
        EACH(each, SLOTS, assert((owner[each] == waits) ==
            ((word[each / GROUP] >> (each % GROUP)) & 1)));
        number = 0
    }
    countSlots()
}

inline checkRing(which) {
    EACH(each, POSTED(taken[which], tickets[which]),
        number = entries[PLACE(which, taken[which] + each)];
        assert(HOLDS(number, (taken[which] + each) % POSITIONS));
        number = (number - LAP_BIT) % GROUPS;
        assert(owner[number * GROUP] == isReturned && owner[number * GROUP + GROUP - 1] ==
            isReturned))
}
/* So it is whenever nobody is at it. */
inline checkRest() {
#ifdef HOSTILE
    countSlots()
#else
    if
    :: !lock[0] && !lock[RINGS - 1] && retiring == 0 && !stops -> checkRings()
    :: else -> countSlots()
    fi
#endif
}

#ifdef PLACES
/* How many positions ago the last was taken that is known to be: to the harvester of a slot, to a
 * consumer, to whoever reserves positions next. More than SLOTS is long ago. */
byte slotAge[SLOTS] = SLOTS, age[2] = SLOTS, ticketAge = SLOTS;
#define OLDER(age, count) ((age) + (count) > SLOTS + 1 -> SLOTS + 1 : (age) + (count))
#define NEWER(one, other) ((one) < (other) -> (one) : (other))
#endif

/* What became of a slot when it was claimed; its bytes may begin to be written at once. */
inline own(slot) {
    assert(owner[slot] == isBegun);
    owner[slot] = isClaimed;
    assert(!reading[slot]);
    assert(!writing[slot]);
    writing[slot] = true;
    claimed[rq]++;
    list = list + (slot) * (1 + count * SLOTS);
    count++
}

/* The slots of the group that the RQ has begun, in order. */
inline useBegun() {
    do
    :: rest[rq] > 0 && count < wanted ->
        rest[rq]--;
        own(begun[rq] * GROUP + GROUP - 1 - rest[rq])
    :: else -> break
    od;
    begun[rq] = (rest[rq] == 0 -> 0 : begun[rq])
}

#include "return-take.pml"

/* HeaderClaimer.report [H6 release]: the groups of which it uses the last slot. */
inline markOut() {
    EACH(each, count,
        if
        :: NAMED(list, each) % GROUP == GROUP - 1 ->
            owners[NAMED(list, each) / GROUP] = RING(rq) + OUT
        :: else
        fi)
}

inline markAll() {
    markOut();
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

#ifdef OUT_LATE
#define afterClaim publish
#define report()   markAll(); list = 0
#else
#define afterClaim markAll
#define report()   publish(); list = 0
#endif

/* BurstPlan.claim: HeaderClaimer.claim(_:into:), and the slots are written. */
inline claim() {
    atomic {
        if
        :: broken || wanted == 0 -> wanted = 0
        :: else -> useBegun(); tries = (count < wanted -> TRIES : 0)
        fi
    }
    takeGroups();
#ifdef OUT_EARLY
    atomic { markOut() }
#endif
    if
    /* The slots have been written. */
    :: atomic { count > 0 -> afterClaim() }
    :: count == 0
    fi
}

/* What a worker learns from an order to run [E2 acquire]. */
inline catchUp() {
    skip
}

/* Between two polls it keeps nothing. */
inline endPoll() {
    count = 0; wanted = 0
}

/* HeaderQueue.reset, ReturnRing.reset */
inline resetDevice() {
    assert(!turning[0] && !turning[1] && !lock[0] && !lock[RINGS - 1]);
    assert(claimed[0] + claimed[1] == 0);
    broken = false;
#ifdef RELAX_E2
    EACH(each, RINGS, older[each] = taken[each]);
    isOld[0] = true;
    isOld[1] = true;
#endif
#ifndef RESET_TAKEN
    EACH(each, RINGS, taken[each] = 0);
#endif
#ifndef RESET_BEGUN
    EACH(each, 2, begun[each] = 0; rest[each] = 0);
#endif
#ifndef RESET_OWNERS
    EACH(each, GROUPS, owners[each] = NOBODY);
#endif
    EACH(each, SLOTS, owner[each] = (owner[each] == isReported -> isReported : waits));
    reported = SLOTS;
#ifndef RESET_KEEPS
    /* What the driver zeroed before is so by now. */
    EACH(each, RINGS * GROUPS, entries[each] = 0);
#endif
    zeroes = false
}

#if RESUMES
/* ReturnRing.storePositions: where ring `which` goes on; a hostile driver writes any. */
inline storePositions(which) {
#ifdef HOSTILE
    begun[which] = 0;
    do
    :: begun[which] < GROUPS - 1 -> begun[which]++
    :: break
    od;
    if
    :: rest[which] = 0
    :: rest[which] = 1
    fi
#elif defined(RESUME_FORGETS)
    rest[which] = 0
#else
    skip
#endif
}

/* ReturnRing.resume: the group that was begun, unless another RQ has it. */
inline resumeRing(which) {
    if
#ifndef RESUME_TWICE
    :: owners[begun[which]] != NOBODY -> rest[which] = 0
#endif
    :: else
    fi;
    if
    :: rest[which] == 0 -> begun[which] = 0
    :: else ->
#ifndef RESUME_OWNERS
        owners[begun[which]] = RING(which);
#endif
#ifdef HOSTILE
        owner[begun[which] * GROUP + GROUP - 1] = isBegun;
        writing[begun[which] * GROUP + GROUP - 1] = false
#endif
    fi
}

/* HeaderQueue.leave, and HeaderQueue.init of another device. */
inline resumeDevice() {
    assert(!turning[0] && !turning[1] && !lock[0] && !lock[RINGS - 1]);
    assert(claimed[0] + claimed[1] == 0);
    EACH(each, RINGS, storePositions(each));
#ifdef HOSTILE
    EACH(each, SLOTS, owner[each] = (owner[each] == isBegun -> isReported : owner[each]));
#endif
    EACH(each, GROUPS, owners[each] = NOBODY);
    EACH(each, RINGS, resumeRing(each));
    checkRest()
}
#endif

#include "return-driver.pml"
#include "polls.pml"

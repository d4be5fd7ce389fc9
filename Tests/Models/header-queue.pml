/*
 * The header queue as a protocol: claim, report, retire and reset, with two RQs on one queue.
 *
 *   Worker(rq)    an RQ's thread: between two turns it obeys orders; in a turn it plans a burst,
 *                 claims slots, writes them, reports them
 *   Consumer(rq)  an RQ's driver: harvests what was reported, reads it, retires it; or stops for
 *                 ever (driver.pml)
 *   Control       asks for resets of RQs and of the header queue as the driver, and carries them
 *                 out as the device's control thread (reset.pml)
 *   Evil          with HOSTILE, stands for a driver that stores any tail at any moment (driver.pml)
 *
 * Each step names the function that it stands for. What is modelled exactly: the order of shared
 * accesses, claim's bounded tries and its second look at the head, the words of the retire bitmap
 * with their token P, the handshake by which RQs are held, and the order of steps in both resets.
 * An RQ that is removed and added takes the steps of one that is reset and enabled; one whose
 * virtqueue breaks publishes its burst and claims no more, as one that has no turn. Cursors count
 * modulo LAPS * SLOTS, which tells every honest distance and every kind of lie; that the real head
 * does not come round is `moved`: whether it has changed since the read. Not modelled: the copy of
 * the head in guest memory, which nobody reads, and the out-of-order return.
 *
 * What weak memory does is modelled for the accesses that an edge orders (labels as in the
 * memory-ordering table):
 *   - a worker's view of the tail may lag behind it (`lag`, in stores, at most LAG); reading
 *     a newer head brings it up to the view of whoever moved that head [H2], and an order to run
 *     up to that of the control thread [E2];
 *   - a slot's writes and reads are under way from their start until a release of that thread
 *     completes them: reporting [V2], retiring [H3];
 *   - the reset of a retire word is under way until the release of the tail [H1] completes it;
 *   - an order to hold may be seen some turns late, but no turn comes after the answer [E1].
 * RELAX_x makes the release of edge x relaxed: it completes nothing, hands nothing on.
 *
 * Other seeded bugs: CLAIM_UNBOUNDED takes what is wanted, however few slots are free;
 * RETIRE_UNORDERED moves the tail for any complete word, token or not; TAIL_FIRST moves the tail
 * before it resets the word; TRY_FOREVER puts no bound on a claim's tries. Those of resets:
 *   HOLD_STALE     an answer does not say to which order: one to an earlier hold counts
 *   RESET_ZERO     the driver stores tail 0 before the RQs are held, and all start from there
 *   RESET_RETIRES  the driver goes on retiring while the header queue is reset
 *   RESET_GIVES    it gives all slots, though some that were reported are still being read
 *   RESET_WORDS    it gives all slots with P in the first word, wherever the tail stands
 */
#ifndef SLOTS
#define SLOTS 4
#endif
#ifndef GROUP
#define GROUP 1
#endif
#ifndef BURST
#define BURST 2
#endif
#ifndef BUFFERS
#define BUFFERS 1
#endif
/* How many of the RQs get reset; whether the header queue does; whether the driver of an RQ that is
 * reset may forget what that had reported. */
#ifndef RESETS
#define RESETS 0
#endif
#ifndef QUEUE_RESETS
#define QUEUE_RESETS 0
#endif
#ifndef LOSSES
#define LOSSES 0
#endif
#ifndef LAG
#define LAG 1
#endif
/* A view that is a lap behind needs more than two to tell. */
#ifndef LAPS
#define LAPS 2
#endif
#define TRIES   2
#define GROUPS  (SLOTS / GROUP)
#define CURSORS (LAPS * SLOTS)
#define PASSED  (1 << GROUP)
#define FULL    (PASSED | (PASSED - 1))

#define SLOT(cursor)          ((cursor) % SLOTS)
#define FORWARD(cursor, count) (((cursor) + (count)) % CURSORS)
#define DISTANCE(from, to)    (((to) + CURSORS - (from)) % CURSORS)

/*
 * Who a slot belongs to. `waits`: it is the driver's, who has done with it: retired, its group's
 * tail not yet moved; or taken back by a reset of the header queue. It counts as reported.
 */
mtype = { isFree, isClaimed, isReported, waits };
mtype owner[SLOTS] = isFree;
byte claimed[2], reported;

/* Shared words. */
byte tail = SLOTS;
byte head;
bool broken;
byte word[GROUPS];

/* Memory. `step`: by how much the latest stores moved the tail, newest first. */
bool writing[SLOTS], reading[SLOTS], resetting[GROUPS];
byte lag[2], headLag, step[LAG] = GROUP;
bool moved[2];

/* The RQs: bursts reported and not harvested, buffers the driver posted. */
chan used[2] = [BUFFERS] of { byte, byte };
byte buffers[2] = 1;

/*
 * TurnOrders: whether the last order is to hold, and whether the answer is to that one. `stands`:
 * the control thread takes the RQ to be at a turn boundary; `turning`: it is between two.
 */
bool holds[2], isHeld[2], stands[2], turning[2];
/* RQs that were reset and not enabled again; whether the header queue is being reset, so that its
 * driver retires nothing. */
bool isReset[2], stops;

/* Bursts that are being retired, and harvested ones that are not yet. */
byte retiring, harvested;
#ifdef PROGRESS
bool turned;
#endif

#define BEHIND(stores) \
    (((stores) > 0 -> step[0] : 0) + ((stores) > 1 -> step[1 % LAG] : 0))

#define EACH(index, limit, body) \
    index = 0; do :: index < (limit) -> body; index++ :: else -> break od; index = 0

#ifdef RESET_ZERO
#define isExcused stops /* the queue counts as broken until it is reset */
#else
#define isExcused false
#endif

/* free + claimed + reported = slotCount */
inline countSlots() {
#ifdef HOSTILE
    skip
#else
    assert(isExcused || DISTANCE(head, tail) <= SLOTS);
    assert(isExcused || claimed[0] + claimed[1] + reported + DISTANCE(head, tail) == SLOTS)
#endif
}

/* HeaderClaimer.claim reads the head [H2 acquire], at first and when it doubts. */
inline readHead() {
    start = head;
    moved[rq] = false;
    lag[rq] = (lag[rq] > headLag -> headLag : lag[rq])
}

/*
 * It reads the tail [H1 acquire]: any from the one this worker has seen to the newest; a hostile
 * one is any.
 */
inline readTail() {
#ifdef HOSTILE
    free = 0;
    do
    :: free < CURSORS - 1 -> free++
    :: break
    od
#else
    do
    :: lag[rq] > 0 -> lag[rq]--
    :: break
    od;
    free = DISTANCE(start, (tail + CURSORS - BEHIND(lag[rq])) % CURSORS)
#endif
}

/* What became of a slot when it was claimed; its bytes may begin to be written at once. */
inline own(slot) {
    assert(slot < SLOTS);
#ifndef HOSTILE
    assert(owner[slot] == isFree);
    owner[slot] = isClaimed;
    assert(!reading[slot]);
    assert(!writing[slot]);
    writing[slot] = true;
    claimed[rq]++
#endif
}

/* Its compare-and-swap succeeds [H2 both ways]. */
inline moveHead() {
    head = FORWARD(start, count);
    moved[1 - rq] = true;
#ifndef RELAX_H2
    headLag = lag[rq];
#endif
    assert(count >= 1 && count <= wanted);
#ifndef CLAIM_UNBOUNDED
    assert(count <= free && free <= SLOTS);
#endif
    EACH(each, count, own(SLOT(start + each)));
    countSlots()
}

/* HeaderClaimer.claim, for BurstPlan.claim. */
inline claim() {
    atomic {
        if
        :: broken || wanted == 0 -> skip
        :: else -> readHead(); tries = TRIES
        fi
    }
    do
    :: atomic {
        tries > 0 ->
            readTail();
#ifdef CLAIM_UNBOUNDED
            count = wanted;
#else
            count = (free < wanted -> free : wanted);
#endif
            if
            :: free <= SLOTS && count == 0 -> break
            :: else
            fi
        }
        /* Between reading the tail and moving the head, or looking at it again. */
        atomic {
            if
            :: moved[rq] ->
                readHead();
                count = 0;
#ifndef TRY_FOREVER
                tries--
#endif
            :: !moved[rq] && free <= SLOTS -> moveHead(); break
            :: !moved[rq] && free > SLOTS ->
#ifndef HOSTILE
                assert(isExcused); /* an honest driver's queue is never broken */
#endif
                broken = true;
                count = 0;
                break
            fi
        }
    :: atomic { tries == 0 -> break }
    od
}

/* RxBurst.place publishes [V2 release]: every slot of the claim stands in a used entry. */
inline report() {
    buffers[rq]--;
    used[rq]!SLOT(start),count;
#ifndef HOSTILE
#ifndef RELAX_V2
    EACH(each, count, writing[SLOT(start + each)] = false);
#endif
    EACH(each, count, owner[SLOT(start + each)] = isReported);
    claimed[rq] = claimed[rq] - count;
    reported = reported + count;
#endif
    countSlots()
}

proctype Worker(byte rq) {
    byte start, free, count, wanted, tries, each;
    bool runs;

    do
    /* RxLane.obey, TurnOrders.obey: answers an order to hold [E1 release] ... */
    :: atomic { holds[rq] && !isHeld[rq] -> runs = false; isHeld[rq] = true }
    /* ... and takes one to run [E2 acquire]. */
    :: atomic {
        !holds[rq] && !runs ->
            runs = true
#ifndef RELAX_E2
            ; lag[rq] = 0
#endif
        }
#ifdef HOLD_STALE
        isHeld[rq] = false
#endif
    /* RxLane.run, as far as it has seen: RxWorker.turn, RxBurst.place */
    :: atomic {
        runs ->
            assert(!stands[rq]);
            turning[rq] = true;
#ifdef PROGRESS
            if
            :: rq == 0 -> turned = !turned
            :: else
            fi;
#endif
            if
            :: buffers[rq] == 0 -> wanted = 0
            :: buffers[rq] > 0 -> wanted = 1
            :: buffers[rq] > 0 -> wanted = BURST
            fi
        }
        claim();
#ifdef RELAX_E1
        /* Nothing keeps the answer behind what the turn does. */
        if
        :: atomic { holds[rq] -> isHeld[rq] = true }
        :: true
        fi;
#endif
        atomic {
            if
            :: count == 0
            :: count > 0 -> report()
            fi;
            start = 0; free = 0; count = 0; wanted = 0; tries = 0;
            turning[rq] = false
        }
    od
}

#include "driver.pml"
#include "reset.pml"

init {
    atomic {
        word[0] = PASSED;
        buffers[0] = BUFFERS;
        run Worker(0);
        run Worker(1);
#if RESETS + QUEUE_RESETS > 0
        run Control();
#endif
#ifdef HOSTILE
        run Evil()
#else
        run Consumer(0);
        run Consumer(1);
#ifdef RELAX_H1
        run Memory()
#endif
#endif
    }
}

#ifdef PROGRESS
/* RQ 0's worker begins one turn after the other, whatever the driver does, unless it is held. */
ltl goesOn { ([]<> (turned || holds[0])) && ([]<> (!turned || holds[0])) }
#endif

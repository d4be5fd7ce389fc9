/*
 * The header queue as a protocol: claim, report, retire and reset, with two RQs on one queue.
 *
 *   Worker(rq)    an RQ's thread: between two polls it obeys orders; in a poll it plans a burst,
 *                 claims slots, writes them, reports them
 *   Consumer(rq)  an RQ's driver: harvests what was reported, reads it, retires it; or stops for
 *                 ever (polls.pml, driver.pml)
 *   Control       asks for resets of RQs and of the header queue as the driver, and carries them
 *                 out as the device's control thread (reset.pml)
 *   Evil          with HOSTILE, stands for a driver that stores any tail at any moment (polls.pml)
 *
 * Each step names the function that it stands for. What is modelled exactly: the order of shared
 * accesses, claim's bounded tries and its second look at the head, the words of the retire bitmap
 * with their token P, the handshake by which RQs are held, and the order of steps in both resets.
 * An RQ that is removed and added takes the steps of one that is reset and enabled; one whose
 * virtqueue breaks publishes its burst and claims no more, as one that has no poll. Cursors count
 * modulo LAPS * SLOTS, which tells every honest distance and every kind of lie; that the real head
 * does not come round is `moved`: whether it has changed since the read. Not modelled: the copy of
 * the head in guest memory, which nobody reads. The out-of-order return has a model of its own,
 * return-ring.pml; rqs.pml, polls.pml and reset.pml serve both.
 *
 * What weak memory does is modelled for the accesses that an edge orders (labels as in the
 * memory-ordering table):
 *   - a worker's view of the tail may lag behind it (`lag`, in stores, at most LAG); reading
 *     a newer head brings it up to the view of whoever moved that head [H2], and an order to run
 *     up to that of the control thread [E2];
 *   - a slot's writes and reads are under way from their start until a release of that thread
 *     completes them: reporting [V2], retiring [H3];
 *   - the reset of a retire word is under way until the release of the tail [H1] completes it;
 *   - a command to pause may be seen some polls late, but no poll comes after it is
 *     acknowledged [E1].
 * RELAX_x makes the release of edge x relaxed: it completes nothing, hands nothing on.
 *
 * Other seeded bugs: CLAIM_UNBOUNDED takes what is wanted, however few slots are free;
 * RETIRE_UNORDERED moves the tail for any complete word, token or not; TAIL_FIRST moves the tail
 * before it resets the word; TRY_FOREVER puts no bound on a claim's tries. Those of resets:
 *   HOLD_STALE     an acknowledgement does not say of which command: one of an earlier pause counts
 *   RESET_ZERO     the driver stores tail 0 before the RQs are held, and all start from there
 *   RESET_RETIRES  the driver goes on retiring while the header queue is reset
 *   RESET_GIVES    it gives all slots, though some that were reported are still being read
 *   RESET_WORDS    it gives all slots with P in the first word, wherever the tail stands
 */
#include "rqs.pml"

#ifndef GROUP
#define GROUP 1
#endif
#ifndef LAG
#define LAG 1
#endif
#define WORKER_LOCALS   start, free, count, wanted, tries, each
#define CONSUMER_LOCALS first, left, here, bits, each, passes
/* The slot of a burst that is number `index` in it. */
#define NAMED(burst, index) SLOT((burst) + (index))

#define GROUPS  (SLOTS / GROUP)
#define PASSED  (1 << GROUP)
#define FULL    (PASSED | (PASSED - 1))

/*
 * Who a slot belongs to. `waits`: it is the driver's, who has done with it: retired, its group's
 * tail not yet moved; or taken back by a reset of the header queue. It counts as reported.
 */
mtype = { isFree, isClaimed, isReported, waits };
mtype owner[SLOTS] = isFree;

/* Shared words. */
byte head, tail = SLOTS;
byte word[GROUPS];

/*
 * Memory. `lag`: by how many stores a worker's view of the tail lags; `headLag`: the view that was
 * handed on with the head; `moved`: whether the head has changed since it was read; `step`: by how
 * much the latest stores moved the tail, newest first.
 */
byte lag[2], headLag;
bool moved[2];
bool resetting[GROUPS];
byte step[LAG] = GROUP;

#define BEHIND(stores) \
    (((stores) > 0 -> step[0] : 0) + ((stores) > 1 -> step[1 % LAG] : 0))

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

/* It reads the head [H2 acquire], at first and when it doubts. */
inline readHead() {
    start = head;
    moved[rq] = false;
    lag[rq] = (lag[rq] > headLag -> headLag : lag[rq])
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

/* HeaderQueue.reset. The tail may stand anywhere [H1 acquire]: from there on nothing is free. */
inline resetDevice() {
#ifdef HOSTILE
    assert(!turning[0] && !turning[1]);
    head = 0;
    do
    :: head < CURSORS - 1 -> head++
    :: break
    od;
#else
    assert(claimed[0] + claimed[1] == 0);
    head = tail;
    EACH(each, SLOTS, owner[each] = (owner[each] == isFree -> waits : owner[each]));
    reported = SLOTS;
#endif
    broken = false;
    /* A relaxed store: it hands on no view. No cursor comes again: what was read is void. */
    headLag = LAG;
    moved[0] = true;
    moved[1] = true;
    countSlots()
}

/* What a worker learns from an order to run [E2 acquire]. */
inline catchUp() {
    lag[rq] = 0
}

/* Between two polls it keeps nothing. */
inline endPoll() {
    start = 0; free = 0; count = 0; wanted = 0; tries = 0
}

/* At creation the driver has given all, and P is in word 0. */
inline begin() {
    word[0] = PASSED
}

#include "driver.pml"
#include "polls.pml"

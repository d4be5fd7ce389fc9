/*
 * The header queue as a protocol: claim, report, retire and reset, with two RQs on one queue.
 *
 *   Worker(rq)    plans a burst, claims slots, writes them, reports them; may stop in mid-burst
 *   Consumer(rq)  harvests what its RQ reported, reads it, retires it; or stops for ever; or
 *                 resets its RQ
 *   Evil          with HOSTILE, stands for a driver that stores any tail at any moment and
 *                 resets RQs as it likes
 *
 * What is modelled exactly: the order of shared accesses, claim's bounded tries and its second
 * look at the head, the words of the retire bitmap with their token P. Cursors count modulo
 * 2 * SLOTS, which tells every honest distance and every kind of lie; that the real head does not
 * come round is `moved`: whether the other worker's compare-and-swap has won since the read.
 *
 * What weak memory does is modelled for the accesses that an edge orders (labels as in the
 * memory-ordering table):
 *   - a worker's view of the tail may lag behind it (`lag`, in groups, at most LAG); reading
 *     a newer head brings it up to the view of whoever moved that head [H2];
 *   - a slot's writes and reads are under way from their start until a release of that thread
 *     completes them: reporting [V2], retiring [H3];
 *   - the reset of a retire word is under way until the release of the tail [H1] completes it.
 * RELAX_x makes the release of edge x relaxed: it completes nothing, hands nothing on.
 *
 * Other seeded bugs: CLAIM_UNBOUNDED takes what is wanted, however few slots are free;
 * RETIRE_UNORDERED moves the tail for any complete word, token or not; TAIL_FIRST moves the tail
 * before it resets the word; TRY_FOREVER puts no bound on a claim's tries; RESET_FORGETS gives
 * back nothing of a burst that a reset cut short; RESET_TWICE gives back what was reported, too.
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
#ifndef RESETS
#define RESETS 0
#endif
#ifndef LAG
#define LAG 1
#endif
#define TRIES   2
#define GROUPS  (SLOTS / GROUP)
#define CURSORS (2 * SLOTS)
#define PASSED  (1 << GROUP)
#define FULL    (PASSED | (PASSED - 1))

#define SLOT(cursor)          ((cursor) % SLOTS)
#define FORWARD(cursor, count) (((cursor) + (count)) % CURSORS)
#define DISTANCE(from, to)    (((to) + CURSORS - (from)) % CURSORS)

/* Who a slot belongs to. `waits`: retired, its group's tail not yet moved. */
mtype = { isFree, isClaimed, isReported, waits };
mtype owner[SLOTS] = isFree;
byte claimed, reported;

/* Shared words. */
byte tail = SLOTS;
byte head;
bool broken;
byte word[GROUPS];

/* Memory. */
bool writing[SLOTS], reading[SLOTS], resetting[GROUPS];
byte lag[2], headLag;
bool moved[2];

/* The RQs: bursts reported and not harvested, buffers the driver posted, the reset handshake. */
chan used[2] = [BUFFERS] of { byte, byte };
byte buffers[2] = 1;
bool resetWanted[2], isReset[2];
#ifndef HOSTILE
byte backFirst[2], backCount[2];
#endif

byte retiring;
#ifdef PROGRESS
bool turned;
#endif

#define EACH(index, limit, body) \
    index = 0; do :: index < (limit) -> body; index++ :: else -> break od; index = 0

inline countSlots() {
#ifdef HOSTILE
    skip
#else
    assert(DISTANCE(head, tail) <= SLOTS);
    assert(claimed + reported + DISTANCE(head, tail) == SLOTS)
#endif
}

/* [H2 acquire] */
inline readHead() {
    start = head;
    moved[rq] = false;
    lag[rq] = (lag[rq] > headLag -> headLag : lag[rq])
}

/* [H1 acquire] Any tail from the one this worker has seen to the newest; a hostile one is any. */
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
    free = DISTANCE(start, (tail + CURSORS - lag[rq] * GROUP) % CURSORS)
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
    claimed++
#endif
}

/* [H2 both ways] */
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
                assert(false); /* an honest driver's queue is never broken */
#endif
                broken = true;
                count = 0;
                break
            fi
        }
    :: atomic { tries == 0 -> break }
    od
}

/* [V2 release] */
inline report() {
    buffers[rq]--;
    used[rq]!SLOT(start),count;
#ifndef HOSTILE
#ifndef RELAX_V2
    EACH(each, count, writing[SLOT(start + each)] = false);
#endif
    EACH(each, count, owner[SLOT(start + each)] = isReported);
    claimed = claimed - count;
    reported = reported + count;
#endif
    countSlots()
}

/* A burst ends without a report: its slots go to whoever resets the RQ [V2 release]. */
inline stopInMidBurst() {
#ifndef HOSTILE
    backFirst[rq] = SLOT(start);
    backCount[rq] = count;
    EACH(each, count, writing[SLOT(start + each)] = false);
#endif
    isReset[rq] = true
}

proctype Worker(byte rq) {
    byte start, free, count, wanted, tries, each;

    do
    :: atomic {
        resetWanted[rq] && !isReset[rq] -> isReset[rq] = true /* between bursts */
        }
    :: atomic {
        !resetWanted[rq] ->
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
        atomic {
            if
            :: count == 0 -> skip
            :: count > 0 -> report()
#ifdef RESET_TWICE
            :: count > 0 && resetWanted[rq] -> report(); stopInMidBurst()
#endif
            :: count > 0 && resetWanted[rq] -> stopInMidBurst()
            fi;
            start = 0; free = 0; count = 0; wanted = 0; tries = 0
        }
    od
}

#ifndef HOSTILE

/* Who reads a slot that was reported [V2 acquire], or takes one back that was not. */
inline read(slot) {
    assert(owner[slot] == isReported);
    assert(!writing[slot]);
    assert(!reading[slot]);
    reading[slot] = true
}

inline takeBack(slot) {
    assert(owner[slot] == isClaimed);
    owner[slot] = isReported;
    claimed--;
    reported++
}

inline done(slot) {
    assert(owner[slot] == isReported);
    owner[slot] = waits;
#ifndef RELAX_H3
    reading[slot] = false
#endif
}

/* The part of a range that lies in its first group. */
inline enterGroup() {
    here = GROUP - first % GROUP;
    here = (left < here -> left : here);
    bits = ((1 << here) - 1) << (first % GROUP)
}

/* [H3 both ways] Sets the bits of the group, and P if the mover arrives with it. */
inline mark() {
    bits = bits | (passes -> PASSED : 0);
    assert((word[first / GROUP] & bits) == 0); /* retired twice */
    word[first / GROUP] = word[first / GROUP] | bits;
    EACH(each, here, done(first + each));
    left = left - here;
#ifdef RETIRE_UNORDERED
    passes = ((word[first / GROUP] | PASSED) == FULL)
#else
    passes = (word[first / GROUP] == FULL)
#endif
}

inline completeReset(group) {
    if
    :: resetting[group] -> word[group] = 0; resetting[group] = false
    :: else
    fi
}

/* [H1 release] */
inline moveTail(group) {
#ifndef RELAX_H1
    completeReset(group);
#endif
    assert(group == SLOT(tail) / GROUP); /* the oldest group, and no other */
    EACH(each, GROUP, assert(owner[group * GROUP + each] == waits));
    EACH(each, GROUP, owner[group * GROUP + each] = isFree);
    reported = reported - GROUP;
    tail = FORWARD(tail, GROUP);
    lag[0] = (lag[0] < LAG -> lag[0] + 1 : LAG);
    lag[1] = (lag[1] < LAG -> lag[1] + 1 : LAG);
    headLag = (headLag < LAG -> headLag + 1 : LAG);
    countSlots()
}

/* When nobody retires, nothing that could move the tail is left undone. */
inline checkRest() {
    each = 0;
    do
    :: each < GROUP && owner[(SLOT(tail) / GROUP) * GROUP + each] == waits -> each++
    :: else -> break
    od;
    assert(retiring > 0 || each < GROUP);
    each = 0
}

inline retire() {
    do
    :: atomic {
        left > 0 || passes ->
            enterGroup();
            mark();
            if
            :: passes -> resetting[first / GROUP] = true /* a relaxed store: may be seen late */
            :: else
            fi
        }
#ifdef TAIL_FIRST
        atomic {
            if
            :: passes -> resetting[first / GROUP] = false; moveTail(first / GROUP)
            :: else
            fi
        }
        atomic {
            if
            :: passes -> word[first / GROUP] = 0
            :: else
            fi;
            first = ((first / GROUP + 1) % GROUPS) * GROUP
        }
#else
        atomic {
            if
            :: passes -> moveTail(first / GROUP)
            :: else
            fi;
            first = ((first / GROUP + 1) % GROUPS) * GROUP
        }
#endif
    :: atomic {
        left == 0 && !passes ->
            retiring--;
            checkRest();
            first = 0; here = 0; bits = 0;
            break
        }
    od
}

proctype Consumer(byte rq) {
    byte first, left, here, bits, each;
    bool passes;

end:
    do
    :: atomic {
        nempty(used[rq]) ->
            used[rq]?first,left;
            EACH(each, left, read(SLOT(first + each)));
            retiring++
        }
        retire();
        buffers[rq]++
    :: atomic { rq < RESETS && !resetWanted[rq] -> resetWanted[rq] = true }
    :: atomic {
        isReset[rq] && empty(used[rq]) && backCount[rq] > 0 ->
            first = backFirst[rq];
            left = backCount[rq];
            backFirst[rq] = 0;
            backCount[rq] = 0;
#ifdef RESET_FORGETS
            left = 0;
#endif
            EACH(each, left, takeBack(SLOT(first + each)));
            retiring++
        }
        retire()
    :: atomic {
        isReset[rq] && empty(used[rq]) && backCount[rq] == 0 ->
            /* What is claimed now, the other RQ has in its one burst. */
            assert(claimed <= BURST);
            assert(buffers[rq] == (rq == 0 -> BUFFERS : 1));
            resetWanted[rq] = false;
            isReset[rq] = false
        }
#ifdef PROGRESS
    :: break /* harvests no more */
#endif
    od
}

#ifdef RELAX_H1
/* What no release completes is completed some time. */
proctype Memory() {
end:
    do
    :: atomic { resetting[0] -> completeReset(0) }
    :: atomic { resetting[GROUPS - 1] -> completeReset(GROUPS - 1) }
    od
}
#endif

#else

/* Its tail is any, whenever it is read; buffers come back, or not; resets come at any moment. */
proctype Evil() {
    byte first, count;
end:
    do
    :: atomic { used[0]?first,count -> buffers[0]++; first = 0; count = 0 }
    :: atomic { used[1]?first,count -> buffers[1]++; first = 0; count = 0 }
    :: atomic { !resetWanted[0] -> resetWanted[0] = true }
    :: atomic { !resetWanted[1] -> resetWanted[1] = true }
    :: atomic { isReset[0] -> isReset[0] = false; resetWanted[0] = false }
    :: atomic { isReset[1] -> isReset[1] = false; resetWanted[1] = false }
#ifdef PROGRESS
    :: break /* does nothing any more */
#endif
    od
}

#endif

init {
    atomic {
        word[0] = PASSED;
        buffers[0] = BUFFERS;
        run Worker(0);
        run Worker(1);
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
/* RQ 0's worker begins one turn after the other, whatever the driver does, unless it is reset. */
ltl goesOn { ([]<> (turned || isReset[0])) && ([]<> (!turned || isReset[0])) }
#endif

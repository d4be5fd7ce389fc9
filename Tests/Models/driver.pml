/*
 * The driver's side of header-queue.pml: retire, and its part of a reset.
 */
#ifndef HOSTILE

inline done(slot) {
    assert(owner[slot] == isReported);
    owner[slot] = waits;
#ifndef RELAX_H3
    reading[slot] = false
#endif
}

/* DriverHeaderQueue.retire: the part of a range that lies in its first group. */
inline enterGroup() {
    here = GROUP - first % GROUP;
    here = (left < here -> left : here);
    bits = ((1 << here) - 1) << (first % GROUP)
}

/* DriverHeaderQueue.mark [H3 both ways]: the bits of the group, and P if the mover arrives. */
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

/* A store to the tail [H1 release], by which views fall behind. */
inline storeTail(count) {
    tail = FORWARD(tail, count);
    step[LAG - 1] = step[0];
    step[0] = count;
    lag[0] = (lag[0] < LAG -> lag[0] + 1 : LAG);
    lag[1] = (lag[1] < LAG -> lag[1] + 1 : LAG);
    headLag = (headLag < LAG -> headLag + 1 : LAG)
}

/* DriverHeaderQueue.moveTail */
inline moveTail(group) {
#ifndef RELAX_H1
    completeReset(group);
#endif
    assert(group == SLOT(tail) / GROUP); /* the oldest group, and no other */
    EACH(each, GROUP, assert(owner[group * GROUP + each] == waits));
    EACH(each, GROUP, owner[group * GROUP + each] = isFree);
    reported = reported - GROUP;
    storeTail(GROUP);
    countSlots()
}

/* When nobody retires, nothing that could move the tail is left undone. */
inline checkRest() {
    each = 0;
    do
    :: each < GROUP && owner[(SLOT(tail) / GROUP) * GROUP + each] == waits -> each++
    :: else -> break
    od;
    assert(retiring > 0 || stops || each < GROUP);
    each = 0
}

/* DriverHeaderQueue.retire */
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

#ifdef RELAX_H1
#define MEMORY
/* What no release completes is completed some time. */
proctype Memory() {
end:
    do
    :: atomic { resetting[0] -> completeReset(0) }
    :: atomic { resetting[GROUPS - 1] -> completeReset(GROUPS - 1) }
    od
}
#endif

/* DriverHeaderQueue.finishReset: the words, P where the tail stands, then that [H1 release]. */
inline giveAll() {
#ifdef RESET_WORDS
    EACH(each, GROUPS, word[each] = (each == 0 -> PASSED : 0));
#else
    EACH(each, GROUPS, word[each] = (each == SLOT(tail) / GROUP -> PASSED : 0));
#endif
    EACH(each, SLOTS, assert(owner[each] != isFree && owner[each] != isClaimed));
    EACH(each, SLOTS, owner[each] = isFree);
    reported = 0;
    storeTail(SLOTS);
    countSlots()
}

#endif

/* DriverHeaderQueue.prepareReset: the tail stays. */
inline prepareReset() {
#ifdef RESET_ZERO
    tail = 0
#else
    skip
#endif
}

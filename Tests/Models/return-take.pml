/*
 * How groups come from rings into a claim, for return-ring.pml: takers of one ring come one after
 * the other.
 */
#if defined(RELAX_H5) || defined(RELAX_E2)
/* What a worker may find in place of a newer `taken`. */
byte older[RINGS];
bool isOld[2];
#endif

/* ReturnRing.entry [H1 acquire]: the group, or none. */
inline look() {
#ifdef HOSTILE
    if
    :: found = NONE
    :: found = NONE; broken = true /* an index beyond the groups */
    :: found = 0;
        do
        :: found < GROUPS - 1 -> found++
        :: break
        od
    fi
#else
    found = entries[PLACE(ring, position)];
    if
    :: HOLDS(found, position) -> found = (found - LAP_BIT) % GROUPS
    :: !HOLDS(found, position) || zeroes -> found = NONE
    fi
#endif
}

/* ReturnRing.accept: the owner as it is found [H6 acquire]. */
inline test() {
    if
    :: found != NONE -> seen = owners[found]
    :: else
    fi
}

#ifdef ANY_RING
#define COUNTS(owner) (((owner) & OUT) != 0)
#else
#define COUNTS(owner) ((owner) == ring + OUT)
#endif

/* A slot comes to an RQ [H6 acquire]. */
inline take(slot) {
#ifdef HOSTILE
    assert(owner[slot] != isBegun);
    assert(owner[slot] != isClaimed);
#else
    assert(owner[slot] == isReturned);
#endif
#ifndef RELAX_H6
    writing[slot] = false;
#endif
    owner[slot] = isBegun
}

/* ReturnRing.accept: the group is this RQ's, if it was out or nobody's. */
inline accept() {
    if
#ifndef NO_OWNER
    :: !COUNTS(seen) &&
#ifdef PLAIN_NOBODY
        seen != NOBODY ->
#else
        !(seen == NOBODY && owners[found] == NOBODY) ->
#endif
#ifdef HOSTILE
        skip /* counted */
#else
        /* An honest driver returns no group that the device has. */
        assert(COUNTS(seen) || seen == NOBODY && owners[found] == NOBODY)
#endif
#endif
    :: else ->
        EACH(each, GROUP, take(found * GROUP + each));
        owners[found] = RING(rq);
        begun[rq] = found;
        rest[rq] = GROUP;
#ifdef PLACES
        slotAge[found] = POSTED(NEXT(position), tickets[0]);
#endif
        useBegun()
    fi;
#ifndef HOSTILE
    entries[PLACE(ring, position)] = ENTRY(0, position);
    position = NEXT(position);
#endif
    found = 0; seen = 0
}

/* The lock is taken [H5 acquire]: where the last taker left off. */
inline start() {
    lock[ring] = true;
#ifndef HOSTILE
    position = taken[ring];
#if defined(RELAX_H5) || defined(RELAX_E2)
    if
    :: isOld[rq] -> position = older[ring]
    :: isOld[rq] = false
    fi;
#endif
#endif
    left = BURST + 1
}

/* It is given back [H5 release]. */
inline unlock() {
#ifdef RELAX_H5
    older[ring] = taken[ring];
    isOld[1 - rq] = true;
#endif
#ifndef TAKEN_LATE
    taken[ring] = position;
    position = 0;
#endif
    lock[ring] = false;
    left = 0
}

/* HeaderClaimer.takeLocked: what is `found` already was looked at before the lock was taken. */
inline takeLocked() {
    do
    :: atomic {
        count < wanted && left > 0 ->
            left--;
#ifdef OWNER_EARLY
            if
            :: found != NONE
            :: else -> look(); test()
            fi;
#else
            look();
            test();
#endif
            if
            :: found == NONE -> found = 0; unlock(); break
            :: else
            fi
        }
        atomic {
            accept();
#ifdef OWNER_EARLY
            found = NONE;
#endif
            if
            :: count == wanted || left == 0 -> found = 0; unlock(); break
            :: else
            fi
        }
#if defined(PROGRESS) && !defined(SLOW)
    :: rq == 1 -> false /* it does not run any more */
#endif
    od;
#ifdef TAKEN_LATE
    atomic { taken[ring] = position; position = 0 }
#endif
    atomic { ring = 0; checkRest() }
}

#ifdef NO_LOCK
#define IS_FREE(ring) true
#else
#define IS_FREE(ring) (!lock[ring])
#endif

/* HeaderClaimer.takeGroups: of its own ring, then of the other one. */
inline takeGroups() {
    do
    :: atomic {
        tries > 0 && IS_FREE(RING(rq)) ->
            ring = RING(rq);
            tries = 0;
#ifdef OWNER_EARLY
            found = NONE;
#endif
            start()
        }
        takeLocked();
        break
    :: atomic {
        tries > 0 && !IS_FREE(RING(rq)) ->
#ifdef WAIT_BUSY
            skip
#else
            tries--
#endif
        }
    :: tries == 0 -> break
    od;
#if RINGS == 2 && !defined(NO_STEAL)
    if
    :: atomic {
        count < wanted ->
            ring = 1 - rq;
#ifndef HOSTILE
            position = taken[ring];
#endif
            look();
#ifndef SLOW
            /* By an older `taken` it finds an entry, or one that was written over. */
            if
            :: found = 0
            :: found = NONE
            :: true
            fi;
#endif
#ifdef OWNER_EARLY
            test();
#endif
            position = 0
        }
        if
        :: atomic { found != NONE && IS_FREE(ring) ->
#ifndef OWNER_EARLY
            found = 0;
#endif
            start()
            }
            takeLocked()
        :: atomic { found == NONE || !IS_FREE(ring) -> found = 0; seen = 0; ring = 0 }
        fi
    :: count == wanted
    fi
#endif
}

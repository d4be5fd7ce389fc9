/*
 * Refill, for return-ring.pml: ring entries into the free list, by one worker at a time.
 */
/* HeaderClaimer.posted [H1 acquire]: the slot, or none. */
inline look() {
#ifdef HOSTILE
    if
    :: found = NONE
    :: found = NONE; broken = true /* an index beyond the slots */
    :: found = 0;
        do
        :: found < SLOTS - 1 -> found++
        :: break
        od
    fi
#else
    found = ring[SLOT(position)];
    if
    :: HOLDS(found, position) -> found = (found - LAP_BIT) % SLOTS
    :: !HOLDS(found, position) || zeroes -> found = NONE
    fi
#endif
}

/* HeaderClaimer.keep, and a portion shown [H4 release]. */
inline keep() {
    if
#ifndef NO_OWNED
    :: owned[found] ->
#ifdef HOSTILE
        skip /* counted */
#else
        assert(!owned[found]) /* an honest driver returns no slot that the device has */
#endif
#endif
    :: else ->
#ifdef HOSTILE
        assert(owner[found] != isStocked && owner[found] != isClaimed);
#else
        assert(owner[found] == isReturned);
#endif
        assert(DISTANCE(head, fresh) < SLOTS); /* or the free list would be written over */
        /* [H6 acquire] */
#ifndef RELAX_H6
        writing[found] = false;
#endif
        owned[found] = true;
        freeList[SLOT(fresh)] = found;
        listing[SLOT(fresh)] = true;
        owner[found] = isStocked;
        fresh = FORWARD(fresh, 1);
        ready = fresh;
#ifndef RELAX_H4
        EACH(each, SLOTS, listing[each] = false);
#endif
        lag[rq] = 0;
        lag[1 - rq] = (lag[1 - rq] < LAG -> lag[1 - rq] + 1 : LAG);
        headLag = (headLag < LAG -> headLag + 1 : LAG);
#ifdef PLACES
        slotAge[found] = DISTANCE(FORWARD(position, 1), tickets)
#endif
    fi
}

/* HeaderClaimer.refillFreeList */
inline refillFreeList() {
    atomic {
        refill = isDone;
        position = taken;
        look();
        position = 0;
#ifndef SLOW
        /* By an older `taken` it finds an entry, or one that was written over. */
        if
        :: found = 0
        :: found = NONE
        :: true
        fi
#endif
    }
    if
    :: atomic { found == NONE -> found = 0 }
#ifndef NO_LOCK
    :: atomic { found != NONE && lock -> refill = isBusy; found = 0 }
    :: atomic {
        found != NONE && !lock ->
#else
    :: atomic {
        found != NONE ->
#endif
            /* [H5 acquire] */
            lock = true;
#ifdef RELAX_H5
            position = (taken + CURSORS - lag[rq]) % CURSORS;
#else
            position = taken;
            lag[rq] = 0;
#endif
            fresh = (ready + CURSORS - lag[rq]) % CURSORS;
            left = INTAKE
        }
        do
        :: atomic {
            left > 0 ->
                look();
                if
                :: found == NONE -> found = 0; left = 0; break
                :: else ->
                    keep();
#ifndef HOSTILE
                    ring[SLOT(position)] = ENTRY(0, position);
                    position = FORWARD(position, 1);
#endif
                    found = 0;
                    left--
                fi
            }
        :: atomic { left == 0 -> break }
#if defined(PROGRESS) && !defined(SLOW)
        :: rq == 1 -> false /* it does not run any more */
#endif
        od;
        atomic {
            taken = position;
            position = 0; fresh = 0;
            /* [H5 release] */
            lock = false;
            EACH(each, SLOTS, listing[each] = false);
            checkRest()
        }
    fi
}

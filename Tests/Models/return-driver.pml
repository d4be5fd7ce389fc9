/*
 * The driver's side of return-ring.pml: it marks slots, reserves positions and writes entries, or,
 * with HOSTILE, what a worker finds is any.
 */
/* DriverHeaderQueue.prepareReset */
inline prepareReset() {
#ifdef RESET_KEEPS
    skip
#else
    zeroes = true
#endif
}

/* DriverHeaderQueue.giveAll: as many groups to each ring. */
#if defined(SLOW) && RINGS == 2
#define HOME(group) 1
#else
#define HOME(group) ((group) * RINGS / GROUPS)
#endif
inline postAll() {
    EACH(each, GROUPS,
        entries[PLACE(HOME(each), tickets[HOME(each)])] = ENTRY(each, tickets[HOME(each)]);
        tickets[HOME(each)] = NEXT(tickets[HOME(each)]))
}

/* DriverHeaderQueue.init */
inline begin() {
    postAll()
}

#ifndef HOSTILE

#ifdef RELAX_H3
/* Which thread read a slot: by its own order, what it reads is done before what it posts. */
byte reader[SLOTS];
#endif

/* DriverHeaderQueue.takePositions [H7 both ways] */
inline takePositions(count) {
    place = tickets[RING(rq)];
    tickets[RING(rq)] = (place + count) % POSITIONS;
#ifdef PLACES
    EACH(each, count, age[rq] = NEWER(age[rq], slotAge[NAMED(first, each)]));
#ifndef RELAX_H7
    age[rq] = NEWER(age[rq], ticketAge);
    ticketAge = age[rq];
#endif
    assert(age[rq] + count <= SLOTS);
    EACH(each, SLOTS, slotAge[each] = OLDER(slotAge[each], count));
    EACH(each, 2, age[each] = OLDER(age[each], count));
    ticketAge = OLDER(ticketAge, count)
#endif
}

/* Whoever read a slot says so by the group's word [H3], or posts the group itself. */
inline finish(slot) {
    assert(owner[slot] == isReported);
    owner[slot] = waits;
#ifdef RELAX_H3
    reader[slot] = _pid
#endif
}

/* A slot is given [H1 release]. */
inline give(slot) {
    assert(owner[slot] == waits);
    owner[slot] = isReturned;
    reported--;
#if defined(RELAX_H3) && !defined(RELAX_H1)
    reading[slot] = (reader[slot] == _pid -> false : reading[slot]);
#elif !defined(RELAX_H1)
    reading[slot] = false;
#endif
}

/* DriverHeaderQueue.post [H1 release] */
inline post(group) {
    EACH(each, GROUP, give((group) * GROUP + each));
    entries[PLACE(RING(rq), place)] = ENTRY(group, place);
    place = NEXT(place)
}

#if GROUP == 1

/* DriverHeaderQueue.retire: positions for all slots of a burst at once. */
inline retire() {
    atomic { takePositions(left) }
    do
    :: atomic {
        left > 0 ->
            finish(NAMED(first, 0));
            post(NAMED(first, 0));
            first = first / (SLOTS + 1);
            left--
        }
    :: atomic { left == 0 -> retiring--; first = 0; place = 0; checkRest(); break }
    od
}

#else

/*
 * DriverHeaderQueue.mark [H3 both ways]; a range that is a whole group needs none. `here`: how many
 * slots, and 4 if the group is complete by them.
 */
inline mark() {
    here = (left == 2 && NAMED(first, 0) % GROUP == 0 && NAMED(first, 1) == NAMED(first, 0) + 1
        -> 2 : 1);
    EACH(each, here, finish(NAMED(first, each)));
    if
    :: here == 2 -> here = 6
    :: else ->
        assert((word[NAMED(first, 0) / GROUP] & (1 << (NAMED(first, 0) % GROUP))) == 0);
        word[NAMED(first, 0) / GROUP] =
            word[NAMED(first, 0) / GROUP] | (1 << (NAMED(first, 0) % GROUP));
#ifdef POST_EARLY
        here = 5
#else
        here = (word[NAMED(first, 0) / GROUP] == 3 -> 5 : 1)
#endif
    fi
}

/* DriverHeaderQueue.retireInGroups */
inline retire() {
    do
    :: atomic { left > 0 -> mark() }
        if
        :: here > 4 ->
#ifndef WORD_LATE
            atomic { word[NAMED(first, 0) / GROUP] = 0 }
#endif
            atomic { takePositions(1) }
            atomic { post(NAMED(first, 0) / GROUP); place = 0 }
#ifdef WORD_LATE
            atomic { word[NAMED(first, 0) / GROUP] = 0 }
#endif
        :: else
        fi;
        atomic {
            left = left - here % 4;
            first = (here % 4 == 2 -> 0 : first / (SLOTS + 1));
            here = 0
        }
    :: atomic { left == 0 -> retiring--; first = 0; checkRest(); break }
    od
}

#endif

/* DriverHeaderQueue.finishReset: words and entries as at the beginning. */
inline giveAll() {
    EACH(each, SLOTS, assert(owner[each] == waits || owner[each] == isReported));
    EACH(each, SLOTS, owner[each] = isReturned; reading[each] = false);
    EACH(each, GROUPS, word[each] = 0);
    reported = 0;
#ifndef RESET_PLACES
    EACH(each, RINGS, tickets[each] = 0);
#endif
    postAll();
    checkRings()
}

#endif

/*
 * The driver's side of return-ring.pml: it takes places and writes entries, or, with HOSTILE, what
 * a refill finds is any.
 */
/* DriverHeaderQueue.prepareReset */
inline prepareReset() {
#ifdef RESET_KEEPS
    skip
#else
    zeroes = true
#endif
}

/* DriverHeaderQueue.init: the ring as it is when the driver gives all, and knows of nothing. */
inline begin() {
    EACH(each, SLOTS, ring[each] = ENTRY(each, each))
}

#ifndef HOSTILE

/* DriverHeaderQueue.takePositions [H7 both ways] */
inline takePositions() {
    place = tickets;
    tickets = FORWARD(tickets, left);
#ifdef PLACES
    EACH(each, left, age[rq] = NEWER(age[rq], slotAge[NAMED(first, each)]));
#ifndef RELAX_H7
    age[rq] = NEWER(age[rq], ticketAge);
    ticketAge = age[rq];
#endif
    assert(age[rq] + left <= SLOTS);
    EACH(each, SLOTS, slotAge[each] = OLDER(slotAge[each], left));
    EACH(each, 2, age[each] = OLDER(age[each], left));
    ticketAge = OLDER(ticketAge, left)
#endif
}

/* DriverHeaderQueue.post [H1 release] */
inline post(slot) {
    assert(owner[slot] == isReported);
    owner[slot] = isReturned;
    reported--;
#ifndef RELAX_H1
    reading[slot] = false;
#endif
    ring[SLOT(place)] = ENTRY(slot, place);
    place = FORWARD(place, 1)
}

/* DriverHeaderQueue.retire */
inline retire() {
    atomic { takePositions() }
    do
    :: atomic {
        left > 0 ->
            post(NAMED(first, 0));
            first = first / (SLOTS + 1);
            left--
        }
    :: atomic { left == 0 -> retiring--; first = 0; place = 0; checkRest(); break }
    od
}

/* DriverHeaderQueue.finishReset: all entries from the first place on. */
inline giveAll() {
    EACH(each, SLOTS, assert(owner[each] == waits || owner[each] == isReported));
    EACH(each, SLOTS, owner[each] = isReturned);
    reported = 0;
#ifndef RESET_PLACES
    tickets = 0;
#endif
    EACH(each, SLOTS, ring[SLOT(tickets + each)] = ENTRY(each, FORWARD(tickets, each)));
    tickets = FORWARD(tickets, SLOTS);
    checkRing()
}

#endif

/*
 * What the models of both returns share, as they end: the polls of a worker, the driver's harvest,
 * the control thread (reset.pml). Before it stand, for one return: claim and report, retire, the
 * steps of a reset, what a worker learns and forgets between polls, begin. With THREADS two threads
 * share the work of RQ 0's driver.
 */
proctype Worker(byte rq) {
    byte WORKER_LOCALS;
    bool runs;

    do
    /* RxLane.obey, WorkerControl.obey: acknowledges a command to pause [E1 release] ... */
    :: atomic { holds[rq] && !isHeld[rq] -> runs = false; isHeld[rq] = true }
    /* ... and takes one to run [E2 acquire]. */
    :: atomic {
        !holds[rq] && !runs ->
            runs = true;
#ifndef RELAX_E2
            catchUp()
#endif
        }
#ifdef HOLD_STALE
        isHeld[rq] = false
#endif
    /* RxLane.run, as far as it has seen: RxWorker.poll, RxBurst.place */
    :: atomic {
        runs ->
            assert(!stands[rq]);
            turning[rq] = true;
#if defined(PROGRESS) && !defined(SLOW)
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
        /* Nothing keeps the answer behind what the poll does. */
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
            endPoll();
            turning[rq] = false
        }
    od
}

#ifndef HOSTILE

/* RxDriver.harvest [V2 acquire] */
inline read(slot) {
    assert(owner[slot] == isReported);
    assert(!writing[slot]);
    assert(!reading[slot]);
    reading[slot] = true
}

/* RxDriver.forgetSlots: done with, and not retired. */
inline forget(slot) {
    assert(owner[slot] == isReported);
    owner[slot] = waits;
    reading[slot] = false
}

proctype Consumer(byte rq) {
    byte CONSUMER_LOCALS;

end:
    do
    :: atomic {
        nempty(used[rq]) ->
            used[rq]?first,left;
            EACH(each, left, read(NAMED(first, each)));
            harvested++
        }
        /* RxDriver.finish */
        if
#ifdef RESET_RETIRES
        :: atomic { harvested--; retiring++ }
#else
        :: atomic { !stops -> harvested--; retiring++ }
#endif
            retire()
        :: atomic {
            stops ->
                EACH(each, left, forget(NAMED(first, each)));
                first = 0; left = 0;
                harvested--
            }
        fi;
        buffers[rq]++
#if defined(PROGRESS) && !defined(SLOW)
    :: break /* harvests no more */
#endif
    od
}

#else

/* What it stores is any, whenever it is read; buffers come back, or not. */
proctype Evil() {
    byte first, count;
end:
    do
    :: atomic { used[0]?first,count -> buffers[0]++; first = 0; count = 0 }
    :: atomic { used[1]?first,count -> buffers[1]++; first = 0; count = 0 }
#ifdef PROGRESS
    :: break /* does nothing any more */
#endif
    od
}

#endif
#include "reset.pml"

init {
    byte each;

    atomic {
        begin();
        buffers[0] = BUFFERS;
        run Worker(0);
        run Worker(1);
#if RESETS + QUEUE_RESETS + RESUMES > 0
        run Control();
#endif
#ifdef HOSTILE
        run Evil()
#else
        run Consumer(0);
#ifdef THREADS
        run Consumer(0);
#endif
#ifndef SLOW
        run Consumer(1);
#endif
#ifdef MEMORY
        run Memory()
#endif
#endif
    }
}

#ifdef PROGRESS
/* RQ 0's worker begins one poll after the other, whatever the driver does, unless it is held. */
ltl goesOn { ([]<> (turned || holds[0])) && ([]<> (!turned || holds[0])) }
#endif

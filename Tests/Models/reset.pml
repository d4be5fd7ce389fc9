/*
 * Resets in both models, of RQs and of the header queue, and the change to another device, step by
 * step between driver and device. The driver's calls to the device are one after the other.
 */

/* RxLane.pause [E2 release]; it returns once that is answered: `isAcknowledged` [E1 acquire]. */
inline orderHold(rq) {
    if
    :: holds[rq]
    :: else ->
        holds[rq] = true
#ifndef HOLD_STALE
        ; isHeld[rq] = false
#endif
    fi
}

/* RxLane.release [E2 release], unless the RQ is held for another reason. */
inline release(rq) {
    if
    :: isReset[rq]
    :: else ->
        stands[rq] = false;
        holds[rq] = false
#ifndef HOLD_STALE
        ; isHeld[rq] = false
#endif
    fi
}

#ifdef HOSTILE
#define hasHarvested(rq) true
#else
#define hasHarvested(rq) empty(used[rq])
#endif

proctype Control() {
    byte rq, each, first, left;

end:
    do
    /* RxEngine.reset(rq), or remove: no slot of its is claimed any more. */
    :: atomic {
        if
        :: RESETS > 0 && !isReset[0] -> rq = 0
        :: RESETS > 1 && !isReset[1] -> rq = 1
        fi;
        isReset[rq] = true;
        orderHold(rq)
        }
        atomic { isHeld[rq] -> stands[rq] = true; assert(claimed[rq] == 0); rq = 0 }
    /* RxEngine.enable, or add, after the driver has harvested the old ring once more. */
    :: atomic {
        if
        :: isReset[0] && hasHarvested(0) -> rq = 0
        :: isReset[1] && hasHarvested(1) -> rq = 1
        fi;
        isReset[rq] = false;
        release(rq);
        rq = 0
        }
#if LOSSES
    /* It forgets the old ring: what that reports comes back by a reset of the header queue. */
    :: atomic {
        if
        :: isReset[0] && nempty(used[0]) -> rq = 0
        :: isReset[1] && nempty(used[1]) -> rq = 1
        fi;
        used[rq]?first,left;
        buffers[rq]++;
        rq = 0; first = 0; left = 0
        }
#endif
#if QUEUE_RESETS
    /* DriverHeaderQueue.prepareReset: whoever retires has come to an end; the tail stays. */
    :: atomic {
        !stops && retiring == 0 ->
            stops = true;
            prepareReset();
            orderHold(0)
        }
        /* RxEngine.reset(headerQueue) */
        atomic { isHeld[0] -> stands[0] = true; orderHold(1) }
        atomic { isHeld[1] -> stands[1] = true; resetDevice() }
        atomic { release(0) }
        atomic {
            release(1)
#ifdef HOSTILE
            ; stops = false
#endif
        }
#ifndef HOSTILE
    /* What was reported before is harvested and done with; then it gives all. */
    :: atomic {
#ifndef RESET_GIVES
        harvested == 0 && empty(used[0]) && empty(used[1]) &&
#endif
        stops && retiring == 0 ->
            giveAll();
            stops = false
        }
#endif
#endif
#if RESUMES
    /* Another device takes over: by return rings alone. */
    :: atomic { !stops -> orderHold(0) }
        atomic { isHeld[0] -> stands[0] = true; orderHold(1) }
        atomic { isHeld[1] -> stands[1] = true; resumeDevice() }
        atomic { release(0) }
        atomic { release(1) }
#endif
#if defined(HOSTILE) && defined(PROGRESS)
    :: break /* asks for nothing any more */
#endif
    od
}

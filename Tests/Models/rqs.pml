/*
 * What the models of both returns share, as they begin: the geometry, the RQs and the orders to
 * them.
 */
#ifndef SLOTS
#define SLOTS 4
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
/* Whether another device takes over where this one stops. */
#ifndef RESUMES
#define RESUMES 0
#endif
/* A view that is a lap behind needs more than two to tell. */
#ifndef LAPS
#define LAPS 2
#endif
#define TRIES   2
#define CURSORS (LAPS * SLOTS)

#define SLOT(cursor)          ((cursor) % SLOTS)
#define FORWARD(cursor, count) (((cursor) + (count)) % CURSORS)
#define DISTANCE(from, to)    (((to) + CURSORS - (from)) % CURSORS)

#define EACH(index, limit, body) \
    index = 0; do :: index < (limit) -> body; index++ :: else -> break od; index = 0

/* A shared word of the device. */
bool broken;

/* Slots in bursts in the making, by RQ, and slots that are the driver's. */
byte claimed[2], reported;

/* Memory: slots whose bytes are being written or read. */
bool writing[SLOTS], reading[SLOTS];

/* The RQs: bursts reported and not harvested, buffers the driver posted. */
chan used[2] = [BUFFERS] of { byte, byte };
byte buffers[2] = 1;

/*
 * WorkerControl: whether the last command is to pause, and whether that one is acknowledged.
 * `stands`: the control thread takes the RQ to be at a poll boundary; `turning`: it is between two.
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

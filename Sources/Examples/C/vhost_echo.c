/* The smallest vhost-user back end: no DPDK, no control plane of its own. Every queue pair returns
 * what the guest sends on it, its Ethernet addresses swapped.
 *
 *   cc vhost_echo.c -o vhost_echo -lcleave
 *   ./vhost_echo SOCKET [PAIRS]
 *
 * Any vhost-user front end connects to SOCKET, one at a time: QEMU, DPDK's virtio-user, User-Mode
 * Linux. One thread does everything, so events need no lock: while one is told, no packet moves.
 * Ends on SIGINT, SIGTERM. */
#include <cleave.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BURST = 32, MAXIMUM_PAIRS = 16 };

/* What the library has told. */
static struct pair {
    cleave_rq *rq;   /* the guest receives: we enqueue */
    cleave_txq *txq; /* the guest transmits: we dequeue */
    int kick_fd;     /* readable once the driver has kicked */
} pairs[MAXIMUM_PAIRS];
static unsigned long long echoed, lost;
static volatile sig_atomic_t stopping;

static void stop(int number) {
    (void)number;
    stopping = 1;
}

static int check(const char *what, int result, const void *handle) {
    char text[256] = "";
    if (result >= 0) return result;
    if (handle != NULL) cleave_last_error(handle, text, sizeof text);
    fprintf(stderr, "%s: %s: %s\n", what, cleave_strerror(result), text);
    exit(1);
}

static void log_line(void *user, int level, const char *message) {
    (void)user;
    fprintf(stderr, "libcleave %d: %s\n", level, message);
}

/* Called in cleave_vhost_poll and cleave_vhost_destroy. */
static void on_event(void *user, const cleave_vhost_event *event) {
    struct pair *pair = &pairs[event->pair];
    (void)user;
    switch (event->kind) {
    case CLEAVE_VHOST_QUEUE_STARTED:
        if (event->rq != NULL) pair->rq = event->rq;
        if (event->txq != NULL) pair->txq = event->txq;
        if (event->txq != NULL) pair->kick_fd = event->kick_fd;
        break;
    case CLEAVE_VHOST_QUEUE_STOPPING: /* nothing is out: echo() completes what it takes */
        if (event->rq != NULL) pair->rq = NULL;
        if (event->txq != NULL) pair->txq = NULL;
        break;
    case CLEAVE_VHOST_DISCONNECTED:
        printf("guest gone, %llu packets echoed, %llu lost\n", echoed, lost);
        fflush(stdout);
        echoed = lost = 0;
        break;
    }
}

/* Copies a packet out of guest memory, which the guest may change meanwhile, and turns it round. */
static uint32_t copy_out(unsigned char *frame, const cleave_packet *packet) {
    unsigned char address[6];
    uint32_t length = packet->length;
    memcpy(frame, packet->data, length);
    for (int i = 0; i < packet->more_count; i++) {
        memcpy(frame + length, packet->more[i].data, packet->more[i].length);
        length += packet->more[i].length;
    }
    memcpy(address, frame, 6);
    memcpy(frame, frame + 6, 6);
    memcpy(frame + 6, address, 6);
    return length;
}

/* Returns how many packets a guest had sent on a pair. What it has no buffers for is lost, as on a
 * wire: see CLEAVE_VHOST_DROP. */
static int echo(struct pair *pair) {
    static unsigned char frames[BURST][CLEAVE_MAX_PACKET_BYTES];
    cleave_packet packets[BURST];
    if (pair->txq == NULL) return 0;
    const int count = cleave_txq_dequeue_burst(pair->txq, packets, BURST, NULL);
    if (count <= 0) return 0;
    for (int i = 0; i < count; i++) {
        const uint32_t length = copy_out(frames[i], &packets[i]);
        memset(&packets[i], 0, sizeof packets[i]);
        packets[i].data = frames[i];
        packets[i].length = length;
    }
    cleave_txq_complete(pair->txq, (uint32_t)count, NULL);
    if (pair->rq == NULL) {
        lost += (unsigned)count;
        return count;
    }
    cleave_rq_enqueue_burst(pair->rq, packets, (uint32_t)count, NULL);
    for (int i = 0; i < count; i++) {
        if (packets[i].flags & CLEAVE_PACKET_DROPPED) lost++;
        else echoed++;
    }
    return count;
}

static int pass(int pair_count) {
    int count = 0;
    for (int i = 0; i < pair_count; i++) count += echo(&pairs[i]);
    return count;
}

static void set_kicks(int pair_count, int enabled) {
    for (int i = 0; i < pair_count; i++) {
        if (pairs[i].txq != NULL) cleave_txq_set_kicks(pairs[i].txq, enabled);
    }
}

/* Waits until the library has something to do, or a driver kicks. */
static void rest(int vhost_fd, int pair_count) {
    struct pollfd waits[1 + MAXIMUM_PAIRS];
    waits[0].fd = vhost_fd;
    waits[0].events = POLLIN;
    for (int i = 0; i < pair_count; i++) {
        waits[1 + i].fd = pairs[i].txq == NULL ? -1 : pairs[i].kick_fd;
        waits[1 + i].events = POLLIN;
    }
    set_kicks(pair_count, 1);
    /* What was posted before the driver saw that is not kicked for. */
    if (pass(pair_count) == 0 && !stopping) poll(waits, 1 + (nfds_t)pair_count, 1000);
    set_kicks(pair_count, 0);
}

int main(int argc, char **argv) {
    cleave_context_config callbacks = CLEAVE_INIT(cleave_context_config);
    cleave_vhost_config config = CLEAVE_INIT(cleave_vhost_config);
    cleave_context *cleave;
    cleave_vhost *vhost;
    const int pair_count = argc > 2 ? atoi(argv[2]) : 1;
    if (argc < 2 || pair_count < 1 || pair_count > MAXIMUM_PAIRS) {
        fprintf(stderr, "usage: %s SOCKET [PAIRS, 1 to %d]\n", argv[0], MAXIMUM_PAIRS);
        return 2;
    }
    /* Whoever started us may have blocked them. */
    sigset_t ending;
    sigemptyset(&ending);
    sigaddset(&ending, SIGINT);
    sigaddset(&ending, SIGTERM);
    sigprocmask(SIG_UNBLOCK, &ending, NULL);
    signal(SIGINT, stop);
    signal(SIGTERM, stop);
    callbacks.log = log_line;
    callbacks.log_level = CLEAVE_LOG_INFO;
    check("context", cleave_context_create(&callbacks, &cleave), NULL);
    config.path = argv[1];
    config.queue_pairs = (uint32_t)pair_count;
    config.flags = CLEAVE_VHOST_DROP;
    config.event = on_event;
    check("vhost", cleave_vhost_create(cleave, &config, &vhost), cleave);
    printf("listening at %s\n", argv[1]);
    fflush(stdout);
    const int fd = check("fd", cleave_vhost_get_fd(vhost), vhost);
    while (!stopping) {
        check("poll", cleave_vhost_poll(vhost), vhost);
        if (pass(pair_count) == 0) rest(fd, pair_count);
    }
    /* Tells the end of every queue. */
    check("destroy", cleave_vhost_destroy(vhost), vhost);
    check("destroy", cleave_context_destroy(cleave), cleave);
    return 0;
}

/* What a program may do to the process that libcleave is in: fork while other threads create and
 * destroy, run out of descriptors, use small stacks. */
#define _GNU_SOURCE
#include <cleave.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "guest.h"

static struct guest *new_guest(void) {
    struct guest *guest;
    if (posix_memalign((void **)&guest, 4096, sizeof *guest) != 0) abort();
    post(guest, 200, 2); /* WRITE */
    return guest;
}

static int make_memory(cleave_context *context, struct guest *guest, cleave_memory **memory) {
    cleave_region region;
    cleave_memory_config config = CLEAVE_INIT(cleave_memory_config);
    memset(&region, 0, sizeof region);
    region.guest_address = BASE;
    region.size = sizeof *guest;
    region.host = guest;
    config.region_count = 1;
    config.regions = &region;
    return cleave_memory_create(context, &config, memory);
}

static cleave_rq_config rq_config(struct guest *guest) {
    cleave_rq_config config = CLEAVE_INIT(cleave_rq_config);
    config.features = CLEAVE_F_VERSION_1 | CLEAVE_F_MRG_RXBUF;
    config.size = RING;
    config.descriptor_area = guest->table;
    config.driver_area = guest->avail;
    config.device_area = guest->used;
    return config;
}

/* Calls everything once; 0, or the line of the first call that failed. */
static int use_everything(void) {
#define TRY(expression, wanted) do { if ((expression) != (wanted)) return __LINE__; } while (0)
    struct guest *guest = new_guest();
    cleave_context *context;
    cleave_memory *memory;
    cleave_header_queue *headers;
    cleave_rq *rq;
    cleave_txq *txq;
    cleave_engine *engine;
    cleave_lane *lane;
    unsigned char frame[142] = {0};
    cleave_packet packets[2];
    cleave_completion completion;
    cleave_counters counters = CLEAVE_INIT(cleave_counters);
    char text[256];
    TRY(cleave_context_create(NULL, &context), 0);
    TRY(make_memory(context, guest, &memory), 0);
    cleave_header_queue_config header_config = CLEAVE_INIT(cleave_header_queue_config);
    header_config.slot_size = 128;
    header_config.slot_count = RING;
    header_config.slots = guest->slots;
    header_config.control = guest->control;
    TRY(cleave_header_queue_create(memory, &header_config, &headers), 0);
    cleave_rq_config config = rq_config(guest);
    config.method = CLEAVE_METHOD_D;
    config.report = CLEAVE_REPORT_USED_LENGTH;
    config.header_queue = headers;
    TRY(cleave_rq_create(memory, &config, &rq), 0);
    memset(packets, 0, sizeof packets);
    packets[0].data = frame;
    packets[0].length = sizeof frame;
    packets[1] = packets[0];
    TRY(cleave_rq_enqueue_burst(rq, packets, 2, NULL), 2);
    TRY(cleave_rq_get_counters(rq, &counters), 0);
    TRY(cleave_rq_enqueue_burst(rq, NULL, 2, NULL), -EINVAL);
    TRY(cleave_last_error(rq, text, sizeof text) > 0, 1);
    TRY(cleave_header_queue_reset(headers), 0);
    TRY(cleave_rq_stop(rq, NULL), 0);
    TRY(cleave_rq_destroy(rq), 0);
    post(guest, 200, 0); /* to be read */
    cleave_txq_config txq_config = CLEAVE_INIT(cleave_txq_config);
    txq_config.features = config.features;
    txq_config.size = RING;
    txq_config.descriptor_area = guest->table;
    txq_config.driver_area = guest->avail;
    txq_config.device_area = guest->used;
    TRY(cleave_txq_create(memory, &txq_config, &txq), 0);
    TRY(cleave_txq_dequeue_burst(txq, packets, 2, NULL), 2);
    TRY(cleave_txq_complete(txq, 2, NULL), 0);
    TRY(cleave_txq_destroy(txq), 0);
    post(guest, 200, 2);
    config = rq_config(guest);
    cleave_engine_config engine_config = CLEAVE_INIT(cleave_engine_config);
    engine_config.queue_count = 1;
    engine_config.queues = &config;
    TRY(cleave_engine_create(memory, &engine_config, &engine), 0);
    TRY(cleave_engine_get_lane(engine, 0, &lane), 0);
    memset(packets, 0, sizeof packets);
    packets[0].data = frame;
    packets[0].length = sizeof frame;
    TRY(cleave_lane_submit(lane, packets, 1), 1);
    TRY(cleave_lane_turn(lane), 1);
    TRY(cleave_engine_start(engine), 0);
    TRY(cleave_engine_drain(engine, 1000), 0);
    TRY(cleave_engine_stop(engine), 0);
    TRY(cleave_lane_reap(lane, &completion, 1), 1);
    TRY(cleave_engine_destroy(engine), 0);
    TRY(cleave_header_queue_destroy(headers), 0);
    TRY(cleave_memory_destroy(memory), 0);
    TRY(cleave_context_destroy(context), 0);
    free(guest);
    return 0;
#undef TRY
}

/* ---- Fork ---------------------------------------------------------------------------------- */

static int is_over;

static void *create_and_destroy(void *argument) {
    struct guest *guest = new_guest();
    (void)argument;
    while (!__atomic_load_n(&is_over, __ATOMIC_RELAXED)) {
        cleave_context *context;
        cleave_memory *memory;
        cleave_rq *rq;
        cleave_rq_config config = rq_config(guest);
        if (cleave_context_create(NULL, &context) != 0) abort();
        if (make_memory(context, guest, &memory) != 0) abort();
        if (cleave_rq_create(memory, &config, &rq) != 0) abort();
        if (cleave_rq_destroy(rq) != 0 || cleave_memory_destroy(memory) != 0) abort();
        if (cleave_context_destroy(context) != 0) abort();
    }
    free(guest);
    return NULL;
}

static void fork_among_threads(void) {
    enum { THREADS = 3, FORKS = 100 };
    pthread_t threads[THREADS];
    cleave_context *context;
    EXPECT(cleave_context_create(NULL, &context), 0);
    for (int i = 0; i < THREADS; i++) pthread_create(&threads[i], NULL, create_and_destroy, NULL);
    for (int i = 0; i < FORKS; i++) {
        const pid_t child = fork();
        if (child == 0) {
            /* The parent's handle is stale here; the child makes its own. */
            alarm(20);
            if (cleave_context_destroy(context) != -EBADF) _exit(1);
            _exit(use_everything() == 0 ? 0 : 2);
        }
        int status = -1;
        waitpid(child, &status, 0);
        EXPECT(status, 0);
        if (failures != 0) break;
    }
    __atomic_store_n(&is_over, 1, __ATOMIC_RELAXED);
    for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
    EXPECT(cleave_context_destroy(context), 0);
}

/* ---- Limits -------------------------------------------------------------------------------- */

static void without_descriptors(void) {
    struct guest *guest = new_guest();
    cleave_context *context;
    cleave_memory *memory;
    cleave_engine *engine;
    cleave_rq *rq;
    struct rlimit before, none;
    int ends[2];
    EXPECT(cleave_context_create(NULL, &context), 0);
    EXPECT(make_memory(context, guest, &memory), 0);
    EXPECT(pipe(ends), 0);
    EXPECT(getrlimit(RLIMIT_NOFILE, &before), 0);
    none = before;
    none.rlim_cur = (rlim_t)ends[1] + 1;
    EXPECT(setrlimit(RLIMIT_NOFILE, &none), 0);
    cleave_rq_config config = rq_config(guest);
    cleave_engine_config engine_config = CLEAVE_INIT(cleave_engine_config);
    engine_config.queue_count = 1;
    engine_config.queues = &config;
    EXPECT(cleave_engine_create(memory, &engine_config, &engine), -EMFILE);
    config.flags = CLEAVE_RQ_CALL_FD;
    config.call_fd = ends[1];
    EXPECT(cleave_rq_create(memory, &config, &rq), -EMFILE);
    EXPECT(setrlimit(RLIMIT_NOFILE, &before), 0);
    EXPECT(cleave_rq_create(memory, &config, &rq), 0);
    EXPECT(cleave_rq_destroy(rq), 0);
    EXPECT(cleave_memory_destroy(memory), 0);
    EXPECT(cleave_context_destroy(context), 0);
    free(guest);
}

static void *on_small_stack(void *result) {
    *(int *)result = use_everything();
    return NULL;
}

static void small_stack(size_t byte_count) {
    pthread_attr_t attributes;
    pthread_t thread;
    int line = -1;
    pthread_attr_init(&attributes);
    EXPECT(pthread_attr_setstacksize(&attributes, byte_count), 0);
    EXPECT(pthread_create(&thread, &attributes, on_small_stack, &line), 0);
    EXPECT(pthread_join(thread, NULL), 0);
    EXPECT(line, 0);
    pthread_attr_destroy(&attributes);
}

int main(int argc, char **argv) {
    const size_t stack = argc > 1 ? (size_t)atol(argv[1]) * 1024 : 64 * 1024;
    (void)argv;
    small_stack(stack);
    without_descriptors();
    fork_among_threads();
    if (failures == 0) printf("process: everything holds\n");
    return failures != 0;
}

#define _GNU_SOURCE
#include "ring_bench.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <time.h>

typedef struct ring_end {
    const ring_contender *contender;
    const ring_job *job;
    ring_tally *tally;
    atomic_int *ready;
    double start, stop;
    bool produces;
} ring_end;

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

static void *run_end(void *argument) {
    ring_end *end = argument;
    atomic_fetch_add(end->ready, 1);
    while (atomic_load(end->ready) < 2) ring_bench_idle(end->job->yields);
    end->start = now();
    if (end->produces) {
        end->contender->produce(end->job);
    } else {
        end->contender->consume(end->job, end->tally);
    }
    end->stop = now();
    return NULL;
}

static int start_end(pthread_t *thread, ring_end *end, int cpu) {
    cpu_set_t cpus;
    if (cpu < 0 || cpu >= CPU_SETSIZE) return EINVAL;
    CPU_ZERO(&cpus);
    CPU_SET(cpu, &cpus);
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    int error = pthread_attr_setaffinity_np(&attributes, sizeof cpus, &cpus);
    if (error == 0) error = pthread_create(thread, &attributes, run_end, end);
    pthread_attr_destroy(&attributes);
    return error;
}

int ring_bench_run(const ring_contender *contender, const ring_job *job, int producer_cpu,
                   int consumer_cpu, ring_tally *tally, double *seconds) {
    atomic_int ready = 0;
    ring_end producer = {contender, job, tally, &ready, 0, 0, true};
    ring_end consumer = {contender, job, tally, &ready, 0, 0, false};
    // The producer starts last: a failure before it leaves a consumer that waits for a partner,
    // which an empty job sends home.
    ring_job nothing = *job;
    nothing.count = 0;
    pthread_t threads[2];
    int error = start_end(&threads[0], &consumer, consumer_cpu);
    if (error != 0) return error;
    error = start_end(&threads[1], &producer, producer_cpu);
    if (error != 0) {
        consumer.job = &nothing;
        atomic_fetch_add(&ready, 1);
    } else {
        pthread_join(threads[1], NULL);
    }
    pthread_join(threads[0], NULL);
    const double start = producer.start > consumer.start ? producer.start : consumer.start;
    *seconds = consumer.stop - start;
    return error;
}

int ring_bench_cpus(int *cpus, int limit) {
    cpu_set_t allowed;
    int count = 0;
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) return 0;
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET(cpu, &allowed)) continue;
        if (count < limit) cpus[count] = cpu;
        count++;
    }
    return count;
}

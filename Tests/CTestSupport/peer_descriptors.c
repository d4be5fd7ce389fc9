#define _GNU_SOURCE
#include "peer_descriptors.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <time.h>

int peer_eventfd(unsigned value) { return eventfd(value, 0); }

int peer_memfd(void) { return memfd_create("peer", 0); }

int peer_timerfd(void) { return timerfd_create(CLOCK_MONOTONIC, 0); }

int peer_epoll(void) { return epoll_create1(0); }

int peer_signalfd(void) {
    sigset_t none;
    sigemptyset(&none);
    return signalfd(-1, &none, 0);
}

int peer_path(void) { return open("/", O_PATH); }

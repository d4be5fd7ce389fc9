/* Prints the milliseconds of loading a shared library into a process that has none of it yet. */
#define _POSIX_C_SOURCE 200809L
#include <dlfcn.h>
#include <stdio.h>
#include <time.h>

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec * 1e3 + (double)time.tv_nsec / 1e6;
}

int main(int count, char **arguments)
{
    if (count != 2) {
        fprintf(stderr, "usage: load LIBRARY\n");
        return 2;
    }
    double start = now();
    void *library = dlopen(arguments[1], RTLD_NOW | RTLD_LOCAL);
    double end = now();
    if (library == NULL) {
        fprintf(stderr, "%s\n", dlerror());
        return 1;
    }
    printf("%.2f\n", end - start);
    return 0;
}

// Lets DPDK's vhost library offer fewer features, for testpmd's ports of net_vhost, which have no
// argument for that. User-Mode Linux takes every bit that is offered: a control queue, which the
// library leaves to its front-end, would never be served there, and packed rings begin otherwise.
// To be preloaded, with the bits in VHOST_FEATURES_OFF; see dpdk-back-end.
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

static void *function(const char *name)
{
    // Loaded by testpmd as a plug-in's dependency, the library is no successor of this object.
    void *library = dlopen("librte_vhost.so.23", RTLD_NOW | RTLD_NOLOAD);
    void *found = library ? dlsym(library, name) : NULL;
    if (!found) {
        fprintf(stderr, "vhost-mask: %s is not to be found: %s\n", name, dlerror());
        exit(1);
    }
    return found;
}

// The last call before the socket is there.
int rte_vhost_driver_start(const char *path)
{
    int (*start)(const char *) = (int (*)(const char *))function(__func__);
    int (*disable)(const char *, uint64_t) =
        (int (*)(const char *, uint64_t))function("rte_vhost_driver_disable_features");
    const char *bits = getenv("VHOST_FEATURES_OFF");
    if (bits && disable(path, strtoull(bits, NULL, 0)) != 0) {
        fprintf(stderr, "vhost-mask: the features of %s cannot be changed\n", path);
        exit(1);
    }
    return start(path);
}

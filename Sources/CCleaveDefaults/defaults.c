// C's #embed reads the files themselves: SwiftPM takes resources from a target's own folder alone,
// and a link to them there does not survive every way in which sources are carried.
#include "cleave_defaults.h"

// C23's, which Swift's compiler knows in every version of C.
#pragma clang diagnostic ignored "-Wc23-extensions"

#define FILE_OF(array) ((struct cleave_file){array, sizeof(array)})

static const unsigned char bench[] = {
#embed "../../configs/bench/default.yaml"
};
static const unsigned char methods[] = {
#embed "../../configs/bench/methods.yaml"
};
static const unsigned char scale[] = {
#embed "../../configs/bench/scale.yaml"
};
static const unsigned char latency[] = {
#embed "../../configs/bench/latency.yaml"
};
static const unsigned char profile[] = {
#embed "../../configs/profile/default.yaml"
};

struct cleave_file cleave_defaults_bench(void) { return FILE_OF(bench); }
struct cleave_file cleave_defaults_methods(void) { return FILE_OF(methods); }
struct cleave_file cleave_defaults_scale(void) { return FILE_OF(scale); }
struct cleave_file cleave_defaults_latency(void) { return FILE_OF(latency); }
struct cleave_file cleave_defaults_profile(void) { return FILE_OF(profile); }

// Configurations that cleave-bench runs when none is named, as the files under configs were when
// the program was built: for a program that was copied out of its build directory.
#ifndef CLEAVE_DEFAULTS_H
#define CLEAVE_DEFAULTS_H

#include <stddef.h>

// Bytes of a file. They live as long as the program.
struct cleave_file {
    const unsigned char *bytes;
    size_t byte_count;
};

// configs/bench/default.yaml, methods.yaml, scale.yaml and latency.yaml.
struct cleave_file cleave_defaults_bench(void);
struct cleave_file cleave_defaults_methods(void);
struct cleave_file cleave_defaults_scale(void);
struct cleave_file cleave_defaults_latency(void);

// configs/profile/default.yaml.
struct cleave_file cleave_defaults_profile(void);

#endif

// What programs and results say of the build that they come from.
#ifndef CLEAVE_BUILD_H
#define CLEAVE_BUILD_H

// The version of the programs, such as "0.2.0".
const char *cleave_build_version(void);

// The commit's full name, or NULL where the build was not told: .ci/with-headers tells it.
const char *cleave_build_commit(void);

// Whether sources differed from that commit: 1, 0, or -1 where the build was not told.
int cleave_build_dirty(void);

// The processors that C code was compiled for, such as "x86-64-v3".
const char *cleave_build_march(void);

#endif

// What Swift cannot reach by itself: instructions, and calls behind macros the importer drops.
#pragma once

#include "cleave_cpu.h"
#include "cleave_probe.h"
#include "cleave_system.h"

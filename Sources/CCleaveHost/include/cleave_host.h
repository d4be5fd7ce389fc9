// Functions that Swift cannot call itself: instructions, and macros that the importer drops.
#pragma once

#include "cleave_cpu.h"
#include "cleave_ports.h"
#include "cleave_probe.h"
#include "cleave_socket.h"
#include "cleave_system.h"

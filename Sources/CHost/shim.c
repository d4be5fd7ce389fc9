#include "cleave_host.h"

#include "dpdk_bench.h"

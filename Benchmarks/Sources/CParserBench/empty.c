#include "parser_bench.h"

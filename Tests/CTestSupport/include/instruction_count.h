// Switches valgrind's counting of instructions. Without valgrind, or its headers, nothing happens.
#ifndef CLEAVE_INSTRUCTION_COUNT_H
#define CLEAVE_INSTRUCTION_COUNT_H

/// Counting starts, or stops; run callgrind with --collect-atstart=no.
void cleave_count_toggle(void);

/// Writes what was counted to a file of its own, under `name`, and starts again at 0.
void cleave_count_dump(const char *name);

#endif

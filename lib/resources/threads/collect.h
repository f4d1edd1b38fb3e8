// What a thread says of itself, and what becomes of it.
#pragma once

#include "lib/resources/collector.h"
#include "lib/resources/threads/record.h"

namespace ckpt {

// By the thread itself, in its handler: what the kernel tells nobody else.
void describe_thread_state(format::ThreadStateRecord* state);

// By the leader: adds the record of a standing thread, or refuses the thread by name (Collector::code).
void add_thread_state(Collector* collector, const format::ThreadStateRecord& state);

}  // namespace ckpt

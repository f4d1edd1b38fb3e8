// Every thread of the process stands in our handler, or none does.
#pragma once

#include "lib/resources/collector.h"
#include "lib/runtime/state.h"

namespace ckpt {

// The leader stops all other threads; `timeout_ns` bounds it. False: `message` names the thread that does not stop, and nobody
// has been left standing once thaw() is called.
bool freeze_others(Arena* arena, std::int64_t timeout_ns, Message* message);

// All may go on.
void thaw();

// A stopped thread's side, in its handler: describes itself, stands until thaw(), puts its signals back.
void park(unsigned slot_index, std::uint32_t generation, int signal, ::ucontext* context);

// What every thread, the leader included, says of itself; the slot's facts must be set.
void describe_thread(ThreadSlot* slot, ::ucontext* context);
// Takes the calling thread's own pending signals out, to see them.
void drain_leader(ThreadSlot* slot);
// Puts the pending signals that were taken out back into the queue.
void requeue_pending(ThreadSlot* slot);

// The slot of a thread, made if needed; nullptr: no memory.
ThreadSlot* slot_for(int tid, unsigned* index);

// Threads that stand now, the leader among them: calls visit(slot, argument) for each.
void for_each_frozen(void (*visit)(ThreadSlot*, void*), void* argument);

}  // namespace ckpt

// No EINTR shows: what was interrupted by our signal, and by it alone, is put back to where it was.
#pragma once

#include "lib/runtime/state.h"

namespace ckpt {

// Called in the handler of the thread itself, before it stands: rewinds an interrupted call in `context`, with what is left
// of a relative timeout. `slot` gives the facts and keeps the timeout.
void hide_interruption(::ucontext* context, ThreadSlot* slot);

// The same for a signal of ours that came too late to stop anybody: nothing is known but the frame.
void hide_stray_interruption(::ucontext* context);

}  // namespace ckpt

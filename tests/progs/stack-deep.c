// The main stack: a megabyte of frames with contents, and six more megabytes of growth after the restart.
#include "victim.h"

enum { kFrame = 16 * 1024 };

// Goes down to the bottom, calls `at_bottom` there, and checks each frame on the way back up.
__attribute__((noinline)) static void descend(int frames, uint64_t seed, void (*at_bottom)(void)) {
  volatile char local[kFrame];
  pattern_fill(local, kFrame, seed + (uint64_t)frames);
  if (frames > 0) {
    descend(frames - 1, seed, at_bottom);
  } else if (at_bottom != NULL) {
    at_bottom();
  }
  CHECK(pattern_holds(local, kFrame, seed + (uint64_t)frames));
}

static void grow(void) { descend(6 * 64, 100000, NULL); }

static void wait_deep(void) {
  victim_wait(NULL);
  // Growth is one way, so only the last restart shows it from a stack that never was that deep.
  grow();
  if (victim_broken()) *((volatile char*)__builtin_frame_address(0) + 2 * kFrame) ^= 1;
}

int main(void) {
  descend(64, 1, wait_deep);
  victim_pass();
}

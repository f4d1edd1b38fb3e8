// Who is given the writers, whose parents end at once. In a job of several processes a writer of one would come to another that is
// a subreaper, and be seen there as a child. So such a one is none while all stand and fork: the next above, or init, gets them.
#pragma once

#include "lib/runtime/state.h"

namespace ckpt {

inline constexpr int kPrSetChildSubreaper = 36, kPrGetChildSubreaper = 37;

inline bool is_subreaper() {
  int is_set = 0;
  sys::call(__NR_prctl, kPrGetChildSubreaper, &is_set).ignore();
  return is_set != 0;
}

// From `begin`, which comes when the process is described and before anybody forks, to the end of its life.
class OrphansElsewhere {
 public:
  OrphansElsewhere() = default;
  ~OrphansElsewhere() {
    if (is_changed_) sys::call(__NR_prctl, kPrSetChildSubreaper, 1).ignore();
  }
  OrphansElsewhere(const OrphansElsewhere&) = delete;
  OrphansElsewhere& operator=(const OrphansElsewhere&) = delete;

  void begin() {
    if (is_changed_ || !is_subreaper()) return;
    is_changed_ = !sys::call(__NR_prctl, kPrSetChildSubreaper, 0).failed();
  }

 private:
  bool is_changed_ = false;
};

}  // namespace ckpt

// In which order the kernel gives out process numbers (alloc_pid, kernel/pid.c): upwards, those that are taken left out, and behind
// the largest (kernel.pid_max − 1) it begins again at 300. So numbers are a circle, for whoever has to wait until one comes round.
#pragma once

namespace ckpt::engine {

inline constexpr long kFirstNumber = 300;  // of each round but the first of a namespace

// begin ≤ number < end, on the circle.
constexpr bool is_in_round(long begin, long number, long end) {
  return begin <= end ? begin <= number && number < end : begin <= number || number < end;
}

// Where the last kNear free numbers before `wanted` begin: from there on each try should be a real one, as somebody else may take
// some of them at the same time.
template <class IsTaken>
long begin_of_real_tries(long wanted, long pid_max, IsTaken is_taken) {
  constexpr int kNear = 8;
  long begin = wanted;
  for (int free = 0; free < kNear && begin > 1; free += is_taken(begin) ? 0 : 1) {
    begin = begin == kFirstNumber ? pid_max - 1 : begin - 1;
    if (begin == wanted) break;
  }
  return begin;
}

}  // namespace ckpt::engine

// What was one attachment becomes one again: shmdt(2) takes together what comes from one shmat(2).
#pragma once

#include "restart/engine/engine.h"

namespace ckpt::engine {

// Maps areas in ascending order. The attachment at hand is kept for the next one that belongs to it.
class SegmentMapper {
 public:
  SegmentMapper() = default;
  void map(const Engine& engine, const format::HandArea& area, std::int32_t segment);
  void release();

 private:
  SegmentMapper(std::int32_t segment, std::uint64_t base, bool is_writable, std::uint64_t view)
      : segment_(segment), base_(base), is_writable_(is_writable), view_(view) {}

  std::int32_t segment_ = -1;  // −1: none
  std::uint64_t base_ = 0;     // where the segment begins, or would
  bool is_writable_ = false;
  std::uint64_t view_ = 0;
};

}  // namespace ckpt::engine

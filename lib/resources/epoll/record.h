// epoll: what an epoll(7) descriptor waits for.
#pragma once

#include <cstdint>

namespace ckpt::format {

// EpollEntry[] follows.
struct EpollState {
  std::uint32_t busy_poll_us;  // struct epoll_params (EPIOCGPARAMS)
  std::uint16_t busy_poll_budget;
  std::uint8_t prefer_busy_poll;
  std::uint8_t reserved[9];
};

struct EpollEntry {
  std::int32_t fd;  // the number at the time of EPOLL_CTL_ADD
  std::uint32_t events;
  std::uint64_t data;
  std::uint32_t description;  // DescriptionRecord::id where `fd` leads elsewhere by now; 0: what `fd` leads to
  std::uint32_t consumed;     // edge-triggered: events that are there and have been reported
};

// Of `events`: what stays when a one-shot entry has fired (EPOLLWAKEUP, ONESHOT, ET, EXCLUSIVE). Nothing else set: it has.
inline constexpr std::uint32_t kEpollPrivate = 0xf0000000U;
inline constexpr std::uint32_t kEpollExclusive = 1U << 28, kEpollOneShot = 1U << 30, kEpollEdge = 1U << 31;

}  // namespace ckpt::format

// Multicast groups: the kernel lists those of each interface, and a socket tells for each of them whether it has joined it.
#include <linux/in.h>
#include <linux/in6.h>

#include "lib/resources/sockets/collect.h"
#include "lib/sys/proc-file.h"

namespace ckpt {

namespace {

using format::SocketOption;
using format::SocketState;

constexpr int kIp = 0, kIpv6 = 41;
constexpr int kAddMembership = 35, kAddMembership6 = 20;  // IP_ADD_MEMBERSHIP, IPV6_ADD_MEMBERSHIP
constexpr int kSourceFilter = 48;                         // MCAST_MSFILTER

// struct group_filter, without sources.
struct Filter {
  std::uint32_t interface;
  std::uint32_t padding;
  alignas(8) std::uint8_t group[128];
  std::uint32_t mode;  // 0: all but those named
  std::uint32_t source_count;
};

enum class Answer { kNo, kYes, kFiltered };

Answer has_joined(int fd, int level, Filter* filter) {
  unsigned size = sizeof(*filter);
  if (sys::call(__NR_getsockopt, fd, level, kSourceFilter, filter, &size).failed()) return Answer::kNo;
  return filter->mode == 0 && filter->source_count == 0 ? Answer::kYes : Answer::kFiltered;
}

Answer add_group(int fd, std::uint32_t interface, std::uint32_t group, Buffer* state) {
  Filter filter{};
  filter.interface = interface;
  const sockaddr_in address{kAfInet, 0, {group}, {}};
  memcpy(filter.group, &address, sizeof(address));
  const Answer answer = has_joined(fd, kIp, &filter);
  if (answer != Answer::kYes) return answer;
  SocketOption option{kIp, kAddMembership, sizeof(ip_mreqn), {}};
  const ip_mreqn request{{group}, {0}, static_cast<int>(interface)};
  memcpy(option.value, &request, sizeof(request));
  state->add(&option, sizeof(option));
  return answer;
}

Answer add_group6(int fd, std::uint32_t interface, const in6_addr& group, Buffer* state) {
  Filter filter{};
  filter.interface = interface;
  sockaddr_in6 address{};
  address.sin6_family = kAfInet6;
  address.sin6_addr = group;
  memcpy(filter.group, &address, sizeof(address));
  const Answer answer = has_joined(fd, kIpv6, &filter);
  if (answer != Answer::kYes) return answer;
  SocketOption option{kIpv6, kAddMembership6, sizeof(ipv6_mreq), {}};
  const ipv6_mreq request{group, static_cast<int>(interface)};
  memcpy(option.value, &request, sizeof(request));
  state->add(&option, sizeof(option));
  return answer;
}

unsigned hex_digit(char c) { return static_cast<unsigned>(c >= 'a' ? c - 'a' + 10 : c >= 'A' ? c - 'A' + 10 : c - '0'); }

// Lines of an interface begin with its number, those of its groups with a tab.
Answer add_groups(int fd, Buffer* state) {
  char buffer[1024];
  sys::LineReader lines("/proc/thread-self/net/igmp", buffer);
  std::uint32_t interface = 0;
  for (const char* line = lines.next(); line != nullptr; line = lines.next()) {
    if (line[0] >= '0' && line[0] <= '9') interface = static_cast<std::uint32_t>(sys::parse_decimal(&line));
    if (line[0] != '\t' || interface == 0) continue;
    while (*line == '\t') ++line;
    std::uint32_t group = 0;  // as it stands in memory
    for (unsigned i = 0; i < 8 && line[i] != '\0'; ++i) group = group << 4 | hex_digit(line[i]);
    if (add_group(fd, interface, group, state) == Answer::kFiltered) return Answer::kFiltered;
  }
  return Answer::kYes;
}

// Number and name of the interface, then the address in 32 digits.
Answer add_groups6(int fd, Buffer* state) {
  char buffer[1024];
  sys::LineReader lines("/proc/thread-self/net/igmp6", buffer);
  for (const char* line = lines.next(); line != nullptr; line = lines.next()) {
    const auto interface = static_cast<std::uint32_t>(sys::parse_decimal(&line));
    sys::skip_spaces(&line);
    while (*line != ' ' && *line != '\0') ++line;
    sys::skip_spaces(&line);
    if (strlen(line) < 32) continue;
    in6_addr group{};
    auto* bytes = reinterpret_cast<std::uint8_t*>(&group);
    for (unsigned i = 0; i < 16; ++i)
      bytes[i] = static_cast<std::uint8_t>(hex_digit(line[2 * i]) << 4 | hex_digit(line[2 * i + 1]));
    if (add_group6(fd, interface, group, state) == Answer::kFiltered) return Answer::kFiltered;
  }
  return Answer::kYes;
}

}  // namespace

bool collect_groups(Collector* collector, int fd, const SocketState& facts, Buffer* state) {
  if ((facts.type != kDatagram && facts.type != kRaw) || (facts.family != kAfInet && facts.family != kAfInet6)) return true;
  Answer answer = add_groups(fd, state);
  if (answer != Answer::kFiltered && facts.family == kAfInet6) answer = add_groups6(fd, state);
  if (answer != Answer::kFiltered) return true;
  return refuse_socket(collector, fd, facts, "a multicast group with chosen sources can't be saved; leave it and try again");
}

}  // namespace ckpt

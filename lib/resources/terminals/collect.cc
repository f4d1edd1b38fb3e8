// See collect.h. Freestanding; all threads of the job standing, so nobody sees what happens to a pair here.
#include "lib/resources/terminals/collect.h"

#include "lib/resources/terminals/pair.h"
#include "lib/sys/proc-file.h"

namespace ckpt {

namespace {

using format::SlaveUse;
using format::TerminalMasterState;
using format::TypedEnd;

constexpr std::uint64_t kMasterDevice = 5ULL << 32 | 2;
constexpr std::size_t kLongestRead = 4096;  // a line is never longer (N_TTY_BUF_SIZE)

constexpr std::uint64_t device_of_slave(std::uint32_t number) { return std::uint64_t{format::kSlaveMajor} << 32 | number; }

int get_number(int fd, TerminalRequest request) {
  int value = 0;
  return terminal_call(fd, request, &value) < 0 ? 0 : value;
}

bool is_slave_open_here(std::uint32_t number) {
  char buffer[1024];
  sys::NumberDirectory descriptors("/proc/thread-self/fd", buffer);
  for (int fd = descriptors.is_open() ? descriptors.next() : -1; fd >= 0; fd = descriptors.next()) {
    FileFacts facts{};
    if (!read_facts(fd, "", &facts).failed() && facts.raw_device == device_of_slave(number)) return true;
  }
  return false;
}

bool is_slave_open(const Collector& collector, std::uint32_t number) {
  return is_slave_open_here(number) || has_device_elsewhere(collector, device_of_slave(number));
}

// One terminal's pair for as long as its data is looked at.
class OpenedPair {
 public:
  OpenedPair(int master, const TerminalMasterState& state) : is_packet_(state.is_packet != 0) {
    pair_ = {master, -1, state.settings};
    slave_ =
        sys::Fd(static_cast<int>(terminal_call(master, TerminalRequest::kOpenPeer, O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC)));
    pair_.slave = slave_.get();
    if (is_packet_) set_packet(0);
  }
  ~OpenedPair() {
    write_settings(pair_.master, pair_.settings);
    if (is_packet_) set_packet(1);
  }
  OpenedPair(const OpenedPair&) = delete;
  OpenedPair& operator=(const OpenedPair&) = delete;

  const TerminalPair& pair() const { return pair_; }
  bool is_open() const { return slave_.is_open(); }

 private:
  void set_packet(int value) const { terminal_call(pair_.master, TerminalRequest::kSetPacket, &value); }

  TerminalPair pair_;
  sys::Fd slave_;
  bool is_packet_;
};

// What the master has not read. False: no room.
bool take_output(const TerminalPair& pair, Buffer* to) {
  while (has_data(pair.master)) {
    std::uint8_t bytes[kLongestRead];
    const auto count = sys::read(pair.master, bytes, sizeof(bytes));
    if (count.failed() || count.value() == 0) return true;
    to->add(bytes, static_cast<std::size_t>(count.value()));
    if (to->is_full()) return false;
  }
  return true;
}

void add_typed(Buffer* to, const std::uint8_t* bytes, std::size_t size, TypedEnd end) {
  const format::TypedPiece piece{static_cast<std::uint32_t>(size), end};
  to->add(&piece, sizeof(piece));
  to->add(bytes, size);
}

// What the slave has not read: whole lines one by one, then, in canonical mode, the line that is being typed, which shows only
// without that mode. False: it can't be read, or no room.
bool take_typed(const TerminalPair& pair, Buffer* to) {
  std::uint8_t bytes[kLongestRead];
  while (has_data(pair.slave)) {
    const auto count = sys::read(pair.slave, bytes, sizeof(bytes));
    if (count.failed()) return count.error() == sys::kEagain;
    const auto size = static_cast<std::size_t>(count.value());
    add_typed(to, bytes, size, end_of_line(pair, bytes, size));
    if (to->is_full()) return false;
  }
  if (!pair.is_canonical() || !write_settings(pair.master, transparent(pair.settings))) return true;
  const auto count = sys::read(pair.slave, bytes, sizeof(bytes));
  if (!count.failed() && count.value() > 0) add_typed(to, bytes, static_cast<std::size_t>(count.value()), TypedEnd::kNone);
  return !to->is_full();
}

bool look_inside(Collector* collector, const Descriptor& descriptor, TerminalMasterState* facts, Buffer* state) {
  OpenedPair opened(descriptor.fd, *facts);
  if (!opened.is_open()) {
    refuse_descriptor(collector, descriptor).add("the other end of this pseudo-terminal can't be opened (TIOCEXCL?)");
    return false;
  }
  const std::size_t begin = state->size();
  bool is_known = take_output(opened.pair(), state);
  facts->output_size = static_cast<std::uint32_t>(state->size() - begin);
  facts->output_stop = release_output(opened.pair());
  is_known = take_typed(opened.pair(), state) && is_known;
  facts->typed_size = static_cast<std::uint32_t>(state->size() - begin - facts->output_size);
  auto* room = static_cast<std::uint8_t*>(collector->arena->take(facts->typed_size + 1));
  const std::uint8_t* bytes = state->data() + begin;
  const bool has_output_back = put_output(opened.pair(), bytes, facts->output_size);
  stop_output(opened.pair(), facts->output_stop);
  const bool has_typed_back = room != nullptr && put_typed(opened.pair(), bytes + facts->output_size, facts->typed_size, room);
  if (is_known && has_output_back && has_typed_back) return true;
  refuse_descriptor(collector, descriptor).add("what is in this pseudo-terminal can't be read");
  return false;
}

}  // namespace

std::uint32_t pair_of_master(int fd, std::uint64_t raw_device) {
  std::uint32_t number = 0;
  const bool is_master = raw_device == kMasterDevice && terminal_call(fd, TerminalRequest::kGetNumber, &number) >= 0;
  return is_master ? number : format::kNoPair;
}

bool collect_terminal_master(Collector* collector, const Descriptor& descriptor, format::DescriptionRecord* record, Buffer* state) {
  TerminalMasterState facts{};
  facts.number = pair_of_master(descriptor.fd, descriptor.facts.raw_device);
  if (facts.number == format::kNoPair || !read_settings(descriptor.fd, &facts.settings) || facts.settings.line != 0 ||
      get_number(descriptor.fd, TerminalRequest::kGetDiscipline) != 0) {
    refuse_descriptor(collector, descriptor).add("a terminal with this line discipline can't be saved; close it and try again");
    return false;
  }
  record->kind = format::DescriptionKind::kTerminalMaster;
  facts.is_locked = static_cast<std::uint32_t>(get_number(descriptor.fd, TerminalRequest::kGetLock));
  facts.is_packet = static_cast<std::uint16_t>(get_number(descriptor.fd, TerminalRequest::kGetPacket));
  facts.is_exclusive = static_cast<std::uint32_t>(get_number(descriptor.fd, TerminalRequest::kGetExclusive));
  facts.session = get_number(descriptor.fd, TerminalRequest::kGetSession);
  facts.foreground_group = get_number(descriptor.fd, TerminalRequest::kGetGroup);
  terminal_call(descriptor.fd, TerminalRequest::kGetSize, &facts.size);
  bool is_hung_up = false;
  has_data(descriptor.fd, &is_hung_up);
  facts.slave = is_hung_up ? SlaveUse::kClosed : is_slave_open(*collector, facts.number) ? SlaveUse::kOpen : SlaveUse::kNone;
  const std::size_t at = state->size();
  state->add(&facts, sizeof(facts));
  if (facts.slave != SlaveUse::kNone && !look_inside(collector, descriptor, &facts, state)) return false;
  if (!state->is_full()) memcpy(state->data() + at, &facts, sizeof(facts));
  return true;
}

bool collect_terminal(const Descriptor& descriptor, format::DescriptionRecord* record, Buffer* state) {
  record->kind = format::DescriptionKind::kTerminal;
  std::uint32_t device = 0;  // of the terminal that /dev/tty stands for, too
  const bool is_known = terminal_call(descriptor.fd, TerminalRequest::kGetDevice, &device) >= 0;
  const format::TerminalState terminal{is_known ? format::pair_of_device(device) : format::kNoPair, 0};
  state->add(&terminal, sizeof(terminal));
  format::TerminalSettings settings{};
  if (read_settings(descriptor.fd, &settings)) state->add(&settings, sizeof(settings));
  return true;
}

bool settle_terminals(Collector* collector, OpenDescription* known, unsigned count) {
  for (unsigned i = 0; i < count; ++i) {
    format::DescriptionRecord* record = known[i].record;
    if (record->kind != format::DescriptionKind::kTerminal) continue;
    const std::uint32_t number = reinterpret_cast<const format::TerminalState*>(state_of(record))->number;
    bool is_own = number != format::kNoPair && has_terminal_master_elsewhere(*collector, number);
    for (unsigned k = 0; k < count && number != format::kNoPair && !is_own; ++k) {
      is_own = known[k].record->kind == format::DescriptionKind::kTerminalMaster &&
               reinterpret_cast<const TerminalMasterState*>(state_of(known[k].record))->number == number;
    }
    if (is_own) record->kind = format::DescriptionKind::kOwnTerminal;
  }
  return true;
}

}  // namespace ckpt

// See terminal.h.
#include "restart/terminal.h"

#include <fcntl.h>
#include <signal.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "lib/resources/terminals/pair.h"
#include "lib/resources/terminals/rebuild.h"

namespace ckpt {

namespace {

using format::TerminalSettings;
using format::TerminalState;

// Whether it was the job, then, that the terminal of this process listened to.
bool had_foreground(const RestartPlan& plan, const ProcessImage& process) {
  const auto& record = process.process;
  if (record.foreground_group <= 0 || find_controlling_master(plan, process) != nullptr) return false;
  const auto& all = plan.image->job().processes;
  return std::any_of(all.begin(), all.end(), [&record](const ProcessImage& other) {
    return other.process.group_id == record.foreground_group && other.process.session_id == record.session_id;
  });
}

std::optional<TerminalSettings> settings_of(const RestartPlan& plan, std::uint32_t number) {
  for (const DescriptionPlan& item : plan.descriptions) {
    const Description& description = *item.description;
    if (description.record.kind != format::DescriptionKind::kTerminal) continue;
    const bool has_settings = description.state.size() >= sizeof(TerminalState) + sizeof(TerminalSettings);
    if (!has_settings || state_of<TerminalState>(description).number != number) continue;
    TerminalSettings settings;
    std::memcpy(&settings, description.state.data() + sizeof(TerminalState), sizeof(settings));
    return settings;
  }
  return std::nullopt;
}

std::optional<TerminalSettings> find_settings(const RestartPlan& plan) {
  for (const ProcessImage& process : plan.image->job().processes) {
    if (had_foreground(plan, process)) return settings_of(plan, process.process.terminal);
  }
  return std::nullopt;
}

}  // namespace

OuterTerminal::~OuterTerminal() {
  if (is_open() && former_.has_value()) write_settings(fd(), *former_);
}

void OuterTerminal::find(int lowest) {
  for (int stream = 0; stream < 3; ++stream) {
    if (isatty(stream) == 0 || tcgetsid(stream) != getsid(0)) continue;
    fd_ = Fd(fcntl(stream, F_DUPFD_CLOEXEC, lowest));
    is_jobs_ = is_given_ = tcgetpgrp(fd_.get()) == getpgrp();
    return;
  }
}

// Speed, parity and the like (c_cflag) are the terminal's own, not the program's.
void OuterTerminal::set_modes(const RestartPlan& plan) {
  TerminalSettings settings{};
  const std::optional<TerminalSettings> wanted = find_settings(plan);
  if (!is_open() || !wanted.has_value() || !read_settings(fd(), &settings)) return;
  former_ = settings;
  settings.input = wanted->input;
  settings.output = wanted->output;
  settings.local = wanted->local;
  std::memcpy(settings.characters, wanted->characters, sizeof(settings.characters));
  write_settings(fd(), settings);
}

void OuterTerminal::announce() {
  former_.reset();
  const pid_t group = is_open() ? tcgetpgrp(fd()) : 0;
  if (group > 1) kill(-group, SIGWINCH);
}

void OuterTerminal::give_to(pid_t group) {
  if (!fd_.is_open() || group <= 0) return;
  tcsetpgrp(fd_.get(), group);
  is_given_ = true;
}

void OuterTerminal::take_back() {
  if (is_given_ && tcgetpgrp(fd_.get()) != getpgrp()) tcsetpgrp(fd_.get(), getpgrp());
  is_given_ = false;
}

bool OuterTerminal::is_here() const { return fd_.is_open() && tcgetpgrp(fd_.get()) == getpgrp(); }

}  // namespace ckpt

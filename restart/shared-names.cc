// Everything else is each restart's own: memory, pipes, connections, System V objects, process numbers.
#include "restart/shared-names.h"

#include <fcntl.h>

#include <set>

#include "lib/common/error.h"
#include "lib/resources/sockets/rebuild.h"

namespace ckpt {

namespace {

using format::DescriptionKind;
using format::SocketStage;
using format::SocketState;

bool is_written(const DescriptionPlan& item) {
  const auto& record = item.description->record;
  const bool is_file = record.kind == DescriptionKind::kRegular;
  return is_file && item.source == DescriptionPlan::Source::kOpen && (record.status_flags & O_ACCMODE) != O_RDONLY;
}

// Nothing where a socket has no name that only it can have.
std::string unix_name_of(const SocketState& state) {
  const std::string name = local_name(state);
  const bool has_own_name = state.stage == SocketStage::kIdle || state.stage == SocketStage::kListening;
  if (!has_own_name || name.size() <= sizeof(sa_family_t)) return "";
  const std::string path = unix_path_of(name);
  return "unix socket " + quote(path.empty() ? "@" + name.substr(sizeof(sa_family_t) + 1) : path);
}

std::string port_of(const SocketState& state) {
  const bool is_stream = state.type == SOCK_STREAM;
  if (is_stream && state.stage != SocketStage::kIdle && state.stage != SocketStage::kListening) return "";
  const std::string address = describe_address(local_name(state));
  return address.ends_with(":0") ? "" : (is_stream ? "TCP port " : "UDP port ") + address;
}

std::string socket_name_of(const Description& description) {
  const auto kind = description.record.kind;
  if (kind != DescriptionKind::kUnixSocket && kind != DescriptionKind::kInetSocket) return "";
  const auto state = state_of<SocketState>(description);
  return kind == DescriptionKind::kUnixSocket ? unix_name_of(state) : port_of(state);
}

}  // namespace

std::string describe_shared_names(const RestartPlan& plan) {
  std::set<std::string> written, single;
  for (const DescriptionPlan& item : plan.descriptions) {
    if (is_written(item)) written.insert(quote(item.description->path));
    single.insert(socket_name_of(*item.description));
  }
  for (const ProcessImage& process : plan.image->job().processes) {
    for (const Area& area : process.areas) {
      if (area.record.kind == format::AreaKind::kSharedFile) written.insert(quote(process.files.at(area.record.file).path));
    }
    for (const SavedFile& saved : process.saved) written.insert(quote(saved.path));
  }
  single.erase("");
  std::string text;
  for (const std::string& name : written) text += "shared     " + name + ": all restarts of this image write to it\n";
  for (const std::string& name : single) text += "once       " + name + ": a second restart is refused while the first has it\n";
  return text;
}

}  // namespace ckpt

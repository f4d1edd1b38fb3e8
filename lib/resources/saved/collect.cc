// saved: walks the paths of --save and copies what is there, while everything stands.
#include "lib/resources/saved/record.h"

#include "lib/resources/files/collect.h"

namespace ckpt {

namespace {

using format::SavedFileRecord;
using Path = sys::Text<format::kPathBytes>;

constexpr std::uint32_t kTypeMask = 0170000, kFifo = 0010000, kDirectory = 0040000, kRegular = 0100000, kLink = 0120000;
constexpr unsigned kMaxDepth = 64;
constexpr std::size_t kListBytes = 32768;

bool refuse_path(Collector* collector, const char* path, const char* reason) {
  collector->refuse(kCodeFailed).add("cannot save ").add_quoted(path).add(" (--save): ").add(reason);
  return false;
}

bool add_saved(Collector* collector, const char* path, const char* target, const SavedFileRecord& facts) {
  const std::size_t path_size = strlen(path) + 1;
  const std::size_t target_size = strlen(target) + 1;
  auto* record = collector->add_record<SavedFileRecord>(format::RecordType::kSavedFile, path_size + target_size);
  if (record == nullptr) return true;  // noticed at the end
  *record = facts;
  record->path_size = static_cast<std::uint32_t>(path_size);
  record->target_size = static_cast<std::uint32_t>(target_size);
  memcpy(record + 1, path, path_size);
  memcpy(reinterpret_cast<char*>(record + 1) + path_size, target, target_size);
  return true;
}

bool keep_regular(Collector* collector, const char* path, const FileFacts& facts, SavedFileRecord* record) {
  const sys::Fd fd(sys::open(path, O_RDONLY | O_NOFOLLOW));
  if (!fd.is_open()) return refuse_path(collector, path, "it can't be read");
  record->content = keep_file(collector, fd.get(), facts);
  return record->content != 0 || refuse_path(collector, path, "it can't be read, or there is not memory enough to copy it");
}

// A link to a file shows where it leads; everything else an empty string.
bool save_one(Collector* collector, const char* path, const FileFacts& facts, bool is_root) {
  const std::uint32_t type = facts.mode & kTypeMask;
  SavedFileRecord record{facts.mode, is_root ? 1U : 0U, facts.modified_ns, facts.size, 0, 0, 0, 0};
  char target[format::kPathBytes] = "";
  if (type == kRegular && !keep_regular(collector, path, facts, &record)) return false;
  if (type == kLink) {
    const auto length = sys::call(__NR_readlinkat, AT_FDCWD, path, target, sizeof(target) - 1);
    if (length.failed()) return refuse_path(collector, path, "the link can't be read");
    target[length.value()] = '\0';
  }
  if (type != kRegular && type != kLink && type != kDirectory && type != kFifo) return true;  // sockets and devices have no bytes
  return add_saved(collector, path, target, record);
}

bool save_tree(Collector* collector, Path* path, unsigned depth, bool is_root);

bool save_folder(Collector* collector, Path* path, unsigned depth) {
  if (depth == kMaxDepth) return refuse_path(collector, path->c_str(), "the folders are nested too deeply");
  char* list = static_cast<char*>(collector->arena->take(kListBytes));
  sys::Directory folder(path->c_str(), {list, kListBytes});
  if (list == nullptr || !folder.is_open()) return refuse_path(collector, path->c_str(), "the folder can't be read");
  const std::size_t length = path->size();
  while (const auto* entry = folder.next()) {
    if (sys::equal(entry->name, ".") || sys::equal(entry->name, "..")) continue;
    path->add_char('/').add(entry->name);
    if (path->is_cut()) return refuse_path(collector, path->c_str(), "the path is too long");
    if (!save_tree(collector, path, depth + 1, false)) return false;
    path->shorten(length);
  }
  return folder.error() == 0 || refuse_path(collector, path->c_str(), sys::error_text(folder.error()));
}

bool save_tree(Collector* collector, Path* path, unsigned depth, bool is_root) {
  FileFacts facts{};
  const auto result = read_link_facts(path->c_str(), &facts);
  if (result.failed()) return refuse_path(collector, path->c_str(), sys::error_text(result.error()));
  if (!save_one(collector, path->c_str(), facts, is_root)) return false;
  return (facts.mode & kTypeMask) != kDirectory || save_folder(collector, path, depth);
}

bool save_all(Collector* collector, void*) {
  for (const char* root = collector->saved_paths; root != nullptr && *root != '\0'; root += strlen(root) + 1) {
    FileFacts facts{};
    if (read_link_facts(root, &facts).error() == sys::kEnoent) {  // not made yet: it must not be there after a restart either
      if (!add_saved(collector, root, "", {0, 1, 0, 0, 0, 0, 0, 0})) return false;
      continue;
    }
    Path path;
    path.add(root);
    if (!save_tree(collector, &path, 0, true)) return false;
  }
  return true;
}

}  // namespace

bool is_saved(const Collector& collector, const char* path) {
  for (const char* root = collector.saved_paths; root != nullptr && *root != '\0'; root += strlen(root) + 1) {
    if (sys::starts_with(path, root) && (path[strlen(root)] == '\0' || path[strlen(root)] == '/')) return true;
  }
  return false;
}

bool collect_saved(Collector* collector) {
  if (collector->member != 0) return true;  // once for the job
  if (collector->saved_paths == nullptr || *collector->saved_paths == '\0') return true;
  if (collector->apart(collector, save_all, nullptr)) return true;
  if (collector->code == 0) collector->refuse(kCodeFailed).add("no process could be made that reads what is to be saved");
  return false;
}

}  // namespace ckpt

// inotify: the watches, from fdinfo (proc_pid_fdinfo(5)), which names inodes, not paths.
//
// A path is looked for where programs have theirs from: open descriptors, working directory, arguments, environment, mounts, and
// the folders above all of these; then in the trees below the working directory, the arguments and a few folders of the system.
// What is found is compared by inode, so a wrong path is never taken. A folder is not read where the program would see that: it
// watches for files being opened or read there, or in the folder above.
#include "lib/resources/inotify/record.h"

#include <asm/ioctls.h>

#include "lib/resources/files/collect.h"
#include "lib/sys/proc-file.h"

namespace ckpt {

namespace {

using Path = sys::Text<format::kPathBytes>;

constexpr std::uint32_t kSeesReading = 0x1 | 0x10 | 0x20;  // IN_ACCESS, IN_CLOSE_NOWRITE, IN_OPEN
constexpr unsigned kMaxDepth = 24;
constexpr std::size_t kListBytes = 32768;
constexpr std::int64_t kLongestSearch = 2'000'000'000;  // ns

struct Watch {
  format::InotifyWatch record;
  std::uint64_t inode;
  std::uint64_t device;  // major << 32 | minor
  const char* path;
};

struct Search {
  Collector* collector;
  Watch* watches;  // ascending by inode
  unsigned count, missing;
  std::int64_t until_ns;
  char* lists[kMaxDepth + 1];  // what is being read of the folder at each depth
};

// "inotify wd:1 ino:3c51a sdev:fe00000 mask:80000100 ignored_mask:0 …", all hexadecimal.
bool parse_watch(const char* line, Watch* watch) {
  if (!sys::starts_with(line, "inotify wd:")) return false;
  const auto take = [&line](const char* name) {
    while (*line != '\0' && !sys::starts_with(line, name)) ++line;
    if (*line != '\0') line += strlen(name);
    return sys::parse_hex(&line);
  };
  *watch = {};
  watch->record.descriptor = static_cast<std::int32_t>(take("wd:"));
  watch->inode = take(" ino:");
  const std::uint64_t device = take("sdev:");
  watch->device = (device >> 20) << 32 | (device & 0xfffff);
  watch->record.mask = static_cast<std::uint32_t>(take("mask:"));
  return true;
}

// The first watch of the inode, or of a larger one.
unsigned lower_bound(const Search& search, std::uint64_t inode) {
  unsigned low = 0;
  unsigned high = search.count;
  while (low < high) {
    const unsigned middle = (low + high) / 2;
    if (search.watches[middle].inode < inode) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

void sort_by_inode(Watch* watches, unsigned count) {
  for (unsigned gap = count / 2; gap > 0; gap /= 2) {
    for (unsigned i = gap; i < count; ++i) {
      const Watch watch = watches[i];
      unsigned at = i;
      for (; at >= gap && watches[at - gap].inode > watch.inode; at -= gap) watches[at] = watches[at - gap];
      watches[at] = watch;
    }
  }
}

// Where a file system shows other devices in stat than in fdinfo (overlayfs, btrfs), a watch of our own tells.
bool is_watched_as(const char* path, const Watch& wanted) {
  const sys::Fd scratch(sys::call(__NR_inotify_init1, O_CLOEXEC | O_NONBLOCK));
  if (!scratch.is_open() || sys::call(__NR_inotify_add_watch, scratch.get(), path, 0x400 /* IN_DELETE_SELF */).failed())
    return false;
  char text[512];
  Watch own{};
  if (!read_fdinfo(scratch.get(), text)) return false;
  for (const char* at = text; *at != '\0'; ++at) {
    if (parse_watch(at, &own)) return own.inode == wanted.inode && own.device == wanted.device;
  }
  return false;
}

void try_path(Search* search, const char* path) {
  FileFacts facts{};
  if (search->missing == 0 || path[0] != '/' || read_facts(AT_FDCWD, path, &facts).failed()) return;
  for (unsigned i = lower_bound(*search, facts.inode); i < search->count && search->watches[i].inode == facts.inode; ++i) {
    Watch* watch = &search->watches[i];
    if (watch->path != nullptr || (watch->device != facts.device && !is_watched_as(path, *watch))) continue;
    const std::size_t size = strlen(path) + 1;
    auto* kept = static_cast<char*>(search->collector->arena->take(size, 1));
    if (kept == nullptr) return;
    memcpy(kept, path, size);
    watch->path = kept;
    --search->missing;
  }
}

// The path and all folders above it.
void try_with_parents(Search* search, const char* path) {
  Path text;
  text.add(path);
  for (;;) {
    try_path(search, text.c_str());
    std::size_t length = text.size();
    while (length > 1 && text.c_str()[length - 1] != '/') --length;
    if (length <= 1 || search->missing == 0) break;
    text.shorten(length - 1);
  }
  try_path(search, "/");
}

// As the program would have written it: absolute, or from its working directory.
void try_word(Search* search, const char* cwd, const char* word, void (*use)(Search*, const char*)) {
  if (*word == '\0' || strlen(word) >= format::kPathBytes) return;
  if (*word == '/') return use(search, word);
  Path text;
  text.add(cwd).add_char('/').add(word);
  use(search, text.c_str());
}

// Words of a file of NUL-terminated strings, and what stands behind a '=' in them.
void try_words(Search* search, const char* file, const char* cwd, void (*use)(Search*, const char*)) {
  constexpr std::size_t kMost = 256U << 10;
  auto* text = static_cast<char*>(search->collector->arena->take(kMost));
  if (text == nullptr || search->missing == 0) return;
  const auto size = sys::read_file(file, text, kMost);
  for (long at = 0; !size.failed() && at < size.value(); at += static_cast<long>(strlen(text + at)) + 1) {
    const char* word = text + at;
    try_word(search, cwd, word, use);
    while (*word != '\0' && *word != '=') ++word;
    if (*word == '=') try_word(search, cwd, word + 1, use);
  }
}

void try_mounts(Search* search) {
  auto* buffer = search->collector->arena->take_array<char>(kListBytes);
  if (buffer == nullptr) return;
  sys::LineReader lines("/proc/thread-self/mountinfo", {buffer, kListBytes});
  while (char* line = lines.next()) {
    char* at = line;
    for (int field = 0; field < 4 && *at != '\0'; ++field) {
      while (*at != ' ' && *at != '\0') ++at;
      if (*at == ' ') ++at;
    }
    char* end = at;
    while (*end != ' ' && *end != '\0') ++end;
    *end = '\0';
    try_path(search, at);
  }
}

// By watches that have been found; the others are somewhere else, for what is above a folder is tried before it is read.
bool is_seen_reading(const Search& search, const char* folder) {
  Path above;
  above.add(folder);
  std::size_t length = above.size();
  while (length > 1 && above.c_str()[length - 1] != '/') --length;
  above.shorten(length > 1 ? length - 1 : length);
  for (unsigned i = 0; i < search.count; ++i) {
    const Watch& watch = search.watches[i];
    if (watch.path == nullptr || (watch.record.mask & kSeesReading) == 0) continue;
    if (sys::equal(watch.path, folder) || sys::equal(watch.path, above.c_str())) return true;
  }
  return false;
}

// Below a folder, as long as there is time.
void walk(Search* search, Path* path, unsigned depth) {
  if (is_seen_reading(*search, path->c_str())) return;
  const sys::Fd folder(sys::open(path->c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
  if (search->lists[depth] == nullptr) search->lists[depth] = search->collector->arena->take_array<char>(kListBytes);
  char* list = search->lists[depth];
  if (!folder.is_open() || list == nullptr || is_made_up(folder.get())) return;
  const std::size_t length = path->size();
  while (search->missing > 0 && sys::clock_ns(CLOCK_MONOTONIC) < search->until_ns) {
    const auto count = sys::call(__NR_getdents64, folder.get(), list, kListBytes);
    if (count.failed() || count.value() == 0) break;
    for (long at = 0; at < count.value();) {
      const auto* entry = reinterpret_cast<const sys::DirectoryEntry*>(list + at);
      at += entry->size;
      if (sys::equal(entry->name, ".") || sys::equal(entry->name, "..")) continue;
      if (length > 1) path->add_char('/');
      path->add(entry->name);
      const unsigned found = lower_bound(*search, entry->inode);
      if (found < search->count && search->watches[found].inode == entry->inode) try_path(search, path->c_str());
      if (entry->type == 4 /* DT_DIR */ && depth < kMaxDepth && !path->is_cut()) walk(search, path, depth + 1);
      path->shorten(length);
    }
  }
}

void walk_from(Search* search, const char* root) {
  Path path;
  path.add(root);
  if (search->missing > 0) walk(search, &path, 0);
}

// In a folder, and not below it.
void look_into(Search* search, const char* folder) {
  Path path;
  path.add(folder);
  if (search->missing > 0) walk(search, &path, kMaxDepth);
}

void search_trees(Search* search, const char* cwd) {
  constexpr const char* kRoots[] = {"/etc", "/dev", "/run", "/var/log", "/var/spool", "/tmp", "/usr/share"};
  for (const char* root : kRoots) try_with_parents(search, root);  // these first: a large folder may take all the time there is
  search->until_ns = sys::clock_ns(CLOCK_MONOTONIC) + kLongestSearch;
  try_words(search, "/proc/thread-self/environ", cwd, look_into);
  if (!sys::equal(cwd, "/")) walk_from(search, cwd);
  try_words(search, "/proc/thread-self/cmdline", cwd, walk_from);
  for (const char* root : kRoots) walk_from(search, root);
}

void try_descriptors(Search* search) {
  char buffer[1024];
  sys::NumberDirectory descriptors("/proc/thread-self/fd", buffer);
  for (int fd = descriptors.next(); fd >= 0 && search->missing > 0; fd = descriptors.next()) {
    char path[format::kPathBytes];
    const sys::ProcPath link = sys::descriptor_path(fd);
    if (sys::read_link(link.c_str(), path, sizeof(path)) && path[0] == '/') try_with_parents(search, path);
  }
}

void find_paths(Search* search) {
  char cwd[format::kPathBytes] = "/";
  sys::call(__NR_getcwd, cwd, sizeof(cwd)).ignore();
  try_with_parents(search, cwd);
  try_descriptors(search);
  try_words(search, "/proc/thread-self/cmdline", cwd, try_with_parents);
  try_words(search, "/proc/thread-self/environ", cwd, try_with_parents);
  try_mounts(search);
  if (search->missing > 0) search_trees(search, cwd);
}

// All watches of the instance. False: they can't be read, or there is no memory.
bool read_watches(int fd, Search* search) {
  char buffer[1024];
  const sys::ProcPath path = path_of_fdinfo(fd);
  for (const bool is_counted : {false, true}) {
    sys::LineReader lines(path.c_str(), buffer, sys::Made::kWhole);
    if (!lines.is_open()) return false;
    if (is_counted) search->watches = search->collector->arena->take_array<Watch>(search->count);
    if (is_counted && search->count > 0 && search->watches == nullptr) return false;
    unsigned count = 0;
    Watch watch;
    while (const char* line = lines.next()) {
      if (!parse_watch(line, &watch)) continue;
      if (is_counted && count < search->count) search->watches[count] = watch;
      ++count;
    }
    search->count = search->missing = count;
  }
  sort_by_inode(search->watches, search->count);
  return true;
}

void add_watches(const Search& search, Buffer* state) {
  const format::InotifyState head{search.count, 0};
  state->add(&head, sizeof(head));
  for (unsigned i = 0; i < search.count; ++i) {
    Watch* watch = &search.watches[i];
    watch->record.path_size = static_cast<std::uint32_t>(strlen(watch->path) + 1);
    state->add(&watch->record, sizeof(watch->record));
    state->add(watch->path, watch->record.path_size);
    state->align(8);
  }
}

}  // namespace

const char* find_name_of(Collector* collector, const FileFacts& facts, const char* path) {
  Watch wanted{{}, facts.inode, facts.device, nullptr};
  Search search{collector, &wanted, 1, 1, sys::clock_ns(CLOCK_MONOTONIC) + kLongestSearch, {}};
  Path folder;
  folder.add(path);
  std::size_t length = folder.size();
  while (length > 1 && folder.c_str()[length - 1] != '/') --length;
  folder.shorten(length > 1 ? length - 1 : length);
  walk_from(&search, folder.c_str());
  if (wanted.path == nullptr) find_paths(&search);
  return wanted.path;
}

bool collect_inotify(Collector* collector, const Descriptor& descriptor, format::DescriptionRecord*, Buffer* state) {
  Search search{collector, nullptr, 0, 0, 0, {}};
  if (!read_watches(descriptor.fd, &search)) {
    refuse_descriptor(collector, descriptor).add("its watches can't be read");
    return false;
  }
  if (search.count > 0) find_paths(&search);
  for (unsigned i = 0; i < search.count; ++i) {
    if (search.watches[i].path != nullptr) continue;
    refuse_descriptor(collector, descriptor)
        .add("the path of watch ")
        .add_signed(search.watches[i].record.descriptor)
        .add(" (inode ")
        .add_number(search.watches[i].inode)
        .add(") is not known to the kernel and was not found; remove the watch, or start the program in the folder it watches");
    return false;
  }
  int unread = 0;
  if (!sys::call(__NR_ioctl, descriptor.fd, FIONREAD, &unread).failed() && unread > 0) {
    refuse_descriptor(collector, descriptor).add("there are unread events, which can't be saved; try again when they are read");
    return collector->postpone();
  }
  add_watches(search, state);
  return true;
}

}  // namespace ckpt

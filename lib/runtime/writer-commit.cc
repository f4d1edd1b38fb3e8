// Where an image goes, and how it gets there: written beside, synced, renamed; then `latest` moves and old generations go.
#include "lib/runtime/writer.h"
#include "lib/sys/proc-file.h"

namespace ckpt {

namespace {

using Path = sys::Text<format::kPathBytes>;

void make_folders(const char* path) {
  char part[format::kPathBytes];
  sys::copy_text(part, sizeof(part), path);
  for (char* at = part + 1; *at != '\0'; ++at) {
    if (*at != '/') continue;
    *at = '\0';
    sys::call(__NR_mkdir, part, 0700).ignore();
    *at = '/';
  }
  sys::call(__NR_mkdir, part, 0700).ignore();
}

// Highest number of NNNNNN.ckpt in the folder.
std::uint32_t last_generation(const char* folder) {
  char buffer[2048];
  sys::NumberDirectory names(folder, buffer);
  if (!names.is_open()) return 0;
  int last = 0;
  for (int number = names.next(); number >= 0; number = names.next()) last = number > last ? number : last;
  return static_cast<std::uint32_t>(last);
}

void add_generation_name(Path* path, std::uint32_t generation) { path->add_number(generation, 6).add(".ckpt"); }

// The large files that the file system keeps for an image (lib/resources/files/collect-clones.cc).
Path clones_of(const Place& place, std::uint32_t generation) {
  Path path;
  path.add(place.folder.c_str()).add_char('/').add_number(generation, 6).add(".files");
  return path;
}

// A symbolic link that is never absent: made under another name and renamed over.
void move_link(const char* folder, const char* target) {
  Path temporary;
  Path link;
  temporary.add(folder).add("/.latest.tmp-").add_signed(sys::getpid());
  link.add(folder).add("/latest");
  sys::call(__NR_unlinkat, AT_FDCWD, temporary.c_str(), 0).ignore();
  if (sys::call(__NR_symlinkat, target, AT_FDCWD, temporary.c_str()).failed()) return;
  if (sys::call(__NR_renameat, AT_FDCWD, temporary.c_str(), AT_FDCWD, link.c_str()).failed()) {
    sys::call(__NR_unlinkat, AT_FDCWD, temporary.c_str(), 0).ignore();
  }
}

void sync_folder(const char* folder) {
  const sys::Fd fd(sys::open(folder, O_RDONLY | O_DIRECTORY));
  if (fd.is_open()) sys::call(__NR_fsync, fd.get()).ignore();
}

void remove_old(const Place& place, std::uint32_t keep) {
  if (keep == 0) keep = 1;
  char buffer[2048];
  sys::NumberDirectory names(place.folder.c_str(), buffer);
  for (int number = names.next(); number >= 0; number = names.next()) {
    if (static_cast<std::uint32_t>(number) + keep > place.generation) continue;
    Path path;
    path.add(place.folder.c_str()).add_char('/');
    add_generation_name(&path, static_cast<std::uint32_t>(number));
    sys::call(__NR_unlinkat, AT_FDCWD, path.c_str(), 0).ignore();
    discard_clones(clones_of(place, static_cast<std::uint32_t>(number)).c_str());
  }
}

// Folder and last name of an absolute path.
void split(const char* path, Path* folder, const char** name) {
  const char* last = path;
  for (const char* at = path; *at != '\0'; ++at) {
    if (*at == '/') last = at;
  }
  folder->add(path);
  folder->shorten(static_cast<std::size_t>(last - path));
  if (folder->size() == 0) folder->add_char('/');
  *name = last + 1;
}

}  // namespace

bool choose_place(Collector* collector, Place* place) {
  const format::Settings& settings = g_state.control->settings;
  const char* file = g_state.control->request.file[0] != '\0' ? g_state.control->request.file : settings.file;
  Path name;
  place->is_single_file = file[0] != '\0';
  if (place->is_single_file) {
    const char* last = nullptr;
    split(file, &place->folder, &last);
    name.add(last);
    place->generation = 1;
  } else {
    place->folder.add(settings.directory).add_char('/').add(settings.job_name);
    make_folders(place->folder.c_str());
    place->generation = last_generation(place->folder.c_str()) + 1;
    add_generation_name(&name, place->generation);
  }
  place->final_path.add(place->folder.c_str()).add_char('/').add(name.c_str());
  place->temporary.add(place->folder.c_str()).add("/.").add(name.c_str()).add(".tmp-");
  // Another job may write the same file, and be another process of the same number, in a namespace of its own.
  place->is_single_file ? place->temporary.add(settings.job_name) : place->temporary.add_signed(g_state.pid);
  return !place->temporary.is_cut() || refuse_io(collector, "create", place->final_path.c_str(), sys::kEnametoolong);
}

int open_temporary(Collector* collector, const Place& place) {
  constexpr int kFlags = O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW;
  auto opened = sys::open(place.temporary.c_str(), kFlags, 0600);
  if (opened.error() == sys::kEexist) {  // of a writer of ours that was killed: the lock says that none lives
    sys::call(__NR_unlinkat, AT_FDCWD, place.temporary.c_str(), 0).ignore();
    opened = sys::open(place.temporary.c_str(), kFlags, 0600);
  }
  if (!opened.failed()) return static_cast<int>(opened.value());
  refuse_io(collector, "create", place.final_path.c_str(), opened.error());
  return -1;
}

bool commit(Collector* collector, const Place& place, int fd) {
  const auto synced = sys::call(__NR_fsync, fd);
  if (synced.failed()) return refuse_io(collector, "sync", place.temporary.c_str(), synced.error());
  const Path clones = clones_of(place, place.generation);
  const int kept = keep_clones(collector->clone_folder, clones.c_str());
  if (kept != 0) return refuse_io(collector, "keep large files in", clones.c_str(), kept);
  const auto renamed = sys::call(__NR_renameat, AT_FDCWD, place.temporary.c_str(), AT_FDCWD, place.final_path.c_str());
  if (renamed.failed()) return refuse_io(collector, "create", place.final_path.c_str(), renamed.error());
  sync_folder(place.folder.c_str());
  if (place.is_single_file) return true;
  const format::Settings& settings = g_state.control->settings;
  Path name;
  add_generation_name(&name, place.generation);
  move_link(place.folder.c_str(), name.c_str());
  Path target;
  target.add(settings.job_name).add_char('/').add(name.c_str());
  move_link(settings.directory, target.c_str());
  remove_old(place, settings.keep);
  return true;
}

void discard(const Place& place) {
  sys::call(__NR_unlinkat, AT_FDCWD, place.temporary.c_str(), 0).ignore();
  if (!place.is_single_file) discard_clones(clones_of(place, place.generation).c_str());
}

}  // namespace ckpt

// Readers of /proc without allocation. Freestanding; any context.
#include "lib/sys/proc-file.h"

#include "lib/sys/memory.h"

namespace ckpt::sys {

char* LineReader::next() {
  for (;;) {
    for (std::size_t i = begin_; i < end_; ++i) {
      if (buffer_[i] != '\n') continue;
      buffer_[i] = '\0';
      char* line = &buffer_[begin_];
      begin_ = i + 1;
      return line;
    }
    if (is_at_end_) {
      if (begin_ == end_) return nullptr;
      buffer_[end_] = '\0';
      char* line = &buffer_[begin_];
      begin_ = end_;
      return line;
    }
    if (begin_ > 0) {
      memmove(buffer_.data(), &buffer_[begin_], end_ - begin_);
      end_ -= begin_;
      begin_ = 0;
    }
    if (end_ + 1 >= buffer_.size()) end_ = 0;  // an endless line: its head is lost, its tail still ends it
    const std::size_t room = buffer_.size() - 1 - end_;
    const SysResult result = read(fd_.get(), &buffer_[end_], room);
    if (result.error() == kEintr) continue;
    const std::size_t count = result.failed() ? 0 : static_cast<std::size_t>(result.value());
    is_at_end_ = count == 0 || (made_ == Made::kWhole && count < room);
    end_ += count;
  }
}

const char* FieldReader::find(const char* name) {
  const std::size_t size = strlen(name);
  while (const char* line = lines_.is_open() ? lines_.next() : nullptr) {
    if (!starts_with(line, name) || line[size] != ':') continue;
    line += size + 1;
    skip_spaces(&line);
    return line;
  }
  return nullptr;
}

const DirectoryEntry* Directory::next() {
  if (at_ >= end_) {
    const SysResult count = call(__NR_getdents64, fd_.get(), buffer_.data(), buffer_.size());
    if (count.failed()) error_ = count.error();
    if (count.failed() || count.value() == 0) return nullptr;
    at_ = 0;
    end_ = static_cast<std::size_t>(count.value());
  }
  const auto* entry = reinterpret_cast<const DirectoryEntry*>(&buffer_[at_]);
  at_ += entry->size;
  return entry;
}

int NumberDirectory::next() {
  while (const DirectoryEntry* entry = directory_.next()) {
    const char* name = entry->name;
    if (*name >= '0' && *name <= '9') return static_cast<int>(parse_decimal(&name));
  }
  return -1;
}

StatFile::StatFile(const char* path) {
  if (read_file(path, text_, sizeof(text_)).failed()) return;
  char* open = text_;
  while (*open != '(' && *open != '\0') ++open;
  char* close = nullptr;
  for (char* at = open; *at != '\0'; ++at) {
    if (*at == ')') close = at;
  }
  if (close == nullptr) return;
  *close = '\0';
  name_ = open + 1;
  const char* at = close + 1;
  for (skip_spaces(&at); *at != '\0' && count_ <= kFields - kFirst; skip_spaces(&at)) {
    begins_[count_++] = static_cast<std::uint16_t>(at - text_);
    while (*at != ' ' && *at != '\0') ++at;
  }
}

std::uint64_t StatFile::number(int which) const {
  const char* at = field(which);
  return parse_decimal(&at);
}

std::int64_t StatFile::signed_number(int which) const {
  const char* at = field(which);
  return *at < '0' || *at > '9' ? -1 : static_cast<std::int64_t>(parse_decimal(&at));
}

bool read_link(const char* link, char* to, std::size_t size) {
  const auto length = call(__NR_readlinkat, AT_FDCWD, link, to, size - 1);
  if (length.failed()) return false;
  to[length.value()] = '\0';
  return true;
}

std::uint64_t read_namespace(const char* folder, const char* name) {
  char link[64];
  Text<96> path;
  path.add(folder).add_char('/').add(name);
  if (!read_link(path.c_str(), link, sizeof(link))) return 0;
  const char* at = link;  // "net:[4026531840]"
  while (*at != '[' && *at != '\0') ++at;
  if (*at == '[') ++at;
  return parse_decimal(&at);
}

std::uint32_t count_seccomp_filters(const char* status_path) {
  char buffer[FieldReader::kEnough];
  FieldReader status(status_path, buffer);
  const char* mode = status.find("Seccomp");
  const bool is_strict = mode != nullptr && *mode != '0';
  const char* filters = status.find("Seccomp_filters");  // Linux 5.9
  const std::uint64_t count = filters == nullptr ? 0 : parse_decimal(&filters);
  return static_cast<std::uint32_t>(count != 0 ? count : is_strict ? 1 : 0);
}

}  // namespace ckpt::sys

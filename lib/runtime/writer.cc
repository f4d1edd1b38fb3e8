// The writer's life: lock → rest → flags → pages → files → index → header → commit → tell.
//
// A child of its own, single-threaded at birth, with every signal blocked; it shares nothing with the program but the control page.
#include "lib/runtime/writer.h"
#include "lib/runtime/numbers.h"

#include <cstddef>
#include <initializer_list>

#include "lib/resources/memory/collect.h"
#include "lib/resources/process/record.h"
#include "lib/runtime/help.h"
#include "lib/runtime/session.h"
#include "lib/sys/arch/x86_64/cpu.h"
#include "lib/sys/hash.h"

namespace ckpt {

namespace {

constexpr int kPrSetName = 15;

// What the program computes comes first, unless it stands until we are done.
void step_back() {
  constexpr long kNice = 10;
  const bool is_awaited = (g_state.control->request.flags & format::kHoldUntilCommitted) != 0;
  const auto priority = sys::call(__NR_getpriority, 0, 0);  // 20 − nice
  if (!is_awaited && !priority.failed() && 20 - static_cast<long>(priority.value()) < kNice)
    sys::call(__NR_setpriority, 0, 0, kNice).ignore();
}

// First of all it gives back what it has of the program's: a reader of a pipe must see the end when the program closes it.
void let_go(const Snapshot& snapshot) {
  constexpr long kCloseRange = 436;
  int next = 0;
  for (const int kept : {snapshot.help.socket, snapshot.lock_fd, snapshot.help.image}) {  // in this order: help.h
    if (kept > next) sys::call(kCloseRange, next, kept - 1, 0).ignore();
    if (kept >= next) next = kept + 1;
  }
  sys::call(kCloseRange, next, ~0U, 0).ignore();
  sys::call(__NR_umask, 077).ignore();  // the program's may not even let us into a folder of ours
  sys::call(__NR_prctl, kPrSetName, format::kWriterName).ignore();
  step_back();
  const sys::Fd oom(sys::open("/proc/self/oom_score_adj", O_WRONLY));
  if (oom.is_open()) sys::write_all(oom.get(), "1000", 4).ignore();
}

// What the image holds of our own state is that of a finished checkpoint.
void rest() {
  g_state.is_busy = g_state.gate = g_state.inside = 0;
  g_state.direct_writer = 0;
  for (unsigned i = 0; i < g_state.slot_chunks * kSlotsPerChunk; ++i) {
    ThreadSlot* slot = slot_at(i);
    if (slot->tid == 0) break;
    slot->tid = shown_number(slot->tid);
  }
}

void join_arguments(const Collector& collector, char* to, std::size_t size) {
  const format::ProcessRecord* process = collector.process;
  const char* text =
      reinterpret_cast<const char*>(process + 1) + process->string_sizes[0] + process->string_sizes[1] + process->string_sizes[2];
  std::size_t length = 0;
  for (std::uint32_t i = 0; i + 1 < process->string_sizes[3] && length + 1 < size; ++i)
    to[length++] = text[i] == '\0' ? ' ' : text[i];
  to[length] = '\0';
}

void read_name_file(const char* path, char* to, std::size_t size) {
  if (sys::read_file(path, to, size).failed()) to[0] = '\0';
  for (char* at = to; *at != '\0'; ++at) {
    if (*at == '\n') *at = '\0';
  }
}

bool is_member(const format::Member& member) { return member.state == format::MemberState::kActive; }

std::uint32_t count_processes(const Snapshot& snapshot) {
  const format::Session* session = snapshot.collector->session;
  if (session == nullptr) return 1;
  std::uint32_t count = 0;
  for (std::uint32_t i = 0; i < session->member_count; ++i) count += is_member(session->members[i]) ? 1 : 0;
  return count;
}

std::uint32_t count_threads(const Snapshot& snapshot) {
  const format::Session* session = snapshot.collector->session;
  if (session == nullptr) return snapshot.thread_count;
  std::uint32_t count = 0;
  for (std::uint32_t i = 0; i < session->member_count; ++i)
    count += is_member(session->members[i]) ? session->members[i].thread_count : 0;
  return count;
}

// The first process of the job while it lives, else this one.
int root_of_job(const Snapshot& snapshot) {
  const format::Session* session = snapshot.collector->session;
  for (std::uint32_t i = 0; session != nullptr && i < session->member_count; ++i) {
    if (is_member(session->members[i]) && session->members[i].pid == g_state.control->root_pid) return session->members[i].pid;
  }
  return g_state.pid;
}

// An image is listed as that of the first process, whoever was asked for it. As it is by now: it runs.
void name_as(int root, format::ImageHeader* header) {
  char text[sizeof(header->command)];
  const auto size = sys::read_file(sys::proc_path(root, "cmdline").c_str(), text, sizeof(text));
  if (size.failed() || size.value() == 0) return;  // it has ended
  for (long i = 0; i < size.value(); ++i) header->command[i] = text[i] == '\0' && i + 1 < size.value() ? ' ' : text[i];
  header->command[size.value()] = '\0';
  read_name_file(sys::proc_path(root, "comm").c_str(), header->program, sizeof(header->program));
}

void fill_header(const Snapshot& snapshot, const Output& output, const Place& place, format::ImageHeader* header) {
  const format::Settings& settings = g_state.control->settings;
  memcpy(header->magic, format::kImageMagic, sizeof(header->magic));
  header->format_version = format::kImageVersion;
  header->oldest_reader = format::kOldestReader;
  header->arch = format::kArchX86_64;
  header->page_size = format::kPageSize;
  sys::call(__NR_getrandom, header->image_id.bytes, sizeof(header->image_id.bytes), 0).ignore();
  header->job_id = settings.job_id;
  header->created_ns = snapshot.created_ns;
  header->pid = static_cast<std::uint32_t>(root_of_job(snapshot));
  header->process_count = count_processes(snapshot);
  header->thread_count = count_threads(snapshot);
  header->generation = place.generation;
  header->memory_bytes = *output.memory_bytes;
  header->codec = settings.codec;
  read_name_file("/proc/sys/kernel/hostname", header->host, sizeof(header->host));
  read_name_file("/proc/sys/kernel/osrelease", header->kernel, sizeof(header->kernel));
  join_arguments(*snapshot.collector, header->command, sizeof(header->command));
  const ThreadSlot* leader = nullptr;
  for (unsigned i = 0; i < g_state.slot_chunks * kSlotsPerChunk && slot_at(i)->tid != 0; ++i) {
    if (slot_at(i)->tid == shown_number(g_state.pid)) leader = slot_at(i);
  }
  if (leader != nullptr) sys::copy_text(header->program, sizeof(header->program), leader->record.name);
  if (header->pid != static_cast<std::uint32_t>(g_state.pid)) name_as(static_cast<int>(header->pid), header);
  sys::read_cpu(&header->cpu);
}

template <typename T>
void add_array(Collector* collector, format::RecordType type, const T* data, std::size_t count) {
  const format::RecordHeader header{static_cast<std::uint16_t>(type), 1, static_cast<std::uint32_t>(count * sizeof(T))};
  collector->index.add(&header, sizeof(header));
  collector->index.add(data, count * sizeof(T));
  collector->index.align(8);
}

}  // namespace

bool finish_image(Snapshot* snapshot, Output* output, const Place& place, std::uint64_t offset, std::uint64_t size,
                  const format::Hash128& hash) {
  format::ImageHeader header{};
  fill_header(*snapshot, *output, place, &header);
  header.index.offset = offset;
  header.index.stored_size = header.index.raw_size = static_cast<std::uint32_t>(size);
  header.index.hash = hash;
  header.file_size = offset + size;
  header.header_hash = sys::hash_bytes(&header, sizeof(header));
  const auto result = sys::pwrite_all(output->fd, &header, sizeof(header), 0);
  g_state.control->result.image_bytes = header.file_size;
  return !result.failed() || refuse_io(snapshot->collector, "write", output->path, result.error());
}

format::JobRecord* job_record(const Collector& collector) {
  return reinterpret_cast<format::JobRecord*>(collector.index.data() + sizeof(format::RecordHeader));
}

namespace {

bool write_index(Snapshot* snapshot, Output* output, const Place& place) {
  Collector* collector = snapshot->collector;
  add_array(collector, format::RecordType::kFrames, output->frames, *output->frame_count);
  job_record(*collector)->generation = place.generation;
  const Buffer& index = collector->index;
  if (index.is_full() || index.size() > 0xffffffffU) return refuse_io(collector, "write the index of", output->path, sys::kEfbig);
  const std::uint64_t offset = format::align_up(*output->next_offset, format::kPageSize);
  const auto result = sys::pwrite_all(output->fd, index.data(), index.size(), offset);
  if (result.failed()) return refuse_io(collector, "write", output->path, result.error());
  return finish_image(snapshot, output, place, offset, index.size(), sys::hash_bytes(index.data(), index.size()));
}

}  // namespace

bool prepare_output(Collector* collector, Output* output) {
  constexpr std::uint32_t kMaxFrames = 64U << 20;  // 64 million: address space only
  const format::Settings& settings = g_state.control->settings;
  output->codec = settings.codec;
  output->level = settings.level;
  if (format::Session* session = collector->session; session != nullptr) {
    output->next_offset = &session->next_offset;
    output->frame_count = &session->frame_count;
    output->memory_bytes = &session->memory_bytes;
    output->frame_capacity = format::kMaxSessionFrames;
    output->frames = frames_of(session);
    return true;
  }
  output->next_offset = &output->own.next_offset;
  output->frame_count = &output->own.frame_count;
  output->memory_bytes = &output->own.memory_bytes;
  for (output->frame_capacity = kMaxFrames; output->frame_capacity >= 65536; output->frame_capacity /= 2) {
    const auto room = sys::map(0, output->frame_capacity * sizeof(format::Frame), PROT_READ | PROT_WRITE,
                               MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE);
    if (room.failed()) continue;
    output->frames = reinterpret_cast<format::Frame*>(room.value());
    return true;
  }
  return refuse_io(collector, "write", "the image", sys::kEnomem);
}

bool is_contained(const Place& place) {
  return place.is_single_file || (g_state.control->request.flags & format::kSelfContained) != 0;
}

void note_result(const Snapshot& snapshot, const Place& place) {
  auto* result = &g_state.control->result;
  result->thread_count = count_threads(snapshot);
  result->generation = place.generation;
  result->total_ns = static_cast<std::uint64_t>(sys::clock_ns(CLOCK_MONOTONIC) - snapshot.begin_ns);
  sys::copy_text(result->image, sizeof(result->image), place.final_path.c_str());
}

namespace {

// What the fork left out comes from its copy, before anything else can be mapped there.
bool place_stand_ins(Collector* collector) {
  for (unsigned i = 0; i < collector->stand_in_count; ++i) {
    const StandIn& item = collector->stand_ins[i];
    const auto moved = sys::call(__NR_mremap, item.copy, item.size, item.size, 1 | 2 /* MAYMOVE | FIXED */, item.address);
    if (!moved.failed()) continue;
    collector->refuse().add("memory at 0x").add_hex(item.address).add(", which a fork leaves out, can't be saved: ");
    collector->message->add(sys::error_text(moved.error()));
    return false;
  }
  return true;
}

}  // namespace

void ask_again(int lock_fd) {
  constexpr int kTries = 100;
  constexpr std::int64_t kPauseNs = 20'000'000;
  auto* control = g_state.control;
  sys::close(lock_fd);
  const bool is_bare = control->request.id == 0;
  enter_stage(is_bare ? format::Stage::kIdle : format::Stage::kRequested);  // a trigger sees it, and knocks
  for (int i = 0; is_bare && i < kTries; ++i) {
    sys::call(__NR_kill, g_state.pid, control->settings.public_signal).ignore();
    sys::futex_wait(&control->stage, static_cast<std::uint32_t>(format::Stage::kIdle), kPauseNs, true).ignore();
    if (__atomic_load_n(&control->stage, __ATOMIC_ACQUIRE) != static_cast<std::uint32_t>(format::Stage::kIdle)) break;
  }
  for (;;) sys::call(__NR_exit_group, 0).ignore();
}

bool complete_areas(Snapshot* snapshot) {
  Collector* collector = snapshot->collector;
  if (!place_stand_ins(collector)) return false;
  if (collector->has_flags) return true;
  const FlagsOutcome outcome = read_area_flags(collector, 0);
  if (outcome != FlagsOutcome::kMustStand) return outcome == FlagsOutcome::kDone;
  __atomic_store_n(&g_state.control->must_stand_for_flags, 1, __ATOMIC_RELEASE);
  if (collector->session == nullptr) ask_again(snapshot->lock_fd);
  return refuse_io(collector, "examine", "memory that a fork leaves out", sys::kEagain);  // the leader's writer asks again
}

namespace {

// The trigger has opened the image, and commits it. It is self-contained: the store is not ours to write to.
bool write_with_help(Snapshot* snapshot) {
  Collector* collector = snapshot->collector;
  Place place;
  Output output;
  place.generation = snapshot->help.generation;
  output.fd = snapshot->help.image;
  output.path = "the image";
  if (!complete_areas(snapshot) || !prepare_output(collector, &output) || !write_data(collector, &output, true) ||
      !write_index(snapshot, &output, place))
    return false;
  note_result(*snapshot, place);
  const int error = ask_for_commit(snapshot->help.socket);
  return error == 0 || refuse_io(collector, "commit", output.path, error);
}

bool write_job(Snapshot* snapshot) {
  Collector* collector = snapshot->collector;
  Place place;
  Output output;
  if (!complete_areas(snapshot) || !choose_place(collector, &place) || !prepare_output(collector, &output)) return false;
  const sys::Fd file(open_temporary(collector, place));  // its room is free again before a failure is told
  output.fd = file.get();
  output.path = place.final_path.c_str();
  if (output.fd < 0) return false;
  if (!write_data(collector, &output, is_contained(place)) || !write_index(snapshot, &output, place) ||
      !commit(collector, place, output.fd)) {
    discard(place);
    return false;
  }
  note_result(*snapshot, place);
  return true;
}

}  // namespace

bool write_data(Collector* collector, Output* output, bool is_contained) {
  const format::Settings& settings = g_state.control->settings;
  hash_tails(collector);
  find_shared_logs(collector);
  return check_namespaces(collector) && write_pages(collector, output) && write_contents(collector, output) &&
         write_mapped_files(collector, output, is_contained ? nullptr : settings.directory);
}

bool refuse_io(Collector* collector, const char* action, const char* path, int error) {
  collector->code = error == sys::kEnospc || error == sys::kEio || error == sys::kEfbig || error == 122 ? 74 : 73;
  collector->message->clear();
  collector->message->add("cannot ").add(action).add_char(' ').add_quoted(path).add(": ").add(sys::error_text(error));
  return false;
}

void write_image(Snapshot* snapshot) {
  let_go(*snapshot);
  g_state.control->writer_pid = static_cast<std::uint32_t>(sys::getpid());
  rest();
  if (snapshot->collector->session != nullptr) write_with_others(snapshot);
  if (snapshot->help.image >= 0 ? write_with_help(snapshot) : write_job(snapshot)) {
    enter_stage(format::Stage::kCommitted);
  } else {
    discard_clones(snapshot->collector->clone_folder);
    fail_request(snapshot->collector->code, 0, snapshot->collector->message->c_str());
  }
  sys::close(snapshot->lock_fd);  // the end of a large process takes its time, and the next one may come at once
  for (;;) sys::call(__NR_exit_group, 0).ignore();
}

}  // namespace ckpt

// The restorer: a program of its own, freestanding, that becomes the checkpointed process. Shared by its steps.
//
// Steps, in order (engine.cc): move into a hole → empty the address space → place vdso → map areas → fill pages → protect →
// kernel's notes, signals, limits → threads → leave through the program's own libckpt.so.
// Every step before `leave` may fail: one line goes to the report pipe, and the process ends with 125. Nothing outside has been
// touched by then but files that ckpt-restart itself has put back.
#pragma once

#include <span>

#include "lib/format/numbers.h"
#include "lib/resources/files/record.h"
#include "lib/resources/signals/record.h"
#include "lib/resources/timers/record.h"
#include "lib/sys/signals.h"
#include "lib/sys/text.h"
#include "restart/engine/hand-over.h"

extern "C" {
[[noreturn]] void engine_move(void* argument, void (*function)(void*), void* stack_top);
long engine_clone(void* arguments, unsigned long size, void (*function)(void*), void* argument);
[[noreturn]] void engine_leave(std::uint64_t context, std::uint64_t counter, std::uint64_t memory, std::uint64_t size,
                               std::uint64_t resume);
}

namespace ckpt::engine {

struct Range {
  std::uint64_t begin;
  std::uint64_t end;
};

inline constexpr unsigned kMaxWorkers = 8;
inline constexpr std::size_t kStackSize = 256U << 10;
inline constexpr std::size_t kThreadStackSize = 16U << 10;
inline constexpr std::size_t kParkingSize = 256U << 10;
inline constexpr unsigned kMaxKernelAreas = 8;

// A kernel-made area (vdso and its data) as it is in this process.
struct KernelArea {
  format::AreaKind kind;
  std::uint64_t start;
  std::uint64_t size;
};

// All that the steps share. Lives in the restorer's own memory, in the hole.
struct Engine {
  const format::HandOver* hand;
  Range hole;
  std::uint64_t stack_top;
  std::uint64_t parking;        // room for the kernel's areas while the map is rebuilt
  std::uint64_t worker_memory;  // kMaxWorkers × kWorkerMemory
  std::uint64_t thread_stacks;
  KernelArea kernel_areas[kMaxKernelAreas];
  unsigned kernel_area_count;
  std::span<std::uint8_t> vdso_copy;  // of the old vdso, where threads stood in it; a page for stubs follows
  std::uint64_t* objects;             // addresses of the anonymous memory objects while they are filled
  // fill
  std::uint64_t next_frame;
  std::uint32_t failed;
  std::uint32_t running;
  // threads
  std::uint64_t next_thread;
  std::uint32_t ready;
  std::uint32_t has_files;  // the process's descriptors are complete
  std::uint32_t tables;     // threads that have taken their own
  std::uint32_t go;
  std::uint32_t main_ends;  // cleared by the kernel when a main thread that is to end has ended
};

template <typename T>
const T* list(const Engine& engine, const format::HandList& which) {
  return reinterpret_cast<const T*>(reinterpret_cast<std::uint64_t>(engine.hand) + which.offset);
}

// One line to ckpt-restart, and the end.
[[noreturn]] void die(const Engine& engine, const char* what, int error);
[[noreturn]] void die_at(const Engine& engine, const char* what, std::uint64_t address, int error);

inline constexpr std::size_t kWorkerMemory = 4U << 20;

void map_areas(Engine* engine);
// Anonymous memory objects, where their pages can be filled in, and the areas that show objects.
void map_objects(Engine* engine);
void make_aio_rings(const Engine& engine);
void fill_pages(Engine* engine);
// When all that shows them is mapped and full: seals set, descriptors closed.
void leave_objects(const Engine& engine);
void protect_areas(const Engine& engine);
// Returns Engine::vdso_copy.
std::span<std::uint8_t> place_kernel_areas(const Engine& engine);
// … where the image has another kernel's, or clocks are put forward.
std::span<std::uint8_t> replace_vdso(const Engine& engine);
// Before the limits are those of the program, which may have lowered them since.
void lock_areas(const Engine& engine);
void seal_areas(const Engine& engine);
inline bool has_shifted_clocks(const Engine& engine) {
  return engine.hand->translation.monotonic_ns != 0 || engine.hand->translation.boottime_ns != 0;
}
// Where numbers of the program could not be had again, or its clocks are behind: before the map is final, and when all threads are
// there.
void prepare_translation(const Engine& engine);
void publish_numbers(const Engine& engine);
// The place for the new number of a process or thread that could not get its old one; nullptr: it has that.
format::NumberPair* find_new_number(const Engine& engine, std::int32_t shown);
std::int32_t real_number(const Engine& engine, std::int32_t shown);
// Somebody of the job had this number, and may be about to get it again.
bool is_number_of_job(const Engine& engine, std::int32_t number);
void set_process_state(const Engine& engine);
// Resource limits, as close as an ordinary user gets.
void set_limits(const Engine& engine);
// Scheduling, priorities and privileges of the calling thread: the last that it does with the rights of the restart.
void settle_thread(const Engine& engine, const format::ThreadStateRecord* state);
void create_timers(Engine* engine);
void arm_timers(const Engine& engine);
void open_late_files(const Engine& engine);
// Of open files, and then what of descriptors is the process's own.
void set_owners_and_locks(const Engine& engine);
void set_own_locks(const Engine& engine);
// By a thread that is to have its own table of descriptors; by the main thread, which waits for all of them.
void take_table(Engine* engine, std::int32_t tid);
void share_out_tables(Engine* engine);
[[noreturn]] void start_threads(Engine* engine);

}  // namespace ckpt::engine

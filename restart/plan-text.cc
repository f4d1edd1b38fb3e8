// What `ckpt-restart -n` prints: one line a thing, the word for it first.
#include <ostream>
#include <sstream>

#include "restart/plan.h"
#include "restart/shared-names.h"

namespace ckpt {

namespace {

const char* text_of(DescriptionPlan::Source source) {
  switch (source) {
    case DescriptionPlan::Source::kOpen:
      return "opened again";
    case DescriptionPlan::Source::kStream:
      return "standard stream of ckpt-restart";
    case DescriptionPlan::Source::kContent:
      return "deleted file, from the image";
    case DescriptionPlan::Source::kTerminal:
      return "the terminal of ckpt-restart";
    case DescriptionPlan::Source::kOwnPipe:
      return "pipe within the program, made again";
    case DescriptionPlan::Source::kCutPipe:
      return "pipe that led outside, cut off";
    case DescriptionPlan::Source::kMade:
      return "made again";
    case DescriptionPlan::Source::kLate:
      return "opened again when the memory is there";
  }
  return "";
}

// `memory` is what there is to say of its size.
void describe_process(std::ostream& out, const RestartPlan& plan, const std::string& memory) {
  const auto& process = plan.process->process;
  out << "process    pid " << process.pid << ", parent " << process.parent_pid << ", group " << process.group_id << ", threads "
      << plan.process->threads.size() << '\n';
  out << "memory     " << plan.process->areas.size() << " areas" << memory << '\n';
  out << "folder     " << mask(plan.process->cwd) << '\n';
  for (const auto& entry : plan.process->descriptors) {
    const DescriptionPlan& description = plan.description_of(entry);
    out << "descriptor " << entry.fd << "  " << text_of(description.source) << "  " << mask(description.description->path) << '\n';
  }
}

}  // namespace

std::string describe_plan(const RestartPlan& plan) {
  const auto& job = plan.image->job();
  std::ostringstream out;
  out << "image      " << plan.image->name() << '\n';
  out << "command    " << mask(job.header.command) << '\n';
  describe_process(out, plan, ", " + std::to_string(job.header.memory_bytes) + " bytes");
  for (const ProcessImage& other : job.processes) {
    if (&other != plan.process) describe_process(out, plan.seen_by(other), "");
  }
  if (plan.needs_ipc_namespace() && !plan.is_plain)
    out << "ipc        System V objects and POSIX message queues are made again in an IPC namespace of the job's own\n";
  if (plan.options.is_again) out << describe_shared_names(plan);
  for (const CutPlan& cut : plan.cuts)
    out << "cut back   " << mask(cut.path) << " to " << cut.size << " bytes, from " << cut.grown_to << '\n';
  for (const std::string& note : plan.notes) out << "note       " << note << '\n';
  return out.str();
}

}  // namespace ckpt

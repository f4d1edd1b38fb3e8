// nlohmann-json keeps the keys in the order we give them; bytes that are not UTF-8 become replacement characters.
#include "lib/common/image-json.h"

#include <nlohmann/json.hpp>

#include "lib/common/units.h"

namespace ckpt {
namespace {

using Json = nlohmann::ordered_json;

Json json_of_id(const format::Id128& id) { return id == format::Id128{} ? Json(nullptr) : Json(hex_of(id)); }

Json json_of_areas(const ProcessImage& process) {
  const auto counts = count_pages(process);
  Json areas = Json::array();
  for (std::size_t i = 0; i < process.areas.size(); ++i) {
    const auto& record = process.areas[i].record;
    areas.push_back({{"start", record.start},
                     {"end", record.end},
                     {"protection", protection_of(record)},
                     {"kind", name_of(record.kind)},
                     {"offset", record.offset},
                     {"pages_here", counts[i].here},
                     {"pages_zero", counts[i].zero},
                     {"pages_file", counts[i].file},
                     {"pages_guard", counts[i].guard},
                     {"name", path_of(process, process.areas[i])}});
  }
  return areas;
}

Json json_of_process(const ProcessImage& process) {
  Json json = {{"pid", process.process.pid},      {"parent_pid", process.process.parent_pid},
               {"name", process.process.name},    {"executable", process.executable},
               {"folder", process.cwd},           {"arguments", process.arguments},
               {"areas", json_of_areas(process)}, {"threads", Json::array()},
               {"descriptors", Json::array()},    {"open_files", Json::array()},
               {"handled_signals", Json::array()}};
  for (const auto& thread : process.threads) {
    json["threads"].push_back({{"tid", thread.tid}, {"name", thread.name}, {"blocked_signals", thread.blocked_signals}});
  }
  for (const auto& descriptor : process.descriptors) {
    json["descriptors"].push_back(
        {{"fd", descriptor.fd}, {"open_file", descriptor.description}, {"close_on_exec", descriptor.flags != 0}});
  }
  for (const auto& description : process.descriptions) {
    const auto& record = description.record;
    json["open_files"].push_back({{"id", record.id},
                                  {"kind", name_of(record.kind)},
                                  {"path", description.path},
                                  {"offset", record.offset},
                                  {"size", record.size},
                                  {"flags", record.status_flags}});
  }
  for (const auto& action : process.actions) {
    if (action.handler > 1) json["handled_signals"].push_back(action.signal);
  }
  return json;
}

void add_header(Json& json, const format::ImageHeader& header) {
  json["program"] = header.program;
  json["command"] = header.command;
  json["pid"] = header.pid;
  json["processes"] = header.process_count;
  json["threads"] = header.thread_count;
  json["generation"] = header.generation;
  json["memory"] = header.memory_bytes;
  json["codec"] = name_of(header.codec);
  json["id"] = json_of_id(header.image_id);
  json["parent"] = json_of_id(header.parent_id);
  json["job"] = json_of_id(header.job_id);
  json["host"] = header.host;
  json["kernel"] = header.kernel;
  json["format"] = header.format_version;
}

Json json_of_image(const ListedImage& image) {
  const auto& stored = image.stored;
  Json json = {{"schema", kJsonSchema},
               {"path", stored.path},
               {"state", name_of(image.state)},
               {"problem", stored.problem.empty() ? Json(nullptr) : Json(stored.problem)},
               {"time", format_time(stored.time_ns)},
               {"size", stored.size}};
  for (const char* key : {"program", "command", "pid", "processes", "threads", "generation", "memory", "codec", "id", "parent",
                          "job", "host", "kernel", "format"}) {
    json[key] = nullptr;
  }
  if (stored.header) add_header(json, *stored.header);
  return json;
}

}  // namespace

std::string format_json(const std::vector<ListedImage>& images, const std::vector<const JobImage*>& maps) {
  Json array = Json::array();
  for (std::size_t i = 0; i < images.size(); ++i) {
    Json json = json_of_image(images[i]);
    if (!maps.empty()) {
      json["map"] = nullptr;
      if (maps[i] != nullptr) {
        json["map"] = Json::array();
        for (const auto& process : maps[i]->processes) json["map"].push_back(json_of_process(process));
      }
    }
    array.push_back(std::move(json));
  }
  return array.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace ckpt

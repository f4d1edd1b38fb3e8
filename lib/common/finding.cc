// Findings as text and as JSON.
#include "lib/common/finding.h"

#include <nlohmann/json.hpp>

#include "lib/common/error.h"
#include "lib/common/image-json.h"

namespace ckpt {
namespace {

constexpr std::size_t kStateWidth = 10, kCheckWidth = 18;

std::string pad(std::string text, std::size_t width) {
  text.resize(std::max(text.size() + 1, width), ' ');
  return text;
}

}  // namespace

const char* name_of(State state) {
  switch (state) {
    case State::kOk:
      return "ok";
    case State::kDegraded:
      return "degraded";
    case State::kMissing:
      return "missing";
    case State::kRefused:
      return "refused";
  }
  return "?";
}

std::string format_findings(const std::vector<Finding>& findings) {
  std::string text;
  for (const Finding& finding : findings) {
    text += pad(name_of(finding.state), kStateWidth) + pad(finding.check, kCheckWidth) + mask(finding.detail) + "\n";
    if (!finding.remedy.empty()) text += pad("", kStateWidth + kCheckWidth) + "remedy: " + mask(finding.remedy) + "\n";
  }
  return text;
}

std::string format_findings_json(const std::vector<Finding>& findings) {
  using Json = nlohmann::ordered_json;
  Json array = Json::array();
  for (const Finding& finding : findings) {
    array.push_back({{"schema", kJsonSchema},
                     {"check", finding.check},
                     {"state", name_of(finding.state)},
                     {"detail", finding.detail},
                     {"remedy", finding.remedy.empty() ? Json(nullptr) : Json(finding.remedy)}});
  }
  return array.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace ckpt

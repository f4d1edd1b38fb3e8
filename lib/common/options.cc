// The option table over getopt_long: messages are our own, so that they look alike in all commands.
#include "lib/common/options.h"

#include <getopt.h>

#include <cstdio>
#include <cstdlib>

#include "lib/common/error.h"
#include "lib/common/version.h"

namespace ckpt {
namespace {

constexpr int kFirstLong = 256;  // getopt_long's value of row 0; beyond every letter

std::string usage_of_row(const Option& option) {
  std::string text = option.letter != 0 ? std::string("  -") + option.letter + ", " : std::string("      ");
  text += std::string("--") + option.name;
  if (option.argument != nullptr) text += std::string("=") + option.argument;
  return text;
}

std::string name_of(const Option& option) { return std::string("--") + option.name; }

// The table as getopt_long wants it.
struct GetoptTables {
  std::string letters;
  std::vector<option> rows;

  GetoptTables(const CommandInfo& command, std::span<const Option> options) {
    letters = command.runs_program ? "+:" : ":";
    for (std::size_t i = 0; i < options.size(); ++i) {
      const Option& row = options[i];
      const int has_argument = row.argument != nullptr ? required_argument : no_argument;
      rows.push_back({row.name, has_argument, nullptr, kFirstLong + static_cast<int>(i)});
      if (row.letter == 0) continue;
      letters += row.letter;
      if (row.argument != nullptr) letters += ':';
    }
    rows.push_back({nullptr, 0, nullptr, 0});
  }
};

const Option* find_row(std::span<const Option> options, int value) {
  for (std::size_t i = 0; i < options.size(); ++i) {
    if (value == kFirstLong + static_cast<int>(i) || (value != 0 && value == options[i].letter)) return &options[i];
  }
  return nullptr;
}

[[noreturn]] void complain(std::span<const Option> options, int result, char** argv) {
  const Option* row = find_row(options, optopt);
  if (result == ':' && row != nullptr) throw UsageError("option " + quote(name_of(*row)) + " needs a value: " + row->argument);
  if (row != nullptr) throw UsageError("option " + quote(name_of(*row)) + " takes no value");
  if (optopt > 0 && optopt < kFirstLong) throw UsageError("unknown option " + quote(std::string("-") + static_cast<char>(optopt)));
  throw UsageError("unknown or ambiguous option " + quote(argv[optind - 1]));
}

void handle_environment(std::span<const Option> options, const std::vector<bool>& seen) {
  for (std::size_t i = 0; i < options.size(); ++i) {
    if (seen[i] || options[i].environment == nullptr) continue;
    const char* value = std::getenv(options[i].environment);
    if (value == nullptr || *value == '\0') continue;
    try {
      options[i].handle(value);
    } catch (const UsageError& error) {
      throw UsageError(std::string(options[i].environment) + ": " + error.what());
    }
  }
}

std::vector<Option> with_common_rows(const CommandInfo& command, std::span<const Option> options) {
  std::vector<Option> rows(options.begin(), options.end());
  rows.push_back({"help", 'h', nullptr, "show this help", [&command, options](const char*) {
                    std::fputs(help_text(command, options).c_str(), stdout);
                    throw Finished{};
                  }});
  rows.push_back({"version", 0, nullptr, "show the version", [&command](const char*) {
                    std::printf("%s (ckpt) %s\n", command.name, kVersion);
                    throw Finished{};
                  }});
  return rows;
}

}  // namespace

std::string help_text(const CommandInfo& command, std::span<const Option> options) {
  std::string text = std::string("usage: ") + command.name + " " + command.synopsis + "\n" + command.summary + "\n\n";
  std::vector<Option> rows(options.begin(), options.end());
  rows.push_back({"help", 'h', nullptr, "show this help", {}});
  rows.push_back({"version", 0, nullptr, "show the version", {}});
  for (const Option& row : rows) {
    std::string line = usage_of_row(row);
    line.resize(std::max<std::size_t>(line.size() + 2, 28), ' ');
    text += line + row.help;
    if (row.environment != nullptr) text += std::string(" [") + row.environment + "]";
    text += "\n";
  }
  if (command.notes != nullptr) text += std::string("\n") + command.notes;
  return text;
}

std::vector<char*> parse_options(const CommandInfo& command, std::span<const Option> options, int argc, char** argv) {
  const std::vector<Option> rows = with_common_rows(command, options);
  GetoptTables tables(command, rows);
  std::vector<bool> seen(options.size(), false);
  opterr = 0;
  for (;;) {
    const int result = getopt_long(argc, argv, tables.letters.c_str(), tables.rows.data(), nullptr);
    if (result == -1) break;
    const Option* row = find_row(rows, result);
    if (result == '?' || result == ':' || row == nullptr) complain(rows, result, argv);
    const auto index = static_cast<std::size_t>(row - rows.data());
    if (index < seen.size()) seen[index] = true;
    if (row->argument != nullptr && *optarg == '\0') throw UsageError("option " + quote(name_of(*row)) + " has an empty value");
    row->handle(row->argument != nullptr ? optarg : nullptr);
  }
  handle_environment(options, seen);
  return {argv + optind, argv + argc};
}

}  // namespace ckpt

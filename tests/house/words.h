// Words and calls that the project does without, pages and files that must exist, and file length.
#pragma once

#include <functional>
#include <map>
#include <regex>

#include "tests/house/layering.h"
#include "tests/house/source.h"

namespace crabcast::house {

// Searches every line and reports each hit.
inline void find_in_lines(const std::string& path, const std::string& text,
                          const std::regex& pattern, const std::string& message,
                          Violations& found) {
  const auto lines = lines_of(text);
  for (std::size_t i = 0; i < lines.size(); ++i)
    if (std::smatch match; std::regex_search(lines[i], match, pattern))
      found.push_back({path, i + 1, message + " (" + match.str() + ")"});
}

inline bool is_product(std::string_view path) {
  return is_cpp(path) && !is_free_folder(path);
}
inline bool is_pure(std::string_view path) {
  return path.starts_with("scheduler/") || path.starts_with("data/sampler.");
}
inline bool is_actor_code(std::string_view path) {
  return path.starts_with("actors/") || path.starts_with("apps/");
}
inline bool is_library(std::string_view path) {
  return is_product(path) && !path.starts_with("apps/");
}
// This folder names the forbidden words.
inline bool is_the_rule_book(std::string_view path) {
  return path.starts_with("tests/house/");
}

// ---- C++
// ---------------------------------------------------------------------------------------------

struct CodeRule {
  std::function<bool(std::string_view path)> applies;
  std::regex pattern;  // in code, comments and strings aside
  std::string message;
};

inline const std::vector<CodeRule>& code_rules() {
  static const std::vector<CodeRule> rules = {
      {is_product,
       std::regex(
           R"(\b(sleep_for|sleep_until|usleep|nanosleep)\b|(^|\W)::sleep\s*\(|\bsleep\s*\(\s*\d)"),
       "no sleeping: wait for an event or a timer, with a timeout"},
      {is_product,
       std::regex(R"(\bpopen\s*\(|\bstd::system\s*\(|(^|[;=({}!)]|\breturn)\s*(::)?system\s*\()"),
       "no shell: start programs through cluster/child_process.h"},
      {is_product, std::regex(R"(\b(strcpy|strcat|sprintf|vsprintf|gets|strtok)\s*\()"),
       "no unbounded C string calls: use std::string or snprintf"},
      {is_product, std::regex(R"(\bstd::rand\b|\bsrand\s*\(|(^|[^\w:.>])rand\s*\()"),
       "no global random numbers: pass in a seeded generator"},
      {is_product, std::regex(R"(\busing namespace std\s*;)"), "no using namespace std"},
      {is_library,
       std::regex(R"(\bstd::(cout|cerr|clog)\b|(^|[^\w.>])(printf|fprintf|puts|perror)\s*\()"),
       "a library does not print: return an Error, or log with spdlog"},
      {is_actor_code, std::regex(R"(\bcaf::infinite\b)"),
       "no wait without end: give the request a named timeout"},
      {is_actor_code,
       std::regex(
           R"(\b(fan_out_request|run_delayed|run_scheduled|actor_from_state|partial_behavior_init)\b|[.>]mail\s*\(|\bf\.object\s*\()"),
       "not in CAF 0.17.6: use request, delayed_send and stateful actors"},
      {is_actor_code, std::regex(R"(\bCAF_ADD_ATOM\s*\(([^,()]*,){2}[^,()]*\))"),
       "CAF 0.17.6 wants CAF_ADD_ATOM(block, namespace, name, \"text\")"},
      {[](std::string_view path) {
         return is_product(path) && !path.starts_with("model/") && !path.starts_with("data/") &&
                !path.starts_with("actors/compute/");
       },
       std::regex(R"(\.detach\s*\(\))"), "no detached thread: keep it and join it"},
      {is_pure,
       std::regex(
           R"(#\s*include\s*<(thread|mutex|shared_mutex|condition_variable|future|atomic|semaphore|latch|barrier|stop_token|fstream|iostream|cstdio|filesystem|ctime|unistd\.h|sys/.*|fcntl\.h|spdlog/.*)>)"),
       "pure code has no threads, clocks or I/O: let the caller pass values in"},
      {is_pure,
       std::regex(
           R"(_clock::now|\bClock::now\b|\bunix_ms_now\b|\brandom_device\b|\bgetenv\b|\bthread_local\b|\bstd::time\s*\()"),
       "pure code takes time, randomness and settings as arguments"},
  };
  return rules;
}

// Lines that may break a rule of this table, and why. A stale entry fails a test.
struct Exemption {
  std::string path;
  std::string word;
  std::string reason;
};
inline const std::vector<Exemption>& exemptions() {
  static const std::vector<Exemption> all = {
      {"cluster/nccl/nccl_collective.cpp", "sleep_for",
       "NCCL has nothing to wait on: ncclCommGetAsyncError can only be asked again"},
      {"protocol/fault_points.cpp", "sleep_for", "a delay is what is staged there"},
  };
  return all;
}

inline bool is_exempt(const Violation& violation) {
  return std::any_of(exemptions().begin(), exemptions().end(), [&](const Exemption& exemption) {
    return violation.path == exemption.path &&
           violation.message.find(exemption.word) != std::string::npos;
  });
}

// All hits, the exempt ones too.
inline Violations check_code(const SourceFile& file) {
  Violations found;
  if (!is_cpp(file.path)) return found;
  const std::string code = without_comments(file.text, Keep::code_only);
  for (const CodeRule& rule : code_rules())
    if (rule.applies(file.path)) find_in_lines(file.path, code, rule.pattern, rule.message, found);
  return found;
}

// ---- Every text file
// -----------------------------------------------------------------------------------

inline Violations check_words(const SourceFile& file) {
  static const std::regex unfinished(R"(\b(TODO|FIXME|XXX|HACK)\b)");
  static const std::regex outside(
      R"(/work/|\.\./shared\b|\bshared/(design|reference|hooks|real-samples)\b)");
  static const std::regex plan(R"(\(D[1-8]\b|\bD[1-8] to D[1-8]\b|\bsee D[1-8]\b)");
  Violations found;
  if (is_the_rule_book(file.path)) return found;
  find_in_lines(file.path, file.text, unfinished,
                "finish it, or open an issue and say nothing here", found);
  find_in_lines(file.path, file.text, outside,
                "names a place outside the repository: bring it in or drop it", found);
  find_in_lines(file.path, file.text, plan,
                "names a section of a plan that readers do not have: say what it says", found);
  return found;
}

inline Violations check_length(const SourceFile& file) {
  constexpr std::size_t kMostLines = 700;
  const bool generated = has_ending(file.path, {".json", ".golden"});
  const std::size_t lines = lines_of(file.text).size();
  if (generated || lines <= kMostLines) return {};
  return {{file.path, 0,
           "has " + std::to_string(lines) + " lines, more than " + std::to_string(kMostLines) +
               ": split it by duty"}};
}

using Exists = std::function<bool(const std::string& path_from_root)>;

// Links of a Markdown page to files of the repository.
inline Violations check_links(const SourceFile& file, const Exists& exists) {
  static const std::regex link(R"(\]\(([^)\s]+)\))");
  Violations found;
  if (!has_ending(file.path, {".md"})) return found;
  bool in_code = false;
  const auto lines = lines_of(file.text);
  for (std::size_t i = 0; i < lines.size(); ++i) {
    if (lines[i].starts_with("```")) in_code = !in_code;
    if (in_code) continue;
    for (std::sregex_iterator it(lines[i].begin(), lines[i].end(), link), end; it != end; ++it) {
      std::string target = (*it)[1];
      target = target.substr(0, target.find('#'));
      if (target.empty() || target.find("://") != std::string::npos ||
          target.starts_with("mailto:"))
        continue;
      const auto path =
          (std::filesystem::path(file.path).parent_path() / target).lexically_normal();
      if (!exists(path.generic_string()))
        found.push_back({file.path, i + 1, "dead link: " + target + " is not in the repository"});
    }
  }
  return found;
}

// Names such as bench/NAME.cpp stand for any file.
inline bool is_example(const std::string& path) {
  const std::string name = std::filesystem::path(path).stem();
  return std::all_of(name.begin(), name.end(),
                     [](unsigned char c) { return std::isupper(c) || c == '_'; }) &&
         !has_ending(path, {".md"});
}

// Files of the repository that a comment or a page names, as in "protocol/tasks.h".
inline Violations check_named_files(const SourceFile& file, const Exists& exists) {
  static const std::regex named(
      R"((^|[^\w./-])((protocol|cluster|storage|model|data|scheduler|actors|apps|tests|bench|docs|examples|cmake|deploy|dashboard)/[\w/-]+\.(h|cpp|proto|md|yaml|cmake))\b)");
  Violations found;
  if (is_the_rule_book(file.path)) return found;
  const auto lines = lines_of(file.text);
  for (std::size_t i = 0; i < lines.size(); ++i)
    for (std::sregex_iterator it(lines[i].begin(), lines[i].end(), named), end; it != end; ++it)
      if (!is_example((*it)[2]) && !exists((*it)[2]))
        found.push_back({file.path, i + 1, "names a file that is not there: " + (*it)[2].str()});
  return found;
}

// A source that no program is made of: tests/FOLDER and bench/NAME.cpp are named in a
// CMakeLists.txt.
inline Violations check_is_built(const SourceFile& file, const std::string& tests_cmake,
                                 const std::string& bench_cmake) {
  const std::filesystem::path path(file.path);
  if (path.extension() != ".cpp") return {};
  const std::string folder = path.parent_path().filename(), name = path.stem();
  const auto unless = [&](const std::string& cmake, const std::string& line) -> Violations {
    if (cmake.find(line) != std::string::npos) return {};
    return {{file.path, 0, "is not built: the CMakeLists.txt has no \"" + line + "\""}};
  };
  if (file.path.starts_with("bench/")) return unless(bench_cmake, "crabcast_bench(" + name + " ");
  if (file.path.starts_with("tests/support/"))
    return name == "main" ? Violations{} : unless(tests_cmake, "support/" + name + ".cpp");
  if (file.path.starts_with("tests/")) return unless(tests_cmake, "crabcast_tests(" + folder + " ");
  return {};
}

}  // namespace crabcast::house

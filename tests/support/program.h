// Real programs for process tests: started, watched, killed.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "tests/support/temporary_folder.h"

namespace crabcast::testing {

using namespace std::chrono_literals;

void write_file(const std::filesystem::path& file, const std::string& text);
std::string read_file(const std::filesystem::path& file);
// The program of that name beside the tests.
std::filesystem::path program(const std::string& name);

// Asks every 50 ms until `condition` holds or `limit` is over; returns whether it held.
bool eventually(const std::function<bool()>& condition, std::chrono::milliseconds limit);
bool process_exists(pid_t pid);
// Processes of this machine whose command line holds `text`.
std::vector<pid_t> processes_with(const std::string& text);

// A running program; killed when it is still there at the end of its scope.
class Program {
 public:
  Program(const std::string& name, const std::vector<std::string>& arguments);
  ~Program();
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  void signal(int number) const;
  // Exit code, 128 + signal, or nothing when it is still running after `limit`.
  std::optional<int> wait(std::chrono::milliseconds limit);
  [[nodiscard]] pid_t pid() const { return pid_; }
  [[nodiscard]] std::string out() const;  // stdout so far
  [[nodiscard]] std::string err() const;

 private:
  TemporaryFolder folder_;
  pid_t pid_ = -1;
  std::optional<int> code_;
};

struct Finished {
  int code = -1;  // -1: killed after `limit`
  std::string out, err;
};
Finished run_program(const std::string& name, const std::vector<std::string>& arguments,
                     std::chrono::milliseconds limit = 60s);

}  // namespace crabcast::testing

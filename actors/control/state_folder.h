// Where a node keeps its things (docs/operations.md, "The state folder").
#pragma once

#include <cstdlib>
#include <filesystem>
#include <string>

namespace crabcast::actors {

struct StateFolder {
  std::filesystem::path root;

  [[nodiscard]] std::filesystem::path keys() const { return root / "keys"; }
  // Hashes of the HTTP gateway's tokens.
  [[nodiscard]] std::filesystem::path tokens() const { return root / "tokens"; }
  [[nodiscard]] std::filesystem::path registry() const { return root / "controller" / "registry"; }
  // Text file: the endpoint of the running controller.
  [[nodiscard]] std::filesystem::path controller_endpoint() const {
    return root / "controller" / "endpoint";
  }
  [[nodiscard]] std::filesystem::path corpora() const { return root / "corpora"; }
  // Decoded samples and features, shared by this node's jobs. May be removed when none runs.
  [[nodiscard]] std::filesystem::path cache() const { return root / "cache"; }
  // Of corpora, wherever those are (docs/corpus.md, "The index").
  [[nodiscard]] std::filesystem::path indexes() const { return root / "indexes"; }
  // Imported bases, one folder each.
  [[nodiscard]] std::filesystem::path bases() const { return root / "bases"; }
  [[nodiscard]] std::filesystem::path job(const std::string& job) const {
    return root / "jobs" / job;
  }
  // Copies of the stores of jobs whose coordinators are on other nodes.
  [[nodiscard]] std::filesystem::path replicas() const { return root / "replicas"; }
  [[nodiscard]] std::filesystem::path replica(const std::string& job) const {
    return replicas() / job / "store";
  }
  // Inside a job's folder:
  static std::filesystem::path store(const std::filesystem::path& job_dir) {
    return job_dir / "store";
  }
  static std::filesystem::path log(const std::filesystem::path& job_dir, const std::string& role) {
    return job_dir / "logs" / (role + ".log");
  }
  static std::filesystem::path launch(const std::filesystem::path& job_dir,
                                      const std::string& role) {
    return job_dir / "launch" / role;
  }

  // $CRABCAST_STATE, else $XDG_STATE_HOME/crabcast, else ~/.local/state/crabcast.
  static StateFolder standard() {
    auto variable = [](const char* name) -> std::string {
      const char* value = std::getenv(name);
      return value ? value : "";
    };
    if (auto own = variable("CRABCAST_STATE"); !own.empty()) return {own};
    if (auto xdg = variable("XDG_STATE_HOME"); !xdg.empty())
      return {std::filesystem::path(xdg) / "crabcast"};
    return {std::filesystem::path(variable("HOME")) / ".local" / "state" / "crabcast"};
  }
};

}  // namespace crabcast::actors

// The command line of `crabcast`: the one place that knows its verbs and options. Help and
// completion are made from this tree.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <string>
#include <vector>

#include "apps/cli/generate.h"
#include "apps/cli/verbs.h"

namespace crabcast::apps {

class CommandLine {
 public:
  CommandLine();
  CommandLine(const CommandLine&) = delete;
  CommandLine& operator=(const CommandLine&) = delete;

  // Reads the command line (without the program's name) and carries it out. Help goes to stdout;
  // mistakes to stderr, with Exit::usage and the name that was most likely meant.
  Exit run(const std::vector<std::string>& arguments);
  [[nodiscard]] const CLI::App& tree() const { return app_; }

 private:
  CLI::App* verb(CLI::App& parent, const std::string& name, const std::string& description,
                 const std::string& examples, std::function<Exit()> action);
  // Options that a verb shares with others.
  void takes_json(CLI::App* verb);
  void takes_state(CLI::App* verb);
  void takes_controller(CLI::App* verb);
  void takes_quiet(CLI::App* verb);
  static void takes_http(CLI::App* verb, std::string& into);
  CLI::Option* takes_job(CLI::App* verb, std::string& into);

  CLI::App* store_verb(CLI::App& parent, const std::string& name, const std::string& description,
                       const std::string& examples,
                       Exit (*what)(const Common&, const CheckpointOptions&));

  void add_cluster_verbs();
  void add_job_verbs();
  void add_looking_verbs();
  void add_spec_verbs();   // command_line_cluster.cpp
  void add_place_verbs();  // command_line_cluster.cpp
  void add_store_verbs();
  void add_checkpoint_verbs();  // command_line_checkpoints.cpp
  void add_chaos_verbs();       // command_line_chaos.cpp
  void add_scheduling_verbs();  // command_line_scheduling.cpp
  void add_token_verbs();       // command_line_token.cpp
  void add_generate_verb();
  void add_compute_verbs();
  void add_adapter_verbs();
  void add_machine_verbs();
  Exit usage_error(const std::string& message, const CLI::App& at) const;
  // Names an option that `at` does not have, and the one that was most likely meant; empty when all
  // are known.
  [[nodiscard]] std::string option_hint(const std::vector<std::string>& arguments,
                                        const CLI::App& at) const;

  CLI::App app_;
  std::function<Exit()> action_;
  Common common_;
  RunOptions run_;
  ControllerDaemonOptions controller_;
  AgentDaemonOptions agent_;
  std::string agent_memory_;
  ValidateOptions validate_;
  SubmitOptions submit_;
  LogOptions logs_;
  DrainOptions drain_;
  CloneOptions clone_;
  std::string other_job_, name_;
  CheckpointOptions checkpoint_;
  CheckpointImportOptions checkpoint_import_;
  ChaosOptions chaos_;
  SimulateOptions simulate_;
  TokenOptions token_;
  CheckpointDiffOptions checkpoint_diff_;
  AdapterExportOptions adapter_export_;
  GenerateOptions generate_;
  std::string job_, launch_file_, shell_, policy_file_;
  bool all_ = false, follow_ = false, keep_ = false;
  std::uint32_t workers_ = 0;
};

}  // namespace crabcast::apps

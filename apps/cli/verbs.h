// The verbs of `crabcast`, one function each; main.cpp reads the command line into their options.
// Each returns the process's exit code, prints results to stdout and errors to stderr.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "apps/cli/exit_codes.h"

namespace CLI {
class App;
}

namespace crabcast::apps {

// What every verb has.
struct Common {
  bool json = false;            // machine-readable output on stdout
  std::filesystem::path state;  // state folder
  std::string controller;       // tcp://HOST:PORT; empty: the one that runs in the state folder
  bool quiet = false;
};

struct RunOptions {
  std::string spec;
  bool fresh = false;  // a new job even where an unfinished one could go on
  std::string http;    // HOST:PORT of the HTTP gateway; empty: none
};
Exit run(const Common& common, const RunOptions& options);  // run.cpp

struct ControllerDaemonOptions {
  std::string bind = "127.0.0.1:7117";
  std::filesystem::path policy;  // queues, quota and users; empty: none
  std::string http;              // HOST:PORT of the HTTP gateway; empty: none
};
Exit controller(const Common& common, const ControllerDaemonOptions& options);  // daemons.cpp
struct AgentDaemonOptions {
  std::string join;                 // HOST:PORT
  std::string node;                 // default: host name
  std::string bind = "127.0.0.1";   // address that this node's processes listen on
  double cpus = 0;                  // 0 = what the machine has
  int gpus = -1;                    // -1 = what the machine has
  std::uint64_t memory_bytes = 0;   // 0 = what the machine has
  std::vector<std::string> labels;  // name=value
  std::vector<std::string> taints;
  std::filesystem::path keys;  // default: STATE/keys
};
Exit agent(const Common& common, const AgentDaemonOptions& options);  // daemons.cpp
Exit role(const std::string& launch_file);                            // coordinator.cpp

struct ValidateOptions {
  std::string spec;    // a file; "-" = stdin
  bool print = false;  // the canonical YAML, defaults included
};
Exit validate(const Common& common, const ValidateOptions& options);  // jobs.cpp
struct SubmitOptions {
  std::string spec;
  std::string client_key;  // makes a repeated submit one job
  bool resume = false;     // go on with the newest unfinished job of this name and spec
  bool hold = false;       // it waits until it is released
};
Exit submit(const Common& common, const SubmitOptions& options);
Exit ps(const Common& common, const std::string& job, bool all);  // jobs; with JOB: its actors
Exit status(const Common& common, const std::string& job);
struct LogOptions {
  std::string job, role;  // role empty: coordinator
  bool follow = false;
};
Exit logs(const Common& common, const LogOptions& options);
Exit events(const Common& common, const std::string& job, bool follow);
Exit incidents(const Common& common, const std::string& job);
Exit nodes(const Common& common);

Exit cancel(const Common& common, const std::string& job, bool keep);  // cluster.cpp
Exit scale(const Common& common, const std::string& job, std::uint32_t workers);
Exit resume(const Common& common, const std::string& job);
Exit hold(const Common& common, const std::string& job, bool held);
Exit explain(const Common& common, const std::string& job);
Exit queues(const Common& common);
struct DrainOptions {
  std::string node, reason;
  bool off = false;
};
Exit drain(const Common& common, const DrainOptions& options);

Exit init(const Common& common, const std::string& name);  // spec_verbs.cpp
Exit diff(const Common& common, const std::string& before, const std::string& after);
struct CloneOptions {
  std::string job;
  std::vector<std::string> changes;  // FIELD=VALUE
  bool print = false;                // the spec, and submit nothing
};
Exit clone(const Common& common, const CloneOptions& options);
struct TokenOptions {
  std::string name, owner, role = "viewer";
};
Exit token_add(const Common& common, const TokenOptions& options);  // token.cpp
Exit token_ls(const Common& common);
Exit token_revoke(const Common& common, const std::string& name);

struct CheckpointOptions {
  std::string job;                  // id; or empty with store
  std::filesystem::path store;      // a job's store folder, for example a copy
  std::optional<std::uint64_t> id;  // verify: all when empty; show, export: the newest good one
  std::string note;                 // pin
  bool dry_run = false;             // gc: only say what it would do
  std::optional<std::uint32_t> keep_last;  // gc, instead of the spec's
  std::filesystem::path out;               // export
};
Exit ckpt_ls(const Common& common, const CheckpointOptions& options);  // checkpoints.cpp
Exit ckpt_verify(const Common& common, const CheckpointOptions& options);
Exit ckpt_show(const Common& common, const CheckpointOptions& options);  // checkpoint_show.cpp
Exit ckpt_pin(const Common& common, const CheckpointOptions& options);   // checkpoint_keep.cpp
Exit ckpt_unpin(const Common& common, const CheckpointOptions& options);
Exit ckpt_gc(const Common& common, const CheckpointOptions& options);
Exit ckpt_export(const Common& common,
                 const CheckpointOptions& options);  // checkpoint_transfer.cpp
struct CheckpointImportOptions {
  std::filesystem::path folder;  // what ckpt export wrote
  std::string job;               // into its store; or
  std::filesystem::path store;   // into this one; or, without both, as a new job
};
Exit ckpt_import(const Common& common, const CheckpointImportOptions& options);

struct ChaosOptions {
  std::vector<std::string> scenarios;
  std::uint64_t seed = 1;
  double minutes = 0;          // 0: each scenario once
  std::filesystem::path work;  // empty: a temporary one
  bool keep = false;
};
Exit chaos_run(const Common& common, const ChaosOptions& options);  // chaos.cpp
Exit chaos_points(const Common& common);
// Each is JOB@N or STORE@N; without @N the newest.
struct CheckpointDiffOptions {
  std::string before, after;
};
Exit ckpt_diff(const Common& common, const CheckpointDiffOptions& options);  // checkpoint_diff.cpp
Exit report(const Common& common, const CheckpointOptions& options);         // report_verb.cpp
Exit quarantine(const Common& common, const CheckpointOptions& options);     // quarantine.cpp

struct AdapterExportOptions {
  std::string path;                         // a file or folder; or empty with job or store
  std::string job;                          // id
  std::filesystem::path store;              // a job's store folder
  std::optional<std::uint64_t> checkpoint;  // default: the newest that verifies
  std::string format, out;
  // What a file does not say, as it was given; empty: not given.
  std::string kind, alpha, dropout;
};
Exit adapter_export(const Common& common, const AdapterExportOptions& options);  // adapter.cpp

struct SimulateOptions {
  std::uint32_t nodes = 100, jobs = 2000, queues = 10;
  std::uint64_t seed = 1;
  double load = 1.0;
  std::string trace;   // CSV; instead of jobs from the seed
  std::string policy;  // YAML; default: one of `queues` queues, for a trace the standard one
  std::filesystem::path svg;
};
Exit simulate(const Common& common, const SimulateOptions& options);  // simulate.cpp
Exit policy_check(const Common& common, const std::string& file);     // policy.cpp

Exit doctor(const Common& common);  // doctor.cpp
// Prints the completion of the command line that `root` describes.
Exit completion(const CLI::App& root, const std::string& shell);  // completion.cpp
// Runs crabcast-compute with the same arguments in this process's place.
Exit hand_on(const std::vector<std::string>& arguments);  // programs.cpp

}  // namespace crabcast::apps

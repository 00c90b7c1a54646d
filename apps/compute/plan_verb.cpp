#include "apps/compute/plan_verb.h"

#include <CLI/CLI.hpp>
#include <cstdio>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "actors/compute/worker_plan.h"
#include "actors/control/state_folder.h"
#include "apps/cli/exit_codes.h"
#include "apps/cli/spec_file.h"
#include "apps/compute/verb_output.h"
#include "protocol/base_location.h"
#include "protocol/format.h"
#include "protocol/job_spec.h"

namespace crabcast::apps {
namespace {

using nlohmann::ordered_json;

struct PlanVerb {
  std::string file;
  std::string state = actors::StateFolder::standard().root;
  actors::PlanOptions options;
  std::string device_memory;
  bool json = false;
};

// What there is for a worker; nothing where nobody said what its GPU has.
struct Room {
  std::optional<std::uint64_t> bytes;
  const char* from = "";

  [[nodiscard]] bool holds(std::uint64_t needed) const { return !bytes || needed <= *bytes; }
};

Result<Room> find_room(const PlanVerb& verb, const JobSpec& spec) {
  if (!verb.device_memory.empty()) {
    const auto bytes = parse_bytes(verb.device_memory);
    if (!bytes) return fail(bytes.error().within("--device-memory"));
    return Room{*bytes, "--device-memory"};
  }
  if (spec.resources.worker.gpus > 0) return Room{};
  return Room{spec.resources.worker.memory_bytes, "resources.worker.memory"};
}

std::string millions(std::int64_t count) {
  char text[32];
  std::snprintf(text, sizeof text, "%.2f million", static_cast<double>(count) / 1e6);
  return text;
}

void print_text(const JobSpec& spec, const actors::WorkerPlan& plan, const Room& room) {
  std::cout << "base     " << spec.model.base << ": " << millions(plan.base_parameters)
            << " parameters\ntrained  " << to_string(spec.model.adapter.kind) << ": "
            << millions(plan.trained_parameters) << " parameters\nlane     "
            << spec.train.samples_per_lane << " samples of up to " << plan.sample_tokens
            << " tokens (" << plan.data_set << ")\n\n";
  std::vector<std::vector<std::string>> rows;
  for (const auto& [name, bytes, note] : plan.parts)
    rows.push_back({name, format_bytes(bytes), note});
  rows.push_back({"all", format_bytes(plan.bytes()), ""});
  std::cout << format_table({"A WORKER'S", "MEMORY", ""}, rows) << "\n";
  if (!room.bytes) {
    std::cout << "to see whether it fits, say what the GPU has: --device-memory 80GiB\n";
    return;
  }
  const bool fits = room.holds(plan.bytes());
  std::cout << (fits ? "fits: " : "does NOT fit: ") << format_bytes(plan.bytes()) << " of "
            << format_bytes(*room.bytes) << " (" << room.from << ")\n";
  if (!fits && spec.train.recompute == Recompute::none)
    std::cout
        << "train.recompute: layers needs less, and so do smaller packs (train.pack_tokens)\n";
}

void print_json(const actors::WorkerPlan& plan, const Room& room) {
  ordered_json memory;
  for (const auto& part : plan.parts) memory[part.name] = part.bytes;
  ordered_json out{{"base_parameters", plan.base_parameters},
                   {"trained_parameters", plan.trained_parameters},
                   {"data_set", plan.data_set},
                   {"sample_tokens", plan.sample_tokens},
                   {"memory", memory},
                   {"needed", plan.bytes()},
                   {"room", nullptr},
                   {"fits", nullptr}};
  if (room.bytes) {
    out["room"] = *room.bytes;
    out["fits"] = room.holds(plan.bytes());
  }
  std::cout << out.dump(2) << "\n";
}

Result<Exit> show_plan(const PlanVerb& verb) {
  auto spec = read_spec(verb.file);
  if (!spec) return fail(spec.error());
  const auto bases = actors::StateFolder{std::filesystem::absolute(verb.state)}.bases();
  auto base = locate_base(spec->model.base, bases);
  if (!base) return fail(base.error());
  const auto room = find_room(verb, *spec);
  if (!room) return fail(room.error());
  const auto plan = actors::plan_worker(*spec, *base, verb.options);
  if (!plan) return fail(plan.error());
  if (verb.json)
    print_json(*plan, *room);
  else
    print_text(*spec, *plan, *room);
  return room->holds(plan->bytes()) ? Exit::ok : Exit::failed;
}

}  // namespace

void add_plan_verb(CLI::App& app, int& code) {
  const auto verb = std::make_shared<PlanVerb>();
  auto* plan =
      app.add_subcommand("plan", "Parameters and memory of a job's workers, and whether they fit");
  plan->footer("Example:\n  crabcast plan job.yaml --device-memory 80GiB");
  plan->add_option("file", verb->file, "Job spec; - reads stdin")->required();
  plan->add_option("--text-tokens", verb->options.text_tokens,
                   "Question and answer of the longest sample")
      ->check(CLI::Range(1, 1'000'000).description(""))
      ->capture_default_str();
  plan->add_option("--answer-tokens", verb->options.answer_tokens, "Of these, those of the answer")
      ->check(CLI::Range(1, 1'000'000).description(""))
      ->capture_default_str();
  plan->add_option("--device-memory", verb->device_memory,
                   "Memory of the GPU, as 80GiB; without a GPU it is resources.worker.memory");
  plan->add_option("--state", verb->state, "State folder, for imported bases")
      ->capture_default_str();
  plan->add_flag("--json", verb->json, "Print JSON");
  plan->callback([verb, &code] {
    const auto done = show_plan(*verb);
    code = static_cast<int>(done ? *done : complain(done.error(), verb->json));
  });
}

}  // namespace crabcast::apps

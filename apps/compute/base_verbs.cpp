#include "apps/compute/base_verbs.h"

#include <CLI/CLI.hpp>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>

#include "actors/control/state_folder.h"
#include "apps/cli/exit_codes.h"
#include "apps/compute/base_make_verb.h"
#include "apps/compute/verb_output.h"
#include "model/base_import.h"
#include "model/base_inspect.h"
#include "protocol/format.h"

namespace crabcast::apps {
namespace {

using nlohmann::ordered_json;

Exit inspect(const std::string& folder, bool json) {
  auto report = [&] {
    Meter meter("reading");
    return model::inspect_base(
        folder, [&](std::uint64_t done, std::uint64_t total) { meter.show(done, total); });
  }();
  if (!report) return complain(report.error(), json);
  std::cout << (json ? report->json() + "\n" : report->text());
  return report->clean() ? Exit::ok : Exit::failed;
}

struct ImportVerb {
  std::string folder, name, type;
  std::string state = actors::StateFolder::standard().root;
  bool json = false;
};

Exit import(const ImportVerb& verb) {
  model::ImportOptions options;
  options.source = verb.folder;
  options.bases = actors::StateFolder{std::filesystem::absolute(verb.state)}.bases();
  options.name = verb.name;
  if (!verb.type.empty())
    options.type =
        verb.type == to_string(Precision::bfloat16) ? Precision::bfloat16 : Precision::float32;
  auto imported = [&] {
    Meter meter("importing");
    return model::import_base(
        options, [&](std::uint64_t done, std::uint64_t total) { meter.show(done, total); });
  }();
  if (!imported) return complain(imported.error(), verb.json);
  if (verb.json)
    std::cout << ordered_json{{"name", verb.name},        {"folder", imported->folder.string()},
                              {"hash", imported->hash},   {"tensors", imported->tensors},
                              {"bytes", imported->bytes}, {"shards", imported->shards}}
                     .dump(2, ' ', false, ordered_json::error_handler_t::replace)
              << "\n";
  else
    std::cout << verb.name << ": " << imported->tensors << " tensors, "
              << format_bytes(imported->bytes) << ", in " << imported->folder.string() << "\nhash "
              << imported->hash << "\nIn a job spec: model.base: " << verb.name << "\n";
  return Exit::ok;
}

}  // namespace

void add_base_verbs(CLI::App& app, int& code) {
  auto* base = app.add_subcommand("base", "Frozen bases: look into one, import one, make one");
  base->require_subcommand(1);

  auto folder = std::make_shared<std::string>();
  auto json = std::make_shared<bool>(false);
  auto* inspect_verb =
      base->add_subcommand("inspect",
                           "Check a base in Hugging Face layout and show what is in it\n"
                           "Example: crabcast base inspect /models/Qwen2.5-Omni-7B");
  inspect_verb->add_option("folder", *folder, "The base: a folder, or nano")->required();
  inspect_verb->add_flag("--json", *json, "Print JSON");
  inspect_verb->callback(
      [folder, json, &code] { code = static_cast<int>(inspect(*folder, *json)); });

  auto verb = std::make_shared<ImportVerb>();
  auto* import_verb = base->add_subcommand(
      "import",
      "Copy a base into this node's state folder, checked, under a name for model.base\n"
      "Example: crabcast base import /models/Qwen2.5-Omni-7B --name omni-7b");
  import_verb->add_option("folder", verb->folder, "The base")->required();
  import_verb->add_option("--name", verb->name, "What job specs call it")->required();
  import_verb->add_option("--type", verb->type, "Convert all tensors (default: they stay)")
      ->check(CLI::IsMember({"bfloat16", "float32"}));
  import_verb->add_option("--state", verb->state, "State folder")->capture_default_str();
  import_verb->add_flag("--json", verb->json, "Print JSON");
  import_verb->callback([verb, &code] { code = static_cast<int>(import(*verb)); });

  add_base_make_verb(*base, code);
}

}  // namespace crabcast::apps

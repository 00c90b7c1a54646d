#include "apps/compute/adapter_verbs.h"

#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>

#include "actors/control/state_folder.h"
#include "apps/compute/verb_output.h"
#include "model/adapter_import.h"
#include "model/adapter_inspect.h"
#include "protocol/base_location.h"
#include "protocol/format.h"

namespace crabcast::apps {
namespace {

using nlohmann::ordered_json;

struct AdapterVerb {
  std::string path, base, out, format = "crab", kind;
  std::optional<double> alpha, dropout;
  std::string state = actors::StateFolder::standard().root;
  bool json = false;
  bool checkpoint = false;  // crabcast hands one in on stdin

  [[nodiscard]] model::Unsaid unsaid() const {
    model::Unsaid said{std::nullopt, alpha, dropout};
    for (const auto one : {AdapterKind::ilora, AdapterKind::crab_v1})
      if (kind == to_string(one)) said.kind = one;
    return said;
  }
};

Exit inspect(const AdapterVerb& verb) {
  auto found = model::inspect_adapter(verb.path);
  if (!found) return complain(found.error(), verb.json);
  std::cout << (verb.json ? found->json() + "\n" : found->text());
  return found->clean() ? Exit::ok : Exit::failed;
}

Status read_stdin(std::span<std::byte> into) {
  while (!into.empty()) {
    const ssize_t got = ::read(STDIN_FILENO, into.data(), into.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return fail(error_from_errno(errno, "reading the checkpoint"));
    if (got == 0) return fail(Errc::corrupt, "the checkpoint ends too early");
    into = into.subspan(static_cast<std::size_t>(got));
  }
  return {};
}

Exit export_to(const AdapterVerb& verb) {
  const auto format =
      verb.format == "peft" ? model::AdapterFormat::peft : model::AdapterFormat::crab;
  if (verb.path.empty() != verb.checkpoint)
    return complain({Errc::invalid_argument, "name a JOB with --job, or one FILE"}, verb.json);
  const Status status = verb.checkpoint
                            ? model::export_checkpoint(read_stdin, format, verb.out)
                            : model::export_adapter(verb.path, verb.unsaid(), format, verb.out);
  if (!status) return complain(status.error(), verb.json);
  if (verb.json)
    std::cout << ordered_json{{"out", verb.out}, {"format", verb.format}}.dump(2) << "\n";
  else
    std::cout << "the adapter is in " << verb.out << "\n";
  return Exit::ok;
}

Exit import(const AdapterVerb& verb) {
  const actors::StateFolder state{std::filesystem::absolute(verb.state)};
  auto base = locate_base(verb.base, state.bases());
  if (!base) return complain(base.error(), verb.json);
  auto imported = [&] {
    Meter meter("reading the base");
    return model::import_adapter(
        verb.path, *base, verb.unsaid(), verb.out,
        [&](std::uint64_t done, std::uint64_t total) { meter.show(done, total); });
  }();
  if (!imported) return complain(imported.error(), verb.json);
  const std::string kind(to_string(imported->spec.kind));
  if (verb.json)
    std::cout << ordered_json{{"out", verb.out},
                              {"kind", kind},
                              {"base_hash", imported->base_hash},
                              {"tensors", imported->tensors},
                              {"parameters", imported->parameters},
                              {"bytes", imported->bytes},
                              {"adds_nothing", imported->adds_nothing}}
                     .dump(2, ' ', false, ordered_json::error_handler_t::replace)
              << "\n";
  else
    std::cout << verb.out << ": " << kind << ", " << imported->tensors << " tensors, "
              << format_bytes(imported->bytes) << ", fits the base " << verb.base << "\n"
              << (imported->adds_nothing ? "every B is zero: it adds nothing to the base yet\n"
                                         : "")
              << "In a job spec: model.adapter.init: " << verb.out << "\n";
  return Exit::ok;
}

void takes_what_a_file_does_not_say(CLI::App* app, AdapterVerb& verb) {
  app->add_option("--kind", verb.kind, "ilora or crab_v1, which names cannot tell (default: ilora)")
      ->check(CLI::IsMember({"ilora", "crab_v1"}));
  app->add_option("--alpha", verb.alpha, "Its alpha, where the file does not say it");
  app->add_option("--dropout", verb.dropout,
                  "What it was trained with, where the file does not say it (default: 0)");
}

}  // namespace

void add_adapter_verbs(CLI::App& app, int& code) {
  auto* adapter = app.add_subcommand("adapter", "Adapters in files: look, import, export");
  adapter->require_subcommand(1);
  const auto verb = std::make_shared<AdapterVerb>();
  const auto add = [&](const char* name, const char* description,
                       Exit (*action)(const AdapterVerb&)) {
    auto* added = adapter->add_subcommand(name, description);
    added->add_flag("--json", verb->json, "Print JSON");
    added->callback([verb, action, &code] { code = static_cast<int>(action(*verb)); });
    return added;
  };
  constexpr auto kPath =
      "A .safetensors file, finetune_weights.bin, or a folder with one or of peft";

  add("inspect",
      "Check an adapter and show what it is\n"
      "Example: crabcast adapter inspect finetune_weights.bin",
      inspect)
      ->add_option("path", verb->path, kPath)
      ->required();

  auto* imports = add("import",
                      "Check an adapter against a base, and write it for model.adapter.init\n"
                      "Example: crabcast adapter import finetune_weights.bin --base omni-7b "
                      "--alpha 256 --out crab.safetensors",
                      import);
  imports->add_option("path", verb->path, kPath)->required();
  imports->add_option("--base", verb->base, "What model.base says")->required();
  imports->add_option("--out", verb->out, "The file to write")->required();
  imports->add_option("--state", verb->state, "State folder")->capture_default_str();
  takes_what_a_file_does_not_say(imports, *verb);

  auto* exports =
      add("export",
          "Write an adapter for others: Crab+'s names, or the package peft\n"
          "Example: crabcast adapter export --job quickstart-1 --format peft --out lora",
          export_to);
  exports->add_option("path", verb->path, kPath);
  exports->add_option("--format", verb->format, "crab (one file) or peft (a folder)")
      ->required()
      ->check(CLI::IsMember({"crab", "peft"}));
  exports->add_option("--out", verb->out, "The file or folder to write")->required();
  exports->add_flag("--checkpoint-on-stdin", verb->checkpoint)->group("");
  takes_what_a_file_does_not_say(exports, *verb);
}

}  // namespace crabcast::apps

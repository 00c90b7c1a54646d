// The verbs of `crabcast adapter`. crabcast-compute carries all out but the export of a job's
// adapter, and reads its own command line; options of the others are here for completion.
#include <CLI/CLI.hpp>

#include "apps/cli/command_line.h"

namespace crabcast::apps {

void CommandLine::add_adapter_verbs() {
  auto* adapter = verb(app_, "adapter", "Look at adapters in files, import and export them",
                       "  crabcast adapter inspect --help\n  crabcast adapter import --help", {});
  for (auto* one : {adapter->add_subcommand("inspect", "Check an adapter and show what it is"),
                    adapter->add_subcommand("import",
                                            "Check an adapter against a base, and write "
                                            "it for model.adapter.init")}) {
    one->group("Verbs")->add_option("path")->type_name("PATH");
    takes_json(one);
    if (one->get_name() == "inspect") continue;
    for (const char* option : {"--base", "--out", "--kind", "--alpha", "--dropout"})
      one->add_option(option);
    takes_state(one);
  }

  auto& options = adapter_export_;
  auto* exports = verb(
      *adapter, "export", "Write the adapter of a job, or of a file, in Crab+'s names or for peft",
      "  crabcast adapter export --job quickstart-1 --format crab --out a.safetensors\n"
      "  crabcast adapter export a.safetensors --format peft --out lora",
      [this, adapter] {
        const auto& given = adapter_export_;
        const bool from_job = !given.job.empty() || !given.store.empty();
        if (from_job == given.path.empty()) return apps::adapter_export(common_, given);
        return usage_error("name a job with --job, or one PATH", *adapter);
      });
  exports->add_option("path", options.path, "What crabcast adapter inspect reads")
      ->type_name("PATH");
  auto* job =
      exports->add_option("--job", options.job, "Job whose checkpoint it is")->type_name("JOB");
  exports->add_option("--store", options.store, "Folder of a job, of its store, or of a copy of it")
      ->type_name("DIR")
      ->excludes(job);
  exports->add_option("--checkpoint", options.checkpoint, "Default: the newest one that verifies")
      ->type_name("N");
  exports->add_option("--format", options.format, "crab: one file. peft: a folder")
      ->required()
      ->check(CLI::IsMember({"crab", "peft"}))
      ->type_name("FORMAT");
  exports->add_option("--out", options.out, "What to write")->required()->type_name("PATH");
  exports->add_option("--kind", options.kind, "Of a file: ilora or crab_v1 (default: ilora)")
      ->type_name("KIND");
  exports->add_option("--alpha", options.alpha, "Of a file that does not say it")
      ->type_name("NUMBER");
  exports->add_option("--dropout", options.dropout, "Of a file that does not say it (default: 0)")
      ->type_name("NUMBER");
  takes_json(exports);
  takes_state(exports);
  takes_quiet(exports);
}

}  // namespace crabcast::apps

#include "apps/compute/data_verbs.h"

#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <iostream>
#include <memory>
#include <thread>

#include "apps/compute/verb_output.h"
#include "apps/compute/verify_verb.h"
#include "data/inspect.h"
#include "data/synth.h"

namespace crabcast::apps {
namespace {

struct SynthOptions {
  std::string out;
  SyntheticCorpus corpus;
  int threads = static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
  bool quiet = false;
};

Exit synth(const SynthOptions& options) {
  const bool live = ::isatty(STDERR_FILENO) == 1 && !options.quiet;
  const auto progress = [&](const data::SynthProgress& done) {
    if (!live) return;
    std::fprintf(stderr, "\rrendered %llu of %llu samples",
                 static_cast<unsigned long long>(done.done),
                 static_cast<unsigned long long>(done.total));
    if (done.done == done.total) std::fputc('\n', stderr);
  };
  auto made = data::synthesize(options.corpus, options.out, options.threads, progress);
  if (!made) return complain(made.error(), false);
  if (!options.quiet) std::cout << "the corpus is in " << options.out << "\n";
  return Exit::ok;
}

Exit inspect(const std::string& folder, bool json) {
  auto report = data::inspect_corpus(folder);
  if (!report) return complain(report.error(), false);
  std::cout << (json ? report->json() : report->text()) << "\n";
  return report->clean() ? Exit::ok : Exit::failed;
}

}  // namespace

void add_data_verbs(CLI::App& app, int& code) {
  auto* data =
      app.add_subcommand("data", "Corpora: render a synthetic one, look into one, verify one");
  data->require_subcommand(1);

  auto synth_options = std::make_shared<SynthOptions>();
  auto* synth_verb = data->add_subcommand(
      "synth",
      "Render a synthetic corpus in AV-UIE v2 layout\n"
      "Example: crabcast data synth --out /tmp/corpus --seed 7 --samples-per-dataset 64");
  synth_verb->add_option("--out", synth_options->out, "Folder to make")->required();
  synth_verb->add_option("--seed", synth_options->corpus.seed, "Same seed, same corpus")
      ->capture_default_str();
  synth_verb
      ->add_option("--samples-per-dataset", synth_options->corpus.samples_per_dataset,
                   "Train samples of each of the seventeen data sets")
      ->check(CLI::Range(1, 1000000))
      ->capture_default_str();
  synth_verb->add_option("--threads", synth_options->threads, "Rendering threads")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  synth_verb->add_flag("--quiet", synth_options->quiet, "Print errors only");
  synth_verb->callback([synth_options, &code] { code = static_cast<int>(synth(*synth_options)); });

  auto folder = std::make_shared<std::string>();
  auto json = std::make_shared<bool>(false);
  auto* inspect_verb = data->add_subcommand(
      "inspect",
      "Count an AV-UIE v2 folder's samples and name what is missing or broken\n"
      "Example: crabcast data inspect /data/AVUIE_2");
  inspect_verb->add_option("folder", *folder, "The corpus")->required();
  inspect_verb->add_flag("--json", *json, "Print JSON");
  inspect_verb->callback(
      [folder, json, &code] { code = static_cast<int>(inspect(*folder, *json)); });

  add_verify_verb(*data, code);
}

}  // namespace crabcast::apps

#include "apps/compute/data_verbs.h"

#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <iostream>
#include <map>
#include <memory>
#include <thread>

#include "apps/compute/verb_output.h"
#include "apps/compute/verify_verb.h"
#include "data/inspect.h"
#include "data/synth.h"
#include "data/synth_stats.h"

namespace crabcast::apps {
namespace {

const int kThreads = static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));

struct SynthOptions {
  std::string out;
  data::SynthOptions corpus;
  int threads = kThreads;
  bool quiet = false, stats = false, json = false;
};

Exit print_figures(const SynthOptions& options) {
  const auto figures = data::synthetic_figures(options.corpus, options.threads);
  if (!figures) return complain(figures.error(), options.json);
  std::cout << (options.json ? data::figures_json(*figures) + "\n" : data::figures_text(*figures));
  return Exit::ok;
}

Exit synth(const SynthOptions& options) {
  if (options.stats) return print_figures(options);
  const bool live = ::isatty(STDERR_FILENO) == 1 && !options.quiet;
  const auto progress = [&](const data::SynthProgress& done) {
    if (!live) return;
    if (done.total == 0) {
      std::fprintf(stderr, "\ranother process renders it; waiting");
      return;
    }
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

struct InspectVerb {
  std::string folder;
  data::InspectOptions options{.threads = kThreads};
  bool json = false;
};

Exit inspect(InspectVerb verb) {
  if (::isatty(STDERR_FILENO) == 1)
    verb.options.progress = [](std::uint64_t done, std::uint64_t total) {
      std::fprintf(stderr, "\rlooked at %llu of %llu clips", static_cast<unsigned long long>(done),
                   static_cast<unsigned long long>(total));
      if (done == total) std::fputc('\n', stderr);
    };
  auto report = data::inspect_corpus(verb.folder, verb.options);
  if (!report) return complain(report.error(), false);
  std::cout << (verb.json ? report->json() : report->text()) << "\n";
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
  auto* out = synth_verb->add_option("--out", synth_options->out, "Folder to make");
  synth_verb->add_option("--seed", synth_options->corpus.seed, "Same seed, same corpus")
      ->capture_default_str();
  synth_verb
      ->add_option("--samples-per-dataset", synth_options->corpus.samples_per_dataset,
                   "Train samples of each of the seventeen data sets")
      ->check(CLI::Range(1, 1000000))
      ->capture_default_str();
  static const std::map<std::string, Difficulty> kDifficulties = {
      {"easy", Difficulty::easy}, {"normal", Difficulty::normal}, {"hard", Difficulty::hard}};
  synth_verb
      ->add_option_function<std::string>(
          "--difficulty",
          [synth_options](const std::string& name) {
            synth_options->corpus.difficulty = kDifficulties.at(name);
          },
          "easy, normal or hard (docs/corpus.md)")
      ->check(CLI::IsMember(kDifficulties))
      ->option_text("NAME [easy]");
  synth_verb
      ->add_option_function<std::string>(
          "--with", [synth_options](const std::string&) { synth_options->corpus.matching = true; },
          "An optional task whose data sets are rendered, too: av_matching")
      ->check(CLI::IsMember({std::string(task_name(Task::av_matching))}))
      ->option_text("TASK");
  synth_verb->add_option("--threads", synth_options->threads, "Rendering threads")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  synth_verb->add_flag("--quiet", synth_options->quiet, "Print errors only");
  auto* stats = synth_verb->add_flag(
      "--stats", synth_options->stats,
      "Print how answers are spread and which senses they need; nothing is written");
  stats->excludes(out);
  synth_verb->add_flag("--json", synth_options->json, "Print JSON")->needs(stats);
  synth_verb->callback([synth_options, out, stats, &code] {
    if (out->empty() && stats->empty()) throw CLI::RequiredError("--out or --stats");
    code = static_cast<int>(synth(*synth_options));
  });

  auto inspect_options = std::make_shared<InspectVerb>();
  auto* inspect_verb = data->add_subcommand(
      "inspect",
      "Count an AV-UIE v2 folder's samples and name what is missing or broken\n"
      "Example: crabcast data inspect --media /data/AVUIE_2");
  inspect_verb->add_option("folder", inspect_options->folder, "The corpus")->required();
  inspect_verb->add_flag("--media", inspect_options->options.media,
                         "Also look into each clip: length, and copies under another name");
  inspect_verb->add_option("--threads", inspect_options->options.threads, "Threads for --media")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  inspect_verb->add_flag("--json", inspect_options->json, "Print JSON");
  inspect_verb->callback(
      [inspect_options, &code] { code = static_cast<int>(inspect(*inspect_options)); });

  add_verify_verb(*data, code);
}

}  // namespace crabcast::apps

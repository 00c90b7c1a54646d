#include "actors/compute/corpus_access.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <thread>
#include <utility>

#include "data/synth.h"

namespace crabcast::actors {
namespace {

// For another process: its coordinator knows whether it gets on.
constexpr auto kRenderingWait = std::chrono::hours(24);

}  // namespace

Result<std::unique_ptr<data::Corpus>> open_corpus(MemberProcess& process) {
  const auto& source = process.spec.data.corpus;
  const auto& tasks = process.spec.data.tasks;
  auto progress = process.progress;
  const auto opening = [progress] { progress->begin("open the corpus", 0); };
  const auto& indexes = process.launch.index_dir();
  if (source.avuie) return data::Corpus::open(*source.avuie, tasks, indexes, opening);
  const bool matching = std::ranges::find(tasks, task_name(Task::av_matching)) != tasks.end();
  const int threads = static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
  // Only what is new counts: a rendering that stands still is to be noticed.
  const auto rendering = [progress, last = std::uint64_t{0}](data::SynthProgress now) mutable {
    if (now.total == 0)
      progress->begin("wait for another process that renders the corpus", 0);
    else if (now.done != std::exchange(last, now.done))
      progress->begin(
          "render the corpus: " + std::to_string(now.done) + " of " + std::to_string(now.total), 0);
  };
  auto folder = data::ensure_synthetic({*source.synthetic, matching}, process.launch.corpora_dir(),
                                       threads, rendering, kRenderingWait);
  if (!folder) return fail(folder.error());
  return data::Corpus::open(*folder, tasks, indexes, opening);
}

pb::CorpusInfo describe_corpus(const data::Corpus& corpus) {
  pb::CorpusInfo info;
  info.set_fingerprint(corpus.fingerprint());
  info.set_folder(corpus.folder().string());
  for (const auto& summary : corpus.summary()) {
    const auto& dataset = data::datasets()[summary.dataset];
    auto& count = *info.add_datasets();
    count.set_dataset(summary.dataset);
    count.set_name(std::string(dataset.id));
    count.set_task(std::string(task_name(dataset.task)));
    count.set_train(summary.train);
    count.set_test(summary.test);
    count.set_train_hash(summary.train_hash);
    count.set_test_hash(summary.test_hash);
  }
  return info;
}

}  // namespace crabcast::actors

#include "actors/compute/corpus_access.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <thread>

#include "data/synth.h"

namespace crabcast::actors {

Result<std::unique_ptr<data::Corpus>> open_corpus(MemberProcess& process) {
  const auto& source = process.spec.data.corpus;
  const auto& tasks = process.spec.data.tasks;
  if (source.avuie) return data::Corpus::open(*source.avuie, tasks, process.launch.index_dir());
  const int threads = static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
  auto progress = process.progress;
  auto folder =
      data::ensure_synthetic(*source.synthetic, process.launch.corpora_dir(), threads,
                             [progress](const data::SynthProgress& done) {
                               progress->begin("render the corpus: " + std::to_string(done.done) +
                                                   " of " + std::to_string(done.total),
                                               0);
                             });
  if (!folder) return fail(folder.error());
  return data::Corpus::open(*folder, tasks, process.launch.index_dir());
}

pb::CorpusInfo describe_corpus(const data::Corpus& corpus) {
  pb::CorpusInfo info;
  info.set_fingerprint(corpus.fingerprint());
  for (const auto& summary : corpus.summary()) {
    const auto& dataset = data::datasets()[summary.dataset];
    auto& count = *info.add_datasets();
    count.set_dataset(summary.dataset);
    count.set_name(std::string(dataset.id));
    count.set_task(std::string(task_name(dataset.task)));
    count.set_train(summary.train);
    count.set_test(summary.test);
  }
  return info;
}

}  // namespace crabcast::actors
